"""A data set that was read: pictures with their targets, in splits, and what a run keeps of them."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from convnext.data.names import called, csv_cell, csv_path
from convnext.data.pictures.scales import Scale
from convnext.data.sources.target import Meaning

CONTENT_BYTES = 6
"""Of a picture's hash that are kept with it: in a million pictures, two that differ are hardly ever taken for one."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture and its target, as the data set's meaning encodes it: for classes the sorted tuple of their indices.

    `content` is the beginning of the hash of its file, `CONTENT_BYTES` long; empty where nobody has read it.
    """

    path: Path
    target: Any
    content: bytes = field(default=b"", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that was listed as a picture and cannot be read, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Dataset:
    """Readable pictures with their targets, in splits. What its meaning knows, as `classes`, is had from it too.

    Attributes:
        root: the folder or CSV file, absolute.
        layout: "class folders", "split folders" or "csv".
        meaning: what the targets mean; see `data.target`.
        splits: samples by split, in the order of `SPLITS` and only those that have any.
        broken: what was left out.
        notes: one-line remarks for the user.
        scales: of the training pictures of more than 8 bits; see `data.scales`.
        split_column: of a table, where the split was found; empty where it brought none.
        groups: of each picture that belongs to one, what it must stay together with.
    """

    root: Path
    layout: str
    meaning: Meaning
    splits: dict[str, tuple[Sample, ...]]
    broken: tuple[Broken, ...]
    notes: tuple[str, ...]
    scales: tuple[Scale, ...] = field(default=(), kw_only=True)
    split_column: str = field(default="", kw_only=True)
    groups: Mapping[Path, str] = field(default_factory=dict, kw_only=True)

    @property
    def base(self) -> Path:
        """The folder that paths are written below."""
        return self.root if self.root.is_dir() else self.root.parent

    @property
    def in_shards(self) -> bool:
        """Whether its pictures are read from tars as they are needed, and were not opened beforehand."""
        return False

    def __getattr__(self, name: str) -> Any:
        """What the meaning knows."""
        if name.startswith("__") or name == "meaning":
            raise AttributeError(name)
        return getattr(self.meaning, name)

    def fingerprint(self) -> str:
        """A hash of every picture's place, target and split; the same wherever the data lies."""
        digest, base = hashlib.sha256(), self.base
        for split, samples in self.splits.items():
            for sample in samples:
                digest.update(os.fsencode(os.path.relpath(sample.path, base)) + repr((split, sample.target)).encode())
        return digest.hexdigest()

    def digest_of_contents(self) -> str:
        """A hash of every picture's content in the order of the data set; "" where contents are not known."""
        digest, known = hashlib.sha256(), False
        for samples in self.splits.values():
            if not contents_are_known(samples):
                return ""
            known = True
            for sample in samples:
                digest.update(sample.content)
        return digest.hexdigest() if known else ""

    def describe(self) -> dict[str, Any]:
        """What a run learned from, for data.json."""
        return {
            "root": called(self.root), "layout": self.layout, **self.meaning.describe(self),
            "pictures": {split: len(samples) for split, samples in self.splits.items()},
            "fingerprint": self.fingerprint(), "contents": self.digest_of_contents(),
            "broken": [{"path": str(b.path), "reason": b.reason} for b in self.broken],
            "notes": list(self.notes),
        }  # fmt: skip

    def list_splits(self) -> str:
        """Which picture is in which split, as CSV: path below `base`, split, labels."""
        text, base = io.StringIO(), self.base
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["path", "split", "label"])
        for split, samples in self.listed_splits():
            for sample in samples:
                said = csv_cell(self.meaning.text(sample.target))
                writer.writerow([csv_path(os.path.relpath(sample.path, base)), split, said])
        return text.getvalue()

    def listed_splits(self) -> Iterable[tuple[str, Sequence[Sample]]]:
        """The splits whose pictures are written down one by one."""
        return self.splits.items()

    def as_a_whole(self) -> Self:
        """The same under the name "all" where it has no split of its own: nothing was trained on it."""
        if list(self.splits) != ["train"]:
            return self
        return replace(self, splits={"all": self.splits["train"]})


def contents_are_known(samples: Sequence[Sample]) -> bool:
    """Whether all have a content: those in shards have none, and are not looked at one by one."""
    return len(samples) > 0 and len(samples[0].content) == CONTENT_BYTES and all(sample.content for sample in samples)
