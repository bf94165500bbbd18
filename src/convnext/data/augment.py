"""The random road of training: crops, rotations, mirrors, RandAugment, colour, erasing.

Every random choice for a picture comes from one seed that depends on (run seed, epoch, index of the picture) alone, so
neither the number of loader processes nor a restart changes what the network sees.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from convnext.data.looks import FAR_FROM_SQUARE
from convnext.data.transforms import channel_statistics, filled, mix_seed, normalize, pad_to_square, resize, to_tensor
from convnext.recipe import AugmentRecipe, DataRecipe


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Runs a block with the global random states of torch, numpy and Python set by `seed`; puts the old ones back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - timm draws from the global state
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


class TrainTransform:
    """Random crop, rotation, mirror, turn, RandAugment, colour jitter, erasing: uint8 (C, H, W) -> (C, size, size).

    `size` is the recipe's, or a smaller one that a call names while pictures still grow. Crops are drawn as by
    Inception and torchvision: an area from crop_min to all of the picture, an aspect from 3/4 to 4/3. Where evaluation
    pads (data.fit), they are drawn from the padded square; where it squashes, see `squash_aspects`.

    The result is uint8, or normalised float32 when erasing is on (the paper fills the rectangle with normal noise after
    normalisation).

    A rotation turns the crop's frame over the picture (see `rotated_crop`), by an angle uniform in +-augment.rotation.
    """

    def __init__(self, data: DataRecipe, augment: AugmentRecipe, size: int, in_chans: int) -> None:
        self.augment, self.size, self.in_chans = augment, size, in_chans
        self.filter = data.interpolation
        self.mean, self.std = channel_statistics(data, in_chans)
        self.fit = data.fit
        self.randaugment = rand_augment(augment.randaugment, size, self.mean) if augment.randaugment else None
        self.jitters = augment.color_jitter > 0 and in_chans in (1, 3)

    def __call__(self, picture: Tensor, seed: int, size: int | None = None) -> Tensor:
        if self.randaugment is None and self.augment.erasing == 0:
            return self._vary(picture, random.Random(seed), size or self.size)
        with seeded(mix_seed(seed, 1)):  # timm draws from the global states; its draws are not those of the crop
            return self._vary(picture, random.Random(seed), size or self.size)

    def _crop(self, picture: Tensor, draw: random.Random, size: int) -> Tensor:
        """A random part of the picture, turned where the recipe asks for it, as a square."""
        height, width = picture.shape[1:]
        aspects, rotation = (3 / 4, 4 / 3), self.augment.rotation
        if self.fit == "pad":
            side = max(height, width)
            boxes = (random_box(draw, side, side, self.augment.crop_min) for _ in range(10))
            box = next((b for b in boxes if shares_enough(b, height, width)), (0, 0, side, side))
            if rotation == 0:
                return padded_crop(picture, box, size, self.filter, self.mean)
            picture = pad_to_square(picture, side, self.mean)
        else:
            if self.fit == "squash":
                aspects = squash_aspects(height, width)
            box = random_box(draw, height, width, self.augment.crop_min, aspects)
        if rotation > 0:
            return rotated_crop(picture, box, draw.uniform(-rotation, rotation), size, self.filter)
        top, left, height, width = box
        return resize(picture[:, top : top + height, left : left + width], size, size, self.filter)

    def _vary(self, picture: Tensor, draw: random.Random, size: int) -> Tensor:
        out = self._crop(picture, draw, size)
        if draw.random() < self.augment.flip:
            out = out.flip(2)
        if draw.random() < self.augment.vertical_flip:
            out = out.flip(1)
        if self.augment.quarter_turns > 0 and draw.random() < self.augment.quarter_turns:
            out = torch.rot90(out, draw.randint(1, 3), (1, 2))
        if self.randaugment is not None:
            rows = out.permute(1, 2, 0).contiguous().numpy()  # (H, W, C)
            out = to_tensor(self.randaugment(Image.fromarray(rows[..., 0] if self.in_chans == 1 else rows)))
        if self.jitters:
            out = color_jitter(out, *jitter_factors(draw, self.augment.color_jitter))
        if self.augment.erasing > 0:
            out = normalize(out.unsqueeze(0), self.mean, self.std).squeeze(0).contiguous()
            out = _erase(out, self.augment.erasing)
        return out


def random_box(
    draw: random.Random, height: int, width: int, crop_min: float, aspects: tuple[float, float] = (3 / 4, 4 / 3)
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random crop: area uniform in [crop_min, 1], log aspect uniform in `aspects`.

    After ten boxes that do not fit into the picture: the largest central one whose aspect is allowed.
    """
    low, high = aspects
    for _ in range(10):
        area = draw.uniform(crop_min, 1.0) * height * width
        aspect = math.exp(draw.uniform(math.log(low), math.log(high)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return draw.randint(0, height - h), draw.randint(0, width - w), h, w
    w, h = min(width, round(height * high)), min(height, round(width / low))
    return (height - h) // 2, (width - w) // 2, h, w


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


def squash_aspects(height: int, width: int) -> tuple[float, float]:
    """Aspects of the random crops where evaluation squashes: the usual ones, as the authors train for it.

    They only reach a square's distortion by 4/3. A picture that is `FAR_FROM_SQUARE` will be distorted by much more, so
    its crops go from the usual aspects to its own.
    """
    aspect = width / height
    if max(aspect, 1 / aspect) <= FAR_FROM_SQUARE:
        return 3 / 4, 4 / 3
    return min(3 / 4, aspect), max(4 / 3, aspect)


def padded_crop(
    picture: Tensor, box: tuple[int, int, int, int], size: int, interpolation: str, mean: tuple[float, ...]
) -> Tensor:
    """A box of the picture on its square of the mean colour, resized to (C, size, size).

    Args:
        picture: (C, H, W), in the middle of a square whose side is its long side.
        box: top, left, height and width in that square.
        size: side of the result, pixels.
        interpolation: resampling filter.
        mean: of each channel.
    """
    out = filled(size, size, mean)
    cuts = []
    for start, length, have in zip(box[:2], box[2:], picture.shape[1:], strict=True):
        border = (max(picture.shape[1:]) - have) // 2
        first, last = max(0, start - border), min(have, start + length - border)  # of the picture
        if first >= last:
            return out
        place = round((first + border - start) * size / length)
        cuts.append((first, last, place, max(1, round((last + border - start) * size / length) - place)))
    (top, bottom, y, height), (left, right, x, width) = cuts
    y, x = min(y, size - height), min(x, size - width)
    out[:, y : y + height, x : x + width] = resize(picture[:, top:bottom, left:right], height, width, interpolation)
    return out


def shares_enough(box: tuple[int, int, int, int], height: int, width: int) -> bool:
    """Whether a box of the square around a picture shows at least half of the picture that it could show."""
    side = max(height, width)
    shown = 1
    for start, length, have in zip(box[:2], box[2:], (height, width), strict=True):
        border = (side - have) // 2
        shown *= max(0, min(have, start + length - border) - max(0, start - border))
    return 2 * shown >= min(height * width, box[2] * box[3])


def jitter_factors(draw: random.Random, strength: float) -> tuple[float, float, float]:
    """Factors of brightness, contrast and saturation, each uniform in [max(0, 1 - strength), 1 + strength]."""
    low, high = max(0.0, 1 - strength), 1 + strength
    return draw.uniform(low, high), draw.uniform(low, high), draw.uniform(low, high)


def color_jitter(picture: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """Scales brightness, contrast (about the mean gray) and saturation (about each pixel's gray) in one pass.

    The three are linear and commute, so together they are a weighted sum of the picture, its gray picture and a number;
    only what they give together is clamped to [0, 255]. uint8 (C, H, W), C 1 or 3 -> the same shape. A gray picture has
    no saturation. Every step goes pixel by pixel or sums integers, so the number of threads changes no bit.
    """
    pixels = picture.to(torch.float32)
    luma = _LUMA if len(picture) == 3 else (1.0,)
    sums = picture.sum((1, 2), dtype=torch.int64).tolist()
    mean = sum(w * s for w, s in zip(luma, sums, strict=True)) / picture[0].numel()
    out: Tensor = pixels * (brightness * contrast * saturation) + mean * brightness * (1 - contrast)
    for weight, channel in zip(luma, pixels, strict=True):
        out.add_(channel, alpha=brightness * contrast * (1 - saturation) * weight)
    return out.round_().clamp_(0, 255).to(torch.uint8)


_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a gray value (ITU-R BT.601)."""


def _erase(picture: Tensor, probability: float) -> Tensor:
    """Random erasing with pixel noise (Zhong et al., 2020; timm's form): area 2 to 33 %, aspect 0.3 to 3.3."""
    from timm.data.random_erasing import RandomErasing

    eraser = RandomErasing(probability=probability, mode="pixel", device="cpu")
    out: Tensor = eraser(picture)
    return out


def rand_augment(text: str, size: int, mean: tuple[float, ...]) -> Any:
    """timm's RandAugment from its string, as in the paper: translations up to 45 % of `size`, filled with the mean.

    Pillow 13 refuses to posterise to 0 bits, which older Pillows answered with black; black it stays here.

    Raises:
        ValueError: the string is not one that timm understands.
    """
    from timm.data.auto_augment import rand_augment_transform

    if not text.startswith("rand"):
        raise ValueError(f'augment.randaugment is "{text}"; it must start with "rand", as rand-m9-mstd0.5-inc1')
    fill = tuple(min(255, round(255 * m)) for m in mean)
    params: dict[str, Any] = {"translate_const": int(size * 0.45), "img_mean": fill if len(fill) > 1 else fill[0]}
    transform = rand_augment_transform(text, params)
    for op in transform.ops:
        if op.name.startswith("Posterize"):
            op.aug_fn = _posterize
    return transform


def _posterize(picture: Image.Image, bits: float, **_fill: Any) -> Image.Image:
    from PIL import ImageOps

    bits = int(bits)
    if bits >= 8:
        return picture
    if bits <= 0:
        return Image.new(picture.mode, picture.size)
    return ImageOps.posterize(picture, bits)
