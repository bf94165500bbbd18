"""Pictures as a program hands them over: paths, bytes, open files, PIL pictures, arrays, tensors; one or many.

All are read by the same rules as files: upright, 8 bits, transparency on white. Arrays and tensors are of uint8, or of
floats in [0, 1], in the layouts (H, W), (H, W, C) or (C, H, W) with C = 1, 3 or 4; one of four dimensions is that many
pictures. Nothing in an array says whether red or blue is first: red is.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import IO, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from convnext.data.aside import aside
from convnext.data.pictures.decode import Source, pixels_of
from convnext.data.pictures.levels import Range
from convnext.errors import UserError

Picture = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | NDArray[Any] | Tensor
"""One picture, as a path, the bytes of a file, an open file, a PIL picture, an array or a tensor."""
Pictures = Picture | Iterable[Picture]
"""One, or several: a list, an array (N, H, W, C) or (N, C, H, W), anything that can be gone through."""

CHANNELS = (1, 3, 4)
_LAYOUTS = "(H, W), (H, W, C) or (C, H, W) with C = 1, 3 or 4"


def is_one(pictures: Pictures) -> bool:
    """Whether this is one picture, not several."""
    if isinstance(pictures, np.ndarray | Tensor):
        names = isinstance(pictures, np.ndarray) and pictures.ndim > 0 and pictures.dtype.kind in "OUS"
        return pictures.ndim != 4 and not names
    return isinstance(pictures, str | os.PathLike | bytes | bytearray | memoryview | Image.Image) or _is_file(pictures)


def one_by_one(pictures: Pictures) -> list[Picture]:
    """The pictures, each for itself; open files are read, arrays are checked.

    Raises:
        UserError: something is no picture, or an array is not as it must be; the message has the rule.
    """
    if is_one(pictures):
        return [_checked(pictures, "the picture")]
    if not isinstance(pictures, Iterable):
        raise UserError(f"{type(pictures).__name__} is no picture; give {_KINDS}, or several of them")
    found: list[Picture] = []
    several: Iterable[Any] = pictures
    for picture in several:
        if is_one(picture):
            found.append(_checked(picture, title_of(picture, len(found))))
        elif isinstance(picture, np.ndarray | Tensor):  # a batch among others
            found += one_by_one(picture)
        else:
            raise UserError(f"{title_of(picture, len(found))} is a {type(picture).__name__}, no picture; give {_KINDS}")
    return found


def title_of(picture: Any, index: int) -> str:
    """What messages call a picture: its path, or its place among those that were given."""
    return os.fspath(picture) if isinstance(picture, str | os.PathLike) else f"pictures[{index}]"


def given_pixels(
    picture: Picture,
    *,
    mode: str,
    at_least: int | None = None,
    value_range: Range | None = None,
    name: str = "the picture",
) -> NDArray[np.uint8]:
    """The pixels of one picture of any kind, uint8 (H, W, C); the arguments are those of `decode.pixels_of`.

    Raises:
        PictureError: it cannot be read; "name: reason".
        UserError: it is no picture at all.
    """
    picture = _checked(picture, name)
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    source = cast("Source", picture)
    return pixels_of(source, mode=mode, at_least=at_least, value_range=value_range, name=name)


def _is_file(thing: Any) -> bool:
    return callable(getattr(thing, "read", None)) and not isinstance(thing, np.ndarray | Tensor)


_KINDS = "paths, bytes, open files, PIL pictures, arrays or tensors"


def _checked(picture: Any, name: str) -> Picture:
    """A picture that can be decoded later: files are read, arrays become uint8 (H, W, C)."""
    if _is_file(picture) and not isinstance(picture, os.PathLike):
        return _content(picture, name)
    if isinstance(picture, bytearray | memoryview):
        return bytes(picture)
    if isinstance(picture, str | os.PathLike) and not os.fspath(picture):
        raise UserError(f'{name or "the picture"}: "" names no file; is a variable empty?')
    if isinstance(picture, Tensor):
        return _as_rows(_array_of(picture, name), name)
    if isinstance(picture, np.ndarray):
        if not picture.ndim and picture.dtype.kind in "OUS":  # a name that NumPy wrapped
            return _checked(picture.item(), name)
        return _as_rows(picture, name)
    if not isinstance(picture, str | os.PathLike | bytes | Image.Image):
        raise UserError(f"{name} is a {type(picture).__name__}, no picture; give {_KINDS}")
    return picture


def _content(file: Any, name: str) -> bytes:
    """An open file from its beginning, where it can go back there: a buffer that was just written stands at its end."""
    try:
        with contextlib.suppress(OSError, AttributeError):  # a pipe, or a stream of a server
            file.seek(0)
        content = file.read()
    except (OSError, ValueError) as error:  # closed, or opened for writing
        raise UserError(f'{name} is an open file that cannot be read ({error}); open it by open(path, "rb")') from None
    if not isinstance(content, bytes):
        raise UserError(f'{name} is a file opened as text; open it by open(path, "rb")')
    return content


def _array_of(tensor: Tensor, name: str) -> NDArray[Any]:
    """A tensor's numbers; NumPy has no bf16, so floats of 16 bits become 32."""
    plain = tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_quantized or tensor.is_complex())
    if not plain:
        kind = "is on the meta device and has no values" if tensor.is_meta else "is not a plain tensor of numbers"
        raise UserError(f"{name} {kind}; give uint8 (0 to 255), or floats in [0, 1]")
    tensor = tensor.detach().cpu()
    array: NDArray[Any] = (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()
    return array


def _as_rows(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """An array of one picture as uint8 (H, W, C)."""
    if array.ndim == 2:
        array = array[..., None]
    last, first = (array.ndim == 3 and array.shape[at] in CHANNELS for at in (-1, 0))
    if array.ndim != 3 or not (first or last) or array.size == 0:
        raise UserError(f"{name} has the shape {tuple(array.shape)}; a picture is {_LAYOUTS}")
    if first and last:
        raise UserError(
            f"{name} has the shape {tuple(array.shape)}, which could be (H, W, C) or (C, H, W); give a PIL picture"
        )
    array = array if last else np.moveaxis(array, 0, -1)  # (C, H, W) -> (H, W, C)
    return np.ascontiguousarray(array if array.dtype == np.uint8 else _in_8_bits(array, name))


def _in_8_bits(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Floating-point pictures in [0, 1], which is said once; anything else has no range that is known."""
    if array.dtype.kind != "f":
        raise UserError(f"{name} holds {array.dtype}; pictures are uint8 (0 to 255), or floats in [0, 1]")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # also where one is no number
        raise UserError(
            f"{name} holds {array.dtype} from {low:.4g} to {high:.4g}; floating-point pictures must lie in [0, 1]. "
            "Give uint8 (0 to 255) as it was before any normalisation: the model normalises by itself"
        )
    global _said
    if not _said:
        aside("floating-point pictures are taken as values in [0, 1], rounded to 8 bits")
        _said = True
    return np.rint(array.astype(np.float64) * 255).astype(np.uint8)


_said = False
