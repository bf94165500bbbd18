"""All 16 bits of a PNG in colour, of which Pillow keeps the upper eight."""

from __future__ import annotations

from typing import IO

import numpy as np
from PIL import Image, PngImagePlugin

from convnext.data.pictures.levels import NoRange, Numbers

_LOWER = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}
"""How Pillow unpacks the upper byte of each value, and how it would in the other order: that gives the lower one."""
_FULL = 65535.0


def png_numbers(image: Image.Image, file: IO[bytes] | None, ranged: bool, must: bool = True) -> Numbers | None:
    """The pixels of a PNG of 16 bits in colour where they are needed: for a range of its own or a transparent colour.

    Args:
        image: opened, not loaded.
        file: what it was opened from; None where only Pillow knows.
        ranged: whether a range is asked for.
        must: they are needed; otherwise the upper bytes serve where they cannot be had.

    Returns:
        None for any other picture, and where the upper bytes are enough.

    Raises:
        NoRange: they are needed and cannot be had.
    """
    if not isinstance(image, PngImagePlugin.PngImageFile) or not image.tile:
        return None
    stored = str(image.tile[0].args)
    clear = image.info.get("transparency") if image.mode == "RGB" else None
    if not stored.endswith(";16B") or stored == "I;16B" or (clear is None and not ranged):
        return None
    if (stored not in _LOWER or file is None) and not (must or clear):
        return None
    if stored not in _LOWER or file is None:
        what = "gray and alpha" if stored not in _LOWER else "colour that is open already"
        raise NoRange(
            f"a PNG of 16 bits in {what}: only its upper 8 bits can be had; store it as TIFF or give its file"
        )
    lower = _half(file, _LOWER[stored])
    upper = _half(file, stored)
    values = upper.astype(np.uint16) << 8 | lower
    colours, alpha = values[..., :3], upper[..., 3] if values.shape[2] == 4 else None
    if isinstance(clear, tuple):
        alpha = np.where((colours == np.array(clear, np.uint16)).all(2), 0, 255).astype(np.uint8)
    return Numbers(colours, "16-bit", _FULL, alpha=alpha)


def _half(file: IO[bytes], unpacked: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """One byte of each value, (H, W, C)."""
    file.seek(0)
    with Image.open(file, formats=("PNG",)) as image:
        image.tile = [tile._replace(args=unpacked) for tile in image.tile]
        return np.asarray(image)
