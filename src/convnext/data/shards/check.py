"""Whether an index may be used: every record leads to bytes of its tar and to classes that there are.

An index may come from a stranger, or be damaged; unchecked it would lead beside the tars, or to no class, in the midst
of training. The check reads the index once (20 bytes a picture) and costs about a second for 14 million pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.data.names import printable
from convnext.data.shards.meta import INDEX, LABELS, META, RECORD, Meta, Shard
from convnext.errors import DataError

_ROWS = 1 << 16  # records that are looked at together
_sound: set[tuple[Any, ...]] = set()  # what this process has checked


def check_records(meta: Meta, index: Path) -> None:
    """Compares the records in a folder with the list of tars and classes; the length of the file is known to fit.

    Raises:
        DataError: a record leads beside its tar, to another one's place, or to no class; or the counts are not theirs.
    """
    key = (meta.fingerprint, *(_stamp(index / name) for name in (META, INDEX, LABELS)))
    if key in _sound:
        return
    try:
        sets = _sets(index / LABELS, len(meta.classes)) if meta.multi_label else None
        with (index / INDEX).open("rb") as file:
            first = 0
            found: dict[str, NDArray[np.int64]] = {}
            for number, shard in enumerate(meta.shards):
                counts = found.setdefault(shard.split, np.zeros(len(meta.classes), np.int64))
                for start in range(0, shard.pictures, _ROWS):
                    rows = np.frombuffer(file.read(min(_ROWS, shard.pictures - start) * RECORD.itemsize), RECORD)
                    problem = _problem(rows, number, shard, len(meta.classes), None if sets is None else sets[0])
                    if problem is not None:
                        raise _refusal(index, f"record {first + start + problem[0]:,} {problem[1]}")
                    _count(counts, rows["label"], sets)
                first += shard.pictures
    except OSError as error:
        raise DataError(f"{printable(index)}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    for split, counts in found.items():
        wrong = np.flatnonzero(counts != np.array(meta.counts[split], np.int64))
        if len(wrong):
            at = int(wrong[0])
            raise _refusal(
                index,
                f'{META} counts {meta.counts[split][at]:,} pictures of class "{printable(meta.classes[at])}" in '
                f"{split}, but there are {int(counts[at]):,}",
            )
    _sound.add(key)


def _problem(
    rows: NDArray[Any], number: int, shard: Shard, classes: int, places: NDArray[np.int64] | None
) -> tuple[int, str] | None:
    """The first of some records of a tar that cannot be right, and why."""
    beside = rows["offset"] > np.uint64(shard.bytes)
    beside |= rows["length"] > np.uint64(shard.bytes) - np.minimum(rows["offset"], np.uint64(shard.bytes))
    nowhere = rows["label"] >= classes if places is None else ~np.isin(rows["label"], places)
    for wrong, what in (
        (rows["shard"] != number, f"is not of tar {number}, {printable(shard.name)}, as its place says"),
        (beside, f"leads beyond {printable(shard.name)}, which has {shard.bytes:,} bytes"),
        (nowhere, f"has a label that is none of the {classes:,} classes"),
    ):
        if wrong.any():
            return int(wrong.argmax()), what
    return None


def _sets(path: Path, classes: int) -> tuple[NDArray[np.int64], list[Sequence[int]]]:
    """Where each set of labels begins in labels.bin, and its classes."""
    content = path.read_bytes()
    words = np.frombuffer(content[: len(content) // 4 * 4], "<u4").astype(np.int64)
    at, places, sets = 0, [], []
    while at < len(words):
        labels = words[at + 1 : at + 1 + int(words[at])].tolist()
        if len(labels) != words[at] or len(set(labels)) != len(labels) or (labels and max(labels) >= classes):
            raise _refusal(path.parent, f"the labels at place {at:,} of {path.name} are none of {classes:,} classes")
        places.append(at)
        sets.append(labels)
        at += 1 + len(labels)
    return np.array(places, np.int64), sets


def _count(
    counts: NDArray[np.int64], labels: NDArray[Any], sets: tuple[NDArray[np.int64], list[Sequence[int]]] | None
) -> None:
    """Adds the pictures of each class."""
    if sets is None:
        counts += np.bincount(labels, minlength=len(counts))
        return
    found, times = np.unique(labels, return_counts=True)
    for place, pictures in zip(np.searchsorted(sets[0], found).tolist(), times.tolist(), strict=True):
        counts[sets[1][place]] += pictures


def _refusal(index: Path, what: str) -> DataError:
    return DataError(
        f"{printable(index)}: its index is damaged, or belongs to other tars ({what}); copy {META}, {INDEX} and "
        f"{LABELS} (where there is one) again, or write the shards anew"
    )


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
