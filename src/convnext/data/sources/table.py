"""Data sets as a table: a CSV file with a column of paths, one of labels and, if it likes, one of splits.

    path,label,split
    cats/1.jpg,cat,train
    both/7.jpg,cat|dog,val

Paths are relative to the table's folder, or absolute. Several labels are joined by `|`; a lone `|` says "none of the
classes". A table without a column of labels may have a column of 0 and 1 for each class. What the columns are called,
and what else is in them, stands in `columns`, `given_split` and `groups`, what a picture is paired with is the task's
(`target`); columns that are not used are told.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convnext.data.names import count, listed, printable
from convnext.data.sources.columns import PATH_NAMES, find, require
from convnext.data.sources.given_split import read_splits
from convnext.data.sources.groups import read_groups
from convnext.data.sources.listing import Entry, Listing
from convnext.data.sources.reading import Reading
from convnext.data.sources.rows import Row, read_rows
from convnext.data.sources.table_paths import read_paths
from convnext.data.sources.targets import Targets
from convnext.errors import DataError

TABLE_SUFFIXES = frozenset([".csv", ".tsv"])


def list_table(table: Path, reading: Reading, targets: Targets) -> Listing:
    """The pictures of a CSV file.

    Args:
        table: the file.
        reading: what is asked of it.
        targets: finds what the pictures are paired with.

    Raises:
        DataError: for anything in it that cannot be used.
    """
    columns, rows, said = read_rows(table)
    spec, judging = reading.columns, reading.judging
    for name in spec.ignore:
        require(table, columns, name, "data.ignore_columns")
    ignored = [find(columns, name) or name for name in spec.ignore]
    path_column = require(table, columns, spec.path, "data.path_column", PATH_NAMES)
    group_column = find(columns, spec.group) if spec.group else None
    told_by = targets.named(columns, spec)
    named = {column for column in (path_column, group_column) if column} | told_by
    given = read_splits(table, columns, rows, spec, {*named, *ignored}, labelled=bool(told_by), judging=judging)
    taken = {path_column, *ignored, *given.columns, *([group_column] if group_column else [])}
    told = targets.in_table(table, columns, rows, reading, taken)
    used = {*taken, *told.columns}
    groups = read_groups(table, columns, rows, spec, used, told.truths, given.splits, judging=judging)
    paths, notes = read_paths(table, rows, path_column)
    unused = [name for name in dict.fromkeys(columns) if name and name not in used]
    if unused:
        notes = [f"columns of the table that are not used: {listed(unused)}", *notes]
    listing = Listing("csv", grouped=groups.column, told=told)
    listing.split_column = ",".join(given.columns)
    listing.notes += [*said, *told.notes, *given.notes, *groups.notes, *notes]
    entries = [
        Entry(path, truth, split, group)
        for path, truth, split, group in zip(paths, told.truths, given.splits, groups.names, strict=True)
    ]
    known = [at for at, entry in enumerate(entries) if entry.truth is not None]
    _add(table, listing, [rows[at] for at in known], [entries[at] for at in known], targets)
    return listing


def _add(table: Path, listing: Listing, rows: Sequence[Row], entries: Sequence[Entry], targets: Targets) -> None:
    """Each picture once; rows that contradict each other are refused."""
    seen: dict[Path, tuple[int, Entry]] = {}
    for row, entry in zip(rows, entries, strict=True):
        first_line, first = seen.setdefault(entry.path, (row.line, entry))
        if first is entry:
            listing.entries.append(entry)
        elif first != entry:
            _refuse_repeat(table, first_line, first, row.line, entry, targets)
    repeats = len(rows) - len(listing.entries)
    if repeats:
        listing.notes.append(f"{count(repeats, 'row')} repeated word for word, counted once")
    listing.entries.sort(key=lambda entry: entry.path.as_posix())


def _refuse_repeat(table: Path, first_line: int, first: Entry, line: int, entry: Entry, targets: Targets) -> None:
    shown = printable(entry.path)
    if first.truth != entry.truth:
        raise DataError(
            f"{printable(table)}, lines {first_line} and {line}: {shown} is "
            f"{targets.contradiction(first.truth, entry.truth)}"
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
