"""Pixels of more than 8 bits: which of their values are black and which are white.

Unsigned integers of up to 16 bits have a range by their format: 0 to 65535, and 0 to 4095 in a TIFF of 12 bits. Signed
integers, those of 32 bits and floats have none. What stands for black and white in them is one setting for a whole data
set, `data.value_range`, which the model file keeps; a picture alone cannot tell, so it is refused without one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.data.names import figure
from convnext.data.pictures.orientation import turned

Range = tuple[float, float]
"""The values that are black and white; what lies beyond them is cut."""

RANGES: tuple[Range, ...] = ((0.0, 1.0), (0.0, 255.0), (0.0, 65535.0))
"""The usual ranges of floats, of which the smallest that holds a whole data set is taken for it."""

_BLOCK = 1 << 20  # values that are scaled at a time


class Refused(ValueError):
    """A picture that is whole, and of a kind that cannot be read right; the message says so without its path."""


class NoRange(Refused):
    """Values whose range is not known, or is another one."""


@dataclass(frozen=True)
class Values:
    """What the pixels of a picture are.

    Attributes:
        kind: "" for 8 bits or fewer, else such as "16-bit" or "32-bit float".
        low: the smallest value, as stored; NaN and infinity do not count.
        high: the largest.
        full: what is white by the format; 0 where it does not say.
    """

    kind: str = ""
    low: float = 0.0
    high: float = 0.0
    full: float = 255.0


@dataclass(frozen=True)
class Numbers:
    """Pixels as they are stored.

    Attributes:
        values: (H, W) gray, or (H, W, 3).
        kind: as in `Values`.
        full: what is white by the format; 0 where it does not say.
        inverted: the smallest value is white.
        alpha: (H, W), 255 opaque, or None.
    """

    values: NDArray[Any]
    kind: str
    full: float = 0.0
    inverted: bool = False
    alpha: NDArray[np.uint8] | None = field(default=None)

    def turned(self, orientation: int) -> Numbers:
        """The same made upright."""
        alpha = None if self.alpha is None else turned(self.alpha, orientation)
        return replace(self, values=turned(self.values, orientation), alpha=alpha)

    def summary(self) -> Values:
        """Kind and range of the values that are in it; 0 to 0 where none is a number."""
        values = self.values
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        return Values(self.kind, low, high, self.full)


def to_picture(numbers: Numbers, value_range: Range | None) -> Image.Image:
    """The picture in 8 bits: "L" or "RGB", with "A" where it has alpha.

    Args:
        numbers: the pixels.
        value_range: what is black and white; None takes what the format says.

    Raises:
        NoRange: the format does not say, or the values are plainly of another scale.
    """
    found = numbers.summary()
    if value_range is None and not numbers.full:
        raise NoRange(
            f"{found.kind} values, here {figure(found.low)} to {figure(found.high)}, have no fixed range: which of "
            "them are black and white is data.value_range = [black, white], set for training and kept in the model file"
        )
    if value_range is not None:
        _refuse_scale(numbers.values, found, value_range)
    black, white = value_range or (0.0, numbers.full)
    scaled = scale(numbers.values, black, white)
    if numbers.inverted:
        scaled = 255 - scaled
    picture = Image.fromarray(scaled)
    if numbers.alpha is not None:
        picture.putalpha(Image.fromarray(numbers.alpha))
    return picture


def own_range(found: Values) -> Range:
    """What serves to look at a picture by itself: the format's range, else the smallest usual one, else its own."""
    if found.full:
        return 0.0, found.full
    return range_of(found.low, found.high)


def range_of(low: float, high: float) -> Range:
    """The smallest usual range that holds values from `low` to `high`, else these themselves."""
    return next((r for r in RANGES if low >= 0 and high <= r[1]), (low, high))


def _refuse_scale(values: NDArray[Any], found: Values, value_range: Range) -> None:
    """Values that are all black or white within the range because they were stored on another scale."""
    black, white = value_range
    integers = found.full > 255
    if integers and white <= 255 and white - black <= 255 and found.high > 2 * white and found.high > 255:
        scale = "data.value_range is meant for values on another scale"
    elif not integers and value_range in RANGES and found.high > 2 * white and (values > 2 * white).mean() > 0.5:
        scale = "data.value_range is meant for values on another scale, and nearly all is white"
    elif not integers and white - black >= 255 and black <= 0 < found.high <= 1 and found.low >= 0:
        scale = "data.value_range is meant for values on another scale, or nearly all is black"
    else:
        return
    raise NoRange(
        f"{found.kind} values of {figure(found.low)} to {figure(found.high)} in a range of {figure(black)} to "
        f"{figure(white)}: {scale}; bring all pictures to one"
    )


def scale(values: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    """0 for `black` and below, and for what is no number, to 255 for `white` and above; to the nearest."""
    factor = 255.0 / (white - black) if white > black else 0.0
    if values.dtype == np.uint16:
        table = np.clip(np.rint((np.arange(65536) - black) * factor), 0, 255).astype(np.uint8)
        return cast("NDArray[np.uint8]", table[values])
    out = np.empty(values.shape, np.uint8)
    rows = max(1, _BLOCK // max(1, values[:1].size))
    for top in range(0, len(values), rows):
        block = np.nan_to_num(values[top : top + rows].astype(np.float64), nan=black, posinf=white, neginf=black)
        out[top : top + rows] = np.clip(np.rint((np.clip(block, black, white) - black) * factor), 0, 255)
    return out


def gray_numbers(image: Image.Image) -> Numbers | None:
    """The pixels of a gray picture of more than 8 bits that Pillow has loaded; None for any other."""
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16)
        bits = tags.get(258, (16,))  # BitsPerSample
        bits = bits[0] if isinstance(bits, tuple) else bits
        clear = image.info.get("transparency")
        alpha = np.where(values == clear, 0, 255).astype(np.uint8) if isinstance(clear, int) else None
        return Numbers(values, f"{bits}-bit", 2.0**bits - 1, tags.get(262) == 0, alpha)
    if image.mode == "I":
        if image.format in ("PPM", "PNG", "JPEG2000"):  # in 32 bits only here
            return Numbers(np.asarray(image), "16-bit", 65535.0)
        return Numbers(np.asarray(image), "32-bit integer", inverted=tags.get(262) == 0)
    if image.mode == "F":
        return Numbers(np.asarray(image), "32-bit float", inverted=tags.get(262) == 0)
    return None
