"""Classes as targets: how they are found in folders and tables, what they mean, and what can be wrong with them.

DATA/<class>/...                    split by us, by the rule in `data.split`
DATA/{train,val,test}/<class>/...   split by the folders; val is taken from train when it is missing
DATA.csv                            columns path, label and, if wanted, split; see `data.table`
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from convnext.data.doctor.diagnose import examine
from convnext.data.doctor.diagnosis import Diagnosis
from convnext.data.doctor.findings import Finding, Overview, Picture
from convnext.data.names import called, count, did_you_mean, in_order, listed, look_alikes, printable
from convnext.data.sources.check import Facts, Progress
from convnext.data.sources.columns import SPLIT, Columns, find
from convnext.data.sources.dataset import Dataset
from convnext.data.sources.listing import Entry, Listing
from convnext.data.sources.missing import missing_classes
from convnext.data.sources.read import all_of, survey
from convnext.data.sources.reading import Reading
from convnext.data.sources.rows import Row
from convnext.errors import DataError
from convnext.recipe import TaskRecipe
from convnext.tasks.classify.column import Labels, read_labels
from convnext.tasks.classify.findings import balance, giveaways, similar_names
from convnext.tasks.classify.folders import EXPECTED, list_folder
from convnext.tasks.classify.meaning import ALIKE, Classes, counts
from convnext.tasks.classify.numeric import numbers_as_classes


class ClassTargets:
    """How classes are found, and refused."""

    expected, noun, unpackable = EXPECTED, "labels", ""

    asked = False
    """A recipe has no setting of classes alone."""

    def for_recipe(self, task: TaskRecipe) -> ClassTargets:
        """Classes are what they are: a recipe says nothing more of them."""
        return self

    def for_model(self, meaning: Any) -> ClassTargets:
        """A model's classes are part of the reading."""
        return self

    def claim(self, table: Path, columns: Sequence[str], rows: Sequence[Row], spec: Columns) -> int:
        """Any column of labels, whatever it holds."""
        return int(bool(self.named(columns, spec)))

    def in_folder(self, root: Path, reading: Reading) -> Listing:
        """Class folders, in splits or not, and what else people have."""
        return list_folder(root, reading.columns, judging=reading.judging, known=reading.classes)

    def named(self, columns: Sequence[str], spec: Columns) -> set[str]:
        """The column of labels, or those that the user lists."""
        label = find(columns, spec.label)
        return {name.strip() for name in spec.label.split(",")} & set(columns) | ({label} if label else set())

    def in_table(
        self, table: Path, columns: Sequence[str], rows: Sequence[Row], reading: Reading, taken: Collection[str]
    ) -> Labels:
        """Names in a column, or a column of 0 and 1 for each class."""
        labels = read_labels(table, columns, rows, reading.columns, taken, reading.classes)
        if not reading.judging and not reading.classes and len(labels.columns) == 1:
            labels.notes.extend(numbers_as_classes(labels.truths, labels.columns[0]))
        return labels

    def contradiction(self, first: Any, second: Any) -> str:
        """Both, and how to write a picture that shows both."""
        was, now, both = "|".join(first), "|".join(second), "|".join(sorted({*first, *second}))
        return f'"{was}" and "{now}": keep the right row, or write "{both}" in one row if it shows both'

    def settle(self, root: Path, listing: Listing, reading: Reading) -> Classes:
        """The classes in their order: those wanted, or those found."""
        several = isinstance(listing.told, Labels) and listing.told.multi_label
        return Classes(_classes(root, listing, reading.classes, reading.judging, several), several)

    def of_index(self, names: tuple[str, ...], *, several: bool) -> Classes:
        """Shards name their classes."""
        return Classes(names, several)

    def refuse_broken(self, listing: Listing, facts: Mapping[Path, Facts], entries: Sequence[Entry]) -> None:
        """A class whose pictures (in train, when the data set has splits) are all broken cannot be learnt."""
        _refuse_lost(entries, facts)

    def refuse_unlearnable(self, dataset: Dataset, reading: Reading) -> None:
        """Every class that the user asks for, once, must have pictures to learn from, and there must be two."""
        _refuse_absent(dataset, reading.classes)

    def remarks(self, meaning: Any, reading: Reading) -> list[str]:
        """Classes that may be one, and names that may stand for a missing label."""
        twins = look_alikes(meaning.classes)
        return [*([f"{ALIKE}: {twins}"] if twins else []), *missing_classes(meaning.classes, reading.classes)]

    def overview(self, data: Dataset) -> Overview:
        """Pictures of each class and split."""
        several = bool(data.multi_label)
        classes = count(len(data.classes), "class", "classes") + ", several labels a picture" * several
        numbers = {split: counts(data, split) for split in data.splits}
        rows = list(zip(map(printable, data.classes), *numbers.values(), strict=True))
        facts = {"classes": list(data.classes), "multi_label": several, "counts": numbers}
        return Overview(classes, rows, facts, totals=not several)

    def check(self, data: Dataset, pictures: Sequence[Picture]) -> list[Finding]:
        """Giveaways, uneven and small classes, names that are alike."""
        return [*giveaways(pictures), *balance(data), *similar_names(data.classes)]


def read_dataset(
    root: Path,
    *,
    val: float = 0.15,
    test: float = 0.15,
    classes: tuple[str, ...] = (),
    columns: Columns | None = None,
    path_column: str = "path",
    label_column: str = "label",
    split_column: str = SPLIT,
    progress: Progress | None = None,
    workers: int | None = None,
    judging: bool = False,
) -> Dataset:
    """Lists, opens and splits the pictures of a data set.

    Args:
        root: a folder of class folders, a folder of split folders, or a CSV file.
        val: share of pictures for val where the split is ours to make (0 for none).
        test: likewise for test; not used when the data set has splits of its own.
        classes: the classes in the order wanted, as of a trained model; () takes those found, sorted.
        columns: all that can be said about a table's columns, and about folds; the next three are not used then.
        path_column: CSV only, likewise the next two.
        label_column: class names, several joined by `|`.
        split_column: may be absent from the table, and is recognised under other names; "" for none.
        progress: called with (files done, files in all).
        workers: threads; None means one a core.
        judging: nothing is to be learnt from the data, so it needs no train split.

    Raises:
        DataError: the data set cannot be used; the message says what to do.

    Examples:
        >>> import convnext
        >>> data = convnext.read_dataset("photos")
        >>> data.classes, sum(len(samples) for samples in data.splits.values())
        (('narrow', 'wide'), 80)
    """
    reading = Reading(val, test, classes, columns or Columns(path_column, label_column, split_column), judging=judging)
    return survey(root, reading, ClassTargets(), progress, workers)[0]


def diagnose(
    root: Path,
    *,
    val: float = 0.15,
    test: float = 0.15,
    classes: tuple[str, ...] = (),
    columns: Columns | None = None,
    path_column: str = "path",
    label_column: str = "label",
    split_column: str = SPLIT,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Diagnosis:
    """Checks a data set; the arguments are those of `read_dataset`. A data set that cannot be used is a finding too.

    Examples:
        >>> import convnext
        >>> found = convnext.diagnose("photos")
        >>> found.ok, found.classes
        (True, ('narrow', 'wide'))
    """
    reading = Reading(val, test, classes, columns or Columns(path_column, label_column, split_column))
    return examine(Path(root), reading, ClassTargets(), progress, workers)


def _classes(root: Path, listing: Listing, wanted: tuple[str, ...], judging: bool, several: bool) -> tuple[str, ...]:
    """The classes in their order: those wanted, or those found."""
    found = in_order(name for entry in listing.entries for name in entry.truth)
    if wanted:
        retrain = "" if judging else ", or set data.classes=[] to take what is there"
        for name in found:
            if name not in wanted:
                raise DataError(
                    f'{printable(root)}: class "{printable(name)}" is not one of the classes asked for'
                    f"{did_you_mean(name, wanted)}: {listed(wanted)}; rename it or leave it out{retrain}"
                )
        return wanted
    if not found:
        raise DataError(f"{printable(root)}: no picture has a label, so there is nothing to learn; give some a class")
    if len(found) < 2 and not judging and not several:
        hint = _deeper(root, found) if listing.layout != "csv" else ""
        raise DataError(
            f'{printable(root)}: a single class ("{printable(found[0])}"): '
            f"a classifier needs two or more to tell apart{hint}"
        )
    if not judging:
        _refuse_unseen(root, listing)
    return tuple(found)


def _deeper(root: Path, found: list[str]) -> str:
    """A hint when the only class folder itself holds folders, as after unpacking an archive into a folder."""
    inner = root / found[0]
    folders = [item.name for item in inner.iterdir() if item.is_dir()] if inner.is_dir() else []
    return f"; did you mean {printable(inner)}, which holds {listed(sorted(folders), 5)}?" if len(folders) > 1 else ""


def _refuse_unseen(root: Path, listing: Listing) -> None:
    """A class of a given val or test split must be in train as well."""
    if all(entry.split is None for entry in listing.entries):
        return
    known = {name for entry in listing.entries if entry.split == "train" for name in entry.truth}
    for entry in listing.entries:
        for name in entry.truth:
            if name not in known:
                raise DataError(
                    f'{printable(root)}: class "{printable(name)}" is in {entry.split} but not in train'
                    f"{did_you_mean(name, known)}: every class needs pictures to learn from"
                )


def _refuse_lost(learnt: Sequence[Entry], facts: Mapping[Path, Facts]) -> None:
    """A class whose pictures (in train, when the data set has splits) are all broken cannot be learnt."""
    entries: dict[str, list[Entry]] = defaultdict(list)
    for entry in learnt:
        for name in entry.truth:
            entries[name].append(entry)
    for name, members in sorted(entries.items()):
        if all(facts[entry.path].reason for entry in members):
            first = members[0].path
            raise DataError(
                f'class "{printable(name)}": {all_of(len(members))} broken; the first, {printable(first)}: '
                f"{facts[first].reason}: replace the files or take the class out of the data set"
            )


def _refuse_absent(dataset: Dataset, asked: tuple[str, ...]) -> None:
    for name, pictures in zip(dataset.classes, counts(dataset, "train"), strict=True):
        if asked.count(name) > 1:
            raise DataError(f'data.classes names "{name}" {asked.count(name)} times; once is enough')
        if asked and not pictures:
            there = [c for c, n in zip(dataset.classes, counts(dataset, "train"), strict=True) if n]
            raise DataError(
                f'{called(dataset.root)}: class "{name}" of data.classes has no training pictures'
                f"{did_you_mean(name, there)}; take it out, or give it some"
            )
    if len(dataset.classes) < 2 and not dataset.multi_label:
        raise DataError(f"{called(dataset.root)}: a single class; a classifier needs two or more to tell apart")
