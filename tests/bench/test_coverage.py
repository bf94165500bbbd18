"""The coverage of a regression's intervals over random resplits of what a run held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from convnext.bench.coverage import coverage_of
from convnext.config import load_recipe
from convnext.errors import UserError
from convnext.evaluate.evaluate import judge_run
from convnext.train.train import train_run

SETTINGS = [
    "weights=none", "model.name=convnext_atto", "data.size=16", "model.stem_patch=2", "train.batch=8",
    "train.precision=fp32", "train.epochs=1", "data.workers=0", "train.device=cpu", "train.lr=1e-3",
    "train.warmup_epochs=0",
]  # fmt: skip


def test_coverage_is_what_was_promised_whatever_the_network_knows(tmp_path: Path, write_stripes: Any) -> None:
    """Of a network that has learnt next to nothing too: the calibration asks nothing of it. Two calls agree; a run of
    classes is refused."""
    data = write_stripes(tmp_path / "data", {"a": 120, "b": 120}, side=16)
    rows = [f"{file.relative_to(data)},{int(file.stem[2:]) % 37}.5,{split}" for file, split in zip(
        sorted(data.rglob("*.png")), ["train", "val", "test", "test"] * 60, strict=True)]  # fmt: skip
    (data / "numbers.csv").write_text("\n".join(["path,target,split", *rows]) + "\n", encoding="utf-8")
    run = train_run(data / "numbers.csv", load_recipe(None, SETTINGS), tmp_path / "run").path
    judge_run(run)
    pictures, level, mean, deviation = coverage_of(run, 100)
    assert (pictures, level) == (150, 0.9)
    assert mean == pytest.approx(0.9, abs=0.03)
    assert 0 < deviation < 0.1
    assert coverage_of(run, 100) == (pictures, level, mean, deviation)
    classes = train_run(data, load_recipe(None, [*SETTINGS, "data.ignore_columns=[]"]), tmp_path / "classes").path
    with pytest.raises(UserError, match="a regression of one target"):
        coverage_of(classes)
