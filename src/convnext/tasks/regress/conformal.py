"""Split-conformal intervals: around an answer, so wide that the wanted share of them holds the truth.

Pictures that took no part in training, nor in the choice of its best epoch, calibrate: the interval's half-width is the
k-th smallest of their n absolute errors, k = ceil((n + 1) * level). Whatever the model, and whatever its errors look
like, an interval around the answer to a new picture then holds the truth with a probability of at least `level`, and of
at most level + 1 / (n + 1) where no errors are equal (Papadopoulos et al., "Inductive Confidence Machines for
Regression", 2002; Lei et al., "Distribution-Free Predictive Inference for Regression", 2018, theorem 2.2). What this
rests on, and what it does not say:

- New pictures must come as the calibration pictures did: of other cameras or clinics it says nothing.
- The share holds over pictures and calibrations together. Of one calibration with n pictures the true coverage varies,
  with a deviation of about sqrt(level * (1 - level) / n): 3 points with 100 pictures at 90 %.
- It holds over all pictures, not for each kind: intervals of one width are too wide for easy pictures and too narrow
  for hard ones. Errors divided by the spread that the network predicts give intervals that follow it (`scaled`), with
  the same guarantee however wrong the spread is.
- With fewer than level / (1 - level) pictures (see `needed`) k is beyond n and no finite interval has
  this coverage. There is none then, never a made-up one.

Everything is in standardised units (see `scaling`), target by target; with several targets each interval has the level
by itself. On a log scale the interval is made of logarithms and put back: it is lopsided around the answer then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.data.names import count, printable
from convnext.errors import DataError
from convnext.tasks.regress.scaling import Scaling, Target

Array = NDArray[np.float64]

SMALLEST_SPREAD = 1e-3
"""In standard deviations of the target: a predicted spread below counts as this one, so that none is divided by 0."""


def rank(n: int, level: float) -> int:
    """Which of n errors, counted from the smallest, bounds `level` of new ones: ceil((n + 1) * level); may be n + 1.

    Raises:
        ValueError: n is below 0, or the level is not between 0 and 1.
    """
    if n < 0 or not 0 < level < 1:
        raise ValueError(f"a level of {level} from {n} pictures; it must be between 0 and 1, n at least 0")
    return math.ceil((n + 1) * Fraction(str(float(level))))  # 0.55 as it is written: 100 * 0.55 is above 55


def needed(level: float) -> int:
    """The smallest number of calibration pictures that gives a finite interval: ceil(level / (1 - level)).

    9 at 90 %, 19 at 95 %, 99 at 99 %.

    Raises:
        ValueError: the level is not between 0 and 1.
    """
    rank(0, level)
    share = Fraction(str(float(level)))
    return math.ceil(share / (1 - share))


def conformal_quantile(errors: Array, level: float) -> float | None:
    """The error that bounds `level` of new ones: the `rank`-th smallest of (n,); None where there are too few.

    Raises:
        ValueError: an error is NaN or infinite, or the level is not between 0 and 1.
    """
    errors = np.asarray(errors, np.float64)
    if errors.ndim != 1 or not np.isfinite(errors).all():
        raise ValueError(
            f"errors of shape {errors.shape}, {np.sum(~np.isfinite(errors))} not finite; all must be, (n,)"
        )
    k = rank(len(errors), level)
    return float(np.partition(errors, k - 1)[k - 1]) if k <= len(errors) else None


@dataclass(frozen=True)
class Calibration:
    """What the calibration pictures say about one target.

    Attributes:
        level: the share of intervals that shall hold the truth.
        pictures: calibration pictures with a known value.
        absolute: half-width of an interval, standardised; None where there are too few pictures.
        scaled: half-width in predicted spreads; None too where the network predicts none.

    Raises:
        ValueError: on creation, where the numbers contradict each other.
    """

    level: float
    pictures: int
    absolute: float | None
    scaled: float | None = None

    def __post_init__(self) -> None:
        enough = rank(self.pictures, self.level) <= self.pictures
        widths = [width for width in (self.absolute, self.scaled) if width is not None]
        if any(not math.isfinite(width) or width < 0 for width in widths) or enough != (self.absolute is not None):
            raise ValueError(
                f"half-widths of {self.absolute} and {self.scaled} from {count(self.pictures, 'picture')} at a level "
                f"of {self.level}; they must be finite and at least 0, and None below {needed(self.level)} pictures"
            )
        if self.scaled is not None and not enough:
            raise ValueError(f"a scaled half-width from {self.pictures} pictures; {needed(self.level)} are needed")

    def half_widths(self, spreads: Array | None, n: int) -> Array | None:
        """Half-widths (n,) of n intervals: scaled by the spreads (n,), or without them all the same; None for none."""
        if spreads is not None:
            return None if self.scaled is None else self.scaled * np.maximum(spreads, SMALLEST_SPREAD)
        return None if self.absolute is None else np.full(n, self.absolute)

    def shortage(self, name: str) -> str:
        """Why there is no interval, in a sentence; "" where there is one."""
        if self.absolute is not None:
            return ""
        return (
            f'no {100 * self.level:g} % intervals for target "{printable(name)}": they need at least '
            f"{needed(self.level)} calibration pictures with a known value, and there "
            f"{'is' if self.pictures == 1 else 'are'} {self.pictures}: set more aside, or ask for a lower coverage"
        )

    def to_json(self) -> dict[str, Any]:
        """For a model file; `from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Calibration:
        """What `to_json` wrote.

        Raises:
            DataError: it is something else.
        """
        try:
            level, pictures, widths = data["level"], data["pictures"], (data["absolute"], data["scaled"])
            if isinstance(pictures, bool) or not isinstance(pictures, int):
                raise TypeError("pictures are counted")
            for number in (level, *widths):
                if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
                    raise TypeError("not a number")
            return cls(level, pictures, *widths)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                "the calibration of the intervals is not readable; it must have level, pictures, absolute and scaled "
                "as this program writes them: save the model again"
            ) from error


def calibrate(truth: Array, values: Array, spreads: Array | None, level: float) -> tuple[Calibration, ...]:
    """Learn the intervals of each target from pictures that took no part in training.

    Args:
        truth: (N, T) standardised, NaN where a value is missing: left out for that target alone.
        values: (N, T) answers, standardised and within the targets' ranges (`Scaling.clip`).
        spreads: (N, T) predicted spreads, standardised; None where the network predicts none.
        level: the share of intervals that shall hold the truth.

    Raises:
        ValueError: shapes that do not belong together, answers that are not finite, or a level not between 0 and 1.
    """
    truth, values = np.asarray(truth, np.float64), np.asarray(values, np.float64)
    spreads = None if spreads is None else np.asarray(spreads, np.float64)
    if truth.ndim != 2 or truth.shape != values.shape or (spreads is not None and spreads.shape != truth.shape):
        shapes = [part.shape for part in (truth, values, spreads) if part is not None]
        raise ValueError(f"truth, values and spreads have the shapes {shapes}; they must be the same, (N, T)")
    found = []
    for t in range(truth.shape[1]):
        known = ~np.isnan(truth[:, t])
        errors = np.abs(truth[known, t] - values[known, t])
        scaled = None
        if spreads is not None:
            scaled = conformal_quantile(errors / np.maximum(spreads[known, t], SMALLEST_SPREAD), level)
        found.append(Calibration(float(level), int(known.sum()), conformal_quantile(errors, level), scaled))
    return tuple(found)


def intervals_in_unit(
    scaling: Scaling, calibrations: Sequence[Calibration], values: Array, spreads: Array | None = None
) -> list[Array | None]:
    """The interval of each answer in its target's unit, within the target's range.

    Args:
        scaling: of the model.
        calibrations: one a target.
        values: (N, T) answers, standardised.
        spreads: (N, T) predicted spreads, by which the intervals are scaled; None for intervals of one width.

    Returns:
        For each target (N, 2), the lower and the upper end; None where the calibration pictures were too few.
    """
    values = scaling.clip(values)
    found: list[Array | None] = []
    lows, highs = values.copy(), values.copy()
    for t, calibration in enumerate(calibrations):
        half = calibration.half_widths(None if spreads is None else np.asarray(spreads)[:, t], len(values))
        if half is not None:
            lows[:, t], highs[:, t] = values[:, t] - half, values[:, t] + half
        found.append(None if half is None else np.empty(0))
    low, high = scaling.back(lows), scaling.back(highs)
    return [None if part is None else np.column_stack([low[:, t], high[:, t]]) for t, part in enumerate(found)]


def interval_text(target: Target, value: float, low: float, high: float, level: float) -> str:
    """`34 ± 9 months, 90 %`, or where the interval is lopsided `34 (25 to 46) months, 90 %`.

    The digits are those that the half-width bears: two where it begins with 10 to 35, else one (Particle Data Group,
    "Review of Particle Physics", section 5.3 of the introduction).
    """
    half = (high - low) / 2
    decimals = _decimals(half)
    if abs((high - value) - (value - low)) <= 1e-6 * half or half == 0:
        text = f"{value:,.{decimals}f} ± {half:,.{decimals}f}"
    else:
        text = f"{value:,.{decimals}f} ({low:,.{decimals}f} to {high:,.{decimals}f})"
    return f"{' '.join([text, *([target.unit] if target.unit else [])])}, {100 * level:g} %"


def _decimals(half: float) -> int:
    """Decimals after the point that a half-width bears; 0 where it is large, 2 where it is 0."""
    if half == 0:
        return 2
    exponent = math.floor(math.log10(half))
    leading = half / 10.0**exponent  # from 1 to 10
    return min(12, max(0, -exponent + (1 if leading < 3.55 else 0 if leading < 9.5 else -1)))
