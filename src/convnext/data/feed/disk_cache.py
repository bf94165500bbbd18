"""Decoded pictures in a file, for the epochs and the runs to come.

`$CONVNEXT_CACHE/pictures/` (default `~/.cache/convnext`) has one file for each data set and way of decoding; see
`picture_file`. A picture holds as long as its file's path and `checked.stamp_of` stay the same. A file that is cut off,
damaged or not ours is not used; pixels are compared with their CRC-32 when a process first reads them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import zlib
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from convnext.data.pictures.picture_file import (
    ENTRY,
    DiskBudget,
    PictureWriter,
    make_room,
    overhead,
    read_index,
    removed,
    silent,
)
from convnext.data.sources.check import stamp_of
from convnext.files import open_plain
from convnext.places import cache_dir

__all__ = ["DiskBudget", "DiskCache"]

_RULES = 2  # raise when the same file gives other pixels, or the format changes
_RELEASE = 32 << 20  # bytes that are read before their pages are given back


class DiskCache:
    """The decoded pictures of one data set in one file: `add` what is missing, `finish`, then `get`.

    Processes that are forked read the same pages; one that gets a pickled copy opens the file again. Nothing raises for
    what is wrong with the file or the disk: pictures that are not held are decoded.

    Args:
        paths: the pictures' files; the positions are the indices below.
        kind: what else decides the pixels: short side in pixels, filter, mode, range of values.
        budget: for how much, and where.
    """

    def __init__(self, paths: Sequence[Path], kind: tuple[int | float | str, ...], budget: DiskBudget) -> None:
        key = [budget.root, *kind]
        self.budget, self.made_of = budget, json.dumps({"key": key, "rules": _rules()})
        self.stamps = [_digest(path) for path in paths]
        self.needed = np.ones(len(paths), dtype=np.bool_)
        self.writer: PictureWriter | None = None
        self.writable = True
        self.touched = 0  # bytes read since pages were given back
        self.file: Path | None = None
        try:
            folder = budget.folder or cache_dir() / "pictures"
        except RuntimeError as error:  # no home folder
            self._give_up(str(error))
        else:
            self.file = folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.pixels"
        self._open()

    def holds(self, index: int) -> bool:
        """Whether the picture is in the file."""
        return bool(self.place[index, 0] >= 0)

    def get(self, index: int) -> NDArray[np.uint8] | None:
        """The picture, (H, W, C), in memory of its own; None when it is not held, or is damaged."""
        start, height, width, channels, crc = self.place[index].tolist()
        if start < 0 or self.map is None:
            return None
        pixels = np.frombuffer(self.map, np.uint8, height * width * channels, start).copy()
        if not self.checked[index]:
            if zlib.crc32(pixels.data) != crc:
                self.place[index] = -1
                self._remove()  # made anew by the next run; what is mapped here stays
                return None
            self.checked[index] = True
        self.touched += pixels.size
        if self.touched > _RELEASE and hasattr(mmap, "MADV_DONTNEED"):
            self.touched = 0
            self.map.madvise(mmap.MADV_DONTNEED)  # they stay in the system's cache, but no longer count as ours
        return pixels.reshape(height, width, channels)

    def forget(self, index: int) -> None:
        """The picture is held elsewhere: a new file need not have it."""
        self.needed[index] = False

    def add(self, index: int, pixels: NDArray[np.uint8]) -> bool:
        """Puts a picture (H, W, C) into a new file, after all that the old one still holds.

        Returns:
            False when it does not fit, or cannot be written.
        """
        if self.holds(index) or not self.stamps[index]:  # a file that is gone by now has no stamp
            return True
        try:
            if self.writer is None and not self._start(pixels.size + ENTRY.itemsize):
                return False
            return self.writer is not None and self.writer.add(self.stamps[index], pixels)
        except OSError as error:
            self._give_up(error.strerror or str(error))
            return False

    def finish(self) -> None:
        """Puts the new file, if there is one, in the old one's place, and removes what goes beyond the budget."""
        writer, self.writer = self.writer, None
        if writer is not None:
            try:
                with writer.commit() as file:
                    self._attach(file)
            except OSError as error:
                writer.discard()
                self._give_up(error.strerror or str(error))
        with contextlib.suppress(OSError):  # another process may have removed it
            if self.file is not None and self.map is not None:
                os.utime(self.file)  # the time of its last use
                make_room(self.file, len(self.map), self.budget)

    def __getstate__(self) -> dict[str, Any]:
        made_again = ("place", "checked", "map", "inode")
        kept = {name: value for name, value in self.__dict__.items() if name not in made_again}
        return kept | {"budget": replace(self.budget, say=silent)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._open()

    def _open(self) -> None:
        """Looks up the pictures in the file, if there is one that holds."""
        self.place = np.full((len(self.stamps), 5), -1, dtype=np.int64)  # start, height, width, channels, CRC-32
        self.checked = np.zeros(len(self.stamps), dtype=np.bool_)
        self.map: mmap.mmap | None = None
        with contextlib.suppress(OSError):
            if self.file is not None:
                with open_plain(self.file) as file:
                    self._attach(file)
        if self.map is not None and len(self.map) > self.budget.size:
            self.budget.say(removed(self.budget, len(self.map), self.budget.root))
            self._remove()
            self.place[:], self.map = -1, None

    def _attach(self, file: IO[bytes]) -> None:
        """Takes over an open file: what it has of these pictures as they are now."""
        found = read_index(file)
        if found is None or found[0] != self.made_of:
            return
        self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.inode = os.fstat(file.fileno()).st_ino
        raw = found[1]["stamp"].tobytes()
        rows = {raw[at : at + 16]: at // 16 for at in range(0, len(raw), 16)}
        row = np.array([rows.get(stamp, -1) for stamp in self.stamps], dtype=np.int64)
        there = row >= 0
        entries = found[1][row[there]]
        self.place[:], self.checked[:] = -1, False
        self.place[there] = np.column_stack([entries["start"], entries["shape"], entries["crc"]])

    def _start(self, size: int) -> bool:
        """Begins a new file with what the old one holds; False when a picture of `size` bytes does not fit.

        Nor does it begin where all that would come in is less than a hundredth of what had to be copied for it.
        """
        if self.file is None or not self.writable:
            return False
        kept = np.flatnonzero((self.place[:, 0] >= 0) & self.needed)
        copied = overhead(self.made_of) + len(kept) * ENTRY.itemsize
        copied += int(self.place[kept, 1:4].prod(1).sum())
        missing = int(((self.place[:, 0] < 0) & self.needed).sum())
        gain = min(missing * size, self.budget.size - copied)
        if gain < size or 100 * gain < copied:
            return False
        self.writer = PictureWriter(self.file, self.made_of, self.budget)
        self.writer.check_disk(copied + gain)
        for index in kept.tolist():
            pixels = self.get(index)
            if pixels is not None:
                self.writer.add(self.stamps[index], pixels)
        return True

    def _remove(self) -> None:
        """Removes the file that is mapped, unless another process has put a new one in its place."""
        with contextlib.suppress(OSError):
            if self.file is not None and self.file.stat().st_ino == self.inode:
                self.file.unlink()

    def _give_up(self, reason: str) -> None:
        """Writes no more, and says so. What the file held before stays."""
        writer, self.writer = self.writer, None
        if writer is not None:
            writer.discard()
        where = self.file.parent if self.file is not None else "the cache folder"
        self.writable = False
        self.budget.say(
            f"decoded pictures are not kept on disk ({where}: {reason}); data.disk_cache_gb = "
            f"{self.budget.size / 1e9:g} takes up to so much. Make room there, lower it, or name a folder on another "
            "disk by CONVNEXT_CACHE; until then they are decoded every epoch"
        )


def _rules() -> list[str | int]:
    """What decides the pixels besides the picture and the key."""
    return [_RULES, torch.backends.cpu.get_cpu_capability(), *map(version, ("pillow", "simplejpeg", "torch"))]


def _digest(path: Path) -> bytes:
    """16 bytes that stand for a file as it is now; none when there is no such file."""
    stamp = stamp_of(path)
    if stamp is None:
        return b""
    return hashlib.blake2b(os.fsencode(path) + b"\0" + repr(stamp).encode(), digest_size=16).digest()
