"""Data sets as a table: a CSV file with a column of paths, one of labels and, if it likes, one of splits.

    path,label,split
    cats/1.jpg,cat,train
    both/7.jpg,cat|dog,val

Paths are relative to the table's folder, or absolute. Several labels are joined by `|`; a lone `|` says "none of the
classes". Comma, semicolon and tab are recognised as separators from the first line. UTF-8, with or without a mark.
"""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

from convnext.data.listing import SPLIT_NAMES, SPLITS, Entry, Listing
from convnext.data.names import count, did_you_mean, listed, printable
from convnext.errors import DataError

TABLE_SUFFIXES = frozenset([".csv", ".tsv"])
_DEFAULT_SPLIT_COLUMN = "split"

Row = tuple[int, dict[str, str]]  # (line in the file, cells by column)


def list_table(
    table: Path, *, path_column: str, label_column: str, split_column: str, judging: bool = False
) -> Listing:
    """The pictures of a CSV file; raises DataError for anything in it that cannot be used."""
    columns, rows = _rows(table)
    for column in (path_column, label_column):
        _require_column(table, columns, column)
    if split_column != _DEFAULT_SPLIT_COLUMN:
        _require_column(table, columns, split_column)
    if not rows:
        raise DataError(f"{printable(table)}: no rows below the header: add one a picture")
    has_splits = split_column in columns
    paths = _paths(table, rows, path_column)
    labels, multi_label = _labels(table, rows, label_column)
    splits = _splits(table, rows, split_column, judging) if has_splits else [None] * len(rows)
    listing = Listing("csv", multi_label=multi_label)
    seen: dict[Path, tuple[int, Entry]] = {}
    for (line, _), path, names, split in zip(rows, paths, labels, splits, strict=True):
        entry = Entry(path, names, split)
        first_line, first = seen.setdefault(path, (line, entry))
        if first is entry:
            listing.entries.append(entry)
        elif first != entry:
            _refuse_repeat(table, first_line, first, line, entry)
    repeats = len(rows) - len(listing.entries)
    if repeats:
        listing.notes.append(f"{count(repeats, 'row')} repeated word for word, counted once")
    listing.entries.sort(key=lambda entry: entry.path.as_posix())
    return listing


def _rows(table: Path) -> tuple[list[str], list[Row]]:
    """The columns and all rows that are not blank."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(",;\t", key=header.count), restval="", skipinitialspace=True)
            columns = [(name or "").strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = [
                (reader.line_num, {key: (cell or "").strip() for key, cell in row.items() if key is not None})
                for row in reader
                if any(cell for key, cell in row.items() if key is not None)
            ]
    except UnicodeDecodeError as error:
        raise DataError(f"{printable(table)}: not UTF-8 text (byte {error.start}): save the table as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{printable(table)}: not a CSV table ({error}): save it as plain CSV") from error
    except OSError as error:
        raise DataError(f"{printable(table)}: cannot be opened: {(error.strerror or str(error)).lower()}") from error
    if not any(columns):
        raise DataError(f"{printable(table)}: empty: the first line must name the columns, as in path,label")
    return columns, rows


def _require_column(table: Path, columns: list[str], column: str) -> None:
    if column not in columns:
        raise DataError(
            f'{printable(table)}: no column "{column}"{did_you_mean(column, columns)}; its columns are '
            f"{listed(columns)}: rename one of them, or say which column to use"
        )
    if columns.count(column) > 1:
        raise DataError(f'{printable(table)}: {columns.count(column)} columns are called "{column}": keep one of them')


def _paths(table: Path, rows: list[Row], column: str) -> list[Path]:
    """Every row's picture. What Windows wrote with backslashes is found as well."""
    _require_cells(table, rows, column, lambda cell: bool(cell), "write the picture's path there or remove the row")
    paths: list[Path] = []
    missing: list[str] = []
    for _, row in rows:
        path = table.parent / row[column]
        if not os.path.lexists(path) and "\\" in row[column]:
            path = table.parent / row[column].replace("\\", "/")
        if not os.path.lexists(path):  # a dangling link is there, and will be found broken
            missing.append(row[column])
        paths.append(_plain(path))
    if missing:
        raise DataError(
            f"{printable(table)}: {len(missing):,} of {count(len(rows), 'path leads', 'paths lead')} to no file, "
            f"such as {listed(missing[:5])}: paths are relative to {printable(table.parent)}; "
            f"correct them or drop the rows"
        )
    return paths


def _plain(path: Path) -> Path:
    """Without `..`, so that one file has one name; as it is where a link on the way gives `..` another meaning."""
    if ".." not in path.parts:
        return path
    plain = Path(os.path.normpath(path))
    return plain if plain.exists() and path.exists() and plain.samefile(path) else path


def _labels(table: Path, rows: list[Row], column: str) -> tuple[list[tuple[str, ...]], bool]:
    """Every row's class names, and whether a `|` anywhere makes the table multi-label."""
    multi_label = any("|" in row[column] for _, row in rows)
    remedy = "write `|` for a picture with none of the classes" if multi_label else "write a label or remove the row"
    _require_cells(table, rows, column, lambda cell: bool(cell), remedy)
    names = [unicodedata.normalize("NFC", row[column]).split("|") for _, row in rows]
    return [tuple(sorted({name.strip() for name in parts if name.strip()})) for parts in names], multi_label


def _splits(table: Path, rows: list[Row], column: str, judging: bool) -> list[str | None]:
    """Every row's split."""
    for line, row in rows:
        cell = row[column]
        if cell.lower() not in SPLIT_NAMES:
            guess = did_you_mean(cell, SPLIT_NAMES)
            raise DataError(
                f'{printable(table)}, line {line}: "{printable(cell)}" in column "{column}" is no split{guess}: '
                f"write {', '.join(SPLITS)}, or leave the column out to have the data split automatically"
            )
    splits: list[str | None] = [SPLIT_NAMES[row[column].lower()] for _, row in rows]
    if judging:
        return splits
    if "train" not in splits:
        raise DataError(f'{printable(table)}: no row is "train" in column "{column}": some must be learnt from')
    if set(splits) == {"train"}:
        raise DataError(
            f'{printable(table)}: every row is "train" in column "{column}": mark some as val or test, or leave the '
            f"column out to have the data split automatically"
        )
    return splits


def _require_cells(table: Path, rows: list[Row], column: str, fits: Callable[[str], bool], remedy: str) -> None:
    bad = [line for line, row in rows if not fits(row[column])]
    if bad:
        lines = f"line {bad[0]}" if len(bad) == 1 else f"lines {listed((str(line) for line in bad), 5)}"
        raise DataError(f'{printable(table)}: nothing in column "{column}" in {lines}: {remedy}')


def _refuse_repeat(table: Path, first_line: int, first: Entry, line: int, entry: Entry) -> None:
    shown = printable(entry.path)
    if first.labels != entry.labels:
        was, now = "|".join(first.labels), "|".join(entry.labels)
        raise DataError(
            f'{printable(table)}, lines {first_line} and {line}: {shown} is "{was}" and "{now}": keep the right row, '
            f'or write "{"|".join(sorted({*first.labels, *entry.labels}))}" in one row if it shows both'
        )
    raise DataError(
        f"{printable(table)}, lines {first_line} and {line}: {shown} is in {first.split} and in {entry.split}: "
        f"a picture belongs to one split; remove one of the rows"
    )
