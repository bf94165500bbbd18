"""A run folder that is damaged, or made to do harm: every command on it ends with a page or with a sentence."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convnext.errors import RunError, UserError
from convnext.metrics.classification import judge
from convnext.report.files import read_run
from convnext.report.page import render, write_report
from convnext.run import schema
from convnext.run.folder import RunFolder
from convnext.run.load import weights_of

CLASSES = ("ant", "bee", "wasp")
BAD: list[Any] = [
    None, True, -1, 2.5, 1e308, float("nan"), float("inf"), 10**30, "x", "", "\x1b[31m\u202e", [], {}, [[["x"]]],
    {"a": {"b": 1}}, [None], "9" * 400, -(2**63),
]  # fmt: skip
SEED = 20


def sound() -> dict[str, Any]:
    """The small files of a finished run, the log as a list of its lines."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(3), 30)
    labels = np.arange(30) % 3
    result = judge(shares, labels, CLASSES, majority=0, bootstrap=20)
    row = {"epoch": 1, "epochs": 2, "step": 10, "seconds": 2.5, "epoch_seconds": 2.5, "images_per_second": 100.0,
           "data_wait": 0.02, "size": 32, "lr": 0.004, "train_loss": 2.0, "train_top1": None, "val_loss": 1.8,
           "val_top1": 0.5, "ema_val_loss": 1.9, "ema_val_top1": 0.4, "best": True, "time": "2026"}  # fmt: skip
    return {
        "result.json": result | {
            "model": "convnext_atto", "params": 3_374_000, "split": "test", "weights": "best", "source": "ema",
            "epoch": 2, "epochs": 2, "train_seconds": 8.0, "task": "classify", "multi_label": False, "seed": 1,
            "data_root": "insects", "unreadable": 1, "last_val": {"val_top1": 0.5},
        },
        "data.json": {
            "root": "insects", "layout": "class folders", "classes": list(CLASSES), "multi_label": False,
            "majority": [0], "counts": {"train": [40, 30, 20], "val": [7, 7, 7], "test": [10, 10, 10]},
            "pictures": {"train": 90, "val": 21, "test": 30}, "fingerprint": "f",
            "broken": [{"path": "ant/cut.jpg", "reason": "truncated"}], "notes": ["3 files were ignored."],
        },
        "plan.json": [{"key": "weights", "value": "none", "why": "nothing could be reached"}],
        "environment.json": {"python": "3.11.7", "gpu": "none", "cpu": "a cpu", "cores": 2, "command": "convnext",
                             "run": "0", "date": "2026-05-04T10:00:00"},
        "batch.json": {"labels": list(CLASSES)},
        "mistakes.json": [{"path": "ant/a.jpg", "truth": "ant", "predicted": "bee", "confidence": 0.913,
                           "picture": "pictures/mistake-00.jpg"}],
        "log.jsonl": [row, row | {"epoch": 2}],
    }  # fmt: skip


def write(run: Path, name: str, value: Any) -> None:
    """One of the files, as a run writes it."""
    lines = [json.dumps(row) + "\n" for row in value] if name == "log.jsonl" and isinstance(value, list) else []
    (run / name).write_text("".join(lines) or json.dumps(value))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run without its weights."""
    run = tmp_path / "run"
    (run / "pictures").mkdir(parents=True)
    (run / "recipe.toml").write_text('weights = "none"\n[model]\nname = "convnext_atto"\n[data]\nsize = 64\n')
    Image.new("RGB", (40, 30)).save(run / "pictures" / "mistake-00.jpg")
    for name, value in sound().items():
        write(run, name, value)
    return run


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a value: each key, and the first and the last of a list."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        if isinstance(value, dict) or key in (0, len(value) - 1):
            yield from places(item, (*at, key))


def changed(value: Any, at: tuple[Any, ...], other: Any) -> Any:
    """A copy with something else at one place."""
    if not at:
        return other
    value = copy.deepcopy(value)
    inner = value
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = other
    return value


def test_damaged_values_end_in_a_page_or_in_a_sentence(run: Path) -> None:
    """100 times another value at some place of a run's files: the report and the choice of weights never fall over.

    Where they refuse, the message names the file.
    """
    rng = random.Random(SEED)
    files = sound()
    spots = [(name, at) for name, value in files.items() for at in places(value)]
    refused = 0
    for name, at in rng.choices(spots, k=100):
        other = rng.choice(BAD)
        write(run, name, changed(files[name], at, other))
        said = ""
        try:
            page = render(read_run(run))
        except RunError as error:
            page, said = "", str(error)
        assert page.startswith("<!doctype html>") or (name in said and len(said) < 600), (name, at, other, said)
        with pytest.raises(RunError):  # there are none, or the result is damaged
            weights_of(RunFolder(run))
        refused += not page
        write(run, name, files[name])
    assert 30 < refused < 98


@pytest.mark.parametrize("name", sorted(sound()))
@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a":' * 5000, "", "\x00", "{", "5", '"x"', "1" * 5000, "[" * 40 + "]" * 40]
)
def test_files_that_hold_something_else_are_named(name: str, content: str, run: Path) -> None:
    """Nested without end, empty, no JSON, another kind: one sentence with the file's name."""
    (run / name).write_text(content if name != "log.jsonl" else f"{content}\n{{}}\n")
    if name == "log.jsonl" and not content:
        content = "{}"
    with pytest.raises(RunError, match=name):
        write_report(run)


def test_bytes_that_are_no_text_are_named(run: Path) -> None:
    """In every file, the recipe too."""
    for name in (*sound(), "recipe.toml"):
        before = (run / name).read_bytes()
        (run / name).write_bytes(b"\xff\xfe\x00" + before)
        with pytest.raises(RunError, match=name):
            write_report(run)
        (run / name).write_bytes(before)


@pytest.mark.parametrize("name", [*sound(), "recipe.toml"])
def test_a_link_in_the_place_of_a_file_is_not_read(name: str, run: Path, tmp_path: Path) -> None:
    """What it leads to may be private: no message and no page shows a word of it. A pipe does not hold the reader."""
    secret = tmp_path / "secret"
    toml = name == "recipe.toml"
    secret.write_text('weights = "token-of-mine"\n' if toml else '{"epoch": 1, "x": "token-of-mine"}')
    (run / name).unlink()
    (run / name).symlink_to(secret)
    with pytest.raises(UserError, match="link to another place") as caught:
        write_report(run)
    assert "token-of-mine" not in str(caught.value)
    assert not (run / "report.html").exists()
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(UserError, match="no plain file"):
        write_report(run)


def test_pictures_outside_the_run_are_not_shown(run: Path, tmp_path: Path) -> None:
    """By a link, by a linked folder, by dots: the page has no picture there."""
    private = tmp_path / "private"
    private.mkdir()
    Image.new("RGB", (40, 30), "red").save(private / "mistake-00.jpg")
    shown = render(read_run(run)).count("data:image/jpeg")
    assert shown == 1
    (run / "pictures" / "mistake-00.jpg").unlink()
    (run / "pictures" / "mistake-00.jpg").symlink_to(private / "mistake-00.jpg")
    assert "data:image/jpeg" not in render(read_run(run))
    (run / "pictures" / "mistake-00.jpg").unlink()
    (run / "pictures").rmdir()
    (run / "pictures").symlink_to(private, target_is_directory=True)
    assert "data:image/jpeg" not in render(read_run(run))


def test_json_that_would_take_all_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of empty lists takes forty times the memory of its text: its length is compared with what is free."""
    text = b"[" + b"[]," * 700_000 + b"[]]"
    assert len(schema.parse(text, "mistakes-of-mine.json")) == 700_001
    monkeypatch.setattr(schema, "available_memory", lambda: 50_000_000)
    with pytest.raises(schema.Damaged, match=r"\"2 MB\", no JSON that fits into 0.1 GB of memory"):
        schema.parse(text, "result.json")
    assert schema.parse(b"[" + b" " * 900_000 + b"]", "mistakes.json") == []
