"""Data sets as a table: a CSV file with a column of paths, one of labels and, if it likes, one of splits.

    path,label,split
    cats/1.jpg,cat,train
    both/7.jpg,cat|dog,val

Paths are relative to the table's folder, or absolute. Several labels are joined by `|`; a lone `|` says "none of the
classes". A table without a column of labels may have a column of 0 and 1 for each class. What the columns are called,
and what else is in them, stands in `columns`, `labels`, `given_split` and `groups`; columns that are not used are told.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from convnext.data.columns import PATH_NAMES, Columns, find, require
from convnext.data.given_split import read_splits
from convnext.data.groups import read_groups
from convnext.data.labels import read_labels
from convnext.data.listing import Entry, Listing
from convnext.data.names import count, listed, printable
from convnext.data.rows import Row, read_rows
from convnext.data.table_paths import read_paths
from convnext.errors import DataError

TABLE_SUFFIXES = frozenset([".csv", ".tsv"])


def list_table(table: Path, spec: Columns, *, judging: bool = False, known: Collection[str] = ()) -> Listing:
    """The pictures of a CSV file.

    Args:
        table: the file.
        spec: what the user says about its columns.
        judging: nothing is to be learnt from the data.
        known: the classes of a model, where there is one.

    Raises:
        DataError: for anything in it that cannot be used.
    """
    columns, rows, said = read_rows(table)
    for name in spec.ignore:
        require(table, columns, name, "data.ignore_columns")
    ignored = [find(columns, name) or name for name in spec.ignore]
    path_column = require(table, columns, spec.path, "data.path_column", PATH_NAMES)
    label_column = find(columns, spec.label)
    group_column = find(columns, spec.group) if spec.group else None
    named = {column for column in (path_column, label_column, group_column) if column}
    named |= {name.strip() for name in spec.label.split(",")} & set(columns)
    given = read_splits(table, columns, rows, spec, {*named, *ignored}, judging=judging)
    taken = {path_column, *ignored, *given.columns, *([group_column] if group_column else [])}
    labels = read_labels(table, columns, rows, spec, taken, known)
    groups = read_groups(
        table, columns, rows, spec, {*taken, *labels.columns}, labels.names, given.splits, judging=judging
    )
    paths, notes = read_paths(table, rows, path_column)
    used = {*taken, *labels.columns}
    unused = [name for name in dict.fromkeys(columns) if name and name not in used]
    if unused:
        notes = [f"columns of the table that are not used: {listed(unused)}", *notes]
    listing = Listing("csv", grouped=groups.column, multi_label=labels.multi_label)
    listing.split_column = ",".join(given.columns)
    listing.notes += [*said, *labels.notes, *given.notes, *groups.notes, *notes]
    entries = [
        Entry(path, names, split, group)
        for path, names, split, group in zip(paths, labels.names, given.splits, groups.names, strict=True)
    ]
    _add(table, listing, rows, entries)
    return listing


def _add(table: Path, listing: Listing, rows: Sequence[Row], entries: Sequence[Entry]) -> None:
    """Each picture once; rows that contradict each other are refused."""
    seen: dict[Path, tuple[int, Entry]] = {}
    for row, entry in zip(rows, entries, strict=True):
        first_line, first = seen.setdefault(entry.path, (row.line, entry))
        if first is entry:
            listing.entries.append(entry)
        elif first != entry:
            _refuse_repeat(table, first_line, first, row.line, entry)
    repeats = len(rows) - len(listing.entries)
    if repeats:
        listing.notes.append(f"{count(repeats, 'row')} repeated word for word, counted once")
    listing.entries.sort(key=lambda entry: entry.path.as_posix())


def _refuse_repeat(table: Path, first_line: int, first: Entry, line: int, entry: Entry) -> None:
    shown = printable(entry.path)
    if first.labels != entry.labels:
        was, now = "|".join(first.labels), "|".join(entry.labels)
        raise DataError(
            f'{printable(table)}, lines {first_line} and {line}: {shown} is "{was}" and "{now}": keep the right row, '
            f'or write "{"|".join(sorted({*first.labels, *entry.labels}))}" in one row if it shows both'
        )
    if first.split != entry.split:
        raise DataError(
            f"{printable(table)}, lines {first_line} and {line}: {shown} is in {first.split} and in {entry.split}: "
            f"a picture belongs to one split; remove one of the rows"
        )
    raise DataError(
        f'{printable(table)}, lines {first_line} and {line}: {shown} is of group "{first.group}" and "{entry.group}": '
        f"a picture belongs to one group; remove one of the rows"
    )
