"""`convnext train --folds`: one verdict over runs that judge each picture unseen, also after a stop."""

from __future__ import annotations

import csv
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from convnext.__main__ import main
from convnext.config import load_complete
from convnext.evaluate.evaluate import evaluate_run
from convnext.run.load import load_all
from convnext.study import folds as folding
from convnext.train import course
from convnext.train import loop as loops
from convnext.train.train import train_run

StripesWriter = Callable[..., Path]
QUICK = [
    "weights=none", "model.name=convnext_atto", "data.size=32", "model.stem_patch=4", "train.batch=4", "train.epochs=1",
    "data.workers=0", "train.precision=fp32", "train.lr=1e-3", "train.logger=",
]  # fmt: skip


@pytest.fixture
def data(write_stripes: StripesWriter, tmp_path: Path) -> Path:
    root = write_stripes(tmp_path / "data", {"narrow": 12, "wide": 9}, side=32)
    (root / "wide" / "copy.png").write_bytes((root / "wide" / "wide-000.png").read_bytes())
    return root


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_picture_is_judged_once_by_a_run_that_had_not_seen_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mean and spread are those of the folds; the whole is scikit-learn's over predictions.csv; choices are alike."""
    out = tmp_path / "folds"
    assert main(["train", str(data), *QUICK, "--folds", "3", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    result = json.loads((out / "result.json").read_text())
    rows = table(out / "predictions.csv")
    assert sorted(Path(row["path"]).name for row in rows) == sorted(p.name for p in data.rglob("*.png"))
    for fold in (1, 2, 3):
        own = [row for row in rows if row["fold"] == str(fold)]
        assert [row["path"] for row in own] == [row["path"] for row in table(out / f"fold-{fold}" / "predictions.csv")]
        split = {row["path"]: row["split"] for row in table(out / f"fold-{fold}" / "splits.csv")}
        assert {row["path"] for row in own} == {path for path, name in split.items() if name == "test"}
        top1 = np.mean([row["truth"] == row["named"] for row in own])
        assert result["runs"][fold - 1]["top1"] == pytest.approx(top1)
        assert (out / f"fold-{fold}" / "report.html").exists()
    values = [row["top1"] for row in result["runs"]]
    assert result["metrics"]["top1"]["mean"] == pytest.approx(statistics.fmean(values))
    assert result["metrics"]["top1"]["std"] == pytest.approx(np.std(values, ddof=1))
    whole = result["out_of_fold"]
    assert whole["n"] == 22
    truth, named = zip(*((row["truth"], row["named"]) for row in rows), strict=True)
    assert whole["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, named))
    assert "all 22 pictures at once" in printed
    share = f"{100 * truth.count('narrow') / 22:.1f} %  (the trivial answer)"
    assert re.search(rf'always "narrow" +{re.escape(share)}\n.* on the same pictures: \S+', printed)
    assert main(["evaluate", str(out)]) == 2
    assert "give one of them" in capsys.readouterr().err
    recipes = [load_complete(out / f"fold-{fold}" / "recipe.toml") for fold in (1, 2, 3)]
    assert [r.data.fold for r in recipes] == [1, 2, 3]
    assert len({(r.train.lr, r.train.epochs, r.data.classes) for r in recipes}) == 1
    # a fold is a run like any other: it can be judged again, on the same pictures
    assert evaluate_run(out / "fold-2").result["top1"] == result["runs"][1]["top1"]
    assert load_all(out / "fold-2").classes == ("narrow", "wide")


def test_a_stop_in_the_second_fold_changes_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that is printed goes on; predictions are those of a training without a stop, to the last digit."""
    arguments = ["train", str(data), *QUICK, "--folds", "2"]
    assert main([*arguments, "--out", str(tmp_path / "straight")]) == 0
    original = loops.Loop._step

    def stopping(self: loops.Loop, *given: object) -> bool:
        found = original(self, *given)  # type: ignore[arg-type]
        self.stop_asked |= self.run.path.name == "fold-2"
        return found

    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(loops.Loop, "_step", stopping)
        assert main([*arguments, "--out", str(out)]) == 130
    assert f"go on with: convnext train --resume --out {out}" in capsys.readouterr().err
    old = (file := data / "wide" / "wide-004.png").read_bytes()
    for other in (b"", (data / "wide" / "wide-005.png").read_bytes()):  # gone, then another picture under its name
        file.write_bytes(other)
        assert main(["train", "--resume", "--out", str(out)]) == 2
        told = capsys.readouterr().err
        assert "are not those that the run started with" in told or "replaced under their names" in told
    file.write_bytes(old)
    assert not (out / "result.json").exists()
    assert main([*arguments, "--out", str(out)]) == 2  # nothing is replaced without being asked
    assert main(["train", "--resume", "--out", str(out)]) == 0
    assert (out / "predictions.csv").read_text() == (tmp_path / "straight" / "predictions.csv").read_text()
    assert main(["train", "--resume", "--out", str(out)]) == 2
    assert "is finished" in capsys.readouterr().err


def test_a_first_fold_that_was_shortened_gives_the_others_its_length(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4 epochs that the budget cut to 2 are 2 in the others, with a warm-up of a tenth; no change is repeated."""

    def cut(self: course.Pace, now: course.Course, step: int, seconds: float) -> int:
        return 2 * now.steps.per_epoch if step == now.steps.per_epoch and now.steps.total > 2 * step else 0

    out = tmp_path / "folds"
    with monkeypatch.context() as patch:
        patch.setattr(course.Pace, "after_epoch", cut)
        patch.setattr(folding, "train_run", lambda *given: (train_run(*given), patch.undo()))
        assert main(["train", str(data), *QUICK, "train.epochs=4", "--folds", "3", "--out", str(out)]) == 0
    recipes = [load_complete(out / f"fold-{fold}" / "recipe.toml").train for fold in (1, 2, 3)]
    assert [recipe.epochs for recipe in recipes] == [4, 2, 2]
    assert len(recipes[0].replanned) == 2
    assert [recipe.replanned for recipe in recipes[1:]] == [(), ()]
    assert [recipe.warmup_epochs for recipe in recipes] == [0.4, 0.2, 0.2]
    assert [len((out / f"fold-{fold}" / "log.jsonl").read_text().splitlines()) for fold in (1, 2, 3)] == [2, 2, 2]


def test_folds_that_are_replaced_leave_nothing_of_the_old_ones(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped at its first fold, an --overwrite has no fold of before that --resume could take for its own."""
    out = tmp_path / "folds"
    arguments = ["train", str(data), *QUICK, "--folds", "2", "--out", str(out)]
    assert main(arguments) == 0
    with monkeypatch.context() as patch:
        patch.setattr(folding, "train_run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main([*arguments, "--overwrite", "train.seed=1"]) == 130
    assert not (out / "result.json").exists()
    assert not (out / "fold-2" / "result.json").exists()
    assert main(["train", "--resume", "--out", str(out)]) == 0
    assert {load_complete(out / f"fold-{fold}" / "recipe.toml").train.seed for fold in (1, 2)} == {1}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--folds", "1"], "two folds at least"),
        (["--folds", "3", "--gpus", "2"], "one fold after the other"),
        (["--folds", "3", "--dry-run"], "one fold after the other"),
    ],
)
def test_what_folds_cannot_do_is_refused(
    words: list[str], said: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is made."""
    assert main(["train", str(data), *words, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
