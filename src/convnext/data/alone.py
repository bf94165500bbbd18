"""One process at a time: a lock that the system takes back from a process that was killed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import IO

from convnext.data.aside import aside
from convnext.data.names import printable
from convnext.files import open_own

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not on this system: two processes may then do the same at once
    fcntl = None

TOLD, PATIENCE = 60.0, 1800.0
"""Seconds of waiting after which it is said again, and after which it ends."""


@contextlib.contextmanager
def alone(lock: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds the lock in the file `lock`, which is made; a wait is said. Where the disk has no locks (NFS without its
    lock service, some FUSE), that is said, and work goes on without; so where another process holds it for very long.

    Args:
        lock: the file; a link in its place is not followed.
        wait: for another process that holds it.

    Raises:
        BlockingIOError: another process holds it, and `wait` is not set.
        OSError: it cannot be made, or a link is in its place.
    """
    with open_own(lock) as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise
                aside(f"waiting for another process, which holds {printable(lock)}")
                _await(file, lock, fcntl)
            except OSError as error:
                aside(
                    f"{printable(lock.parent)}: its disk has no locks ({(error.strerror or str(error)).lower()}), so "
                    "two processes may do the same work there at once; start one after the other"
                )
        yield


def _await(file: IO[bytes], lock: Path, system: ModuleType) -> None:
    """Waits for a lock, but not for ever: whoever may read the file can hold it."""
    start = told = time.monotonic()
    while True:
        try:
            system.flock(file, system.LOCK_EX | system.LOCK_NB)
        except BlockingIOError:
            passed = time.monotonic() - start
            if passed >= PATIENCE:
                aside(f"{printable(lock)} is still held after {passed / 60:.0f} min; the work goes on without it")
                return
            if time.monotonic() - told >= TOLD:
                told = time.monotonic()
                aside(f"waiting for another process, which holds {printable(lock)}: {passed:.0f} s")
            time.sleep(0.1)
        else:
            return
