"""What the network is shown in evaluation and prediction: saved inside the model file, and callable by itself."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convnext.data.feed.framing import central_view
from convnext.data.feed.given import Picture, Pictures, given_pixels, is_one, one_by_one, title_of
from convnext.data.feed.view import View
from convnext.data.pictures.decode import MODES
from convnext.data.pictures.levels import Range
from convnext.data.pictures.transforms import FITS, eval_resize, from_pixels, normalize, per_channel
from convnext.errors import UserError
from convnext.recipe import NORMALIZATIONS


def _whole(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _number(value: Any) -> float:
    if isinstance(value, str | bytes):
        raise TypeError
    return float(value)


def _numbers(value: Any) -> tuple[float, ...]:
    if isinstance(value, str | bytes):
        raise TypeError
    if isinstance(value, Iterable) and getattr(value, "ndim", True):  # an array of no dimension is one number
        return tuple(map(_number, value))
    return (_number(value),)


def _two(value: Any) -> Range | None:
    if value is None:
        return None
    low, high = _numbers(value)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError
    return low, high


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
        self._make_plain()
        if self.in_chans not in MODES:
            raise UserError(f"preprocessing: in_chans is {self.in_chans!r}; it must be 1, 3 or 4")
        for key in ("mean", "std"):
            if len(getattr(self, key)) not in (1, 3, self.in_chans) or len(self.mean) != len(self.std):
                raise UserError(
                    f"preprocessing: {key} is {getattr(self, key)!r}; mean and std must have one number for each "
                    f"of the {self.in_chans} channels, or one for all, or those of red, green and blue"
                )
        mean, std = per_channel(self.mean, self.std, self.in_chans)
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)
        finite = all(math.isfinite(v) for v in (*mean, *std)) and all(s > 0 for s in std)
        for key, good, rule in (
            ("size", self.size >= 1, "a number of pixels"),
            ("crop_ratio", 0 < self.crop_ratio <= 1, "a number above 0 and at most 1"),
            ("interpolation", self.interpolation in ("bicubic", "bilinear"), "bicubic or bilinear"),
            ("std", finite and len(mean) == len(std) == self.in_chans, "a positive number for each channel, as mean"),
            ("fit", self.fit in FITS, ", ".join(FITS)),
        ):
            if not good:
                raise UserError(f"preprocessing: {key} is {getattr(self, key)!r}; it must be {rule}")
        if not all(0 <= v <= 1 for v in mean) or max(std) > 1:
            raise UserError(
                f"preprocessing: mean is {mean}, std is {std}; they are of pictures in [0, 1], so no number is "
                "above 1: divide those of pictures in 0 to 255 by 255"
            )

    def _make_plain(self) -> None:
        """Numbers of NumPy and torch become Python's, which a model file can hold; one number is a list of one.

        Raises:
            UserError: something is no number.
        """
        kinds: tuple[tuple[str, Callable[[Any], Any], str], ...] = (
            ("size", _whole, "a number of pixels"), ("in_chans", _whole, "1, 3 or 4"),
            ("crop_ratio", _number, "a number"),
            ("mean", _numbers, "a number for each channel"), ("std", _numbers, "a number for each channel"),
            ("value_range", _two, "two numbers, black and white, the smaller one first"),
        )  # fmt: skip
        for key, plain, rule in kinds:
            value = getattr(self, key)
            try:
                object.__setattr__(self, key, plain(value))
            except (TypeError, ValueError, RuntimeError):
                raise UserError(f"preprocessing: {key} is {value!r}; it must be {rule}") from None

    def to_json(self) -> dict[str, Any]:
        """As it stands in a model file."""
        return {
            "size": self.size, "crop_ratio": self.crop_ratio, "interpolation": self.interpolation,
            "mean": list(self.mean), "std": list(self.std), "in_chans": self.in_chans, "fit": self.fit,
            "value_range": None if self.value_range is None else list(self.value_range),
        }  # fmt: skip

    def view_of(self, height: int, width: int) -> View:
        """Where the pixels of what the network sees come from, for a decoded picture of this size."""
        return central_view(height, width, self.size, self.crop_ratio, self.fit, self.mean)

    def view(self, picture: Picture, name: str = "the picture") -> Tensor:
        """One picture as the network sees it, before normalisation: uint8 (C, size, size).

        Raises:
            PictureError: it cannot be read; `name` is what a picture that is no file is called.
        """
        return self.with_view(picture, name)[0]

    def with_view(self, picture: Picture, name: str = "the picture") -> tuple[Tensor, View]:
        """What `view` gives, and the `View` in it: moves masks and boxes as the picture was moved, and back.

        A large JPEG is decoded at a part of its size, so boxes need the full size, see `View.boxes`.

        Raises:
            PictureError: it cannot be read.
        """
        side = eval_resize(self.size, self.crop_ratio)
        mode = MODES[self.in_chans]
        pixels = from_pixels(
            given_pixels(picture, mode=mode, at_least=side, value_range=self.value_range, name=name)
        )  # (C, H, W)
        view = self.view_of(*pixels.shape[1:])
        return view.picture(pixels, self.interpolation), view

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
