"""shards.json: what it must hold. Whatever else somebody wrote into it is refused with its place."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from convnext.data.names import printable
from convnext.data.sources.listing import SPLITS
from convnext.errors import DataError

VERSION = 1
META, INDEX, LABELS = "shards.json", "index.bin", "labels.bin"
RECORD = np.dtype([("shard", "<u4"), ("label", "<u4"), ("offset", "<u8"), ("length", "<u4")])
"""Where a picture lies, and its class (or where its classes stand in labels.bin): 20 bytes."""
MOST_BYTES = 64_000_000
"""Of shards.json: the list of some 300,000 tars."""
ALWAYS = 30_000
"""Classes that any data set may have: some tars of ImageNet-22K are a data set too."""
_PER_PICTURE = 100  # classes to a picture, where there are more: a few tars may have been taken out of many
_MOST = 1 << 53
_PATH, _NAME = 4000, 255  # bytes of a path, and of a name in it


@dataclass(frozen=True)
class Shard:
    """A tar, or a part of one: name, split, number of pictures, bytes of the tar, SHA-256 ("" where nobody took it)."""

    name: str
    split: str
    pictures: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Meta:
    """The content of shards.json.

    Attributes:
        classes: names in order.
        multi_label: pictures may have several labels, or none.
        counts: of each split, the pictures of each class.
        notes: remarks for whoever reads the data.
        shards: in the order of the index.
        fingerprint: hash of what is learned from.
    """

    classes: tuple[str, ...]
    multi_label: bool
    counts: dict[str, tuple[int, ...]]
    notes: tuple[str, ...]
    shards: tuple[Shard, ...]
    fingerprint: str


def parse_meta(content: bytes, where: object) -> Meta:
    """The content of shards.json.

    Args:
        content: the file's bytes.
        where: how the file is called in messages.

    Raises:
        DataError: it is not what `convnext data shard` writes; the message says where.
    """
    try:
        return _parse(json.loads(content), where)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise DataError(
            f"{printable(str(where))} is not what `convnext data shard` writes ({printable(what[:300])}); is it the "
            "right place? Else write the shards anew"
        ) from None


def _parse(raw: Any, where: object) -> Meta:
    if not isinstance(raw, dict):
        raise TypeError(f"it holds a {type(raw).__name__}, no table")
    if raw["version"] != VERSION:
        found = printable(str(raw["version"])[:40])
        raise DataError(f"{printable(str(where))} is of version {found}, this program reads {VERSION}")
    classes = tuple(_is(name, str, "classes") for name in _is(raw["classes"], list, "classes"))
    shards = tuple(_shard(row) for row in _is(raw["shards"], list, "shards"))
    _refuse_contradictions(classes, shards)
    several = _is(raw.get("multi_label", False), bool, "multi_label")
    counts = {split: tuple(_number(n, f"counts of {split}") for n in _is(row, list, "counts"))
              for split, row in _is(raw["counts"], dict, "counts").items()}  # fmt: skip
    for split in {shard.split for shard in shards}:
        pictures = sum(shard.pictures for shard in shards if shard.split == split)
        if len(counts.get(split, ())) != len(classes):
            raise ValueError(f"counts of {split} must be {len(classes)} numbers, one for each class")
        if not several and sum(counts[split]) != pictures:
            raise ValueError(f"counts of {split} add up to {sum(counts[split]):,}, its tars hold {pictures:,}")
    notes = tuple(_is(text, str, "notes") for text in _is(raw.get("notes", []), list, "notes"))
    return Meta(classes, several, counts, notes, shards, _is(raw["fingerprint"], str, "fingerprint"))


def _refuse_contradictions(classes: tuple[str, ...], shards: tuple[Shard, ...]) -> None:
    name, times = next(iter(Counter(classes).most_common(1)), ("", 1))
    if times > 1:
        raise ValueError(f'class "{name}" stands in it {times} times')
    pictures = sum(shard.pictures for shard in shards)
    if len(classes) > max(ALWAYS, _PER_PICTURE * pictures):
        raise ValueError(f"{len(classes):,} classes for {pictures:,} pictures")
    known: dict[str, Shard] = {}
    for shard in shards:
        other = known.setdefault(shard.name, shard)
        if (shard.bytes, shard.sha256) != (other.bytes, other.sha256):
            raise ValueError(f'tar "{shard.name}" stands in it with two lengths or hashes')


def _shard(row: Any) -> Shard:
    shard = Shard(**_is(row, dict, "shards"))
    for key in ("name", "split", "sha256"):
        _is(getattr(shard, key), str, key)
    for key in ("pictures", "bytes"):
        _number(getattr(shard, key), key)
    path = PurePosixPath(shard.name)
    if path.is_absolute() or ".." in path.parts or not path.name or not _may_be_a_file(shard.name):
        raise ValueError(f'"{shard.name}" is no name of a tar in its folder')
    if shard.split not in SPLITS:
        raise ValueError(f'"{shard.split}" is no split')
    return shard


def _may_be_a_file(name: str) -> bool:
    """Whether a system could have a file of this name."""
    parts = name.encode("utf-8", "surrogatepass").split(b"/")
    return "\0" not in name and len(name) <= _PATH and all(len(part) <= _NAME for part in parts)


def _is(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{name}: {str(value)[:40]!r} is no {kind.__name__}")
    return value


def _number(value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MOST:
        shown = f"{value:.1e}" if isinstance(value, int) and 10**40 > abs(value) >= _MOST else _short(value)
        raise TypeError(f"{name}: {shown[:40]!r} is no number from 0")
    return value


def _short(value: Any) -> str:
    """A value as text: Python writes out no number of more than 4,300 digits."""
    return "a number without end" if isinstance(value, int) and abs(value) >= 10**40 else str(value)
