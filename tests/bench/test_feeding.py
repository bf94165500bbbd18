"""The feeding benchmark: every side runs on decoded pictures and on files, and does the same kind of work."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.bench import feeding


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg")
    return sorted(tmp_path.glob("*.jpg"))


def test_all_sides_run(files: list[Path]) -> None:
    """On files with and without the cache, and on decoded pictures."""
    names = {"ours", "ours, decoded pictures kept", "ours, on disk", "torchvision", "timm"}
    sides = feeding.sides_from_files(files, 32, 0.2)
    assert set(sides) == names
    for work in sides.values():
        work()
    for work in feeding.sides(16, 0.2, 0.4).values():
        work()


def test_the_table_has_a_ratio_to_each_peer(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command line, on a folder of pictures."""
    monkeypatch.setattr(sys, "argv", ["feeding", "--data", str(files[0].parent), "--size", "16", "--rounds", "1"])
    feeding.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| side | ms a picture | pictures/s | to torchvision | to timm |"
    assert [line.split(" | ")[0] for line in lines[4:]] == [
        "| ours", "| ours, decoded pictures kept", "| ours, on disk", "| torchvision", "| timm",
    ]  # fmt: skip
    assert lines[7].endswith("| 1.0 | " + lines[7].split(" | ")[-1])
