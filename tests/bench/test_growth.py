"""How cost grows: the fit finds the exponent that is there, and table and plot show it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from convnext.bench import growth
from convnext.bench.benchmark import Report, Row
from convnext.bench.contestants import Case, Contestant
from convnext.bench.presets import GROWS, named
from convnext.bench.tables import write
from convnext.nn.count import count

MACHINE = {"gpu": "none", "cpu": "a test", "threads": 2, "torch": "2", "date": "2026-11-22"}


def report(exponents: dict[str, float], axis: str = "size") -> Report:
    rows = []
    for model, e in exponents.items():
        for side in (64, 128, 224, 448, 896):
            size, batch = (side, 1) if axis == "size" else (224, side)
            seconds = 1e-6 * side**e + (1.0 if side < 224 else 0.0)  # the small ones are to be left out of the fit
            row = Row(Case(model, "infer", batch, size, "fp32"), Contestant("ours", "eager"), seconds, seconds,
                      1 / seconds, (1 / seconds, 1 / seconds), 1.0, 0.5, int(1e6 * side))  # fmt: skip
            rows.append(row)
    return Report(MACHINE, {"fp32": 100.0}, rows)


def test_the_exponent_is_that_of_the_law() -> None:
    """Exact for a power law; undefined for one point."""
    at = [2, 3, 10, 50]
    assert growth.exponent(at, [7 * a**1.75 for a in at]) == pytest.approx(1.75)
    assert math.isnan(growth.exponent([5], [1.0]))
    assert math.isnan(growth.exponent(at, [0, 0, 0, 0]))


def test_the_fit_begins_where_growth_does_and_is_shown(tmp_path: Path) -> None:
    """Two laws, a line each; memory has its own exponent; four files."""
    found = report({"convnext_tiny": 2.0, "timm:vit_small_patch16_224": 3.5})
    first, second = growth.lines(found, "size")
    assert (first.time_exponent, second.time_exponent) == pytest.approx((2.0, 3.5))
    assert first.memory_exponent == pytest.approx(1.0, abs=1e-4)
    text = growth.to_markdown(found, "size")
    assert "| timm:vit_small_patch16_224 |" in text
    assert "| 3.50 |" in text
    write(found, tmp_path, "size")
    for name in ("benchmark.json", "benchmark.md", "benchmark.png", "growth.md", "growth.png"):
        assert (tmp_path / name).stat().st_size > 100


@pytest.mark.parametrize(("preset", "axis"), GROWS.items())
def test_presets_about_growth_vary_one_thing(preset: str, axis: str) -> None:
    """ConvNeXt beside ViT and Swin, or with and without recomputing; every case can be counted."""
    cases, sides = named(preset, [], torch.device("cpu"))
    other = "batch" if axis == "size" else "size"
    assert len({getattr(case, axis) for case in cases}) > 3
    assert len({getattr(case, other) for case in cases}) == 1
    assert len({case.model for case in cases}) == (1 if preset == "memory" else 3)
    assert len(sides) == (2 if preset == "memory" else 1)


def test_macs_of_convnext_grow_with_the_area_and_those_of_a_vit_faster() -> None:
    """The analytic side of the plot: from 224 to 1024 pixels."""
    grown = {}
    for model in ("convnext_tiny", "timm:vit_small_patch16_224"):
        grown[model] = growth.exponent([224, 1024], [count(model, side).macs for side in (224, 1024)])
    assert grown["convnext_tiny"] == pytest.approx(2.0, abs=0.02)
    assert grown["timm:vit_small_patch16_224"] > 2.2
