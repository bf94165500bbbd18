"""A data set in tar shards: an index says where each picture lies, and pictures are read when they are needed.

    SHARDS/shards.json      classes, splits, and every tar with its number of pictures, bytes and hash
    SHARDS/index.bin        a record for each picture, in the order of the tars: tar, label, offset, length
    SHARDS/train-000000.tar webdataset's layout: KEY.jpg beside KEY.cls

The index stays on the disk, so that a data set of any size takes the same memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from convnext.data.listing import SPLITS
from convnext.data.names import printable
from convnext.data.sources import Dataset, Sample
from convnext.data.tarball import member_path
from convnext.errors import DataError

RECORD = np.dtype([("shard", "<u4"), ("label", "<u4"), ("offset", "<u8"), ("length", "<u4")])
"""Where a picture lies, and its class: 20 bytes."""
VERSION = 1
META, INDEX = "shards.json", "index.bin"


@dataclass(frozen=True)
class Shard:
    """A tar: its name, split, number of pictures, bytes, and SHA-256 ("" where nobody computed it)."""

    name: str
    split: str
    pictures: int
    bytes: int
    sha256: str


class ShardSamples(Sequence[Sample]):
    """The pictures of a split, made when they are asked for; `starts` holds where each of its shards begins."""

    def __init__(self, folder: Path, shards: Sequence[Shard], records: NDArray[Any], which: range, first: int) -> None:
        self.folder, self.shards, self.records, self.which, self.first = folder, shards, records, which, first
        self.starts = np.concatenate([[0], np.cumsum([shard.pictures for shard in shards])]).astype(np.int64)

    def __len__(self) -> int:
        return len(self.which)

    @overload
    def __getitem__(self, at: int) -> Sample: ...
    @overload
    def __getitem__(self, at: slice) -> ShardSamples: ...
    def __getitem__(self, at: int | slice) -> Sample | ShardSamples:
        if isinstance(at, slice):
            return ShardSamples(self.folder, self.shards, self.records, self.which[at], self.first)
        record = self.records[self.which[at]]
        tar = self.folder / self.shards[int(record["shard"]) - self.first].name
        path = member_path(tar, int(record["offset"]), int(record["length"]))
        return Sample(path, (int(record["label"]),))

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True)
class ShardedDataset(Dataset):
    """A data set in shards. Its pictures are not opened beforehand; broken ones are left out when they are met."""

    by_class: dict[str, tuple[int, ...]]
    digest: str

    def counts(self, split: str) -> list[int]:
        """Pictures of each class in a split, from the index."""
        return list(self.by_class.get(split, (0,) * len(self.classes)))


def is_sharded(root: Path) -> bool:
    """Whether a folder holds shards with their index."""
    return (root / META).is_file()


def read_sharded(root: Path, folder: Path | None = None) -> ShardedDataset:
    """The data set in a folder of shards.

    Args:
        root: what the data set is called: the folder, or an address.
        folder: where index and tars lie, when that is another place.

    Raises:
        DataError: index and tars do not fit each other, or one of them is missing; the message names it.
    """
    folder = folder or root
    meta = _read_meta(folder / META)
    classes, shards = tuple(meta["classes"]), [Shard(**row) for row in meta["shards"]]
    records = _read_index(folder / INDEX, sum(shard.pictures for shard in shards))
    splits: dict[str, Any] = {}
    by_class: dict[str, tuple[int, ...]] = {}
    for split in SPLITS:
        own = [number for number, shard in enumerate(shards) if shard.split == split]
        if not own:
            continue
        start = sum(shard.pictures for shard in shards[: own[0]])
        members = [shards[number] for number in own]
        which = range(start, start + sum(shard.pictures for shard in members))
        splits[split] = ShardSamples(folder, members, records, which, own[0])
        by_class[split] = tuple(meta["counts"][split])
    if "train" not in splits:
        raise DataError(f"{root}: its shards have no train split; write them anew by `convnext data shard`")
    notes = ("pictures in shards are not opened beforehand: one that is broken is left out when it is met",)
    return ShardedDataset(root, "shards", classes, False, splits, (), notes, by_class, str(meta["fingerprint"]))


def list_shards(folder: Path) -> list[Shard]:
    """The tars that the index names."""
    return [Shard(**row) for row in _read_meta(folder / META)["shards"]]


def check_tars(folder: Path) -> None:
    """Every tar is there and as long as the index says; the hashes are for `convnext data check`.

    Raises:
        DataError: the first tar that is not.
    """
    for shard in list_shards(folder):
        path = folder / shard.name
        if not path.is_file():
            raise DataError(f"{printable(path)} is missing; copy it again, or write the shards anew")
        if path.stat().st_size != shard.bytes:
            raise DataError(
                f"{printable(path)} has {path.stat().st_size:,} bytes, the index says {shard.bytes:,}; copy it again"
            )


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if meta["version"] != VERSION:
            raise DataError(f"{printable(path)} is of version {meta['version']}, this program reads {VERSION}")
        for key in ("classes", "shards", "counts", "fingerprint"):
            meta[key]
        return meta
    except OSError as error:
        raise DataError(f"{printable(path)}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{printable(path)} is damaged ({error}); write the shards anew") from None


def _read_index(path: Path, pictures: int) -> NDArray[Any]:
    try:
        have = path.stat().st_size
    except OSError as error:
        raise DataError(f"{printable(path)}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    if have != pictures * RECORD.itemsize:
        raise DataError(
            f"{printable(path)} has {have:,} bytes, {pictures:,} pictures need {pictures * RECORD.itemsize:,}; it "
            "belongs to other shards: copy it again, or write them anew"
        )
    if not pictures:
        raise DataError(f"{printable(path)}: no pictures in it")
    return np.memmap(path, dtype=RECORD, mode="r")


def digest_of(classes: Sequence[str], shards: Sequence[Shard], index: Path) -> str:
    """A hash of what is learned from: classes, splits, places and labels."""
    found = hashlib.sha256(repr((tuple(classes), [(s.name, s.split, s.pictures, s.bytes) for s in shards])).encode())
    with index.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()
