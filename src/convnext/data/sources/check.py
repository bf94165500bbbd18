"""Opening every picture once: which can be read, what they contain, and remembering the answer.

Every file is read from beginning to end and decoded (a JPEG at 1/8 of its size where that leaves enough, which is quick
and still finds a cut-off file). What was found is kept in `$CONVNEXT_CACHE/checked/` (default `~/.cache/convnext`), one
small file a data set, and holds for a picture as long as its path and `stamp_of` stay the same. A cache that cannot be
read or written is no error: the pictures are simply checked again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL

from convnext.data.pictures.decode import examine
from convnext.data.pictures.opened import open_regular
from convnext.data.pictures.phash import SIDE, fingerprint, gradients, thumbnail
from convnext.data.pictures.reasons import has_heif, reason_of
from convnext.data.pictures.room import bytes_of_file, held, take
from convnext.errors import PictureError
from convnext.files import Part, read_own
from convnext.places import cache_dir

Progress = Callable[[int, int], None]
"""Called now and then with (files done, files in all)."""

_RULES = 3  # raise when a check finds something else in the same file
_GRAY_TOLERANCE = 3  # largest difference between colours, of 255, in a picture that counts as gray
_BATCH = 32  # files between two calls of a progress function


@dataclass(frozen=True, slots=True)
class Facts:
    """What one file holds: its content's hash and the upright picture's size and look, or the reason it is broken.

    Attributes:
        sha256: of the file's bytes, in hexadecimal; empty when the file could not be read at all.
        width: pixels.
        height: pixels.
        gray: no colour in it, whatever its format.
        contrast: standard deviation of the gray values of the 32 x 32 thumbnail, 0..128; 0 is a blank picture.
        fingerprint: perceptual hash, 64 bits (`phash.fingerprint`).
        gradients: more of the same, 242 bits (`phash.gradients`).
        reason: why it cannot be used; empty when it can.
        kind: "" for up to 8 bits a value, else such as "16-bit" (`levels.Values`, like all below).
        low: the smallest value in it.
        high: the largest.
        full: what is white by the format; 0 where it does not say.
    """

    sha256: str = ""
    width: int = 0
    height: int = 0
    gray: bool = False
    contrast: float = 0.0
    fingerprint: int = 0
    gradients: int = 0
    reason: str = ""
    kind: str = ""
    low: float = 0.0
    high: float = 0.0
    full: float = 255.0


_KINDS = [type(value) for value in astuple(Facts())]


def check_file(path: Path) -> Facts:
    """Reads and decodes one file. Never raises for what is wrong with it: see `Facts.reason`."""
    with held():
        return _check(path)


def _check(path: Path) -> Facts:
    sha256 = ""
    try:
        with open_regular(path) as file:
            take(bytes_of_file(file), "a file of this size")
            content = BytesIO(file.read())
        sha256 = hashlib.sha256(content.getbuffer()).hexdigest()
        picture, (width, height), values = examine(content, path, at_least=SIDE)
    except (PictureError, OSError, MemoryError) as error:
        if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
            sha256 = ""  # not the file's fault: not to be remembered
        return Facts(sha256=sha256, reason=reason_of(error, path))
    colours = np.asarray(thumbnail(picture)).astype(np.int32)  # (32, 32, 3)
    red, green, blue = colours[..., 0], colours[..., 1], colours[..., 2]
    spread = max(int(np.abs(red - green).max()), int(np.abs(green - blue).max()))
    gray = (299 * red + 587 * green + 114 * blue) / 1000
    contrast = round(float(gray.std()), 2)
    look = (fingerprint(gray), gradients(picture.convert("L")))
    return Facts(sha256, width, height, spread <= _GRAY_TOLERANCE, contrast, *look, "", *astuple(values))


def check_files(
    paths: Sequence[Path], *, root: Path, progress: Progress | None = None, workers: int | None = None
) -> dict[Path, Facts]:
    """What each file holds, from the cache where it still applies.

    Args:
        paths: absolute paths.
        root: the data set, which names the cache file.
        progress: called with (done, total) at the beginning, now and then, and at the end.
        workers: threads; None means one for each core that this process may use.
    """
    cache = _Cache(root)
    stamps = {path: stamp_of(path) for path in paths}
    known = {path: facts for path in paths if (facts := cache.find(path, stamps[path])) is not None}
    unknown = [path for path in paths if path not in known]
    done = len(paths) - len(unknown)
    found: dict[Path, Facts] = {}
    if progress:
        progress(done, len(paths))
    try:
        for path, facts in _check_all(unknown, workers or _cores()):
            found[path] = facts
            if progress and (len(found) % _BATCH == 0 or len(found) == len(unknown)):
                progress(done + len(found), len(paths))
    finally:  # an interrupted check is not lost
        if found:
            cache.write({path: (stamps[path], facts) for path, facts in (known | found).items()})
    return {path: known[path] if path in known else found[path] for path in paths}


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_all(paths: list[Path], workers: int) -> Iterator[tuple[Path, Facts]]:
    """(path, facts) in the order of `paths`. Threads suffice: decoding and hashing run outside Python's lock."""
    if workers <= 1 or len(paths) <= 1:
        for path in paths:
            yield path, check_file(path)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        yield from zip(paths, pool.map(check_file, paths), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


Stamp = tuple[int, int, int, int]
"""A file's size in bytes, its time of change, its inode, and the time when either was last set (ns)."""


def stamp_of(path: Path) -> Stamp | None:
    """By what a changed file is known; None when there is no such file.

    Size and time of change alone would not do: unpacking an archive, `cp -p` and `rsync -a` bring other contents with
    the old time, and pictures without compression all have one size. The inode is another where a file was put in the
    place of the old one, and no program can set the time that the system itself keeps of a change (ctime).
    """
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns


def _can_be(facts: Facts) -> bool:
    """Whether what a cache remembers can have been found: others may have written into it."""
    sizes = 0 <= facts.width < 1 << 31 and 0 <= facts.height < 1 << 31 and (bool(facts.reason) or facts.width > 0)
    hashes = 0 <= facts.fingerprint < 1 << 64 and 0 <= facts.gradients < 1 << 256
    finite = all(map(math.isfinite, (facts.contrast, facts.low, facts.high, facts.full)))
    return sizes and hashes and finite and re.fullmatch("[0-9a-f]{64}", facts.sha256) is not None


class _Cache:
    """The remembered facts of one data set."""

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
        self.file: Path | None = None
        with contextlib.suppress(RuntimeError):  # no home folder
            self.file = cache_dir() / "checked" / f"{name}.json"
        self.rules = [_RULES, [item.name for item in fields(Facts)], PIL.__version__, has_heif()]
        self.entries = self._read()

    def _read(self) -> dict[str, list[object]]:
        try:
            found = json.loads(read_own(self.file)) if self.file else {}
            entries = found["files"] if found["rules"] == self.rules else {}
            return {path: entry for path, entry in entries.items() if isinstance(entry, list)}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}

    def find(self, path: Path, stamp: Stamp | None) -> Facts | None:
        """The facts about `path`, when they were found on the same `stamp`."""
        entry = self.entries.get(os.fspath(path))
        if stamp is None or entry is None or entry[: len(stamp)] != list(stamp):
            return None
        if [type(value) for value in entry[len(stamp) :]] != _KINDS:
            return None
        facts = Facts(*entry[len(stamp) :])  # type: ignore[arg-type]
        return facts if _can_be(facts) else None

    def write(self, found: dict[Path, tuple[Stamp | None, Facts]]) -> None:
        """Replaces the file in one go. Files that could not even be read are left out: that may pass."""
        if self.file is None:
            return
        entries = {
            os.fspath(path): [*stamp, *astuple(facts)]
            for path, (stamp, facts) in found.items()
            if stamp and facts.sha256
        }
        content = json.dumps({"rules": self.rules, "files": entries}).encode()
        with contextlib.suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with Part(self.file) as part:
                part.path.chmod(0o600)  # names and hashes are this user's own affair
                part.file.write(content)
