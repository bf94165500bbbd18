"""What belongs to a picture, moved as the picture is: masks, boxes and points, against torchvision and geometry."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import max_pool2d
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from convnext.data.feed.augment import TrainTransform, draw_view
from convnext.data.feed.framing import central_view, frame_of, padded_frame
from convnext.data.feed.preprocessing import Preprocessing
from convnext.data.feed.view import View
from convnext.errors import DataError, RecipeError
from convnext.recipe import AugmentRecipe, DataRecipe

MEAN = (0.1, 0.1, 0.1)
TURNS = [(m, u, q) for m in (False, True) for u in (False, True) for q in range(4)]
RECIPES = {
    "plain": AugmentRecipe(crop_min=0.2),
    "turns": AugmentRecipe(crop_min=0.2, vertical_flip=0.5, quarter_turns=0.75),
    "rotation": AugmentRecipe(crop_min=0.2, vertical_flip=0.5, quarter_turns=0.75, rotation=180.0),
}


Box = tuple[int, int, int, int]
Turns = tuple[bool, bool, int]


def framed(box: Box, height: int, width: int, size: int, turns: Turns = (False, False, 0)) -> View:
    """A box (top, left, height, width) that fills the result, mirrored and turned."""
    return View(size, height, width, *frame_of(box, height, width, size), 0.0, (), *turns)


def drawn(recipe: str, fit: str, height: int, width: int, size: int, seeds: int = 6) -> list[View]:
    return [draw_view(random.Random(s), RECIPES[recipe], fit, MEAN, height, width, size) for s in range(seeds)]


def judged(fit: str, height: int, width: int, size: int) -> list[View]:
    return [central_view(height, width, size, ratio, fit, MEAN) for ratio in (0.7, 0.875, 1.0)]


def torchvisions(thing: Tensor, box: Box, size: int, turns: Turns) -> Tensor:
    """Crop, resize, mirrors and quarter turns by torchvision, of a picture, a mask or boxes."""
    mirror, upside_down, quarters = turns
    thing = TF.resize(TF.crop(thing, *box), [size, size])
    thing = TF.horizontal_flip(thing) if mirror else thing
    thing = TF.vertical_flip(thing) if upside_down else thing
    return TF.rotate(thing, 90.0 * quarters) if quarters else thing


@pytest.mark.parametrize("turns", TURNS)
def test_masks_are_torchvisions(turns: Turns) -> None:
    """A crop, enlarged three times, mirrored and turned: every pixel."""
    mask = torch.randint(0, 21, (1, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    box = (7, 11, 16, 16)
    theirs = torchvisions(tv_tensors.Mask(mask), box, 48, turns)
    assert torch.equal(framed(box, 40, 60, 48, turns).mask(mask), theirs.as_subclass(Tensor))


@pytest.mark.parametrize("turns", TURNS)
def test_boxes_are_torchvisions(turns: Turns) -> None:
    """Of any crop, reduced or enlarged and clipped; one that is outside is nothing."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 1, (200, 2, 2)), axis=1) * (60, 40)
    boxes = torch.from_numpy(corners.reshape(-1, 4))  # x0, y0, x1, y1
    box, size = (7, 11, 25, 20), 30
    theirs = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(40, 60))
    expected = TF.clamp_bounding_boxes(torchvisions(theirs, box, size, turns)).as_subclass(Tensor)
    found, shares = framed(box, 40, 60, size, turns).boxes(boxes)
    seen = shares > 0
    assert 100 < int(seen.sum()) < 200
    torch.testing.assert_close(found[seen], expected[seen], rtol=0, atol=1e-5)  # they go through float32
    assert (found[~seen] == 0).all()
    sides = expected[~seen][:, 2:] - expected[~seen][:, :2]
    assert sides.min(1).values.max() < 1e-12


@pytest.mark.parametrize(("have", "want"), [(25, 9), (20, 33), (31, 31), (48, 16), (50, 20)])
def test_a_mask_takes_what_lies_under_the_middle(have: int, want: int) -> None:
    """torchvision's nearest-exact, and fractions by hand: a middle on an edge of pixels takes the later one."""
    mask = torch.arange(64 * 64).reshape(1, 64, 64)
    ours = framed((3, 5, have, have), 64, 64, want).mask(mask, fill=-1)[0]
    at = torch.tensor([((2 * i + 1) * have) // (2 * want) for i in range(want)])
    assert torch.equal(ours, mask[0][at + 3][:, at + 5])
    part = TF.crop(mask.float(), 3, 5, have, have)
    theirs = TF.resize(part, [want, want], interpolation=InterpolationMode.NEAREST_EXACT)
    assert torch.equal(ours, theirs[0].long())


def test_ties_fall_alike_whatever_the_shares() -> None:
    """Every second pixel of a crop: the edge under each middle counts for the later pixel, at any size and place."""
    for length in range(30, 110, 3):
        mask = torch.arange(length).expand(length, -1)
        for left in range(length - 20):
            moved = framed((left, left, 20, 20), length, length, 10).mask(mask, fill=-1)
            assert torch.equal(moved[0], torch.arange(left + 1, left + 21, 2)), (length, left)


@pytest.mark.parametrize("degrees", [-75.0, 10.0, 45.0, 130.0])
def test_a_rotated_mask_is_torchvisions(degrees: float) -> None:
    """At the picture's own scale: the same values, and the same corners without a picture."""
    mask = torch.randint(0, 21, (1, 101, 101), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    view = replace(framed((0, 0, 101, 101), 101, 101, 101), rotation=degrees)
    theirs = TF.rotate(tv_tensors.Mask(mask), degrees, fill=255).as_subclass(Tensor)
    assert (view.mask(mask) != theirs).float().mean() < 0.001  # they compute places in float32
    assert 0.05 < (theirs == 255).float().mean() < 0.25


@pytest.mark.parametrize("degrees", [-75.0, 10.0, 45.0, 130.0])
def test_rotated_boxes_are_torchvisions(degrees: float) -> None:
    """Boxes that stay whole, to a thousandth of a pixel."""
    corners = np.sort(np.random.default_rng(0).uniform(30, 70, (50, 2, 2)), axis=1)
    boxes = torch.from_numpy(corners.reshape(-1, 4)).float()
    view = replace(framed((0, 0, 101, 101), 101, 101, 101), rotation=degrees)
    theirs = TF.rotate(tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(101, 101)), degrees)
    found, shares = view.boxes(boxes)
    torch.testing.assert_close(found, theirs.as_subclass(Tensor), rtol=0, atol=2e-3)
    torch.testing.assert_close(shares, torch.ones(50))


def test_seen_shares_are_areas() -> None:
    """Halves and quarters of a crop, an eighth turn of a square (2 (sqrt 2 - 1)), a box beyond the picture."""
    left = framed((0, 0, 40, 40), 40, 80, 20)
    boxes = torch.tensor([[30, 0, 50, 40], [0, 0, 80, 40], [50, 5, 60, 20], [0, -10, 20, 10], [5, 5, 5, 20]])
    found, shares = left.boxes(boxes)
    assert shares.tolist() == [0.5, 0.5, 0.0, 0.5, 0.0]
    assert found.tolist() == [[15, 0, 20, 20], [0, 0, 20, 20], [0, 0, 0, 0], [0, 0, 10, 5], [0, 0, 0, 0]]
    padded = central_view(20, 40, 40, fit="pad", border=MEAN)
    found, shares = padded.boxes(torch.tensor([[10, -10, 20, 10], [0, 25, 10, 40]]))
    assert shares.tolist() == [0.5, 0.0]
    assert found.tolist() == [[10, 10, 20, 20], [0, 0, 0, 0]]
    eighth = replace(framed((0, 0, 50, 50), 50, 50, 10), rotation=45.0)
    found, shares = eighth.boxes(torch.tensor([[0.0, 0.0, 50.0, 50.0]]))
    assert found.tolist() == [[0, 0, 10, 10]]
    assert float(shares) == pytest.approx(2 * (math.sqrt(2) - 1))
    assert all(len(nothing) == 0 for nothing in eighth.boxes(torch.empty(0, 4)))
    assert eighth.back(torch.empty(0, 4)).shape == (0, 4)


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_mask_of_the_picture_is_the_picture(recipe: str, fit: str) -> None:
    """Where the mask is constant around a pixel the picture has its value, and its border's colour where it is filled.

    A rotation shows the picture mirrored where the mask is filled; what is resized or turned before it is cut shows
    something of what lies beyond the result's edges.
    """
    mask = torch.full((150, 210), 60, dtype=torch.uint8)
    for i, (top, left, height, width) in enumerate(((10, 20, 60, 50), (40, 90, 80, 40), (90, 10, 50, 100))):
        mask[top : top + height, left : left + width] = 100 + 50 * i
    picture = mask.expand(3, -1, -1)
    checked = 0
    for view in drawn(recipe, fit, 150, 210, 40) + judged(fit, 150, 210, 40):
        shown, moved = view.picture(picture, "bicubic")[0], view.mask(mask)
        if view.border and not view.rotation:
            moved = torch.where(moved == 255, 26, moved)  # round(255 * 0.1)
        same = constant(moved, 4 if view.rotation else 2) & (moved != 255)
        edges = [0, 1, 2, 3, -4, -3, -2, -1]
        same[edges] = same[:, edges] = False
        assert (shown[same].int() - moved[same].int()).abs().max() <= 1
        checked += int(same.sum())
    assert checked > 6 * 40 * 40 * (0.1 if recipe == "rotation" else 0.25)


def constant(mask: Tensor, reach: int) -> Tensor:
    """Where all values within `reach` pixels are one."""
    values = mask[None].float()
    most, least = (sign * max_pool2d(sign * values, 2 * reach + 1, 1, reach) for sign in (1, -1))
    return (most == least)[0]


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_boxes_of_a_rectangle_are_where_it_is_seen(recipe: str, fit: str) -> None:
    """A rectangle drawn into a picture is found in the result where its box says, to a pixel; so is its seen share."""
    height, width, size = 150, 210, 60
    x0, y0, x1, y1 = 60, 40, 120, 105
    picture = torch.zeros(height, width, dtype=torch.uint8)
    picture[y0:y1, x0:x1] = 200
    found = 0
    for view in drawn(recipe, fit, height, width, size, seeds=12) + judged(fit, height, width, size):
        boxes, shares = view.boxes(torch.tensor([[x0, y0, x1, y1]]))
        shown = view.mask(picture, fill=0) if view.rotation else view.picture(picture.expand(3, -1, -1), "bilinear")[0]
        rows, columns = (shown > 100).nonzero().T
        if len(rows) < 20:
            continue
        seen = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert (boxes[0] - seen).abs().max() <= 1.5
        whole = (x1 - x0) * (y1 - y0) * abs(np.linalg.det(view._to_result)) / (height * width)  # pixels of the result
        assert float(shares) == pytest.approx(len(rows) / whole, abs=2 * (x1 - x0 + y1 - y0) / whole**0.5 / 60)
        found += 1
    assert found >= 11


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_back_undoes_the_view(recipe: str, fit: str) -> None:
    """Points of any view, and boxes that are seen whole where none is turned; in the picture's pixels at any size."""
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform(0, 1, (40, 2)) * (420, 300))
    boxes = torch.from_numpy((np.sort(rng.uniform(0, 1, (40, 2, 2)), axis=1) * (420, 300)).reshape(-1, 4))
    whole = 0
    for view in drawn(recipe, fit, 150, 210, 40) + judged(fit, 150, 210, 40):
        torch.testing.assert_close(view.back(view.points(points, (300, 420)), (300, 420)), points)
        moved, shares = view.boxes(boxes, (300, 420))
        seen = shares > 1 - 1e-9
        returned = view.back(moved[seen], (300, 420))
        if view.rotation:  # the box around the box around the turned box
            assert (returned[:, :2] <= boxes[seen][:, :2] + 1e-6).all()
            assert (returned[:, 2:] >= boxes[seen][:, 2:] - 1e-6).all()
        else:
            torch.testing.assert_close(returned, boxes[seen])
            whole += int(seen.sum())
    assert whole > (10 if recipe == "rotation" else 40)


def test_a_prediction_is_clipped_to_the_picture() -> None:
    """A box on the border of a padded view goes back to the picture's edge."""
    view = central_view(30, 90, 90, fit="pad", border=MEAN)
    assert view.back(torch.tensor([[10.0, 0.0, 100.0, 90.0]])).tolist() == [[10, 0, 90, 30]]


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_reduced_decoding_needs_no_scale(fit: str) -> None:
    """A rectangle in a large JPEG, of which an eighth is decoded, is where its full-size mask and box say it is."""
    height, width, size = 803, 1205, 64
    mask = torch.zeros(height, width, dtype=torch.uint8)
    mask[300:500, 500:800] = 255
    buffer = BytesIO()
    Image.fromarray(mask.numpy()).convert("RGB").save(buffer, "JPEG", quality=95)
    picture, view = Preprocessing(size, fit=fit).with_view(buffer.getvalue())
    assert view.height < height / 4
    assert torch.equal(picture, Preprocessing(size, fit=fit).view(buffer.getvalue()))
    moved = view.mask(mask, fill=7)
    same = constant(moved, 3) & (moved != 7)
    assert (picture[0][same].int() - moved[same].int()).abs().max() <= 5  # JPEG's own error
    rows, columns = (moved == 255).nonzero().T
    boxes, shares = view.boxes(torch.tensor([[500, 300, 800, 500]]), (height, width))
    assert (boxes[0] - torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])).abs().max() <= 1
    assert float(shares) == 1


def test_a_mask_keeps_its_type_and_may_have_more_dimensions() -> None:
    """Several masks at once, of bool or 16 bits; nothing is made up."""
    view = central_view(30, 60, 20, fit="pad", border=MEAN)
    many = torch.randint(-500, 500, (2, 3, 30, 60), dtype=torch.int16)
    moved = view.mask(many, fill=-999)
    assert moved.shape == (2, 3, 20, 20)
    assert moved.dtype == torch.int16
    assert set(moved.unique().tolist()) <= {-999, *many.unique().tolist()}
    assert (moved[:, :, :5] == -999).all()
    assert (moved[:, :, 5:15] != -999).all()
    assert torch.equal(view.mask(many[0, 0] > 0, fill=0), (moved[0, 0] > 0))
    with pytest.raises(ValueError, match=r"fill is 255; a mask of torch\.bool holds 0 to 1"):
        view.mask(many > 0)


def test_what_has_another_shape_is_refused() -> None:
    """A mask that was not turned with its picture, boxes that are none, a box of the square beside the picture."""
    view = central_view(100, 98, 32)
    assert view.mask(torch.zeros(200, 196, dtype=torch.uint8)).shape == (32, 32)
    for height, width in ((98, 100), (40, 80), (0, 0)):
        with pytest.raises(DataError, match=f"mask has {height} rows of {width} pixels, the upright picture 100 of 98"):
            view.mask(torch.zeros(height, width, dtype=torch.uint8))
    with pytest.raises(DataError, match="turned likewise"):
        view.boxes(torch.zeros(1, 4), (98, 100))
    with pytest.raises(ValueError, match=r"boxes x0, y0, x1, y1 \(N, 4\) are needed, not a tensor of shape \(4,\)"):
        view.boxes(torch.zeros(4))
    with pytest.raises(ValueError, match=r"points x, y \(N, 2\)"):
        view.back(torch.zeros(3, 3))
    with pytest.raises(ValueError, match="shows nothing of a picture of 10 x 100"):
        padded_frame((0, 0, 20, 20), 10, 100, 8)


def test_a_picture_at_another_size_is_shown_alike() -> None:
    """A view drawn for a small picture shows the same part of the large one, to the rounding of pixels."""
    y, x = np.mgrid[0:240, 0:320]
    large = torch.from_numpy(np.stack([x * 0.75, y * 1.0, 255 - x * 0.5]).round().astype(np.uint8))
    for fit in ("crop", "pad"):
        for view in drawn("rotation", fit, 60, 80, 24) + drawn("turns", fit, 60, 80, 24):
            full = view.picture(large, "bilinear").int()
            small = view.picture(TF.resize(large, [60, 80], antialias=True), "bilinear").int()
            assert (full - small).abs().float().mean() < 3
    assert framed((59, 79, 1, 1), 60, 80, 24).picture(large[:, :1, :1], "bilinear").shape == (3, 24, 24)


def test_randaugment_that_moves_pixels_has_no_view() -> None:
    """Its turns, shears and shifts are named and refused with a remedy that works; its colours are fine."""
    data, picture = DataRecipe(), torch.randint(0, 256, (3, 40, 50), dtype=torch.uint8)
    for text in ("rand-m9-mstd0.5-inc1", "rand-m9", "rand-m5-tweights", "rand-m5-t3aw-n1"):
        transform = TrainTransform(data, AugmentRecipe(randaugment=text), 16, 3)
        assert {"Rotate", "ShearX", "ShearY"} <= set(transform.geometric_operations)
        assert not any("Posterize" in name or "Solarize" in name for name in transform.geometric_operations)
        assert transform(picture, 0).shape == (3, 16, 16)
        with pytest.raises(RecipeError, match=f'"{text}" also turns.*Rotate.*take "rand-m[0-9a-z.-]*-t3a"') as caught:
            transform.with_view(picture, 0)
        remedy = str(caught.value).split('take "')[1].split('"')[0]
        colours = TrainTransform(data, AugmentRecipe(randaugment=remedy), 16, 3)
        assert colours.geometric_operations == ()
        assert torch.equal(colours.with_view(picture, 0)[0], colours(picture, 0))
    assert TrainTransform(data, AugmentRecipe(), 16, 3).geometric_operations == ()


def test_geometric_operations_are_those_that_move_pixels() -> None:
    """Each of timm's operations is tried on a dot: those that are called geometric move it, the others do not."""
    dot = np.zeros((41, 41, 3), dtype=np.uint8)
    dot[9:12, 29:32] = 255
    for text in ("rand-m9-inc1", "rand-m9", "rand-m9-t3aw"):
        transform = TrainTransform(DataRecipe(), AugmentRecipe(randaugment=text), 41, 3)
        for operation in transform.randaugment.ops:
            moves = False
            for seed in range(20):
                random.seed(seed)
                operation.prob = 1.0
                out = np.asarray(operation(Image.fromarray(dot)), dtype=np.float64).mean(-1)
                light = abs(out - np.median(out))
                if light.sum():
                    centre = (np.stack(np.mgrid[0:41, 0:41]) * light).sum((1, 2)) / light.sum()
                    moves |= bool(np.abs(centre - (10, 30)).max() > 0.5)
            assert moves == (operation.name in transform.geometric_operations), operation.name
