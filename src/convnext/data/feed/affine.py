"""Points, boxes and polygons in the plane: moved by an affine matrix, clipped, measured. All in float64."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

CORNERS = (0, 1, 2, 1, 2, 3, 0, 3)
"""Columns of a box x0, y0, x1, y1 that give its four corners, one after the other around it."""


def shift(x: float, y: float) -> Matrix:
    """Adds x and y, (3, 3)."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=np.float64)


def scale(x: float, y: float) -> Matrix:
    """Multiplies by x and y, (3, 3)."""
    return np.diag(np.array([x, y, 1], dtype=np.float64))


def turn(degrees: float) -> Matrix:
    """Turns about the origin, (3, 3): counterclockwise to the eye, as y goes down."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], dtype=np.float64)


def inverse(matrix: Matrix) -> Matrix:
    """Of an affine matrix, (3, 3)."""
    result: Matrix = np.linalg.inv(matrix).astype(np.float64)
    return result


def moved(matrix: Matrix, points: Matrix) -> Matrix:
    """Points x, y (N, 2) moved by an affine matrix (3, 3)."""
    result: Matrix = points @ matrix[:2, :2].T + matrix[:2, 2]
    return result


def areas_of(boxes: Matrix) -> Matrix:
    """Areas (N,) of boxes x0, y0, x1, y1 (N, 4); 0 where an edge is on the wrong side of the other."""
    sides = (boxes[:, 2:] - boxes[:, :2]).clip(min=0)
    areas: Matrix = sides[:, 0] * sides[:, 1]
    return areas


def clipped(polygon: Matrix, size: float) -> Matrix:
    """What of a convex polygon (N, 2) lies within the square from 0 to `size`: another one (M, 2), M = 0 for nothing.

    One edge of the square after the other cuts off what is beyond it (Sutherland and Hodgman, 1974).
    """
    points = list(polygon)
    for axis, sign, limit in ((0, 1, 0.0), (0, -1, -size), (1, 1, 0.0), (1, -1, -size)):
        kept: list[Matrix] = []
        for here, after in zip(points, points[1:] + points[:1], strict=True):
            inside, beyond = sign * here[axis] - limit, sign * after[axis] - limit
            if inside >= 0:
                kept.append(here)
            if (inside >= 0) != (beyond >= 0):
                kept.append(here + (after - here) * (inside / (inside - beyond)))
        points = kept
    return np.array(points).reshape(-1, 2)


def area_of(polygon: Matrix) -> float:
    """The area of a polygon (N, 2) whose edges do not cross (the shoelace formula)."""
    x, y = polygon.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
