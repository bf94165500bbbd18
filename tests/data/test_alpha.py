"""Transparency that other readers miss, or see where there is none."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.data.pictures.decode import pixels_of, read_picture, read_pixels


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, rows: list[bytes], bits: int, colour: int, *extra: bytes, interlace: int = 0) -> bytes:
    """A PNG written by hand: rows as they are stored, and chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, interlace)
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(extra) + data + chunk(b"IEND", b"")


def bmp(pixels: np.ndarray, masks: bool) -> bytes:
    """A BMP of 32 bits (H, W, BGRA), bottom row first, whose header names a mask for alpha, or does not."""
    height, width = pixels.shape[:2]
    size = 124 if masks else 40
    info = struct.pack("<IiiHHIIiiII", size, width, height, 1, 32, 3 if masks else 0, 0, 0, 0, 0, 0)
    if masks:
        info += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    data = pixels[::-1].astype(np.uint8).tobytes()
    info = info.ljust(size, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + size + len(data), 0, 0, 14 + size) + info + data


@pytest.mark.parametrize("masks", [False, True])
def test_a_bmp_whose_alpha_is_zero_everywhere_is_opaque(masks: bool) -> None:
    """The fourth byte is reserved and mostly zero: the colours show; where any of it is set it is alpha."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 4))
    pixels[..., 3] = 0
    expected = pixels[..., 2::-1]
    np.testing.assert_array_equal(pixels_of(bmp(pixels, masks)), expected)
    np.testing.assert_array_equal(pixels_of(bmp(pixels, masks), mode="RGBA")[..., :3], expected)
    assert (pixels_of(bmp(pixels, masks), mode="RGBA")[..., 3] == 255).all()
    pixels[0, 0, 3] = 255
    found = pixels_of(bmp(pixels, masks))
    np.testing.assert_array_equal(found[0, 0], expected[0, 0])
    if masks:
        assert (found[1:] == 255).all()


def test_a_transparent_level_of_sixteen_bit_gray() -> None:
    """Exactly that level of 65,536 shows white; its neighbours, which look the same in 8 bits, stay."""
    levels = [1233, 1234, 1235, 40000]
    data = png(4, [struct.pack(">4H", *levels)], 16, 0, chunk(b"tRNS", struct.pack(">H", 1234)))
    assert pixels_of(data, mode="L")[0, :, 0].tolist() == [5, 255, 5, 156]
    assert pixels_of(data, mode="RGBA")[0, :, 3].tolist() == [255, 0, 255, 255]


def test_a_transparent_colour_of_sixteen_bits() -> None:
    """The same in colour: all 16 bits of all three count."""
    colours = [(1000, 2000, 3000), (1001, 2000, 3000), (1000, 2000, 2999), (65535, 0, 0)]
    row = b"".join(struct.pack(">3H", *colour) for colour in colours)
    data = png(4, [row], 16, 2, chunk(b"tRNS", struct.pack(">3H", 1000, 2000, 3000)))
    assert pixels_of(data, mode="RGBA")[0, :, 3].tolist() == [0, 255, 255, 255]
    assert pixels_of(data)[0].tolist() == [[255, 255, 255], [4, 8, 12], [4, 8, 12], [255, 0, 0]]


@pytest.mark.parametrize(("bits", "level", "packed"), [(1, 1, 0b01000000), (2, 1, 0b00011011), (4, 3, 0x03), (8, 3, 3)])
def test_a_transparent_level_of_few_bits(bits: int, level: int, packed: int) -> None:
    """Gray of 1, 2, 4 and 8 bits: the level is given in the file's own steps."""
    width = min(4, 8 // bits)
    data = png(width, [bytes([packed])], bits, 0, chunk(b"tRNS", struct.pack(">H", level)))
    stored = [packed >> (8 - bits * (i + 1)) & (2**bits - 1) for i in range(width)]
    expected = [255 if value == level else value * 255 // (2**bits - 1) for value in stored]
    assert level in stored
    assert pixels_of(data, mode="L")[0, :, 0].tolist() == expected
    assert pixels_of(data, mode="RGBA")[0, :, 3].tolist() == [0 if value == level else 255 for value in stored]


def test_a_palette_with_several_alphas() -> None:
    """Each entry has its own: v * a + 255 * (1 - a); entries beyond the list are opaque."""
    palette = chunk(b"PLTE", bytes([200, 0, 0, 0, 200, 0, 0, 0, 200]))
    data = png(3, [bytes([0, 1, 2])], 8, 3, palette, chunk(b"tRNS", bytes([0, 128])))
    found = pixels_of(data)[0].astype(int)
    np.testing.assert_allclose(found, [[255, 255, 255], [127, 227, 127], [0, 0, 200]], atol=1)
    assert pixels_of(data, mode="RGBA")[0, :, 3].tolist() == [0, 128, 255]


@pytest.mark.parametrize("mode", ["LA", "PA", "La", "RGBa"])
def test_pillows_own_modes_with_alpha(mode: str) -> None:
    """Half-transparent gray lies on white, whether alpha is multiplied into it or not; the picture stays as it is."""
    plain = Image.new("RGBA", (3, 2), (100, 100, 100, 128))
    picture = plain.convert("LA").convert(mode) if mode in ("LA", "La") else plain.convert(mode)
    before = picture.tobytes()
    np.testing.assert_allclose(pixels_of(picture).astype(int), 100 * 128 / 255 + 127, atol=1.5)
    assert picture.mode == mode
    assert picture.tobytes() == before


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_inks_are_not_inverted(tmp_path: Path, suffix: str) -> None:
    """No cyan and full magenta and yellow are red, in a JPEG as Adobe writes it and in a TIFF."""
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / f"x{suffix}")
    for mode in ("RGB", "RGBA"):
        found = np.asarray(read_picture(tmp_path / f"x{suffix}", mode=mode)).astype(int)[8, 8, :3]
        np.testing.assert_allclose(found, [255, 0, 0], atol=6)
    assert read_pixels(tmp_path / f"x{suffix}", mode="L").mean() == pytest.approx(0.299 * 255, abs=4)
