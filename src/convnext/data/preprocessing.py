"""What the network is shown in evaluation and prediction: saved inside the model file, and callable by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convnext.data.decode import MODES
from convnext.data.given import Picture, Pictures, given_pixels, is_one, one_by_one, title_of
from convnext.data.levels import Range
from convnext.data.transforms import FITS, eval_resize, eval_view, from_pixels, normalize, per_channel
from convnext.errors import UserError
from convnext.recipe import NORMALIZATIONS


@dataclass(frozen=True)
class Preprocessing:
    """Everything that decides what the network sees in evaluation; saved inside the model file.

    A call gives what the network takes, so it serves as the `transform` of a torchvision Dataset.

    Attributes:
        size: side of the square that the network sees, pixels.
        crop_ratio: share of what was resized that the central crop keeps.
        interpolation: resampling filter, "bicubic" or "bilinear", with antialiasing.
        mean: of each channel, of pictures in [0, 1].
        std: deviation likewise.
        in_chans: channels: 1 gray, 3 RGB, 4 RGBA.
        fit: "crop": the short side is resized and the middle cropped; "squash": both sides are resized to the square;
            "pad": the long side is resized, and the rest filled with the mean.
        value_range: what is black and white in pictures of more than 8 bits; None: what their format says.

    Examples:
        >>> import convnext
        >>> from PIL import Image
        >>> prepare = convnext.Preprocessing(size=64, fit="pad")
        >>> prepare(Image.new("RGB", (300, 100))).shape
        torch.Size([3, 64, 64])
        >>> prepare(["photos/wide/wide-000.png", "photos/wide/wide-001.png"]).shape
        torch.Size([2, 3, 64, 64])
    """

    size: int
    crop_ratio: float = 0.875
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = NORMALIZATIONS["imagenet"][0]
    std: tuple[float, ...] = NORMALIZATIONS["imagenet"][1]
    in_chans: int = 3
    fit: str = "crop"
    value_range: Range | None = None

    def __post_init__(self) -> None:
        """Mean and deviation of colours serve for gray too, and for alpha.

        Raises:
            UserError: a value breaks its rule.
        """
        mean, std = per_channel(tuple(self.mean), tuple(self.std), self.in_chans)
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)
        finite = all(math.isfinite(v) for v in (*mean, *std)) and all(s > 0 for s in std)
        for key, good, rule in (
            ("size", isinstance(self.size, int) and self.size >= 1, "a number of pixels"),
            ("crop_ratio", 0 < self.crop_ratio <= 1, "above 0 and at most 1"),
            ("interpolation", self.interpolation in ("bicubic", "bilinear"), "bicubic or bilinear"),
            ("in_chans", self.in_chans in MODES, "1, 3 or 4"),
            ("std", finite and len(mean) == len(std) == self.in_chans, "a positive number for each channel, as mean"),
            ("fit", self.fit in FITS, ", ".join(FITS)),
        ):
            if not good:
                raise UserError(f"preprocessing: {key} is {getattr(self, key)!r}; it must be {rule}")

    def to_json(self) -> dict[str, Any]:
        """As it stands in a model file."""
        return {
            "size": self.size, "crop_ratio": self.crop_ratio, "interpolation": self.interpolation,
            "mean": list(self.mean), "std": list(self.std), "in_chans": self.in_chans, "fit": self.fit,
            "value_range": None if self.value_range is None else list(self.value_range),
        }  # fmt: skip

    def view(self, picture: Picture, name: str = "the picture") -> Tensor:
        """One picture as the network sees it, before normalisation: uint8 (C, size, size).

        Raises:
            PictureError: it cannot be read; `name` is what a picture that is no file is called.
        """
        side = eval_resize(self.size, self.crop_ratio)
        mode = MODES[self.in_chans]
        pixels = given_pixels(picture, mode=mode, at_least=side, value_range=self.value_range, name=name)
        return eval_view(from_pixels(pixels), self.size, self.crop_ratio, self.interpolation, self.fit, self.mean)

    def prepare(self, pictures: Pictures) -> Tensor:
        """One picture or several as a batch for the network: float32 (N, C, size, size), N = 1 for one.

        Args:
            pictures: paths, bytes, open files, PIL pictures, arrays or tensors; see `data.given`.

        Raises:
            PictureError: one cannot be read.
            UserError: one is no picture.
        """
        views = [self.view(picture, title_of(picture, i)) for i, picture in enumerate(one_by_one(pictures))]
        if not views:
            return torch.empty(0, self.in_chans, self.size, self.size)
        return normalize(torch.stack(views), self.mean, self.std)

    def __call__(self, pictures: Pictures) -> Tensor:
        """As `prepare`, but one picture gives (C, size, size): what a Dataset's `transform` gives."""
        batch = self.prepare(pictures)
        return batch[0] if is_one(pictures) else batch
