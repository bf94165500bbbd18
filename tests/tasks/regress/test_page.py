"""The page of a regression, read back from generated run folders."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, median_absolute_error, r2_score, root_mean_squared_error

from convnext.errors import RunError
from convnext.report.files import read_run
from convnext.report.page import write_report
from convnext.report.text import describe_result
from convnext.run.folder import RunFolder
from convnext.tasks.regress.reporting import declare
from convnext.tasks.regress.verdict import verdict
from convnext.tasks.reporting import RunTables
from convnext.tasks.table import TASKS
from tests.report.test_page import Page
from tests.tasks.regress.runs import AGE, Made, make_run

WEIGHT = Made("weight", "kg", 9.0, 0.1, 4.0, missing=6)
HOSTILE = '<script>alert("x")</script>{{ 7 * 7 }}'
COUNT = Made(HOSTILE, "", 900.0, 0.1, None)


@pytest.fixture(autouse=True)
def _in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "regress", "convnext.tasks.regress")


def answers(run: Path, name: str = "age") -> tuple[np.ndarray, np.ndarray]:
    """Truth and answer of each picture, from predictions.csv."""
    with (run / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row[f"truth_{name}"]]
    truth, value = (np.array([float(row[f"{part}_{name}"]) for row in rows]) for part in ("truth", "value"))
    return truth, value


def tiles(page: Page) -> dict[str, tuple[float, str]]:
    """Value and text by key."""
    found = page.find("div", cls="tile")
    return {attrs["data-metric"]: (float(attrs["data-value"]), text.replace("\u00a0", " ")) for attrs, text in found}


def test_headline_numbers_are_those_of_scikit_learn(tmp_path: Path) -> None:
    """Each tile holds its score of the answers, in the unit, with what always saying the median gets."""
    run = make_run(tmp_path / "run")
    truth, value = answers(run)
    page = Page(write_report(run))
    shown = tiles(page)
    inside = np.abs(truth - value) <= 14.0
    expected = {
        "mae": mean_absolute_error(truth, value), "rmse": root_mean_squared_error(truth, value),
        "median_error": median_absolute_error(truth, value), "within_5": float((np.abs(truth - value) <= 5).mean()),
        "r2": r2_score(truth, value), "spearman": spearmanr(truth, value).statistic, "coverage": inside.mean(),
        "width": 28.0,
    }  # fmt: skip
    assert {key: value for key, (value, _) in shown.items()} == pytest.approx(expected)
    assert list(shown) == list(expected), "in this order"
    for key in ("mae", "rmse", "median_error", "width"):
        assert f"{expected[key]:.1f} months" in shown[key][1]
    always = {"mae": np.abs(truth - np.median(truth)).mean(), "rmse": truth.std()}
    for key, trivial in always.items():
        assert f"orange tick: {trivial:.1f} months, by always saying" in shown[key][1]
        assert "clearly better: +" in shown[key][1]
        assert "less is better" in shown[key][1]
    assert "90 % are promised" in shown["coverage"][1]
    assert "by one interval for all pictures" in shown["width"][1]


def test_every_picture_is_a_dot_at_its_place(tmp_path: Path) -> None:
    """Two charts with as many dots as pictures, whose errors are answer less truth; few have their intervals."""
    run = make_run(tmp_path / "run")
    truth, value = answers(run)
    html = write_report(run).read_text()
    first, second = re.findall(r'<svg class="chart square".*?</svg>', html, re.S)
    for drawn, y in ((first, value), (second, value - truth)):
        places = [(float(a), float(b)) for a, b in re.findall(r'class="bin" cx="(\S+)" cy="(\S+)"', drawn)]
        assert len(places) == 80
        across, down = np.array(places).T
        for at, wanted, sign in ((across, truth, 1), (down, y, -1)):
            slope, offset = np.polyfit(wanted, at, 1)
            assert sign * slope > 0
            assert at == pytest.approx(slope * wanted + offset, abs=0.03)
    assert first.count('class="whisker"') == 80
    assert second.count('class="whisker"') == 0
    assert first.count('class="base"') == second.count('class="base"') == 1
    share = (np.abs(truth - value) <= 14.0).mean()
    assert f"{100 * share:.1f} %" in Page(run / "report.html").shown


@pytest.mark.parametrize(("n", "whiskers", "dots"), [(130, 0, 130), (4500, 0, 2250)])
def test_many_pictures_are_drawn_without_whiskers_and_very_many_in_part(
    tmp_path: Path, n: int, whiskers: int, dots: int
) -> None:
    """How many are drawn is said, and the page stays small."""
    run = make_run(tmp_path / "run", n=n, pictures=0)
    html = write_report(run).read_text()
    assert html.count('class="whisker"') == whiskers
    (first, _) = re.findall(r'<svg class="chart square".*?</svg>', html, re.S)
    assert first.count('class="bin"') + first.count("h0") == dots
    assert ("Drawn are 2,250 of 4,500 pictures" in html) == (dots < n)
    assert len(html) < 400_000


def test_ranges_are_those_of_the_answers(tmp_path: Path) -> None:
    """From the smallest values to the largest: pictures, mean error and bias, worked out anew."""
    run = make_run(tmp_path / "run")
    truth, value = answers(run)
    page = Page(write_report(run))
    names = [text for _, text in page.find("th", scope="row") if " to " in text]
    cells = [(attrs["data-v"], text) for attrs, text in page.find("td") if "data-v" in attrs]
    assert len(names) == 5
    for at, name in enumerate(names):
        low, high = map(float, name.split(" to "))
        part = (truth >= low) & (truth <= high)
        pictures, mae, bias, _ = cells[4 * at : 4 * at + 4]
        assert int(pictures[0]) == part.sum()
        assert float(mae[0]) == pytest.approx(np.abs(value - truth)[part].mean())
        assert float(bias[0]) == pytest.approx((value - truth)[part].mean())


def test_shares_within_a_distance_are_counted(tmp_path: Path) -> None:
    """The curve's points are the shares of errors up to there, for the model and for the median."""
    run = make_run(tmp_path / "run")
    truth, value = answers(run)
    page = Page(write_report(run))
    ((chart, _),) = [found for found in page.find("svg", cls="chart") if found[0].get("data-x", "").startswith("dist")]
    lines = json.loads(chart["data-lines"])
    assert [line[0] for line in lines] == ["the model", "always the median"]
    for (_, _, points), errors in zip(lines, (np.abs(value - truth), np.abs(truth - np.median(truth))), strict=True):
        for k, _, _, text in points:
            assert text.replace("\u00a0", " ") == f"{100 * (errors <= k).mean():.1f} %"


def test_the_target_is_drawn_by_split(tmp_path: Path) -> None:
    """A histogram with a series for each split, the training median as a mark, and a table of the same."""
    run = make_run(tmp_path / "run")
    data = json.loads((run / "data.json").read_text())["targets"]["age"]["splits"]
    page = Page(write_report(run))
    boxes = page.find("rect", cls="column")
    for split, word in (("train", "training"), ("val", "validation"), ("test", "test")):
        told = [text for attrs, text in boxes if split in attrs["class"].split()]
        counts = [int(re.search(r": ([\d,]+) \w+$", text)[1].replace(",", "")) for text in told]  # type: ignore[index]
        assert counts == [count for count in data[split]["histogram"]["counts"] if count]
        assert all(text.endswith(word) for text in told)
    assert f"median {data['train']['median']:.4g} months" in page.shown.replace("\u00a0", " ")
    row = next(text for _, text in page.find("tr") if text.startswith("training"))
    assert f"{data['train']['mean']:.1f}" in row


def test_the_worst_answers_have_pictures_and_intervals(tmp_path: Path) -> None:
    """By their direction: the answer as predict writes it beside the truth, and whether the interval missed it."""
    run = make_run(tmp_path / "run")
    rows = json.loads((run / "mistakes.json").read_text())
    page = Page(write_report(run))
    shown = [text for _, text in page.find("figure", cls="exhibit")]
    assert len(shown) == len(rows) == 12
    assert page.find("span", cls="gone") == []
    for row in rows:
        (text,) = [text for text in shown if f"truth {row['truth']}said {row['answer']}off" in text]
        assert ("outside its interval" in text) == row["outside"]
        assert f"{row['error']:+.1f}".replace("-", "\u2212") in text
    names = {attrs["data-copy"]: text for attrs, text in page.find("span", cls="file")}
    assert names == {row["path"]: row["path"].removeprefix("pets/") for row in rows}, "beside the table"
    titles = [text for _, text in page.find("h3") if text.startswith("Answers that are")]
    assert len(titles) == 2
    assert re.fullmatch(r"-?\d+ ± 14 months, 90 %", rows[0]["answer"])


def test_three_targets_have_a_part_each(tmp_path: Path) -> None:
    """A tile, a table of scores, charts and a histogram for each; a hostile name stays text everywhere."""
    run = make_run(tmp_path / "run", (AGE, WEIGHT, COUNT))
    result = json.loads((run / "result.json").read_text())
    page = Page(write_report(run))
    shown = tiles(page)
    assert list(shown) == ["error", "targets.age.mae", "targets.weight.mae", f"targets.{HOSTILE}.mae"]
    for name in ("age", "weight", HOSTILE):
        assert shown[f"targets.{name}.mae"][0] == result["targets"][name]["mae"]
        assert f"{name}: how far off it is" in [text for _, text in page.find("h2")]
    assert len(page.find("svg", cls="square")) == 6
    assert "6 pictures without a known value are left out" in page.shown
    assert "The answers have no intervals. 5 are too few" in page.shown
    assert len(page.find("svg", cls="columns")) == 3
    html = (run / "report.html").read_text()
    assert "<script>alert" not in html
    assert "49" not in [text for _, text in page.find("h2")]
    for each in ("age", "weight"):
        table = result["targets"][each]
        row = f"{table['rmse']:.{1 if each == 'age' else 2}f} {table['unit']}"
        assert row in page.shown.replace("\u00a0", " ")
    names = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(names) == len(set(names))
    assert {attrs["href"][1:] for attrs, _ in page.find("a")} <= set(names)


@pytest.mark.parametrize("value", [None, math.nan])
def test_numbers_that_are_none_are_left_out(tmp_path: Path, value: float | None) -> None:
    """A constant truth has no R squared, one picture no interval, and a run may lack any field: the page is drawn."""
    run = make_run(tmp_path / "run", spearman=value, r2=value)
    result = json.loads((run / "result.json").read_text())
    result["targets"]["age"] |= {
        "spearman": value,
        "r2": value,
        "by_range": [{"low": 0.5, "high": 1, "n": 3, "mae": value}],
    }
    result["targets"]["age"]["intervals"] = {"mae": None, "rmse": [1.0, value]}
    result["targets"]["age"]["baselines"]["rmse"] = value
    (run / "result.json").write_text(json.dumps(result))
    shown = tiles(Page(write_report(run)))
    assert {"r2", "spearman"} & set(shown) == set()
    assert "orange tick" not in shown["rmse"][1]
    assert "nan" not in " ".join(text for _, text in shown.values())


def test_a_field_that_is_missing_costs_its_own_part_alone(tmp_path: Path) -> None:
    """As in runs of other versions: the main number is told, and nothing fails."""
    run = read_run(make_run(tmp_path / "run"))
    table = run.result["targets"]["age"]
    for gone in table.keys() - {"mae"}:
        left = {key: value for key, value in table.items() if key != gone}
        told = declare(replace(run, result=run.result | {"targets": {"age": left}}))
        assert told.tiles[0].key == "mae", gone
        assert "MAE" in told.verdict.sentence, gone
        assert [section.key for section in told.sections] == ["errors", "worst"], gone


def test_the_pages_of_real_runs_are_drawn(run: RunFolder, run_of_two: RunFolder) -> None:
    """Of one target and of two that predict a spread: all parts are there, and the numbers are the verdict's."""
    for each, keys in ((run, ["errors", "worst"]), (run_of_two, ["errors-0", "errors-1", "worst"])):
        page = Page(write_report(each.path))
        result, shown = json.loads(each.result.read_text()), tiles(page)
        assert next(iter(shown)) == ("mae" if each is run else "error")
        assert all(value == pytest.approx(_at(result, key)) for key, (value, _) in shown.items())
        assert [attrs["id"] for attrs, _ in page.find("section") if attrs.get("id") in keys] == keys
        assert len(page.find("svg", cls="square")) == 2 * len(result["targets"])
        assert len(page.find("svg", cls="columns")) == len(result["targets"])
        assert page.find("span", cls="gone") == []
        said = describe_result(result)
        assert "lux" in said
        assert "nan" not in said


def _at(result: dict[str, Any], key: str) -> float:
    """A number of the result by the tile's key."""
    for part in key.split("."):
        result = result[part]
    return float(result)  # type: ignore[arg-type]


def test_dots_of_another_result_are_not_drawn(tmp_path: Path) -> None:
    """Fewer rows than judged pictures, or no file: said in place of the charts. A damaged table is refused."""
    run = make_run(tmp_path / "run")
    table = run / "predictions.csv"
    rows = table.read_text().splitlines(keepends=True)
    for text in ("".join(rows[:-1]), None):
        table.unlink()
        if text is not None:
            table.write_text(text)
        page = Page(write_report(run))
        assert page.find("svg", cls="square") == []
        assert "The dots are missing: predictions.csv is not there, or has other pictures" in page.shown
        table.touch()
    table.write_text("".join(rows) + '"a,1\n')
    with pytest.raises(RunError, match=r"predictions.csv is damaged or was edited"):
        write_report(run)


def test_no_target_value_known(tmp_path: Path) -> None:
    """A test split without any known value: nothing is claimed, and nothing fails."""
    run = make_run(tmp_path / "run", (Made(missing=20),), n=20, pictures=0)
    page = Page(write_report(run))
    assert "None of these pictures has a known value" in page.find("p", id="verdict")[0][1]
    assert tiles(page) == {}


def test_an_unfinished_run_says_the_error_so_far(tmp_path: Path) -> None:
    """The best epoch is the one with the least error, in the unit of data.json."""
    run = make_run(tmp_path / "run")
    for name in ("result.json", "mistakes.json", "predictions.csv"):
        (run / name).unlink()
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    page = Page(write_report(run))
    best = min(row["val_mae"] for row in rows[:3])
    said = page.find("p", id="verdict")[0][1].replace("\u00a0", " ")
    assert said == f"3 epochs of 8 done; validation MAE now {best:.1f} months, best {best:.1f} months at epoch 3."
    assert len(page.find("svg", cls="columns")) == 1


GAIN = {"value": 5.0, "interval": [2.0, 8.0], "won": 60, "lost": 20, "p": 1e-5}


@pytest.mark.parametrize(
    ("changes", "tone", "words"),
    [
        ({}, "good", "MAE 10.0 months (9.0\u201311.0) on 80 test pictures; always saying 24 months gets 15.0 months."),
        (
            {"gains": {"mae": GAIN | {"interval": [-0.1, 8.0]}}},
            "doubtful",
            "is not clearly better than always saying 24",
        ),
        (
            {"gains": {"mae": GAIN | {"value": -5.0, "interval": [-8.0, -2.0]}}},
            "doubtful",
            "is worse than always saying",
        ),
        ({"gains": {"mae": GAIN | {"interval": None}}}, "doubtful", "is not clearly better"),
        ({"gains": {"mae": GAIN | {"won": 5, "lost": 3, "p": 0.7}}}, "doubtful", "is not clearly better"),
        ({"baselines": {}}, "open", "there is no trivial answer to compare it with."),
    ],
)
def test_better_is_said_only_where_the_paired_interval_leaves_out_0(
    changes: dict[str, Any], tone: str, words: str
) -> None:
    """Whatever the error's own interval is; with few pictures that differ the exact test must agree."""
    table = {
        "n": 80, "unit": "months", "mae": 10.0, "intervals": {"mae": [9.0, 11.0]}, "baselines": {"mae": 15.0},
        "gains": {"mae": GAIN}, "trivial": {"median": 24.0, "mean": 30.0},
    }  # fmt: skip
    result = {"n": 80, "split": "test", "weights": "best", "targets": {"age": table | changes}}
    told = verdict(RunTables(result=result))
    assert told.tone == tone
    assert words in told.sentence.replace("\u00a0", " ")
    if tone == "good":
        difference = told.difference.replace("\u00a0", " ")
        assert difference == ("On the same pictures the gain is +5.0 months, 95 % interval +2.0 to +8.0.")


def test_better_over_all_targets_is_not_better_for_each(tmp_path: Path) -> None:
    """The mean error is clearly better; that one target is not is said in the label and by name."""
    run = make_run(tmp_path / "run", (AGE, Made("weight", "kg", 9.0, 0.9, 4.0)))
    page = Page(write_report(run))
    assert [text for _, text in page.find("span", cls="pill")] == ["Better, but not for every target"]
    assert re.search(r"weight: MAE [\d.]+ kg, the median [\d.]+ kg, worse", page.shown.replace("\u00a0", " "))
