"""The pixels of a TIFF whose layout is known: blocks are decompressed, predictors undone, channels put together."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.data.pictures.levels import Numbers, Refused, scale
from convnext.data.pictures.tiff import Layout


def tiff_numbers(file: IO[bytes], layout: Layout) -> Numbers:
    """The pixels as they are stored, not turned.

    Raises:
        Refused: a channel that is neither colour nor alpha.
        OSError: the file is cut off or damaged.
    """
    values = _values(file, layout)
    full = 2.0**layout.bits - 1 if layout.kind == "u" and layout.bits <= 16 else 0.0
    colours = 3 if layout.photometric == 2 else 1
    alpha, rest = None, values[..., colours:]
    if layout.alpha == 3 and rest.size and (rest != rest.flat[0]).any():
        raise Refused(
            "a TIFF of a kind that is not read here: a channel beside its colours that is not said to be alpha; "
            "export it without, or as alpha"
        )
    values = values[..., :colours]
    if layout.alpha in (1, 2):
        white = full or (float(np.iinfo(rest.dtype).max) if rest.dtype.kind in "iu" else 1.0)
        alpha = scale(rest[..., 0], 0.0, white)
        if layout.alpha == 1:
            values = _divided(values, rest, white)
    return Numbers(values[..., 0] if colours == 1 else values, _name(layout), full, layout.photometric == 0, alpha)


def _name(layout: Layout) -> str:
    if layout.kind == "f":
        return f"{layout.bits}-bit float"
    if layout.kind == "i":
        return f"signed {layout.bits}-bit integer"
    return "" if layout.bits == 8 else f"{layout.bits}-bit" if layout.bits <= 16 else f"{layout.bits}-bit integer"


def _divided(values: NDArray[Any], alpha: NDArray[Any], white: float) -> NDArray[Any]:
    """Colours into which alpha was multiplied, as they were before."""
    share = np.maximum(alpha.astype(np.float64) / white, 1e-9)
    plain = values / share
    if values.dtype.kind == "f":
        return plain.astype(values.dtype)
    return np.minimum(np.rint(plain), white).astype(values.dtype)


def _values(file: IO[bytes], layout: Layout) -> NDArray[Any]:
    """(H, W, samples)."""
    packed = layout.bits % 8 != 0
    kind = np.dtype(np.uint16) if packed else np.dtype(f"{layout.kind}{layout.bits // 8}")
    out = np.empty((layout.height, layout.width, layout.samples), kind)
    wide, high = layout.block
    if wide < 1 or high < 1:
        raise OSError(f"blocks of {wide} x {high} pixels")
    across, down = -(-layout.width // wide), -(-layout.height // high)
    channels = 1 if layout.planar else layout.samples
    planes = layout.samples if layout.planar else 1
    if len(layout.offsets) < planes * across * down or len(layout.lengths) < planes * across * down:
        raise OSError("truncated: it has fewer blocks than its size needs")
    strips = wide == layout.width
    for number in range(planes * across * down):
        plane, place = divmod(number, across * down)
        top, left = place // across * high, place % across * wide
        rows = min(high, layout.height - top) if strips else high
        file.seek(layout.offsets[number])
        stored = file.read(layout.lengths[number])
        size = rows * -(-wide * channels * layout.bits // 8)
        data = _unpacked(stored, layout, rows, size)
        if len(data) < size:
            raise OSError("truncated: a block ends early")
        block = _block(data[:size], layout, kind, rows, wide, channels)
        part = block[: layout.height - top, : layout.width - left]
        where = (slice(top, top + part.shape[0]), slice(left, left + part.shape[1]))
        out[(*where, slice(plane, plane + 1) if layout.planar else slice(None))] = part
    return out


def _unpacked(stored: bytes, layout: Layout, rows: int, size: int) -> bytes:
    """The bytes of a block."""
    if layout.compression == 1:
        return stored
    if layout.compression in (8, 32946):
        try:
            return zlib.decompressobj().decompress(stored, size)
        except zlib.error as error:
            raise OSError(str(error)) from None
    return _by_pillow(stored, layout.compression, rows, size)


def _by_pillow(stored: bytes, compression: int, rows: int, size: int) -> bytes:
    """Decompressed as if it were a gray picture of 8 bits: a TIFF around the block, for Pillow's library to open."""
    tags = [(256, size // rows), (257, rows), (258, 8), (259, compression), (262, 1), (273, 122), (277, 1), (278, rows)]
    tags += [(279, len(stored))]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    head += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + bytes(4)
    with Image.open(BytesIO(head.ljust(122, b"\0") + stored), formats=("TIFF",)) as image:
        return image.tobytes()


def _block(
    data: bytes, layout: Layout, kind: np.dtype[Any], rows: int, wide: int, channels: int
) -> NDArray[Any]:  # fmt: skip
    """The values of a block, (rows, wide, channels), without predictor and in this machine's byte order."""
    if layout.bits % 8:
        return _from_bits(data, layout.bits, rows, wide * channels).reshape(rows, wide, channels)
    if layout.predictor == 3 and layout.kind == "f":
        return _from_bytes(data, kind, rows, wide, channels)
    values = np.frombuffer(data, kind.newbyteorder("<" if layout.order == "<" else ">")).reshape(rows, wide, channels)
    if layout.predictor == 2:
        whole = values.view(np.dtype(f"{layout.order}u{kind.itemsize}")).astype(f"u{kind.itemsize}")
        return np.cumsum(whole, axis=1, dtype=whole.dtype).view(kind)
    if layout.predictor != 1:
        raise OSError(f"predictor {layout.predictor}")
    return values


def _from_bits(data: bytes, bits: int, rows: int, values: int) -> NDArray[np.uint16]:
    """Values of 9 to 15 bits that are packed row by row, (rows, values)."""
    row = np.unpackbits(np.frombuffer(data, np.uint8).reshape(rows, -1), axis=1)[:, : values * bits]
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint16)
    out: NDArray[np.uint16] = (row.reshape(rows, values, bits) * weights).sum(2, dtype=np.uint16)
    return out


def _from_bytes(data: bytes, kind: np.dtype[Any], rows: int, wide: int, channels: int) -> NDArray[Any]:
    """Floats whose bytes stand apart, the first ones of a row before all second ones, and as differences."""
    steps = np.frombuffer(data, np.uint8).reshape(rows, -1, channels)
    apart = np.cumsum(steps, axis=1, dtype=np.uint8).reshape(rows, kind.itemsize, wide * channels)
    together = np.ascontiguousarray(apart.transpose(0, 2, 1)).view(kind.newbyteorder(">"))
    return together.reshape(rows, wide, channels).astype(kind)
