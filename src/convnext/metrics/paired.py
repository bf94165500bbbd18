"""Two answers to the same pictures: the exact McNemar test, Holm's correction, and paired bootstrap differences.

Two scores with intervals that overlap can still differ beyond doubt: both were measured on the same pictures, so most
of what makes either uncertain is common to both and cancels in their difference. What counts is the pictures on which
the two disagree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.metrics.intervals import interval

FEW = 25
"""Disagreements below which the bootstrap is too sure of itself, and the exact test has the last word."""
ALPHA = 0.05


def mcnemar(won: int, lost: int) -> float:
    """The two-sided p value that one answer is right as often as another, exact (McNemar, 1947; a sign test).

    Under that hypothesis each picture on which exactly one of the two is right falls to either with probability 1/2.

    Args:
        won: pictures that the first has right and the second has wrong.
        lost: the other way round.

    Raises:
        ValueError: a count below 0.
    """
    if won < 0 or lost < 0:
        raise ValueError(f"{won} pictures won and {lost} lost; counts are at least 0")
    n, k = won + lost, min(won, lost)
    if n <= 1000:
        tail = sum(math.comb(n, i) for i in range(k + 1)) / (1 << n)
    else:
        whole = math.lgamma(n + 1) - n * math.log(2)
        tail = math.fsum(math.exp(whole - math.lgamma(i + 1) - math.lgamma(n - i + 1)) for i in range(k + 1))
    return min(1.0, 2 * tail)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for being several (Holm, 1979), in the order given: at most 0.05 holds for all at once."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected


def bootstrap_p(differences: NDArray[np.float64]) -> float:
    """The two-sided p value of resampled differences: twice the share beyond 0, and never below what they can tell."""
    count = len(differences)
    beyond = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (beyond + 1) / (count + 1))


def gain(
    value: float, drawn: NDArray[np.float64], better: NDArray[np.bool_] | None, worse: NDArray[np.bool_] | None
) -> dict[str, Any]:
    """A difference with its paired bootstrap interval, ready for JSON.

    Args:
        value: the difference of two scores on the same pictures.
        drawn: (b,) the same in each resample; empty for no interval.
        better: (n,) the pictures on which the first is better, where that can be said of a picture; or None.
        worse: (n,) those on which it is worse.
    """
    out: dict[str, Any] = {"value": float(value), "interval": interval(drawn) if len(drawn) else None}
    if better is not None and worse is not None:
        won, lost = int(better.sum()), int(worse.sum())
        out |= {"won": won, "lost": lost, "p": mcnemar(won, lost)}
    return out


def side(difference: dict[str, Any]) -> int:
    """1 where a `gain` is settled to be better, -1 where worse, 0 where the pictures do not settle it.

    The paired interval must leave out 0; and where the two disagree on few pictures the exact test must agree.
    """
    ends = difference.get("interval")
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        return 0
    low, high = ends
    if not all(isinstance(end, int | float) and math.isfinite(end) for end in ends):
        return 0
    if low <= 0 <= high:
        return 0
    if "p" not in difference:
        if high - low < 1e-12:  # no resample differs from another: too few pictures to tell
            return 0
    elif difference.get("won", 0) + difference.get("lost", 0) < FEW and difference["p"] > ALPHA:
        return 0
    return 1 if low > 0 else -1


def gain_of_counts(won: int, lost: int, n: int, draws: int = 1000) -> dict[str, Any]:
    """The `gain` of a share of right answers from counts alone, as from results that say no more.

    Resampling n pictures of which the first wins `won` and the other `lost` is drawing these three counts anew.

    Raises:
        ValueError: the counts are no parts of n pictures.
    """
    if min(won, lost, n - won - lost) < 0 or n < 1:
        raise ValueError(f"{won} pictures won and {lost} lost of {n}; they must be parts of at least one")
    drawn = np.random.default_rng(0).multinomial(n, [won / n, lost / n, (n - won - lost) / n], size=draws)
    ends = interval((drawn[:, 0] - drawn[:, 1]) / n)
    return {"value": (won - lost) / n, "interval": ends, "won": won, "lost": lost, "p": mcnemar(won, lost)}
