"""Tars that hold a class each, as ImageNet-22K comes: a folder of them, or one tar of them. Read in place."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from convnext.data.decode import PICTURE_SUFFIXES
from convnext.data.names import count, printable
from convnext.data.shards import RECORD, Shard, ShardSamples
from convnext.data.sources import Dataset
from convnext.data.tarball import Member, members, nested
from convnext.errors import DataError


def is_tars(root: Path) -> bool:
    """Whether a place holds a tar for each class: a folder of n....tar files, or one tar of such tars."""
    if root.is_dir():
        tars = list(root.glob("n*.tar"))
        return len(tars) > 1 and not any(item.is_dir() for item in root.iterdir())
    return root.suffix == ".tar" and root.is_file()


def read_tars(root: Path, val: float, progress: Callable[[int, int], None] | None = None) -> Dataset:
    """The pictures of tars that hold a class each, without unpacking or opening them: 20 bytes of memory a picture.

    Args:
        root: a folder of CLASS.tar files, or one tar of them (as ImageNet-22K comes).
        val: share of the pictures for validation, decided by each one's name.
        progress: called with (tars listed, tars in all).

    Raises:
        DataError: a tar is damaged, or there are no pictures.
    """
    tars = sorted(root.glob("*.tar")) if root.is_dir() else [root]
    names: list[str] = []
    rows: dict[str, list[tuple[int, int, int, int]]] = {"train": [], "val": []}
    for number, tar in enumerate(tars):
        for name, member in _of(tar, root.is_dir()):
            if Path(member.name).suffix.lower() not in PICTURE_SUFFIXES:
                continue
            if not names or names[-1] != name:
                names.append(name)
            draw = int.from_bytes(hashlib.sha256(f"{name}/{member.name}".encode()).digest()[:8], "big") / 2**64
            rows["val" if draw < val else "train"].append((number, len(names) - 1, member.offset, member.length))
        if progress:
            progress(number + 1, len(tars))
    if len(set(names)) != len(names):
        raise DataError(f"{printable(root)}: a class is in more than one tar; put its pictures into one")
    if len(names) < 2:
        raise DataError(
            f"{printable(root)}: {count(len(names), 'class', 'classes')} in it; a classifier needs two or more"
        )
    order = np.argsort(names)
    place = np.empty(len(names), np.uint32)
    place[order] = np.arange(len(names))
    folder = root if root.is_dir() else root.parent
    splits = {}
    for split, found in rows.items():
        if found:
            records = np.array(found, RECORD)
            records["label"] = place[records["label"]]
            shards = [Shard(tar.name, split, 0, 0, "") for tar in tars]
            splits[split] = ShardSamples(folder, shards, records, range(len(records)), 0)
    classes = tuple(names[i] for i in order)
    return Dataset(root, "tars", classes, False, splits, (), (f"{len(classes):,} classes from tars",))  # type: ignore[arg-type]


def _of(tar: Path, single: bool) -> Iterator[tuple[str, Member]]:
    """(class, picture) of a tar that is a class, or of a tar of such tars."""
    if single:
        return ((tar.stem, member) for member in members(tar))
    return ((Path(inner).stem, member) for inner, member in nested(tar))
