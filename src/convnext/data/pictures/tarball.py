"""Pictures inside tar files: a path that names a file's place in a tar, and what lies in a tar.

A member of a tar is named like a file in a folder, `SHARDS/train-000003.tar/@OFFSET+LENGTH`: whoever reads pictures by
their path reads these too, by one look at the right place of the tar, without unpacking anything.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import IO

from convnext.data.names import printable
from convnext.data.pictures.fetch import SOURCE, fetch_tar
from convnext.data.pictures.tar_headers import BLOCK, Member, TarDamage, plain_files
from convnext.errors import DataError, SourceLost
from convnext.files import open_plain
from convnext.places import cache_dir

_MEMBER = re.compile(r"@(\d+)\+(\d+)")


def member_path(tar: Path, offset: int, length: int) -> Path:
    """The path of a member."""
    return tar / f"@{offset}+{length}"


def parse(path: Path) -> tuple[Path, int, int] | None:
    """The tar, offset and length that a member's path names; None for any other path."""
    found = _MEMBER.fullmatch(path.name)
    return (path.parent, int(found[1]), int(found[2])) if found else None


def open_member(path: Path) -> BytesIO | None:
    """A member's bytes as a file, or None for a path that names no member.

    Raises:
        SourceLost: the tar cannot be opened, or ends before the member does.
    """
    place = parse(path)
    if place is None:
        return None
    tar, offset, length = place
    try:
        with _opened(tar) as file:
            file.seek(offset)
            data = file.read(length)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SourceLost(f"{printable(tar)}: cannot be read: {reason}; is its disk still there?") from None
    if len(data) < length:
        raise SourceLost(f"{printable(path)}: the tar ends after {offset + len(data):,} bytes; copy it again")
    return BytesIO(data)


def member_name(path: Path) -> str:
    """What the member that a path names is called in its tar, as far as its header says (100 bytes and a folder)."""
    place = parse(path)
    if place is None:
        return path.name
    tar, offset, _ = place
    with _opened(tar) as file:
        file.seek(max(0, offset - BLOCK))
        header = file.read(BLOCK)
    name, folder = (
        part.split(b"\0")[0].decode("utf-8", "backslashreplace") for part in (header[:100], header[345:500])
    )
    return f"{folder}/{name}" if folder and header[257:262] == b"ustar" and header[263:265] == b"00" else name


def _opened(tar: Path) -> IO[bytes]:
    """A tar, fetched first where it comes from a server; another process may remove it again to make room."""
    folder = next((place for place in (tar.parent, tar.parent.parent) if (place / SOURCE).is_file()), None)
    if folder is not None and is_fetched(folder):
        for _ in range(5):
            fetch_tar(tar, folder)
            with contextlib.suppress(FileNotFoundError):
                return open_plain(tar)
    return open_plain(tar)


def is_fetched(folder: Path) -> bool:
    """Whether tars of a folder come from a server: one in the cache. Elsewhere a stranger may have said so, and would
    have this computer ask addresses, and remove tars."""
    try:
        return folder.absolute().is_relative_to((cache_dir() / "shards").absolute())
    except RuntimeError:  # no home folder
        return False


def members(tar: Path) -> Iterator[Member]:
    """The plain files in a tar, in order.

    Raises:
        DataError: it is no tar, or it is damaged or cut off.
    """
    try:
        with open_plain(tar) as file:
            yield from plain_files(file, 0, os.fstat(file.fileno()).st_size)
    except TarDamage as error:
        raise DataError(f"{printable(tar)}: not a whole tar ({printable(str(error))}); copy it again") from None
    except OSError as error:
        raise DataError(f"{printable(tar)}: cannot be read: {(error.strerror or str(error)).lower()}") from None


def is_tars(root: Path) -> bool:
    """Whether a place holds a tar for each class: a folder of n....tar files, or one tar of such tars."""
    if root.is_dir():
        tars = list(root.glob("n*.tar"))
        return len(tars) > 1 and not any(item.is_dir() for item in root.iterdir())
    return root.suffix == ".tar" and root.is_file() and next(members(root), Member("", 0, 0)).name.endswith(".tar")


def nested(tar: Path) -> Iterator[tuple[str, Iterator[Member]]]:
    """(name of the inner tar, its members) of a tar of tars; offsets count in the outer one.

    Raises:
        DataError: as `members`.
    """
    for inner in members(tar):
        if inner.name.endswith(".tar"):
            yield inner.name, _inner(tar, inner)


def _inner(tar: Path, inner: Member) -> Iterator[Member]:
    try:
        with open_plain(tar) as file:
            yield from plain_files(file, inner.offset, inner.offset + inner.length)
    except TarDamage as error:
        where = f"{printable(tar)}, {printable(inner.name)}"
        raise DataError(f"{where}: not a whole tar ({printable(str(error))}); copy it again") from None
    except OSError as error:
        raise DataError(f"{printable(tar)}: cannot be read: {(error.strerror or str(error)).lower()}") from None
