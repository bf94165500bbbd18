"""Regression goes through the whole program: training, resume, judging, prediction, comparison, folds and search."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

import convnext
from convnext.config import load_complete, override
from convnext.data.sources.reading import Reading
from convnext.errors import Stopped, UserError
from convnext.evaluate.compare import compare
from convnext.evaluate.evaluate import evaluate_run, evaluate_weights, list_predictions
from convnext.evaluate.predict import to_csv, to_json
from convnext.nn.weights.load import read_header
from convnext.recipe import Recipe
from convnext.run.folder import RunFolder
from convnext.run.reading import read_data
from convnext.study.folds import describe_folds, train_folds
from convnext.tasks.regress.conformal import needed, rank
from convnext.tasks.table import decided, of_result, targets_of, task_of
from convnext.tasks.task import Task
from convnext.train.resume import resume_run
from convnext.train.train import train_run


def _rows(run: RunFolder) -> list[dict[str, str]]:
    with (run.path / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _column(run: RunFolder, name: str) -> np.ndarray:
    return np.array([float(row[name] or "nan") for row in _rows(run)])


def test_the_verdict_is_that_of_the_table(run: RunFolder) -> None:
    """MAE, RMSE, R2 are scikit-learn's and Spearman is scipy's over predictions.csv; coverage is counted there."""
    result = json.loads(run.result.read_text())
    truth, value, low, high = (_column(run, f"{name}_target") for name in ("truth", "value", "low", "high"))
    assert result["task"] == "regress"
    assert result["n"] == len(truth) == 36
    assert result["mae"] == pytest.approx(mean_absolute_error(truth, value))
    assert result["rmse"] == pytest.approx(root_mean_squared_error(truth, value))
    assert result["r2"] == pytest.approx(r2_score(truth, value))
    assert result["spearman"] == pytest.approx(spearmanr(truth, value).statistic)
    assert result["baselines"]["mae"] == pytest.approx(np.abs(truth - np.median(truth)).mean())
    assert result["coverage"] == pytest.approx(((low <= truth) & (truth <= high)).mean())
    assert result["width"] == pytest.approx((high - low).mean())
    assert result["targets"]["target"]["mae"] == result["mae"]
    data = json.loads((run.path / "data.json").read_text())["targets"]["target"]
    assert data["splits"]["train"]["n"] == 72
    assert result["training_median"]["mae"] == pytest.approx(np.abs(truth - data["splits"]["train"]["median"]).mean())
    again = evaluate_run(run.path)
    assert {key: again.result[key] for key in result} == result
    assert list_predictions(again) == (run.path / "predictions.csv").read_text()


def test_a_table_with_a_column_target_of_many_numbers_is_regression(run: RunFolder, table: Path) -> None:
    """Nobody said so; the run's recipe says it then, and its log has the error in the unit."""
    recipe = load_complete(run.recipe)
    assert (recipe.task.kind, recipe.task.targets) == ("regress", ("target",))
    rows = run.read_log()
    assert len(rows) == 3
    assert all({"train_mae", "val_mae", "ema_val_mae", "val_rmse"} <= set(row) for row in rows)
    assert torch.load(run.state, weights_only=True)["progress"]["best"] == min(
        min(row["val_mae"], row["ema_val_mae"]) for row in rows
    )


def test_what_calibrates_chooses_no_epoch(run: RunFolder, table: Path) -> None:
    """Half of the validation pictures are set aside. The interval is their k-th smallest error by the network that was
    kept; the others give the validation score of the log, and neither reads the other's pictures."""
    recipe = load_complete(run.recipe)
    dataset = read_data(table, Reading.of(recipe.data), targets_of(recipe), quiet=True)
    task: Any = task_of(recipe, dataset)
    assert len(task.aside) == 18
    samples = dataset.splits["val"]
    found: list[Any] = convnext.predict(run.best, [sample.path for sample in samples])
    errors = np.array([abs(one.value - s.target[0]) for one, s in zip(found, samples, strict=True)])
    aside = np.isin(np.arange(len(samples)), sorted(task.aside))
    config = read_header(run.best)[1] or {}
    (calibration,) = config["meaning"]["calibration"]
    assert calibration["pictures"] == 18
    half = calibration["absolute"] * task.scaling.deviation[0]
    assert half == pytest.approx(np.sort(errors[aside])[rank(18, 0.9) - 1], rel=1e-3)
    best = min(min(row["val_mae"], row["ema_val_mae"]) for row in run.read_log())
    assert errors[~aside].mean() == pytest.approx(best, rel=1e-3)
    assert found[0].estimates[0].high - found[0].value == pytest.approx(half, rel=1e-6)
    assert (found[0].low, found[0].high) == (found[0].estimates[0].low, found[0].estimates[0].high)


def test_too_few_pictures_to_calibrate_are_said(table: Path, recipe: Recipe, tmp_path: Path, capsys: Any) -> None:
    """At 99 % half of 36 pictures is too few: all of them choose the epoch, there is no interval, and both are said."""
    run = train_run(table, override(recipe, {"task.coverage": 0.99, "train.epochs": 1}), tmp_path / "run")
    assert f"of which that must be {needed(0.99)} at least, and there are 36 in all" in " ".join(
        capsys.readouterr().err.split()
    )
    judged = evaluate_run(run.path)
    assert "coverage" not in judged.result
    calibration = judged.result["targets"]["target"]["calibration"]
    assert (calibration["absolute"], calibration["needed"], calibration["pictures"]) == (None, 99, 18)
    assert "no 99 % intervals" in calibration["shortage"]
    assert list(_header(list_predictions(judged))) == ["path", "truth_target", "value_target"]
    found: list[Any] = convnext.predict(run.path, [table.parent / "000.png"])
    assert found[0].text.endswith(" lux")
    assert "±" not in found[0].text


def _header(text: str) -> list[str]:
    return next(csv.reader(text.splitlines()))


def test_a_stopped_run_goes_on_to_the_same_bits(table: Path, recipe: Recipe, run: RunFolder, tmp_path: Path) -> None:
    """Two epochs, an interruption and the third give what three epochs give: weights, calibration and best score."""
    stopping = iter([False, True])

    def stop(row: dict[str, Any]) -> None:
        if next(stopping, False):
            raise KeyboardInterrupt

    with pytest.raises(Stopped):
        train_run(table, recipe, tmp_path / "run", after_epoch=stop)
    again = resume_run(tmp_path / "run")
    for name in ("last.safetensors", "best.safetensors"):
        old, new = load_file(run.path / name), load_file(again.path / name)
        assert all(torch.equal(old[key], new[key]) for key in old)
        assert (read_header(run.path / name)[1] or {})["meaning"] == (read_header(again.path / name)[1] or {})[
            "meaning"
        ]


def test_predict_says_numbers_with_their_intervals(run: RunFolder, run_of_two: RunFolder, table: Path) -> None:
    """In words, as columns and as JSON; several targets by their names, and a missing file with its reason."""
    pictures = [table.parent / "000.png", table.parent / "001.png"]
    found: list[Any] = convnext.predict(run.path, [*pictures, "gone.png"])
    one = found[0].estimates[0]
    assert found[0].text == one.text
    assert one.text.endswith(" lux, 90 %")
    header, *rows = list(csv.reader(to_csv(found).splitlines()))
    assert header == ["path", "value", "low", "high", "error"]
    assert [float(cell) for cell in rows[0][1:4]] == [one.value, one.low, one.high]
    written = json.loads(to_json(found))
    assert written["predictions"][0]["value"] == one.value
    assert written["predictions"][0]["targets"]["target"]["text"] == one.text
    assert written["unreadable"][0]["path"] == "gone.png"
    several: list[Any] = convnext.predict(run_of_two.path, pictures)
    assert _header(to_csv(several)) == [
        "path", "target", "target_low", "target_high", "size", "size_low", "size_high", "error",
    ]  # fmt: skip
    widths = [one.estimates[0].high - one.estimates[0].low for one in several]
    assert widths[0] != widths[1], "scaled by the spread"
    assert repr(convnext.load(run.path)).startswith("<Model convnext_atto, target in lux, ")


def test_several_targets_are_judged_each(run_of_two: RunFolder) -> None:
    """Each by its known values, and together in deviations of the training pictures; missing cells stay empty."""
    result = json.loads(run_of_two.result.read_text())
    data = json.loads((run_of_two.path / "data.json").read_text())["targets"]
    shares = []
    for name in ("target", "size"):
        truth, value = _column(run_of_two, f"truth_{name}"), _column(run_of_two, f"value_{name}")
        known = ~np.isnan(truth)
        mae = mean_absolute_error(truth[known], value[known])
        assert result["targets"][name]["mae"] == pytest.approx(mae)
        assert result["targets"][name]["missing"] == (~known).sum()
        assert result[f"mae_{name}"] == pytest.approx(mae)
        shares.append(mae / data[name]["splits"]["train"]["deviation"])
    assert result["targets"]["size"]["missing"] > 0
    assert result["error"] == pytest.approx(np.mean(shares))
    assert "mae" not in result
    assert result["width_kind"] == "scaled"
    kept = json.loads((run_of_two.path / "mistakes.json").read_text())
    assert {"truth", "answer", "target", "value", "error", "outside"} <= set(kept[0])
    assert of_result(result).scores[0].key == "error"


def test_other_data_are_judged_by_the_models_targets(run: RunFolder, table: Path, tmp_path: Path) -> None:
    """A table whose column is called otherwise is read where that is said; without a split all of it counts, and values
    beyond those of training are told."""
    rows = [[table.parent / f"{n:03}.png", 5 * n] for n in range(30)]
    other = tmp_path / "other.csv"
    with other.open("w", newline="") as file:
        csv.writer(file).writerows([["path", "brightness"], *rows])
    with pytest.raises(UserError, match='no column "target"'):
        evaluate_run(run.path, other)
    judged = evaluate_run(run.path, other, settings=["data.label_column=brightness"])
    assert (judged.result["n"], judged.result["split"]) == (30, "all")
    found = evaluate_weights(
        run.best, None, other, size=None, normalization=None, split=None, settings=["data.label_column=brightness"]
    )
    assert found.result["mae"] == pytest.approx(judged.result["mae"])


def test_two_runs_are_compared_by_their_errors(
    run: RunFolder, run_of_two: RunFolder, table: Path, tmp_path: Path
) -> None:
    """Less is better, the unit is said; and one target is no comparison for two."""
    other = tmp_path / "other"
    other.mkdir()
    rows = _rows(run)
    for name in ("result.json", "recipe.toml", "environment.json"):
        (other / name).write_bytes((run.path / name).read_bytes())
    with (other / "predictions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"value_target": row["truth_target"]} for row in rows)
    found = compare(run.path, other)
    assert found.differences[0].verdict == "better"
    assert found.differences[0].metrics["mae"]["difference"] == pytest.approx(
        -json.loads(run.result.read_text())["mae"], rel=1e-6
    )
    assert " lux" in found.to_text()
    with pytest.raises(UserError, match="asked for target, the other for target, size"):
        compare(run.path, run_of_two.path)


def test_folds_judge_every_picture_once(table: Path, recipe: Recipe, tmp_path: Path) -> None:
    """Two folds of one epoch: the mean over both, and all pictures at once."""
    settings = {"train.epochs": 1, "train.keep_state": False, "data.split_column": "", "data.ignore_columns":
                ("size", "split")}  # fmt: skip
    summary = train_folds(table, override(recipe, settings), tmp_path / "folds", 2)
    assert summary["out_of_fold"]["n"] == 144
    with (tmp_path / "folds" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    apart = [abs(float(row["truth_target"]) - float(row["value_target"])) for row in rows]
    assert summary["out_of_fold"]["mae"] == pytest.approx(np.mean(apart))
    assert summary["metrics"]["mae"]["mean"] == pytest.approx(np.mean([row["mae"] for row in summary["runs"]]))
    assert " lux" in describe_folds(summary)


def test_it_is_a_task(table: Path, recipe: Recipe) -> None:
    """It has every member that the protocol asks for."""
    recipe = decided(recipe, table)
    task = task_of(recipe, read_data(table, Reading.of(recipe.data), targets_of(recipe), quiet=True))
    members = {name for name in vars(Task) if not name.startswith("_")}
    assert {name for name in members if not hasattr(task, name)} == set()


def test_intervals_are_not_judged_by_what_made_them(run: RunFolder, table: Path) -> None:
    """On validation the coverage stands on the pictures that did not calibrate; the errors stand on all of them."""
    judged = evaluate_run(run.path, split="val", which="best")
    recipe = load_complete(run.recipe)
    task: Any = task_of(recipe, read_data(table, Reading.of(recipe.data), targets_of(recipe), quiet=True))
    fresh = np.isin(judged.predictions.indices, sorted(task.aside), invert=True)
    records = judged.predictions.records
    inside = (records["low"] <= records["truth"]) & (records["truth"] <= records["high"])
    assert (judged.result["n"], judged.result["coverage_n"]) == (36, 18)
    assert judged.result["coverage"] == pytest.approx(inside[fresh].mean())
    assert judged.result["mae"] == pytest.approx(np.abs(records["value"] - records["truth"]).mean())
