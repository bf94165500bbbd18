"""Files of a server: fetched whole or not at all, and a tar when a picture of it is first wanted, into a cache."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import shutil
import time
import urllib.error
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from convnext.data.aside import aside
from convnext.data.names import printable
from convnext.data.shards.server import TOLD, Pace, TooSlow, open_paced
from convnext.errors import DataError, SourceLost
from convnext.files import Part, new_file, own_folder
from convnext.places import cache_dir

TRIES = 4
"""Attempts at a download, with 1, 2 and 4 seconds between them."""
BLOCK = 1 << 20
SOURCE = ".source.json"
"""Beside tars that are fetched when they are wanted: where from, and how many bytes of them are kept."""
_SLOW_TRIES = 2  # of a server that drips: it is no passing fault
_STALE = 60  # seconds after which nobody is at work on what is locked
_FULL, _LOCKED = "the disk is full; free some space", "it cannot be written; change the permissions"
_OURS = {errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EACCES: _LOCKED, errno.EPERM: _LOCKED, errno.EROFS: _LOCKED}
"""What is no fault of the server's."""


class NotThere(DataError):
    """A server does not have what was asked for, or answers a page in its place."""


def fetch_tar(tar: Path, folder: Path) -> None:
    """Fetches a tar that is not in the cache; several processes may ask for the same one.

    Args:
        tar: in `folder`, or in a folder in it.
        folder: has the list of tars, and where they come from.

    Raises:
        SourceLost: it cannot be had; the message has the address.
    """
    if tar.exists():
        return
    source = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
    name = tar.relative_to(folder).as_posix()
    size, sha256 = source["tars"][name]
    if tar.parent != folder:
        own_folder(tar.parent)
    lock = tar.with_name(f".{tar.name}.lock")
    if not _taken(lock, tar):
        return
    try:
        if not tar.exists():
            make_room(folder, int(source["budget"]), int(size))
            fetch(f"{source['address']}/{quote(name)}", tar, int(size), str(sha256), lock)
    except DataError as error:
        raise SourceLost(str(error)) from None
    finally:
        lock.unlink(missing_ok=True)


def _taken(lock: Path, tar: Path) -> bool:
    """Takes the right to fetch a tar; False when another process has fetched it meanwhile. A wait is said.

    Raises:
        SourceLost: nobody is at work, but the lock cannot be made or removed.
    """
    start = told = since = time.monotonic()
    seen = -1.0
    while True:
        try:
            new_file(lock).close()
            return True
        except FileExistsError:
            if tar.exists():
                return False
            with suppress(FileNotFoundError):
                touched = lock.lstat().st_mtime
                if touched != seen:
                    seen, since = touched, time.monotonic()
                # a time that lies ahead, as another computer's clock gives, says nothing but that it stands still
                if max(time.time() - touched, time.monotonic() - since) > _STALE:
                    _remove_stale(lock)  # its process was killed
            if time.monotonic() - told > TOLD:
                told = time.monotonic()
                aside(f"waiting for another process, which fetches {printable(tar.name)}: {told - start:.0f} s")
            time.sleep(0.2)
        except OSError as error:
            raise SourceLost(_not_ours(lock, error)) from None


def _remove_stale(lock: Path) -> None:
    try:
        lock.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise SourceLost(f"nobody is at work on it, but {_not_ours(lock, error)}") from None


def _not_ours(path: Path, error: OSError) -> str:
    reason = _OURS.get(error.errno or 0, f"it cannot be changed ({(error.strerror or str(error)).lower()})")
    return f"{printable(path)}: {reason}; or let CONVNEXT_CACHE name another place"


def make_room(folder: Path, budget: int, need: int) -> None:
    """Removes the address's tars that were not used for longest until another one fits, and so may others."""
    found = []
    home = folder.parent if folder.parent.parent == cache_dir() / "shards" else folder
    for tar in home.rglob("*.tar"):
        with suppress(FileNotFoundError):
            status = tar.stat()
            found.append((status.st_atime, status.st_size, tar))
    held = sum(size for _, size, _ in found)
    for part in home.rglob(".*.part"):  # of processes that were killed; what is being fetched grows
        with suppress(OSError):
            if time.time() - part.lstat().st_mtime > 3600:
                part.unlink()
    for _, size, tar in sorted(found):
        if held + need <= budget:
            break
        try:
            tar.unlink(missing_ok=True)
        except OSError as error:  # another user's, in a cache that several share
            aside(f"more stays on the disk than tars may take: {_not_ours(tar, error)}")
        else:
            held -= size


def fetch(
    address: str, target: Path, size: int, sha256: str, alive: Path | None = None, *, most: int = 0
) -> None:  # fmt: skip
    """Downloads a file, whole or not at all.

    Args:
        address: where it is.
        target: where it goes.
        size: bytes that it must have; 0 when not known: then what the server announces.
        sha256: that it must have; "" when not known.
        alive: a file to touch meanwhile.
        most: bytes that it may have, where `size` is not known; 0 takes what the disk has left.

    Raises:
        NotThere: the server does not have it.
        DataError: it ends too early, it is another file, it is too long, it comes too slowly, or the disk is full.
    """
    slow = 0
    for attempt in range(TRIES):
        try:
            with Part(target) as part:
                _download(address, part, size, sha256, alive, most)
            return
        except urllib.error.HTTPError as error:
            close(error)
            if error.code < 500 and error.code not in (408, 429):
                raise NotThere(
                    f"{address}: the server answers {error.code} ({error.reason}); is the address right?"
                ) from None
            problem = f"the server answers {error.code}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, TooSlow) and (slow := slow + 1) >= _SLOW_TRIES:
                raise DataError(f"{address}: fetching it was given up: {error}; is the server overloaded?") from None
            if isinstance(error, OSError) and error.errno in _OURS:
                raise DataError(_not_ours(target, error)) from None
            problem = (str(error).splitlines() or [type(error).__name__])[0]
        if attempt + 1 < TRIES:
            time.sleep(2**attempt)
    raise DataError(f"{address}: could not be fetched in {TRIES} attempts, the last time: {problem}")


def _download(address: str, part: Part, size: int, sha256: str, alive: Path | None, most: int = 0) -> None:
    found, have, touched = hashlib.sha256(), 0, time.monotonic()
    room = _room(part.target.parent)
    limit = size or most or room
    with open_paced(address, Pace(address, limit)) as answer:
        announced = int(answer.headers.get("Content-Length") or 0)
        if max(size, announced) > room:
            raise OSError(errno.ENOSPC, f"{max(size, announced):,} bytes are more than the disk has left")
        size = size or announced
        if size > limit:
            raise DataError(f"{address}: the server announces {size:,} bytes; at most {limit:,} can be right")
        while block := answer.read1(BLOCK):
            have += len(block)
            if have > limit:
                raise ValueError(f"it goes on after {limit:,} bytes")
            part.file.write(block)
            found.update(block)
            if alive is not None and time.monotonic() - touched > 1:
                touched = time.monotonic()
                os.utime(alive, follow_symlinks=False)
    if size and have != size:
        raise ValueError(f"it ended after {have:,} of {size:,} bytes")
    if sha256 and found.hexdigest() != sha256:
        raise ValueError("its content is not what was written")


def _room(folder: Path) -> int:
    """Bytes that the disk has left; without end where it does not say."""
    usage = shutil.disk_usage(folder)
    return usage.free if usage.total else 1 << 62


def close(error: urllib.error.HTTPError) -> None:
    """An answer that is an error holds its connection."""
    if error.fp is not None:
        error.close()
