"""Pages of comparisons and searches by any score: its unit, and less being better."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from convnext.evaluate.compare import Comparison, Difference
from convnext.report.compare_page import write_comparison
from convnext.report.tune_page import draw_history
from convnext.study.trials import Row
from convnext.tasks.score import Score
from tests.report.test_page import Page

MAE = Score("mae", "MAE", "months", higher_is_better=False)
WITHIN = Score("within", "within 12 months")


def compared(*kinds: Score) -> Comparison:
    """A run whose error is 2 months less than the first one's, and whose share is 4 points more."""
    values = {"mae": (10.0, 8.0), "within": (0.5, 0.54)}
    metrics = {
        "mae": {"difference": -2.0, "interval": [-3.0, -1.0], "p": 0.001},
        "within": {"difference": 0.04, "interval": [-0.02, 0.1], "p": 0.2},
    }
    chosen = {score.key: metrics[score.key] for score in kinds}
    scores = tuple({score.key: values[score.key][run] for score in kinds} for run in (0, 1))
    each = Difference("b", chosen, 30, 10, 0.002, 0.002, "better")
    return Comparison(("a", "b"), 90, "test", "their names", (90, 90), scores, (each,), kinds, "nearer the truth")


def test_less_is_drawn_at_the_better_side(tmp_path: Path) -> None:
    """An error that falls by 2 of at most 3 months lies right of the middle, at two thirds of the way, in months."""
    page = Page(write_comparison(compared(MAE), tmp_path / "page.html"))
    cells = [text.replace("\u00a0", " ") for _, text in page.find("td")]
    assert cells[:2] == ["10.0 months", "8.0 months"]
    assert cells[2:5] == ["\u22122.0", "\u22123.0 to \u22121.0", "0.001"]
    assert "Difference, months" in [text for _, text in page.find("th")]
    ((dot, _),) = page.find("path", cls="value")
    assert dot["d"] == f"M{50 + 48 * 2 / 3:.2f} 6h0"
    ((band, _),) = page.find("path", cls="band")
    assert band["d"] == f"M{50 + 48 / 3:.2f} 6H98.00"


def test_scores_of_several_units_each_have_their_own_scale(tmp_path: Path) -> None:
    """Months and points are named in each row, and neither shrinks the other's bar."""
    page = Page(write_comparison(compared(MAE, WITHIN), tmp_path / "page.html"))
    assert "Difference" in [text for _, text in page.find("th")]
    cells = [text for _, text in page.find("td")]
    assert "\u22122.0 months" in cells
    assert "+4.0 points" in cells
    ends = [float(re.search(r"H(\S+)", attrs["d"])[1]) for attrs, _ in page.find("path", cls="band")]  # type: ignore[index]
    assert ends == [98.0, 98.0]


def trials(*values: float | None) -> list[Row]:
    """Trials with these values; None stands for one that failed."""
    return [
        {"number": at, "state": "fail" if value is None else "complete", "value": value, "params": {}, "epochs": {},
         "seconds": None, "reason": "", "counts": True}
        for at, value in enumerate(values)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("score", "best", "title"),
    [
        (MAE, [9.0, 9.0, 7.0, 7.0], "validation, months"),
        (WITHIN, [900.0, 1100.0, 1100.0, 1100.0], "validation, %"),
    ],
)
def test_the_best_so_far_is_the_best_by_its_score(score: Score, best: list[float], title: str) -> None:
    """The line of the best so far runs in the direction of the score, on an axis in its unit; failed trials are left
    out."""
    (axis,) = draw_history(trials(9.0, 11.0, None, 7.0, 8.0), score).axes
    assert axis.get_ylabel() == title
    (line,) = axis.lines
    assert list(line.get_ydata()) == pytest.approx(best)
