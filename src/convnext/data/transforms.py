"""From a picture to a tensor, without chance: reduce, evaluation view, normalise; and seeds for the rest."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from convnext.errors import RecipeError
from convnext.recipe import NORMALIZATIONS, DataRecipe


def to_tensor(picture: Image.Image) -> Tensor:
    """A PIL picture of 8 bits a channel as uint8 (C, H, W), channels last in memory: resizing is fastest there."""
    array = np.array(picture)  # (H, W) or (H, W, C)
    return from_pixels(array[..., None] if array.ndim == 2 else array)


def from_pixels(pixels: NDArray[np.uint8]) -> Tensor:
    """Pixels (H, W, C) as a tensor (C, H, W) on the same memory."""
    return torch.from_numpy(pixels).permute(2, 0, 1)


def resize(picture: Tensor, height: int, width: int, interpolation: str) -> Tensor:
    """A picture (C, H, W), uint8, in another size, with antialiasing; the result has channels last in memory.

    The values are those of torchvision's `resize`. Its quick way needs channels last in the batch's own strides, which
    a part of a picture does not have: copying it first takes half of the time.
    """
    rows = picture.permute(1, 2, 0).contiguous().unsqueeze(0)  # (1, H, W, C)
    out = F.interpolate(rows.permute(0, 3, 1, 2), size=(height, width), mode=interpolation, antialias=True)
    return out.squeeze(0)


def resize_short(picture: Tensor, short_side: int, interpolation: str) -> Tensor:
    """The same by the length of the short side; the long one follows, rounded down."""
    height, width = picture.shape[1:]
    if height <= width:
        return resize(picture, short_side, int(short_side * width / height), interpolation)
    return resize(picture, int(short_side * height / width), short_side, interpolation)


def shrink(picture: Tensor, short_side: int, interpolation: str) -> Tensor:
    """Reduces a picture (C, H, W) whose short side is longer than `short_side`; never enlarges."""
    if min(picture.shape[1:]) <= short_side:
        return picture
    return resize_short(picture, short_side, interpolation)


def eval_resize(size: int, crop_ratio: float) -> int:
    """Short side before the central crop, pixels: 256 for 224 at a ratio of 0.875 (Table 5's test crop)."""
    return round(size / crop_ratio)


STRIP = 8
"""A picture longer than so many times its short side is a strip: it is cropped before it is resized."""


FITS = ("crop", "squash", "pad")
"""How a picture becomes a square; see `eval_view`."""


def eval_view(
    picture: Tensor,
    size: int,
    crop_ratio: float,
    interpolation: str,
    fit: str = "crop",
    mean: tuple[float, ...] = (),
) -> Tensor:
    """What the network sees in evaluation. uint8 (C, H, W) -> (C, size, size).

    Args:
        picture: all of it.
        size: side of the square, pixels.
        crop_ratio: share of what was resized that the central crop keeps.
        interpolation: resampling filter.
        fit: "crop" resizes the short side; "squash" both sides, to a square, as the authors do at 384 pixels; "pad" the
            long side, and fills the rest.
        mean: for "pad": what it is filled with, for each channel of pictures in [0, 1].
    """
    side = eval_resize(size, crop_ratio)
    if fit == "squash":
        return center_crop(resize(picture, side, side, interpolation), size, size)
    if fit == "pad":
        return pad_to_square(_resize_long(picture, side, interpolation), size, mean)
    short, long = sorted(picture.shape[1:])
    if long > STRIP * short:  # only the middle will be seen; enlarging all of a strip could fill the memory
        picture = center_crop(picture, *(min(n, STRIP * short) for n in picture.shape[1:]))
    picture = resize_short(picture, side, interpolation)
    return center_crop(picture, size, size)


def _resize_long(picture: Tensor, side: int, interpolation: str) -> Tensor:
    """A picture (C, H, W) by the length of its long side; the short one follows, rounded, but is never nothing."""
    ratio = max(picture.shape[1:]) / side
    height, width = (max(1, round(n / ratio)) for n in picture.shape[1:])
    return resize(picture, height, width, interpolation)


def pad_to_square(picture: Tensor, size: int, mean: tuple[float, ...]) -> Tensor:
    """The middle of a picture on a square of the mean colour; an odd pixel of the border goes right and below."""
    picture = center_crop(picture, *(min(n, size) for n in picture.shape[1:]))
    square = filled(size, size, mean)
    top, left = ((size - n) // 2 for n in picture.shape[1:])
    square[:, top : top + picture.shape[1], left : left + picture.shape[2]] = picture
    return square


def filled(height: int, width: int, mean: tuple[float, ...]) -> Tensor:
    """A picture (C, height, width), uint8, of the mean colour, channels last in memory: nearly 0 once normalised."""
    colour = torch.tensor([min(255, max(0, round(255 * m))) for m in mean], dtype=torch.uint8)
    return colour.repeat(height, width, 1).permute(2, 0, 1)


def center_crop(picture: Tensor, height: int, width: int) -> Tensor:
    """The middle of a picture (C, H, W) that is at least as large; an odd pixel over is split as torchvision does.

    (torchvision itself takes a second to import, as long as all else that `predict` needs.)
    """
    top, left = (round((have - want) / 2) for have, want in zip(picture.shape[1:], (height, width), strict=True))
    return picture[:, top : top + height, left : left + width]


def normalization(name: str, in_chans: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation for each channel, of pictures in [0, 1]; a gray picture takes the colours' average."""
    return per_channel(*NORMALIZATIONS["imagenet" if name == "auto" else name], in_chans)


def per_channel(
    mean: tuple[float, ...], std: tuple[float, ...], in_chans: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of colours for another number of channels: gray takes their average, a fourth is centred."""
    if len(mean) == in_chans:
        return mean, std
    if in_chans == 1:
        return (sum(mean) / len(mean),), (sum(std) / len(std),)
    if len(mean) == 1:
        return mean * in_chans, std * in_chans
    extra = in_chans - len(mean)
    return mean[:in_chans] + (0.5,) * extra, std[:in_chans] + (0.5,) * extra


def channel_statistics(data: DataRecipe, in_chans: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of a recipe for each channel: its own `mean` and `std`, or those that `normalization` names.

    Raises:
        RecipeError: there are not as many as channels.
    """
    if not data.mean:
        return normalization(data.normalization, in_chans)
    for key, values in (("mean", data.mean), ("std", data.std)):
        if len(values) != in_chans:
            raise RecipeError(
                f"data.{key} = {list(values)} has {len(values)} values; the pictures have {in_chans} "
                f"channel{'s' if in_chans > 1 else ''} (model.in_chans), and each takes one"
            )
    return data.mean, data.std


def normalize(batch: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 (N, C, H, W) -> float32, channels last, (x / 255 - mean) / std. A float batch is already normalised."""
    if batch.dtype != torch.uint8:
        return batch.contiguous(memory_format=torch.channels_last)
    n, c, h, w = batch.shape
    shift = torch.tensor(mean, device=batch.device).mul_(255).repeat(w)
    scale = torch.tensor(std, device=batch.device).mul_(255).repeat(w)
    rows = batch.permute(0, 2, 3, 1).reshape(
        n * h, w * c
    )  # long rows: broadcasting over 3 channels is ten times slower
    rows = rows.to(torch.float32).sub_(shift).div_(scale)
    return rows.view(n, h, w, c).permute(0, 3, 1, 2)


def mix_seed(*parts: int) -> int:
    """One 63-bit seed from several integers (SplitMix64's finaliser after each), the same everywhere."""
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = (state + part * 0xBF58476D1CE4E5B9 + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1


def train_short_side(size: int, crop_min: float) -> int:
    """Short side, pixels, to which training pictures are reduced once: the smallest crop still covers `size`."""
    return math.ceil(size / math.sqrt(crop_min))
