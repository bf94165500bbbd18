"""A data set in tar shards: an index says where each picture lies, and pictures are read when they are needed.

    SHARDS/shards.json      classes, splits, and every tar with its number of pictures, bytes and hash
    SHARDS/index.bin        a record for each picture, in the order of the tars: tar, label, offset, length
    SHARDS/labels.bin       only where pictures have several labels: for each set of them its size and its classes
    SHARDS/train-000000.tar webdataset's layout: KEY.jpg beside KEY.cls, or KEY.json with several labels

The index stays on the disk and is read record by record, so that a data set of any size takes the same memory.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from convnext.data.names import did_you_mean, listed, printable
from convnext.data.pictures.tarball import member_path
from convnext.data.shards.check import check_records
from convnext.data.shards.meta import INDEX, LABELS, META, MOST_BYTES, RECORD, Meta, Shard, parse_meta
from convnext.data.sources.dataset import Dataset, Sample
from convnext.data.sources.listing import SPLITS
from convnext.data.sources.targets import Targets
from convnext.errors import DataError, SourceLost
from convnext.files import open_plain

_ONE = struct.Struct("<IIQI")  # a record
_WORD = 4  # bytes of a number in labels.bin


class Records:
    """The index in the file `path`: nothing of it is kept in memory, not even by the system's account of a process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getitem__(self, number: int) -> tuple[int, int, int, int]:
        """(shard, label, offset, length)."""
        shard, label, offset, length = _ONE.unpack(self._read(number, 1))
        return shard, label, offset, length

    def chunk(self, first: int, count: int) -> NDArray[Any]:
        """Records as an array of dtype `RECORD`."""
        return np.frombuffer(self._read(first, count), RECORD)

    def _read(self, first: int, count: int) -> bytes:
        return _read_at(self.path, first * RECORD.itemsize, count * RECORD.itemsize)


class LabelSets:
    """The sets of labels in the file `path`, each found by its place."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getitem__(self, place: int) -> tuple[int, ...]:
        (count,) = struct.unpack("<I", _read_at(self.path, place * _WORD, _WORD))
        return struct.unpack(f"<{count}I", _read_at(self.path, (place + 1) * _WORD, count * _WORD))


def _read_at(path: Path, start: int, count: int) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            data = file.read(count)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SourceLost(f"{printable(path)}: cannot be read any more: {reason}") from None
    if len(data) != count:
        raise SourceLost(f"{printable(path)} has become shorter while it was read; copy it again")
    return data


class ShardSamples(Sequence[Sample]):
    """The pictures of a split, made when they are asked for.

    Args:
        folder: where the tars lie.
        shards: those of the split.
        records: the index.
        which: numbers of the split's records.
        first: number of the first shard.
        sets: where pictures have several labels.
        order: what each class is called in the order that the user wants; () keeps the numbers.
    """

    def __init__(
        self, folder: Path, shards: Sequence[Shard], records: Records, which: range, first: int,
        sets: LabelSets | None = None, order: tuple[int, ...] = (),
    ) -> None:  # fmt: skip
        self.folder, self.shards, self.records, self.which, self.first = folder, shards, records, which, first
        self.sets, self.order = sets, order
        self.starts = np.concatenate([[0], np.cumsum([shard.pictures for shard in shards])]).astype(np.int64)
        """Where each shard begins, and the end."""

    def __len__(self) -> int:
        return len(self.which)

    @overload
    def __getitem__(self, at: int) -> Sample: ...
    @overload
    def __getitem__(self, at: slice) -> ShardSamples: ...
    def __getitem__(self, at: int | slice) -> Sample | ShardSamples:
        if isinstance(at, slice):
            which = self.which[at]
            return ShardSamples(self.folder, self.shards, self.records, which, self.first, self.sets, self.order)
        shard, label, offset, length = self.records[self.which[at]]
        path = member_path(self.folder / self.shards[shard - self.first].name, offset, length)
        labels = (label,) if self.sets is None else self.sets[label]
        return Sample(path, tuple(sorted(self.order[i] for i in labels)) if self.order else labels)

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))


def glimpse(samples: Sequence[Sample], limit: int) -> range:
    """Numbers of `limit` pictures at most, evenly; of the first tar alone where they lie in tars.

    Tars may have to be fetched, and each that is opened costs time.
    """
    seen = int(samples.starts[1]) if isinstance(samples, ShardSamples) and len(samples.starts) > 1 else len(samples)
    step = max(1, seen // limit)
    return range(0, seen, step)[:limit]


@dataclass(frozen=True)
class ShardedDataset(Dataset):
    """A data set in shards. Its pictures are not opened beforehand; broken ones are left out when they are met."""

    folder: Path
    """Where the tars lie."""
    by_class: dict[str, tuple[int, ...]]
    digest: str

    @property
    def base(self) -> Path:
        """The folder of the tars."""
        return self.folder

    @property
    def in_shards(self) -> bool:
        """Whether its pictures are read from tars: yes."""
        return True

    def fingerprint(self) -> str:
        """A hash of what is learned from, from the index."""
        return self.digest

    def listed_splits(self) -> Iterable[tuple[str, Sequence[Sample]]]:
        """Those of moderate size but for train: the index has all, and millions of lines would say no more."""
        return ((split, s) for split, s in self.splits.items() if split != "train" and len(s) <= 100_000)

    def as_a_whole(self) -> Self:
        """The same under the name "all" where it has no split of its own: nothing was trained on it."""
        if list(self.splits) != ["train"]:
            return self
        return replace(self, splits={"all": self.splits["train"]}, by_class={"all": self.by_class["train"]})


def is_sharded(root: Path) -> bool:
    """Whether a folder holds shards with their index."""
    return (root / META).is_file()


def read_sharded(
    root: Path,
    folder: Path | None = None,
    index: Path | None = None,
    *,
    targets: Targets,
    classes: tuple[str, ...] = (),
    judging: bool = False,
) -> ShardedDataset:
    """The data set in a folder of shards.

    Args:
        root: what the data set is called: the folder, a pattern, or an address.
        folder: where the tars lie, when that is another place.
        index: where the index lies, when not there.
        targets: says what the labels of the index mean.
        classes: in the order wanted, as of a trained model; () takes those of the shards.
        judging: nothing is to be learnt from the data, so it needs no train split.

    Raises:
        DataError: index and tars do not fit each other, or one of them is missing; the message names it.
    """
    folder = folder or root
    index = index or folder
    meta = _read_meta(index / META)
    own, shards = meta.classes, meta.shards
    _check_index(index / INDEX, sum(shard.pictures for shard in shards))
    check_records(meta, index)
    order = _order(root, own, classes)
    sets = LabelSets(index / LABELS) if meta.multi_label else None
    splits: dict[str, Any] = {}
    by_class: dict[str, tuple[int, ...]] = {}
    for split, (first, members, start) in _splits(index / META, shards).items():
        which = range(start, start + sum(shard.pictures for shard in members))
        splits[split] = ShardSamples(folder, members, Records(index / INDEX), which, first, sets, order)
        counts = [0] * len(classes or own)
        for number, pictures in enumerate(meta.counts[split]):
            counts[order[number] if order else number] += pictures
        by_class[split] = tuple(counts)
    if "train" not in splits and not judging:
        raise DataError(
            f"{printable(root)}: its shards have no train split; tars belong to the split that their name says "
            "(train-000000.tar), or write them by `convnext data shard`"
        )
    notes = ("pictures in shards are not opened beforehand: one that is broken is left out when it is met",)
    return ShardedDataset(
        root, "shards", targets.of_index(classes or own, several=sets is not None), splits, (),
        (*meta.notes, *notes), folder,
        by_class, meta.fingerprint,
    )  # fmt: skip


def _splits(path: Path, shards: Sequence[Shard]) -> dict[str, tuple[int, list[Shard], int]]:
    """Of each split: the number of its first shard, its shards, and the number of its first picture."""
    found: dict[str, tuple[int, list[Shard], int]] = {}
    start, last = 0, ""
    for number, shard in enumerate(shards):
        if shard.split in found and shard.split != last:
            raise DataError(f'{printable(path)}: {shard.name} of split "{shard.split}" is out of order; index it anew')
        found.setdefault(shard.split, (number, [], start))[1].append(shard)
        start, last = start + shard.pictures, shard.split
    return {split: found[split] for split in SPLITS if split in found}


def _order(root: Path, own: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[int, ...]:
    """The number wanted for each class of the shards, () where that changes nothing.

    Classes that are numbers from 0 are places in what is wanted, unless that has numbers too.
    """
    if not wanted or wanted == own:
        return ()
    if own == tuple(map(str, range(len(own)))) and len(own) <= len(wanted) and not any(map(str.isdecimal, wanted)):
        return tuple(range(len(own)))
    place = {name: number for number, name in enumerate(wanted)}
    for name in own:
        if name not in place:
            raise DataError(
                f'{printable(root)}: class "{printable(name)}" is not one of the classes asked for'
                f"{did_you_mean(name, wanted)}: {listed(wanted)}; shards keep all of theirs"
            )
    return tuple(place[name] for name in own)


def list_shards(folder: Path) -> list[Shard]:
    """The tars that the index names, each once."""
    return list({shard.name: shard for shard in _read_meta(folder / META).shards}.values())


def check_tars(folder: Path, index: Path | None = None) -> None:
    """Every tar is there and as long as the index says; the tars' hashes are for `convnext data check`.

    Raises:
        DataError: the first tar that is not, or an index that is not the one of these tars.
    """
    index = index or folder
    meta = _read_meta(index / META)
    shards = meta.shards
    for shard in {shard.name: shard for shard in shards}.values():
        path = folder / shard.name
        if not path.is_file():
            raise DataError(f"{printable(path)} is missing; copy it again, or write the shards anew")
        if path.stat().st_size != shard.bytes:
            raise DataError(
                f"{printable(path)} has {path.stat().st_size:,} bytes, the index says {shard.bytes:,}; copy it again"
            )
    _check_index(index / INDEX, sum(shard.pictures for shard in shards))
    if not is_index_of(meta, index):
        raise DataError(
            f"{printable(index / INDEX)} is not what {META} was written for (another hash); copy both again, or write "
            "the shards anew"
        )


def _read_meta(path: Path) -> Meta:
    try:
        with open_plain(path) as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise DataError(f"{printable(path)}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(content) > MOST_BYTES:
        raise DataError(f"{printable(path)} has more than {MOST_BYTES:,} bytes, so it is no list of shards")
    return parse_meta(content, path)


def _check_index(path: Path, pictures: int) -> None:
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


def is_index_of(meta: Meta, index: Path) -> bool:
    """Whether the index in a folder is the one that a list of tars was written for."""
    counts = meta.counts if meta.multi_label else None
    return (index / INDEX).is_file() and digest_of(meta.classes, meta.shards, index, counts) == meta.fingerprint


def digest_of(
    classes: Sequence[str], shards: Sequence[Shard], index: Path, counts: Mapping[str, Sequence[int]] | None = None
) -> str:
    """A hash of what is learned from: classes, splits, places and labels.

    Args:
        classes: names in order.
        shards: in the order of the index.
        index: the folder of the index.
        counts: where pictures have several labels: of each split, the pictures of each class.
    """
    found = hashlib.sha256(repr((tuple(classes), [(s.name, s.split, s.pictures, s.bytes) for s in shards])).encode())
    if counts is not None:
        found.update(repr(sorted((split, tuple(numbers)) for split, numbers in counts.items())).encode())
    for path in (index / INDEX, index / LABELS):
        if path.is_file():
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    found.update(block)
    return found.hexdigest()
