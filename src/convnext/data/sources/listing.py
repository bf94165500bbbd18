"""What a data set's folders or table say, before any picture is opened."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convnext.data.sources.target import Told

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

_MORE_NAMES = {
    "trn": "train",
    "dev": "val",
    "development": "val",
    "tst": "test",
    "holdout": "test",
    "trainval": "train",
    "publictest": "val",
    "privatetest": "test",
}
"""Further names that stand for a split where all of a column, or of the folders, says so."""
_BESIDE = frozenset([
    "set", "sets", "data", "dataset", "split", "images", "image", "imgs", "img", "pictures", "photos", "pics",
    "samples", "files", "folder", "dir",
])  # fmt: skip
"""Words that stand beside a split's name and change nothing."""


def split_meant(name: str) -> str | None:
    """The split that a name stands for, in any case and with words that change nothing; None for any other name.

    `Training`, `train_set`, `01-train`, `TestImages`, `val2017` and `train_val` (which is train, with val in it).
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [word for word in re.split(r"[\W\d_]+", spaced.casefold()) if word and word not in _BESIDE]
    for word in (words[0] if len(words) == 1 else "", "".join(words)):
        for beside in ("", *_BESIDE):
            bare = word.removesuffix(beside)
            if meant := SPLIT_NAMES.get(bare) or _MORE_NAMES.get(bare):
                return meant
    return None


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture as listed: where it is, what is said of it (see `target`), its split when the data set decides that,
    and the group that it belongs to, where there are groups."""

    path: Path
    truth: Any
    split: str | None = None
    group: str = ""


@dataclass
class Listing:
    """All pictures as listed.

    Attributes:
        layout: "class folders", "split folders" or "csv".
        entries: in a fixed order.
        grouped: the column of the groups that are to stay together; empty where there are none.
        split_column: where a table's split was found; empty where it brought none.
        told: what a table says about targets.
        unreadable: places that cannot be opened at all, each with the reason.
        notes: one-line remarks for the user.
    """

    layout: str
    entries: list[Entry] = field(default_factory=list)
    grouped: str = ""
    split_column: str = ""
    told: Told | None = None
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
