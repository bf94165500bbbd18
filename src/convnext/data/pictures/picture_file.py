"""A file of decoded pictures: its format, how it is written, and the folder that it lies in.

    pixels of all pictures | an entry for each | JSON: what they were made of | tail: lengths and checksums

A file is written under a temporary name and renamed when it is whole and on disk. None is ever changed in place, so a
process goes on reading a file that another has replaced or removed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import ModuleType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from convnext.data.names import printable
from convnext.files import open_plain

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not on this system: what a killed process left is not told from what is being written
    fcntl = None

ENTRY = np.dtype([("stamp", "V16"), ("start", "<i8"), ("shape", "<i4", (3,)), ("crc", "<u4")])
"""What the index says of one picture: 16 bytes that stand for its file, first byte, (H, W, C), CRC-32 of its pixels."""

_PACKED_ENTRY = struct.Struct("<16sqiiiI")  # the same, for one
_TAIL = struct.Struct("<8sQQ32s")  # magic, number of entries, bytes of JSON, SHA-256 of both; then the CRC-32 of these
_TAIL_SIZE = _TAIL.size + 4
_MAGIC = b"cnxtpix1"
_STEP = 64 << 20  # bytes of growth between two looks at the disk
_YOUNG = 60  # seconds in which a new temporary file is not yet locked, at most


def silent(text: str) -> None:
    """Says nothing."""


@dataclass(frozen=True)
class DiskBudget:
    """What decoded pictures may take on disk.

    Attributes:
        root: the data set that they are of.
        size: bytes that one file, and the files of all data sets together, have at most.
        say: called with one line when something is removed or cannot be written.
        folder: where the files are; None means `pictures` in `cache_dir()`.
    """

    root: str
    size: int
    say: Callable[[str], None] = silent
    folder: Path | None = None


class PictureWriter:
    """A new file under a temporary name. All methods raise OSError when the disk does not do its part."""

    def __init__(self, target: Path, made_of: str, budget: DiskBudget) -> None:
        self.target, self.made_of, self.budget = target, made_of.encode(), budget
        self.pixels, self.index, self.checked = 0, bytearray(), 0
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target.parent)
        self.file = NamedTemporaryFile(dir=target.parent, suffix=".tmp", delete=False)  # noqa: SIM115
        _lock(self.file)
        self.others = make_room(target, 0, budget)

    def add(self, stamp: bytes, pixels: NDArray[np.uint8]) -> bool:
        """Writes one picture (H, W, C); False when it does not fit into the budget."""
        data = np.ascontiguousarray(pixels).data
        after = self.pixels + data.nbytes + len(self.index) + ENTRY.itemsize + overhead(self.made_of)
        if after > self.budget.size:
            return False
        if after + self.others > self.budget.size:
            self.others = make_room(self.target, after, self.budget)
        if after > self.checked:
            self.checked = after + _STEP
            self.check_disk(after)
        self.file.write(data)
        self.index += _PACKED_ENTRY.pack(stamp, self.pixels, *pixels.shape, zlib.crc32(data))
        self.pixels += data.nbytes
        return True

    def check_disk(self, need: int) -> None:
        """Raises OSError when the disk cannot hold `need` bytes of this file and leave some for runs and others."""
        disk = shutil.disk_usage(self.target.parent)
        spare = min(2 * 10**9, disk.total // 20)
        free = disk.free + max(0, min(self.others, self.others + need - self.budget.size))  # others go when they must
        if disk.total and free - spare < need - self.pixels:
            raise OSError(
                errno.ENOSPC,
                f"{(need - self.pixels) / 1e9:.3g} GB needed, {disk.free / 1e9:.3g} GB free, of which "
                f"{spare / 1e9:.2g} GB are left alone",
            )

    def commit(self) -> IO[bytes]:
        """Completes the file, puts it under its name and gives it back, open for reading."""
        index = bytes(self.index) + self.made_of
        count = len(self.index) // ENTRY.itemsize
        tail = _TAIL.pack(_MAGIC, count, len(self.made_of), hashlib.sha256(index).digest())
        tail += struct.pack("<I", zlib.crc32(tail))
        self.file.seek(self.pixels)  # an interruption may have left half a picture behind it
        self.file.truncate()
        self.file.write(index + tail)
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        whole = Path(self.file.name).open("rb")  # noqa: SIM115
        try:
            Path(self.file.name).replace(self.target)
        except OSError:
            whole.close()
            raise
        _sync_folder(self.target.parent)
        return whole

    def discard(self) -> None:
        """Removes what was written."""
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            Path(self.file.name).unlink(missing_ok=True)


def overhead(made_of: str | bytes) -> int:
    """Bytes of a file without pictures."""
    return len(made_of) + _TAIL_SIZE


def read_index(file: IO[bytes]) -> tuple[str, NDArray[Any]] | None:
    """What a file was made of, and its entries; None when it is not whole, or not one of ours."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_SIZE))
    tail = file.read()
    if len(tail) < _TAIL_SIZE or zlib.crc32(tail[:-4]) != int.from_bytes(tail[-4:], "little"):
        return None
    magic, count, length, digest = _TAIL.unpack(tail[:-4])
    pixels = size - _TAIL_SIZE - length - count * ENTRY.itemsize
    if magic != _MAGIC or pixels <= 0 or count == 0:
        return None
    file.seek(pixels)
    index = file.read(count * ENTRY.itemsize + length)
    if hashlib.sha256(index).digest() != digest:
        return None
    entries = np.frombuffer(index, ENTRY, count)
    start, sizes = entries["start"], entries["shape"].prod(1, dtype=np.float64)
    if (start < 0).any() or (entries["shape"] < 1).any() or float((start + sizes).max()) != pixels:
        return None
    return index[count * ENTRY.itemsize :].decode("utf-8", "replace"), entries


def _others(target: Path) -> list[tuple[float, int, Path]]:
    """Time of last use, bytes and path of the other data sets' files, the least recently used first."""
    found = []
    for path in target.parent.glob("*.pixels"):
        with contextlib.suppress(OSError):  # another process may remove it meanwhile
            if path != target:
                about = path.stat()
                found.append((about.st_mtime, about.st_size, path))
    return sorted(found)


def make_room(target: Path, need: int, budget: DiskBudget) -> int:
    """Removes other data sets' files, the least recently used first, until `need` bytes fit into the budget.

    Returns:
        The bytes of those that stay.
    """
    others = _others(target)
    total = sum(size for _, size, _ in others)
    for _, size, path in others:
        if need + total <= budget.size:
            break
        root = "another data set"
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError), open_plain(path) as file:
            found = read_index(file)
            root = str(json.loads(found[0])["key"][0]) if found is not None else root
        path.unlink(missing_ok=True)
        total -= size
        budget.say(removed(budget, size, root))
    return total


def removed(budget: DiskBudget, size: int, root: str) -> str:
    """What to say when the pictures of a data set, `size` bytes, had to go."""
    return (
        f"removed the decoded pictures of {printable(root)} from the disk ({size / 1e9:.3g} GB): those of all data "
        f"sets together may take data.disk_cache_gb = {budget.size / 1e9:g}; a larger one keeps them"
    )


def _lock(file: IO[bytes]) -> bool:
    """Whether this process is the only one that has the file."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_leftovers(folder: Path) -> None:
    """Removes temporary files of processes that were killed: nobody holds their lock."""
    for path in folder.glob("*.tmp"):
        with contextlib.suppress(OSError), open_plain(path) as file:
            if time.time() - os.fstat(file.fileno()).st_mtime > _YOUNG and _lock(file):
                path.unlink()


def _sync_folder(folder: Path) -> None:
    """Puts a new name on disk, where the system can: without it the file may be gone after a power cut, not damaged."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
