"""The report page, read back with html.parser from generated run folders."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import accuracy_score

from convnext.errors import RunError
from convnext.metrics.classification import judge
from convnext.report.figures import nice_ticks
from convnext.report.page import write_report
from convnext.report.pictures import THUMBNAIL

VOID = {"meta", "link", "img", "br", "hr", "input"}
CLASSES = ("daisy", "roses", "tulips")
HOSTILE = ('<script>alert("x")</script>', "a\"><img src=x onerror='alert(1)'>", "{{ 7 * 7 }} & {% raw %}")


class Page(HTMLParser):
    """Elements of a page with their text; fails on tags that are not closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = (tag, {name: value or "" for name, value in attrs}, [])
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for _, _, text in self.open:
            text.append(data)

    def find(self, tag: str, **wanted: str) -> list[tuple[dict[str, str], str]]:
        """Attributes and text of the elements with these attribute values; a class matches as one of several."""
        found = []
        for name, attrs, text in self.elements:
            have = attrs | {"class": f" {attrs.get('class', '')} "}
            if name == tag and all(
                f" {v} " in have["class"] if k == "cls" else have.get(k.replace("_", "-")) == v
                for k, v in wanted.items()
            ):
                found.append((attrs, " ".join("".join(text).split())))
        return found

    @property
    def shown(self) -> str:
        """All text that a reader sees."""
        words = next(text for name, _, text in self.elements if name == "body")
        code = {"".join(text) for name, _, text in self.elements if name in ("script", "style")}
        return " ".join("".join(part for part in words if part not in code).split())


def predictions(classes: int, pictures: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a middling model, and labels in which every class occurs."""
    rng = np.random.default_rng(seed)
    labels = np.arange(pictures) % classes
    logits = rng.normal(size=(pictures, classes))
    logits[np.arange(pictures), labels] += 1.5
    shares = np.exp(logits)
    return shares / shares.sum(1, keepdims=True), labels


def log_row(epoch: int, epochs: int, metric: str = "top1") -> dict[str, Any]:
    return {
        "epoch": epoch, "epochs": epochs, "step": 10 * epoch, "seconds": 2.5 * epoch, "epoch_seconds": 2.5,
        "images_per_second": 100.0 + epoch, "data_wait": 0.02, "lr": 0.004 / epoch, "train_loss": 2.0 / epoch,
        "train_top1": None, "val_loss": 1.8 / epoch, f"val_{metric}": 0.5 + epoch / 100,
        "ema_val_loss": 1.9 / epoch, f"ema_val_{metric}": 0.4 + epoch / 50, "val_macro_f1": 0.5,
        "best": True, "time": "2026-05-04T10:00:00+00:00",
    }  # fmt: skip


def make_run(
    path: Path,
    *,
    classes: tuple[str, ...] = CLASSES,
    pictures: int = 90,
    result: dict[str, Any] | None = None,
    **more: Any,
) -> Path:
    """A finished run folder; `more` changes keys of result.json."""
    path.mkdir(parents=True)
    count = len(classes)
    if result is None:
        shares, labels = predictions(count, pictures)
        result = judge(shares, labels, classes, majority=0, bootstrap=50)
    result = result | {
        "model": "convnext_atto", "params": 3_374_000, "split": "test", "weights": "best", "source": "ema", "epoch": 4,
        "epochs": 4, "train_seconds": 83.0, "task": "classify", "multi_label": False, "seed": 1, "data_root": "flowers",
    } | more  # fmt: skip
    metric = "micro_f1" if result["multi_label"] else "top1"
    files: dict[str, Any] = {
        "result.json": result,
        "data.json": {
            "root": "flowers", "layout": "class folders", "classes": classes, "multi_label": result["multi_label"],
            "counts": {"train": [40] * count, "val": [7] * count, "test": [pictures // count] * count},
            "broken": [{"path": f"{classes[0]}/cut.jpg", "reason": "truncated"}], "notes": ["3 files were ignored."],
        },
        "plan.json": [{"key": "weights", "value": "none", "why": "nothing could be reached"}],
        "environment.json": {"python": "3.11.7", "gpu": "none", "cpu": "a cpu", "cores": 2, "command": "convnext"},
        "batch.json": {"labels": list(classes)},
        "mistakes.json": [
            {"path": f"flowers/{classes[0]}/a b.jpg", "truth": classes[0], "predicted": classes[1], "confidence": 0.913,
             "picture": "pictures/mistake-00.jpg"},
        ],
    }  # fmt: skip
    for name, value in files.items():
        (path / name).write_text(json.dumps(value), encoding="utf-8")
    (path / "log.jsonl").write_text("".join(json.dumps(log_row(e, 4, metric)) + "\n" for e in range(1, 5)))
    (path / "recipe.toml").write_text('weights = "none"\n[model]\nname = "convnext_atto"\n[data]\nsize = 64\n')
    save_picture(path / "pictures/mistake-00.jpg", 100, 80)
    save_picture(path / "pictures/batch.jpg", 400, 130)
    return path


def save_picture(path: Path, width: int, height: int) -> None:
    path.parent.mkdir(exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def test_headline_numbers_are_those_of_the_result(tmp_path: Path) -> None:
    """Each tile shows its metric of result.json with its interval, and top-1 is what scikit-learn counts."""
    run = make_run(tmp_path / "run")
    result = json.loads((run / "result.json").read_text())
    page = Page(write_report(run))
    tiles = {attrs["data-metric"]: (attrs["data-value"], text) for attrs, text in page.find("div", cls="tile")}
    assert set(tiles) == {"top1", "balanced_accuracy", "macro_f1", "calibration_error"}
    for key, (value, text) in tiles.items():
        low, high = result["intervals"][key]
        assert float(value) == result[key]
        assert percent(result[key]) in text
        assert f"{100 * low:.1f}–{100 * high:.1f}" in text
    shares, labels = predictions(3, 90)
    assert float(tiles["top1"][0]) == pytest.approx(accuracy_score(labels, shares.argmax(1)))
    assert f"{result['correct']} of 90 pictures right" in tiles["top1"][1]


def test_page_needs_nothing_else(tmp_path: Path) -> None:
    """No element, style or script names another resource; pictures are JPEGs in the page; links lead into it."""
    page = Page(write_report(make_run(tmp_path / "run")))
    pictures = page.find("img")
    assert len(pictures) == 2
    for attrs, _ in pictures:
        kind, content = attrs["src"].split(",", 1)
        assert kind == "data:image/jpeg;base64"
        Image.open(io.BytesIO(base64.b64decode(content, validate=True))).load()
    for tag, attrs, text in page.elements:
        assert not {"src", "srcset", "data", "action", "poster"} & set(attrs) or tag == "img"
        assert tag not in ("iframe", "object", "embed", "base")
        assert attrs.get("href", "#").startswith(("#", "data:"))
        if tag in ("style", "script"):
            assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttpRequest", "".join(text))
    names = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(names) == len(set(names))
    assert {attrs["href"][1:] for attrs, _ in page.find("a")} <= set(names)


def test_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    """A second report, beside the first one, is identical, and no other file is touched or left behind."""
    run = make_run(tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert after == before | {run / "report.html": first}


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """Class names and paths that look like HTML or templates are shown as they are and start nothing."""
    run = make_run(tmp_path / "run", classes=HOSTILE, data_root="/data/<b>&'\"")
    mistake = {
        "path": HOSTILE[1],
        "truth": HOSTILE[0],
        "predicted": HOSTILE[2],
        "confidence": 1.0,
        "picture": HOSTILE[0],
    }
    (run / "mistakes.json").write_text(json.dumps([mistake]))
    page = Page(write_report(run))
    assert len(page.find("script")) == 2
    assert page.find("b") == [] or all("alert" not in text for _, text in page.find("b"))
    assert not [attrs for _, attrs, _ in page.elements if any(name.startswith("on") for name in attrs)]
    for name in HOSTILE:
        assert " ".join(name.split()) in page.shown
    assert [attrs["src"][:5] for attrs, _ in page.find("img")] == ["data:"]  # the batch; the mistake has no picture


def test_names_on_the_page_turn_no_text_around(tmp_path: Path) -> None:
    """Marks of direction and controls in names appear as escapes, in text, tips and embedded data; scripts of people
    stay as they are."""
    names = ("x\u202egnp.exe", "\x1b[31mred\x07", "\u2066apart", "می\u200cخواهم", "犬")
    page = write_report(make_run(tmp_path / "run", classes=names)).read_text(encoding="utf-8")
    assert not set(page) & {"\u202e", "\x1b", "\x07", "\u2066"}
    assert all(name in page for name in ("x\\u202egnp.exe", "\\u001b[31mred\\u0007", "\\u2066apart", *names[3:]))


def test_pictures_outside_the_run_are_not_embedded(tmp_path: Path) -> None:
    """A picture path that leads out of the run folder, or to a file that is no picture, is shown as missing."""
    run = make_run(tmp_path / "run")
    save_picture(tmp_path / "secret.jpg", 50, 50)
    names = ["../secret.jpg", str(tmp_path / "secret.jpg"), "recipe.toml", "pictures/none.jpg", "", None, "a\0b"]
    rows = [{"path": "p", "truth": "a", "predicted": "b", "confidence": 0.5, "picture": name} for name in names]
    (run / "mistakes.json").write_text(json.dumps(rows))
    page = Page(write_report(run))
    assert len(page.find("img")) == 1
    assert len(page.find("span", cls="gone")) == len(names)


def test_large_pictures_are_reduced(tmp_path: Path) -> None:
    """A mistake's picture of 2000 pixels enters the page with at most 400 and keeps its shape; a small one is kept."""
    run = make_run(tmp_path / "run")
    small = (run / "pictures/mistake-00.jpg").read_bytes()
    assert base64.b64encode(small).decode() in write_report(run).read_text()
    save_picture(run / "pictures/mistake-00.jpg", 2000, 1000)
    page = Page(write_report(run))
    source = next(attrs["src"] for attrs, _ in page.find("img") if "taken for" in attrs["alt"])
    assert Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).size == (THUMBNAIL, THUMBNAIL // 2)
    assert (run / "report.html").stat().st_size < 400_000


def test_unfinished_run(tmp_path: Path) -> None:
    """Without a result the page tells the epochs done, with the log's numbers; a half-written last line is left out."""
    run = make_run(tmp_path / "run")
    for name in ("result.json", "mistakes.json", "plan.json", "environment.json", "batch.json", "pictures/batch.jpg"):
        (run / name).unlink()
    rows = "".join(json.dumps(log_row(epoch, 40)) + "\n" for epoch in (1, 2, 3))
    (run / "log.jsonl").write_text(rows + '{"epoch": 4, "epo')
    page = Page(write_report(run))
    ((_, sentence),) = page.find("p", id="verdict")
    assert sentence == "3 epochs of 40 done; validation top-1 now 53.0 %, best 53.0 % at epoch 3."
    assert len(page.find("svg", cls="chart")) == 3
    assert page.find("div", cls="tile") == []


def test_run_with_only_a_recipe(tmp_path: Path) -> None:
    """Before the first epoch ends there is a page too."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.toml").write_text("")
    page = Page(write_report(tmp_path / "run"))
    assert page.find("p", id="verdict")[0][1] == "This run has not finished its first epoch yet."
    assert page.find("svg", cls="chart") == []


def test_values_that_are_no_numbers(tmp_path: Path) -> None:
    """NaN in the log, an empty bin's null and a missing precision leave gaps, and no "nan" or "None" on the page."""
    run = make_run(tmp_path / "run", calibration_error=math.nan, nll=math.nan)
    result = json.loads((run / "result.json").read_text())
    result["per_class"][0]["precision"] = None
    result["reliability"] = {"confidence": [None, 0.9], "accuracy": [None, 0.8], "count": [0, 90]}
    (run / "result.json").write_text(json.dumps(result))
    rows = [log_row(1, 4), log_row(2, 4) | {"val_loss": math.nan, "train_loss": math.inf}, log_row(3, 4)]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = Page(write_report(run))
    assert not re.search(r"\b(nan|inf|None|null)\b", page.shown)
    drawn = " ".join(value for tag, attrs, _ in page.elements for value in attrs.values() if tag in ("path", "circle"))
    assert not re.search(r"nan|inf|None", drawn)
    assert len(page.find("circle", cls="bin")) == 1
    (line,) = [attrs["d"] for attrs, _ in page.find("path", cls="train")]
    assert line.count("M") == 2  # the gap lifts the pen


@pytest.mark.parametrize("name", ["plain", "two words", "it's", "-dash & $HOME"])
def test_commands_can_be_pasted(tmp_path: Path, name: str) -> None:
    """A shell reads each command's folder and data back as one word each."""
    run = make_run(tmp_path / name, data_root=f"data/{name}")
    told = [shlex.split(text) for attrs, text in Page(write_report(run)).find("code") if text.startswith("convnext ")]
    assert ["convnext", "evaluate", str(run)] in told
    assert ["convnext", "train", "--resume", "--out", str(run)] in told
    assert ["convnext", "train", f"data/{name}", str(run / "recipe.toml"), "--out", f"{run}-again"] in told


@pytest.mark.parametrize("name", ["recipe.toml", "result.json", "data.json", "plan.json"])
def test_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    """A file that cannot be read is an error that names it, not a page with holes."""
    run = make_run(tmp_path / "run")
    (run / name).write_text('"half a')
    with pytest.raises(RunError, match=re.escape(name)):
        write_report(run)
    assert not (run / "report.html").exists()


def test_other_folders_are_refused(tmp_path: Path) -> None:
    """A folder without a recipe, and one that is not there, are no runs."""
    with pytest.raises(RunError, match=r"recipe\.toml"):
        write_report(tmp_path)
    with pytest.raises(RunError, match="nowhere"):
        write_report(tmp_path / "nowhere")


def test_report_needs_no_torch() -> None:
    """`convnext report` starts without loading torch."""
    code = "import sys, convnext.report.page, convnext.tasks.classify.reporting; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_cover_the_values_evenly(low: float, width: float) -> None:
    """Ticks rise in equal steps, reach over both ends by less than a step, and are 3 to 8 in number."""
    ticks = nice_ticks(low, low + width)
    steps = np.diff(ticks)
    step = steps.mean()
    assert 3 <= len(ticks) <= 8
    assert np.allclose(steps, step, rtol=1e-3)
    assert ticks[0] <= low + 1e-6 * step
    assert ticks[-1] >= low + width - 1e-6 * step
    assert low - ticks[0] < 1.001 * step
    assert ticks[-1] - low - width < 1.001 * step
