"""Between a target's own unit and the standardised numbers that a network learns.

Networks learn numbers around 0 with a deviation of 1; prices in cents or volumes in microlitres as they are would need
rates of their own, or end in NaN. So a target is standardised by the mean and the deviation of the training pictures,
on a log scale by those of its logarithms, and answers are put back. Both stand in the model file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.data.names import figure, printable
from convnext.errors import DataError

Array = NDArray[np.float64]

_LARGEST_EXPONENT = 700.0
"""Of e: what lies beyond is no number any more; an answer stays finite."""


@dataclass(frozen=True)
class Target:
    """One number that pictures are asked for.

    Attributes:
        name: its column.
        unit: what it is counted in, for people; "" for none.
        log: it is learnt on a log scale: errors are then ratios, and every value must be above 0.
        low: the smallest value that can be; answers below become it. None for no bound.
        high: the largest one.

    Raises:
        DataError: on creation, where the range is empty or does not fit the log scale.
    """

    name: str
    unit: str = ""
    log: bool = False
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        ends = [end for end in (self.low, self.high) if end is not None]
        if not all(math.isfinite(end) for end in ends) or (len(ends) == 2 and ends[0] >= ends[1]):
            raise DataError(
                f'the range of target "{printable(self.name)}" is {self.low} to {self.high}; its lower end must be '
                "below its upper end, both finite: set task.range anew"
            )
        if self.log and self.high is not None and self.high <= 0:
            raise DataError(
                f'the range of target "{printable(self.name)}" ends at {figure(self.high)}; on a log scale values are '
                "above 0: set task.range anew, or task.scale=linear"
            )

    def in_unit(self, value: float) -> str:
        """`34 months`: a value as a person reads it."""
        return f"{figure(value)} {self.unit}".strip()

    def refuse_impossible(self, values: Array, places: Sequence[str] = ()) -> None:
        """Refuse values that this target cannot have: infinite ones, those outside its range, 0 or less on a log scale.

        Args:
            values: (N,), NaN where one is missing.
            places: where each stands, as `table.csv, line 7`; () where that is not known.

        Raises:
            DataError: the first such value, where it stands, how many there are, and what to do.
        """
        self._refuse(np.isinf(values), values, places, "every value must be finite", "correct the cell or empty it")
        if self.low is not None or self.high is not None:
            low, high = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
            rule = f"task.range is {figure_or(self.low, 'open')} to {figure_or(self.high, 'open')}"
            outside = (values < low) | (values > high)
            self._refuse(outside, values, places, rule, "correct the cell, or widen task.range")
        if self.log:
            rule = "on a log scale every value must be above 0"
            remedy = (
                "set task.scale=linear, or add the same number to the whole column (say 1, where 0 is a true value)"
            )
            self._refuse(values <= 0, values, places, rule, remedy)

    def _refuse(self, wrong: NDArray[np.bool_], values: Array, places: Sequence[str], rule: str, remedy: str) -> None:
        at = np.flatnonzero(wrong)
        if not len(at):
            return
        place = f"{places[at[0]]}: " if len(places) else ""
        more = f" ({len(at):,} values of {len(values):,} break this rule)" if len(at) > 1 else ""
        name = printable(self.name)
        raise DataError(f'{place}target "{name}" is {figure_or(values[at[0]], "")}; {rule}{more}: {remedy}')


@dataclass(frozen=True)
class Scaling:
    """How the targets of a model are standardised: (x - mean) / deviation, with x the value or its logarithm.

    Attributes:
        targets: what they are, T of them.
        mean: of the training pictures, one a target, of the logarithms on a log scale.
        deviation: likewise (of the population: divided by n).

    Raises:
        DataError: on creation, where the numbers are none that could come from training.
    """

    targets: tuple[Target, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.targets or not len(self.targets) == len(self.mean) == len(self.deviation):
            raise DataError(
                f"{len(self.targets)} targets with {len(self.mean)} means and {len(self.deviation)} deviations; each "
                "target has one of each"
            )
        for target, mean, deviation in zip(self.targets, self.mean, self.deviation, strict=True):
            if not (math.isfinite(mean) and math.isfinite(deviation) and deviation > 0):
                raise DataError(
                    f'target "{printable(target.name)}" has the mean {mean} and the deviation {deviation}; both must '
                    "be finite, and the deviation above 0"
                )

    @classmethod
    def of(cls, targets: Sequence[Target], values: Array, places: Sequence[str] = ()) -> Scaling:
        """Learnt from the training pictures.

        Args:
            targets: what is asked for.
            values: (N, T) in the targets' units, NaN where one is missing.
            places: where each row stands, for messages.

        Raises:
            DataError: a value that its target cannot have, or a target with fewer than two different values.
        """
        values = _shaped(values, len(targets))
        means, deviations = [], []
        for target, column in zip(targets, values.T, strict=True):
            target.refuse_impossible(column, places)
            known = column[~np.isnan(column)]
            _refuse_constant(target, known)
            moved = np.log(known) if target.log else known
            with np.errstate(over="ignore", invalid="ignore"):  # squares of 1e200: refused on creation
                means.append(float(moved.mean()))
                deviations.append(float(moved.std()))
        return cls(tuple(targets), tuple(means), tuple(deviations))

    def standardise(self, values: Array, places: Sequence[str] = ()) -> Array:
        """Values in their units as the network learns them: (N, T) -> (N, T); NaN stays NaN.

        Raises:
            DataError: a value that its target cannot have.
        """
        values = _shaped(values, len(self.targets))
        for target, column in zip(self.targets, values.T, strict=True):
            target.refuse_impossible(column, places)
        logs = np.array([target.log for target in self.targets])
        moved = np.where(logs, np.log(np.where(logs, values, 1.0)), values)
        standardised: Array = (moved - np.array(self.mean)) / np.array(self.deviation)
        return standardised

    def to_learn(self, values: Array) -> Array:
        """As `standardise`, of values that were looked at before: what a log scale has no place for becomes NaN."""
        values = _shaped(values, len(self.targets))
        logs = np.array([target.log for target in self.targets])
        possible = ~logs | (values > 0)
        with np.errstate(invalid="ignore"):
            moved = np.where(logs, np.log(np.where(possible & logs, values, 1.0)), values)
        standardised: Array = (moved - np.array(self.mean)) / np.array(self.deviation)
        return np.where(possible & np.isfinite(values), standardised, np.nan)

    @property
    def deviation_in_unit(self) -> tuple[float, ...]:
        """The deviations in the targets' units; on a log scale as far as one goes above the mean and below, halved."""
        zeros, ones = np.zeros((1, len(self.targets))), np.ones((1, len(self.targets)))
        return tuple(self.spread_back(zeros, ones)[0].tolist())

    def back(self, values: Array) -> Array:
        """Standardised values in their units, within the targets' ranges: (N, T) -> (N, T)."""
        found = self._unbounded(_shaped(values, len(self.targets)))
        lows = [-math.inf if target.low is None else target.low for target in self.targets]
        highs = [math.inf if target.high is None else target.high for target in self.targets]
        return np.clip(found, lows, highs)

    def spread_back(self, values: Array, spreads: Array) -> Array:
        """Standardised spreads in the targets' units: (N, T) of values and of spreads -> (N, T).

        Half of the distance between one spread above the value and one below it. On a log scale this grows with the
        value: exp(x) sinh(s), with x and s the logarithm and its spread. The range does not cut it.
        """
        values, spreads = _shaped(values, len(self.targets)), _shaped(spreads, len(self.targets))
        return self._unbounded(values + spreads) / 2 - self._unbounded(values - spreads) / 2

    def clip(self, values: Array) -> Array:
        """Standardised values within the targets' ranges, standardised still: (N, T) -> (N, T).

        Residuals that intervals are made of are those of the answers as they are given, so of clipped ones.
        """
        values = _shaped(values, len(self.targets))
        lows, highs = zip(*(self._ends(t) for t in range(len(self.targets))), strict=True)
        return np.clip(values, lows, highs)

    def to_json(self) -> dict[str, Any]:
        """For a model file; `from_json` reads it."""
        return {
            "targets": [asdict(target) for target in self.targets],
            "mean": list(self.mean),
            "deviation": list(self.deviation),
        }

    @classmethod
    def from_json(cls, data: Any) -> Scaling:
        """What `to_json` wrote.

        Raises:
            DataError: it is something else.
        """
        try:
            targets = tuple(_target_from(entry) for entry in _list(data["targets"]))
            mean, deviation = (tuple(_number(x) for x in _list(data[key])) for key in ("mean", "deviation"))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                "the description of the targets is not readable; it must have targets, mean and deviation as this "
                "program writes them: save the model again"
            ) from error
        return cls(targets, mean, deviation)

    def _ends(self, t: int) -> tuple[float, float]:
        """The range of one target, standardised; infinite where it is open."""
        target, mean, deviation = self.targets[t], self.mean[t], self.deviation[t]
        ends = []
        for end, far in ((target.low, -math.inf), (target.high, math.inf)):
            if end is None or (target.log and end <= 0):
                ends.append(far)
            else:
                ends.append(((math.log(end) if target.log else end) - mean) / deviation)
        return ends[0], ends[1]

    def _unbounded(self, values: Array) -> Array:
        """Standardised values in their units, without regard to the ranges."""
        moved: Array = values * np.array(self.deviation) + np.array(self.mean)
        logs = np.array([target.log for target in self.targets])
        powers = np.exp(np.clip(np.where(logs, moved, 0.0), -_LARGEST_EXPONENT, _LARGEST_EXPONENT))
        return np.where(logs, powers, moved)


def figure_or(value: float | None, otherwise: str) -> str:
    """A number as people write it, signs of infinity and all; `otherwise` for None."""
    if value is None:
        return otherwise
    return figure(float(value)) if math.isfinite(value) else str(float(value))


def _refuse_constant(target: Target, known: Array) -> None:
    name = printable(target.name)
    if known.size == 0:
        raise DataError(f'target "{name}" has no value in the training pictures; fill its column, or leave it out')
    if known.min() == known.max():
        raise DataError(
            f'target "{name}" is {target.in_unit(known[0])} in all {known.size:,} training pictures; there must be two '
            "different values at least, or there is nothing to learn: choose another column"
        )


def _shaped(values: Array, targets: int) -> Array:
    """Values as (N, T) in float64.

    Raises:
        ValueError: another shape.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[1] != targets:
        raise ValueError(f"values have the shape {values.shape}; with {targets} targets it must be (N, {targets})")
    return values


def _target_from(entry: Mapping[str, Any]) -> Target:
    name, unit, log = entry["name"], entry["unit"], entry["log"]
    if not (isinstance(name, str) and isinstance(unit, str) and isinstance(log, bool)):
        raise TypeError("name and unit are text, log is true or false")
    low, high = (None if entry[key] is None else _number(entry[key]) for key in ("low", "high"))
    return Target(name, unit, log, low, high)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a number")
    return float(value)
