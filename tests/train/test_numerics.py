"""Precisions, clipping, compilation, and the plan of a run without running it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from convnext.__main__ import main
from convnext.config import load_recipe
from convnext.errors import RecipeError
from convnext.nn.weights.load import read_model
from convnext.run.state import read_state_file
from convnext.train.loop import Loop
from convnext.train.resume import resume_run
from convnext.train.train import train_run

SETTINGS = [
    "weights=none", "model.name=convnext_atto", "data.size=32", "model.stem_patch=4", "train.batch=8",
    "train.lr=1e-3", "data.workers=0", "train.device=cpu", "train.epochs=2", "augment.color_jitter=0",
]  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_learns_and_clips(precision: str, stripes: Path, tmp_path: Path) -> None:
    """Two easy classes; with clipping at 1, whose result is finite. In fp16 the state holds the scale of the loss."""
    recipe = load_recipe(None, [*SETTINGS, f"train.precision={precision}", "train.clip_grad=1", "train.epochs=4"])
    run = train_run(stripes, recipe, tmp_path / "run")
    rows = run.read_log()
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    scaler = read_state_file(run.state)["scaler"]
    assert (scaler is not None) == (precision == "fp16")
    if scaler is not None:
        assert scaler["scale"] > 1


def test_clipping_in_fp16_clips_the_true_gradient(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The norm that is compared with the limit is that of the gradient without the scale: that of fp32, nearly."""
    norms: dict[str, list[float]] = {}
    original = torch.nn.utils.clip_grad_norm_

    for precision in ("fp32", "fp16"):
        found = norms.setdefault(precision, [])

        def clip(parameters: object, limit: float, found: list[float] = found) -> torch.Tensor:
            norm = original(parameters, limit)  # type: ignore[arg-type]
            found.append(float(norm))
            return norm

        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
        recipe = load_recipe(None, [*SETTINGS, f"train.precision={precision}", "train.clip_grad=1", "train.epochs=1"])
        train_run(stripes, recipe, tmp_path / precision)
    assert norms["fp16"][0] == pytest.approx(norms["fp32"][0], rel=0.05)


def test_a_run_in_fp16_goes_on_bit_for_bit(stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scale is part of the state."""
    settings = [*SETTINGS, "train.precision=fp16"]
    whole = train_run(stripes, load_recipe(None, settings), tmp_path / "whole")
    monkeypatch.setattr(Loop, "finished", property(lambda self: self.state.progress.epoch >= 1))
    run = train_run(stripes, load_recipe(None, settings), tmp_path / "run")
    monkeypatch.undo()
    resume_run(run.path)
    a, b = read_model(whole.last)[0], read_model(run.last)[0]
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_channels_first_and_last_learn_the_same(stripes: Path, tmp_path: Path) -> None:
    """The memory format changes rounding alone."""
    logs = []
    for last in ("true", "false"):
        settings = [*SETTINGS, "train.precision=fp32", f"train.channels_last={last}", "train.epochs=1"]
        logs.append(train_run(stripes, load_recipe(None, settings), tmp_path / last).read_log())
    assert logs[0][0]["train_loss"] == pytest.approx(logs[1][0]["train_loss"], rel=1e-3)


def test_tf32_is_for_gpus(stripes: Path, tmp_path: Path) -> None:
    """Elsewhere it is refused, not silently something else."""
    with pytest.raises(RecipeError, match="tf32"):
        train_run(stripes, load_recipe(None, [*SETTINGS, "train.precision=tf32"]), tmp_path / "run")


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's compiler looks at it itself
def test_a_compiled_network_learns_the_same(stripes: Path, tmp_path: Path) -> None:
    """torch.compile changes rounding alone; the state and the model file are those of the plain network."""
    logs = []
    for compiled in ("true", "false"):
        settings = [*SETTINGS, "train.precision=fp32", f"train.compile={compiled}", "train.epochs=1"]
        run = train_run(stripes, load_recipe(None, settings), tmp_path / compiled)
        logs.append(run.read_log())
        assert not any("_orig_mod" in key for key in read_model(run.last)[0])
    assert logs[0][0]["train_loss"] == pytest.approx(logs[1][0]["train_loss"], rel=1e-3)


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Steps by arithmetic, the schedule's ends, time and memory; no folder is made."""
    monkeypatch.chdir(tmp_path)
    settings = [*SETTINGS, "train.micro_batch=4", "train.warmup_epochs=1", "train.precision=fp32"]
    assert main(["train", str(stripes), *settings, "--dry-run"]) == 0
    out = capsys.readouterr().out
    pictures = int(out.split("an epoch are left over")[0].rsplit(";", 1)[1].split()[0])
    per_epoch = int(out.split("epochs of ")[1].split(",")[0])
    assert f"steps: {2 * per_epoch} = 2 epochs of {per_epoch}, {per_epoch} of them warm-up" in out
    assert 0 <= pictures < 8
    assert "batch: 8 = 2 x 4" in out
    assert "0.001" in out
    assert "a step: " in out
    assert "the median of 3 steps" in out
    assert "memory: " in out
    assert not (tmp_path / "runs").exists()
