"""The cells of a table's columns of targets become numbers, or are refused with line, value, rule and remedy.

Nothing is guessed: a cell that is no number is no missing value, and `1,234` is neither 1234 nor 1.234 until the table
says which. A decimal comma is read where no other reading is possible, and that is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote

import numpy as np
from numpy.typing import NDArray

from convnext.data.names import count, listed, printable
from convnext.errors import DataError
from convnext.tasks.regress.cells import Kind, is_code, kind_of, parts_of

_EXACT = 2.0**53
"""Whole numbers up to this are kept exactly; longer ones are identifiers rather than measurements."""
_RULE = "every cell must be one number, as 4.5, or empty where the value is not known"


@dataclass(frozen=True)
class TargetColumn:
    """One column of targets.

    Attributes:
        name: of the column.
        values: (n,) one a row, NaN where a value is missing.
        missing: lines of the cells without a value.
        notes: one-line remarks for the user.
    """

    name: str
    values: NDArray[np.float64]
    missing: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TargetTable:
    """Several columns of targets.

    Attributes:
        names: of the columns, T of them.
        values: (n, T), NaN where a value is missing.
        known: (n,) whether a row has any value; the others teach nothing and are left out.
        notes: one-line remarks for the user.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    known: NDArray[np.bool_]
    notes: tuple[str, ...]


def read_targets(columns: Mapping[str, Sequence[str]], lines: Sequence[int], *, table: str = "") -> TargetTable:
    """Read the columns of one or several targets.

    Args:
        columns: the cells of each, n of them.
        lines: where each row stands in its file, (n,), for messages.
        table: the file's name, for messages.

    Raises:
        DataError: a cell that is neither a number nor empty, or a column without any value.
    """
    if not columns:
        raise DataError(f"{_place(table)}no column of targets is named; name at least one, as target")
    read = [read_target(cells, lines, column=name, table=table) for name, cells in columns.items()]
    values = np.column_stack([column.values for column in read])
    known = np.array([not np.isnan(row).all() for row in values], bool)
    notes = [note for column in read for note in column.notes]
    lost = [line for line, has in zip(lines, known, strict=True) if not has]
    if lost:
        notes.append(f"{count(len(lost), 'row')} without any target ({_lines(lost)}): left out")
    return TargetTable(tuple(columns), values, known, tuple(notes))


def read_target(cells: Sequence[str], lines: Sequence[int], *, column: str, table: str = "") -> TargetColumn:
    """Read one column; see `read_targets`."""
    if len(cells) != len(lines):
        raise ValueError(f"{len(cells)} cells of {len(lines)} lines; there must be one of each")
    cells = [cell.strip() for cell in cells]
    kinds = [kind_of(cell) for cell in cells]
    comma = _uses_decimal_commas(cells, kinds, lines, column, table)
    readable: set[Kind] = {"number", "missing", "decimal comma"}
    if comma:
        readable.add("ambiguous comma")
    wrong = [at for at, kind in enumerate(kinds) if kind not in readable]
    if wrong:
        raise DataError(_refusal(wrong, cells, kinds, lines, column, table))
    if all(kind == "missing" for kind in kinds):
        raise DataError(
            f'{_place(table)}column "{printable(column)}" has no value in {count(len(cells), "row")}; some must have '
            "one: fill it, or name another column"
        )
    numbers = ["nan" if kind == "missing" else cell.replace(",", ".") for cell, kind in zip(cells, kinds, strict=True)]
    values = np.array([float(number) for number in numbers])
    missing = [line for line, kind in zip(lines, kinds, strict=True) if kind == "missing"]
    return TargetColumn(column, values, tuple(missing), tuple(_notes(column, cells, kinds, values, missing)))


def _uses_decimal_commas(
    cells: Sequence[str], kinds: Sequence[Kind], lines: Sequence[int], column: str, table: str
) -> bool:
    """Whether the column is written with decimal commas: at least one comma can be nothing else, and there is no point.

    Raises:
        DataError: commas and points.
    """
    comma = next((at for at, kind in enumerate(kinds) if kind == "decimal comma"), None)
    point = next((at for at, kind in enumerate(kinds) if kind == "number" and "." in cells[at]), None)
    if comma is not None and point is not None:
        raise DataError(
            f'{_place(table)}column "{printable(column)}" has a decimal comma in line {lines[comma]} '
            f'("{cells[comma]}") and a decimal point in line {lines[point]} ("{cells[point]}"); one sign must part all '
            "decimals: write points"
        )
    return comma is not None


def _refusal(
    wrong: Sequence[int], cells: Sequence[str], kinds: Sequence[Kind], lines: Sequence[int], column: str, table: str
) -> str:
    """What to say about the cells that are no numbers: the first, how many more, the rule and what to do."""
    first = wrong[0]
    same = [at for at in wrong if kinds[at] == kinds[first]]
    what, remedy = _remedy(cells[first], kinds[first])
    place = f"{printable(table)}, line {lines[first]}" if table else f"line {lines[first]}"
    also = (
        f" (so {'is' if len(same) == 2 else 'are'} {_lines([lines[at] for at in same[1:]])})" if len(same) > 1 else ""
    )
    others = count(len(wrong) - len(same), "other cell is", "other cells are")
    more = f"; {others} no number either" if len(wrong) > len(same) else ""
    shown = printable(cells[first][:40])
    return f'{place}: "{shown}" in column "{printable(column)}" {what}{also}{more}; {_RULE}: {remedy}'


def _remedy(cell: str, kind: Kind) -> tuple[str, str]:
    """What a cell is, and what to do about it."""
    if kind == "unit":
        number, unit = parts_of(cell)
        return "holds a unit", f"write {number} alone, and the unit once, as {quote(f'task.unit={printable(unit)}')}"
    if kind == "ambiguous comma":
        return (
            f"may be {cell.replace(',', '')} or {cell.replace(',', '.')}",
            "write a decimal point, and no sign between thousands",
        )
    return {
        "grouped": ("has signs or spaces between its digits", "write a decimal point, and no sign between thousands"),
        "infinite": ("is not finite", "write a value, or empty the cell"),
        "boolean": ("is true or false", "for a question of yes or no, say task.kind=classify; else write numbers"),
        "date": ("looks like a date or a time", "write a number, such as days or hours since a beginning"),
        "list": ("holds several numbers", "give each target a column of its own, and name them all as targets"),
        "span": ("is no single number", "write one number, such as the middle, or empty the cell"),
    }.get(kind, ("is text", "write the number, or empty the cell; if the column holds classes, say task.kind=classify"))


def _notes(
    column: str, cells: Sequence[str], kinds: Sequence[Kind], values: NDArray[np.float64], missing: Sequence[int]
) -> list[str]:
    """Remarks on what was read otherwise than it may have been meant."""
    name, notes = printable(column), []
    commas = [at for at, kind in enumerate(kinds) if kind in ("decimal comma", "ambiguous comma")]
    if commas:
        longest = max(commas, key=lambda at: (kinds[at] == "ambiguous comma", -at))
        example = f"{cells[longest]} is read as {cells[longest].replace(',', '.')}"
        notes.append(f'column "{name}": {count(len(commas), "number")} with a decimal comma: {example}')
    if missing:
        notes.append(f'column "{name}": {count(len(missing), "cell")} without a value ({_lines(missing)})')
    codes = [cell for cell in cells if is_code(cell)]
    if codes:
        plain = codes[0].lstrip("0")[:40] or "0"
        notes.append(f'column "{name}": {codes[0][:40]} is read as {plain}: is it a number, or a code?')
    if (np.abs(values[~np.isnan(values)]) > _EXACT).any():
        notes.append(f'column "{name}": holds numbers of more digits than are kept exactly: are they measurements?')
    return notes


def _place(table: str) -> str:
    return f"{printable(table)}: " if table else ""


def _lines(lines: Sequence[int]) -> str:
    """`line 3`, or `lines 3, 4, 9 and 12 more`."""
    return f"line{'' if len(lines) == 1 else 's'} {listed(map(str, lines), 5)}"
