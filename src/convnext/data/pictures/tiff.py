"""TIFF: what a file says of its pixels, and the pixels of those kinds that Pillow reads wrongly or not at all.

Read here: integers and floats of 8 to 64 bits, packed ones of 9 to 15, in one plane or several, gray or RGB, with or
without alpha, in strips or tiles, under every compression that Pillow can undo. The usual kinds are left to Pillow;
what nobody here can read right is refused by its name. (Adobe, TIFF revision 6.0, and technical note 3 on predictors.)
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from PIL.TiffImagePlugin import COMPRESSION_INFO

from convnext.data.pictures.levels import Refused

_TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 6: "b", 7: "s", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_WANTED = frozenset(
    (254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 322, 323, 324, 325, 330, 338)
)
_WANTED |= {339, 700, 50706}
_MOST = 1 << 22  # values of a tag that are read
_GRAY, _RGB = (0, 1), 2
_COLOURS = {
    4: "a mask", 9: "ICC Lab", 10: "ITU Lab", 32803: "the raw pattern of a camera (CFA)", 32844: "LogL",
    32845: "LogLuv", 34892: "the raw colours of a camera",
}  # fmt: skip
_COMPRESSIONS = {
    22610: "JPEG XR", 33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34713: "Nikon NEF", 34887: "LERC",
    34892: "lossy DNG", 34933: "PNG", 34934: "JPEG XR", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
_EXPORT = "export it as gray or RGB of 8 or 16 bits, with alpha or without"


@dataclass(frozen=True)
class Layout:
    """What the first page of a TIFF says of itself.

    Attributes:
        order: "<" or ">".
        width: pixels.
        height: pixels.
        bits: of one value.
        samples: values of one pixel.
        kind: "u", "i" or "f".
        planar: each channel is stored by itself.
        photometric: 0 white is zero, 1 black is zero, 2 RGB, ...
        compression: its number.
        predictor: 1 none, 2 differences, 3 differences of a float's bytes.
        alpha: 0 none, 1 multiplied into the colours, 2 beside them, 3 not said (it may be padding).
        block: width and height of a tile, or of a strip.
        offsets: where the tiles or strips begin.
        lengths: their bytes.
        orientation: tag 274, or 0.
        xmp: tag 700.
    """

    order: str
    width: int
    height: int
    bits: int
    samples: int
    kind: str
    planar: bool
    photometric: int
    compression: int
    predictor: int
    alpha: int
    block: tuple[int, int]
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    orientation: int
    xmp: bytes


def read_layout(file: IO[bytes]) -> Layout | None:
    """The layout of a TIFF that `tiff_pixels` is to read; None for all other files.

    Raises:
        Refused: a kind of TIFF that cannot be read here.
    """
    found = _tags(file)
    if found is None:
        return None
    order, tags = found
    if 50706 in tags or (tags.get(254, (0,))[0] & 1 and 330 in tags):
        raise Refused(_named("the raw file of a camera, whose first picture is a small preview", "develop it first"))
    try:
        return _layout(order, tags)
    except (IndexError, TypeError):  # tags without a value
        return None


def refuse_garbled(tags: Mapping[int, Any]) -> None:
    """Refuses a TIFF that Pillow has loaded, and loads wrongly: several planes of more than 8 bits, or leaving channels
    out. Its file is read right, or refused for its kind.

    Args:
        tags: Pillow's.

    Raises:
        Refused: it is such a one.
    """
    plain = {tag: value if isinstance(value, tuple | bytes) else (value,) for tag, value in tags.items()}
    try:
        layout = _layout("<", plain)
    except (IndexError, TypeError):  # tags without a value
        return
    if layout is not None and layout.planar and layout.bits > 8 and layout.samples > 1:
        raise Refused("a TIFF in planes of more than 8 bits, which Pillow loads wrongly; give its path or its bytes")


def tiff_kind(file: IO[bytes]) -> str:
    """The sentence about a TIFF whose directory is whole, and that nobody reads all the same; "" for any other file."""
    found = _tags(file)
    if found is None or not all(found[1].get(tag) for tag in (256, 257, 258)):
        return ""
    tags = found[1]
    bits = ", ".join(str(bit) for bit in tags[258][:8])
    ways = {6: "JPEG as of TIFF 6.0"}.get(tags.get(259, (1,))[0], f"compression {tags.get(259, (1,))[0]}")
    return _named(f"colours of kind {tags.get(262, (0,))[0]} in {bits} bits, {ways}", _EXPORT)


def _layout(order: str, tags: dict[int, Any]) -> Layout | None:
    width, height = tags.get(256, (0,))[0], tags.get(257, (0,))[0]
    samples, compression = tags.get(277, (1,))[0], tags.get(259, (1,))[0]
    photometric, planar = tags.get(262, (0,))[0], tags.get(284, (1,))[0] == 2
    depths, formats, extra = tags.get(258, (1,)), set(tags.get(339, (1,))), tags.get(338, ())
    _refuse_kinds(photometric, compression, samples)
    if photometric == 6 and compression == 1 and sum(tags.get(279, ())) < 3 * width * height:
        raise Refused(_named("YCbCr with fewer values of colour than of light, uncompressed", _EXPORT))
    if compression in (6, 7) or photometric not in (*_GRAY, _RGB) or not (width > 0 and height > 0):
        return None
    if len(set(depths)) > 1 or len(formats) > 1:
        raise Refused(_named(f"channels of {', '.join(map(str, depths))} bits or of several kinds", _EXPORT))
    bits, form = depths[0], next(iter(formats))
    if form in (5, 6):
        raise Refused(_named("complex numbers", _EXPORT))
    if bits < 8 or tags.get(266, (1,))[0] != 1:
        return None
    colours = 3 if photometric == _RGB else 1
    alpha = _alpha(samples, colours, extra)
    kind = {2: "i", 3: "f"}.get(form, "u")
    usual = bits in (8, 16) and kind == "u" and not planar and alpha != 3
    if usual and not (bits == 16 and samples > 1):
        return None
    whole = bits in ((8, 16, 32, 64) if kind != "f" else (16, 32, 64))
    if not (whole or (kind == "u" and 9 <= bits <= 15 and tags.get(317, (1,))[0] == 1)):
        raise Refused(_named(f"{bits}-bit {'floats' if kind == 'f' else 'integers'}", _EXPORT))
    tiled = 324 in tags
    block = (tags[322][0], tags[323][0]) if tiled else (width, min(height, tags.get(278, (height,))[0]))
    offsets, lengths = tags.get(324 if tiled else 273, ()), tags.get(325 if tiled else 279, ())
    return Layout(
        order, width, height, bits, samples, kind, planar, photometric, compression, tags.get(317, (1,))[0], alpha,
        block, offsets, lengths, tags.get(274, (0,))[0], tags.get(700, b""),
    )  # fmt: skip


def _refuse_kinds(photometric: int, compression: int, samples: int) -> None:
    if compression not in COMPRESSION_INFO:
        name = _COMPRESSIONS.get(compression, "an unknown kind")
        raise Refused(_named(f"compression {compression} ({name})", "store it uncompressed, or with LZW or deflate"))
    if photometric in _COLOURS or photometric > 10:
        raise Refused(_named(f"colours of kind {photometric} ({_COLOURS.get(photometric, 'unknown')})", _EXPORT))
    if samples > 4:
        raise Refused(_named(f"{samples} channels", "choose three of them, or one, and " + _EXPORT))


def _alpha(samples: int, colours: int, extra: tuple[int, ...]) -> int:
    """What the channel after the colours is; see `Layout.alpha`."""
    if samples == colours:
        return 0
    if samples != colours + 1 or (not extra and colours == 1):
        what = f"{samples} channels that are not said to be colours" if colours == 1 else f"RGB in {samples} channels"
        raise Refused(_named(what, _EXPORT))
    if not extra:
        return 2  # RGB of four channels: the tag was forgotten
    return {0: 3, 1: 1, 2: 2, 999: 2}.get(extra[0], 3)


def _named(kind: str, remedy: str) -> str:
    return f"a TIFF of a kind that is not read here: {kind}; {remedy}"


def _tags(file: IO[bytes]) -> tuple[str, dict[int, Any]] | None:
    """Byte order and the wanted tags of the first page; None when it is no TIFF, or its directory is damaged."""
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
    if not order or len(head) < 8:
        return None
    big = struct.unpack(order + "H", head[2:4])[0]
    if big not in (42, 43) or (big == 43 and len(head) < 16):
        return None
    start = struct.unpack(order + "Q", head[8:16])[0] if big == 43 else struct.unpack(order + "I", head[4:8])[0]
    try:
        return order, _entries(file, order, start, big == 43)
    except (struct.error, OSError, ValueError, OverflowError):  # Pillow is to say what is wrong with it
        return None


def _entries(file: IO[bytes], order: str, start: int, big: bool) -> dict[int, Any]:
    entry, room = (order + "HHQ8s", 8) if big else (order + "HHI4s", 4)
    size = struct.calcsize(entry)
    file.seek(start)
    number = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))[0]
    if number > 4096:
        raise ValueError("too many tags")
    table = file.read(number * size)
    tags: dict[int, Any] = {}
    for at in range(0, number * size, size):
        tag, kind, count, value = struct.unpack(entry, table[at : at + size])
        if tag not in _WANTED or kind not in _TYPES or count > _MOST:
            continue
        form = f"{order}{count}{_TYPES[kind]}"
        length = struct.calcsize(form)
        if length > room:
            file.seek(struct.unpack(order + ("Q" if big else "I"), value)[0])
            value = file.read(length)
        found = struct.unpack(form, value[:length])
        tags[tag] = found[0] if _TYPES[kind] == "s" else bytes(found) if tag == 700 else found
    return tags
