"""The metrics of regression over weighted pictures: one formula for the value itself and for every resample.

A resample of n pictures is how often it drew each of them: a row of (b, n) counts that sums to n. A row of ones is the
set itself. What has no value there (a correlation with something constant) is NaN, and nothing else is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convnext.metrics.intervals import count_rows, resamples

Array = NDArray[np.float64]
Measures = dict[str, Array]

_CONSTANT = 1e-12
"""Share of the mean square below which a variance is what rounding left of 0."""


@dataclass(frozen=True)
class Answers:
    """Truth and answer of each picture, (n,) each, sorted by truth; and of their intervals which hold it, how wide."""

    truth: Array
    values: Array
    inside: Array | None = None
    widths: Array | None = None

    @classmethod
    def of(cls, truth: Array, values: Array, ends: Array | None = None) -> Answers:
        """In an order that depends on nothing but the numbers; `ends` is (n, 2), the intervals."""
        if ends is None:
            order = np.lexsort((values, truth))
            return cls(truth[order], values[order])
        order = np.lexsort((ends[:, 1], ends[:, 0], values, truth))
        truth, values, ends = truth[order], values[order], ends[order]
        inside = (truth >= ends[:, 0]) & (truth <= ends[:, 1])
        return cls(truth, values, inside.astype(np.float64), ends[:, 1] - ends[:, 0])

    def constant(self, value: float) -> Answers:
        """The same pictures, all answered alike."""
        return Answers(self.truth, np.full(self.truth.shape, value))

    @property
    def n(self) -> int:
        """Pictures."""
        return len(self.truth)

    @property
    def errors(self) -> Array:
        """How far each answer is from the truth, (n,)."""
        return np.abs(self.values - self.truth)


def draws(n: int, count: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Chunks (b, n) of how often each picture was drawn, `count` rows in all, as `intervals.resamples` draws them."""
    return (count_rows(rows, n) for rows in resamples(n, count, seed))


def measure(answers: Answers, counts: NDArray[np.intp], within: tuple[float, ...]) -> Measures:
    """All metrics, (b,) each: mae, rmse, median_error, bias, within_K, r2, pearson, spearman, coverage, width.

    Args:
        answers: n pictures.
        counts: (b, n) how often each picture counts.
        within: the K of within_K, in the unit of the target.
    """
    found = errors_of(answers, counts, within) | agreement_of(answers, counts)
    if answers.inside is not None and answers.widths is not None:
        found |= {"coverage": counts @ answers.inside / answers.n, "width": counts @ answers.widths / answers.n}
    return found


def errors_of(answers: Answers, counts: NDArray[np.intp], within: tuple[float, ...]) -> Measures:
    """The metrics that are made of each picture's own error, (b,) each."""
    errors, n = answers.errors, answers.n
    return {
        "mae": counts @ errors / n,
        "rmse": np.sqrt(counts @ errors**2 / n),
        "median_error": _median(errors, counts),
        "bias": counts @ (answers.values - answers.truth) / n,
        **{within_key(k): counts @ (errors <= k).astype(np.float64) / n for k in within},
    }


def means_of_part(answers: Answers, counts: NDArray[np.intp], part: slice) -> Measures:
    """Means over some of the pictures, (b,) each, NaN where none of them was drawn: mae, bias, coverage, width."""
    drawn = counts[:, part]
    size = drawn.sum(1)
    each = {"mae": answers.errors, "bias": answers.values - answers.truth}
    if answers.inside is not None and answers.widths is not None:
        each |= {"coverage": answers.inside, "width": answers.widths}
    return {key: np.where(size > 0, drawn @ of[part] / np.maximum(size, 1), np.nan) for key, of in each.items()}


def within_key(k: float) -> str:
    """`within_5`: the name of the share of answers that are at most 5 from the truth (CS@5)."""
    return f"within_{k:g}"


def agreement_of(answers: Answers, counts: NDArray[np.intp]) -> Measures:
    """R squared and the correlations, (b,) each, NaN where the truth, or for a correlation the answer, is constant."""
    truth, values, n = answers.truth - answers.truth[0], answers.values - answers.values[0], answers.n
    variance, other = _variance(truth, counts), _variance(values, counts)
    covariance = counts @ (truth * values) / n - (counts @ truth / n) * (counts @ values / n)
    squares = counts @ (answers.values - answers.truth) ** 2 / n
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = 1 - squares / variance
        pearson = np.clip(covariance / np.sqrt(variance * other), -1, 1)
        x, y = _ranks(answers.truth, counts), _ranks(answers.values, counts)
        spearman = (counts * x * y).sum(1) / np.sqrt((counts * x * x).sum(1) * (counts * y * y).sum(1))
    return {"r2": r2, "pearson": pearson, "spearman": np.clip(spearman, -1, 1)}


def _variance(values: Array, counts: NDArray[np.intp]) -> Array:
    """(b,) the variance of the pictures counted; NaN where they are all equal."""
    n = counts.shape[1]
    square = counts @ values**2 / n
    found = square - (counts @ values / n) ** 2
    return np.where(found > _CONSTANT * square, found, np.nan)


def _median(errors: Array, counts: NDArray[np.intp]) -> Array:
    """(b,) the median of the errors counted; the mean of the two middle ones where n is even."""
    n, order = len(errors), np.argsort(errors, kind="stable")
    up_to = counts[:, order].cumsum(1)
    middle: list[Array] = [errors[order][(up_to <= k).sum(1)] for k in ((n - 1) // 2, n // 2)]
    return (middle[0] + middle[1]) / 2


def _ranks(values: Array, counts: NDArray[np.intp]) -> Array:
    """(b, n) the rank of each picture among those counted, less the mean rank; equal values share their mean rank."""
    order = np.argsort(values, kind="stable")
    _, starts, group = np.unique(values[order], return_index=True, return_inverse=True)
    size = np.add.reduceat(counts[:, order], starts, axis=1)
    rank = size.cumsum(1) - (size - 1) / 2
    ranks = np.empty(counts.shape)
    ranks[:, order] = rank[:, group]
    ranks -= (counts.shape[1] + 1) / 2
    return ranks
