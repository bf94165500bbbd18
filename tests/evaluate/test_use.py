"""A finished run in other hands: from Python, with moved pictures, from the lists that it leaves."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import convnext
from convnext.__main__ import main
from convnext.config import load_recipe
from convnext.errors import DataError, RunError, UserError
from convnext.evaluate.evaluate import evaluate_run, judge_run
from convnext.report.finish import finish_run
from convnext.run.environment import find_device
from convnext.train.resume import resume_run
from convnext.train.train import train_run

QUICK = [
    "weights=none", "model.name=convnext_atto", "data.size=32", "train.batch=8", "data.workers=0", "train.epochs=2",
    "train.precision=fp32",
]  # fmt: skip


@pytest.fixture
def run(stripes: Path, tmp_path: Path) -> Path:
    """A judged run on the stripes."""
    path = train_run(str(stripes), load_recipe(None, QUICK), str(tmp_path / "run")).path
    judge_run(path)
    return path


def test_naming_a_picture_needs_no_torchvision_and_builds_nothing(run: Path, stripes: Path, tmp_path: Path) -> None:
    """Both would take longer than all the rest: torchvision (it brings torch's compiler), and compiling our kernels."""
    code = (
        "import sys; from convnext.__main__ import main; code = main(sys.argv[1:]); "
        "print('torchvision' in sys.modules, 'torch._dynamo' in sys.modules, file=sys.stderr); sys.exit(code)"
    )
    picture = str(next(stripes.rglob("*.png")))
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", str(run), picture],
        capture_output=True, text=True, env={**os.environ, "CONVNEXT_CACHE": str(tmp_path / "empty")}, check=True,
    )  # fmt: skip
    assert "False False" in done.stderr
    assert "building" not in done.stderr
    assert picture in done.stdout


def test_the_python_example_of_the_documentation_works(run: Path, stripes: Path) -> None:
    """With names as strings; the prepared picture through the network gives what `predict` gives."""
    picture = str(next(stripes.rglob("*.png")))
    found = convnext.predict(str(run), [picture])[0]
    model = convnext.load(str(run))
    assert model.multi_label is False
    assert model.preprocessing is not None
    with torch.no_grad():
        p = model(model.preprocessing.prepare(picture)).softmax(-1)[0]
    named = dict(zip(model.classes, p.tolist(), strict=True))
    assert dict(found.top) == pytest.approx(named, abs=1e-5)
    assert convnext.evaluate_run(str(run)).result["n"] > 0
    assert convnext.write_report(str(run)).name == "report.html"


def test_the_lists_agree_with_the_verdict(run: Path, stripes: Path) -> None:
    """splits.csv names every picture once; predictions.csv has the judged ones, and gives the accuracy."""
    splits = list(csv.DictReader((run / "splits.csv").read_text().splitlines()))
    assert sorted(row["path"] for row in splits) == sorted(str(p.relative_to(stripes)) for p in stripes.rglob("*.png"))
    rows = list(csv.DictReader((run / "predictions.csv").read_text().splitlines()))
    tested = {row["path"] for row in splits if row["split"] == "test"}
    assert {row["path"] for row in rows} == tested
    result = evaluate_run(run).result
    assert np.mean([row["truth"] == row["named"] for row in rows]) == pytest.approx(result["top1"])
    assert all(float(row["p_narrow"]) + float(row["p_wide"]) == pytest.approx(1, abs=2e-4) for row in rows)


def test_moved_pictures_are_recognised(run: Path, stripes: Path, tmp_path: Path) -> None:
    """Named as DATA, the run's own pictures at a new place give the test split's numbers, not those of all pictures."""
    before = evaluate_run(run).result
    place = tmp_path / "elsewhere" / "photos"
    place.parent.mkdir()
    shutil.move(stripes, place)
    with pytest.raises(DataError, match="if it has moved, name the new place as DATA"):
        evaluate_run(run)
    after = evaluate_run(run, place).result
    assert (after["n"], after["split"], after["confusion"]) == (before["n"], "test", before["confusion"])
    (next(place.rglob("*.png"))).unlink()  # no longer the same data: all of it is judged, as of any other
    assert evaluate_run(run, place).result["split"] == "all"


def test_auto_is_a_device() -> None:
    """The best that there is; a device that is not there is refused with those that are."""
    assert find_device("auto").type in ("cuda", "mps", "cpu")
    with pytest.raises(UserError, match=r'no device "tpu"; this machine has cpu.*"auto" takes the best'):
        find_device("tpu")


def test_options_that_are_settings_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """People try `--epochs 50` first."""
    assert main(["train", "photos", "--epochs", "50"]) == 2
    assert "settings of a run are written key=value, as train.epochs=50" in capsys.readouterr().err


def test_predict_takes_one_name_as_it_takes_many(run: Path, stripes: Path) -> None:
    """A string is a file, not a list of letters; the first name is at hand, and none for what cannot be read."""
    picture = next(stripes.rglob("*.png"))
    many = convnext.predict(run, [picture])
    assert convnext.predict(run, str(picture)) == convnext.predict(run, picture) == many
    assert (many[0].label, many[0].probability) == many[0].top[0]
    picture.write_bytes(b"no picture")
    assert convnext.predict(run, picture)[0].label is None


def test_a_model_file_of_a_run_knows_its_network(run: Path, stripes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It needs no --model and takes no other size; nor does a run."""
    best = run / "best.safetensors"
    assert main(["evaluate", str(best), str(stripes), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["split"] == "all"
    for words, message in (
        ([best, stripes, "--size", "64"], "knows its own --size"),
        ([run, "--size", "64"], "a run knows its own"),
        ([best, stripes, "--model", "convnext_tiny"], "not a convnext_tiny"),
        ([best], "give DATA"),
    ):
        assert main(["evaluate", *map(str, words)]) == 2
        assert message in capsys.readouterr().err


def test_resuming_names_its_data_or_none(run: Path, stripes: Path, tmp_path: Path) -> None:
    """The old command with --resume added is what people try first; other data is not gone on with."""
    finish_run(run)
    with pytest.raises(RunError, match="is finished"):
        resume_run(run, stripes)
    with pytest.raises(RunError, match=r"is a run on .*stripes, not on"):
        resume_run(run, tmp_path)
