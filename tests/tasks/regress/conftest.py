"""Pictures whose brightness is a number, their table, and runs that were trained on them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.config import load_recipe, override
from convnext.evaluate.evaluate import judge_run
from convnext.recipe import Recipe
from convnext.run.folder import RunFolder
from convnext.train.train import train_run

SPLITS = ("train",) * 6 + ("val",) * 3 + ("test",) * 3


@pytest.fixture(scope="package")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """144 pictures of 16 pixels: `target` is their brightness in lux, `size` another number, missing in every ninth."""
    root, rng = tmp_path_factory.mktemp("numbers"), np.random.default_rng(0)
    rows = [["path", "target", "size", "split"]]
    for number in range(144):
        value = rng.uniform(10, 90)
        pixels = np.clip(rng.normal(2.5 * value, 12, (16, 16, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{number:03}.png")
        size = "" if number % 9 == 0 else f"{100 - value + rng.normal():.2f}"
        rows.append([f"{number:03}.png", f"{value:.2f}", size, SPLITS[number % len(SPLITS)]])
    with (root / "numbers.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root / "numbers.csv"


@pytest.fixture(scope="package")
def recipe() -> Recipe:
    """Three epochs of a small network."""
    return load_recipe(None, [
        "weights=none", "model.name=convnext_atto", "data.size=16", "model.stem_patch=2", "task.unit=lux",
        "train.batch=12", "train.precision=fp32", "train.epochs=3", "data.workers=0", "train.device=cpu",
        "train.lr=2e-3", "train.warmup_epochs=0", "augment.color_jitter=0", "train.keep_state=true",
        "data.ignore_columns=[\"size\"]",
    ])  # fmt: skip


@pytest.fixture(scope="package")
def run(table: Path, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """One target, trained and judged."""
    found = train_run(table, recipe, tmp_path_factory.mktemp("run") / "run")
    judge_run(found.path)
    return found


@pytest.fixture(scope="package")
def run_of_two(table: Path, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Two targets with a spread of their own."""
    settings = {
        "task.targets": ("target", "size"), "task.unit": ("lux", "mm"), "task.loss": "gaussian", "task.balance": 0.5,
        "augment.mixup": 0.2, "data.ignore_columns": (), "train.epochs": 2,
    }  # fmt: skip
    found = train_run(table, override(recipe, settings), tmp_path_factory.mktemp("two") / "run")
    judge_run(found.path)
    return found
