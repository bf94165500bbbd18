"""Reading one picture: any format that people have, always upright, always 8 bits, in the mode the network wants.

What happens to the unusual ones:

- EXIF orientation is applied; a damaged EXIF block is ignored, not held against the picture.
- Transparency (alpha channel, palette, or a single transparent colour) is laid on white, unless the mode is "RGBA".
- 16 bits become 8 by the fixed factor 255 / 65535 (255 / 4095 for 12-bit TIFF), so that pictures stay comparable.
- 32-bit integers and floats have no fixed range. The smallest of 0..1 (floats only), 0..255 and 0..65535 that holds
  the picture's values is taken as the range; when none does, its own minimum and maximum are. NaN is black.
- CMYK and LAB are converted without their colour profile; other profiles are ignored.
- Of an animation, a burst or a many-page TIFF the first frame counts.

Only raster formats are tried, whatever the file is called: a PostScript file named .jpg starts no interpreter.
"""

from __future__ import annotations

import stat
import threading
import warnings
from functools import cache
from importlib import util
from io import BufferedReader, BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray
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
    UnidentifiedImageError,
    WebPImagePlugin,
)

from convnext.data.jpeg import factor_for, read_header, read_jpeg, turned
from convnext.data.names import printable
from convnext.data.tarball import open_member
from convnext.errors import PictureError

PICTURE_SUFFIXES: frozenset[str] = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif"),
        *(".heic", ".heif", ".hif", ".avif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm"),
    )
)
"""Suffixes of the files that count as pictures, in lower case with their dot."""

MAX_PIXELS = 178_956_970
"""Larger pictures are refused as decompression bombs; the number is where Pillow itself draws the line."""

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""The picture mode for a network's `in_chans`."""

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
_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"BM", "BMP"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
)
_NO_MEMORY = "decoding it needs more memory than there is"
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112  # EXIF tag
_BITS_PER_SAMPLE = 258  # TIFF tag
_WHITE_IS_ZERO = 262  # TIFF tag PhotometricInterpretation, whose value 0 means it


def read_picture(path: Path, *, mode: str = "RGB", at_least: int | None = None) -> Image.Image:
    """The picture in a file: upright, 8 bits a channel, in `mode`, without any metadata left on it.

    Args:
        path: the file.
        mode: "L", "RGB" or "RGBA"; see `MODES`.
        at_least: allows a JPEG to be decoded at 1/2, 1/4 or 1/8 of its size (several times quicker) as long as its
            short side keeps this many pixels. The whole file is read all the same, so a cut-off one is found.

    Raises:
        PictureError: "path: reason" for anything that cannot be read. Warnings are never emitted.
    """
    try:
        with open_regular(path) as file:
            return decode(file, path, mode=mode, at_least=at_least)[0]
    except OSError as error:
        raise PictureError(f"{printable(path)}: {_reason_of_os_error(error, path)}") from error


def read_pixels(path: Path, *, mode: str = "RGB", at_least: int | None = None) -> NDArray[np.uint8]:
    """The pixels of `read_picture`, (H, W, C); a common JPEG is decoded in about two thirds of the time.

    Raises:
        PictureError: as `read_picture` does.
    """
    try:
        with open_regular(path) as file:
            if mode == "RGB":
                quick = _quick_pixels(file, at_least)
                if quick is not None:
                    return quick
                file.seek(0)
            picture = np.array(decode(file, path, mode=mode, at_least=at_least)[0])
    except OSError as error:
        raise PictureError(f"{printable(path)}: {_reason_of_os_error(error, path)}") from error
    return picture[..., None] if picture.ndim == 2 else picture


def _quick_pixels(file: IO[bytes], at_least: int | None) -> NDArray[np.uint8] | None:
    """What `jpeg` can make of a file, or None: then Pillow is to read it, or to say what is wrong with it."""
    start = file.read(3)
    if start != b"\xff\xd8\xff":
        return None
    data = start + file.read()
    header = read_header(data)
    if header is None or header.width * header.height > MAX_PIXELS:
        return None
    pixels = read_jpeg(data, header, factor_for(header, at_least))
    return None if pixels is None else turned(pixels, header.orientation)


def read_size(path: Path) -> tuple[int, int] | None:
    """Width and height of the upright picture in a file, pixels; None when it cannot be read."""
    try:
        with open_regular(path) as file:
            return decode(file, path, at_least=1)[1]
    except (OSError, PictureError):
        return None


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


def decode(
    file: IO[bytes], path: Path, *, mode: str = "RGB", at_least: int | None = None
) -> tuple[Image.Image, tuple[int, int]]:
    """The picture in an open file, and its full size (width, height) once upright; see `read_picture`.

    `path` only serves for messages. Raises PictureError.
    """
    if mode not in MODES.values():
        raise ValueError(f"mode {mode!r} is not one of {', '.join(MODES.values())}")
    try:
        with _quiet, Image.open(file, formats=_formats()) as image:
            width, height = image.size
            _check_size(width, height, path)
            if at_least is not None and image.format in ("JPEG", "MPO"):
                image.draft(None, (max(at_least, 1), max(at_least, 1)))
            image.load()
            turn = _TURNS.get(_orientation(image))
            upright_size = _upright_size(image, (width, height), turn)
            picture = _in_mode(_in_8_bits(image), mode)
    except PictureError:
        raise
    except Exception as error:  # whatever a decoder raises on damaged bytes: struct.error, SyntaxError, KeyError, ...
        raise PictureError(f"{printable(path)}: {_reason(error, file)}") from error
    if turn is not None:
        picture = picture.transpose(turn)
    picture.info.clear()
    return picture, upright_size


class _Quiet:
    """While any thread is inside, warnings of Pillow are not shown; all others are.

    `warnings.catch_warnings` alone is not safe with threads: the first one out would undo the filter of the others.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\.")
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(kind, error, trace)


_quiet = _Quiet()


def has_heif() -> bool:
    """Whether HEIC files can be read: the optional package `pillow-heif` is installed."""
    return util.find_spec("pillow_heif") is not None


@cache
def _formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are tried; HEIF joins them when it can."""
    if not has_heif():
        return _FORMATS
    import pillow_heif

    pillow_heif.register_heif_opener()
    return (*_FORMATS, "HEIF")


def _check_size(width: int, height: int, path: Path) -> None:
    if width < 1 or height < 1:
        raise PictureError(f"{printable(path)}: {width} x {height} pixels: there is no picture in it")
    if width * height > MAX_PIXELS:
        raise PictureError(f"{printable(path)}: {_bomb(f'{width:,} x {height:,} pixels')}")


def _bomb(found: str) -> str:
    return f"{found}, more than {MAX_PIXELS:,} in all: refused as a decompression bomb; scale it down if it is genuine"


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) when there is none or the EXIF block is damaged. TIFF is turned by Pillow."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block raises anything; the pixels are fine
        return 1


def _upright_size(image: Image.Image, size: tuple[int, int], turn: Image.Transpose | None) -> tuple[int, int]:
    """The full size after turning; `image` may be decoded smaller, or (TIFF) already be turned."""
    if image.format == "TIFF":
        return image.size
    on_side = turn in (
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
    )
    return (size[1], size[0]) if on_side else size


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Gray pictures of 12 and more bits scaled to 8; all others as they are."""
    if image.mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", {})
        bits = tags.get(_BITS_PER_SAMPLE, (16,))
        full = 2.0 ** (bits[0] if isinstance(bits, tuple) else bits) - 1
        values = np.asarray(image).astype(np.float32)
        if tags.get(_WHITE_IS_ZERO) == 0:
            values = full - values
        return _gray(values, 0.0, full)
    if image.mode == "I":
        numbers = np.asarray(image)
        ceilings = (255.0, 65535.0) if image.format == "TIFF" else (65535.0,)
        return _gray(numbers.astype(np.float64), *_range_of(numbers, ceilings))
    if image.mode == "F":
        floats = np.asarray(image).astype(np.float64)
        finite = floats[np.isfinite(floats)]
        black, white = _range_of(finite, (1.0, 255.0, 65535.0)) if finite.size else (0.0, 1.0)
        return _gray(np.nan_to_num(floats, nan=black, posinf=white, neginf=black), black, white)
    return image


def _range_of(values: NDArray[np.generic], ceilings: tuple[float, ...]) -> tuple[float, float]:
    """(black, white): from 0 to the smallest ceiling that holds all values, else their own minimum and maximum."""
    low, high = float(values.min()), float(values.max())
    for ceiling in ceilings:
        if low >= 0 and high <= ceiling:
            return 0.0, ceiling
    return low, high


def _gray(values: NDArray[np.floating], black: float, white: float) -> Image.Image:
    scaled = (values - black) * (255.0 / (white - black) if white > black else 0.0)
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """A new picture in `mode`; transparency is laid on white unless `mode` has it too."""
    if image.has_transparency_data or image.mode in ("La", "RGBa"):
        if image.mode == "La":
            image = image.convert("LA")
        rgba = image.convert("RGBA")
        if mode == "RGBA":
            return rgba
        white = Image.new("RGBA", rgba.size, "white")
        white.alpha_composite(rgba)
        return white.convert(mode)
    if mode == "RGBA":
        return image.convert("RGB").convert("RGBA")
    if mode == "L" and image.mode not in ("1", "L", "RGB", "RGBX", "YCbCr"):
        image = image.convert("RGB")
    return image.convert(mode)


def _reason(error: Exception, file: IO[bytes]) -> str:
    """What is wrong with the file, in the user's words."""
    if isinstance(error, Image.DecompressionBombError):
        return _bomb(str(error).partition("(")[2].partition(")")[0] or "too many pixels")
    if isinstance(error, UnidentifiedImageError):
        return _unidentified(file)
    if isinstance(error, MemoryError):
        return _NO_MEMORY
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno is None:
        if "truncated" in text:
            return "cut off: the file ends before the picture does"
        return f"damaged ({text})"
    return f"damaged ({type(error).__name__}: {text})"


def _unidentified(file: IO[bytes]) -> str:
    """A guess, from its first bytes, at what a file is that no decoder takes."""
    try:
        file.seek(0)
        head = file.read(64)
    except (OSError, ValueError):
        return "not a picture in a known format"
    if head[4:8] == b"ftyp" and head[8:11] in (b"hei", b"hev", b"mif", b"msf", b"hif") and not has_heif():
        return "a HEIC picture: reading it needs the package pillow-heif"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return f"damaged or cut off: it begins like a {name} file but cannot be decoded"
    if head[4:8] == b"ftyp" or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "damaged or cut off: it begins like an AVIF, HEIC or WebP file but cannot be decoded"
    if not head.strip(b"\x00"):
        return "not a picture: it begins with zero bytes only, like an unfinished download"
    return f"not a picture in a known format: it begins with {_glimpse(head)}"


def _glimpse(head: bytes) -> str:
    text = head[:24].decode("ascii", "replace")
    if all(sign.isprintable() or sign.isspace() for sign in text) and "\ufffd" not in text:
        return f'the text "{" ".join(text.split())}"'
    return f"the bytes {head[:8].hex(' ')}"


def _reason_of_os_error(error: OSError, path: Path) -> str:
    if isinstance(error, FileNotFoundError):
        return "a link to a file that does not exist" if path.is_symlink() else "no such file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    return (error.strerror or str(error)).lower()


def reason_of(error: Exception, path: Path) -> str:
    """The reason alone, without the path, of an error met while reading `path`."""
    if isinstance(error, PictureError):
        return str(error).removeprefix(f"{printable(path)}: ")
    if isinstance(error, OSError):
        return _reason_of_os_error(error, path)
    if isinstance(error, MemoryError):
        return _NO_MEMORY
    return f"{type(error).__name__}: {error}"
