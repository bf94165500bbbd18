"""The split that a table brings: a column of train, val and test, of true and false, or of folds.

A column is recognised by its name in any case (`Split`, `subset`, `is_valid`, `fold`), or because it holds nothing but
names of splits. What looks like a split and cannot be taken as one is refused, until the user says what it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from convnext.data.names import did_you_mean, in_order, listed, printable
from convnext.data.sources.columns import SPLIT, Columns, find, key_of, require
from convnext.data.sources.flags import is_flag, is_true
from convnext.data.sources.listing import SPLITS, split_meant
from convnext.data.sources.rows import Row
from convnext.errors import DataError

SPLIT_NAMES = frozenset([
    "split", "splits", "set", "subset", "subsets", "partition", "phase", "fold", "folds", "kfold", "k_fold", "cv_fold",
    "fold_id", "fold_no", "fold_num", "cv", "data_split", "dataset_split", "split_name", "split_type", "split_set",
    "train_test", "train_val", "train_val_test", "train_test_split", "traintest", "data_set",
])  # fmt: skip
"""What people call a column of splits or folds, as `key_of` writes it."""
_FLAGS = {
    **dict.fromkeys(["is_valid", "is_val", "is_validation", "is_dev", "in_val", "in_valid"], ("val", "train")),
    **dict.fromkeys(["is_test", "is_testing", "is_holdout", "is_hold_out", "in_test"], ("test", "train")),
    **dict.fromkeys(["is_train", "is_training", "is_training_image", "in_train", "is_train_set"], ("train", "test")),
}
_BARE = {"valid": "is_valid", "val": "is_valid", "validation": "is_valid", "test": "is_test", "holdout": "is_test",
         "train": "is_train", "training": "is_train", "isvalid": "is_valid", "istest": "is_test",
         "istrain": "is_train"}  # fmt: skip
"""Columns of true and false: the split that true means, and that false means."""
_MOST_FOLDS = 50
_WORDS = frozenset(["fold", "folds", "kfold", "split", "splits", "subset", "partition", "holdout"])
"""Words that speak of splits in the name of any other column, whatever stands beside them."""
_FLAG_WORDS = frozenset(["train", "training", "val", "valid", "validation", "test", "testing", "dev"])
"""Words that speak of splits where the column is one of true and false."""


@dataclass
class Given:
    """What a table says about splits.

    Attributes:
        splits: of each row; None where the data set does not say.
        columns: where it stood.
        notes: one-line remarks for the user.
    """

    splits: list[str | None]
    columns: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def read_splits(
    table: Path,
    columns: Sequence[str],
    rows: Sequence[Row],
    spec: Columns,
    taken: Collection[str],
    *,
    labelled: bool,
    judging: bool,
) -> Given:
    """Every row's split.

    Args:
        table: the file, for messages.
        columns: all that it has.
        rows: its rows.
        spec: what the user says about columns.
        taken: columns that hold something else.
        labelled: a column is known to hold what is to be learnt.
        judging: nothing is to be learnt from the data, so it needs no train split.

    Raises:
        DataError: a column looks like a split and is none, or its splits leave nothing to learn from.
    """
    nothing = Given([None] * len(rows))
    if spec.split == "":
        return nothing
    free = [name for name in columns if name and name not in taken]
    found: Given | None
    absent = judging and "," not in spec.split and find(columns, spec.split) is None
    if (spec.split != SPLIT and not absent) or (spec.settled and SPLIT in columns):
        found = _named(table, columns, rows, spec)
    else:
        found = None
        if not spec.settled:
            found = _recognised(table, free, rows, spec, labelled=labelled, lenient=judging)
    if found is None:
        if spec.val_fold and not judging:
            raise DataError(
                f"{printable(table)}: data.val_fold = {spec.val_fold}, but no column is known to hold folds: name it, "
                "as data.split_column=fold"
            )
        return nothing
    if not judging:
        _refuse_nothing_to_learn(table, found)
    return found


def _named(table: Path, columns: Sequence[str], rows: Sequence[Row], spec: Columns) -> Given:
    """The splits of the column, or of the columns of true and false, that the user names."""
    several = [name.strip() for name in spec.split.split(",")]
    if spec.split in columns or len(several) == 1:
        return _said(table, columns, rows, spec, require(table, columns, spec.split, "data.split_column"))
    names = [require(table, columns, name, "data.split_column") for name in several]
    for name in names:
        if not (_flag_key(name) and all(is_flag(row[name]) for row in rows)):
            raise DataError(
                f"{printable(table)}: data.split_column = {printable(spec.split)}: several columns must be of true and "
                f'false, such as is_val and is_test; "{printable(name)}" is not'
            )
    return _from_flags(table, rows, names)


def _said(table: Path, columns: Sequence[str], rows: Sequence[Row], spec: Columns, column: str) -> Given:
    """The splits of the column that the user names, or that is called `split`."""
    cells = [row[column] for row in rows]
    key = _flag_key(column)
    if key and all(is_flag(cell) for cell in cells):
        return _from_flags(table, rows, [column])
    if spec.val_fold or spec.test_fold:
        return _from_folds(table, rows, column, spec)
    meant = [split_meant(cell) for cell in cells]
    if not any(meant) and all(cells) and len(set(cells)) <= _MOST_FOLDS:
        raise DataError(_which_fold(table, column, cells))
    for row, split in zip(rows, meant, strict=True):
        if split is None:
            cell = row[column]
            raise DataError(
                f'{printable(table)}, line {row.line}: "{printable(cell)}" in column "{column}" is no split'
                f"{did_you_mean(cell, SPLITS)}: write {', '.join(SPLITS)}, or leave the column out to have the data "
                f'split automatically (data.split_column="")'
            )
    return Given(meant, (column,))


def _recognised(
    table: Path, free: Sequence[str], rows: Sequence[Row], spec: Columns, *, labelled: bool, lenient: bool
) -> Given | None:
    """The splits of a column that nobody named, or None. `labelled`: there is a column of labels."""
    if (plain := find(free, SPLIT)) is not None:
        found = _said(table, free, rows, spec, require(table, free, plain, "data.split_column"))
        if plain != SPLIT:
            found.notes.append(_taken(found))
        return found
    named = [name for name in free if _all_splits(rows, name)]
    if named:
        return _agreeing(table, rows, named, lenient=lenient)
    flags = [name for name in free if _flag_key(name) and all(is_flag(row[name]) for row in rows)]
    if flags:
        if not (labelled or lenient):
            _refuse_vehicle(table, free, rows, flags)
        found = _from_flags(table, rows, flags)
        return Given(found.splits, found.columns, [_taken(found), *found.notes])
    odd = [name for name in free if key_of(name) in SPLIT_NAMES or _flag_key(name) or _sounds_so(rows, name)]
    if not odd:
        return None
    if len(odd) == 1 and (spec.val_fold or spec.test_fold):
        return _from_folds(table, rows, odd[0], spec)
    if lenient:
        return None
    raise DataError(_which_fold(table, odd[0], [row[odd[0]] for row in rows]))


def _sounds_so(rows: Sequence[Row], column: str) -> bool:
    """Whether a column of few values has a word of splits or folds in its name (`cv_fold_5`, `in_training_set`)."""
    cells = {row[column] for row in rows}
    words = {word.rstrip("0123456789") for word in key_of(column).split("_")}
    if not 1 < len(cells) <= min(_MOST_FOLDS, len(rows) // 2):
        return False
    return bool(words & (_FLAG_WORDS if all(is_flag(cell) for cell in cells) else _WORDS))


def _refuse_vehicle(table: Path, free: Sequence[str], rows: Sequence[Row], flags: Sequence[str]) -> None:
    """Refuses a lone column `train` beside columns of 0 and 1 in a table without labels: it may be a class of these."""
    others = [name for name in free if name not in flags and all(is_flag(row[name]) for row in rows)]
    if len(flags) > 1 or key_of(flags[0]) not in _BARE or len(others) < 2:
        return
    classes = quote(f"data.label_column={','.join([*others, flags[0]])}")
    raise DataError(
        f'{printable(table)}: column "{flags[0]}" may be the split, or a class as the other columns of 0 and 1 '
        f"({listed(others, 5)}): {quote(f'data.split_column={flags[0]}')} or {classes} says which"
    )


def _agreeing(table: Path, rows: Sequence[Row], named: Sequence[str], *, lenient: bool) -> Given | None:
    """The splits of columns that hold nothing but names of splits, where they say the same."""
    first = [split_meant(row[named[0]]) for row in rows]
    for other in named[1:]:
        at = next((row for row, split in zip(rows, first, strict=True) if split_meant(row[other]) != split), None)
        if at is not None and lenient:
            return None
        if at is not None:
            raise DataError(
                f'{printable(table)}, line {at.line}: column "{named[0]}" says {at[named[0]]}, column "{other}" says '
                f"{at[other]}: say which one is the split, as {quote(f'data.split_column={named[0]}')}"
            )
    found = Given(first, (named[0],))
    found.notes.append(_taken(found))
    return found


def _taken(found: Given) -> str:
    columns = " and ".join(f'"{name}"' for name in found.columns)
    numbers = ", ".join(f"{split} {found.splits.count(split):,}" for split in SPLITS if split in found.splits)
    return f"the split is that of column {columns}: {numbers}"


def _all_splits(rows: Sequence[Row], column: str) -> bool:
    """Whether a column holds nothing but names of splits, train and another among them; or is called so besides."""
    meant = {split_meant(row[column]) for row in rows}
    return None not in meant and (key_of(column) in SPLIT_NAMES or (len(meant) > 1 and "train" in meant))


def _flag_key(column: str) -> str:
    """What a column of true and false that is called so says, as a key of `_FLAGS`; "" for other names."""
    key = key_of(column)
    key = _BARE.get(key, key)
    return key if key in _FLAGS else ""


def _from_flags(table: Path, rows: Sequence[Row], flags: Sequence[str]) -> Given:
    """The splits of columns of true and false, one or several."""
    meaning = {name: _FLAGS[_flag_key(name)] for name in flags}
    rest = "test" if any(no == "test" for _, no in meaning.values()) else "train"
    splits: list[str | None] = []
    for row in rows:
        said = {meaning[name][0] for name in flags if is_true(row[name])}
        if len(said) > 1:
            columns = " and ".join(f'"{name}"' for name in flags if is_true(row[name]))
            raise DataError(
                f"{printable(table)}, line {row.line}: true in columns {columns}: a picture belongs to one split"
            )
        splits.append(said.pop() if said else rest)
    notes = []
    if rest == "test":
        column = next(name for name, (_, no) in meaning.items() if no == "test")
        notes.append(f'what is not true in column "{column}" is taken for the test')
    return Given(splits, tuple(flags), notes)


def _from_folds(table: Path, rows: Sequence[Row], column: str, spec: Columns) -> Given:
    """The splits of a column of folds, one of which the user says validates."""
    cells = [row[column] for row in rows]
    splits, note = split_by_folds(printable(table), f'column "{column}"', cells, spec)
    return Given(splits, (column,), [note])


def split_by_folds(data: str, place: str, folds: Sequence[str], spec: Columns) -> tuple[list[str | None], str]:
    """The split of each picture from its fold, and a remark.

    Raises:
        DataError: a fold that is named is not there, or nothing is left to learn from.
    """
    there = in_order(folds)
    wanted = {"val": spec.val_fold, "test": spec.test_fold}
    for split, fold in wanted.items():
        if fold and fold not in there:
            raise DataError(f"{data}: data.{split}_fold = {fold}, but the folds of {place} are {listed(there)}")
    if spec.val_fold == spec.test_fold:
        raise DataError(f"{data}: data.val_fold and data.test_fold are both {spec.val_fold}: they must be two folds")
    meaning = {fold: split for split, fold in wanted.items() if fold}
    rest = [fold for fold in there if fold not in meaning]
    if not rest:
        raise DataError(f"{data}: no fold of {place} is left to learn from: its folds are {listed(there)}")
    told = ", ".join(f"{fold} is {split}" for fold, split in meaning.items())
    return [meaning.get(fold, "train") for fold in folds], f"folds of {place}: {told}, train is {listed(rest)}"


def _which_fold(table: Path, column: str, cells: Sequence[str]) -> str:
    """The refusal of a column that looks like a split and holds something else."""
    there = in_order(cells)
    shown = f'{printable(table)}: column "{column}" looks like a split'
    ignore = quote(f'data.ignore_columns=["{column}"]')
    if len(there) > _MOST_FOLDS:
        return f"{shown}, but holds {len(there):,} values, such as {listed(there, 3)}: rename it, or {ignore}"
    shown += f" and holds {listed((cell or 'nothing' for cell in there), 8)}"
    name = quote(f"data.split_column={column}")
    words = "write train, val and test there if it is one"
    if _flag_key(column) or all(is_flag(cell) and not cell.isdigit() for cell in there):
        flags = "(true and false in a column is_val or is_test)"
        return f"{shown}: write train, val and test there {flags}; if it means nothing here, {ignore}"
    if not (all(there) and len(there) > 1):
        return f"{shown}: {words}, in every row; if it means nothing here, {ignore}"
    fold = quote(f"data.val_fold={there[0]}")
    return (
        f"{shown}: {words}; if they are folds, say which one validates: {name} {fold}, and data.test_fold likewise if "
        f"one is to test; if it means nothing here, {ignore}"
    )


def _refuse_nothing_to_learn(table: Path, found: Given) -> None:
    shown, column = printable(table), found.columns[0]
    if "train" not in found.splits:
        raise DataError(f'{shown}: no row is "train" in column "{column}": some must be learnt from')
    if set(found.splits) == {"train"}:
        raise DataError(
            f'{shown}: every row is "train" in column "{column}": mark some as val or test, or leave the '
            f'column out to have the data split automatically (data.split_column="")'
        )
