"""What a classification says of a picture, for people, programs and tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.data.names import csv_cell


@dataclass(frozen=True)
class Prediction:
    """What the model says of one picture: names with probabilities, the most probable first, or why it has none.

    Examples:
        >>> import convnext
        >>> found = convnext.predict("runs/photos", "photos/wide/wide-000.png")[0]
        >>> found.label == found.top[0][0], found.path.name
        (True, 'wide-000.png')
    """

    path: Path | None
    """The file; None for a picture that came from memory."""
    top: tuple[tuple[str, float], ...]
    labels: tuple[str, ...] | None = None
    """For a model with several labels a picture: those that reach their threshold, as chosen on validation."""
    error: str = ""
    missing: bool = False
    """Whether what was named is not there at all."""

    @property
    def label(self) -> str | None:
        """The most probable class, None for a picture that cannot be read."""
        return self.top[0][0] if self.top else None

    @property
    def probability(self) -> float | None:
        """The probability of `label`."""
        return self.top[0][1] if self.top else None

    def cells(self) -> dict[str, object]:
        """The columns of a CSV: label, probability, the next names with theirs, and labels where there may be several.

        Names that a spreadsheet would take for a formula are escaped.
        """
        cells: dict[str, object] = {"label": "", "probability": ""}
        for place, (name, value) in enumerate(self.top, 1):
            number = f"_{place}" * (place > 1)
            cells |= {f"label{number}": csv_cell(name), f"probability{number}": value}
        return cells if self.labels is None else cells | {"labels": csv_cell("|".join(self.labels))}

    def fields(self) -> dict[str, Any]:
        """The entries of a JSON object: label, probability, top, and labels where there may be several."""
        found: dict[str, Any] = {"label": self.label, "probability": self.probability}
        found["top"] = [{"label": name, "probability": value} for name, value in self.top]
        return found if self.labels is None else found | {"labels": list(self.labels)}


def decimals(values: NDArray[np.float32], *, exact: bool) -> list[float]:
    """Probabilities as numbers for a file, from which the same float32 numbers are read again.

    Args:
        values: one row.
        exact: all digits, so that any threshold divides what is read as it divides the values. Else the shortest
            decimal numbers, of half the length: for tables of which nobody asks that.
    """
    return values.astype(np.float64).tolist() if exact else [float(text) for text in values.astype(str)]
