"""Where the pixels of what the network sees come from: one geometry for a picture and what belongs to it.

Positions are continuous: x goes right and y down from the upper left corner, and the pixel in row i and column j covers
the square from (j, i) to (j + 1, i + 1), its middle at (j + 0.5, i + 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convnext.data.feed.affine import CORNERS, Matrix, area_of, areas_of, clipped, inverse, moved, scale, shift, turn
from convnext.data.pictures.transforms import filled, pad_to_square, resize, rotated_crop
from convnext.errors import DataError

Size = tuple[int, int]
"""Height and width, pixels."""


@dataclass(frozen=True)
class View:
    """A square that shows a part of a picture: resized, then turned, mirrored and turned by quarters, in this order.

    `box` stands in shares of the upright picture, so it holds for the picture at any size: decoded at a part of its
    size, or a mask at all of it.

    Attributes:
        size: side of the result, pixels.
        height: of the picture for which the view was made, pixels, upright and as it was decoded.
        width: likewise.
        box: x0, y0, x1, y1 of what is shown, as shares of the picture's width and height; where it is rotated it may
            reach beyond the picture.
        place: x0, y0, x1, y1 of where the box lies in the result before it is mirrored and turned, whole pixels. It may
            reach beyond the result, which then shows a part of the box; where it does not fill it the border is seen.
        rotation: degrees by which the result's content is turned counterclockwise about the middle of the box.
        border: what is beyond the picture: a colour, for each channel of pictures in [0, 1], up to the square around
            the picture (data.fit = "pad"); () where nothing is, and a rotation shows the picture mirrored there.
        mirror: left and right are exchanged.
        upside_down: top and bottom are exchanged.
        quarter_turns: turns by 90 degrees counterclockwise, after the mirrors: 0 to 3.
    """

    size: int
    height: int
    width: int
    box: tuple[float, float, float, float]
    place: tuple[int, int, int, int]
    rotation: float = 0.0
    border: tuple[float, ...] = ()
    mirror: bool = False
    upside_down: bool = False
    quarter_turns: int = 0

    def picture(self, pixels: Tensor, interpolation: str) -> Tensor:
        """The result. uint8 (C, H, W) -> (C, size, size).

        Args:
            pixels: the upright picture. At the size for which the view was made the box's edges are edges of pixels; at
                any other they are rounded to them.
            interpolation: resampling filter, "bicubic" or "bilinear", with antialiasing.
        """
        _, height, width = pixels.shape
        x0, y0, x1, y1 = self.box
        x0, y0, x1, y1 = round(x0 * width), round(y0 * height), round(x1 * width), round(y1 * height)
        if self.rotation:
            if self.border:
                pixels = pad_to_square(pixels, self.border)
                right, down = ((max(height, width) - n) // 2 for n in (width, height))
                x0, y0, x1, y1 = x0 + right, y0 + down, x1 + right, y1 + down
            out = rotated_crop(pixels, (y0, x0, y1 - y0, x1 - x0), self.rotation, self.size, interpolation)
        else:
            if x0 == x1 or y0 == y1:  # of a picture much smaller than that for which the view was made
                x0, y0 = min(x0, width - 1), min(y0, height - 1)
                x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
            part = pixels[:, y0:y1, x0:x1]
            left, top, right, bottom = self.place
            out = resize(part, bottom - top, right - left, interpolation)
            if self.place != (0, 0, self.size, self.size):
                out = self._placed(out)
        return self._turned(out)

    def mask(self, mask: Tensor, fill: int = 255) -> Tensor:
        """A mask of the picture in the result: each pixel takes the value at the place where its middle lies.

        Where there is no picture it is `fill`: on the border, and where a rotation shows the picture mirrored.

        Args:
            mask: (..., H, W), any type of integers: of the upright picture, at its full size or another.
            fill: the value that stands for nothing, by custom 255.

        Returns:
            (..., size, size), of the same type.

        Raises:
            DataError: the mask has not the picture's shape.
            ValueError: `fill` is no value of the mask's type.
        """
        height, width = mask.shape[-2:]
        self._check_shape((height, width), "mask")
        self._check_fill(mask.dtype, fill)
        if self.rotation:
            rows, columns = self._rotated_places(height, width)  # (size, size) each
            out = mask[..., rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
            outside = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)
        else:
            rows, columns = self._places(1, height), self._places(0, width)  # (size,) each, -1 outside
            out = mask[..., rows.clamp(min=0), :][..., columns.clamp(min=0)]
            outside = (rows < 0)[:, None] | (columns < 0)
        return self._turned(out.masked_fill(outside, fill))

    def points(self, points: Tensor, of: Size | None = None) -> Tensor:
        """Places x, y (N, 2), in pixels of the picture -> in pixels of the result, not clipped; see `boxes` for `of`.

        Raises:
            DataError: `of` has not the picture's shape.
            ValueError: the points have not the shape (N, 2).
        """
        found = moved(self._to_result, _numbers(points, 2) / self._full(of)[:2])
        return _like(found, points)

    def boxes(self, boxes: Tensor, of: Size | None = None) -> tuple[Tensor, Tensor]:
        """Boxes of the picture in the result, and how much of each can still be seen.

        Args:
            boxes: (N, 4), x0, y0, x1, y1 in pixels of the upright picture.
            of: height and width of the picture in whose pixels they are, needed where it may have been decoded at a
                part of its size; None: that for which the view was made.

        Returns:
            The smallest upright box around what is seen of each (N, 4), in pixels of the result, within [0, size];
            and the seen share of each one's area (N,). What is not seen at all is (0, 0, 0, 0), its share 0, as is that
            of a box without an area. What of a box lies beyond the picture is not seen. A rotation gives the larger box
            around the turned one.

        Raises:
            DataError: `of` has not the picture's shape.
            ValueError: the boxes have not the shape (N, 4).
        """
        given = _numbers(boxes, 4) / self._full(of)
        inside = given.clip(0, 1)
        areas = areas_of(given)
        if self.rotation:
            found, seen = self._rotated_boxes(inside)
        else:
            corners = moved(self._to_result, inside.reshape(-1, 2)).reshape(-1, 2, 2)
            found = np.concatenate([corners.min(1), corners.max(1)], axis=1).clip(0, self.size)
            seen = areas_of(found)
        seen = seen / abs(float(np.linalg.det(self._to_result)))  # in shares of the picture's area
        shares = np.divide(seen, areas, out=np.zeros_like(areas), where=areas > 0).clip(0, 1)
        nothing = shares < 1e-9
        found[nothing], shares[nothing] = 0, 0
        return _like(found, boxes), _like(shares, boxes)

    def back(self, found: Tensor, of: Size | None = None) -> Tensor:
        """Points (N, 2) or boxes (N, 4) in pixels of the result -> in pixels of the picture; see `boxes` for `of`.

        Boxes are clipped to the picture. From a rotated view comes the upright box around the turned one.

        Raises:
            DataError: `of` has not the picture's shape.
            ValueError: it has neither shape.
        """
        columns = 4 if found.ndim == 2 and found.shape[1] == 4 else 2
        values, full = _numbers(found, columns), self._full(of)
        if columns == 2:
            return _like(moved(self._to_picture, values) * full[:2], found)
        corners = moved(self._to_picture, values[:, CORNERS].reshape(-1, 2)).reshape(-1, 4, 2)
        around = np.concatenate([corners.min(1), corners.max(1)], axis=1)
        return _like(around.clip(0, 1) * full, found)

    def _placed(self, part: Tensor) -> Tensor:
        """The box's pixels, already of their size, at their place in the result."""
        x0, y0, x1, y1 = self.place
        left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, self.size), min(y1, self.size)
        part = part[:, top - y0 : bottom - y0, left - x0 : right - x0]
        if part.shape[1:] == (self.size, self.size):
            return part
        out = filled(self.size, self.size, self.border)
        out[:, top:bottom, left:right] = part
        return out

    def _turned(self, out: Tensor) -> Tensor:
        """Mirrors and quarter turns of something (..., size, size)."""
        if self.mirror and self.upside_down:
            out = out.flip(-2, -1)
        elif self.mirror or self.upside_down:
            out = out.flip(-1 if self.mirror else -2)
        if self.quarter_turns:
            out = torch.rot90(out, self.quarter_turns, (-2, -1))
        return out

    def _places(self, axis: int, length: int) -> Tensor:
        """Index into `length` pixels of what lies under the middle of each pixel of the result; -1 outside. (size,)

        It is an exact fraction where the box's edges are edges of pixels, so that ties fall alike on every machine.
        """
        start, stop = (_snapped(self.box[at] * length) for at in (axis, axis + 2))
        first, last = self.place[axis], self.place[axis + 2]
        middles = 2 * torch.arange(self.size, dtype=torch.float64) + 1 - 2 * first
        at = middles * (stop - start) / (2 * (last - first)) + start
        outside = (middles < 0) | (middles > 2 * (last - first)) | (at < 0) | (at >= length)
        return at.floor().long().masked_fill(outside, -1)

    def _rotated_places(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Rows and columns of a mask under the pixels of the result before mirrors and turns, (size, size) each."""
        middles = np.arange(self.size) + 0.5
        x, y = np.meshgrid(middles, middles)
        at = moved(inverse(self._to_frame), np.stack([x.ravel(), y.ravel()], axis=1)) * (width, height)
        columns, rows = torch.from_numpy(np.floor(at)).long().T.reshape(2, self.size, self.size)
        return rows, columns

    def _rotated_boxes(self, inside: Matrix) -> tuple[Matrix, NDArray[np.float64]]:
        """Upright boxes around what is seen of boxes in shares of the picture (N, 4), and the seen areas (N,)."""
        found, seen = np.zeros_like(inside), np.zeros(len(inside))
        corners = moved(self._to_result, inside[:, CORNERS].reshape(-1, 2)).reshape(-1, 4, 2)
        for i, corner in enumerate(corners):
            polygon = clipped(corner, self.size)
            if len(polygon):
                found[i], seen[i] = (*polygon.min(0), *polygon.max(0)), area_of(polygon)
        return found, seen

    @cached_property
    def _to_frame(self) -> Matrix:
        """From shares of the picture to the result before it is mirrored and turned by quarters, (3, 3)."""
        x0, y0, x1, y1 = self.box
        left, top, right, bottom = self.place
        to_place = shift(left, top) @ scale((right - left) / (x1 - x0), (bottom - top) / (y1 - y0))
        if not self.rotation:
            return to_place @ shift(-x0, -y0)
        about_middle = scale(1 / self.width, 1 / self.height) @ turn(self.rotation) @ scale(self.width, self.height)
        half = (x1 - x0) / 2, (y1 - y0) / 2
        return to_place @ shift(*half) @ about_middle @ shift(-x0 - half[0], -y0 - half[1])

    @cached_property
    def _to_result(self) -> Matrix:
        """From shares of the picture to pixels of the result, (3, 3)."""
        matrix, size = self._to_frame, self.size
        if self.mirror:
            matrix = shift(size, 0) @ scale(-1, 1) @ matrix
        if self.upside_down:
            matrix = shift(0, size) @ scale(1, -1) @ matrix
        for _ in range(self.quarter_turns):
            matrix = np.array([[0, 1, 0], [-1, 0, size], [0, 0, 1]]) @ matrix  # x, y -> y, size - x
        return matrix

    @cached_property
    def _to_picture(self) -> Matrix:
        """From pixels of the result to shares of the picture, (3, 3)."""
        return inverse(self._to_result)

    def _full(self, of: Size | None) -> NDArray[np.float64]:
        """Width, height, width, height of the picture in whose pixels boxes are."""
        height, width = (self.height, self.width) if of is None else of
        self._check_shape((height, width), "picture that boxes or points belong to")
        return np.array([width, height, width, height], dtype=np.float64)

    def _check_shape(self, shape: Size, what: str) -> None:
        """Something of another shape does not belong to the picture, or was not turned upright with it.

        Decoding and shrinking round each side by less than two pixels.
        """
        (height, width), most = shape, 2 * max(sum(shape), self.height + self.width)
        turned = shape == (self.width, self.height) and height != width
        if turned or min(shape) < 1 or abs(height * self.width - width * self.height) > most:
            raise DataError(
                f"the {what} has {height} rows of {width} pixels, the upright picture {self.height} of {self.width}: "
                "they must have one shape; where a camera's orientation turns the picture, what belongs to it must be "
                "turned likewise"
            )

    def _check_fill(self, kind: torch.dtype, fill: int) -> None:
        if kind.is_floating_point:
            return
        low, high = (0, 1) if kind == torch.bool else (torch.iinfo(kind).min, torch.iinfo(kind).max)
        if not low <= fill <= high:
            raise ValueError(f"fill is {fill}; a mask of {kind} holds {low} to {high}: name one of them, or convert it")


def _snapped(place: float) -> float:
    """A place in pixels that came from a share: an edge of pixels where it was one."""
    whole = round(place)
    return whole if abs(place - whole) < 1e-6 else place


def _numbers(values: Tensor, columns: int) -> Matrix:
    """A tensor (N, columns) in float64."""
    if values.ndim != 2 or values.shape[1] != columns:
        rule = "boxes x0, y0, x1, y1 (N, 4)" if columns == 4 else "points x, y (N, 2)"
        raise ValueError(f"{rule} are needed, not a tensor of shape {tuple(values.shape)}")
    numbers: Matrix = values.detach().cpu().to(torch.float64).numpy()
    return numbers


def _like(values: NDArray[np.float64], given: Tensor) -> Tensor:
    """As a tensor of the type of what was given, where that was; whole numbers give float32."""
    return torch.from_numpy(values).to(given.device, given.dtype if given.dtype.is_floating_point else torch.float32)
