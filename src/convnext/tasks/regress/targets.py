"""Numbers as targets: how they are found in a table, what they mean, and what can be wrong with them.

    path,target,split
    a.jpg,4.5,train
    b.jpg,12,val

A folder has no place for a number, so regression reads tables alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convnext.data.doctor.findings import Finding, Overview, Picture
from convnext.data.names import count, listed, printable
from convnext.data.sources.check import Facts
from convnext.data.sources.columns import Columns, find, require
from convnext.data.sources.dataset import Dataset
from convnext.data.sources.listing import Entry, Listing
from convnext.data.sources.reading import Reading
from convnext.data.sources.rows import Row
from convnext.data.sources.target import Told
from convnext.errors import DataError
from convnext.recipe import DataRecipe, TaskRecipe
from convnext.tasks.regress.findings import findings
from convnext.tasks.regress.meaning import Quantities, asked_of, summary, values_of
from convnext.tasks.regress.scaling import Scaling, Target
from convnext.tasks.regress.target_column import read_targets
from convnext.tasks.regress.which_task import which_task

EXPECTED = "a CSV table with the columns path and target (and split, where it is to decide that)"
NAME = "target"
"""The column that is taken where nobody names one."""
NAMES = ("target", "targets", "value", "y", "score", "label", "number", "count", "age", "weight")
"""What people call such a column, for messages."""
FEWEST = 5
"""Pictures with a known value below which nothing can be learnt of a target."""


@dataclass(frozen=True)
class NumberTargets:
    """How numbers are found, and refused.

    Attributes:
        task: what the recipe says of them.
        known: what a model asks for, whose data are read; () where there is no model yet.
    """

    task: TaskRecipe = TaskRecipe()  # noqa: RUF009
    known: tuple[Target, ...] = ()
    expected = EXPECTED
    noun = "targets"
    unpackable = "shards hold classes, and no numbers: train on the table itself"

    @property
    def asked(self) -> bool:
        """Whether the recipe says something that only numbers have: a unit, a range, columns of targets."""
        return replace(self.task, kind=TaskRecipe().kind) != TaskRecipe()

    def for_recipe(self, task: TaskRecipe) -> NumberTargets:
        """As a recipe asks for them."""
        return replace(self, task=task)

    def for_model(self, meaning: Any) -> NumberTargets:
        """As a model asks for them."""
        return replace(self, known=meaning.targets)

    def claim(self, table: Path, columns: Sequence[str], rows: Sequence[Row], spec: Columns) -> int:
        """2 where the recipe says what only numbers have; 1 for a column called target that holds many numbers.

        Raises:
            DataError: such a column may as well hold classes.
        """
        column = find(columns, NAME)
        if self.asked or column is None:
            return 2 * self.asked
        found = which_task([row[column] for row in rows])
        if found.task == "unclear":
            raise DataError(found.message(column, str(table), f"data.label_column={column}"))
        return int(found.task == "regress")

    def in_folder(self, root: Path, reading: Reading) -> Listing:
        """Refused: says how to write the table."""
        raise DataError(
            f"{printable(root)}: a folder of pictures has no place for numbers; write a table beside them, "
            f"{printable(root.name)}.csv, with the first line path,target and a line for each picture, as "
            "a.jpg,4.5; then give the table"
        )

    def named(self, columns: Sequence[str], spec: Columns) -> set[str]:
        """The columns of the targets, by what the recipe or the model says, or the one called target."""
        return {column for name in self._wanted(spec) if (column := find(columns, name))}

    def _wanted(self, spec: Columns) -> tuple[str, ...]:
        """The names of the columns that are looked for."""
        label = spec.label if spec.label != DataRecipe().label_column else ""
        names = tuple(target.name for target in self.known) or self.task.targets
        if self.known and label and len(names) == 1:
            return (label,)
        return names or tuple(name.strip() for name in (label or NAME).split(","))

    def in_table(
        self, table: Path, columns: Sequence[str], rows: Sequence[Row], reading: Reading, taken: Collection[str]
    ) -> Told:
        """The cells of the columns as numbers; a row without any of them is left out."""
        spec = reading.columns
        label = find(columns, spec.label)
        wanted = self._wanted(spec)
        setting = "data.label_column" if wanted == (spec.label,) or len(self.known) == 1 else "task.targets=[]"
        if missing := [name for name in wanted if len(self.known) > 1 and find(columns, name) is None]:
            raise DataError(
                f"{printable(table)}: no column {listed(missing)}; its columns are {listed(columns)}: the model "
                f"answers with {listed(wanted)}, so the table needs a column of each name; rename its columns"
            )
        if wanted == (NAME,) and find(columns, NAME) is None and label is not None:
            wanted = (label,)  # where the task is said, a column called label may hold numbers
        found = [require(table, columns, name, setting, NAMES, taken) for name in wanted]
        if len(set(found)) < len(found):
            raise DataError(f"task.targets = {listed(found)}: names a column twice; name each once")
        if self.task.targets and not self.known and label and spec.label != DataRecipe().label_column:
            others = [name for name in found if name != label]
            if others:
                raise DataError(
                    f'task.targets names the column "{others[0]}", data.label_column "{label}": both say where the '
                    "target is; leave one of them out"
                )
        if both := [name for name in found if name in taken]:
            raise DataError(
                f'{printable(table)}: column "{both[0]}" cannot hold a target and something else (paths, splits or '
                "groups); name another"
            )
        read = read_targets(
            {name: [row[name] for row in rows] for name in found}, [row.line for row in rows], table=str(table)
        )
        truths = [
            tuple(None if np.isnan(value) else float(value) for value in row) if known else None
            for row, known in zip(read.values, read.known, strict=True)
        ]
        return Told(truths, tuple(found), list(read.notes))

    def contradiction(self, first: Any, second: Any) -> str:
        """Both values, and what to do."""
        was, now = (
            ", ".join("nothing" if value is None else f"{value:g}" for value in each) for each in (first, second)
        )
        return f"{was} and {now}: keep the right row; of repeated measurements write the mean, in one row"

    def settle(self, root: Path, listing: Listing, reading: Reading) -> Quantities:
        """Names, units and ranges; strata by the values of all pictures."""
        if listing.told is None:
            raise DataError(f"{printable(root)}: expected {EXPECTED}")
        values = np.array([entry.truth for entry in listing.entries], np.float64)
        if self.known:
            return Quantities.of(self.known, values) if len(values) else Quantities(self.known)
        targets = targets_of(self.task, listing.told.columns)
        for target, column in zip(targets, values.T, strict=True):
            known = column[~np.isnan(column)]
            if not reading.judging and len(known) < FEWEST:
                raise DataError(
                    f'{printable(root)}: target "{printable(target.name)}" has {count(len(known), "value")}; at least '
                    f"{FEWEST} pictures must have one: add some, or name another column"
                )
            if not reading.judging and known.min() == known.max():
                raise DataError(
                    f'{printable(root)}: target "{printable(target.name)}" is {target.in_unit(known[0])} for every '
                    "picture; there must be different values, or there is nothing to learn: choose another column"
                )
            target.refuse_impossible(column, [str(entry.path) for entry in listing.entries])
        return Quantities.of(targets, values)

    def of_index(self, names: tuple[str, ...], *, several: bool) -> Quantities:
        """Refused: shards hold classes."""
        raise DataError(f"{self.unpackable}; or task.kind=classify for classes")

    def refuse_broken(self, listing: Listing, facts: Mapping[Path, Facts], entries: Sequence[Entry]) -> None:
        """Whether enough is left is seen once there are splits, see `refuse_unlearnable`."""

    def refuse_unlearnable(self, dataset: Dataset, reading: Reading) -> None:
        """Every target must have different values among the training pictures."""
        Scaling.of(asked_of(dataset), values_of(dataset, "train"))

    def remarks(self, meaning: Any, reading: Reading) -> list[str]:
        """None: what is remarkable about a column is said where it is read."""
        return []

    def overview(self, data: Dataset) -> Overview:
        """Pictures with a value, and the values' range and median, in each split."""
        rows: list[tuple[Any, ...]] = []
        facts: dict[str, Any] = {}
        for t, target in enumerate(asked_of(data)):
            found = {split: summary(values_of(data, split)[:, t]) for split in data.splits}
            facts[target.name] = {"unit": target.unit, "splits": found}
            ahead = f"{printable(target.name)}, " if len(asked_of(data)) > 1 else ""
            rows.append((f"{ahead}with a value", *(each["n"] for each in found.values())))
            for key in ("min", "median", "max"):
                shown = (None if each[key] is None else round(each[key], 6) for each in found.values())
                rows.append((f"{ahead}{key}", *("-" if value is None else value for value in shown)))
        told = listed(
            (f"{target.name} in {target.unit}" if target.unit else target.name for target in asked_of(data)), 4
        )
        return Overview(f"a table of {told}", rows, {"targets": facts}, totals=False)

    def check(self, data: Dataset, pictures: Sequence[Picture]) -> list[Finding]:
        """Missing values, outliers, uneven values, splits of another range or too small to judge by."""
        return findings(data, pictures)


def targets_of(task: TaskRecipe, names: Sequence[str]) -> tuple[Target, ...]:
    """The targets of a recipe, by the columns' names.

    Raises:
        DataError: units, ranges or scales are not as many as there are targets, or a range is empty.
    """
    t = len(names)
    units = (task.unit,) * t if isinstance(task.unit, str) and t == 1 else task.unit
    if isinstance(units, str):
        units = (units,) * t if not units else (units,)
    scales = (task.scale,) * t if isinstance(task.scale, str) else task.scale
    for key, found, wanted in (("unit", units, t), ("scale", scales, t), ("range", task.range, 2 * t)):
        if len(found) != wanted and not (key == "range" and not found):
            each = "a lower and an upper end for each" if key == "range" else "one for each"
            raise DataError(
                f"task.{key} has {count(len(found), 'value')} for {count(t, 'target')} ({listed(names, 5)}); "
                f"give {each}"
            )
    ends = [None if not np.isfinite(end) else float(end) for end in task.range] or [None] * (2 * t)
    return tuple(
        Target(name, units[i].strip(), scales[i] == "log", ends[2 * i], ends[2 * i + 1]) for i, name in enumerate(names)
    )
