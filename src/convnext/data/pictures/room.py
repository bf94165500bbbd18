"""Room for decoding: what a picture will take is known from its header, and compared with the memory there is first.

A picture may take half of the memory (of the container, where it has a limit), divided by the processes that decode
side by side; threads of a process wait for each other. What does not fit is refused in words: nothing is allocated that
the system would answer by killing the process.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from PIL import Image

from convnext.memory import available_memory, total_memory

SMALL = 8 << 20
"""Bytes below which nobody asks."""
PATIENCE = 20.0
"""Seconds that a picture waits for memory that others use, at most."""

_OPAQUE, _CLEAR = 18, 26  # bytes a pixel of the picture itself, its copies in other modes, turned, and as an array
_EXTRA = {"WEBP": 16, "AVIF": 12, "HEIF": 12, "JPEG2000": 24, "GIF": 4, "TIFF": 8, "PPM": 4}
_COEFFICIENTS = 6  # bytes a pixel of the coefficients, which are all kept


class NoRoom(MemoryError):
    """There is not enough memory to decode a picture; the message says how much it takes, and how much there is."""


class _Ledger:
    """What this process's threads have taken."""

    def __init__(self) -> None:
        self.changed, self.taken, self.sharers = threading.Condition(), 0, 0
        self.mine = threading.local()

    def processes(self) -> int:
        """How many decode side by side."""
        if self.sharers:
            return self.sharers
        here = os.environ.get("LOCAL_WORLD_SIZE", "")
        return max(1, int(here)) if here.isdecimal() else 1


_ledger = _Ledger()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _ledger.__init__())  # type: ignore[misc]  # its lock may be held


def share_with(loaders: int) -> None:
    """Says, in a process that loads pictures, how many of its kind there are."""
    _ledger.sharers = 0
    _ledger.sharers = max(1, loaders) * _ledger.processes()


@contextmanager
def held() -> Iterator[None]:
    """Room that `take` takes within is given back at the end of the outermost block of a thread."""
    mine: Any = _ledger.mine
    depth = getattr(mine, "depth", 0)
    mine.depth = depth + 1
    try:
        yield
    finally:
        mine.depth = depth
        if depth == 0 and (bytes_ := getattr(mine, "bytes", 0)):
            mine.bytes = 0
            with _ledger.changed:
                _ledger.taken -= bytes_
                _ledger.changed.notify_all()


def take(need: int, what: str) -> None:
    """Takes room for so many bytes, within `held`; waits for other threads, and a while for other processes.

    Raises:
        NoRoom: there is not so much.
    """
    if need < SMALL:
        return
    processes, mine = _ledger.processes(), _ledger.mine
    total = total_memory()
    if not total:
        return  # a system that does not say
    if need > total / 2 / processes:
        among = f", half of it for {processes} processes that decode" if processes > 1 else ", half of it for pictures"
        raise NoRoom(f"{what}: decoding takes {need / 1e9:.2g} GB, the memory is {total / 1e9:.3g} GB{among}; {_DO}")
    own, seen, end = getattr(mine, "bytes", 0), -1, 0.0
    with _ledger.changed:
        while True:
            if seen != _ledger.taken:  # as long as others come and go it is worth waiting
                seen, end = _ledger.taken, time.monotonic() + PATIENCE
            others = _ledger.taken - own
            free = available_memory() * 0.9 / processes
            if need <= free and (not others or _ledger.taken + need <= total / 2 / processes):
                break
            if time.monotonic() > end:
                raise NoRoom(f"{what}: decoding takes {need / 1e9:.2g} GB, {free / 1e9:.2g} GB are free; {_DO}")
            _ledger.changed.wait(0.2)
        _ledger.taken += need
    mine.bytes = own + need


_DO = "scale it down, or free some memory"


def bytes_of(image: Image.Image) -> int:
    """What decoding an opened picture takes at most, with all that is made of it."""
    width, height = image.size
    each = _CLEAR if image.has_transparency_data else _OPAQUE
    tile = tile_of(image)
    return width * height * (each + _EXTRA.get(image.format or "", 2)) + 8 * tile[0] * tile[1]


def tile_of(image: Image.Image) -> tuple[int, int]:
    """Width and height of the tiles of a TIFF, which are decompressed whole; (0, 0) for all else."""
    tags: Any = getattr(image, "tag_v2", {})
    width, height = tags.get(322, 0), tags.get(323, 0)
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)


def bytes_of_jpeg(full: tuple[int, int], reduced: tuple[int, int], keeps_all: Callable[[], bool]) -> int:
    """What a JPEG takes that is decoded at a reduced size.

    `keeps_all` says whether its coefficients are kept to the end; it is only asked where they could matter.
    """
    need, coefficients = reduced[0] * reduced[1] * _OPAQUE, full[0] * full[1] * _COEFFICIENTS
    return need + coefficients if need + coefficients >= SMALL and keeps_all() else need


def bytes_of_tiff(pixels: int, block: int, item: int) -> int:
    """What a TIFF takes that `tiff_pixels` reads: so many pixels of `item` bytes each, in blocks of `block` pixels."""
    return pixels * (2 * item + _CLEAR) + 3 * item * block


def bytes_of_file(file: IO[bytes]) -> int:
    """What reading an open file takes; 0 for one that is in memory already."""
    try:
        return os.fstat(file.fileno()).st_size
    except (OSError, AttributeError):
        return 0


def webp_size(head: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP from its first 30 bytes: its library takes the memory when it is opened."""
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return None
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None


def bytes_of_webp(width: int, height: int) -> int:
    """What a WebP of that size takes."""
    return width * height * (_CLEAR + _EXTRA["WEBP"])
