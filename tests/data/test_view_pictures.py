"""Pictures through their views: the pixels that were recorded before views were, and float64's on every machine."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from view_cases import CASES, GOLDEN, PAPER, SEEDS, Judging, Training, hash_of, hash_of_views, machine
from view_reference import shown

RECORDED = json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", CASES)
def test_pixels_are_those_that_were_recorded(name: str) -> None:
    """Bit for bit where torch and the processor are those of the recording; the views are the same everywhere."""
    case = CASES[name]
    assert hash_of_views(case.views()) == RECORDED["views"][name]
    if machine() == RECORDED["machine"]:
        assert hash_of(case.results()) == RECORDED["pictures"][name]


def of_geometry_alone(case: Training | Judging) -> bool:
    if isinstance(case, Judging):
        return not case.jpeg
    recipe = case.recipe()
    return not (recipe.color_jitter or recipe.randaugment or recipe.erasing)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if of_geometry_alone(case)])
def test_pixels_are_float64s(name: str) -> None:
    """On every machine: resizing and turning written anew in NumPy, from what the view says. To one level of 255, and
    hardly ever; torch's weights of 16 bits may round a tie between the two passes the other way, which makes two.
    """
    case = CASES[name]
    pixels = case.picture().permute(1, 2, 0).numpy()
    for view, result in list(zip(case.views(), case.results(), strict=True))[:2]:
        expected = np.round(shown(view, pixels, case.interpolation))
        levels = np.abs(result.permute(1, 2, 0).numpy() - expected)
        assert levels.max() <= 2
        assert (levels > 1).mean() < 0.001
        assert levels.mean() < 0.03


def test_the_random_numbers_are_drawn_in_one_order() -> None:
    """Box, angle, mirror, upside down, whether quarter turns, which; after them the colours' draws begin."""
    case = CASES["everything-jitter"]
    assert isinstance(case, Training)
    for seed, view in zip(SEEDS, case.views(), strict=True):
        draw, recipe = random.Random(seed), case.recipe()
        while True:  # Inception's crops: area, aspect, place
            area = draw.uniform(recipe.crop_min, 1) * 61 * 83
            aspect = np.exp(draw.uniform(np.log(3 / 4), np.log(4 / 3)))
            width, height = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
            if width <= 83 and height <= 61:
                break
        top, left = draw.randint(0, 61 - height), draw.randint(0, 83 - width)
        assert np.allclose(view.box, (left / 83, top / 61, (left + width) / 83, (top + height) / 61), atol=1e-12)
        assert view.rotation == draw.uniform(-25, 25)
        assert (view.mirror, view.upside_down) == (draw.random() < 0.5, draw.random() < 0.5)
        assert view.quarter_turns == (draw.randint(1, 3) if draw.random() < 0.75 else 0)


STAY = [name for name, case in CASES.items() if isinstance(case, Training) and case.augment.get("randaugment") != PAPER]


@pytest.mark.parametrize("name", STAY)
def test_a_picture_with_its_view_is_the_picture_without(name: str) -> None:
    """To the bit, unless RandAugment moves pixels; the view is the one that is drawn by itself."""
    case = CASES[name]
    assert isinstance(case, Training)
    for seed, view, result in zip(SEEDS, case.views(), case.results(), strict=True):
        picture, found = case.transform().with_view(case.picture(), seed, case.grown)
        assert torch.equal(picture, result)
        assert found == view
        assert hash(found) == hash(view)
