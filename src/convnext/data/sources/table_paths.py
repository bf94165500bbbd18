"""The files that a table names: relative to its folder or absolute, in either Unicode form, with either slash.

A table may name files outside its folder, as many people's do; that is told, since a table from elsewhere should not.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from convnext.data.names import count, listed, printable
from convnext.data.sources.rows import Row, lines_of
from convnext.errors import DataError


def read_paths(table: Path, rows: Sequence[Row], column: str) -> tuple[list[Path], list[str]]:
    """Every row's picture, and remarks.

    Raises:
        DataError: a cell is empty, leads to no file, or to several whose names look the same.
    """
    empty = [row for row in rows if not row[column]]
    if empty:
        raise DataError(
            f'{printable(table)}: nothing in column "{column}" in {lines_of(empty)}: write the picture\'s path there '
            "or remove the row"
        )
    forms = _Forms(table)
    paths: list[Path] = []
    missing: list[str] = []
    for row in rows:
        path = forms.existing(row[column])
        if path is None:
            missing.append(row[column])
        else:
            paths.append(_plain(path))
    if missing:
        raise DataError(
            f"{printable(table)}: {len(missing):,} of {count(len(rows), 'path leads', 'paths lead')} to no file, "
            f"such as {listed(missing[:5])}: paths are relative to {printable(table.parent)}; "
            f"correct them or drop the rows{_suffix_hint(table, missing)}"
        )
    return paths, [*forms.notes(), *_outside(table, paths)]


def _plain(path: Path) -> Path:
    """Without `..`, so that one file has one name; as it is where a link on the way gives `..` another meaning."""
    if ".." not in path.parts:
        return path
    plain = Path(os.path.normpath(path))
    return plain if plain.exists() and path.exists() and plain.samefile(path) else path


def _outside(table: Path, paths: Sequence[Path]) -> list[str]:
    """A remark where pictures do not lie below the table's folder."""
    outside = [path for path in paths if not path.is_relative_to(table.parent)]
    if not outside:
        return []
    lie = count(len(outside), "picture lies", "pictures lie")
    return [f"{lie} outside the table's folder, such as {printable(outside[0])}"]


def _suffix_hint(table: Path, missing: Sequence[str]) -> str:
    """A hint where names stand without the suffix that the files have."""
    first = table.parent / missing[0]
    try:
        close = sorted(item.name for item in first.parent.glob(f"{_literal(first.name)}.*"))
    except OSError:
        return ""
    return f' (there is {printable(close[0])}: the cells lack "{Path(close[0]).suffix}")' if close else ""


def _literal(name: str) -> str:
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


class _Forms:
    """Finds files whose names are written in another Unicode form than in the table, as a Mac does."""

    def __init__(self, table: Path) -> None:
        self.table = table
        self.listings: dict[Path, dict[str, list[str]]] = {}
        self.other: list[str] = []  # cells in another form than the file's name
        self.twins: list[str] = []  # cells with a file in each form

    def existing(self, cell: str) -> Path | None:
        """The file that a cell names, or None. (A dangling link is there, and will be found broken.)"""
        words = [cell, cell.replace("\\", "/")] if "\\" in cell else [cell]
        for word in words:
            path = self.table.parent / word
            if _is_there(path):
                if not word.isascii() and self._has_twin(path):
                    self.twins.append(cell)
                return path
        for word in words:
            if word.isascii():
                continue
            found = self._in_other_form(word)
            if found is not None:
                self.other.append(cell)
                return found
        return None

    def notes(self) -> list[str]:
        """What is to be told."""
        notes = []
        if self.other:
            names = count(len(self.other), "file has", "files have")
            notes.append(
                f"{names} a name in another Unicode form than in the table (NFC, NFD) and were found, such as "
                f"{printable(self.other[0])}"
            )
        if self.twins:
            names = count(len(self.twins), "name stands", "names stand")
            notes.append(
                f"{names} for two files, one in each Unicode form (NFC, NFD), such as {printable(self.twins[0])}: the "
                "one that is spelt as in the table was taken"
            )
        return notes

    def _has_twin(self, path: Path) -> bool:
        return len(self._inside(path.parent).get(unicodedata.normalize("NFC", path.name), [])) > 1

    def _in_other_form(self, word: str) -> Path | None:
        start = Path(word).anchor
        place = Path(start) if start else self.table.parent
        for part in Path(word).parts[1 if start else 0 :]:
            if _is_there(place / part):
                place = place / part
                continue
            names = self._inside(place).get(unicodedata.normalize("NFC", part), [])
            if len(names) > 1:
                raise DataError(
                    f"{printable(self.table)}: {printable(word)} may be one of {len(names)} files in "
                    f"{printable(place)}, whose names differ in their Unicode form alone: rename all but one"
                )
            if not names:
                return None
            place = place / names[0]
        return place

    def _inside(self, folder: Path) -> dict[str, list[str]]:
        """The names in a folder by their composed form."""
        if folder not in self.listings:
            found: dict[str, list[str]] = {}
            try:
                names = os.listdir(folder)  # noqa: PTH208 - names, not paths
            except OSError:
                names = []
            for name in names:
                found.setdefault(unicodedata.normalize("NFC", name), []).append(name)
            self.listings[folder] = found
        return self.listings[folder]


def _is_there(path: Path) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a zero byte
        return False
