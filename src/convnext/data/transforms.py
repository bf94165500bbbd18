"""From a picture to a tensor: the deterministic road of evaluation and the random one of training.

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
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as TF

from convnext.data.decode import MODES
from convnext.recipe import NORMALIZATIONS, AugmentRecipe, DataRecipe

_FILTERS = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}


def to_tensor(picture: Image.Image) -> Tensor:
    """A PIL picture of 8 bits a channel as uint8 (C, H, W)."""
    array = np.array(picture)  # (H, W) or (H, W, C)
    tensor = torch.from_numpy(array)
    return tensor.unsqueeze(0) if tensor.ndim == 2 else tensor.permute(2, 0, 1).contiguous()


def shrink(picture: Tensor, short_side: int, interpolation: str) -> Tensor:
    """Reduces a picture (C, H, W) whose short side is longer than `short_side`; never enlarges."""
    if min(picture.shape[1:]) <= short_side:
        return picture
    out: Tensor = TF.resize(picture, [short_side], interpolation=_FILTERS[interpolation], antialias=True)
    return out


def eval_resize(size: int, crop_ratio: float) -> int:
    """Short side before the central crop, pixels: 256 for 224 at a ratio of 0.875 (Table 5's test crop)."""
    return round(size / crop_ratio)


STRIP = 8
"""A picture longer than so many times its short side is a strip: it is cropped before it is resized."""


def eval_view(picture: Tensor, size: int, crop_ratio: float, interpolation: str) -> Tensor:
    """What the network sees in evaluation: short side resized, central crop. uint8 (C, H, W) -> (C, size, size)."""
    side = eval_resize(size, crop_ratio)
    short, long = sorted(picture.shape[1:])
    if long > STRIP * short:  # only the middle will be seen; enlarging all of a strip could fill the memory
        picture = TF.center_crop(picture, [min(n, STRIP * short) for n in picture.shape[1:]])
    picture = TF.resize(picture, [side], interpolation=_FILTERS[interpolation], antialias=True)
    out: Tensor = TF.center_crop(picture, [size, size])
    return out


def normalization(name: str, in_chans: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation for each channel, of pictures in [0, 1]; a gray picture takes the colours' average."""
    mean, std = NORMALIZATIONS[name]
    if in_chans == 1:
        return (sum(mean) / 3,), (sum(std) / 3,)
    extra = in_chans - 3
    return mean + (0.5,) * extra, std + (0.5,) * extra


def normalize(batch: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 (N, C, H, W) -> float32, channels last, (x / 255 - mean) / std. A float batch is already normalised."""
    if batch.dtype != torch.uint8:
        return batch.contiguous(memory_format=torch.channels_last)
    shape = (1, -1, 1, 1)
    shift = torch.tensor(mean, device=batch.device).mul_(255).view(shape)
    scale = torch.tensor(std, device=batch.device).mul_(255).view(shape)
    return batch.to(torch.float32, memory_format=torch.channels_last).sub_(shift).div_(scale)


def mix_seed(*parts: int) -> int:
    """One 63-bit seed from several integers (SplitMix64's finaliser after each), the same everywhere."""
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = (state + part * 0xBF58476D1CE4E5B9 + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1


@contextlib.contextmanager
def seeded(seed: int, *, everything: bool = False) -> Iterator[None]:
    """Runs a block with torch's random state set by `seed`, and puts the old state back.

    With `everything`, numpy's and Python's states too: timm's RandAugment draws from them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if not everything:
            yield
            return
        python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - timm draws from the global state
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


class TrainTransform:
    """Random crop, mirror, RandAugment, colour jitter, erasing: uint8 (C, H, W) -> (C, size, size).

    `size` is the recipe's, or a smaller one that a call names while pictures still grow.

    The result is uint8, or normalised float32 when erasing is on (the paper fills the rectangle with normal noise after
    normalisation).
    """

    def __init__(self, data: DataRecipe, augment: AugmentRecipe, size: int, in_chans: int) -> None:
        self.in_chans, self.size = in_chans, size
        self.crop = v2.RandomResizedCrop(
            size, scale=(augment.crop_min, 1.0), interpolation=_FILTERS[data.interpolation], antialias=True
        )
        self.flips = [v2.RandomHorizontalFlip(augment.flip)] if augment.flip > 0 else []
        self.flips += [v2.RandomVerticalFlip(augment.vertical_flip)] if augment.vertical_flip > 0 else []
        mean, std = normalization(data.normalization, in_chans)
        self.randaugment = rand_augment(augment.randaugment, size, mean) if augment.randaugment else None
        strength = augment.color_jitter
        colour = (strength, strength, strength) if in_chans == 3 else (strength, strength)
        self.jitter = v2.ColorJitter(*colour) if strength > 0 and in_chans in (1, 3) else None
        self.mean, self.std, self.erasing = mean, std, augment.erasing

    def __call__(self, picture: Tensor, seed: int, size: int | None = None) -> Tensor:
        with seeded(seed, everything=self.randaugment is not None or self.erasing > 0):
            return self._vary(picture, size or self.size)

    def _vary(self, picture: Tensor, size: int) -> Tensor:
        self.crop.size = (size, size)
        out: Tensor = self.crop(picture)
        for flip in self.flips:
            out = flip(out)
        if self.randaugment is not None:
            image = TF.to_pil_image(out, mode=MODES[self.in_chans])
            out = to_tensor(self.randaugment(image))
        if self.jitter is not None:
            out = self.jitter(out)
        if self.erasing > 0:
            out = normalize(out.unsqueeze(0), self.mean, self.std).squeeze(0).contiguous()
            out = _erase(out, self.erasing)
        return out


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


def train_short_side(size: int, crop_min: float) -> int:
    """Short side, pixels, to which training pictures are reduced once: the smallest crop still covers `size`."""
    return math.ceil(size / math.sqrt(crop_min))
