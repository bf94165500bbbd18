"""Opening a picture's file: only what is one, of a raster format, of a size that is no bomb and that there is room for.

Whatever the file is called: a PostScript file named .jpg starts no interpreter.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from convnext.data.names import printable
from convnext.data.pictures.orientation import on_side, orientation_in_tiff, orientation_of, tiff_turning
from convnext.data.pictures.quiet import quiet
from convnext.data.pictures.reasons import MAX_PIXELS, bomb, has_heif, reason_in
from convnext.data.pictures.room import bytes_of_webp, held, take, tile_of, webp_size
from convnext.data.pictures.tarball import open_member
from convnext.data.pictures.tiff import read_layout
from convnext.errors import PictureError

_FORMATS = (
    JpegImagePlugin.JpegImageFile.format,  # and MPO, which is several of them in one file
    PngImagePlugin.PngImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
    TiffImagePlugin.TiffImageFile.format,
    BmpImagePlugin.BmpImageFile.format,
    BmpImagePlugin.DibImageFile.format,
    GifImagePlugin.GifImageFile.format,
    AvifImagePlugin.AvifImageFile.format,
    Jpeg2KImagePlugin.Jpeg2KImageFile.format,
    PpmImagePlugin.PpmImageFile.format,
)


def open_regular(path: Path) -> BufferedReader | BytesIO:
    """An open, non-empty, regular file, or a member of a tar; raises OSError or PictureError. (A pipe would block.)"""
    if (member := open_member(path)) is not None:
        return member
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise PictureError(f"{printable(path)}: a folder, not a picture")
    if not stat.S_ISREG(found.st_mode):
        raise PictureError(f"{printable(path)}: not a regular file")
    if found.st_size == 0:
        raise PictureError(f"{printable(path)}: empty file (0 bytes)")
    return path.open("rb")


def read_size(path: Path) -> tuple[int, int] | None:
    """Width and height of the upright picture in a file, pixels, by its header; None when that cannot be read."""
    try:
        with open_regular(path) as file, held(), guarded(path, file):
            layout = read_layout(file)
            if layout is not None:
                turning = orientation_in_tiff(layout.orientation, layout.xmp)
                return (layout.height, layout.width) if on_side(turning) else (layout.width, layout.height)
            with opened(file, path) as image:
                return upright_size(image)
    except (OSError, PictureError):
        return None


@contextmanager
def guarded(path: Path, file: IO[bytes] | None) -> Iterator[None]:
    """Whatever a decoder raises on damaged bytes (struct.error, SyntaxError, KeyError, ...) is a PictureError."""
    try:
        with quiet:
            yield
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(f"{printable(path)}: {reason_in(error, file, has_heif())}") from error


@contextmanager
def opened(file: IO[bytes], path: Path) -> Iterator[Image.Image]:
    """A picture of which only the header has been read, of a size that there is room for."""
    file.seek(0)
    if (size := webp_size(file.read(30))) is not None:
        check_size(*size, path)
        take(bytes_of_webp(*size), in_pixels(*size))
    file.seek(0)
    with Image.open(file, formats=_formats()) as image:
        check_size(*image.size, path)
        if (tile := tile_of(image)) != (0, 0):
            check_size(*tile, path)
        yield image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened picture, in full, once it is upright."""
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # Pillow's size is after its own turning, by the tag alone
        swapped = on_side(tiff_turning(image)) != (image.tag_v2.get(274, 1) in (5, 6, 7, 8))
        return (height, width) if swapped else (width, height)
    return (height, width) if on_side(orientation_of(image)) else (width, height)


def check_size(width: int, height: int, path: Path) -> None:
    """Raises PictureError for a picture without pixels, or with too many."""
    if width < 1 or height < 1:
        raise PictureError(f"{printable(path)}: {width} x {height} pixels: there is no picture in it")
    if width * height > MAX_PIXELS:
        raise PictureError(f"{printable(path)}: {bomb(in_pixels(width, height))}")


def in_pixels(width: int, height: int) -> str:
    """A size in words."""
    return f"{width:,} x {height:,} pixels"


@cache
def _formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are tried; HEIF joins them when it can."""
    if not has_heif():
        return _FORMATS
    import pillow_heif

    pillow_heif.register_heif_opener()
    return (*_FORMATS, "HEIF")
