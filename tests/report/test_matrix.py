"""What the page does with mistakes, names, curves and files: read back from the HTML, and seen by a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from convnext.report.figures import curves
from convnext.report.matrix import matrix, shortened
from convnext.report.page import write_report
from convnext.tasks.blocks import Curves, Line, Matrix
from convnext.tasks.words import PERCENT
from tests.report.test_page import CLASSES, Page, log_row, make_run, save_picture


def test_cells_lead_to_the_pictures_of_their_confusion(tmp_path: Path) -> None:
    """Mistakes stand in groups with counts of the matrix; cells and confusions with pictures link to theirs."""
    run = make_run(tmp_path / "run")
    matrix = json.loads((run / "result.json").read_text())["confusion"]
    rows = []
    for number, (truth, said) in enumerate([(0, 1), (2, 0), (0, 1)]):
        name = f"pictures/mistake-{number:02d}.jpg"
        save_picture(run / name, 90, 60)
        path = f"flowers/{CLASSES[truth]}/a name with spaces {number}.jpg"
        rows.append(
            {"path": path, "truth": CLASSES[truth], "predicted": CLASSES[said], "confidence": 0.9, "picture": name}
        )
    (run / "mistakes.json").write_text(json.dumps(rows))
    page = Page(write_report(run))
    groups = {attrs["id"]: text for attrs, text in page.find("div", cls="group")}
    assert set(groups) == {"m-0-1", "m-2-0"}
    assert f"{matrix[0][1]} of 30 pictures" in groups["m-0-1"]
    links = [attrs["href"] for attrs, _ in page.find("a")]
    for name in groups:
        assert links.count(f"#{name}") >= 2  # a cell and a way back
    assert len(page.find("a", cls="zoom")) == len(page.find("a", cls="close")) == 3
    for attrs, text in page.find("span", cls="file"):
        assert attrs["data-copy"] == f"flowers/{text}"  # the whole name, below the data
    assert {text for _, text in page.find("span", cls="file")} == {row["path"].removeprefix("flowers/") for row in rows}


def test_several_labels_are_grouped_by_what_was_missed_or_added(tmp_path: Path) -> None:
    """A missed label and one that is not there are groups of their own."""
    rows = [
        {"path": "a.jpg", "truth": "a | b", "predicted": "a", "confidence": 0.9, "label": "b", "kind": "missed"},
        {"path": "b.jpg", "truth": "none", "predicted": "b", "confidence": 0.8, "label": "b", "kind": "added"},
    ]
    run = make_run(tmp_path / "run", multi_label=True, confusion=None)
    (run / "mistakes.json").write_text(json.dumps(rows))
    page = Page(write_report(run))
    assert [text.split(" no picture")[0] for _, text in page.find("div", cls="group")] == ["b: missed", "b: not there"]


@pytest.mark.parametrize("count", [2, 5, 12, 40, 200])
def test_a_matrix_says_when_it_is_wider_than_the_screen(count: int) -> None:
    """A hint stands in the page for screens narrower than all columns at their least size, and for no others."""
    names = [f"a class of number {index}" for index in range(count)]
    drawn = str(matrix(Matrix(((17,) * count,) * count, tuple(names))))
    (narrow,) = map(int, re.findall(r"max-width:(\d+)px", drawn))
    least = int(re.search(r"--least:(\d+)px", drawn)[1])  # type: ignore[index]
    wanted = int(re.search(r"--wanted:(\d+)px", drawn)[1])  # type: ignore[index]
    for width in range(200, 4000, 3):
        fits = min(wanted, 0.36 * width) + 2 + count * least <= width
        assert fits or width <= narrow
        assert not fits or width >= narrow - 8
    assert f"for all {count} columns" in drawn
    assert least >= (7 * 2 + 8 if count <= 30 else 13)  # two digits of 11 px, or a line of text


def test_names_that_begin_alike_can_be_told_apart() -> None:
    """A long name loses its middle, and stands in full in the title."""
    assert shortened("Northern spotted owl", 14) == "Northe\u2026ted owl"
    assert len(shortened("x" * 99, 26)) == 26
    drawn = str(matrix(Matrix(((1, 0), (0, 1)), ("Northern spotted woodpecker of the plains", "<u>"))))
    assert 'title="Northern spotted woodpecker of the plains"' in drawn
    assert "<u>" not in drawn


def test_two_epochs_are_two_points() -> None:
    """Each of two epochs has a tick and a dot of its own, apart from the edges; values stand in the drawing."""
    drawn = str(
        curves(Curves("Accuracy", (Line("validation", "val", ((1, 0.4), (2, 0.5))),), "Accuracy", unit=PERCENT))
    )
    assert re.findall(r'class="x" [^>]*>([^<]+)<', drawn) == ["1", "2"]
    assert drawn.count("<circle") == 2
    assert "epoch 1, validation: 40.0\u00a0%" in drawn
    assert "epoch 2, validation: 50.0\u00a0%" in drawn
    places = [float(x) for x in re.findall(r'cx="([^"]+)"', drawn)]
    assert min(places) - 50 == pytest.approx(348 - max(places))
    assert places[1] - places[0] > 100


def test_the_values_of_the_curves_stand_on_the_page(tmp_path: Path) -> None:
    """Every epoch's numbers are in a table, and in each chart for the finger; the table is the log's."""
    run = make_run(tmp_path / "run")
    (run / "log.jsonl").write_text("".join(json.dumps(log_row(e, 50)) + "\n" for e in range(1, 51)))
    page = Page(write_report(run))
    lines = [json.loads(attrs["data-lines"]) for attrs, _ in page.find("svg", cls="chart") if "data-lines" in attrs]
    assert [len(each) for each in lines] == [3, 2, 1]
    assert [(point[0], point[3]) for point in lines[1][0][2]][:2] == [(1, "51.0\u00a0%"), (2, "52.0\u00a0%")]
    told = [text.replace("\u00a0", " ") for _, text in page.find("td")]
    at = told.index("8.00e-05")
    assert told[at - 6 : at] == ["50", "0.040", "0.036", "0.038", "100.0 %", "140.0 %"]


def test_folded_choices_and_files_with_what_they_are_for(tmp_path: Path) -> None:
    """What was chosen is folded; predictions.csv and best.safetensors are named with what they are for, if there."""
    run = make_run(tmp_path / "run")
    (run / "best.safetensors").touch()
    (run / "predictions.csv").touch()
    page = Page(write_report(run))
    folded = [(attrs, text) for attrs, text in page.find("details") if text.startswith("Chosen automatically")]
    assert [("open" in attrs, "nothing could be reached" in text) for attrs, text in folded] == [(False, True)]
    ((_, text),) = page.find("dl", cls="files")
    assert "best.safetensorsthe model of the best epoch" in text
    assert "predictions.csvwhat the model said of every judged picture" in text
    assert "last.safetensors" not in text


def test_text_of_charts_is_never_below_11_pixels() -> None:
    """The page's own sizes: a chart's text times the least scale of its place, and the matrix's names and counts."""
    css = (Path(__file__).parents[2] / "src/convnext/report/page.css").read_text()
    chart = re.search(r"\.chart \{ width: 100%; min-width: (\d+)px;.*?font-size: ([\d.]+)px", css)
    assert chart
    assert float(chart[2]) * int(chart[1]) / 360 >= 11
    narrow = re.search(r"\(max-width: 375px\) \{ \.chart \{ min-width: 0; font-size: (\d+)px", css)
    assert narrow
    assert int(narrow[1]) * (320 - 2 * 16 - 2 * 17) / 360 >= 11  # a phone of 320 px, less the margins of page and card
    assert not [
        size for size in re.findall(r"\.(?:chart|matrix|mx)[^{]*\{[^}]*font-size: ([\d.]+)px", css) if float(size) < 11
    ]
    assert "clamp(11px" in css


@pytest.mark.parametrize("epochs", [1, 2, 7, 9, 38, 101, 300, 1000])
@pytest.mark.parametrize("best", ["first", "middle", "last"])
def test_labels_of_curves_never_collide(epochs: int, best: str) -> None:
    """No text lies on another one, on the drawn lines or beyond the margin of the card; a digit is 0.6 em wide."""
    points = tuple((epoch, 0.001 * (epoch % 7) + 0.02) for epoch in range(1, epochs + 1))
    at = {"first": 1, "middle": (epochs + 1) // 2, "last": epochs}[best]
    drawn = str(curves(Curves("Accuracy", (Line("validation", "val", points),), "Accuracy", unit=PERCENT, best=at)))
    width, height = (float(x) for x in re.search(r'viewBox="0 0 (\S+) (\S+)"', drawn).groups())  # type: ignore[union-attr]
    left = float(re.search(r'class="grid" d="M(\S+) ', drawn)[1])  # type: ignore[index]
    rows = [float(y) for y in re.findall(r'class="grid" d="M\S+ ([^H]+)H', drawn)]
    boxes = [(left, min(rows), width, max(rows))]  # what is drawn
    for kind, x, y, text in re.findall(r'<text class="([^"]+)" x="([^"]+)" y="([^"]+)">([^<]+)<', drawn):
        width_of = {".": 0.3, "\u202f": 0.3, "%": 0.9}
        wide, ends = (
            13.5 * sum(width_of.get(letter, 0.6) for letter in text),
            "y" in kind.split() or "end" in kind.split(),
        )
        start = float(x) - (wide if ends else 0 if "start" in kind.split() else wide / 2)
        middle = float(y) + (0 if "y" in kind.split() else -5)  # the numbers beside the axis are centred on their line
        boxes.append((start, middle - 5, start + wide, middle + 5))
    assert len(boxes) > 5
    for number, (a, b, c, d) in enumerate(boxes):
        assert a >= -12
        assert c <= width + 12
        assert d <= height
        for e, f, g, h in boxes[number + 1 :]:
            assert c <= e or g <= a or d <= f or h <= b, (boxes[number], (e, f, g, h))


def test_pictures_enlarge_and_the_way_back_is_to_their_group(tmp_path: Path) -> None:
    """A picture is a link to its own figure, which the page shows over everything else; Close leads to the group."""
    run = make_run(tmp_path / "run")
    save_picture(run / "pictures/one.jpg", 90, 60)
    row = {"path": "a.jpg", "truth": CLASSES[0], "predicted": CLASSES[1], "confidence": 0.9}
    (run / "mistakes.json").write_text(json.dumps([row | {"picture": "pictures/one.jpg"}]))
    report = write_report(run)
    page = Page(report)
    ((figure, _),) = page.find("figure", cls="exhibit")
    ((zoom, _),) = page.find("a", cls="zoom")
    ((back, _),) = page.find("a", cls="close")
    ((group, _),) = page.find("div", cls="group")
    assert zoom["href"] == f"#{figure['id']}"
    assert back["href"] == f"#{group['id']}"
    assert re.search(r"\.exhibit:target \{[^}]*position: fixed; inset: 0;", report.read_text())


def test_the_sections_wrap_where_the_screen_is_narrow(tmp_path: Path) -> None:
    """The list of sections has no part that has to be scrolled to sideways without a hint."""
    rules = re.findall(r"nav ul \{([^}]*)\}", write_report(make_run(tmp_path / "run")).read_text())
    assert any("flex-wrap: wrap" in rule for rule in rules)
    assert not any("overflow" in rule or "nowrap" in rule for rule in rules)
