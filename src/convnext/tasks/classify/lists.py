"""A cell that holds a list of labels, as JSON, Python or NumPy write it: which names it means, or that nobody knows."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from pathlib import Path

from convnext.data.names import count, printable
from convnext.data.sources.rows import Row, lines_of
from convnext.errors import DataError

_BRACKETS = {"[": "]", "{": "}", "(": ")"}
_QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_QUOTED_BY_NUMPY = re.compile(rf"\[\s*{_QUOTED}(?:\s+{_QUOTED})+\s*\]")
_NUMBERS_BY_NUMPY = re.compile(r"\[\s*-?\d+(?:\s+-?\d+)+\s*\]")


def list_of(cell: str) -> list[str] | None:
    """The names in a list, a tuple or a set; None for any other cell.

    NumPy writes no comma between names (`['cat' 'dog']`); Python alone would read that as one name.
    """
    if not is_bracketed(cell):
        return None
    if _QUOTED_BY_NUMPY.fullmatch(cell):
        return [str(ast.literal_eval(name)) for name in re.findall(_QUOTED, cell)]
    if _NUMBERS_BY_NUMPY.fullmatch(cell):
        return cell[1:-1].split()
    for read in (json.loads, _literal):
        try:
            found = read(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list) and all(isinstance(n, str | int) and not isinstance(n, bool) for n in found):
            return [str(name) for name in found]
    return None


def _literal(cell: str) -> list[object]:
    """What a Python list, tuple or set holds; names with no comma between them are not joined.

    Raises:
        ValueError: it is none of these, or holds something else than names and whole numbers.
    """
    found = ast.literal_eval(cell)
    if not isinstance(found, list | tuple | set):
        raise ValueError(cell)
    if len(re.findall(_QUOTED, cell)) != sum(isinstance(name, str) for name in found):
        raise ValueError(cell)
    return list(found)


def is_bracketed(cell: str) -> bool:
    """Whether a cell begins and ends as a list does."""
    return len(cell) > 1 and _BRACKETS.get(cell[0]) == cell[-1]


def refuse_odd_lists(
    table: Path, column: str, cells: Sequence[str], rows: Sequence[Row], lists: Sequence[list[str] | None]
) -> None:
    """Refuses what looks like lists of labels and cannot be read as such.

    Raises:
        DataError: some cells are lists and others are not, all are in brackets and not to be read, or the lists are
            columns of 0 and 1.
    """
    place = f'{printable(table)}: column "{column}"'
    if any(found is not None for found in lists):
        others = [row for row, found in zip(rows, lists, strict=True) if found is None]
        if others:
            cells_ = count(len(rows) - len(others), "cell")
            raise DataError(
                f'{printable(table)}: {cells_} of column "{column}" hold a list of labels, others do '
                f"not ({lines_of(others)}): write all of them alike"
            )
        _refuse_flags(place, [found for found in lists if found is not None])
        return
    odd = [row for row, cell in zip(rows, cells, strict=True) if is_bracketed(cell)]
    if len(odd) == len(rows) and any(re.search(r"[,;'\"\s]", cell[1:-1].strip()) for cell in cells):
        raise DataError(
            f'{place} holds "{printable(cells[0][:40])}" ({lines_of(odd[:1])}), which looks like a list of labels and '
            'cannot be read: write it as JSON, ["cat", "dog"], or join the labels by `|`; '
            "data.label_separator=none takes each cell for the name of one class"
        )


def _refuse_flags(place: str, lists: Sequence[list[str]]) -> None:
    """Lists such as [0, 1, 0] say by their places which classes there are: taken for names, all would be of 0 and 1."""
    lengths = {len(found) for found in lists}
    twice = any(len(set(found)) < len(found) for found in lists)
    if len(lengths) == 1 and twice and {name for found in lists for name in found} <= {"0", "1"}:
        raise DataError(
            f"{place} holds lists of {lengths.pop()} numbers, 0 or 1, as [{', '.join(lists[0][:8])}]: which class each "
            "place stands for is not written there; give a column of 0 and 1 for each class, named after it"
        )
