"""Writes the index of shards: records go to the disk as they come, so that it takes the same memory for any number."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np

from convnext.data.shards.meta import INDEX, LABELS, META, RECORD, VERSION, Shard
from convnext.data.shards.read import digest_of
from convnext.data.sources.listing import SPLITS
from convnext.files import Part, write_whole

WAITING = 1 << 14
"""Records that wait in memory."""
SPAN = 1 << 16
"""Pictures of a tar that count as one shard; a larger tar counts as several, so that a window stays small."""


class IndexWriter:
    """Collects pictures tar by tar, then writes index and list of tars into a folder, the list last.

    Memory grows with the number of tars and of different sets of labels, not with the pictures. All methods raise
    OSError when the disk does not do its part; `drop` removes what is half done.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sets: dict[tuple[Hashable, ...], int] = {}
        self.counts: dict[str, Counter[int]] = {split: Counter() for split in SPLITS}
        self.shards: dict[str, list[Shard]] = {split: [] for split in SPLITS}
        self.rows: dict[str, list[tuple[int, int, int, int]]] = {split: [] for split in SPLITS}
        self.files: dict[str, IO[bytes]] = {}
        self.in_tar: Counter[str] = Counter()

    @property
    def pictures(self) -> int:
        """How many there are so far."""
        return sum(counts.total() for counts in self.counts.values())

    def add(self, split: str, labels: tuple[Hashable, ...], offset: int, length: int) -> None:
        """A picture of the tar that is being read, and its labels: names, or anything else that stands for classes."""
        number = self.sets.setdefault(labels, len(self.sets))
        self.counts[split][number] += 1
        shard = len(self.shards[split]) + self.in_tar[split] // SPAN
        self.in_tar[split] += 1
        self.rows[split].append((shard, number, offset, length))
        if len(self.rows[split]) >= WAITING:
            self._flush(split)

    def end_tar(self, name: str, size: int, sha256: str = "") -> None:
        """The tar that is being read is at its end; its name (below the folder of the tars), bytes and hash."""
        for split, pictures in self.in_tar.items():
            for start in range(0, pictures, SPAN):
                self.shards[split].append(Shard(name, split, min(SPAN, pictures - start), size, sha256))
        self.in_tar.clear()

    def finish(
        self, classes: Sequence[str], place: Mapping[Any, int] | None, multi_label: bool, notes: Sequence[str] = ()
    ) -> int:
        """Writes everything; gives the number of pictures.

        Args:
            classes: names in order.
            place: the number of the class that each label stands for; None where labels are these numbers.
            multi_label: a picture may have several labels, or none.
            notes: remarks that whoever reads the data shall see.
        """
        known = [
            tuple(sorted({place[i] for i in labels})) if place is not None else labels for labels in self.sets
        ]  # classes of each set
        self._write_records(self._write_labels(known) if multi_label else np.array([s[0] for s in known], np.uint32))
        counts = {split: self._per_class(split, known, len(classes)) for split in SPLITS if self.shards[split]}
        shards = [shard for split in SPLITS for shard in self.shards[split]]
        meta = {
            "version": VERSION, "classes": list(classes), "multi_label": multi_label, "counts": counts,
            "notes": list(notes), "shards": [shard.__dict__ for shard in shards],
            "fingerprint": digest_of(classes, shards, self.folder, counts if multi_label else None),
        }  # fmt: skip
        write_whole(self.folder / META, (json.dumps(meta, indent=1, ensure_ascii=False) + "\n").encode())
        return self.pictures

    def drop(self) -> None:
        """Removes what is half done."""
        for file in self.files.values():
            file.close()
        self.files.clear()

    def _flush(self, split: str) -> None:
        if split not in self.files:
            self.files[split] = TemporaryFile(dir=self.folder)  # noqa: SIM115 (it has no name, and goes with us)
        self.files[split].write(np.array(self.rows[split], RECORD).tobytes())
        self.rows[split].clear()

    def _write_labels(self, known: Sequence[tuple[Hashable, ...]]) -> np.ndarray:
        """Writes the sets of labels; gives the place of each."""
        starts = np.concatenate([[0], np.cumsum([1 + len(labels) for labels in known])])[:-1]
        words = [word for labels in known for word in (len(labels), *labels)]
        write_whole(self.folder / LABELS, np.array(words, "<u4").tobytes())
        return starts.astype(np.uint32)

    def _write_records(self, label: np.ndarray) -> None:
        """The splits' records one after another, with the numbers that shards and labels have in the end."""
        first = 0
        with Part(self.folder / INDEX) as part:
            for split in SPLITS:
                self._flush(split)
                self.files[split].seek(0)
                while data := self.files[split].read(WAITING * RECORD.itemsize):
                    rows = np.frombuffer(data, RECORD).copy()
                    rows["shard"] += first
                    rows["label"] = label[rows["label"]]
                    part.file.write(rows.tobytes())
                first += len(self.shards[split])
        self.drop()

    def _per_class(self, split: str, known: Sequence[tuple[Hashable, ...]], classes: int) -> list[int]:
        found = [0] * classes
        for number, pictures in self.counts[split].items():
            for label in known[number]:
                found[label] += pictures  # type: ignore[call-overload]
        return found


def draw(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
