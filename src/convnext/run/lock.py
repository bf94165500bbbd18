"""One process at a time in a folder: the system's own lock, or a file that names its holder where there is none."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from convnext.errors import RunError
from convnext.files import new_file, open_own

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

LOCK = ".lock"
HOLDER = ".lock.holder"
"""Says which process holds the folder, where the file system has no locks (some of NFS, some of FUSE)."""
_MOST = 4096
_held: set[Path] = set()
"""Folders that this process holds: the system's locks keep out other processes only."""


@contextlib.contextmanager
def held(path: Path, remedy: str = "wait for it, or give another --out") -> Iterator[None]:
    """Keeps other processes from working in a folder meanwhile; the lock goes with the process that holds it.

    Raises:
        RunError: another process is at work there.
        OSError: the lock cannot be made, or a link is in its place.
    """
    place = path.resolve()
    if place in _held:
        raise RunError(f"another process is working in {path}; {remedy}")
    with open_own(place / LOCK) as file:
        system = _lock(file.fileno())
        if system is False:
            raise RunError(f"another process is working in {path}; {remedy}")
        with contextlib.nullcontext() if system else _named(path, place / HOLDER, remedy):
            _held.add(place)
            try:
                yield
            finally:
                _held.discard(place)


def _lock(handle: int) -> bool | None:
    """Whether the system gave its lock; None where it has none to give."""
    if fcntl is None:
        return None
    try:
        # unlike a lock of flock's, this one is not kept alive by forked loader processes
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # ENOLCK, EOPNOTSUPP: a file system without locks
        return None
    return True


@contextlib.contextmanager
def _named(path: Path, file: Path, remedy: str) -> Iterator[None]:
    """The lock of a file system that has none: a file that only one process can make, removed at the end."""
    me = {"host": platform.node(), "pid": os.getpid(), "since": _start_of(os.getpid())}
    for attempt in (1, 2):
        try:
            with new_file(file) as made:
                made.write(json.dumps(me).encode())
            break
        except FileExistsError:
            holder = _read_holder(file)
            if attempt == 2 or not _is_gone(holder):
                who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
                raise RunError(
                    f"another process is working in {path} ({who}, as {file.name} in it says); {remedy}. If that "
                    "process is gone, remove the file"
                ) from None
            file.unlink(missing_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def _read_holder(file: Path) -> dict[str, Any]:
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            return {}
        with file.open("rb") as content:
            found = json.loads(content.read(_MOST))
    except (OSError, ValueError, RecursionError):
        return {}
    kinds = {"host": str, "pid": int, "since": str}
    good = isinstance(found, dict) and all(type(found.get(key)) is kind for key, kind in kinds.items())
    return found if good else {}


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether the process that a holder's file names has ended for certain: it was one of this machine."""
    if os.name != "posix" or holder.get("host") != platform.node() or holder["pid"] <= 0:
        return False
    try:
        os.kill(holder["pid"], 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return bool(holder["since"]) and _start_of(holder["pid"]) != holder["since"]


def _start_of(process: int) -> str:
    """When a process began, as Linux counts it: its number may be given again. "" where the system does not say."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = re.sub(r"^.*\)", "", text, flags=re.DOTALL).split()
    return fields[19] if len(fields) > 19 else ""
