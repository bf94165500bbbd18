"""What a picture's classes mean: names in order, one a picture or any number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convnext.data.shards.read import ShardedDataset
from convnext.data.sources.dataset import Dataset

ALIKE = "classes that may be one"
"""How the note begins about classes whose names look alike."""


@dataclass(frozen=True)
class Classes:
    """Names of classes; a picture's target is the sorted tuple of their indices.

    Attributes:
        classes: in order.
        multi_label: a picture may have several, or none; else it has exactly one.
    """

    classes: tuple[str, ...]
    multi_label: bool = False

    @property
    def outputs(self) -> int:
        """One number for each class."""
        return len(self.classes)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The classes."""
        return self.classes

    def encode(self, truth: Any) -> tuple[int, ...]:
        """Names -> indices, sorted."""
        return tuple(sorted(self.classes.index(name) for name in truth))

    def text(self, target: Any) -> str:
        """The names, with a bar between them; a bar for none."""
        return "|".join(self.classes[i] for i in target) or "|"

    def caption(self, target: Any) -> str:
        """The names, for under a picture."""
        return " | ".join(self.classes[i] for i in target)

    def strata(self, targets: Sequence[Any]) -> list[frozenset[str]]:
        """Each class is a stratum."""
        return [frozenset(self.classes[i] for i in target) for target in targets]

    def collate(self, targets: Sequence[Any]) -> Tensor:
        """(N,) indices, -1 for none; with several labels (N, K) of 0 and 1."""
        if not self.multi_label:
            return torch.tensor([present[0] if present else -1 for present in targets], dtype=torch.int64)
        labels = torch.zeros(len(targets), len(self.classes))
        for row, present in enumerate(targets):
            labels[row, list(present)] = 1.0
        return labels

    def describe(self, dataset: Dataset) -> dict[str, Any]:
        """Names, the trivial answer, and the pictures of each class in each split."""
        return {
            "classes": list(self.classes), "multi_label": self.multi_label, "majority": majority(dataset),
            "counts": {split: counts(dataset, split) for split in dataset.splits},
        }  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """The classes in their order."""
        return {"data.classes": self.classes}


def counts(dataset: Dataset, split: str) -> list[int]:
    """Pictures of each class in a split, in the order of the classes; zeros when there is no such split."""
    if isinstance(dataset, ShardedDataset):
        return list(dataset.by_class.get(split, (0,) * dataset.meaning.outputs))
    found = Counter(label for sample in dataset.splits.get(split, ()) for label in sample.target)
    return [found[index] for index in range(dataset.meaning.outputs)]


def majority(dataset: Dataset) -> list[int]:
    """The label, or the set of labels, that most training pictures have: a trivial answer.

    Of shards with several labels: those that more than half of the pictures have.
    """
    if isinstance(dataset, ShardedDataset):
        found = counts(dataset, "train")
        half = len(dataset.splits["train"]) / 2
        if dataset.multi_label:
            return [i for i, n in enumerate(found) if n > half]
        return [found.index(max(found))]
    sets = Counter(sample.target for sample in dataset.splits["train"])
    return list(sorted(sets.items(), key=lambda item: (-item[1], item[0]))[0][0])
