"""95 % intervals by the percentile bootstrap over pictures.

A test set is a sample: another one of the same size would give other numbers. The bootstrap plays that out. It draws n
pictures of the n with replacement, computes the metric again, repeats this many times, and takes the middle 95 % of
what it saw (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13). Pictures are drawn from the
whole set, not class by class, so the number of pictures of a class varies too, as it would in a new test set.

What it does not do:

- It says nothing about the spread over training runs; only about the test pictures.
- It takes pictures as independent. Twenty photographs of one object are not twenty pictures, and the interval is then
  too narrow.
- With no variation there is no width: a perfect score gets [1, 1], and one picture gets a single point. For a score of
  0 or 1 on n pictures a bound of 3 / n on the rest is the honest one (the rule of three).
- The metric itself need not lie inside. For averages over pictures (top-1, top-5, nll) it does, but for sets of a few
  pictures. It may not for metrics that sampling noise moves to one side. The calibration error grows with noise, so its
  interval leans upwards: for a well-calibrated classifier it can lie wholly above the value. Averages over classes of
  few pictures can lean too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
CHUNK = 1 << 20
"""Pictures drawn at a time, over all resamples of a chunk: bounds the memory whatever n and the number of resamples."""


def resamples(n: int, count: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Draw `count` times n of the numbers 0..n-1 with replacement; the same n, count and seed give the same draws.

    Yields:
        Chunks (b, n), `count` rows in all, with b * n at most max(n, CHUNK).

    Raises:
        ValueError: n below 1, or count or seed below 0.
    """
    if n < 1 or count < 0 or seed < 0:
        raise ValueError(
            f"n is {n}, the number of resamples {count}, the seed {seed}; n must be at least 1, the others at least 0"
        )
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK // n)
    for start in range(0, count, rows):
        yield rng.integers(0, n, size=(min(rows, count - start), n), dtype=np.intp)


def count_rows(values: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """How often each of 0..size-1 occurs in each row: (b, n) -> (b, size)."""
    b = len(values)
    offsets = np.arange(b)[:, None] * size
    return np.bincount((values + offsets).ravel(), minlength=b * size).reshape(b, size)


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n pictures without drawing: the score interval (Wilson, 1927).

    Raises:
        ValueError: n is below 1, or the share is none.
    """
    if n < 1 or not 0 <= share <= 1:
        raise ValueError(f"a share of {share} of {n} pictures; it must be from 0 to 1, of at least one picture")
    z = 1.959963984540054
    middle, width = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (middle - width) / (1 + z * z / n)), min(1.0, (middle + width) / (1 + z * z / n))


def interval(values: NDArray[np.float64], level: float = LEVEL) -> list[float]:
    """The middle `level` of the resampled values, as [low, high].

    Without any value nothing is known, and the interval is the whole range of a fraction, [0, 1].
    """
    if values.size == 0:
        return [0.0, 1.0]
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return [float(low), float(high)]
