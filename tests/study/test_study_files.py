"""The files of a search: a damaged tune.json is written anew from tune.db, and an emptied tune.db is no new search."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

from convnext.__main__ import main
from convnext.config import load_recipe, override
from convnext.errors import RunError
from convnext.recipe import Recipe
from convnext.report.tune_page import write_tune_report
from convnext.study.space import load_space
from convnext.study.subject import Search
from convnext.study.tune import open_study, search
from convnext.study.tune_result import read_result, repeat

SPACE = '["train.lr"]\nlow = 1e-4\nhigh = 1e-2\nlog = true\n["augment.mixup"]\nlow = 0.0\nhigh = 0.5\n'
BAD: list[Any] = [None, True, -1, "x", [], {}, float("nan"), 1e400, 10**40, [[1]], "\x1b[2J"]


def make(tmp_path: Path) -> Search:
    """A search in `tmp_path`/a study."""
    (tmp_path / "space.toml").write_text(SPACE)
    recipe = load_recipe(None, ["weights=none", "model.name=convnext_atto", "train.epochs=2", "data.size=32"])
    knobs = load_space(tmp_path / "space.toml", recipe)
    return Search(tmp_path / "data", recipe, knobs, tmp_path / "a study", "random", "none")


def train(recipe: Recipe, out: Path, after_epoch: Callable[[dict[str, Any]], None]) -> float:
    """A stand-in for training."""
    after_epoch({"epoch": 1, "epochs": 2, "val_top1": 0.25})
    return 1.0 - recipe.augment.mixup


@pytest.mark.parametrize("content", ["", "[" * 9000, '{"trials": 5}', "[]", "\udc80", None])
def test_a_damaged_table_of_trials_is_written_anew(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the values of the repeats; the page is refused before that, with the name of the file."""
    what = make(tmp_path)
    search(what, trials=3, minutes=None, train=train)
    values = repeat(open_study(what), what, 2, train)
    before = read_result(what.out)
    assert before["repeats"]["values"] == values
    file = what.out / "tune.json"
    file.unlink() if content is None else file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunError, match=r"tune\.json"):
        write_tune_report(what.out)
    search(what, trials=3, minutes=None, train=train)
    assert "it is written anew from" in capsys.readouterr().err
    assert read_result(what.out) == before


def test_a_table_of_trials_with_damaged_values_gives_a_page_or_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 times another value at some place."""
    what = make(tmp_path)
    search(what, trials=2, minutes=None, train=train)
    repeat(open_study(what), what, 1, train)
    sound = read_result(what.out)
    monkeypatch.setattr("convnext.report.tune_page._image", lambda figure: "data:")
    rng, refused = random.Random(7), 0
    for _ in range(60):
        known = copy.deepcopy(sound)
        at: Any = known
        while True:
            key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
            if not isinstance(at[key], dict | list) or not at[key] or rng.random() < 0.3:
                break
            at = at[key]
        at[key] = rng.choice(BAD)
        (what.out / "tune.json").write_text(json.dumps(known))
        try:
            write_tune_report(what.out)
        except RunError as error:
            refused += "tune.json" in str(error)
    assert 20 < refused < 60


def test_an_emptied_database_beside_trials_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No bytes in it, or no study: the trials would be lost in silence. Without trials it is a beginning."""
    what = make(tmp_path)
    search(what, trials=1, minutes=None, train=train)
    base = what.out / "tune.db"
    whole = base.read_bytes()
    base.write_bytes(b"")
    for again in (lambda: open_study(what), lambda: search(what, trials=2, minutes=None, train=train)):
        with pytest.raises(RunError, match=r"tune\.db is empty, but there are trials in"):
            again()
    assert main(["tune", str(tmp_path), "--out", str(what.out), "--resume", "--trials", "1"]) == 2
    assert "tune.db is empty" in capsys.readouterr().err
    base.write_bytes(whole)
    assert len(search(what, trials=2, minutes=None, train=train)) == 2
    fresh = make(tmp_path / "other") if (tmp_path / "other").mkdir() is None else what
    fresh.out.mkdir()
    (fresh.out / "tune.db").write_bytes(b"")
    assert len(search(fresh, trials=1, minutes=None, train=train)) == 1


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("trial_user_attributes", "slot", "[1]"), ("trial_user_attributes", "counts", '"yes"'),
        ("trial_user_attributes", "reason", "{}"), ("trial_user_attributes", "generation", '"x"'),
        ("trial_user_attributes", "slot", "[" * 3000), ("study_user_attributes", "identity", "5"),
        ("study_user_attributes", "identity", '{"data": {}}'), ("study_user_attributes", "settled", "[]"),
        ("study_user_attributes", "settled", '{"train.epochs": []}'), ("study_user_attributes", "identity", "{"),
        ("trial_system_attributes", "cma:generation", '"x"'),
    ],
)  # fmt: skip
def test_a_study_that_holds_nonsense_is_named(table: str, key: str, value: str, tmp_path: Path) -> None:
    """Whatever stands in its tables: a message with the database's name, or it is of no account."""
    what = make(tmp_path)
    search(what, trials=2, minutes=None, train=train)
    with contextlib.closing(sqlite3.connect(what.out / "tune.db")) as base:
        of = "study_id" if table.startswith("study") else "trial_id"
        base.execute(f"delete from {table} where key = ?", (key,))
        base.execute(f"insert into {table} ({of}, key, value_json) values (1, ?, ?)", (key, value))
        base.commit()
    if table == "trial_system_attributes":
        assert len(search(replace(what, sampler="cmaes"), trials=3, minutes=None, train=train)) == 3
        return
    with pytest.raises(RunError, match=r"tune\.db cannot be used"):
        search(what, trials=3, minutes=None, train=train)


def test_a_study_of_an_older_version_goes_on(tmp_path: Path) -> None:
    """It says neither by which score it goes nor what its recipe asks; with another task it is another study."""
    what = make(tmp_path)
    search(what, trials=2, minutes=None, train=train)
    with contextlib.closing(sqlite3.connect(what.out / "tune.db")) as base:
        base.execute("delete from study_user_attributes where key = 'score'")
        ((identity,),) = base.execute("select value_json from study_user_attributes where key = 'identity'")
        known = json.loads(identity)
        assert known["recipe"].pop("task.kind") == "auto"
        base.execute("update study_user_attributes set value_json = ? where key = 'identity'", (json.dumps(known),))
        base.commit()
    table = json.loads((what.out / "tune.json").read_text())
    assert table.pop("score")["key"] == "top1"
    (what.out / "tune.json").write_text(json.dumps(table))
    assert "report.html" in str(write_tune_report(what.out))
    assert len(search(what, trials=3, minutes=None, train=train)) == 3
    with pytest.raises(RunError, match=r"another recipe \(train.patience\)"):
        search(replace(what, recipe=override(what.recipe, {"train.patience": 2})), trials=4, minutes=None, train=train)


@pytest.mark.parametrize(
    "change",
    ["update studies set study_id = -1", "update study_directions set direction = 'MINIMIZE'",
     "delete from study_directions",
     "insert into study_directions (direction, study_id, objective) values ('MAXIMIZE', 1, 1)"],
)  # fmt: skip
def test_a_study_that_looks_for_something_else_is_refused(change: str, tmp_path: Path) -> None:
    """With other directions no trial would ever count, and trials be made without end; or the worst would be sought."""
    what = make(tmp_path)
    search(what, trials=2, minutes=None, train=train)
    with contextlib.closing(sqlite3.connect(what.out / "tune.db")) as base:
        base.execute(change)
        base.commit()
    with pytest.raises(RunError, match=r"tune\.db cannot be used \(it does not look for the highest of one value\)"):
        search(what, trials=3, minutes=None, train=train)


@pytest.mark.parametrize(
    ("column", "value"),
    [("study_directions.direction", "x" * 10**6), ("trials.state", "DONE"), ("trials.state", -1),
     ("trial_values.value_type", "[" * 9000), ("trials.datetime_start", "yesterday"), ("trials.datetime_start", b"x"),
     ("trial_params.distribution_json", '{"name": "FloatDistribution", "attributes": {"low": 0}}'),
     ("trial_params.distribution_json", '{"name": "x", "attributes": {}}'), ("trial_params.param_value", "x"),
     ("trials.number", 9e999),
     ("trial_params.param_value", None), ("trial_params.param_value", 9e999), ("trial_params.param_name", "lr"),
     ("trial_params.param_name", b"x")],
)  # fmt: skip
def test_columns_that_hold_nonsense_end_in_a_short_sentence(column: str, value: Any, tmp_path: Path) -> None:
    """Words that no enumeration has, times, numbers, settings and distributions that are none."""
    what, (table, name) = make(tmp_path), column.split(".")
    search(what, trials=2, minutes=None, train=train)
    with contextlib.closing(sqlite3.connect(what.out / "tune.db")) as base:
        base.execute(f"update {table} set {name} = ? where rowid = (select max(rowid) from {table})", (value,))
        base.commit()
    with pytest.raises(RunError, match=r"tune\.db cannot be used \(") as caught:
        search(what, trials=3, minutes=None, train=train)
    assert len(str(caught.value)) < 1000


@pytest.mark.filterwarnings("ignore:The value nan is not acceptable")
def test_a_value_that_is_no_number_ends_the_search(tmp_path: Path) -> None:
    """Optuna notes such a trial as failed, which never counts: it would be made again for ever."""
    with pytest.raises(RunError, match="trial 0: the study does not take its value nan"):
        search(make(tmp_path), trials=2, minutes=None, train=lambda *_: float("nan"))


@pytest.mark.parametrize(
    "program",
    [
        "alter table trials rename to t2; create view trials as with recursive c(x) as (select 1 union all "
        "select x + 1 from c) select x as trial_id, x as number, 1 as study_id, 'COMPLETE' as state from c",
        "create trigger z after insert on trials begin delete from trials; end",
        "alter table trials add column z generated always as (number * 2)",
        "create virtual table z using rtree(id, a, b)",
    ],
)
def test_a_study_that_computes_is_refused(program: str, tmp_path: Path) -> None:
    """Views without an end, triggers, computed columns and virtual tables: refused before anything is read."""
    what = make(tmp_path)
    search(what, trials=2, minutes=None, train=train)
    with contextlib.closing(sqlite3.connect(what.out / "tune.db")) as base:
        base.executescript(program)
    with pytest.raises(RunError, match="plain tables only"):
        search(what, trials=3, minutes=None, train=train)


def test_the_command_in_the_best_recipe_can_be_typed(tmp_path: Path) -> None:
    """Its folder has a blank in its name."""
    what = make(tmp_path)
    search(what, trials=1, minutes=None, train=train)
    assert f"convnext train {what.data} '{what.out / 'best.toml'}'" in (what.out / "best.toml").read_text()
