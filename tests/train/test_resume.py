"""`train --resume` with settings: what changes from there on, what cannot, and what is written down."""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from convnext.__main__ import main
from convnext.config import load_complete, load_recipe, override, to_toml
from convnext.errors import RecipeError, RunError
from convnext.nn.weights.load import read_state
from convnext.report.finish import finish_run
from convnext.run.folder import RunFolder
from convnext.run.state import read_state_file
from convnext.train.changes import asked
from convnext.train.resume import resume_run
from convnext.train.train import train_run

QUICK = [
    "weights=none", "model.name=convnext_atto", "model.stem_patch=4", "data.size=32", "data.workers=0",
    "train.batch=16", "train.precision=fp32", "train.lr=1e-3", "train.device=cpu", "train.warmup_epochs=0",
]  # fmt: skip


def train(data: Path, out: Path, *more: str) -> RunFolder:
    """A run of two epochs unless told otherwise."""
    return train_run(data, load_recipe(None, [*QUICK, "train.epochs=2", *more]), out)


def test_a_finished_run_is_prolonged_and_the_change_is_written_down(
    stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two epochs, then three: the third has the rate of a cosine over three, and the two before are as they were.

    recipe.toml holds what now counts, changes.json the step from which on and both values; the verdict is of epoch 3.
    """
    out = tmp_path / "a run"
    words = ["train", str(stripes), *QUICK, "train.epochs=2", "train.keep_state=true", "--out", str(out)]
    assert main(words) == 0
    run = RunFolder(out)
    before, told = run.read_log(), capsys.readouterr()
    assert "keep_state" not in told.err.partition("trained 2 epochs")[2]
    assert run.read_table("result.json")["epochs"] == 2  # type: ignore[index]
    assert main(["train", "--resume", "--out", str(out), "train.epochs=3", "augment.flip=0", "train.lr=2e-3"]) == 0
    said = capsys.readouterr().err
    assert "train.epochs: 2 -> 3" in said
    rows = run.read_log()
    assert rows[:2] == before
    steps = rows[2]["step"]
    last = 1e-3 * (1 + math.cos(math.pi * (steps - 1) / steps))  # half of the peak of 2e-3
    assert rows[2]["lr"] == pytest.approx(last)
    recipe = load_complete(run.recipe)
    assert (recipe.train.epochs, recipe.augment.flip, recipe.train.lr) == (3, 0, 2e-3)
    (change,) = json.loads((out / "changes.json").read_text())
    assert (change["epoch"], change["step"]) == (2, before[1]["step"])
    assert change["changed"] == {"augment.flip": [0.5, 0.0], "train.epochs": [2, 3], "train.lr": [1e-3, 2e-3]}
    assert run.read_table("result.json")["epochs"] == 3  # type: ignore[index]
    assert "changes.json" in run.recipe.read_text()
    assert main(["evaluate", str(out), "--split", "val"]) == 0
    told = capsys.readouterr()
    assert "there is no test split" not in told.out
    assert "(--split test judges the test split; the best epoch was chosen on these pictures" in told.out
    assert main(["train", "--resume", "--out", str(out)]) == 2
    assert f"`convnext train --resume --out '{out}' train.epochs=6` prolongs it" in capsys.readouterr().err
    assert main(["train", "--resume", "--out", str(out), "train.epochs=2"]) == 2
    assert "has 3 epochs already; train.epochs=2 leaves none: give more" in capsys.readouterr().err


def test_prolonging_at_once_is_the_same_as_having_planned_it(stripes: Path, tmp_path: Path) -> None:
    """A run planned for three epochs whose plan is changed twice before the first step ends with the same bits."""
    whole = train(stripes, tmp_path / "whole", "train.epochs=2")
    run = train(stripes, tmp_path / "run", "train.epochs=1", "train.keep_state=true")
    run.state.unlink()
    run.state.with_name("previous.state.pt").unlink(missing_ok=True)
    for file in (run.log, run.last):
        file.unlink()
    resume_run(run.path, settings=["train.epochs=2"])
    first, second = read_state(whole.last), read_state(run.last)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.name=convnext_femto"], "model.name is convnext_atto and cannot become convnext_femto: the saved wei"),
        (["train.batch=8", "train.epochs=9"], "train.batch is 16 and cannot become 8: its place in the epoch"),
        (["train.seed=1"], "train.seed is 0"), (["data.val=0.3"], "data.val"), (["data.size=64"], "data.size"),
        (["train.ema=false"], "train.ema"), (["weights=a.pth"], "weights is none"),
        (["train.layer_decay=0.7"], "train.layer_decay"), (["data.classes=[\"a\",\"b\"]"], "data.classes"),
        (["train.minutes=1e-9"], "it counts from the run's beginning: give more"),
    ],
)  # fmt: skip
def test_what_a_run_keeps_to_its_end_is_refused_with_the_reason(
    settings: list[str], message: str, stripes: Path, tmp_path: Path
) -> None:
    """And with the command that starts a new run, from its weights if they fit; nothing is changed in the folder."""
    run = _one_epoch(stripes, tmp_path)
    before = {file.name: file.read_bytes() for file in run.path.iterdir() if file.is_file()}
    with pytest.raises(RunError, match=message) as caught:
        resume_run(run.path, settings=settings)
    if "cannot become" in str(caught.value):
        again = shlex.split(str(caught.value).partition("convnext train ")[2])
        assert ("weights=auto" if "model.name" in message else f"weights={run.last}") in again
        load_recipe(Path(again[1]), again[2:-2])  # every setting in it is one
    assert {file.name: file.read_bytes() for file in run.path.iterdir() if file.is_file()} == before


def test_a_run_whose_length_was_planned_anew_is_refused_for_what_was_asked_alone(
    stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record of its length is not among the reasons, and the command that is printed instead can be run."""
    run = _one_epoch(stripes, tmp_path)
    copy = RunFolder(Path(shutil.copytree(run.path, tmp_path / "copy")))
    steps = json.loads(copy.log.read_text().splitlines()[0])["step"]
    recipe = override(load_complete(copy.recipe), {"train.replanned": [[0, 2 * steps], [steps, steps + 1]]})
    copy.recipe.write_text(to_toml(recipe))
    for words in (["train.batch=8"], ["train.batch=16", "train.seed=1"], ["model.name=convnext_femto"]):
        with pytest.raises(RunError) as caught:
            resume_run(copy.path, settings=words)
        reasons, _, command = str(caught.value).partition("Start a new run")
        assert "replanned" not in reasons
        assert main([*shlex.split(command.partition("convnext ")[2]), "--dry-run"]) == 0
        capsys.readouterr()


_made: dict[str, Path] = {}


def _one_epoch(stripes: Path, tmp_path: Path) -> RunFolder:
    """A run that was stopped after one of two epochs; made once."""
    if "run" not in _made or not _made["run"].exists():
        run = train(stripes, tmp_path / "kept", "train.epochs=1", "train.keep_state=true")
        text = run.recipe.read_text()
        assert "epochs = 1 " in text
        _made["run"] = run.path
    return RunFolder(_made["run"])


def test_settings_that_are_none_are_refused(stripes: Path, tmp_path: Path) -> None:
    """An unknown key, a value that breaks its rule, one that is left open: by the recipe's own words."""
    run = _one_epoch(stripes, tmp_path)
    for setting, message in (
        ("train.epoch=3", "there is no such key"), ("train.epochs=many", "train.epochs"),
        ("train.lr=auto", "nothing is chosen anew"),
    ):  # fmt: skip
        with pytest.raises(RecipeError, match=message):
            asked(run, [setting])
    recipe, changed, _ = asked(run, ["train.minutes=600"])
    pace = run.read_log()[-1]["seconds"]
    assert recipe.train.epochs == int(36000 / pace)
    assert set(changed) == {"train.minutes", "train.epochs"}


def test_the_state_of_a_finished_run_goes_and_its_last_weights_lead_on_when_asked(
    stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By default a run keeps its models alone; without a state it does not begin again, and says how it can go on.

    The commands that are printed do what they are printed for: each is typed as it stands.
    """
    out = tmp_path / "run"
    assert main(["train", str(stripes), *QUICK, "train.epochs=1", "--out", str(out)]) == 0
    assert "the optimizer's state is removed" in capsys.readouterr().err
    run = RunFolder(out)
    assert not list(out.rglob("*.state.pt"))
    assert run.best.exists()
    before = run.last.read_bytes()
    assert main(["train", "--resume", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "is finished (1 epoch)" in said
    prolong = shlex.split(said.partition("`convnext ")[2].partition("`")[0])
    assert prolong == ["train", "--resume", "--out", str(out), "weights=last", "train.epochs=2"]
    assert main(["train", "--resume", "--out", str(out), "train.epochs=2", "train.lr=1e-5"]) == 2
    said = capsys.readouterr().err
    assert "has no last.state.pt any more" in said
    command = shlex.split(said.partition("new optimizer: convnext ")[2])
    assert command == [*prolong, "train.lr=1e-5"]
    assert run.last.read_bytes() == before
    assert len(run.read_log()) == 1
    steps = run.read_log()[0]["step"]
    assert main(command) == 0
    rows = run.read_log()
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, steps), (2, 2 * steps)]
    assert json.loads((out / "changes.json").read_text())[0]["from_last_weights"] is True
    assert run.last.read_bytes() != before
    first = json.loads((out / "changes.json").read_text())[0]["changed"]
    assert first["train.epochs"] == [1, 2]


def test_a_run_that_its_budget_shortened_is_finished_without_its_state_too(
    stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three epochs were planned, two were made, and the state is gone: nothing goes on unasked, `weights=last` or not.

    More epochs than were made prolong it, by the command that is printed.
    """
    steps = train(stripes, tmp_path / "one", "train.epochs=1").read_log()[-1]["step"]
    out = tmp_path / "run"
    length = ["train.epochs=3", f"train.replanned=[[{steps}, {2 * steps}]]"]
    assert main(["train", str(stripes), *QUICK, *length, "--out", str(out)]) == 0
    assert [row["epoch"] for row in RunFolder(out).read_log()] == [1, 2]
    for more in ([], ["weights=last"]):
        capsys.readouterr()
        assert main(["train", "--resume", "--out", str(out), *more]) == 2
        said = capsys.readouterr().err
        assert "is finished (2 epochs)" in said
    assert main(shlex.split(said.partition("`convnext ")[2].partition("`")[0])) == 0
    assert [row["epoch"] for row in RunFolder(out).read_log()] == [1, 2, 3, 4]


def test_an_early_stop_is_lifted_by_more_patience_only(stripes: Path, tmp_path: Path) -> None:
    """More epochs alone would stop at once again, and that is said; with patience=0 the run goes on to its end."""
    run = train(stripes, tmp_path / "run", "train.epochs=20", "train.lr=1e-9", "train.patience=1", "train.ema=false")
    done = len(run.read_log())
    assert done < 20
    with pytest.raises(RunError, match=r"would stop it again at once: add train.patience=2, or 0"):
        resume_run(run.path, settings=["train.epochs=30"])
    assert len(resume_run(run.path, settings=["train.patience=0", f"train.epochs={done + 1}"]).read_log()) == done + 1


def test_a_kill_between_verdict_and_report_costs_nothing(
    stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--resume writes the report, and does not judge again."""

    def killed(run: Path) -> Path:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("convnext.report.finish.write_report", killed)
        assert main(["train", str(stripes), *QUICK, "train.epochs=1", "--out", str(out)]) == 130
    verdict = (out / "result.json").read_bytes()
    assert not (out / "report.html").exists()
    capsys.readouterr()
    monkeypatch.setattr("convnext.report.finish.judge_run", killed)
    assert main(["train", "--resume", "--out", str(out)]) == 0
    assert "its report was not written" in capsys.readouterr().err
    assert (out / "report.html").exists()
    assert (out / "result.json").read_bytes() == verdict
    assert not RunFolder(out).state.exists()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal here")
def test_a_terminal_that_goes_away_saves_the_state(stripes: Path, tmp_path: Path) -> None:
    """SIGHUP ends the run after the step, as SIGTERM does."""

    def hang_up() -> None:
        while not (tmp_path / "run" / "environment.json").exists():
            time.sleep(0.01)
        while signal.getsignal(signal.SIGHUP) is before:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGHUP)

    own: Any = signal.getsignal(signal.SIGHUP)
    before: Any = signal.SIG_DFL  # whatever started these tests, nohup among them
    signal.signal(signal.SIGHUP, before)
    try:
        other = threading.Thread(target=hang_up)
        other.start()
        with pytest.raises(KeyboardInterrupt):
            train(stripes, tmp_path / "run", "train.epochs=1000")
        other.join()
        assert read_state_file(tmp_path / "run" / "last.state.pt")["progress"]["step"] > 0
        assert signal.getsignal(signal.SIGHUP) is before
    finally:
        signal.signal(signal.SIGHUP, own)


def test_a_terminal_that_goes_away_is_nothing_to_a_run_under_nohup(stripes: Path, tmp_path: Path) -> None:
    """Where SIGHUP is ignored it stays ignored: the run goes on to its end."""
    recipe = load_recipe(None, [*QUICK, "train.epochs=2"])
    own: Any = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        hang_up = lambda row: os.kill(os.getpid(), signal.SIGHUP)  # noqa: E731
        run = train_run(stripes, recipe, tmp_path / "run", after_epoch=hang_up)
    finally:
        signal.signal(signal.SIGHUP, own)
    assert [row["epoch"] for row in run.read_log()] == [1, 2]


def test_the_verdict_that_is_there_is_not_made_again(stripes: Path, tmp_path: Path) -> None:
    """A second end of the same run gives the same verdict and keeps its files."""
    run = train(stripes, tmp_path / "run", "train.epochs=1")
    first, _ = finish_run(run.path)
    stamp = run.result.stat().st_mtime_ns
    assert finish_run(run.path)[0] == json.loads(run.result.read_text())
    assert run.result.stat().st_mtime_ns == stamp
    assert first["epochs"] == 1
