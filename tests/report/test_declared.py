"""A page of a task that report/ has never heard of: numbers with a unit, of which less is better."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convnext import report
from convnext.errors import RunError
from convnext.report.advice import advise
from convnext.report.figures import curves, histogram, scatter
from convnext.report.files import read_run
from convnext.report.page import write_report
from convnext.report.text import describe_result, trivial_lines
from convnext.tasks.blocks import Axis, Curves, Histogram, Line, Point, Scatter, Series
from convnext.tasks.table import TASKS
from convnext.tasks.words import PERCENT, Unit
from tests.report.test_page import Page, save_picture

PAIRS = [
    (float(true), float(true + off)) for true, off in zip(range(2, 182, 2), np.sin(np.arange(90)) * 12, strict=True)
]
MAE = float(np.mean([abs(said - true) for true, said in PAIRS]))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run of the toy task, which is one line in the table of tasks."""
    monkeypatch.setitem(TASKS, "months", "tests.report.months")
    run = tmp_path / "run"
    run.mkdir()
    rows = [
        {"epoch": e, "epochs": 8, "step": 400 * e, "train_loss": 1 / e, "val_loss": 1 / e, "val_mae": 30 / e,
         "ema_val_mae": 33 / e, "lr": 0.001, "best": True}
        for e in range(1, 9)
    ]  # fmt: skip
    files: dict[str, Any] = {
        "result.json": {
            "task": "months", "model": "convnext_atto", "n": 90, "split": "test", "weights": "best", "mae": MAE,
            "pairs": PAIRS, "intervals": {"mae": [MAE - 1, MAE + 1]}, "baselines": {"mae": 41.2},
            "gains": {"mae": {"value": 41.2 - MAE, "interval": [32.0, 36.0]}}, "within_12": 0.8, "data_root": "pets",
        },
        "data.json": {"root": "pets", "pictures": {"train": 20, "test": 90}},
        "mistakes.json": [
            {"path": f"pets/{name}.jpg", "truth": "40 months", "predicted": "90 months",
             "picture": f"pictures/{name}.jpg"}
            for name in ("a <b>", "c")
        ],
    }  # fmt: skip
    for name, value in files.items():
        (run / name).write_text(json.dumps(value))
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "recipe.toml").write_text('weights = "none"\n')
    save_picture(run / "pictures/c.jpg", 90, 60)
    save_picture(run / "pictures/batch.jpg", 400, 130)
    return run


def test_a_page_of_numbers_is_drawn(run: Path) -> None:
    """Tile, verdict, curve, scatter, residuals, table by range, histogram and worst errors, each in its unit, all text
    escaped and the whole well-formed."""
    page = Page(write_report(run))
    ((_, verdict),) = page.find("p", id="verdict")
    score = f"MAE {MAE:.1f} months ({MAE - 1:.1f}\u2013{MAE + 1:.1f}) on 90 test pictures"
    assert verdict.replace("\u00a0", " ") == f"{score}; always saying 47 months gets 41.2 months."
    (tile, text), (other, share) = page.find("div", cls="tile")
    assert (tile["data-metric"], float(tile["data-value"])) == ("mae", MAE)
    assert f"{MAE:.1f} months" in text.replace("\u00a0", " ")
    assert f"clearly better: +{41.2 - MAE:.1f} (+32.0 to +36.0)" in text
    assert "%" not in text
    assert other["data-metric"] == "within_12"
    assert "80.0 %" in share.replace("\u00a0", " ")
    assert f"the gain is +{41.2 - MAE:.1f} months, 95 % interval +32.0 to +36.0." in page.shown
    assert [text for _, text in page.find("span", cls="unit")] == ["months"], "smaller: a long unit breaks no number"
    assert [text for _, text in page.find("a") if text in ("Errors", "Worst")] == ["Errors", "Worst"]
    assert "Mean absolute error" in [text for _, text in page.find("h3")]
    assert "validation MAE" in page.shown
    assert "validation 3.8 months" in page.shown.replace("\u00a0", " ")  # 30 / 8
    assert "Their ages" in page.shown
    assert len(page.find("svg", cls="square")) == 2
    assert "A note <of> its own." in [text for _, text in page.find("p", cls="card")]
    assert {"0 to 24", "24 to 192"} == {text for attrs, text in page.find("th", scope="row")}
    assert len(page.find("rect", cls="column")) == 6  # empty columns are not drawn
    assert "median" in page.shown
    assert [attrs["data-copy"] for attrs, _ in page.find("span", cls="file")] == ["pets/a <b>.jpg", "pets/c.jpg"]
    assert len(page.find("span", cls="gone")) == 1
    assert len(page.find("span", cls="meter")) == 0
    assert "34 ± 9 months" in page.shown
    names = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(names) == len(set(names))
    assert {attrs["href"][1:] for attrs, _ in page.find("a")} <= set(names)


def test_the_tick_and_the_value_lie_on_the_tiles_own_scale(run: Path) -> None:
    """Of 0 to 50 months: the error at its share of the way, always saying the median at 82.4 %."""
    html = write_report(run).read_text()
    tile = html[html.index('data-metric="mae"') :]
    assert f'class="value" d="M{2 * MAE:.2f} 6h0"' in tile
    assert 'class="tick" d="M82.40 0V12"' in tile


def test_less_is_better_in_verdict_and_advice(run: Path) -> None:
    """An error that still falls is to be trained on; one above the trivial answer's is no model to use."""
    found = advise(read_run(run))
    assert [step.kind for step in found] == ["rising"]
    assert found[0].text == "Validation still falls: \u22121.5 months in the last 2 epochs, on average. Train longer."
    assert "train.epochs=16" in found[0].command
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | {"baselines": {"mae": 1.0}, "gains": {}}))
    assert advise(read_run(run))[0].text.startswith("Do not use this model yet: it is worse")
    page = Page(write_report(run))
    assert [text for _, text in page.find("span", cls="pill")] == ["Worse than the trivial answer"]


def test_an_unfinished_run_of_numbers(run: Path) -> None:
    """The best epoch is the one with the least error."""
    (run / "result.json").unlink()
    (run / "recipe.toml").write_text('weights = "none"\n[task]\nkind = "months"\n')
    rows = [json.loads(row) for row in (run / "log.jsonl").read_text().splitlines()[:5]]
    rows[4] |= {"val_mae": 20.0, "ema_val_mae": 21.0}
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ((_, text),) = Page(write_report(run)).find("p", id="verdict")
    told = "5 epochs of 8 done; validation MAE now 20.0 months, best 7.5 months at epoch 4."
    assert text.replace("\u00a0", " ") == told


def test_the_terminal_has_the_tasks_words(run: Path) -> None:
    """Text and trivial answer are those of the task."""
    result = json.loads((run / "result.json").read_text())
    assert f"MAE {MAE:.1f} months" in describe_result(result).replace("\u00a0", " ")
    assert trivial_lines(result) == ["  always 47 months 41.2\u00a0months"]


def test_a_task_of_a_later_version_is_refused(run: Path) -> None:
    """The name, the file, and what is known; no page is left."""
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | {"task": "../x"}))
    with pytest.raises(RunError, match=r'task = "../x" in result.json or recipe.toml: it must be classify, .*months'):
        write_report(run)


def test_dots_lie_where_their_values_are() -> None:
    """A scatter's dots lie at equal steps for equal values; the diagonal goes through dots of two equal values."""
    points = tuple(Point(value, value) for value in (0.0, 40.0, 200.0))
    drawn = str(scatter(Scatter("a", Axis("x"), Axis("y"), points, "told", equal=True)))
    (dots,) = re.findall(r'class="points" d="([^"]+)"', drawn)
    places = [(float(x), float(y)) for x, y in re.findall(r"M(\S+) (\S+?)h0", dots)]
    (x0, y0, x1, y1) = map(float, re.search(r'class="base" d="M(\S+) (\S+?)L(\S+) (\S+)"', drawn).groups())  # type: ignore[union-attr]
    for (x, y), share in zip(places, (0.0, 0.2, 1.0), strict=True):
        assert x == pytest.approx(x0 + share * (x1 - x0), abs=0.02)
        assert y == pytest.approx(y0 + share * (y1 - y0), abs=0.02)


@pytest.mark.parametrize("count", [0, 1, 3000])
def test_thousands_of_dots_stay_small(count: int) -> None:
    """Dots that say nothing are one path: 3,000 take less than 50 kB; none and one are drawn too."""
    rng = np.random.default_rng(0)
    points = tuple(Point(float(x), float(y)) for x, y in rng.normal(50, 20, (count, 2)))
    drawn = str(scatter(Scatter("a", Axis("x"), Axis("y"), points, "told", level=0.0)))
    assert drawn.count("h0") == count
    assert len(drawn) < 50_000


def test_columns_are_as_high_as_their_counts() -> None:
    """Stacked columns' heights are proportional to their counts, and their widths to their bins'."""
    series = (Series("training", (10, 0, 5), "train"), Series("test", (2, 3, 0), "test"))
    drawn = str(histogram(Histogram("h", (0.0, 1.0, 2.0, 4.0), series, "x", Unit("months", 0))))
    boxes = re.findall(r'class="column (\w+)" x="\S+" y="\S+" width="(\S+)" height="(\S+)"', drawn)
    heights = [(kind, float(height)) for kind, _, height in boxes]
    assert [kind for kind, _ in heights] == ["train", "test", "test", "train"]
    unit = heights[0][1] / 10
    assert [height / unit for _, height in heights] == pytest.approx([10, 2, 3, 5], abs=0.02)
    assert float(boxes[-1][1]) + 1 == pytest.approx(2 * (float(boxes[0][1]) + 1), abs=0.02)
    assert "1 to 2\u00a0months: 3 test" in drawn


def test_curves_over_something_else_than_epochs() -> None:
    """Precision over recall: the axis and the words under the pointer name it, its ticks need not be whole."""
    line = Line("test", "val", ((0.0, 1.0), (0.45, 0.8), (1.0, 0.1)))
    drawn = str(curves(Curves("p", (line,), "Precision over recall", unit=PERCENT, x="recall")))
    assert 'data-x="recall"' in drawn
    assert "recall 0.45, test: 80.0\u00a0%" in drawn
    assert re.findall(r'class="x" [^>]*>([^<]+)<', drawn) == ["0", "0.2", "0.4", "0.6", "0.8", "1"]


def test_the_report_knows_no_task() -> None:
    """No file of report/ names what is a task's own, or imports it; plots.py draws the paper's tables, which do."""
    words = r"top.?1|top.?5|confusions?|majority|multi.?label|per_class|micro.?f1|macro.?f1|recall|labels|accuracy"
    for path in sorted(Path(report.__file__).parent.iterdir()):
        if path.suffix in (".py", ".j2", ".js", ".css") and path.name != "plots.py":
            text = path.read_text(encoding="utf-8")
            assert re.findall(rf"\b(?:{words})\b", text, re.IGNORECASE) == [], path.name
            assert re.findall(r"\bclasses\b(?! of the page)", text.replace("CSS\n", "CSS "), re.IGNORECASE) == [], (
                path.name
            )
            assert re.findall(r"convnext\.tasks\.(?:classify|regress)", text) == [], path.name
