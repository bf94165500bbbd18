"""Which part of a picture a view shows: all of a box, a box of the padded square, or what evaluation takes."""

from __future__ import annotations

from convnext.data.feed.view import View
from convnext.data.pictures.transforms import eval_resize, short_size

STRIP = 8
"""A picture longer than so many times its short side is a strip: it is cropped before it is resized."""


Frame = tuple[tuple[float, float, float, float], tuple[int, int, int, int]]
"""A view's `box` and its `place`."""


def frame_of(box: tuple[int, int, int, int], height: int, width: int, size: int) -> Frame:
    """A box of the picture that fills the result.

    Args:
        box: top, left, height and width, pixels of the picture.
        height: of the picture.
        width: likewise.
        size: side of the result.
    """
    top, left, tall, wide = box
    return (left / width, top / height, (left + wide) / width, (top + tall) / height), (0, 0, size, size)


def padded_frame(box: tuple[int, int, int, int], height: int, width: int, size: int) -> Frame:
    """A box of the square around the picture that fills the result; the picture in it takes whole pixels of that.

    Args:
        box: top, left, height and width in that square, whose side is the picture's long side.
        height: of the picture, which lies in the square's middle.
        width: likewise.
        size: side of the result.

    Raises:
        ValueError: the box shows nothing of the picture.
    """
    spans = []
    for start, length, have in zip(box[:2], box[2:], (height, width), strict=True):
        before = (max(height, width) - have) // 2  # border above the picture, or left of it
        first, last = max(0, start - before), min(have, start + length - before)  # of the picture
        if first >= last:
            raise ValueError(f"box is {box}, which shows nothing of a picture of {height} x {width}; choose another")
        place = round((first + before - start) * size / length)
        long = max(1, round((last + before - start) * size / length) - place)
        place = min(place, size - long)
        spans.append((first / have, last / have, place, place + long))
    (y0, y1, top, bottom), (x0, x1, left, right) = spans
    return (x0, y0, x1, y1), (left, top, right, bottom)


def central_view(
    height: int,
    width: int,
    size: int,
    crop_ratio: float = 1.0,
    fit: str = "crop",
    border: tuple[float, ...] = (),
) -> View:
    """What the network sees in evaluation.

    Args:
        height: of the picture, pixels.
        width: likewise.
        size: side of the square, pixels.
        crop_ratio: share of what was resized that the central crop keeps.
        fit: "crop" resizes the short side; "squash" both sides, to a square, as the authors do at 384 pixels; "pad" the
            long side, and fills the rest.
        border: for "pad": what it is filled with, for each channel of pictures in [0, 1].
    """
    side = eval_resize(size, crop_ratio)
    cut = (height, width)
    if fit == "squash":
        resized = (side, side)
    elif fit == "pad":
        ratio = max(height, width) / side
        resized = (max(1, round(height / ratio)), max(1, round(width / ratio)))
    else:  # of a strip only the middle is resized: only that will be seen, and all of it could fill the memory
        cut = (min(height, STRIP * width), min(width, STRIP * height))
        resized = short_size(*cut, side)
    spans = []
    for have, shown, long in zip((height, width), cut, resized, strict=True):
        first = round((have - shown) / 2)
        start = -round((long - size) / 2) if long >= size else (size - long) // 2  # as torchvision splits an odd pixel
        spans.append((first / have, (first + shown) / have, start, start + long))
    (y0, y1, top, bottom), (x0, x1, left, right) = spans
    return View(
        size, height, width, (x0, y0, x1, y1), (left, top, right, bottom), border=border if fit == "pad" else ()
    )
