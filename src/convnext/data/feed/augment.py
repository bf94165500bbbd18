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
from PIL import Image
from torch import Tensor

from convnext.data.doctor.appearance import FAR_FROM_SQUARE
from convnext.data.feed.framing import frame_of, padded_frame
from convnext.data.feed.view import View
from convnext.data.pictures.transforms import channel_statistics, mix_seed, normalize, to_tensor
from convnext.errors import RecipeError
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

    A rotation turns the crop's frame over the picture (see `transforms.rotated_crop`), by an angle uniform in
    +-augment.rotation. What becomes of a place in the picture is said by its `View` (see `with_view`).
    """

    def __init__(self, data: DataRecipe, augment: AugmentRecipe, size: int, in_chans: int) -> None:
        self.augment, self.size, self.in_chans = augment, size, in_chans
        self.filter = data.interpolation
        self.mean, self.std = channel_statistics(data, in_chans)
        self.fit = data.fit
        self.randaugment = rand_augment(augment.randaugment, size, self.mean) if augment.randaugment else None
        self.jitters = augment.color_jitter > 0 and in_chans in (1, 3)

    @property
    def geometric_operations(self) -> tuple[str, ...]:
        """RandAugment's operations that move pixels, by timm's names; () where a mask can follow the picture.

        They come after the view is drawn, so a mask or boxes moved by the view would not lie on the picture.
        """
        if self.randaugment is None:
            return ()
        return tuple(op.name for op in self.randaugment.ops if op.name.removesuffix("Increasing") not in _OF_COLOUR)

    def __call__(self, picture: Tensor, seed: int, size: int | None = None) -> Tensor:
        return self._from_seed(picture, seed, size)[0]

    def with_view(self, picture: Tensor, seed: int, size: int | None = None) -> tuple[Tensor, View]:
        """What a call gives, and the view in it: moves masks and boxes as the picture was moved.

        Raises:
            RecipeError: RandAugment moves pixels too, see `geometric_operations`; the message has the remedy.
        """
        if self.geometric_operations:
            text = self.augment.randaugment
            plain = "-".join(word for word in text.split("-") if not word.startswith("t"))
            raise RecipeError(
                f'augment.randaugment = "{text}" also turns, shears or shifts pictures '
                f"({', '.join(self.geometric_operations)}), and a target that moves with the picture cannot follow; "
                f'take "{plain}-t3a", which changes colours alone, or "", and augment.rotation to turn pictures'
            )
        return self._from_seed(picture, seed, size)

    def _from_seed(self, picture: Tensor, seed: int, size: int | None) -> tuple[Tensor, View]:
        if self.randaugment is None and self.augment.erasing == 0:
            return self._vary(picture, random.Random(seed), size or self.size)
        with seeded(mix_seed(seed, 1)):  # timm draws from the global states; its draws are not those of the view
            return self._vary(picture, random.Random(seed), size or self.size)

    def _vary(self, picture: Tensor, draw: random.Random, size: int) -> tuple[Tensor, View]:
        _, height, width = picture.shape
        view = draw_view(draw, self.augment, self.fit, self.mean, height, width, size)
        out = view.picture(picture, self.filter)
        if self.randaugment is not None:
            rows = out.permute(1, 2, 0).contiguous().numpy()  # (H, W, C)
            out = to_tensor(self.randaugment(Image.fromarray(rows[..., 0] if self.in_chans == 1 else rows)))
        if self.jitters:
            out = color_jitter(out, *jitter_factors(draw, self.augment.color_jitter))
        if self.augment.erasing > 0:
            out = normalize(out.unsqueeze(0), self.mean, self.std).squeeze(0).contiguous()
            out = _erase(out, self.augment.erasing)
        return out, view


_OF_COLOUR = frozenset((
    "AutoContrast", "Equalize", "Invert", "Posterize", "Solarize", "SolarizeAdd", "Color", "Contrast", "Brightness",
    "Sharpness", "Desaturate", "GaussianBlur",
))  # fmt: skip
"""RandAugment's operations that leave every pixel at its place; one that timm adds counts as geometric until known."""


def draw_view(
    draw: random.Random,
    augment: AugmentRecipe,
    fit: str,
    mean: tuple[float, ...],
    height: int,
    width: int,
    size: int,
) -> View:
    """A random part of a picture, turned and mirrored where the recipe asks for it.

    The order of the draws is part of what a seed means: box, angle, mirror, upside down, whether quarter turns, which.
    Numbers for steps that are off are not drawn, but those for the two mirrors always are.

    Args:
        draw: where the random numbers come from.
        augment: crop_min, rotation, flip, vertical_flip and quarter_turns count.
        fit: how evaluation makes pictures square, "crop", "squash" or "pad".
        mean: for "pad": colour of the border, for each channel of pictures in [0, 1].
        height: of the picture, pixels.
        width: likewise.
        size: side of the result, pixels.
    """
    box = _draw_box(draw, augment.crop_min, fit, height, width)
    degrees = draw.uniform(-augment.rotation, augment.rotation) if augment.rotation > 0 else 0.0
    mirror = draw.random() < augment.flip
    upside_down = draw.random() < augment.vertical_flip
    turns = 0
    if augment.quarter_turns > 0 and draw.random() < augment.quarter_turns:
        turns = draw.randint(1, 3)
    if fit == "pad" and not degrees:
        shares, place = padded_frame(box, height, width, size)
    else:
        if fit == "pad":  # the square is turned, border and all
            side = max(height, width)
            box = (box[0] - (side - height) // 2, box[1] - (side - width) // 2, *box[2:])
        shares, place = frame_of(box, height, width, size)
    border = mean if fit == "pad" else ()
    return View(size, height, width, shares, place, degrees, border, mirror, upside_down, turns)


def _draw_box(draw: random.Random, crop_min: float, fit: str, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random box: of the picture, or of the square around it where it is padded."""
    if fit == "pad":
        side = max(height, width)
        boxes = (random_box(draw, side, side, crop_min) for _ in range(10))
        return next((b for b in boxes if shares_enough(b, height, width)), (0, 0, side, side))
    aspects = squash_aspects(height, width) if fit == "squash" else (3 / 4, 4 / 3)
    return random_box(draw, height, width, crop_min, aspects)


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


def squash_aspects(height: int, width: int) -> tuple[float, float]:
    """Aspects of the random crops where evaluation squashes: the usual ones, as the authors train for it.

    They only reach a square's distortion by 4/3. A picture that is `FAR_FROM_SQUARE` will be distorted by much more, so
    its crops go from the usual aspects to its own.
    """
    aspect = width / height
    if max(aspect, 1 / aspect) <= FAR_FROM_SQUARE:
        return 3 / 4, 4 / 3
    return min(3 / 4, aspect), max(4 / 3, aspect)


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
