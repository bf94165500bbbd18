"""A run with several labels a picture: thresholds go from validation into the model file, and into answers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import f1_score

from convnext.config import load_recipe
from convnext.errors import WeightsError
from convnext.evaluate.evaluate import evaluate_run, judge_run
from convnext.evaluate.predict import predict
from convnext.nn.weights.load import read_model, save_model
from convnext.report.text import describe_result
from convnext.run.folder import RunFolder
from convnext.run.load import load, load_all
from convnext.train.train import train_run

_kept: list[RunFolder] = []


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that the tests of this file share, made within the first one's caches."""
    if not _kept:
        _kept.append(made(tmp_path_factory))
    return _kept[0]


def made(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Two epochs on pictures with a bright top (often), a bright left side (seldom), both, or neither."""
    folder, rng = tmp_path_factory.mktemp("labels"), np.random.default_rng(0)
    rows = [["path", "label", "split"]]
    for number in range(96):
        top, left = rng.random() < 0.5, rng.random() < 0.25
        pixels = rng.integers(0, 90, (40, 40, 3))
        pixels[:20] += 80 * top
        pixels[:, :20] += 80 * left
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        split = ("train", "val", "test")[min(2, number // 32)]
        rows.append([f"{number}.png", "|".join(["top"] * top + ["left"] * left) or "|", split])
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    recipe = load_recipe(None, [
        "weights=none", "model.name=convnext_atto", "data.size=32", "model.stem_patch=4", "train.batch=8",
        "data.workers=0", "train.lr=1e-3", "train.precision=fp32", "train.epochs=2", "train.class_balance=1",
        "augment.crop_min=0.8",
    ])  # fmt: skip
    run = train_run(folder / "table.csv", recipe, tmp_path_factory.mktemp("run") / "run")
    judge_run(run.path)
    return run


def test_the_model_file_holds_thresholds_that_its_own_weights_gave_on_validation(run: RunFolder) -> None:
    """Chosen again from the file's predictions of the validation pictures they are the same, of best and of last."""
    from convnext.metrics.thresholds import choose_thresholds

    for which in ("best", "last"):
        loaded = load_all(run.path, which=which)
        found = evaluate_run(run.path, split="val", which=which).predictions
        assert loaded.thresholds == choose_thresholds(found.records["values"], found.records["truth"] > 0.5, "f1")
        assert loaded.config["thresholds_for"] == "f1"


def test_both_are_in_the_result_and_predict_follows_the_chosen_ones(run: RunFolder) -> None:
    """The test's numbers at either threshold are scikit-learn's; predict names what reaches the chosen ones."""
    result = json.loads(run.result.read_text())
    judged = evaluate_run(run.path)
    records = judged.predictions.records
    values, truth = records["values"].astype(np.float64), records["truth"] > 0.5
    limits = np.array(list(result["thresholds"]["values"].values()))
    assert result["split"] == "test"
    assert result["thresholds"]["chosen_on"] == "val"
    assert tuple(limits) == load_all(run.path).thresholds
    assert result["micro_f1"] == pytest.approx(f1_score(truth, values >= 0.5, average="micro", zero_division=0))
    at = result["at_thresholds"]
    said = describe_result(result)
    assert "chosen on validation for F1 (predict does the same)" in said
    assert f"    macro F1              {100 * at['macro_f1']:6.1f} %" in said
    assert at["micro_f1"] == pytest.approx(f1_score(truth, values >= limits, average="micro", zero_division=0))
    assert 0 <= result["calibration_error"] <= 1
    with (run.path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, own in zip(rows, values, strict=True):
        names = [n for n, v, t in zip(result["thresholds"]["values"], own, limits, strict=True) if v >= t]
        assert row["named_at_thresholds"] == ("|".join(names) or "|")
    assert load(run.path).thresholds == tuple(limits)
    files = [str(sample.path) for sample in judged.samples]
    names = list(result["thresholds"]["values"])
    for row, found in zip(values, predict(run.path, files), strict=True):
        sure = np.abs(row - limits) > 1e-4  # another batch may round otherwise
        assert {n for n, ok in zip(names, sure, strict=True) if ok} & set(found.labels or ()) == {
            n for n, v, t, ok in zip(names, row, limits, sure, strict=True) if ok and v >= t
        }


def test_other_data_says_what_it_lacks_and_its_val_chose_nothing(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A class without pictures and one label a picture are said; only the run's own validation flatters thresholds."""
    rng = np.random.default_rng(5)
    for split in ("train", "val"):
        (tmp_path / "other" / split / "top").mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 255, (40, 40, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "other" / split / "top" / f"{number}.png")
    other = evaluate_run(run.path, tmp_path / "other")
    told = capsys.readouterr().err
    assert "other has no picture of left: where the model names one of them it counts as wrong" in told
    assert "other has one label a picture, and the model names any number of them" in told
    assert other.result["split"] == "val"
    assert "chosen on validation for F1" in describe_result(other.result)
    own = evaluate_run(run.path, split="val")
    assert "has no picture" not in capsys.readouterr().err
    assert "chosen on these pictures, so flattering, for F1" in describe_result(own.result)


def test_predict_takes_the_thresholds_of_the_file(run: RunFolder, tmp_path: Path) -> None:
    """With 0 everything is named, with 1 nothing; a file from before there were thresholds means one half."""
    state, config = read_model(run.best)
    assert config is not None
    picture = str(next(iter(evaluate_run(run.path).samples)).path)

    def labels(name: str, **changes: object) -> tuple[str, ...] | None:
        kept = {k: v for k, v in config.items() if not k.startswith("thresholds")} | changes
        save_model(tmp_path / name, state, kept)
        return predict(tmp_path / name, picture)[0].labels

    everything = labels("all.safetensors", thresholds=[0.0, 0.0])
    assert everything is not None
    assert len(everything) == 2
    assert labels("none.safetensors", thresholds=[1.0, 1.0]) == ()
    found = predict(tmp_path / "none.safetensors", picture)[0]
    assert set(labels("old.safetensors") or ()) == {name for name, p in found.top if p >= 0.5}
    for wrong in ([0.5], [0.5, 2.0], ["a", "b"], "0.5"):
        with pytest.raises(WeightsError, match=r"its description .*thresholds"):
            labels("wrong.safetensors", thresholds=wrong)
