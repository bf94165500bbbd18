"""The verdict on the same pictures, and what is said to do next: each case made in the test, read back by a shell."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convnext.metrics.classification import judge, judge_multi_label
from convnext.report.advice import advise
from convnext.report.files import RunFiles, for_result, read_run
from convnext.report.page import write_report
from convnext.report.text import describe_advice, describe_result
from convnext.tasks.classify.baseline import baseline_of, settled
from convnext.tasks.classify.reporting import tiles, verdict
from tests.report.test_page import CLASSES, Page, log_row, make_run, percent, predictions


def judged(truth: list[int], named: list[int], k: int, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """The result of a model that says `named` of pictures of classes `truth`."""
    labels = np.array(truth)
    probs = np.full((len(labels), k), 0.1 / (k - 1))
    probs[np.arange(len(labels)), named] = 0.9
    majority = int(np.bincount(labels, minlength=k).argmax())
    return judge(probs, labels, names or [f"class {c}" for c in range(k)], majority=majority, bootstrap=400)


def told(result: dict[str, Any], **more: Any) -> str:
    """The verdict's label."""
    return verdict(RunFiles(Path("run"), result=result | {"split": "test", "weights": "best"} | more)).label


def test_a_lead_that_chance_may_give_is_not_called_better() -> None:
    """92 pictures, 22 right, 18 by the trivial answer: the difference is -2 to +11 points or so; not called better."""
    truth = [0] * 18 + [1] * 74
    truth = [0] * 18 + [c % 5 + 1 for c in range(74)]
    named = [0] * 8 + [1] * 10 + [c % 5 + 1 if c < 14 else (c + 1) % 5 + 1 for c in range(74)]
    result = judged(truth, named, 6)
    assert result["top1"] > result["majority_top1"]
    low, high = result["gains"]["top1"]["interval"]
    assert low < 0 < high
    assert told(result) == "Not clearly better than the trivial answer"
    assert "chance may do that" in verdict(RunFiles(Path("run"), result=result | {"split": "test"})).difference


def test_what_the_unpaired_interval_hides_is_seen() -> None:
    """30 more pictures right and none lost of 1,000: settled, though the interval of the score reaches the baseline."""
    truth = [0] * 940 + [1] * 60
    named = [0] * 940 + [1] * 30 + [0] * 30
    result = judged(truth, named, 2)
    assert told(result) == "Better than the trivial answer"
    worse = judged([0] * 900 + [1] * 100, [0] * 700 + [1] * 200 + [0] * 90 + [1] * 10, 2)
    assert told(worse) == "Worse than the trivial answer"


def test_four_pictures_settle_nothing() -> None:
    """All of 4 pictures right where always saying one class gets 1: the exact test has the last word, p = 1/4."""
    result = judged([0, 1, 2, 3], [0, 1, 2, 3], 4)
    assert told(result) == "Not clearly better than the trivial answer"
    assert "where chance does as much" in verdict(RunFiles(Path("r"), result=result | {"split": "test"})).difference


def test_old_results_are_judged_by_their_confusion_counts() -> None:
    """A result of before differences were kept: found anew from its matrix, with the same verdict and baselines."""
    shares, labels = predictions(3, 90)
    new = judge(shares, labels, CLASSES, majority=0, bootstrap=200)
    old = {key: value for key, value in new.items() if key not in ("gains", "baselines")}
    old["per_class"] = [{k: v for k, v in row.items() if k != "named"} for row in old["per_class"]]
    assert told(old) == told(new)
    for key in ("top1", "balanced_accuracy", "macro_f1", "calibration_error"):
        assert baseline_of(old, key) == pytest.approx(new["baselines"][key])
    assert [tile.baseline for tile in tiles(old)] == pytest.approx([tile.baseline for tile in tiles(new)])


def test_every_tile_has_its_trivial_answer(tmp_path: Path) -> None:
    """With one label and with several, each tile has a tick and says whether it is beyond chance."""
    rng = np.random.default_rng(0)
    labels = rng.random((60, 3)) < 0.4
    several = judge_multi_label(np.clip(labels * 0.6 + rng.random((60, 3)) * 0.5, 0, 1), labels, CLASSES, bootstrap=50)
    one = judge(*predictions(7, 140), [f"class {c}" for c in range(7)], majority=0, bootstrap=50)
    for result in (one, several):
        for tile in tiles(result):
            assert tile.baseline is not None, tile.key
            assert percent(tile.baseline) in tile.against.replace("\u00a0", " ")
            assert tile.key == "calibration_error" or "clearly" in tile.against
    page = Page(write_report(make_run(tmp_path / "run", result=several, multi_label=True)))
    assert len(page.find("path", cls="tick")) == len(tiles(several))


def test_the_best_constant_labels_are_what_several_labels_must_beat() -> None:
    """Naming nothing is the commonest set, with F1 0; always naming the commonest label is what must be beaten."""
    truth = np.zeros((100, 2), bool)
    truth[:45, 0] = True
    probs = np.where(truth, 0.9, 0.1)
    probs[:25, 0], probs[50:85, 1] = 0.1, 0.9  # 20 of 45 found, 35 named wrongly: F1 0.40, less than 0.62
    result = judge_multi_label(probs, truth, ["common", "rare"], baseline=np.zeros(2, bool), bootstrap=200)
    assert result["micro_f1_baseline"] == 0 < result["micro_f1"] < result["baselines"]["micro_f1"]
    found = verdict(RunFiles(Path("run"), result=result | {"split": "test", "multi_label": True}))
    assert found.label == "Worse than the trivial answer"
    assert "always saying \u201ccommon\u201d" in found.sentence
    assert settled(result, "exact_match") == -1


def run_of(path: Path, *, epochs: int = 10, steps: int = 5000, rising: bool = False, **more: Any) -> Path:
    """A run folder with a good result, long enough and at rest, but for what a test changes."""
    run = make_run(path, data_root="data/two words", epoch=epochs, **more)
    rows = []
    for epoch in range(1, epochs + 1):
        score = 0.5 + 0.4 * epoch / epochs if rising else 0.79
        row = log_row(epoch, epochs) | {"step": steps * epoch // epochs, "val_top1": score, "ema_val_top1": score}
        rows.append(json.dumps(row))
    (run / "log.jsonl").write_text("\n".join(rows) + "\n")
    return run


def kinds(run: Path) -> dict[str, tuple[str, list[str]]]:
    """What is advised: kind -> text and command, as a shell reads it."""
    return {item.kind: (item.text, shlex.split(item.command)) for item in advise(read_run(run))}


def test_a_sound_run_is_used(tmp_path: Path) -> None:
    """Nothing stands out: the one advice is to use it, and the command's words are what a shell reads."""
    shares, labels = predictions(3, 90)
    result = judge(shares, labels, CLASSES, majority=0, bootstrap=50) | {"top1": 0.79}
    run = run_of(tmp_path / "it's a run", result=result)
    assert kinds(run) == {"use": ("Nothing stands out. Use it:", ["convnext", "predict", str(run), "FILES"])}


def test_a_short_run_is_trained_longer(tmp_path: Path) -> None:
    """190 steps from scratch: the command trains the same recipe with enough epochs, beside the run."""
    run = run_of(tmp_path / "run", epochs=2, steps=190)
    text, command = kinds(run)["short"]
    assert text.startswith("190 steps from scratch (2 epochs) are too few")
    assert command[:4] == ["convnext", "train", "data/two words", str(run / "recipe.toml")]
    assert command[4:] == ["train.epochs=11", "--out", f"{run}-longer"]
    (run / "last.state.pt").touch()
    assert kinds(run)["short"][1] == ["convnext", "train", "--resume", "--out", str(run), "train.epochs=11"]
    (run / "recipe.toml").write_text("[train]\nkeep_state = false\n")  # it goes when the run ends
    assert "--resume" not in kinds(run)["short"][1]
    assert "short" not in kinds(run_of(tmp_path / "long", epochs=2, steps=2000))


def test_a_curve_that_rises_is_trained_longer(tmp_path: Path) -> None:
    """4 points an epoch until the end: twice the epochs; a curve at rest, or one past its best, is left alone."""
    text, command = kinds(run_of(tmp_path / "run", rising=True))["rising"]
    assert "+8.0 points in the last 2 epochs" in text
    assert "train.epochs=20" in command
    assert "rising" not in kinds(run_of(tmp_path / "rest"))


def test_classes_that_are_never_named(tmp_path: Path) -> None:
    """Two of five classes are never said: named, with the command that gives rare classes more weight."""
    names = ("a", "b", "c", "d d", "e")
    result = judged([0] * 40 + [1] * 30 + [2] * 20 + [3] * 9 + [4] * 3, [0] * 40 + [1] * 30 + [2] * 32, 5, names)
    run = run_of(tmp_path / "run", classes=names, result=result)
    text, command = kinds(run)["never named"]
    assert "2 of 5 classes are never named: \u201cd d\u201d, \u201ce\u201d" in text
    assert "train.class_balance=1" in command
    (run / "recipe.toml").write_text("[train]\nclass_balance = 1.0\n")
    assert kinds(run)["never named"][1] == []
    page = Page(write_report(run))
    assert [text for _, text in page.find("span", cls="fault")] == ["never named"] * 2
    assert "never named" in describe_result(read_run(run).result)


def test_a_validation_far_from_the_test_is_said(tmp_path: Path) -> None:
    """95 % on validation and 60 % on the test, of hundreds of pictures: look at the split, by the doctor."""
    shares, labels = predictions(3, 600)
    result = judge(shares, labels, CLASSES, majority=0, bootstrap=50) | {"top1": 0.6}
    run = run_of(tmp_path / "run", result=result)
    data = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps(data | {"pictures": {"train": 900, "val": 300, "test": 600}}))
    rows = [json.loads(row) | {"ema_val_top1": 0.95} for row in (run / "log.jsonl").read_text().splitlines()]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text, command = kinds(run)["apart"]
    assert text.startswith("Validation said 95.0\u00a0%, the test 60.0\u00a0%")
    assert command == ["convnext", "doctor", "data/two words", str(run / "recipe.toml")]


def test_a_run_that_learnt_nothing_is_not_to_be_used(tmp_path: Path) -> None:
    """The doubt comes first, at the top of the page and in the terminal; alone it leads to the data."""
    result = judged([0, 1, 2] * 30, [0] * 90, 3, CLASSES)
    run = run_of(tmp_path / "run", result=result)
    assert next(iter(kinds(run))) == "doubt"
    text = describe_advice(advise(read_run(run)))
    assert text.splitlines()[0] == "What to do next:"
    assert "Do not use this model yet: it is not clearly better than the trivial answer." in text
    page = Page(write_report(run))
    ((_, shown),) = page.find("section", id="next")
    assert shown.startswith("What to do next Do not use this model yet")
    html = (run / "report.html").read_text()
    assert html.index('id="next"') < html.index('class="grid tiles"')
    alone = advise(for_result(run, result | {"data_root": "else where"}), own=False)
    assert {item.kind for item in alone} == {"doubt", "never named"}


def test_what_the_terminal_says_of_the_difference() -> None:
    """Beside the trivial answer stands the difference on the same pictures, and whether chance may give it."""
    result = judged([0] * 50 + [1] * 50, [0] * 40 + [1] * 60, 2) | {"split": "test", "weights": "best", "model": "m"}
    text = describe_result(result)
    assert 'always "class 0"          50.0 %  (the trivial answer)' in text
    assert "+40.0 points [" in text
    assert "on the same pictures: better than the trivial answer" in text


def test_the_weakest_of_many_classes_are_listed() -> None:
    """Of 60 classes the terminal lists the 40 weakest by F1."""
    truth = list(range(60)) * 2
    named = [c if c < 55 else 0 for c in truth]
    result = judged(truth, named, 60) | {"split": "test", "weights": "best", "model": "m"}
    text = describe_result(result)
    assert "these are the 40 weakest by F1 of 60 classes" in text
    assert all(f"class {c} " in text for c in (0, 55, 59))
