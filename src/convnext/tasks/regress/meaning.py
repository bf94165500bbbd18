"""What a picture's numbers mean: the targets in order, each with its unit; NaN for a value that nobody knows."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convnext.data.names import figure
from convnext.data.sources.dataset import Dataset
from convnext.tasks.regress.scaling import Target

Array = NDArray[np.float64]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
STRATA = 5
"""Parts of the first target's range, of about as many pictures each, of which every split gets its share."""
BINS = 24
"""Of the histograms in data.json."""


@dataclass(frozen=True)
class Quantities:
    """Numbers as targets; a picture's target is the tuple of its values, in the targets' units.

    Attributes:
        targets: what is asked for, T of them.
        edges: values of the first target that part its range into strata, rising.
    """

    targets: tuple[Target, ...]
    edges: tuple[float, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, targets: Sequence[Target], values: Array) -> Quantities:
        """With strata by the quantiles of the first target of all pictures (N, T)."""
        known = values[~np.isnan(values[:, 0]), 0]
        parts = min(STRATA, len(np.unique(known)) // 2, len(known) // 6)
        edges = np.unique(np.quantile(known, np.linspace(0, 1, parts + 1)[1:-1])) if parts > 1 else np.zeros(0)
        return cls(tuple(targets), tuple(edges.tolist()))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the targets, in order."""
        return tuple(target.name for target in self.targets)

    @property
    def outputs(self) -> int:
        """One number for each target; a loss may ask the head for more."""
        return len(self.targets)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The targets."""
        return self.names

    def encode(self, truth: Any) -> tuple[float, ...]:
        """None, for a value that is missing, becomes NaN."""
        return tuple(math.nan if value is None else float(value) for value in truth)

    def text(self, target: Any) -> str:
        """The values, with a bar between them; nothing for one that is missing."""
        return "|".join("" if math.isnan(value) else f"{value:.12g}" for value in target)

    def caption(self, target: Any) -> str:
        """The values with their units."""
        parts = [
            "?" if math.isnan(value) else of.in_unit(value) for of, value in zip(self.targets, target, strict=True)
        ]
        if len(parts) == 1:
            return parts[0]
        return ", ".join(f"{of.name} {part}" for of, part in zip(self.targets, parts, strict=True))

    def strata(self, targets: Sequence[Any]) -> list[frozenset[str]]:
        """Parts of the first target's range; none for a picture whose value is missing."""
        return [frozenset([self._stratum(target[0])] if not math.isnan(target[0]) else []) for target in targets]

    def _stratum(self, value: float) -> str:
        at, name = bisect_left(self.edges, value), self.targets[0].name
        if not self.edges:
            return name
        if at == len(self.edges):
            return f"{name} above {figure(self.edges[-1])}"
        return f"{name} up to {figure(self.edges[at])}"

    def collate(self, targets: Sequence[Any]) -> Tensor:
        """(N, T) in float64, NaN where a value is missing, and of pictures without a target, ()."""
        missing = (math.nan,) * len(self.targets)
        rows = [tuple(target) or missing for target in targets]
        return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), len(self.targets))

    def describe(self, dataset: Dataset) -> dict[str, Any]:
        """Of each target: what it is, and its values in every split in numbers."""
        values = {split: values_of(dataset, split) for split in dataset.splits}
        return {"targets": {
            of.name: {
                "unit": of.unit, "log": of.log, "range": [of.low, of.high],
                "splits": _by_split({split: column[:, t] for split, column in values.items()}),
            }
            for t, of in enumerate(self.targets)
        }}  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """The targets by name."""
        return {"task.targets": self.names}


def asked_of(dataset: Dataset) -> tuple[Target, ...]:
    """The targets of a data set that was read for a regression.

    Raises:
        TypeError: it was read for another task.
    """
    if not isinstance(dataset.meaning, Quantities):
        raise TypeError(f"the data set was read for {type(dataset.meaning).__name__}, not for numbers")
    return dataset.meaning.targets


def values_of(dataset: Dataset, split: str) -> Array:
    """The values of a split's pictures, (N, T) in their units, NaN where one is missing."""
    rows = [sample.target for sample in dataset.splits.get(split, ())]
    return np.array(rows, np.float64).reshape(len(rows), dataset.meaning.outputs)


def summary(values: Array) -> dict[str, Any]:
    """Values (N,) of a target in numbers: n, missing, and None for what no value tells."""
    known = values[~np.isnan(values)]
    found: dict[str, Any] = {"n": len(known), "missing": len(values) - len(known)}
    if not len(known):
        return found | dict.fromkeys(("min", "max", "mean", "deviation", "median", "quantiles"))
    return found | {
        "min": float(known.min()), "max": float(known.max()), "mean": float(known.mean()),
        "deviation": float(known.std()), "median": float(np.median(known)),
        "quantiles": {f"{share:g}": float(np.quantile(known, share)) for share in QUANTILES},
    }  # fmt: skip


def _by_split(values: dict[str, Array]) -> dict[str, Any]:
    """The summary of each split, with histograms by the same edges."""
    known = np.concatenate(list(values.values()))
    known = known[~np.isnan(known)]
    edges = np.histogram_bin_edges(known, BINS) if len(known) else np.zeros(0)
    found = {}
    for split, column in values.items():
        counts = np.histogram(column[~np.isnan(column)], edges)[0] if len(edges) else np.zeros(0, np.intp)
        found[split] = summary(column) | {"histogram": {"edges": edges.tolist(), "counts": counts.tolist()}}
    return found
