"""`evaluate --fail-under`: exit code 3 below a bound, 2 for a bound that is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from convnext.__main__ import main
from convnext.config import load_recipe
from convnext.errors import UserError
from convnext.evaluate.bounds import read_bounds, shortfalls
from convnext.nn.weights.load import read_model, save_model
from convnext.train.train import train_run


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("top1", "write METRIC=SHARE"),
        ("=0.5", "write METRIC=SHARE"),
        ("top_1=0.5", 'did you mean "top1"'),
        ("accuracy=0.5", "there is no such metric"),
        ("nll=0.5", "of this one less is better"),
        ("top1=90", "did you mean top1=0.9"),
        ("top1=90%", "did you mean top1=0.9"),
        ("top1=-0.1", "a share from 0 to 1"),
        ("top1=nan", "a share from 0 to 1"),
        ("top1=high", "a share from 0 to 1"),
    ],
)
def test_a_bound_that_is_none_is_refused(word: str, said: str) -> None:
    """With the rule, and what was probably meant."""
    with pytest.raises(UserError, match=said):
        read_bounds([word])


def test_bounds_hold_to_the_last_digit() -> None:
    """Equal is enough, the stricter of two counts, what is no number falls short, and thresholds have their own."""
    result = {"top1": 0.9, "macro_f1": float("nan"), "multi_label": False}
    assert shortfalls(result, read_bounds(["top1=0.9"])) == []
    assert shortfalls(result, read_bounds(["top1=0.5", "top1=0.9000001"])) == [
        "top1 is 0.9000, below 0.9 (--fail-under)"
    ]
    assert len(shortfalls(result, {"macro_f1": 0.0})) == 1
    with pytest.raises(UserError, match="needs more than five classes"):
        shortfalls(result, {"top5": 0.5})
    several = {"micro_f1": 0.4, "at_thresholds": {"micro_f1": 0.8}, "multi_label": True}
    assert shortfalls(several, read_bounds(["at_thresholds.micro_f1=0.7"])) == []
    assert len(shortfalls(several, read_bounds(["micro_f1=0.7"]))) == 1
    with pytest.raises(UserError, match="it has micro_f1"):
        shortfalls(several, {"top1": 0.5})


def test_a_pipeline_stops_by_the_exit_code(stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 at or above the bounds, 3 below one of them with a line on stderr; standard output is whole JSON either way."""
    recipe = load_recipe(None, [
        "weights=none", "model.name=convnext_atto", "data.size=32", "model.stem_patch=4", "train.batch=8",
        "data.workers=0", "train.epochs=1", "train.precision=fp32",
    ])  # fmt: skip
    run = str(train_run(stripes, recipe, tmp_path / "run").path)
    assert main(["evaluate", run, "--json", "--fail-under", "top1=0.0"]) == 0
    top1 = json.loads(capsys.readouterr().out)["top1"]
    assert main(["evaluate", run, "--json", "--fail-under", f"top1={top1!r}"]) == 0
    capsys.readouterr()
    state, config = read_model(tmp_path / "run" / "best.safetensors")
    state["head.weight"].zero_()  # names one class for every picture: one of two is half
    save_model(tmp_path / "run" / "best.safetensors", state, config or {})
    assert main(["evaluate", run, "--json", "--fail-under", "top1=0", "--fail-under", "balanced_accuracy=0.51"]) == 3
    out = capsys.readouterr()
    assert json.loads(out.out)["balanced_accuracy"] == 0.5
    assert "balanced_accuracy is 0.5000, below 0.51 (--fail-under)" in out.err
    assert main(["evaluate", run, "--fail-under", "top9=1"]) == 2
