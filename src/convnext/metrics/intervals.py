"""95 % intervals by the percentile bootstrap over pictures.

A test set is a sample: another one of the same size would give other numbers. The bootstrap plays that out. It draws n
pictures of the n with replacement, computes the metric again, repeats this many times, and takes the middle 95 % of
what it saw (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13). Pictures are drawn from the
whole set, not class by class, so the number of pictures of a class varies too, as it would in a new test set.

What it does not do:

- It says nothing about the spread over training runs; only about the test pictures.
- It takes pictures as independent. Twenty photographs of one object are not twenty pictures, and the interval is then
  too narrow.
- With no variation there is no width: 12 right of 12 are 12 in every resample. What does not vary gets the score
  interval instead (Wilson, 1927), as `fraction_interval` says, and so do precision and recall of a class always, whose
  pictures are few: none of 12 is "0 % (0 to 24.2)", and of no picture nothing is known, [0, 1].
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


def wilson(share: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share of n pictures without drawing: the score interval (Wilson, 1927).

    An average over groups may give an n that is no whole number: as many pictures as would be as uncertain.

    Raises:
        ValueError: n is below 1, or the share is none.
    """
    if n < 1 or not 0 <= share <= 1:
        raise ValueError(f"a share of {share} of {n} pictures; it must be from 0 to 1, of at least one picture")
    z = 1.959963984540054
    middle, width = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (middle - width) / (1 + z * z / n), (middle + width) / (1 + z * z / n)
    return (0.0 if share == 0 else max(0.0, low)), (1.0 if share == 1 else min(1.0, high))


def wilson_rates(hits: NDArray[np.intp], of: NDArray[np.intp]) -> list[list[float]]:
    """Wilson's interval of each share hits / of; [0, 1] where `of` is 0: nothing is known."""
    return [list(wilson(int(h) / int(n), int(n))) if n else [0.0, 1.0] for h, n in zip(hits, of, strict=True)]


def as_many(pictures: NDArray[np.intp]) -> float:
    """How many pictures are as uncertain as the mean of one share a class, with `pictures` of each class (k,).

    The mean of K independent shares has the variance of a share of K^2 / sum(1 / n_k) pictures; classes without a
    picture are left out.
    """
    known = pictures[pictures > 0]
    return float(len(known) ** 2 / (1 / known).sum()) if len(known) else 0.0


def fraction_interval(values: NDArray[np.float64], value: float, n: float) -> list[float]:
    """The interval of a fraction: the resamples' `interval`, or where they do not vary Wilson's of `value` and n."""
    low, high = interval(values)
    if high - low > 1e-9 or not 0 <= value <= 1:
        return [low, high]
    return list(wilson(value, n)) if n >= 1 else [0.0, 1.0]


def interval(values: NDArray[np.float64], level: float = LEVEL) -> list[float]:
    """The middle `level` of the resampled values, as [low, high].

    Without any value nothing is known, and the interval is the whole range of a fraction, [0, 1].
    """
    if values.size == 0:
        return [0.0, 1.0]
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return [float(low), float(high)]
