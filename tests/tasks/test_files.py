"""What the files of a run hold in the words of a task is checked by the task, whoever made the folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from convnext.run.schema import parse
from convnext.tasks.checks import Damaged, maybe, named, number, rows, table, text
from convnext.tasks.classify.multi import MultiLabel
from convnext.tasks.classify.single import SingleLabel
from convnext.tasks.records import Records
from convnext.tasks.table import TASKS, checks_of


@pytest.fixture
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task with checks of its own, and one without."""
    for name in ("toy", "bare"):
        monkeypatch.setitem(TASKS, name, name)
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["bare"].__path__ = []
    files: Any = ModuleType("toy.files")
    files.CHECKS = {"result.json": table({"mae": number}), "mistakes.json": rows(table({"off": number}))}
    monkeypatch.setitem(sys.modules, "toy.files", files)


def of(value: Any) -> bytes:
    """As it stands in a file."""
    return json.dumps(value).encode()


@pytest.mark.usefixtures("_toy")
def test_a_file_is_checked_in_the_words_of_its_task() -> None:
    """Of the task that it names, or that the reader knows; without a name it is a classification, as of old."""
    assert parse(of({"task": "toy", "mae": 3, "top1": "x"}), "result.json")["mae"] == 3
    with pytest.raises(Damaged, match='mae = "x": it must be a number'):
        parse(of({"task": "toy", "mae": "x"}), "result.json")
    with pytest.raises(Damaged, match='top1 = "x": it must be a number'):
        parse(of({"top1": "x"}), "result.json")
    with pytest.raises(Damaged, match="mae"):
        parse(of({"task": "bare", "mae": "x"}), "result.json", "toy")
    with pytest.raises(Damaged, match=r"off = null"):
        parse(of([{"path": "a.png", "off": None}]), "mistakes.json", "toy")
    for name in ("bare", "of a later version"):
        assert dict(checks_of(name)) == {}
        assert parse(of({"task": name, "mae": "x"}), "result.json")["mae"] == "x"
        with pytest.raises(Damaged, match="n = -1"):  # what every verdict has is checked all the same
            parse(of({"task": name, "n": -1}), "result.json")


def test_checks_that_cannot_be_imported_are_not_taken_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a mistake in them would switch them off in silence."""
    (tmp_path / "a_broken_task").mkdir()
    (tmp_path / "a_broken_task" / "files.py").write_text("import convnext.nothing\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(TASKS, "broken", "a_broken_task")
    with pytest.raises(ModuleNotFoundError, match=r"convnext\.nothing"):
        checks_of("broken")


@pytest.mark.parametrize("several", [False, True])
def test_verdicts_pass_their_own_checks(several: bool) -> None:
    """Those that judging gives now, with their intervals, gains, rows of classes and thresholds."""
    rng = np.random.default_rng(0)
    if several:
        truth: Any = (rng.random((40, 3)) < 0.5).astype(np.float32)
        task: Any = MultiLabel(("a", "b", "c"), thresholds=(0.4, 0.5, 0.6), chosen=("f1", ()))
    else:
        truth, task = rng.integers(0, 3, 40), SingleLabel(("a", "b", "c"))
    records = Records({"values": rng.dirichlet(np.ones(3), 40).astype(np.float32), "truth": truth})
    result = task.judge(records, {"majority": [0]}) | {"task": task.name} | task.told()
    assert parse(of(result), "result.json")["n"] == 40
    kept = [{"path": "a.png", **row, "picture": None} for _, row in task.worst(records, 5)]
    assert len(parse(of(kept), "mistakes.json", task.name)) == 5
    for key in ("per_class", "intervals", "gains", "baselines"):
        with pytest.raises(Damaged):
            parse(of(result | {key: [1]}), "result.json")


def test_checks_say_where_and_what() -> None:
    """The place in the file, the value, and the rule."""
    check = table({"targets": named(table({"mae": maybe(number), "name": text}, ("name",)))}, ("targets",))
    check({"targets": {"age": {"mae": None, "name": "age"}}}, "")
    for value, said in (
        ({}, "targets = null: it must be there"),
        ({"targets": {"age": {}}}, "targets.age.name = null: it must be there"),
        ({"targets": {"age": {"name": "age", "mae": True}}}, "targets.age.mae = true: it must be a number"),
    ):
        with pytest.raises(Damaged) as error:
            check(value, "")
        assert str(error.value) == said
