"""One process at a time: a lock that the system takes back from a process that was killed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not on this system: two processes may then do the same at once
    fcntl = None


@contextlib.contextmanager
def alone(lock: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds the lock in the file `lock`, which is made.

    Args:
        lock: the file.
        wait: for another process that holds it.

    Raises:
        BlockingIOError: another process holds it, and `wait` is not set.
    """
    with lock.open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
