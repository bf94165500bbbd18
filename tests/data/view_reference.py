"""What a view shows, in float64 and NumPy: slow, and apart from the package's own way."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from convnext.data.feed.view import View

Pixels = NDArray[np.float64]


def shown(view: View, pixels: NDArray[np.uint8], interpolation: str) -> Pixels:
    """Pixels (H, W, C) -> (size, size, C), levels that are not rounded in the last step alone."""
    height, width, channels = pixels.shape
    x0, y0, x1, y1 = (round(share * n) for share, n in zip(view.box, (width, height) * 2, strict=True))
    colour = np.array([round(255 * m) for m in view.border] or [0] * channels, dtype=np.float64)
    if view.rotation:
        picture = pixels.astype(np.float64)
        if view.border:
            side = max(height, width)
            top, left = (side - height) // 2, (side - width) // 2
            picture = np.tile(colour, (side, side, 1))
            picture[top : top + height, left : left + width] = pixels
            x0, x1, y0, y1 = x0 + left, x1 + left, y0 + top, y1 + top
        out = rotated(picture, (x0, y0, x1, y1), view.rotation, view.size, interpolation)
    else:
        left, top, right, bottom = view.place
        part = resized(pixels[y0:y1, x0:x1].astype(np.float64), bottom - top, right - left, interpolation)
        out = np.tile(colour, (view.size, view.size, 1))
        rows, columns = (np.arange(max(a, 0), min(b, view.size)) for a, b in ((top, bottom), (left, right)))
        out[np.ix_(rows, columns)] = part[np.ix_(rows - top, columns - left)]
    out = out[:, ::-1] if view.mirror else out
    out = out[::-1] if view.upside_down else out
    return np.rot90(out, view.quarter_turns)


def rotated(picture: Pixels, box: tuple[int, int, int, int], degrees: float, size: int, interpolation: str) -> Pixels:
    """The box's frame turned about its middle over the picture, which goes on mirrored: reduced first, then sampled."""
    x0, y0, x1, y1 = box
    height, width = y1 - y0, x1 - x0
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    down = max(0, math.ceil((abs(cos) * height + abs(sin) * width - height) / 2)) + 1
    right = max(0, math.ceil((abs(cos) * width + abs(sin) * height - width) / 2)) + 1
    far = max(*picture.shape[:2], height, width) + down + right  # enough on every side
    endless = np.pad(picture, ((far, far), (far, far), (0, 0)), mode="reflect")
    around = endless[far + y0 - down : far + y1 + down, far + x0 - right : far + x1 + right]
    tall, wide = round(size * (height + 2 * down) / height), round(size * (width + 2 * right) / width)
    around = np.round(resized(around, tall, wide, interpolation))
    along, across = np.meshgrid(*(((np.arange(size) + 0.5) / size - 0.5) * n for n in (height, width)), indexing="ij")
    x = (cos * across - sin * along) / (width + 2 * right) + 0.5
    y = (sin * across + cos * along) / (height + 2 * down) + 0.5
    return sampled(around, y * tall - 0.5, x * wide - 0.5, interpolation).clip(0, 255)


def sampled(picture: Pixels, y: Pixels, x: Pixels, interpolation: str) -> Pixels:
    """The colours (N, N, C) at places, by two or four taps a side; taps beyond an edge take the edge."""
    radius = 2 if interpolation == "bicubic" else 1
    total = np.zeros((*y.shape, picture.shape[2]))
    for down in range(1 - radius, radius + 1):
        for right in range(1 - radius, radius + 1):
            row, column = np.floor(y) + down, np.floor(x) + right
            weight = kernel(row - y, interpolation, -0.75) * kernel(column - x, interpolation, -0.75)
            rows, columns = row.clip(0, len(picture) - 1), column.clip(0, picture.shape[1] - 1)
            total += weight[..., None] * picture[rows.astype(int), columns.astype(int)]
    return total


def resized(picture: Pixels, height: int, width: int, interpolation: str) -> Pixels:
    """With antialiasing, as Pillow does it: the width first, rounded to levels, then the height."""
    across = np.round(np.einsum("ow,hwc->hoc", weights(picture.shape[1], width, interpolation), picture)).clip(0, 255)
    along: Pixels = np.einsum("oh,hwc->owc", weights(picture.shape[0], height, interpolation), across).clip(0, 255)
    return along


def weights(have: int, want: int, interpolation: str) -> Pixels:
    """The filter, stretched where it reduces, over the pixels around each middle: (want, have), rows of sum 1."""
    step = have / want
    stretch = max(step, 1.0)
    reach = (2 if interpolation == "bicubic" else 1) * stretch
    found = np.zeros((want, have))
    for place in range(want):
        middle = (place + 0.5) * step
        taps = np.arange(max(0, int(middle - reach + 0.5)), min(have, int(middle + reach + 0.5)))
        found[place, taps] = kernel((taps + 0.5 - middle) / stretch, interpolation, -0.5)
    normal: Pixels = found / found.sum(1, keepdims=True)
    return normal


def kernel(x: Pixels, interpolation: str, a: float) -> Pixels:
    """The triangle, or Keys' cubic with the parameter `a`."""
    x = np.abs(x)
    if interpolation == "bilinear":
        return np.maximum(0.0, 1 - x)
    near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
