"""Rotations against torchvision's and exact turns; what is beyond the picture is mirrored."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import rotate

from convnext.config import override
from convnext.data.feed.augment import TrainTransform
from convnext.data.pictures.transforms import resize, rotated_crop
from convnext.recipe import Recipe


def smooth(height: int, width: int) -> Tensor:
    """A smooth picture without any symmetry: uint8 (3, H, W)."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [127 + 60 * np.sin(x / 17 + c) + 60 * np.cos(y / (11 + 4 * c)) for c in range(3)]
    return torch.from_numpy(np.stack(planes).round().astype(np.uint8))


@pytest.mark.parametrize("degrees", [-75.0, -20.0, 10.0, 45.0, 130.0])
@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
def test_the_middle_is_torchvisions(degrees: float, filter: str) -> None:
    """At the picture's own scale, within the largest circle, to two grey values; counterclockwise."""
    picture = smooth(101, 101)
    ours = rotated_crop(picture, (0, 0, 101, 101), degrees, 101, filter)
    theirs = rotate(picture, degrees, InterpolationMode.BILINEAR)
    y, x = torch.meshgrid(torch.arange(101) - 50, torch.arange(101) - 50, indexing="ij")
    inside = (x * x + y * y) < 48**2
    assert (ours.int() - theirs.int()).abs()[:, inside].max() <= 2
    assert (ours.int() - picture.int()).abs()[:, inside].max() > 40


def test_a_crop_shows_what_lies_around_it() -> None:
    """A crop in the middle of a large picture is cut from the turned picture: nothing is invented at its corners."""
    picture = smooth(240, 200)
    for top, left, height, width in ((70, 60, 90, 70), (75, 60, 80, 80), (80, 40, 60, 80)):
        ours = rotated_crop(picture, (top, left, height, width), 30.0, 40, "bilinear")
        turned = rotate(picture, 30.0, InterpolationMode.BILINEAR, center=[left + width / 2, top + height / 2])
        theirs = resize(turned[:, top : top + height, left : left + width], 40, 40, "bilinear")
        assert (ours.int() - theirs.int()).abs().float().mean() < 1
        assert (ours.int() - theirs.int()).abs().max() <= 8


def test_no_angle_is_the_plain_crop_and_right_angles_are_turns() -> None:
    """Of a square: to the bit without an angle, to three grey values at 90 degrees."""
    picture = smooth(64, 80)
    box = (3, 9, 48, 48)
    plain = resize(picture[:, 3:51, 9:57], 32, 32, "bicubic")
    assert torch.equal(rotated_crop(picture, box, 0.0, 32, "bicubic"), plain)
    turned = rotated_crop(picture, box, 90.0, 32, "bicubic")
    assert (turned.int() - torch.rot90(plain, 1, (1, 2)).int()).abs().max() <= 3


@pytest.mark.parametrize("shape", [(1, 40, 40), (4, 7, 90), (3, 1, 5), (3, 2, 2)])
def test_beyond_the_edges_the_picture_is_mirrored(shape: tuple[int, int, int]) -> None:
    """No value appears that the picture has not: neither black nor a fill; also where the picture is tiny."""
    picture = torch.full(shape, 90, dtype=torch.uint8)
    for degrees in (15.0, 45.0, 170.0):
        out = rotated_crop(picture, (0, 0, *shape[1:]), degrees, 24, "bicubic")
        assert out.shape == (shape[0], 24, 24)
        assert set(out.unique().tolist()) == {90}


def transform(**augment: object) -> TrainTransform:
    base = {"augment.flip": 0.0, "augment.color_jitter": 0.0, "augment.crop_min": 1.0}
    recipe = override(Recipe(), base | {f"augment.{key}": value for key, value in augment.items()})
    return TrainTransform(recipe.data, recipe.augment, 32, 3)


def test_quarter_turns_are_exact_and_as_frequent_as_asked_for() -> None:
    """Each picture is one of the four turns of the plain crop, to the bit; 0.75 gives all four alike."""
    picture, turning, plain = smooth(48, 48), transform(quarter_turns=0.75), transform()
    found = [0, 0, 0, 0]
    for seed in range(400):
        shown = plain(picture, seed)
        turns = [torch.rot90(shown, k, (1, 2)) for k in range(4)]
        found[[torch.equal(turning(picture, seed), turn) for turn in turns].index(True)] += 1
    assert min(found) > 70


def test_angles_fill_the_range_and_none_changes_nothing() -> None:
    """The draws of a picture without rotations are those of before; with them the same seed gives the same picture."""
    picture = smooth(48, 48)
    draws = random.Random(5)
    assert -20 < draws.uniform(-20, 20) < 20
    turning = transform(rotation=20.0)
    assert torch.equal(turning(picture, 3), turning(picture, 3))
    assert not torch.equal(turning(picture, 3), transform()(picture, 3))
    assert turning(picture, 3).dtype == torch.uint8
    threads = torch.get_num_threads()
    one = turning(picture, 4)
    torch.set_num_threads(2)
    two = turning(picture, 4)
    torch.set_num_threads(threads)
    assert torch.equal(one, two)
