"""Pictures of a run folder as part of the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

from convnext.data.pictures.decode import read_picture
from convnext.errors import PictureError

THUMBNAIL = 400
"""Longest side of an exhibit's picture, in pixels; larger ones are reduced."""
BATCH = 1280
"""Longest side of the picture of a training batch."""
MAX_BYTES = 64_000
"""A picture within its side and this size goes into the page as it is, without a second JPEG compression."""


def picture_uri(folder: Path, name: Any, *, side: int = THUMBNAIL) -> str:
    """A picture of the run folder as a data: URI, reduced to `side`; "" when missing, damaged or outside."""
    if not isinstance(name, str) or not name:
        return ""
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            return ""
        picture, content = read_picture(path), path.read_bytes()
    except (PictureError, OSError, ValueError):  # ValueError: a null character in the name
        return ""
    fits = max(picture.size) <= side and len(content) <= MAX_BYTES * (side / THUMBNAIL) ** 2
    if not (fits and content.startswith(b"\xff\xd8")):
        content = _as_jpeg(picture, side)
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")


def _as_jpeg(picture: Image.Image, side: int) -> bytes:
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85, optimize=True)
    return out.getvalue()
