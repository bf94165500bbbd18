"""Walking through folders: which files count as pictures, and what is passed over, wherever pictures are looked for.

Links to folders are followed; a ring of links ends where it closes. Hidden files and folders (names that begin with a
dot, such as `.DS_Store`, `._x.jpg` and `.ipynb_checkpoints`) and the leavings of other programs (`__MACOSX`,
`Thumbs.db`, `@eaDir`) are passed over in silence.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from convnext.data.names import printable
from convnext.data.pictures.decode import PICTURE_SUFFIXES
from convnext.errors import DataError

_LEAVINGS = frozenset(
    ["__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information"]
)


@dataclass
class Found:
    """What a walk through folders came across, in a fixed order.

    Attributes:
        pictures: files with a suffix of pictures.
        unreadable: places that cannot be opened at all, each with the reason.
        others: files that are not pictures, by suffix.
    """

    pictures: list[Path] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def add(self, other: Found) -> None:
        """Takes over what another walk found."""
        self.pictures.extend(other.pictures)
        self.unreadable.extend(other.unreadable)
        self.others.update(other.others)

    def sort_file(self, path: Path) -> None:
        """Puts a file where its suffix says."""
        suffix = path.suffix.lower()
        if suffix in PICTURE_SUFFIXES:
            self.pictures.append(path)
        else:
            self.others[suffix or "without suffix"] += 1


@dataclass
class _Level:
    """A folder that a walk is in: what is left of it, what identifies it, and how many pictures were found before."""

    folder: Path
    left: Iterator[os.DirEntry[str]]
    identity: tuple[int, int]
    before: int


def walk(folder: Path) -> Found:
    """The pictures of a folder, at any depth, as training and prediction find them."""
    found = Found()
    levels: list[_Level] = []
    _enter(folder, levels, found)
    while levels:
        level = levels[-1]
        entry = next(level.left, None)
        if entry is None:
            levels.pop()
            empty = len(found.pictures) == level.before
            if levels and empty and level.folder.suffix.lower() in PICTURE_SUFFIXES:
                found.unreadable.append((level.folder, "a folder, not a picture"))
        elif is_hidden(entry.name):
            continue
        elif is_folder(path := Path(entry.path)):
            _enter(path, levels, found)
        else:
            found.sort_file(path)
    return found


def _enter(folder: Path, levels: list[_Level], found: Found) -> None:
    """Opens a folder and goes down into it, unless it is one of those that the walk is in already."""
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        found.unreadable.append((folder, f"the folder cannot be opened: {lower(error)}"))
        return
    identity = (status.st_dev, status.st_ino)
    if all(level.identity != identity for level in levels):
        levels.append(_Level(folder, iter(ordered), identity, len(found.pictures)))


def top(folder: Path) -> tuple[list[Path], Found]:
    """The folders directly inside one, by name, and what files lie beside them.

    Raises:
        DataError: the folder cannot be opened.
    """
    folders: list[Path] = []
    found = Found()
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names, not paths
    except OSError as error:
        raise DataError(f"{printable(folder)}: the folder cannot be opened: {lower(error)}") from error
    for name in names:
        path = folder / name
        if is_hidden(name):
            continue
        if is_folder(path):
            folders.append(path)
        elif _leads_nowhere(path) and path.suffix.lower() not in PICTURE_SUFFIXES:
            found.unreadable.append((path, "a link to a folder or file that does not exist"))
        else:
            found.sort_file(path)
    return folders, found


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over in silence."""
    return name.startswith(".") or name.lower() in _LEAVINGS


def is_folder(path: Path) -> bool:
    """Also through a link; False for what cannot be looked at, such as a link to itself."""
    try:
        return path.is_dir()
    except OSError:
        return False


def lower(error: OSError) -> str:
    """The system's reason, to go on with in a sentence."""
    return (error.strerror or str(error)).lower()


def _leads_nowhere(path: Path) -> bool:
    try:
        return path.is_symlink() and not path.exists()
    except OSError:
        return True
