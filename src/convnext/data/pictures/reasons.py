"""What is wrong with a picture's file, in the user's words."""

from __future__ import annotations

import re
from importlib import util
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from convnext.data.names import printable
from convnext.data.pictures.kinds import unread_kind
from convnext.data.pictures.levels import Refused
from convnext.data.pictures.no_picture import kind_of
from convnext.data.pictures.room import NoRoom
from convnext.errors import PictureError

MAX_PIXELS = 178_956_970
"""Larger pictures are refused as decompression bombs; the number is where Pillow itself draws the line."""

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"BM", "BMP"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
)
_QUOTED = re.compile(r"((?:found in header|found in data|for this mode|with base 10)): .*|b['\"].*")
"""What Pillow quotes of the file: a file that is no picture may not be meant to be shown."""
_NO_MEMORY = "decoding it needs more memory than there is"


def has_heif() -> bool:
    """Whether HEIC files can be read: the optional package `pillow-heif` is installed."""
    return util.find_spec("pillow_heif") is not None


def reason_in(error: Exception, file: IO[bytes] | None, heif: bool) -> str:
    """What an error of a decoder means. `heif`: HEIC files can be read here."""
    if isinstance(error, Image.DecompressionBombError):
        return bomb(str(error).partition("(")[2].partition(")")[0] or "too many pixels")
    if isinstance(error, UnidentifiedImageError):
        return "not a picture in a known format" if file is None else _unidentified(file, heif)
    if isinstance(error, MemoryError):
        return str(error) if isinstance(error, NoRoom) else _NO_MEMORY
    if isinstance(error, Refused):
        return str(error)
    if str(error) == "Operation on closed image":
        return "closed before it was read; give its path, or a picture that is open"
    text = _QUOTED.sub(r"\1", " ".join(str(error).split()))
    if re.search("unsupported|not supported|not yet supported|cannot handle", text, re.IGNORECASE):
        return f"of a kind that is not read here ({text}); convert it, as to PNG"
    if file is not None and not file.closed and (kind := unread_kind(file, begun=True)):
        return kind
    if isinstance(error, OSError) and error.errno is None:
        if "truncated" in text:
            return "cut off: the file ends before the picture does"
        return f"damaged ({text})"
    return f"damaged ({type(error).__name__}: {text})"


def _unidentified(file: IO[bytes], heif: bool) -> str:
    """A guess, from its first bytes, at what a file is that no decoder takes."""
    try:
        if kind := unread_kind(file):
            return kind
        file.seek(0)
        head = file.read(64)
    except (OSError, ValueError):
        return "not a picture in a known format"
    if head[4:8] == b"ftyp" and head[8:11] in (b"hei", b"hev", b"mif", b"msf", b"hif") and not heif:
        return "a HEIC picture: reading it needs the package pillow-heif"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return f"damaged or cut off: it begins like a {name} file but cannot be decoded"
    if head[4:8] == b"ftyp" or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "damaged or cut off: it begins like an AVIF, HEIC or WebP file but cannot be decoded"
    if not head.strip(b"\x00"):
        return "not a picture: it begins with zero bytes only, like an unfinished download"
    return f"not a picture in a known format: it is {kind_of(head)}"


def reason_of_os_error(error: OSError, path: Path) -> str:
    """What the system says about a file that cannot be opened."""
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
        return reason_of_os_error(error, path)
    if isinstance(error, MemoryError):
        return str(error) if isinstance(error, NoRoom) else _NO_MEMORY
    return f"{type(error).__name__}: {error}"


def bomb(found: str) -> str:
    """Why a picture of so many pixels is refused."""
    return f"{found}, more than {MAX_PIXELS:,} in all: refused as a decompression bomb; scale it down if it is genuine"
