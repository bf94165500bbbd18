"""The parts of a classification's page, read back from generated run folders."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, f1_score, recall_score

from convnext.metrics.classification import judge_multi_label
from convnext.report.page import write_report
from convnext.tasks.classify.sections import reliability
from convnext.tasks.classify.verdict import verdict
from convnext.tasks.reporting import RunTables
from tests.report.test_page import CLASSES, Page, make_run, percent, predictions


def test_class_table_and_matrix_are_those_of_scikit_learn(tmp_path: Path) -> None:
    """The rows hold scikit-learn's recall, the weakest class first, and the matrix its counts, cell by cell."""
    page = Page(write_report(make_run(tmp_path / "run")))
    shares, labels = predictions(3, 90)
    guesses = shares.argmax(1)
    cells = [(attrs["data-v"], text) for attrs, text in page.find("td") if "data-v" in attrs]
    weakest = np.argsort(f1_score(labels, guesses, average=None), kind="stable")
    assert [text for _, text in page.find("th", scope="row")] == [CLASSES[c] for c in weakest]
    for row, recall in enumerate(recall_score(labels, guesses, average=None)[weakest]):
        pictures, _, found, _ = cells[4 * row : 4 * row + 4]  # pictures, precision, recall, F1
        assert pictures == ("30", "30")
        assert float(found[0]) == pytest.approx(recall)
        assert found[1].startswith(percent(recall))
    drawn = [text for kind in ("right", "wrong") for _, text in page.find("g", cls=kind)]
    matrix = confusion_matrix(labels, guesses)
    for truth, name in enumerate(CLASSES):
        for guess, other in enumerate(CLASSES):
            told = f"{name} recognised" if truth == guess else f"{name} taken for {other}"
            assert f"{told}: {matrix[truth, guess]} of 30" in " ".join(drawn)


def test_multi_label_run(tmp_path: Path) -> None:
    """Several labels a picture: F1 and average precision take the place of accuracy and matrix."""
    rng = np.random.default_rng(0)
    labels = rng.random((60, 3)) < 0.4
    shares = np.clip(labels * 0.6 + rng.random((60, 3)) * 0.5, 0, 1)
    baseline = np.array([True, False, False])
    result = judge_multi_label(shares, labels, CLASSES, baseline=baseline, bootstrap=50)
    run = make_run(tmp_path / "run", result=result, multi_label=True)
    page = Page(write_report(run))
    tiles = {attrs["data-metric"]: float(attrs["data-value"]) for attrs, _ in page.find("div", cls="tile")}
    assert set(tiles) == {"micro_f1", "mean_average_precision", "exact_match", "macro_f1"}
    assert all(value == result[key] for key, value in tiles.items())
    sentence = page.find("p", id="verdict")[0][1]
    assert sentence.startswith(f"Micro-F1 {percent(result['micro_f1'])}")
    assert percent(result["micro_f1_baseline"]) in sentence
    assert page.find("svg", cls="matrix") == []
    assert "Avg. precision" in page.shown


def test_thresholds_are_shown_whole(tmp_path: Path) -> None:
    """Beside the numbers at one half; no share is parted from its sign, and F1 is spelt as such."""
    rng = np.random.default_rng(0)
    labels = rng.random((60, 3)) < 0.4
    shares = np.clip(labels * 0.6 + rng.random((60, 3)) * 0.5, 0, 1)
    baseline = np.array([True, False, False])
    result = judge_multi_label(shares, labels, CLASSES, baseline=baseline, bootstrap=50)
    limits = dict(zip(CLASSES, (0.25, 0.5, 0.625), strict=True))
    result["at_thresholds"] = judge_multi_label(shares, labels, CLASSES, threshold=tuple(limits.values()), bootstrap=50)
    result["thresholds"] = {"for": "f1", "chosen_on": "val", "values": limits, "too_few_pictures": []}
    report = write_report(make_run(tmp_path / "run", result=result, multi_label=True))
    page = Page(report)
    assert "Chosen on validation, for the best F1:" in page.shown
    assert {"25.0 %", "50.0 %", "62.5 %"} <= {text for _, text in page.find("td", cls="share")}
    assert re.search(r"\.figures td\.share \{\s*white-space: nowrap;\s*\}", report.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("changes", "tone", "words"),
    [
        ({}, "good", "80.0 % (75.0–85.0) on 90 test pictures; always saying “roses” gets 60.0 %."),
        ({"majority_top1": 0.78}, "doubtful", "is not clearly better than always saying “roses”, which gets 78.0 %."),
        ({"majority_top1": 0.9}, "doubtful", "is worse than always saying “roses”, which gets 90.0 %."),
        ({"split": "val"}, "open", "on 90 validation pictures; always saying “roses”"),
        ({"intervals": {}}, "good", "Top-1 80.0 % on 90 test pictures; always"),
        ({"majority_top1": None}, "open", "there is no trivial answer to compare it with."),
        ({"n": 1}, "good", "on 1 test picture; always"),
    ],
)
def test_verdict_is_worded_as_the_interval_allows(changes: dict[str, Any], tone: str, words: str) -> None:
    """The sentence claims no more than the interval and the split support."""
    result = {
        "n": 90, "top1": 0.8, "intervals": {"top1": [0.75, 0.85]}, "majority_class": "roses", "majority_top1": 0.6,
        "split": "test", "weights": "best",
    }  # fmt: skip
    told = verdict(RunTables(result=result | changes))
    assert told.tone == tone
    assert len(told.label) < 50
    assert words in told.sentence.replace("\u00a0", " ")
    assert ("no test split" in told.caveat) == (changes.get("split") == "val")


@pytest.mark.parametrize(("count", "drawn"), [(2, True), (40, True), (105, True), (300, False)])
def test_any_number_of_classes(tmp_path: Path, count: int, drawn: bool) -> None:
    """Up to 200 classes get a matrix with every count but zero, more get the list alone; the page stays small."""
    classes = tuple(f"kind {index:03d}" for index in range(count))
    run = make_run(tmp_path / "run", classes=classes, pictures=2 * count)
    matrix = np.array(json.loads((run / "result.json").read_text())["confusion"])
    page = Page(write_report(run))
    cells = page.find("g", cls="right") + page.find("g", cls="wrong")
    if drawn:
        told = sorted(int(re.search(r": (\d+) of \d+", text)[1]) for _, text in cells if ": 0 of" not in text)
        assert told == sorted(matrix[matrix > 0].tolist())
    else:
        assert cells == []
        assert f"With {count} classes the matrix is too large to draw" in page.shown
    assert len([row for row in page.find("th", scope="row") if row[1] in classes]) == count
    assert (run / "report.html").stat().st_size < 1_500_000


@pytest.mark.parametrize(("right", "count"), [(0, 1), (1, 1), (7, 9), (50, 100), (999, 1000)])
def test_whiskers_are_scipys_wilson_interval(right: int, count: int) -> None:
    """The reliability chart's whiskers equal scipy's Wilson score interval."""
    expected = binomtest(right, count).proportion_ci(confidence_level=0.95, method="wilson")
    (point,) = reliability([0.5], [right / count], [count]).points
    assert point.interval == pytest.approx((expected.low, expected.high), abs=1e-12)
