"""The quick way to read a JPEG: straight into an array, by libjpeg-turbo through `simplejpeg`.

It takes what nearly all files are: 8 bits, gray or YCbCr. Everything else, and everything odd, is left to Pillow, whose
verdict on a file counts (`decode.read_pixels`). The pixels are the same.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convnext.data.pictures.orientation import orientation

_START_OF_FRAME = frozenset((0xC0, 0xC1, 0xC2))  # baseline, extended, progressive; all by Huffman codes
_OTHER_FRAMES = frozenset(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN, _APP1, _APP14 = 0xDA, 0xE1, 0xEE
_ALONE = frozenset((0x01, *range(0xD0, 0xD8)))  # markers without a length
_EXIF = b"Exif\x00\x00"
_XMP = b"http://ns.adobe.com/xap/1.0/\x00"


@dataclass(frozen=True)
class Header:
    """What stands before the pixels: size in pixels, 1 or 3 components, orientation (1: upright)."""

    width: int
    height: int
    components: int
    orientation: int


def read_header(data: bytes) -> Header | None:
    """The header of a JPEG that this module can decode; None for any other file."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    frame, exif, xmp = b"", b"", b""
    for marker, body in _segments(data):
        if marker == _START_OF_SCAN:
            return _header(frame, orientation(exif, xmp))
        if marker in _OTHER_FRAMES or (marker in _START_OF_FRAME and frame):
            return None
        if marker in _START_OF_FRAME:
            frame = body
        elif marker == _APP14 and body.startswith(b"Adobe") and body[11:12] != b"\x01":
            return None  # not YCbCr: CMYK, or RGB as it is
        elif marker == _APP1 and body.startswith(_EXIF):
            exif += body[len(_EXIF) :] if exif else body  # a long block is cut into several; of two the first counts
        elif marker == _APP1 and body.startswith(_XMP):
            xmp = body[len(_XMP) :]
    return None


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, content) of what stands before the pixels, up to the start of the scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length


def _header(frame: bytes, orientation: int) -> Header | None:
    """Of 8 bits, and gray or of three colours."""
    if len(frame) < 6 or frame[0] != 8 or frame[5] not in (1, 3):
        return None
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    return Header(width, height, frame[5], orientation) if width and height else None


def unusual_jpeg(data: bytes) -> str:
    """What kind of JPEG it is that common decoders do not read; "" for the common ones."""
    for marker, body in _segments(data):
        if marker == 0xF7:
            return "JPEG-LS"
        if marker in (0xC3, 0xC7, 0xCB, 0xCF):
            return "lossless"
        if marker in (0xC5, 0xC6, 0xCD, 0xCE):
            return "hierarchical"
        if marker in (*_START_OF_FRAME, 0xC9, 0xCA) and len(body) >= 6:
            if body[0] != 8:
                return f"{body[0]} bits a value"
            return "" if body[5] in (1, 3, 4) else f"{body[5]} channels"
    return ""


def keeps_all(data: bytes) -> bool:
    """Whether a decoder keeps all coefficients of a JPEG until it has read the last: progressive, or several scans.

    `data` is its beginning; where that does not tell, it may be so.
    """
    frame = b""
    for marker, body in _segments(data):
        if marker in (0xC0, 0xC1):
            frame = body
        elif marker in _START_OF_FRAME or marker in _OTHER_FRAMES:
            return True
        if marker == _START_OF_SCAN:
            return body[:1] != frame[5:6]
    return True


def read_jpeg(data: bytes, header: Header, factor: int) -> NDArray[np.uint8] | None:
    """The pixels at 1 / factor (1, 2, 4 or 8) of their size, as they are stored: (H, W, 3), or None if it fails.

    A file with any fault, if only a warning of the library, gives None: Pillow is to say what is wrong with it.
    """
    import simplejpeg

    with contextlib.suppress(ValueError):
        found: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "RGB", min_height=math.ceil(header.height / factor), min_width=math.ceil(header.width / factor),
            min_factor=factor, strict=True,
        )  # fmt: skip
        return found
    return None


def factor_for(header: Header, at_least: int | None) -> int:
    """The largest of 1, 2, 4 and 8 by which the size can be divided while both sides keep `at_least` pixels.

    It is Pillow's own rule for drafts, so that both ways of reading a file give the same pixels.
    """
    if at_least is None:
        return 1
    most = min(header.width, header.height) // max(at_least, 1)
    return max((f for f in (1, 2, 4, 8) if f <= most), default=1)
