"""What a regression's terminal says, and what it advises."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error

from convnext.report.advice import advise
from convnext.report.files import read_run
from convnext.report.text import describe_advice, describe_result, trivial_lines
from convnext.tasks.regress.conformal import needed
from convnext.tasks.table import TASKS
from tests.tasks.regress.runs import AGE, Made, make_run
from tests.tasks.regress.test_page import answers


@pytest.fixture(autouse=True)
def _in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "regress", "convnext.tasks.regress")


def change(run: Path, name: str, **changes: Any) -> None:
    """Keys of a JSON file of the run; those of result.json are the target's own."""
    content = json.loads((run / name).read_text())
    (content["targets"]["age"] if name == "result.json" else content).update(changes)
    (run / name).write_text(json.dumps(content))


def kinds(run: Path, *, own: bool = True) -> list[str]:
    """What is advised, in order."""
    return [step.kind for step in advise(read_run(run), own=own)]


def test_the_terminal_has_each_score_beside_the_trivial_answer(tmp_path: Path) -> None:
    """The numbers of the answers with their intervals, in plain signs; the ranges sum to the pictures."""
    run = make_run(tmp_path / "run")
    truth, value = answers(run)
    result = json.loads((run / "result.json").read_text())
    said = describe_result(result)
    assert all(ord(sign) < 256 for sign in said)
    mae, trivial = mean_absolute_error(truth, value), np.abs(truth - np.median(truth)).mean()
    low, high = result["intervals"]["mae"]
    assert re.search(rf"MAE +{mae:.1f} months  \[{low:.1f}, {high:.1f}\] +trivial {trivial:.1f} months\n", said)
    assert f"always {np.median(truth):.4g} months" in said
    assert f"{trivial:.1f} months  (the trivial answer)" in said
    assert "on the same pictures: better than the trivial answer" in said
    assert "from 40 calibration pictures" in said
    ranges = re.findall(r"^  \d+ to \d+ +(\d+) +([\d.]+) +([+-][\d.]+) +([\d.]+)$", said, re.M)
    assert sum(int(row[0]) for row in ranges) == len(truth)
    assert sum(int(row[0]) * float(row[1]) for row in ranges) / len(truth) == pytest.approx(mae, abs=0.06)
    assert all(line in said for line in trivial_lines(result))


def test_several_targets_are_told_apart(tmp_path: Path) -> None:
    """Each below its name, with its unit, its missing values and its own trivial answer."""
    run = make_run(tmp_path / "run", (AGE, Made("weight", "kg", 9.0, 0.1, None, missing=6)))
    result = json.loads((run / "result.json").read_text())
    said = describe_result(result)
    first, age, weight = said.split("\n\n")[:3]
    assert re.search(rf"mean error +{result['error']:.3f} deviations", first)
    assert age.startswith("  age\n")
    assert " months" in age
    assert weight.startswith("  weight\n")
    assert " kg" in weight
    assert "6 pictures without a known value are left out" in weight
    assert "no intervals: 5 are too few" in weight
    assert [line.split(":")[0].strip() for line in trivial_lines(result) if "(the trivial answer)" in line][:2] == [
        "age", "weight",
    ]  # fmt: skip


@pytest.mark.parametrize("n", [1, 2])
def test_few_pictures_claim_nothing(tmp_path: Path, n: int) -> None:
    """One picture has no interval and no correlation; nothing is called better."""
    run = make_run(tmp_path / "run", n=n, pictures=0)
    said = describe_result(json.loads((run / "result.json").read_text()))
    assert "R2" not in said or n > 1
    assert "nan" not in said
    assert "doubt" in kinds(run)


def test_a_good_run_is_to_be_used(tmp_path: Path) -> None:
    """Nothing stands out."""
    run = make_run(tmp_path / "run")
    assert kinds(run) == ["use"]
    assert "convnext predict" in describe_advice(advise(read_run(run)))


def test_an_error_that_still_falls_is_to_be_trained_on(tmp_path: Path) -> None:
    """By more than 2 % of the target's deviation in the last quarter."""
    run = make_run(tmp_path / "run")
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for factor, expected in ((2.0, "rising"), (0.02, "use")):
        for row in rows:
            row["val_mae"] = 7.2 + factor * (8 - row["epoch"])
            row["ema_val_mae"] = row["val_mae"] + 0.1
        (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert kinds(run) == [expected]
    assert "rising" not in kinds(run, own=False)


def test_a_run_of_few_steps_is_too_short(tmp_path: Path) -> None:
    """Its one command prolongs it."""
    run = make_run(tmp_path / "run")
    rows = [json.loads(line) | {"step": 10} for line in (run / "log.jsonl").read_text().splitlines()]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert kinds(run) == ["short"]
    assert "train.epochs=" in describe_advice(advise(read_run(run)))


@pytest.mark.parametrize(("validation", "said"), [(2.0, "another kind"), (19.0, "not alike"), (6.8, "")])
def test_a_test_error_far_from_validations_is_told(tmp_path: Path, validation: float, said: str) -> None:
    """Beyond what chance explains by the error's own interval."""
    run = make_run(tmp_path / "run")
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for row in rows:
        row |= {"val_mae": validation, "ema_val_mae": validation}
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert kinds(run) == (["apart"] if said else ["use"])
    assert said in describe_advice(advise(read_run(run)))


@pytest.mark.parametrize(("pictures", "level"), [(8, "0.85"), (5, "0.8"), (1, "0.5"), (0, "")])
def test_too_few_calibration_pictures_have_two_remedies(tmp_path: Path, pictures: int, level: str) -> None:
    """How many it takes, and the highest level in steps of 5 % that those at hand allow, or none."""
    run = make_run(tmp_path / "run", (Made(half=None),))
    known = json.loads((run / "result.json").read_text())["targets"]["age"]["calibration"]
    change(run, "result.json", calibration=known | {"pictures": pictures})
    (step,) = advise(read_run(run))
    assert step.kind == "few"
    assert f"take at least {needed(0.9)} validation pictures" in step.text
    assert (f"task.coverage={level} " in step.command) == bool(level)
    assert not level or needed(float(level)) <= pictures < needed(float(level) + 0.05)


def test_ends_that_are_drawn_to_the_middle_get_more_weight(tmp_path: Path) -> None:
    """Where the error there is much larger and surely towards the middle; not twice, and not for other data."""
    run = make_run(tmp_path / "run")
    rows = json.loads((run / "result.json").read_text())["targets"]["age"]["by_range"]
    last = rows[-1] | {"mae": 20.0, "bias": -18.0}
    change(run, "result.json", by_range=[*rows[:-1], last | {"intervals": {"bias": [-24.0, -12.0]}}])
    (step,) = advise(read_run(run))
    assert step.kind == "ends"
    assert f"from {rows[-1]['low']:g} to {rows[-1]['high']:g} (by 18.0" in step.text
    assert "task.balance=0.5 --out" in step.command
    assert kinds(run, own=False) == ["ends"]
    assert advise(read_run(run), own=False)[0].command == ""
    text = (run / "recipe.toml").read_text().replace('kind = "regress"', 'kind = "regress"\nbalance = 0.5')
    (run / "recipe.toml").write_text(text)
    assert advise(read_run(run))[0].command == ""
    for changed in ({"bias": 18.0, "intervals": {"bias": [12.0, 24.0]}}, {"intervals": {"bias": [-40.0, 4.0]}}):
        change(run, "result.json", by_range=[*rows[:-1], last | changed])
        assert kinds(run) == ["use"], "away from the middle, or by chance"
    change(run, "result.json", by_range=[*rows[:-1], last], gains={"mae": {"value": 0.1, "interval": [-1.0, 1.2]}})
    assert kinds(run) == ["doubt"], "what has learnt nothing says the middle everywhere"


@pytest.mark.parametrize(("slip", "log", "found"), [(900.0, False, True), (900.0, True, False), (0.0, False, False)])
def test_a_value_far_from_all_others_leads_to_the_doctor(tmp_path: Path, slip: float, log: bool, found: bool) -> None:
    """More than five times the width of the middle 90 % beyond it; on a log scale by its logarithm."""
    run = make_run(tmp_path / "run", (Made(slip=slip),))
    change(run, "result.json", log=log)
    steps = [step for step in advise(read_run(run)) if step.kind == "outliers"]
    assert len(steps) == found
    if found:
        assert "reach 900 months" in steps[0].text.replace("\u00a0", " ")
        assert "task.scale=log" in steps[0].text
        assert steps[0].command.startswith("convnext doctor pets/table.csv")


@pytest.mark.parametrize(("coverage", "ends", "found"), [(0.6, [0.5, 0.7], True), (0.85, [0.76, 0.92], False)])
def test_intervals_that_break_their_promise_are_told(
    tmp_path: Path, coverage: float, ends: list[float], found: bool
) -> None:
    """Beyond what their own calibration and these pictures explain."""
    run = make_run(tmp_path / "run")
    known = json.loads((run / "result.json").read_text())["targets"]["age"]["intervals"]
    change(run, "result.json", coverage=coverage, intervals=known | {"coverage": ends})
    assert kinds(run) == (["coverage"] if found else ["use"])


def test_a_model_no_better_than_the_median_is_not_to_be_used(tmp_path: Path) -> None:
    """Said first."""
    run = make_run(tmp_path / "run", (Made(noise=1.5),))
    assert kinds(run)[0] == "doubt"
    assert "Do not use this model yet" in advise(read_run(run))[0].text
