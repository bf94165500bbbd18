"""What a picture is paired with, as far as data/ must know it; each task has its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor


@dataclass
class Told:
    """What a table says about targets.

    Attributes:
        truths: of each row, as written: hashable, and equal where they mean the same; None for a row without a
            target, which is left out.
        columns: where it stood.
        notes: one-line remarks for the user.
    """

    truths: Sequence[Any]
    columns: tuple[str, ...]
    notes: list[str] = field(default_factory=list)


class Meaning(Protocol):
    """What the targets of a data set that was read mean: names of classes, or a unit and a range."""

    @property
    def outputs(self) -> int:
        """How many numbers a network gives for a picture."""
        ...

    @property
    def output_names(self) -> tuple[str, ...]:
        """What each of these numbers is called; () where they have no names."""
        ...

    def encode(self, truth: Any) -> Any:
        """What is listed of a picture, as it is learned from: indices of classes, a number, the path of a mask."""
        ...

    def text(self, target: Any) -> str:
        """An encoded target for people, as it stands in splits.csv."""
        ...

    def caption(self, target: Any) -> str:
        """An encoded target for under a picture."""
        ...

    def strata(self, targets: Sequence[Any]) -> list[frozenset[str]]:
        """Of each target the names of the strata that it belongs to: every split gets its share of each stratum."""
        ...

    def collate(self, targets: Sequence[Any]) -> Tensor:
        """The targets of a batch as one tensor; of pictures that could not be read as well, whose target is ()."""
        ...

    def describe(self, dataset: Any) -> dict[str, Any]:
        """What data.json says of the targets of a `Dataset`."""
        ...

    def settings(self) -> dict[str, Any]:
        """What a recipe is to say of the targets, as `{"data.classes": ...}`, so that it stays the same."""
        ...
