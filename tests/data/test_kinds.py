"""Files that are whole, of kinds that nothing here reads: called by their name, not "damaged or cut off"."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from convnext.data.pictures.decode import pixels_of
from convnext.errors import PictureError


def jpeg(marker: int, bits: int = 8, channels: int = 3) -> bytes:
    """A JPEG whose frame header is of another kind."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "JPEG")
    data = bytearray(out.getvalue())
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4], data[at + 9] = marker, bits, channels
    return bytes(data)


def bmp(bits: int, compression: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, bits, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 200, 0, 0, 54) + head + bytes(200)


KINDS = {
    "a JPEG of a kind that is not read here: lossless": jpeg(0xC3),
    "a JPEG of a kind that is not read here: JPEG-LS": jpeg(0xF7),
    "a JPEG of a kind that is not read here: hierarchical": jpeg(0xC5),
    "a JPEG of a kind that is not read here: 12 bits a value": jpeg(0xC1, bits=12),
    "a JPEG of a kind that is not read here: 2 channels": jpeg(0xC0, channels=2),
    "of a kind that is not read here .Unsupported BMP compression": bmp(24, 5),
    "of a kind that is not read here .Unsupported BMP pixel depth": bmp(64, 0),
    "a JPEG XL file": b"\xff\x0a" + bytes(99),
    "a JPEG XL file, which": b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(99),
    "a Photoshop file": b"8BPS\0\1" + bytes(99),
    "a PDF document": b"%PDF-1.7\n" + bytes(99),
    "a DICOM file": bytes(128) + b"DICM" + bytes(99),
    "a video file": b"\0\0\0\x18ftypisom" + bytes(99),
    "a camera raw .CR3. file": b"\0\0\0\x18ftypcrx " + bytes(99),
    "a camera raw .CR2. file": b"II*\0\x10\0\0\0CR\2\0" + bytes(99),
    "an SVG drawing": b'<svg width="9">',
    "Apple's own form for phones": b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI" + bytes(99),
    "an OpenEXR file": b"v/1\x01" + bytes(99),
    "an icon .ICO. file": b"\0\0\1\0\1\0" + bytes(99),
    "a zip archive": b"PK\3\4" + bytes(99),
}


@pytest.mark.parametrize("said", KINDS)
def test_a_kind_that_is_not_read_is_called_that(said: str) -> None:
    """The name and what to do; no word of damage."""
    with pytest.raises(PictureError, match=said) as caught:
        pixels_of(KINDS[said])
    assert "damaged" not in str(caught.value)
    assert "cut off" not in str(caught.value)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_what_is_cut_off_is_still_called_that(format: str, share: float) -> None:
    """The common kinds of every format, ended early."""
    out = io.BytesIO()
    Image.effect_noise((90, 90), 80).convert("RGB").save(out, format)
    with pytest.raises(PictureError, match=r"cut off|damaged"):
        pixels_of(out.getvalue()[: int(share * out.tell())])
