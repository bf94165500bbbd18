"""Files that are made without following links, and put in their place whole.

A folder that came from elsewhere (a tar keeps links) may hold a link where this program is about to write: opened the
usual way, that would write into, or empty, a file outside. Whatever is written below such a folder goes through here:

    with Part(folder / "result.json") as part:  # .result.json.1f0c….part, made anew, and renamed when it is whole
        part.file.write(content)

    with open_own(folder / ".lock") as file:    # kept as it is, made where it is missing, never through a link
        ...

All raise OSError, with a sentence for the user as its `strerror` where a link or a device is in the way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import IO

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # Windows has none; there `_refuse_link` alone must do
_PLAIN = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_STEM = 150  # characters of a file's name that its part keeps: a name may have 255 bytes
_TRIES = 100


class Part:
    """A file that grows beside its place, under a random name of its own, until `commit` puts it there.

    As a context it commits at the end, and drops what was written where something was raised. What is in the place, a
    link too, is replaced; nothing is ever written through it.

    Args:
        target: the file's place.

    Attributes:
        target: the file's place.
        path: where it grows.
        file: open for writing and reading.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        for attempt in range(_TRIES):
            self.path = target.with_name(f".{target.name[:_STEM]}.{os.urandom(8).hex()}.part")
            try:
                self.file = new_file(self.path)
            except FileExistsError:
                if attempt + 1 == _TRIES:
                    raise
            else:
                break

    def commit(self) -> None:
        """Flushes the file to the disk and puts it in its place; what fails leaves the place as it was.

        Raises:
            OSError: the disk is full, or the place cannot be written; the part is removed.
        """
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            self.path.replace(self.target)
        except BaseException:  # Ctrl-C too
            self.drop()
            raise
        flush_folder(self.target.parent)

    def drop(self) -> None:
        """Removes what was written, where it was not committed."""
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Part:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.commit()
        else:
            self.drop()


def write_whole(target: Path, content: bytes) -> None:
    """Replaces a file by `content`, whole or not at all.

    Raises:
        OSError: it cannot be written; the old file is still there.
    """
    with Part(target) as part:
        part.file.write(content)


def left_parts(target: Path) -> list[Path]:
    """The parts of a file that processes left which were killed. Only who is alone at work there may remove them."""
    name = re.compile(re.escape(f".{target.name[:_STEM]}.") + r"[0-9a-f]{16}\.part")
    try:
        return [item for item in target.parent.iterdir() if name.fullmatch(item.name)]
    except OSError:
        return []


def new_file(path: Path) -> IO[bytes]:
    """A new file, open for writing and reading.

    Raises:
        FileExistsError: something is there already, be it a link that leads nowhere.
        OSError: it cannot be made.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_LINK | _PLAIN, 0o666)
    return os.fdopen(handle, "w+b")


def open_own(path: Path, *, append: bool = False) -> IO[bytes]:
    """A plain file as it is, made where it is missing, open for reading and writing: not truncated, through no link.

    Args:
        path: the file.
        append: whatever is written goes to its end.

    Raises:
        OSError: a link, a pipe or anything else but a plain file is in its place, or it cannot be opened.
    """
    _refuse_link(path)
    flags = os.O_RDWR | os.O_CREAT | _NO_LINK | _PLAIN | (os.O_APPEND if append else 0)
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            _refuse_link(path)
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "this is no plain file; remove it", os.fspath(path))
    return os.fdopen(handle, "a+b" if append else "r+b")


def open_plain(path: Path) -> IO[bytes]:
    """A plain file, open for reading, be it reached through a link. (A pipe in its place would be waited for for ever.)

    Raises:
        FileNotFoundError: there is none.
        OSError: a pipe, a device or a folder is in its place, or it cannot be opened.
    """
    handle = os.open(path, os.O_RDONLY | _PLAIN)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "this is no plain file; give one", os.fspath(path))
    return os.fdopen(handle, "rb")


def open_text(path: Path, encoding: str = "utf-8", newline: str | None = None) -> TextIOWrapper:
    """The same for a text. Raises as `open_plain`."""
    return TextIOWrapper(open_plain(path), encoding=encoding, newline=newline)


def read_own(path: Path, most: int = 1 << 30) -> bytes:
    """The content of a plain file, through no link: what that leads to was never meant to be shown.

    Raises:
        FileNotFoundError: there is none.
        OSError: a link, a pipe or anything else but a plain file is in its place, it has more than `most` bytes, or it
            cannot be read.
    """
    _refuse_link(path)
    handle = os.open(path, os.O_RDONLY | _NO_LINK | _PLAIN)
    with os.fdopen(handle, "rb") as file:
        known = os.fstat(handle)
        if not stat.S_ISREG(known.st_mode):
            raise OSError(errno.EINVAL, "this is no plain file; remove it", os.fspath(path))
        if known.st_size > most:
            raise OSError(
                errno.EFBIG, f"it has {known.st_size:,} bytes; such a file has {most:,} at most", os.fspath(path)
            )
        return file.read()


def own_folder(path: Path) -> Path:
    """A folder, made where it is missing (its parent is there), that is no link to another; gives it back.

    Raises:
        OSError: a link or a file is in its place, or it cannot be made.
    """
    _refuse_link(path)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    _refuse_link(path)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "this is no folder; remove it", os.fspath(path))
    return path


def is_own_folder(path: Path) -> bool:
    """Whether a path is a folder itself, not a link to one: what is in it may then be removed."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def flush_folder(path: Path) -> None:
    """Makes a rename last through a power cut, where the system lets a folder be flushed."""
    if os.name == "posix":
        with contextlib.suppress(OSError):  # some network file systems cannot; the rename itself has succeeded
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise OSError(errno.ELOOP, "this is a link to another place, which is not followed; remove it", os.fspath(path))
