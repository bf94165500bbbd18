"""Reading one picture: any format that people have, always upright, always 8 bits, in the mode the network wants.

What happens to the unusual ones:

- It is turned upright by the rule in `orientation`; a damaged EXIF block is not held against the picture.
- Transparency (alpha channel, palette, or a single transparent colour) is laid on white, unless the mode is "RGBA".
- 16 bits become 8 by the fixed factor 255 / 65535 (255 / 4095 for 12-bit TIFF), so that pictures stay comparable.
- 32-bit integers and floats have no fixed range: `levels`. NaN is black.
- CMYK and LAB are converted without their colour profile; other profiles are ignored.
- Of an animation, a burst or a many-page TIFF the first frame counts.

Only raster formats are tried, whatever the file is called: a PostScript file named .jpg starts no interpreter.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from convnext.data.names import printable
from convnext.data.pictures.alpha import in_mode, opaque_bmp, spread_level
from convnext.data.pictures.jpeg import factor_for, keeps_all, read_header, read_jpeg
from convnext.data.pictures.levels import Numbers, Range, Values, gray_numbers, own_range, to_picture
from convnext.data.pictures.opened import check_size, guarded, in_pixels, open_regular, opened, upright_size
from convnext.data.pictures.orientation import orientation_in_tiff, orientation_of, turn, turned
from convnext.data.pictures.png import png_numbers
from convnext.data.pictures.reasons import MAX_PIXELS, reason_of_os_error
from convnext.data.pictures.room import (
    NoRoom,
    bytes_of,
    bytes_of_file,
    bytes_of_jpeg,
    bytes_of_tiff,
    held,
    take,
)
from convnext.data.pictures.tiff import Layout, read_layout, refuse_garbled
from convnext.data.pictures.tiff_pixels import tiff_numbers
from convnext.errors import PictureError

PICTURE_SUFFIXES: frozenset[str] = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif"),
        *(".heic", ".heif", ".hif", ".avif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm"),
    )
)
"""Suffixes of the files that count as pictures, in lower case with their dot."""

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""The picture mode for a network's `in_chans`."""

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image
"""A path, the bytes of a picture's file, an open file, or a picture that Pillow has opened."""


def read_picture(
    path: Path, *, mode: str = "RGB", at_least: int | None = None, value_range: Range | None = None
) -> Image.Image:
    """The picture in a file: upright, 8 bits a channel, in `mode`, without any metadata left on it.

    Args:
        path: the file.
        mode: "L", "RGB" or "RGBA"; see `MODES`.
        at_least: allows a JPEG to be decoded at 1/2, 1/4 or 1/8 of its size (several times quicker) as long as its
            short side keeps this many pixels. The whole file is read all the same, so a cut-off one is found.
        value_range: the values that are black and white in pictures of more than 8 bits; None takes what the format
            says, and refuses those of which it says nothing (floats, integers of 32 bits).

    Raises:
        PictureError: "path: reason" for anything that cannot be read. Warnings are never emitted.
    """
    try:
        with held(), open_regular(path) as file:
            return decode(file, path, mode=mode, at_least=at_least, value_range=value_range)[0]
    except OSError as error:
        raise PictureError(f"{printable(path)}: {reason_of_os_error(error, path)}") from error


def read_pixels(
    path: Path, *, mode: str = "RGB", at_least: int | None = None, value_range: Range | None = None
) -> NDArray[np.uint8]:
    """The pixels of `read_picture`, (H, W, C); a common JPEG is decoded in about two thirds of the time.

    Raises:
        PictureError: as `read_picture` does.
    """
    try:
        with held(), open_regular(path) as file:
            if mode == "RGB":
                quick = _quick_pixels(file, at_least)
                if quick is not None:
                    return quick
                file.seek(0)
            return _array(decode(file, path, mode=mode, at_least=at_least, value_range=value_range)[0])
    except OSError as error:
        raise PictureError(f"{printable(path)}: {reason_of_os_error(error, path)}") from error


def _quick_pixels(file: IO[bytes], at_least: int | None) -> NDArray[np.uint8] | None:
    """What `jpeg` can make of a file, or None: then Pillow is to read it, or to say what is wrong with it."""
    start = file.read(3)
    if start != b"\xff\xd8\xff":
        return None
    try:
        take(bytes_of_file(file), "a file of this size")
        data = start + file.read()
        header = read_header(data)
        if header is None or header.width * header.height > MAX_PIXELS:
            return None
        factor = factor_for(header, at_least)
        full = (header.width, header.height)
        take(bytes_of_jpeg(full, (full[0] // factor, full[1] // factor), lambda: keeps_all(data)), in_pixels(*full))
    except NoRoom:  # Pillow's way says it
        return None
    pixels = read_jpeg(data, header, factor)
    return None if pixels is None else turned(pixels, header.orientation)


def decode(
    file: IO[bytes],
    path: Path,
    *,
    mode: str = "RGB",
    at_least: int | None = None,
    value_range: Range | None = None,
) -> tuple[Image.Image, tuple[int, int]]:
    """The picture in an open file, and its full size (width, height) once upright; see `read_picture`.

    `path` only serves for messages. Raises PictureError.
    """
    _check_mode(mode)
    with held(), guarded(path, file):
        return _decoded(file, path, mode, at_least, value_range)


def examine(file: IO[bytes], path: Path, *, at_least: int) -> tuple[Image.Image, tuple[int, int], Values]:
    """The same in RGB, and what its values are; of those without a fixed range the picture shows its own.

    It is for looking at a picture by itself: two of them are not comparable.
    """
    values = Values()

    def own(found: Values) -> Range:
        nonlocal values
        values = found
        return own_range(found)

    with held(), guarded(path, file):
        picture, size = _decoded(file, path, "RGB", at_least, own)
    if not values.kind:
        extremes = [extreme for channel in picture.split() for extreme in cast("tuple[int, int]", channel.getextrema())]
        values = Values("", float(min(extremes)), float(max(extremes)))
    return picture, size, values


def numbers_in(data: bytes, path: Path) -> Numbers | None:
    """The pixels of a file as they are stored, upright, where they have more than 8 bits; None for any other.

    Raises:
        PictureError: it cannot be read.
    """
    file = BytesIO(data)
    with held(), guarded(path, file):
        layout = read_layout(file)
        if layout is not None:
            turning = orientation_in_tiff(layout.orientation, layout.xmp)
            numbers: Numbers | None = _numbers_of(file, layout, path)
        else:
            with opened(file, path) as image:
                take(bytes_of(image), in_pixels(*image.size))
                turning = orientation_of(image)
                numbers = png_numbers(image, file, True, False)
                if numbers is None and image.mode.startswith(("I", "F")):
                    image.load()
                    numbers = gray_numbers(image)
        return numbers.turned(turning) if numbers is not None and numbers.kind else None


def picture_of(
    source: Source,
    *,
    mode: str = "RGB",
    at_least: int | None = None,
    value_range: Range | None = None,
    name: str = "the picture",
) -> Image.Image:
    """What `read_picture` gives for a path, for any form of a picture's file, or one that Pillow has opened.

    Orientation, bit depth and transparency follow the same rules. A picture of Pillow is turned as its own EXIF block
    says, and stays as it is.

    Args:
        source: a path, the bytes of a file, an open file (read to its end), or a picture of Pillow.
        mode: "L", "RGB" or "RGBA".
        at_least: as in `read_picture`.
        value_range: likewise.
        name: what to call it in messages where it has no path.

    Raises:
        PictureError: it cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        return read_picture(Path(source), mode=mode, at_least=at_least, value_range=value_range)
    _check_mode(mode)
    if isinstance(source, Image.Image):
        with held(), guarded(Path(name), None):
            check_size(*source.size, Path(name))
            return _of_pillow(source, Path(name), mode, value_range)
    return decode(BytesIO(_content(source, name)), Path(name), mode=mode, at_least=at_least, value_range=value_range)[0]


def pixels_of(
    source: Source,
    *,
    mode: str = "RGB",
    at_least: int | None = None,
    value_range: Range | None = None,
    name: str = "the picture",
) -> NDArray[np.uint8]:
    """The pixels of `picture_of`, (H, W, C); a common JPEG is decoded in about two thirds of the time."""
    if isinstance(source, str | os.PathLike):
        return read_pixels(Path(source), mode=mode, at_least=at_least, value_range=value_range)
    if not isinstance(source, Image.Image):
        source = _content(source, name)
        if mode == "RGB" and (quick := _quick_pixels(BytesIO(source), at_least)) is not None:
            return quick
    return _array(picture_of(source, mode=mode, at_least=at_least, value_range=value_range, name=name))


def _of_pillow(image: Image.Image, path: Path, mode: str, value_range: Range | None) -> Image.Image:
    """A picture that Pillow has opened. Of some TIFFs Pillow gives other pixels than are in them, so one that is not
    loaded yet is read from its file, by whoever reads its kind right.
    """
    file = getattr(image, "fp", None) if getattr(image, "tile", None) else None
    if isinstance(image, ImageFile.ImageFile) and image.tile and (file is None or getattr(file, "closed", False)):
        raise PictureError(f"{printable(path)}: closed before it was read; give its path, or load() it in time")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if file is not None and image.tell() == 0:
            at = file.tell()
            try:
                return _decoded(file, path, mode, None, value_range)[0]
            finally:
                file.seek(at)
        refuse_garbled(image.tag_v2)
    return _finished(image, None, mode, None, value_range)[0]


def _content(source: bytes | bytearray | memoryview | IO[bytes], name: str) -> bytes:
    """The bytes of a picture's file."""
    if not isinstance(source, bytes | bytearray | memoryview):
        try:
            source = source.read()
        except OSError as error:
            raise PictureError(f"{printable(name)}: {reason_of_os_error(error, Path(name))}") from error
    if not isinstance(source, bytes | bytearray | memoryview):
        raise TypeError(f"{name}: an open file must give bytes, not {type(source).__name__}; open it in binary mode")
    if not len(source):
        raise PictureError(f"{printable(name)}: empty (0 bytes)")
    return bytes(source)


def _array(picture: Image.Image) -> NDArray[np.uint8]:
    pixels = np.array(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _decoded(
    file: IO[bytes], path: Path, mode: str, at_least: int | None, value_range: Range | Callable[[Values], Range] | None
) -> tuple[Image.Image, tuple[int, int]]:
    """The picture in an open file, read by whoever reads its kind right."""
    layout = read_layout(file)
    if layout is None:
        with opened(file, path) as image:
            return _finished(image, file, mode, at_least, value_range)
    picture = in_mode(_scaled(_numbers_of(file, layout, path), value_range), mode)
    picture = turn(picture, orientation_in_tiff(layout.orientation, layout.xmp))
    return picture, picture.size


def _numbers_of(file: IO[bytes], layout: Layout, path: Path) -> Numbers:
    check_size(layout.width, layout.height, path)
    check_size(*layout.block, path)
    item = layout.samples * -(-layout.bits // 8)
    need = bytes_of_tiff(layout.width * layout.height, layout.block[0] * layout.block[1], item)
    take(need, in_pixels(layout.width, layout.height))
    return tiff_numbers(file, layout)


def _finished(
    image: Image.Image,
    file: IO[bytes] | None,
    mode: str,
    at_least: int | None,
    value_range: Range | Callable[[Values], Range] | None,
) -> tuple[Image.Image, tuple[int, int]]:
    """An opened picture as `read_picture` gives it, and its full size once upright."""
    full, size = image.size, upright_size(image)
    if image.format in ("JPEG", "MPO"):
        if at_least is not None:
            image.draft(None, (max(at_least, 1), max(at_least, 1)))
        take(bytes_of_jpeg(full, image.size, lambda: file is None or keeps_all(_beginning(file))), in_pixels(*full))
    elif image.format != "WEBP":  # which has taken its room
        take(bytes_of(image), in_pixels(*full))
    turning = orientation_of(image)
    picture = turn(in_mode(_in_8_bits(image, file, value_range), mode), turning)
    picture.info.clear()
    return picture, size


def _beginning(file: IO[bytes]) -> bytes:
    at = file.tell()
    file.seek(0)
    data = file.read(1 << 20)
    file.seek(at)
    return data


def _in_8_bits(
    image: Image.Image, file: IO[bytes] | None, value_range: Range | Callable[[Values], Range] | None
) -> Image.Image:
    """The picture loaded, and in 8 bits a channel; see `levels`."""
    spread_level(image)
    numbers = png_numbers(image, file, value_range not in (None, (0.0, 65535.0)), not callable(value_range))
    if numbers is None:
        image.load()
        numbers = gray_numbers(image)
    if numbers is None:
        return opaque_bmp(image)
    return _scaled(numbers, value_range)


def _scaled(numbers: Numbers, value_range: Range | Callable[[Values], Range] | None) -> Image.Image:
    if not numbers.kind:  # 8 bits: no other range than their own
        return to_picture(numbers, None)
    return to_picture(numbers, value_range(numbers.summary()) if callable(value_range) else value_range)


def _check_mode(mode: str) -> None:
    if mode not in MODES.values():
        raise ValueError(f"mode {mode!r} is not one of {', '.join(MODES.values())}")
