"""From a picture to a tensor, without chance: resize, rotate, pad, normalise; and seeds for the rest."""

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
    batch, order = picture.unsqueeze(0), torch.channels_last  # (1, C, H, W)
    if batch.is_contiguous(memory_format=order):  # nothing is copied: only these steps give the batch its own stride
        batch = picture.permute(1, 2, 0).unsqueeze(0).permute(0, 3, 1, 2)
    else:
        batch = batch.contiguous(memory_format=order)
    out = F.interpolate(batch, size=(height, width), mode=interpolation, antialias=True)
    return out.squeeze(0)


def short_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width of a picture whose short side becomes `short_side`; the long one follows, rounded down."""
    if height <= width:
        return short_side, int(short_side * width / height)
    return int(short_side * height / width), short_side


def shrink(picture: Tensor, short_side: int, interpolation: str) -> Tensor:
    """Reduces a picture (C, H, W) whose short side is longer than `short_side`; never enlarges."""
    if min(picture.shape[1:]) <= short_side:
        return picture
    height, width = picture.shape[1:]
    return resize(picture, *short_size(height, width, short_side), interpolation)


def eval_resize(size: int, crop_ratio: float) -> int:
    """Short side before the central crop, pixels: 256 for 224 at a ratio of 0.875 (Table 5's test crop)."""
    return round(size / crop_ratio)


FITS = ("crop", "squash", "pad")
"""How a picture becomes a square; see `framing.central_view`."""


def pad_to_square(picture: Tensor, mean: tuple[float, ...]) -> Tensor:
    """A picture in the middle of a square of the mean colour; an odd pixel of the border goes right and below."""
    side = max(picture.shape[1:])
    square = filled(side, side, mean)
    top, left = ((side - n) // 2 for n in picture.shape[1:])
    square[:, top : top + picture.shape[1], left : left + picture.shape[2]] = picture
    return square


def filled(height: int, width: int, mean: tuple[float, ...]) -> Tensor:
    """A picture (C, height, width), uint8, of the mean colour, channels last in memory: nearly 0 once normalised."""
    colour = torch.tensor([min(255, max(0, round(255 * m))) for m in mean], dtype=torch.uint8)
    return colour.repeat(height, width, 1).permute(2, 0, 1)


def rotated_crop(
    picture: Tensor, box: tuple[int, int, int, int], degrees: float, size: int, interpolation: str
) -> Tensor:
    """A crop whose frame is turned about its middle: uint8 (C, H, W) -> (C, size, size), turned counterclockwise.

    The frame shows what the picture has there; beyond the picture's edges it shows the picture mirrored, so that no
    corner is filled with a colour. It is reduced with antialiasing first and turned then, at the size of the result;
    0 degrees give the plain crop, as `resize` does.
    """
    top, left, height, width = box
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    down = right = 0  # pixels by which the upright frame around the turned one is larger
    if degrees:
        down = max(0, math.ceil((abs(cos) * height + abs(sin) * width - height) / 2)) + 1
        right = max(0, math.ceil((abs(cos) * width + abs(sin) * height - width) / 2)) + 1
    rows = _mirrored(top - down, top + height + down, picture.shape[1])
    columns = _mirrored(left - right, left + width + right, picture.shape[2])
    around = picture[:, rows][:, :, columns]
    tall, wide = (round(size * (n + 2 * more) / n) for n, more in ((height, down), (width, right)))
    around = resize(around, tall, wide, interpolation)
    if degrees == 0:
        return around
    # positions in the result from its middle, in pixels of the picture
    at = (torch.arange(size, dtype=torch.float32) - (size - 1) / 2) / size
    y, x = torch.meshgrid(at * height, at * width, indexing="ij")
    across, along = (cos * x - sin * y) * 2 / (width + 2 * right), (sin * x + cos * y) * 2 / (height + 2 * down)
    grid = torch.stack([across, along], dim=-1)  # (size, size, 2), -1 and 1 at the edges of `around`
    out = F.grid_sample(
        around.unsqueeze(0).float(), grid.unsqueeze(0), mode=interpolation, padding_mode="border", align_corners=False
    )
    return out.squeeze(0).round_().clamp_(0, 255).to(torch.uint8)


def _mirrored(start: int, stop: int, length: int) -> Tensor:
    """Indices start .. stop - 1 into `length` places, mirrored at both ends without repeating the last place."""
    at = torch.arange(start, stop)
    if length == 1:
        return torch.zeros_like(at)
    at = at.remainder(2 * (length - 1))
    return torch.minimum(at, 2 * (length - 1) - at)


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
