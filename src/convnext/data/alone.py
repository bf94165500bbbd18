"""One process at a time: a lock that the system takes back from a process that was killed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from convnext.data.aside import aside
from convnext.data.names import printable
from convnext.files import open_own

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not on this system: two processes may then do the same at once
    fcntl = None


@contextlib.contextmanager
def alone(lock: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds the lock in the file `lock`, which is made; a wait is said. Where the disk has no locks (NFS without its
    lock service, some FUSE), that is said, and work goes on without.

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
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                aside(
                    f"{printable(lock.parent)}: its disk has no locks ({(error.strerror or str(error)).lower()}), so "
                    "two processes may do the same work there at once; start one after the other"
                )
        yield
