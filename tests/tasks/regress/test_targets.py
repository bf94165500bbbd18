"""Tables of numbers: which task they ask for, how they are read, split and refused, and what the doctor says."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.config import load_recipe
from convnext.data.doctor.diagnose import examine
from convnext.data.sources.columns import columns_of
from convnext.data.sources.dataset import Dataset
from convnext.data.sources.open import open_data
from convnext.data.sources.reading import Reading
from convnext.errors import DataError, RecipeError, UserError
from convnext.recipe import Recipe
from convnext.tasks.classify.numeric import numbers_as_classes
from convnext.tasks.regress.aside import set_aside
from convnext.tasks.regress.scaling import Target
from convnext.tasks.regress.targets import NumberTargets
from convnext.tasks.table import decided, targets_of, task_of


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 different tiny pictures."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(60):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(root / f"{number:02}.png")
    return root


def _table(pictures: Path, header: str, cells: Sequence[Sequence[object]], name: str = "t.csv") -> Path:
    path = pictures / name
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", *header.split(",")])
        writer.writerows([f"{number:02}.png", *row] for number, row in enumerate(cells))
    return path


def _read(table: Path, *settings: str) -> tuple[Recipe, Dataset]:
    recipe = decided(load_recipe(None, settings), table)
    return recipe, open_data(table, Reading.of(recipe.data), targets_of(recipe))


MANY = [[f"{0.5 * number:g}"] for number in range(60)]
FEW = [[number % 4] for number in range(60)]


@pytest.mark.parametrize(("header", "cells", "settings", "kind"), [
    ("target", MANY, (), "regress"),
    ("Target", MANY, (), "regress"),
    ("label", MANY, (), "classify"),
    ("label,target", [["a", number] for number in range(60)], (), "classify"),
    ("target", MANY, ("data.label_column=target",), "classify"),
    ("target", FEW, ("task.kind=regress",), "regress"),
    ("target", [["cat"], ["dog"]] * 30, (), "classify"),
    ("age", MANY, ('task.targets=["age"]',), "regress"),
    ("label,age", [["a", number] for number in range(60)], ('task.targets=["age"]',), "regress"),
    ("age", MANY, ("data.label_column=age",), "classify"),
    ("age", MANY, ("data.label_column=age", "task.unit=months"), "regress"),
    ("age", MANY, ("task.range=[0,40]",), "regress"),
    ("label", MANY, ("task.scale=log",), "regress"),
    ("label", MANY, ("task.within=[1]",), "regress"),
    ("label", MANY, ("task.unit=m", "task.kind=classify"), "classify"),
])  # fmt: skip
def test_the_table_says_which_task(
    pictures: Path, header: str, cells: list[list[object]], settings: tuple[str, ...], kind: str
) -> None:
    """A column of labels is classes, whatever it holds; a column target of many different numbers is regression; what
    the recipe says goes first."""
    assert decided(load_recipe(None, settings), _table(pictures, header, cells)).task.kind == kind


def test_whole_numbers_of_few_values_are_asked_about(pictures: Path) -> None:
    """Both ways to say it are named, and each of them then works."""
    table = _table(pictures, "target", FEW)
    with pytest.raises(
        DataError, match=r"task\.kind=regress for a number, or task\.kind=classify .*label_column=target"
    ):
        decided(load_recipe(), table)
    recipe, data = _read(table, "task.kind=regress")
    assert task_of(recipe, data).describe().startswith("target")
    recipe, data = _read(table, "task.kind=classify", "data.label_column=target")
    assert data.classes == ("0", "1", "2", "3")


@pytest.mark.parametrize(("cells", "said"), [
    (MANY, True),
    ([[2000 + number % 30] for number in range(60)], True),
    ([[number % 10] for number in range(60)], False),
    ([[number % 5 + 1] for number in range(60)], False),
    ([[f"class {number % 30}"] for number in range(60)], False),
    ([[f"{number % 3}.0"] for number in range(60)], False),
], ids=["fractions", "years", "digits", "stars", "words", "whole"])  # fmt: skip
def test_numbers_that_are_taken_for_classes_are_said(pictures: Path, cells: list[list[object]], said: bool) -> None:
    """In a column of labels they stay classes, but where they look measured a line says how they are learnt as numbers,
    and that way works; digits and stars are quiet."""
    table = _table(pictures, "label", cells)
    recipe, data = _read(table)
    assert recipe.task.kind == "classify"
    assert len(data.classes) == len({str(row[0]) for row in cells})
    assert any("task.kind=regress" in note for note in data.notes) == said
    if said:
        assert task_of(*_read(table, "task.kind=regress")).describe().startswith("label")


def test_indices_of_many_classes_are_quiet() -> None:
    """0 to 99, each often, are CIFAR's classes; with a gap, or once each, they may be ages."""
    rows = [(str(number % 100),) for number in range(1000)]
    assert numbers_as_classes(rows, "label") == []
    assert numbers_as_classes(rows[:100], "label")
    assert numbers_as_classes([("130",), *rows], "label")


@pytest.mark.parametrize(("header", "cells", "setting"), [
    ("age", MANY, 'task.targets=["age"]'),
    ("a,b", [[number, ""] if number % 2 else ["", number] for number in range(60)], "task.targets=[\"a\",\"b\"]"),
])  # fmt: skip
def test_a_table_without_labels_says_how_numbers_are_learnt(
    pictures: Path, header: str, cells: list[list[object]], setting: str
) -> None:
    """Beside the way to name classes; and the setting that is named works."""
    table = _table(pictures, header, cells)
    with pytest.raises(DataError, match=re.escape(setting)):
        _read(table)
    assert _read(table, setting)[0].task.kind == "regress"


def test_a_unit_for_a_folder_is_refused(pictures: Path) -> None:
    """It has no numbers, and classes have no unit: nothing is left out of account in silence."""
    with pytest.raises(DataError, match="path,target"):
        _read(pictures, "task.unit=months")


def test_other_data_name_their_column_by_a_setting_that_judging_takes(pictures: Path) -> None:
    """Of one target data.label_column; of several the columns are to be renamed."""
    table = _table(pictures, "y", MANY)
    one, two = (NumberTargets(known=tuple(map(Target, names))) for names in (("target",), ("a", "b")))
    with pytest.raises(DataError, match=r"data\.label_column=y"):
        open_data(table, Reading().to_judge(), one)
    reading = Reading(columns=columns_of(load_recipe(None, ["data.label_column=y"]).data)).to_judge()
    assert len(open_data(table, reading, one).splits["train"]) == 60
    with pytest.raises(DataError, match=r"no column a, b.*rename"):
        open_data(table, Reading().to_judge(), two)


def test_folders_and_unknown_tasks(pictures: Path) -> None:
    """A folder is of classes where nobody says otherwise; regression refuses it with the table to write."""
    assert decided(load_recipe(), pictures).task.kind == "classify"
    with pytest.raises(DataError, match="path,target"):
        open_data(pictures, Reading(), NumberTargets())
    with pytest.raises(RecipeError, match='did you mean "regress"'):
        decided(load_recipe(None, ["task.kind=regres"]), pictures)


def test_every_split_has_its_share_of_the_range(pictures: Path) -> None:
    """Split by us, each fifth of the range has pictures in val and in test; equal tables give equal splits."""
    table = _table(pictures, "target", MANY)
    _, data = _read(table)
    for split in ("val", "test"):
        parts = {min(4, int(sample.target[0] // 6)) for sample in data.splits[split]}
        assert parts == {0, 1, 2, 3, 4}, split
    assert data.fingerprint() == _read(table)[1].fingerprint()


def test_rows_without_a_target_are_left_out_and_said(pictures: Path) -> None:
    """With several targets one may be missing; a repeated row with a missing value is no contradiction."""
    cells = [[number, "" if number % 3 else number] for number in range(60)]
    cells[5] = ["", ""]
    table = _table(pictures, "a,b", cells)
    with table.open("a") as file:
        file.write("01.png,1,\n")
    _, data = _read(table, 'task.targets=["a","b"]')
    samples = [sample for split in data.splits.values() for sample in split]
    assert len(samples) == 59
    assert sum(math.isnan(sample.target[1]) for sample in samples) == 39
    assert any("left out" in note for note in data.notes)
    assert data.meaning.text((1.5, math.nan)) == "1.5|"
    batch = data.meaning.collate([(1.5, math.nan), ()])
    assert batch.shape == (2, 2)
    assert batch.isnan().tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize(("header", "cells", "settings", "said"), [
    ("target", [["7"]] * 60, ("task.kind=regress",), "is 7 for every picture; there must be different values"),
    ("target", [["3"], ["4"]] + [[""]] * 58, ("task.kind=regress",), "has 2 values; at least 5"),
    ("target", [["old"], *MANY[1:]], ("task.kind=regress",), r'line 2: "old" in column "target" is text'),
    ("target", MANY, ("task.range=[1, 20]",), "target \"target\" is 0; task.range is 1 to 20"),
    ("target", MANY, ("task.scale=log",), "on a log scale every value must be above 0"),
    ("target", MANY, ('task.unit=["a","b"]',), "task.unit has 2 values for 1 target"),
    ("target", MANY, ("task.range=[1]",), "task.range has 1 value for 1 target"),
    ("age", MANY, ("task.kind=regress",), r'no column "target".*task\.targets=\["age"\]'),
    ("age,size", [[n, n] for n in range(60)], ('task.targets=["age"]', "data.label_column=size"), "both say where"),
    ("target", MANY, ('task.targets=["path"]',), "cannot hold a target and something else"),
])  # fmt: skip
def test_what_cannot_be_learnt_is_refused(
    pictures: Path, header: str, cells: list[list[object]], settings: tuple[str, ...], said: str
) -> None:
    """Value, rule and remedy, before any training."""
    table = _table(pictures, header, cells)
    with pytest.raises(UserError, match=said):
        _read(table, *settings)


def test_rows_that_contradict_each_other_are_refused(pictures: Path) -> None:
    """One picture with two values."""
    table = _table(pictures, "target", MANY)
    with table.open("a") as file:
        file.write("03.png,99\n")
    with pytest.raises(DataError, match=r"lines 5 and 62: .*03\.png is 1\.5 and 99: keep the right row"):
        _read(table)


def test_the_doctor_finds_what_is_odd_about_numbers(pictures: Path) -> None:
    """An outlier, values that are missing in one of two targets, equal pictures with different values, a test split
    beyond the range of training; and sound values give none of these."""
    cells: list[list[object]] = [[f"{10 + number % 7}.5", number, "train"] for number in range(58)]
    cells[3] = ["999.5", "", "train"]
    cells += [["11", 70, "test"], ["12", 71, "val"]]
    table = _table(pictures, "target,size,split", cells)
    (pictures / "copy.png").write_bytes((pictures / "04.png").read_bytes())
    with table.open("a") as file:
        file.write("copy.png,15.5,8,train\n")
    recipe = decided(load_recipe(None, ['task.targets=["target","size"]']), table)
    found = examine(table, Reading.of(recipe.data), targets_of(recipe))
    kinds = {finding.kind: finding for finding in found.findings}
    assert {"outlier", "missing_target", "target_range", "few_to_judge", "label_conflict"} <= set(kinds)
    assert kinds["outlier"].cases[0].files == ("03.png",)
    assert "999.5" in kinds["outlier"].message
    assert kinds["missing_target"].cases[0].files == ("03.png",)
    assert "1 value" in kinds["target_range"].message
    (pictures / "copy.png").unlink()
    plain = _table(pictures, "target", MANY)
    recipe = decided(load_recipe(), plain)
    kinds = {f.kind: f for f in examine(plain, Reading.of(recipe.data), targets_of(recipe)).findings}
    assert not {"outlier", "missing_target", "uneven_target", "label_conflict"} & set(kinds)


def test_pictures_set_aside_keep_groups_together(pictures: Path) -> None:
    """Half of the validation pictures calibrate; those of one group are all in or all out, and the same each time."""
    cells = [[0.5 * number, "val" if number < 40 else "train", f"g{number // 2}"] for number in range(60)]
    table = _table(pictures, "target,split,animal", cells)
    _, data = _read(table, "data.group_column=animal")
    aside = set_aside(data, 0.9)
    groups = {data.groups[data.splits["val"][at].path] for at in aside}
    rest = {data.groups[s.path] for at, s in enumerate(data.splits["val"]) if at not in aside}
    assert len(aside) == 20
    assert not groups & rest
    assert aside == set_aside(data, 0.9)
    assert set_aside(data, 0.0) == set_aside(data, 0.99) == frozenset()
