"""TIFF: kinds that Pillow garbles or does not know are read as they were written, or refused by their name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.data.pictures.decode import read_picture, read_pixels
from convnext.data.pictures.tiff import read_layout
from convnext.data.pictures.tiff_pixels import tiff_numbers
from convnext.errors import PictureError

FORMATS = {"u": 1, "i": 2, "f": 3}


def tiff(
    values: np.ndarray,
    *,
    photometric: int | None = None,
    planar: bool = False,
    extra: tuple[int, ...] = (),
    compression: int = 1,
    predictor: int = 1,
    order: str = "<",
    big: bool = False,
    rows: int | None = None,
    tile: int = 0,
    more: dict[int, tuple[int, ...]] | None = None,
) -> bytes:
    """A TIFF written by hand: values (H, W) or (H, W, C) of any type, in strips or square tiles."""
    values = values[..., None] if values.ndim == 2 else values
    height, width, channels = values.shape
    kind = values.dtype
    blocks = []
    for plane in np.moveaxis(values, 2, 0)[..., None] if planar else values[None]:
        step = tile or rows or height
        for top in range(0, height, step):
            for left in range(0, width, tile or width):
                part = plane[top : top + step, left : left + (tile or width)]
                if tile:
                    part = np.pad(part, ((0, tile - part.shape[0]), (0, tile - part.shape[1]), (0, 0)))
                if predictor == 2:
                    whole = part.view(f"u{kind.itemsize}")
                    part = np.diff(whole, axis=1, prepend=np.zeros_like(whole[:, :1])).astype(whole.dtype)
                data = part.astype(part.dtype.newbyteorder(order)).tobytes()
                blocks.append(zlib.compress(data) if compression == 8 else data)
    if photometric is None:
        photometric = 2 if channels >= 3 else 1
    tags: dict[int, tuple[int, ...]] = {
        256: (width,), 257: (height,), 258: (kind.itemsize * 8,) * channels, 259: (compression,), 262: (photometric,),
        277: (channels,), 284: (2 if planar else 1,), 317: (predictor,), 339: (FORMATS[kind.kind],) * channels,
    }  # fmt: skip
    if extra:
        tags[338] = extra
    if tile:
        tags |= {322: (tile,), 323: (tile,)}
    else:
        tags[278] = (rows or height,)
    start = 16 if big else 8
    offsets, at = [], start
    for block in blocks:
        offsets.append(at)
        at += len(block)
    tags |= {324 if tile else 273: tuple(offsets), 325 if tile else 279: tuple(len(b) for b in blocks)}
    tags |= more or {}
    return head(order, big, at) + b"".join(blocks) + directory(tags, order, big, at)


def head(order: str, big: bool, at: int) -> bytes:
    mark = b"II" if order == "<" else b"MM"
    return mark + (struct.pack(order + "HHHQ", 43, 8, 0, at) if big else struct.pack(order + "HI", 42, at))


def directory(tags: dict[int, tuple[int, ...]], order: str, big: bool, at: int) -> bytes:
    """The directory of tags, all of 32 bits, that begins at byte `at`, and what does not fit into it."""
    word, room = ("Q", 8) if big else ("I", 4)
    size = (20 if big else 12) * len(tags) + (8 if big else 2) + room
    table = struct.pack(order + ("Q" if big else "H"), len(tags))
    outside = b""
    for tag, values in sorted(tags.items()):
        data = struct.pack(f"{order}{len(values)}I", *values)
        if len(data) > room:
            data, outside = struct.pack(order + word, at + size + len(outside)), outside + data
        table += struct.pack(order + "HH" + word, tag, 4, len(values)) + data.ljust(room, b"\0")
    return table + bytes(room) + outside


def noise(kind: str, channels: int, height: int = 21, width: int = 34) -> np.ndarray:
    """Values over the whole range of a type; floats from 0 to 1."""
    rng, dtype = np.random.default_rng(0), np.dtype(kind)
    shape = (height, width, channels) if channels > 1 else (height, width)
    if dtype.kind == "f":
        return rng.random(shape).astype(dtype)
    about = np.iinfo(dtype)
    return rng.integers(about.min, about.max, shape, dtype=dtype, endpoint=True)


def numbers(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        layout = read_layout(file)
        assert layout is not None
        return tiff_numbers(file, layout).values


@pytest.mark.parametrize("how", [{}, {"planar": True}, {"planar": True, "rows": 4}, {"tile": 16}, {"big": True}])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packing", [{}, {"compression": 8}, {"compression": 8, "predictor": 2}])
@pytest.mark.parametrize("kind", ["u2", "i2", "u4", "f2", "f4", "f8"])
def test_values_are_those_that_were_written(
    tmp_path: Path, kind: str, packing: dict[str, int], order: str, how: dict[str, int]
) -> None:
    """RGB of every type, in strips and tiles, planes, both byte orders, BigTIFF, packed with and without predictor."""
    written = noise(kind, 3)
    (tmp_path / "x.tif").write_bytes(tiff(written, order=order, **packing, **how))
    np.testing.assert_array_equal(numbers(tmp_path / "x.tif"), written)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd", None])
@pytest.mark.parametrize("predictor", [1, 2, 3])
def test_values_are_those_that_libtiff_packed(tmp_path: Path, compression: str | None, predictor: int) -> None:
    """Floats that libtiff compressed, with the predictors that it has, of one channel."""
    written = noise("f4", 1, 70, 90)
    if compression in (None, "packbits") and predictor != 1:
        pytest.skip("these have no predictor")
    Image.fromarray(written).save(tmp_path / "x.tif", compression=compression, tiffinfo={317: predictor})
    np.testing.assert_array_equal(numbers(tmp_path / "x.tif"), written)


def test_sixteen_bits_in_planes_are_not_garbled(tmp_path: Path) -> None:
    """Value / 257, to the nearest, in each of three planes of 16 bits; and of 8 bits the values themselves."""
    written = noise("u2", 3)
    (tmp_path / "x.tif").write_bytes(tiff(written, planar=True))
    np.testing.assert_array_equal(read_pixels(tmp_path / "x.tif"), np.rint(written / 257).astype(np.uint8))
    plain = noise("u1", 3)
    (tmp_path / "y.tif").write_bytes(tiff(plain, planar=True, rows=5))
    np.testing.assert_array_equal(read_pixels(tmp_path / "y.tif"), plain)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_packed_bits_have_their_own_range(tmp_path: Path, bits: int) -> None:
    """Gray and RGB of 10, 12 and 14 bits: all ones are white."""
    for channels in (1, 3):
        values = np.random.default_rng(bits).integers(0, 2**bits, (5, 7, channels))
        values[0, 0] = 2**bits - 1
        rows = [
            np.packbits(np.array([[v >> (bits - 1 - b) & 1 for b in range(bits)] for v in row.reshape(-1)]).reshape(-1))
            for row in values
        ]
        at = 8 + sum(len(row) for row in rows)
        tags = {
            256: (7,), 257: (5,), 258: (bits,) * channels, 259: (1,), 262: (2 if channels == 3 else 1,), 273: (8,),
            277: (channels,), 278: (5,), 279: (at - 8,),
        }  # fmt: skip
        body = b"".join(row.tobytes() for row in rows)
        (tmp_path / "x.tif").write_bytes(head("<", False, at) + body + directory(tags, "<", False, at))
        expected = np.rint(values * (255 / (2**bits - 1))).astype(np.uint8)
        np.testing.assert_array_equal(read_pixels(tmp_path / "x.tif"), np.broadcast_to(expected, (5, 7, 3)))


@pytest.mark.parametrize("kind", ["u2", "f4"])
@pytest.mark.parametrize("extra", [1, 2])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_of_any_depth_lies_on_white(tmp_path: Path, kind: str, extra: int, channels: int) -> None:
    """Colours beside alpha, and multiplied by it: v * a + 255 * (1 - a), and in RGBA the plain colours."""
    white = 1.0 if kind == "f4" else 65535.0
    values = np.zeros((1, 3, channels), kind)
    values[..., :-1] = 64 / 255 * white
    values[..., -1] = np.array([0, 0.5, 1]) * white
    if extra == 1:
        values[..., :-1] = values[..., :-1] * np.array([0, 0.5, 1])[:, None]
    (tmp_path / "x.tif").write_bytes(tiff(values, extra=(extra,), photometric=2 if channels == 4 else 1))
    found = np.asarray(read_picture(tmp_path / "x.tif", value_range=(0.0, 1.0) if kind == "f4" else None)).astype(int)
    np.testing.assert_allclose(found[0, :, 0], [255, 159.5, 64], atol=1.5)
    given = read_picture(tmp_path / "x.tif", mode="RGBA", value_range=(0.0, 1.0) if kind == "f4" else None)
    np.testing.assert_allclose(np.asarray(given)[0, 1:].astype(int), [[64, 64, 64, 128], [64, 64, 64, 255]], atol=1)


def test_a_fourth_channel_that_is_padding_is_dropped_and_one_that_is_not_is_refused(tmp_path: Path) -> None:
    """RGB and near infrared with the fourth channel "not said": not silently three colours."""
    written = noise("u1", 4)
    (tmp_path / "x.tif").write_bytes(tiff(written, extra=(0,)))
    with pytest.raises(PictureError, match="a channel beside its colours that is not said to be alpha"):
        read_pixels(tmp_path / "x.tif")
    written[..., 3] = 7
    (tmp_path / "x.tif").write_bytes(tiff(written, extra=(0,)))
    np.testing.assert_array_equal(read_pixels(tmp_path / "x.tif"), written[..., :3])


UNKNOWN = {
    "5 channels": tiff(noise("u1", 5), extra=(0, 0)),
    "2 channels that are not said": tiff(noise("u2", 2)),
    "3 channels that are not said": tiff(noise("u2", 3), photometric=1),
    "compression 34712 .JPEG 2000": tiff(noise("u1", 3), compression=34712),
    "compression 1234": tiff(noise("u1", 3), compression=1234),
    "complex numbers": tiff(noise("f4", 1), more={339: (6,)}),
    "24-bit floats": tiff(noise("f4", 1), more={258: (24,)}),
    "channels of 5, 6, 5 bits": tiff(noise("u1", 3), more={258: (5, 6, 5)}),
    "the raw pattern of a camera": tiff(noise("u2", 1), photometric=32803),
    "LogLuv": tiff(noise("u2", 3), photometric=32845),
    "the raw file of a camera": tiff(noise("u1", 3), more={50706: (1,)}),
    "YCbCr with fewer values of colour": tiff(noise("u1", 3), photometric=6, more={279: (21 * 34 * 2,)}),
    "colours of kind 8 in 16, 16, 16 bits": tiff(noise("u2", 3), photometric=8),
    "JPEG as of TIFF 6.0": tiff(noise("u1", 3), photometric=6, compression=6),
    "a small preview": tiff(noise("u1", 3), more={254: (1,), 330: (8,)}),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_kinds_that_cannot_be_read_are_called_by_their_name(tmp_path: Path, kind: str) -> None:
    """They are whole: not "damaged or cut off"."""
    (tmp_path / "x.tif").write_bytes(UNKNOWN[kind])
    with pytest.raises(PictureError, match=f"a TIFF of a kind that is not read here: .*{kind}") as caught:
        read_picture(tmp_path / "x.tif")
    assert "damaged" not in str(caught.value)
    assert "cut off" not in str(caught.value)


@pytest.mark.parametrize("how", [{"planar": True}, {"compression": 8}, {"tile": 16}])
def test_what_is_cut_off_is_called_that(tmp_path: Path, how: dict[str, int]) -> None:
    """A file of these kinds whose blocks, or whose directory, lie beyond its end is damaged."""
    whole = tiff(noise("u2", 3), **how)
    beyond = tiff(noise("u2", 3), more={273: (10**6,) * 3})
    for data in (whole[: len(whole) // 2], whole[:-200], beyond):
        (tmp_path / "x.tif").write_bytes(data)
        with pytest.raises(PictureError, match=r"cut off|damaged"):
            read_picture(tmp_path / "x.tif")
