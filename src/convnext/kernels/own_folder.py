"""A folder of programs that this user made: nobody else may have written what is loaded from it.

Whoever may write to a folder can put a library of theirs into it, and a seal that fits. So the folder must belong to
this user and be closed to others, and so must the files. It is opened once, and everything in it is reached through
the open handle: should somebody swap a folder further up, nothing changes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from convnext.data.aside import aside

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not on this system, for which there are no kernels either
    fcntl = None

_OTHERS = stat.S_IWGRP | stat.S_IWOTH
SAY_AFTER, GIVE_UP_AFTER = 3.0, 900.0  # seconds of waiting for another process
BUILDING = "building-"
"""What the names of folders begin with in which something is being built."""


class NotOurs(OSError):
    """A folder or file of programs that others may have written."""


class OwnFolder:
    """A folder that belongs to this user and that nobody else may write, open.

    Args:
        path: the folder; a link to one counts as that one.
        make: make it, closed to others, where it is missing.

    Attributes:
        path: as given, for messages.
        place: a path to it that leads to this very folder for as long as it is open, for programs too that are started.

    Raises:
        NotOurs: it belongs to somebody else, or others may write to it.
        OSError: it is missing and cannot be made.
    """

    def __init__(self, path: Path, *, make: bool = False) -> None:
        if make:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
        self.path = path
        self.handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            refuse_foreign(os.fstat(self.handle), path)
        except NotOurs:
            os.close(self.handle)
            raise
        self.place = Path(f"/proc/{os.getpid()}/fd/{self.handle}")

    def __enter__(self) -> OwnFolder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.handle)

    def open(self, name: str) -> int:
        """A handle of a file in it, for reading.

        Raises:
            NotOurs: it belongs to somebody else, others may write to it, or it is a link.
            OSError: it is not there.
        """
        try:
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.handle)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise NotOurs(errno.EPERM, f"{self.path / name} is a link to another place; remove it") from None
            raise
        try:
            found = os.fstat(handle)
            refuse_foreign(found, self.path / name)
            if not stat.S_ISREG(found.st_mode):
                raise NotOurs(errno.EPERM, f"{self.path / name} is no plain file; remove it")
        except NotOurs:
            os.close(handle)
            raise
        return handle

    def read(self, name: str) -> bytes:
        """The content of a file in it. Raises as `open`."""
        with os.fdopen(self.open(name), "rb") as file:
            return file.read()

    def put(self, made: Path, name: str) -> None:
        """Moves a file that was made inside this folder to its name, closed to others."""
        made.chmod(0o700)
        made.replace(self.place / name)

    @contextlib.contextmanager
    def alone(self, name: str, what: str) -> Iterator[None]:
        """Holds the lock in a file of this folder; where others hold it, that is said, and not for ever waited for.

        Raises:
            TimeoutError: another process holds it for too long.
            OSError: the lock cannot be made.
        """
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.handle)
        try:
            _lock(handle, self.path / name, what)
            yield
        finally:
            os.close(handle)

    def clean(self) -> None:
        """Removes what killed builds left; only who is alone may.

        Folders of an older version, which had locks of its own, must be so old that nobody builds in them any more.
        """
        for item in self.place.iterdir():
            found = item.lstat()
            old = item.name.startswith("tmp") and time.time() - found.st_mtime > 2 * GIVE_UP_AFTER
            if stat.S_ISDIR(found.st_mode) and (item.name.startswith(BUILDING) or old):
                shutil.rmtree(item, ignore_errors=True)


def refuse_foreign(found: os.stat_result, path: Path) -> None:
    """Raises NotOurs for what belongs to somebody else, or what others may write to."""
    if found.st_uid != os.geteuid():
        raise NotOurs(
            errno.EPERM,
            f"{path} belongs to user {found.st_uid}, and this is user {os.geteuid()}; set CONVNEXT_CACHE to a folder "
            "of your own",
        )
    if found.st_mode & _OTHERS:
        raise NotOurs(
            errno.EPERM,
            f"others may write to {path}, so it may hold programs of theirs; remove it, or set CONVNEXT_CACHE to a "
            "folder of your own",
        )


def _lock(handle: int, path: Path, what: str) -> None:
    """Waits for the lock of an open file; a file system without locks is gone on with."""
    if fcntl is None:
        return
    begun, said = time.monotonic(), False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - begun
            if waited > GIVE_UP_AFTER:
                raise TimeoutError(errno.ETIMEDOUT, f"another process holds {path} since {waited:.0f} s") from None
            if waited > SAY_AFTER and not said:
                aside(f"waiting for another process that {what} (it holds {path})")
                said = True
            time.sleep(0.1)
        except OSError:
            return
        else:
            return
