"""Pictures that belong together: of one patient, one slide, one camera. A split that parts them flatters the result."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

from convnext.data.names import count, listed, printable
from convnext.data.sources.columns import LABEL_NAMES, PATH_NAMES, Columns, key_of, require
from convnext.data.sources.missing import is_missing
from convnext.data.sources.rows import Row
from convnext.errors import DataError

_WORDS = frozenset([
    "group", "groups", "patient", "patients", "subject", "person", "individual", "participant", "animal", "case",
    "study", "slide", "wsi", "scene", "video", "clip", "sequence", "seq", "camera", "cam", "site", "hospital", "plot",
    "plant", "lesion", "series", "session", "user", "identity", "module", "panel", "parent", "family", "specimen",
    "burst", "trap", "location", "visit", "exam", "donor", "cow", "tree", "well", "plate", "batch", "recording",
    "track", "cluster",
])  # fmt: skip
"""What people call those who own several pictures, alone or with `id`, `no`, `number`, `name` or `code`."""


@dataclass
class Groups:
    """The group of each row ("" for a picture that is alone), the column, and remarks for the user."""

    names: list[str]
    column: str = ""
    notes: list[str] = field(default_factory=list)


def read_groups(
    table: Path,
    columns: Sequence[str],
    rows: Sequence[Row],
    spec: Columns,
    taken: Collection[str],
    truths: Sequence[Any],
    splits: Sequence[str | None],
    *,
    judging: bool,
) -> Groups:
    """Every row's group.

    Where the split is ours to make, a column that looks like groups is refused until the user says what it is. Where
    the table brings its split, groups that lie in several parts of it are told.

    Raises:
        DataError: as said, or the group that the user names is in several splits.
    """
    if spec.group:
        column = require(table, columns, spec.group, "data.group_column")
        return _asked(table, rows, column, splits, settled=spec.settled)
    nothing = Groups([""] * len(rows))
    if judging or spec.settled:
        return nothing
    free = [name for name in columns if name and name not in taken]
    likely = [name for name in free if _is_called_so(name) and _repeats(rows, name, truths)]
    for column in likely if None in splits or "val" not in splits else ():
        cells = [row[column] for row in rows]
        raise DataError(
            f'{printable(table)}: column "{column}" looks like groups ({count(len(set(cells)), "value")} in '
            f"{count(len(rows), 'row')}); pictures of one group in training and in the test would flatter the result: "
            f"{quote(f'data.group_column={column}')} keeps each in one split, "
            f"{quote(f'data.ignore_columns=[{chr(34)}{column}{chr(34)}]')} leaves it out of account"
        )
    for column in likely:
        parted = straddling([row[column] for row in rows], splits)
        if parted:
            nothing.notes.append(
                f'{count(len(parted), "value")} of column "{column}" in several splits, such as {listed(parted, 3)}: '
                "if they are groups, the result flatters"
            )
    return nothing


def _asked(table: Path, rows: Sequence[Row], column: str, splits: Sequence[str | None], *, settled: bool) -> Groups:
    cells = [row[column] for row in rows]
    missing = set() if settled else {cell for cell in cells if is_missing(cell)}
    names = ["" if cell in missing else cell for cell in cells]
    parted = straddling(names, splits)
    if parted:
        raise DataError(
            f'{printable(table)}: {count(len(parted), "group")} of column "{column}" in several splits, such as '
            f"{listed(parted, 3)}: correct the table's split, or leave data.group_column out"
        )
    alone = names.count("")
    words = f" ({listed(sorted(missing))})" if missing else ""
    notes = [f'{count(alone, "row")} without a group{words} in column "{column}": each stands alone'] if alone else []
    if len(set(names) - {""}) < 3:
        raise DataError(
            f'{printable(table)}: column "{column}" has {count(len(set(names) - {""}), "group")}: to train, validate '
            "and test on different ones there must be 3 at least"
        )
    return Groups(names, column, notes)


def straddling(groups: Sequence[str], splits: Sequence[str | None]) -> list[str]:
    """The groups that lie in several splits."""
    places: dict[str, set[str | None]] = defaultdict(set)
    for group, split in zip(groups, splits, strict=True):
        if group:
            places[group].add(split)
    return sorted(group for group, found in places.items() if len(found) > 1)


def _is_called_so(column: str) -> bool:
    key = key_of(column)
    if key in LABEL_NAMES or key in PATH_NAMES:
        return False
    words = key.split("_")
    return key.endswith("_id") or any(re.sub(r"(id|no|nr)?\d*$", "", word) in _WORDS for word in (*words, key))


def _repeats(rows: Sequence[Row], column: str, truths: Sequence[Any]) -> bool:
    """Whether some values stand in several rows, and they are more than another writing of what is to be learnt."""
    cells = [row[column] for row in rows]
    numbers = Counter(cell for cell in cells if cell)
    if len(numbers) < 2 or max(numbers.values()) < 2:
        return False
    pairs = set(zip(cells, truths, strict=True))
    return not len(pairs) == len(numbers) == len(set(truths))
