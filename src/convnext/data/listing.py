"""What a data set's folders or table say, before any picture is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

SPLITS = ("train", "val", "test")

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names that people give to splits, in lower case, and which split each one means."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture as listed: where it is, the names of its classes, and its split when the data set decides that."""

    path: Path
    labels: tuple[str, ...]
    split: str | None = None


@dataclass
class Listing:
    """All pictures as listed.

    Attributes:
        layout: "class folders", "split folders" or "csv".
        entries: in a fixed order.
        multi_label: a picture may have several classes, or none.
        unreadable: places that cannot be opened at all, each with the reason.
        notes: one-line remarks for the user.
    """

    layout: str
    entries: list[Entry] = field(default_factory=list)
    multi_label: bool = False
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
