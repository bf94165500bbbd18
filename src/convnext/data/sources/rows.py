"""A CSV file becomes rows: each cell under its column, or a refusal that names the line.

Comma, semicolon and tab are recognised as separators from the first line, or from `sep=;` above it. UTF-8, with or
without a mark. Nothing is dropped and nothing guessed: a row with more cells than the header names, a quote that is
never closed, and a cell that has swallowed the rows after it are refused.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from convnext.data.names import count, listed, printable
from convnext.data.pictures.decode import PICTURE_SUFFIXES
from convnext.errors import DataError
from convnext.files import open_text

_SIGNS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SEP = re.compile(r'\s*"?sep=([,;\t|])"?[,;\t|]*\s*', re.IGNORECASE)
"""A first line by which Excel is told what parts the cells; programs that save anew put their own signs behind it."""


@dataclass(frozen=True)
class Row:
    """Where a row begins in its file, and its cells by column."""

    line: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]


def read_rows(table: Path) -> tuple[list[str], list[Row], list[str]]:
    """The columns in their order, all rows that are not blank, and remarks. A column with cells and no name gets one;
    without cells, its name is "".

    Raises:
        DataError: the file is no table in UTF-8, or a row cannot be what its writer meant.
    """
    try:
        with open_text(table, "utf-8-sig", "") as file:
            header = file.readline()
            if said := _SEP.fullmatch(header):
                sign, above = said[1], 1
            else:
                file.seek(0)
                sign, above = max(",;\t", key=header.count), 0
            reader = csv.reader(file, delimiter=sign, skipinitialspace=True, strict=True)
            header_cells = [name.strip() for name in next(reader, [])]
            columns = [name or f"column {at} (no name)" for at, name in enumerate(header_cells, 1)]
            rows, last = [], reader.line_num + above
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    rows.append(_row(table, columns, cells, last + 1, reader.line_num + above, sign))
                last = reader.line_num + above
    except UnicodeDecodeError as error:
        raise DataError(f"{printable(table)}: not UTF-8 text (byte {error.start}): save the table as UTF-8") from error
    except csv.Error as error:
        raise DataError(_unreadable(table, error, last + 1)) from error
    except OSError as error:
        raise DataError(f"{printable(table)}: cannot be opened: {(error.strerror or str(error)).lower()}") from error
    if not any(header_cells):
        raise DataError(f"{printable(table)}: empty: the first line must name the columns, as in path,label")
    _refuse_no_header(table, columns)
    if not rows:
        raise DataError(f"{printable(table)}: no rows below the header: add one a picture")
    _refuse_zero_bytes(table, columns, rows)
    used = [bool(name) or any(row[column] for row in rows) for name, column in zip(header_cells, columns, strict=True)]
    notes = [f"the first line, {header.strip()}, is a word to Excel: a {_SIGNS[sign]} parts the cells"] if above else []
    return [column if kept else "" for column, kept in zip(columns, used, strict=True)], rows, notes


def _refuse_zero_bytes(table: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Zero bytes are no text: the file was cut off while it was written, or is of another encoding."""
    at = next((row for row in rows if any("\0" in row[column] for column in columns)), None)
    if at is not None:
        raise DataError(f"{printable(table)}, line {at.line}: holds a zero byte: save the table as UTF-8 text anew")


def lines_of(rows: Iterable[Row], limit: int = 5) -> str:
    """`line 3`, or `lines 3, 4, 9 and 12 more`."""
    numbers = [str(row.line) for row in rows]
    return f"line {numbers[0]}" if len(numbers) == 1 else f"lines {listed(numbers, limit)}"


def _row(table: Path, columns: Sequence[str], cells: list[str], line: int, end: int, sign: str) -> Row:
    extra = [cell.strip() for cell in cells[len(columns) :]]
    if any(extra):
        more = listed((f'"{cell}"' for cell in extra if cell), 3)
        raise DataError(
            f"{printable(table)}, line {line}: {count(len(cells), 'cell')}, but the header names "
            f"{count(len(columns), 'column')}; {more} would be lost: put a cell that holds a {_SIGNS[sign]} between "
            f'double quotes ("), join several labels by `|`, or name the further columns in the first line'
        )
    if end > line:
        _refuse_swallowed(table, columns, cells, line, end, sign)
    padded = [cell.strip() for cell in cells] + [""] * (len(columns) - len(cells))
    return Row(line, dict(zip(columns, padded, strict=False)))


def _refuse_swallowed(table: Path, columns: Sequence[str], cells: list[str], line: int, end: int, sign: str) -> None:
    """A cell over several lines is well where it is a remark; not where one of its lines is a row with a picture."""
    for cell in cells:
        for inner in cell.splitlines()[1:] if len(cell.splitlines()) > 1 else ():
            parts = [part.strip(' "') for part in inner.split(sign)]
            if len(parts) >= len(columns) > 1 and any(is_picture_name(part) for part in parts):
                raise DataError(
                    f'{printable(table)}, line {line}: a cell goes on to line {end} and holds "{printable(inner[:40])}"'
                    f', which looks like a row: close the double quote (") in line {line}'
                )


def is_picture_name(cell: str) -> bool:
    """Whether a cell ends like the name of a picture."""
    return PurePath(cell.replace("\\", "/")).suffix.lower() in PICTURE_SUFFIXES


def _unreadable(table: Path, error: csv.Error, line: int) -> str:
    place = f"{printable(table)}, line {line}"
    text = str(error)
    if "unexpected end of data" in text:
        return f'{place}: a double quote (") is opened and never closed: close it, or remove it'
    if "expected after" in text:
        return (
            f'{place}: a cell goes on after its closing double quote ("): the quote before it is not closed, or one '
            'inside a cell is not written twice ("")'
        )
    return f"{place}: not a CSV table ({error}): save it as plain CSV"


def _refuse_no_header(table: Path, columns: Sequence[str]) -> None:
    picture = next((name for name in columns if is_picture_name(name)), None)
    if picture is not None:
        raise DataError(
            f'{printable(table)}: the first line holds "{printable(picture)}", a picture, where the names of the '
            "columns belong: write a first line such as path,label"
        )
