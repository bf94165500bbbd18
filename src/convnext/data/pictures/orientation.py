"""Which way up a picture is: one rule for every reader, and how its pixels are turned.

A file's first EXIF block says it. Where there is none, where it is damaged, or where its number means nothing, XMP
(`tiff:Orientation`) does; else the picture is upright. AVIF and HEIF say it in the container, and their decoders
have seen to it.
"""

from __future__ import annotations

import re
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

_Kind = TypeVar("_Kind", bound=np.generic)
_TAG = 0x0112  # of EXIF, and of TIFF
_IN_XMP = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])\s*["'<]""")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(exif: bytes, xmp: bytes) -> int:
    """The number 1 (upright) to 8 of a file whose EXIF and XMP blocks these are; either may be empty."""
    if exif:
        try:
            block = Image.Exif()
            block.load(exif)
            found = _valid(block.get(_TAG))
        except Exception:  # a damaged block raises anything; the pixels are fine
            found = 0
        if found:
            return found
    return _of_xmp(xmp)


def orientation_of(image: Image.Image) -> int:
    """The same of a picture that Pillow has opened: how its pixels, once loaded, have still to be turned.

    Pillow turns a TIFF by itself while it loads; ask before that.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        wanted = tiff_turning(image)
        try:
            by_pillow = _valid(image.getexif().get(_TAG)) or 1
        except Exception:  # a damaged tag
            by_pillow = 1
        return 1 if by_pillow == wanted else wanted
    xmp = b"" if image.format == "AVIF" else _xmp(image)
    return orientation(_exif(image), xmp)


def orientation_in_tiff(tag: int, xmp: bytes) -> int:
    """The same of a TIFF whose tag 274 and XMP block these are."""
    return _valid(tag) or _of_xmp(xmp)


def tiff_turning(image: TiffImagePlugin.TiffImageFile) -> int:
    """The same of a TIFF that Pillow has opened and not loaded, as it is stored."""
    return orientation_in_tiff(image.tag_v2.get(_TAG, 0), _xmp(image))


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """A picture made upright."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def turned(pixels: NDArray[_Kind], orientation: int) -> NDArray[_Kind]:
    """Stored pixels, (H, W) or (H, W, C), made upright."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def on_side(orientation: int) -> bool:
    """Whether width and height change places."""
    return orientation >= 5


def _valid(value: object) -> int:
    """The number where it means something, else 0."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 0


def _of_xmp(xmp: bytes) -> int:
    found = _IN_XMP.search(xmp)
    return int(found[1]) if found else 1


def _exif(image: Image.Image) -> bytes:
    exif = image.info.get("exif")
    if isinstance(exif, bytes):
        return exif
    raw = image.info.get("Raw profile type exif")  # PNG as ImageMagick writes it
    try:
        return bytes.fromhex("".join(raw.split("\n")[3:])) if isinstance(raw, str) else b""
    except ValueError:
        return b""


def _xmp(image: Image.Image) -> bytes:
    for key in ("XML:com.adobe.xmp", "xmp"):
        found = image.info.get(key)
        if isinstance(found, str):
            return found.encode("utf-8", "replace")
        if isinstance(found, bytes):
            return found
    return b""
