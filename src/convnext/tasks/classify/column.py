"""The cells of a table's label column become class names; so do columns of 0 and 1, one for each class.

Several labels in one cell are joined by `|`, or stand in a JSON list. Where cells look joined by something else,
nothing is guessed: `data.label_separator` says whether they are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from convnext.data.names import count, listed, printable
from convnext.data.sources.columns import LABEL_NAMES, Columns, find, key_of, require
from convnext.data.sources.flags import is_flag, is_true
from convnext.data.sources.missing import is_missing
from convnext.data.sources.rows import Row, lines_of
from convnext.data.sources.target import Told
from convnext.errors import DataError
from convnext.tasks.classify.lists import list_of, refuse_odd_lists
from convnext.tasks.classify.numeric import or_numbers

SETTING = "data.label_separator"
NONE = "|"
"""A cell that says: none of the classes."""
_WORDS = {"semicolon": ";", "comma": ",", "bar": "|", "space": " ", "slash": "/", "plus": "+", "and": "&"}
_SIGNS = (";", "；", ",", "，", "、", "/", "+", "&", " and ", "_", "-", ":", " ")
"""What people put between several labels, the clearest first."""
_ALSO_IN_NAMES = frozenset([" and ", "_", "-", ":"])
"""Signs within many a name: they join labels only where all that they part are names by themselves."""


@dataclass
class Labels(Told):
    """What a table says about classes: `truths` are each row's names, sorted.

    Attributes:
        multi_label: a picture may have several classes, or none.
    """

    multi_label: bool = False


def read_labels(
    table: Path,
    columns: Sequence[str],
    rows: Sequence[Row],
    spec: Columns,
    taken: Collection[str],
    known: Collection[str],
) -> Labels:
    """Every row's class names.

    Args:
        table: the file, for messages.
        columns: all that it has.
        rows: its rows.
        spec: what the user says about columns.
        taken: columns that hold something else, and so no labels.
        known: the classes of a model, where there is one: a cell that is one of them is a single name.

    Raises:
        DataError: there is no column of labels, a cell is empty, or it cannot be told what a cell means.
    """
    column = find(columns, spec.label)
    if column is None and (flags := _flag_columns(table, columns, rows, spec, taken, known)):
        return _from_flags(rows, flags)
    if column is None:
        left = [name for name in columns if name and name not in taken]
        names = (*LABEL_NAMES, key_of(left[0])) if len(left) == 1 else LABEL_NAMES
        _refuse_nearly_flags(table, left, rows, spec)
        try:
            require(table, columns, spec.label, "data.label_column", names, taken)
        except DataError as error:
            raise DataError(f"{error}{'' if known else or_numbers(rows, left)}") from None
    column = require(table, columns, spec.label, "data.label_column", LABEL_NAMES)
    return _from_cells(table, rows, column, spec, known)


def _flag_columns(
    table: Path,
    columns: Sequence[str],
    rows: Sequence[Row],
    spec: Columns,
    taken: Collection[str],
    known: Collection[str],
) -> list[str]:
    """The columns of a one-hot table: those that are named, those of a model's classes, or all of 0 and 1 where nothing
    is called a label."""
    named = [name.strip() for name in spec.label.split(",")]
    if len(named) > 1 and all(name in columns for name in named):
        wrong = [(name, row) for name in named for row in rows if not is_flag(row[name])]
        if wrong:
            name, row = wrong[0]
            raise DataError(
                f'{printable(table)}, line {row.line}: "{printable(row[name][:40])}" in column "{name}" is neither 0 '
                "nor 1, as the columns of data.label_column must be where there are several"
            )
        return named
    free = [name for name in columns if name and name not in taken]
    if len(known) > 1 and set(known) <= set(free) and all(is_flag(row[name]) for name in known for row in rows):
        return [name for name in free if name in known]
    if spec.label != "label" or any(key_of(name) in LABEL_NAMES for name in free):
        return []
    flags = [name for name in free if all(is_flag(row[name]) for row in rows)]
    return flags if len(flags) > 1 else []


def _refuse_nearly_flags(table: Path, left: Sequence[str], rows: Sequence[Row], spec: Columns) -> None:
    """Columns that are of 0 and 1 but for some cells, as -1 for "uncertain" or nothing for "not looked at"."""
    nearly = [name for name in left if sum(is_flag(row[name]) for row in rows) > len(rows) / 2]
    wrong = [(name, row) for name in nearly for row in rows if not is_flag(row[name])]
    if len(nearly) < 2 or not wrong or spec.label != "label" or any(key_of(name) in LABEL_NAMES for name in left):
        return
    name, row = wrong[0]
    cell = f'"{printable(row[name][:40])}"' if row[name] else "nothing"
    raise DataError(
        f'{printable(table)}, line {row.line}: {cell} in column "{name}", where 0 or 1 was expected: a column for each '
        f"class ({listed(nearly, 5)}) holds 0 and 1 alone; decide for each such cell, or say which column holds the "
        "names of the classes, as data.label_column=NAME"
    )


def _from_flags(rows: Sequence[Row], flags: Sequence[str]) -> Labels:
    """A one-hot table: each class is a column, and a row has those that are 1."""
    names = {name: unicodedata.normalize("NFC", name) for name in flags}
    found = [tuple(sorted(names[name] for name in flags if is_true(row[name]))) for row in rows]
    several = any(len(labels) != 1 for labels in found)
    notes = [
        f"the classes are the {len(flags)} columns of 0 and 1: {listed(flags, 8)}"
        + ("; rows have several, or none" if several else "")
    ]
    unused = [name for name in flags if not any(is_true(row[name]) for row in rows)]
    if unused:
        notes.append(f"no row is of class {listed(unused)}: left out")
    return Labels(found, tuple(flags), notes, several)


def _from_cells(table: Path, rows: Sequence[Row], column: str, spec: Columns, known: Collection[str]) -> Labels:
    cells = [unicodedata.normalize("NFC", row[column]) for row in rows]
    notes: list[str] = []
    sign = _separator(table, column, cells, rows, spec, known, notes)
    none = sign if sign not in ("", " ", "json") else NONE
    remedy = f"write `{none}` for a picture with none of the classes"
    if sign in ("", " ") or not (sign == "json" or any(sign in cell for cell in cells)):
        remedy = "write a label or remove the row"
    empty = [row for row, cell in zip(rows, cells, strict=True) if not cell]
    if empty:
        raise DataError(f'{printable(table)}: nothing in column "{column}" in {lines_of(empty)}: {remedy}')
    parts = [_parts(cell, sign) for cell in cells]
    names = [tuple(sorted({name.strip() for name in found if name.strip()})) for found in parts]
    if not spec.settled:
        _refuse_missing(table, column, rows, names, known)
    if sign == "json":
        several = any(len(found) != 1 for found in names)
    else:
        several = sign != "" and any(sign in cell or cell == NONE for cell in cells)
    if sign == "json" and not spec.separator:
        notes.append(f'column "{column}" holds lists of labels: each name is a class')
    raw = {row[column] for row in rows}
    twice = sorted({unicodedata.normalize("NFC", cell) for cell in raw - set(cells)} & raw)
    if twice:
        notes.append(f"{listed(twice, 3)}: written in two Unicode forms (NFC and NFD), taken for one class")
    return Labels(names, (column,), notes, several)


def _refuse_missing(
    table: Path, column: str, rows: Sequence[Row], names: Sequence[tuple[str, ...]], known: Collection[str]
) -> None:
    """Refuses what a program writes for a missing label, as an empty cell is refused."""
    missing = {name for found in names for name in found if is_missing(name)} - set(known)
    if not missing:
        return
    wrong = [row for row, found in zip(rows, names, strict=True) if missing & set(found)]
    shown = " and ".join(f'"{printable(name)}"' for name in sorted(missing))
    raise DataError(
        f'{printable(table)}: {shown} in column "{column}" in {lines_of(wrong)}, which is written where a label is '
        "missing: write a label or remove the row; if it is the name of a class, name all classes, as "
        f"""{quote(f'data.classes=["a","{sorted(missing)[0]}"]')}"""
    )


def _separator(
    table: Path,
    column: str,
    cells: Sequence[str],
    rows: Sequence[Row],
    spec: Columns,
    known: Collection[str],
    notes: list[str],
) -> str:
    """What stands between the labels of a cell; "" where each cell is one name. Adds its remarks to `notes`."""
    if spec.separator:
        return _asked(spec.separator)
    if set(cells) <= set(known):
        return ""
    lists = [list_of(cell) for cell in cells]
    if not spec.settled:
        refuse_odd_lists(table, column, cells, rows, lists)
    if None not in lists:
        return "json"
    sign = "|" if any("|" in cell for cell in cells) else ""
    if not spec.settled:
        names = {part.strip() for cell in cells for part in (cell.split(sign) if sign else [cell])}
        notes += _joined(table, column, {n for n in names if n and not is_missing(n)} - set(known))
    return sign


def _asked(word: str) -> str:
    """The sign that a user names."""
    if word in _SIGNS:
        return word
    if word.strip().casefold() == "none":
        return ""
    if word.strip().casefold() == "json":
        return "json"
    sign = _WORDS.get(word.strip().casefold(), word if word.isspace() else word.strip())
    return " " if sign.isspace() else sign


def _parts(cell: str, sign: str) -> Sequence[str]:
    if cell == NONE:
        return ()
    if sign == "":
        return (cell,)
    if sign == " ":
        return cell.split()
    if sign == "json":
        found = list_of(cell)
        return (cell,) if found is None else found
    return cell.split(sign)


def _joined(table: Path, column: str, names: Collection[str]) -> list[str]:
    """Refuses cells that look like several labels; a remark where they hold a sign that may join some, or none."""
    for sign in _SIGNS:
        joined = {name: parts for name in names if (parts := _split(name, sign)) != [name]}
        certain = _certainty(sign, joined, names) if joined else 0
        if not certain:
            continue
        first = printable(min(joined, key=lambda name: (len(name), name)))
        shown = "a space" if sign == " " else f'"{sign.strip()}"'
        word = next(
            (word for word, its in _WORDS.items() if its == sign), sign if sign == sign.strip() else f'"{sign}"'
        )
        splits = quote(f"{SETTING}={word}")
        if certain == 1:
            return [f'"{first}" in column "{column}" is taken for the name of one class; {splits} would split it']
        raise DataError(
            f'{printable(table)}: "{first}" in column "{column}" may be several labels joined by {shown}: {splits} '
            f"splits {count(len(joined), 'such name')}; {SETTING}=none takes each for the name of one class"
        )
    return []


def _split(name: str, sign: str) -> list[str]:
    """The labels that a sign joins; a sign at either end is one too many, and stands for nothing."""
    return [part.strip() for part in name.split(sign if sign != " " else None) if part.strip()]


def _certainty(sign: str, joined: dict[str, list[str]], names: Collection[str]) -> int:
    """2 where joined names are likely to be several labels, 1 where they may be, 0 where nothing speaks for it.

    A semicolon always joins. After a comma one part that stands elsewhere too, alone or in other company, is enough
    ("tench, Tinca tinca" has none). Words are shared by names without joining labels ("golden retriever"), so of those
    all must be, and one must stand alone, or the names have different numbers of them. Of the signs that many a name
    has ("cat_dog") all parts must stand alone.
    """
    if sign in (";", "；"):
        return 2
    if sign in _ALSO_IN_NAMES:
        return 2 * all(len(found) > 1 and set(found) <= set(names) for found in joined.values())
    if any(name.startswith(sign) or name.endswith(sign) for name in joined if sign in (",", "，", "、")):
        return 2
    homes: dict[str, set[str]] = {}
    for name in names:
        for part in _split(name, sign):
            homes.setdefault(part, set()).add(name)
    parts = {part for found in joined.values() for part in found}
    shared = {part for part in parts if len(homes[part]) > 1}
    alone = any(part in names for part in parts)
    if sign in (",", "，", "、"):
        return 2 if shared else 1
    lengths = {len(found) for found in joined.values()}
    return 2 if shared == parts and (alone or len(lengths) > 1) else int(alone)
