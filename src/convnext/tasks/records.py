"""What judging keeps of each picture: columns of one kind each, with a row a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

TRUTH = "truth"
"""The column that holds what is known of a picture, where a task keeps that; the others hold what the model says."""

SETTLED = "settled"
"""The column that says which of the judged pictures the task had for `settle` alone, where there are such."""

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Records:
    """Columns (n, ...) by name, with a row a picture: what metrics are made of, and what a bootstrap resamples.

    They are small beside the network's outputs: probabilities (n, K), a value and a spread (n, T), counts of pixels
    (n, K, 3); what differs in length from picture to picture, such as scored matches, is a column (n,) of objects.
    Without a picture there are no columns.

    Raises:
        ValueError: columns of different lengths.
    """

    columns: Columns = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns have {lengths} rows; every column has one for each picture")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def at(self, rows: Sequence[int] | NDArray[Any]) -> Records:
        """The records of some pictures, in the order of `rows`."""
        keep = np.asarray(rows, dtype=np.intp)
        return Records({name: column[keep] for name, column in self.columns.items()})

    @property
    def finite(self) -> bool:
        """Whether all that the model says is a number, and none infinite."""
        said = (column for name, column in self.columns.items() if name != TRUTH)
        return all(bool(np.isfinite(column).all()) for column in said if np.issubdtype(column.dtype, np.floating))


def joined(parts: Sequence[Records]) -> Records:
    """The records of several parts, one after the other; parts without a picture add nothing."""
    parts = [part for part in parts if len(part)]
    if len(parts) < 2:
        return parts[0] if parts else Records()
    return Records({name: np.concatenate([part[name] for part in parts]) for name in parts[0].columns})
