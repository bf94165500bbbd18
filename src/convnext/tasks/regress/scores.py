"""How good answers in numbers are: errors in the target's unit, each beside a trivial answer and with an interval.

- **mae**, **rmse**, **median_error**: mean absolute error, root of the mean squared one, median absolute one.
- **bias**: the mean of answer - truth: above 0 the answers are too large.
- **within_K** (the cumulative score, CS@K): the share of answers that are at most K from the truth.
- **r2**: 1 - squared errors / squared deviations from the mean of the judged pictures; below 0 for answers that are
  worse than that mean. None where all have one value.
- **pearson**, **spearman**: correlation of answers and truth, and of their ranks (equal values share the mean of
  theirs). None where either is constant.
- **coverage**, **width**: share of the intervals that hold the truth, and their mean width.

**The trivial answer** says the same for every picture: the median of the judged pictures, and for rmse and r2 their
mean. For mae, rmse and r2 no other constant is better on these pictures. A constant orders nothing: 0 for the
correlations. Its interval holds the middle `level` of the judged pictures.

**Gains** are differences to it on the same pictures, above 0 where the model is better, also for errors. Their
intervals are paired: each resample judges both. `won` and `lost` count the pictures on which either is closer to the
truth (for within_K: within where the other is not), and p is that of the exact sign test.

Pictures are resampled, as `convnext.metrics.intervals` says. Shares that do not vary get Wilson's interval; of fewer
than 2 pictures errors have none. Resamples in which a metric has no value are left out, and where that is half of them
there is no interval. The order of the pictures changes nothing. A missing truth (NaN) leaves its picture out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convnext.metrics.intervals import fraction_interval, interval
from convnext.metrics.paired import gain
from convnext.metrics.scores import stack
from convnext.tasks.regress.measures import (
    Answers,
    Array,
    Measures,
    draws,
    errors_of,
    means_of_part,
    measure,
    within_key,
)

RANGES = 5
"""Parts of the target's range, of equally many pictures, in which errors are looked at by themselves."""
_ERRORS = ("mae", "rmse", "median_error")
_OF_MEAN = ("rmse", "r2")
_ORDER = ("pearson", "spearman")


class Record(NamedTuple):
    """What is kept of a judged picture: one number a target, in its unit.

    Attributes:
        truth: NaN where the value is missing.
        value: the answer.
        low: lower ends of the intervals, NaN for a target that has none.
        high: upper ends.
    """

    truth: tuple[float, ...]
    value: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None


def judge_records(
    names: Sequence[str],
    records: Sequence[Record],
    *,
    within: Sequence[Sequence[float]] | None = None,
    level: float = 0.9,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Judge each target by itself: {name: what `judge` says of it}.

    Args:
        names: of the T targets.
        records: one a picture.
        within: the K of within_K for each target; None for those of `usual_within`.
        level: what the intervals of the records promise.
        bootstrap: resamples for the intervals; 0 leaves them empty.
        seed: of the resampling; all targets draw the same pictures where none has a missing value.
    """
    truth, values = (np.array([r[i] for r in records], float).reshape(len(records), len(names)) for i in (0, 1))
    found = {}
    for t, name in enumerate(names):
        own_ends = np.array([[r.low[t], r.high[t]] for r in records if r.low is not None and r.high is not None])
        whole = len(own_ends) == len(records) > 0 and not np.isnan(own_ends).any()
        ends = own_ends if whole else None
        own = tuple(within[t]) if within is not None else usual_within(truth[:, t])
        found[name] = judge(
            truth[:, t], values[:, t], ends=ends, level=level, within=own, bootstrap=bootstrap, seed=seed
        )
    return found


def usual_within(truth: Array) -> tuple[float, ...]:
    """Three round numbers (1, 2 or 5 times a power of ten) about 1/10, 1/4 and 1/2 of the truth's deviation; () where
    it has none."""
    known = np.asarray(truth, np.float64)
    known = known[~np.isnan(known)]
    deviation = float(known.std()) if known.size else 0.0
    return tuple(sorted({_round(deviation * share) for share in (0.1, 0.25, 0.5)})) if deviation > 0 else ()


def _round(value: float) -> float:
    exponent = math.floor(math.log10(value))
    options = [float(f"{digit}e{exponent + up}") for digit, up in ((1, 0), (2, 0), (5, 0), (1, 1))]
    return min(options, key=lambda option: abs(math.log(option / value)))


def judge(
    truth: Array,
    values: Array,
    *,
    ends: Array | None = None,
    level: float = 0.9,
    within: Sequence[float] = (),
    ranges: int = RANGES,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Judge the answers to one target. The module's docstring has the rules.

    Args:
        truth: (n,) in the target's unit, NaN where it is missing.
        values: (n,) answers.
        ends: (n, 2) intervals of the answers; None for none.
        level: what the intervals promise.
        within: the K of within_K, in the unit.
        ranges: parts of the range; fewer where values are equal.
        bootstrap: resamples for the intervals; 0 leaves them empty.
        seed: of the resampling.

    Returns:
        A dict ready for JSON: n, missing (pictures without a truth), the metrics (None where there is none), trivial
        {median, mean}, baselines {metric: the trivial answer's}, gains {metric: {value, interval, won, lost, p}},
        intervals {metric: [low, high]}, within (the K), level (None without intervals), by_range [{low, high, n, mae,
        mae_baseline, median_error, bias, coverage and width where there are intervals, intervals}] in rising order.

    Raises:
        ValueError: shapes that do not belong together, or numbers that are none.
    """
    known = _check(truth, values, ends, level, within, ranges)
    missing = int((~known).sum())
    truth, values = np.asarray(truth, np.float64)[known], np.asarray(values, np.float64)[known]
    answers = Answers.of(truth, values, None if ends is None else np.asarray(ends, np.float64)[known])
    bounds = tuple(float(k) for k in within)
    head = {"n": answers.n, "missing": missing, "within": list(bounds), "level": None if ends is None else level}
    if answers.n == 0:
        keys = [*_ERRORS, "bias", *map(within_key, bounds), "r2", *_ORDER]
        empty = dict.fromkeys([*keys, *([] if ends is None else ["coverage", "width"])])
        none = {"trivial": {"median": None, "mean": None}, "baselines": {}, "gains": {}, "intervals": {}}
        return {**head, **empty, **none, "by_range": []}
    return head | _judge(answers, level, bounds, ranges, bootstrap, seed)


def _judge(
    answers: Answers, level: float, within: tuple[float, ...], ranges: int, bootstrap: int, seed: int
) -> dict[str, Any]:
    """All that needs at least one picture."""
    constants = median, mean = float(np.median(answers.truth)), float(answers.truth.mean())
    whole, parts = np.ones((1, answers.n), np.intp), _parts(answers, ranges)
    found = {key: float(value[0]) for key, value in measure(answers, whole, within).items()}
    trivial = _trivial(answers, whole, constants, within)
    baselines = {key: float(value[0]) for key, value in trivial.items() if not math.isnan(found[key])}
    chunks = [
        (
            measure(answers, counts, within),
            _trivial(answers, counts, constants, within),
            [means_of_part(answers, counts, part) for part in parts],
        )
        for counts in draws(answers.n, bootstrap if answers.n > 1 else 0, seed)
    ]
    again, drawn = stack([chunk[0] for chunk in chunks]), stack([chunk[1] for chunk in chunks])
    of_parts = [stack([chunk[2][i] for chunk in chunks]) for i in range(len(parts))]
    return {
        **{key: None if math.isnan(value) else value for key, value in found.items()},
        "trivial": {"median": median, "mean": mean},
        "baselines": baselines | _trivial_interval(answers, level),
        "gains": _gains(answers, found, baselines, again, drawn, constants, within),
        "intervals": _intervals(found, again, answers.n) if bootstrap else {},
        "by_range": [
            _range_row(answers, whole, part, median, own if bootstrap else None)
            for part, own in zip(parts, of_parts, strict=True)
        ],
    }


def _trivial(
    answers: Answers, counts: NDArray[np.intp], constants: tuple[float, float], within: tuple[float, ...]
) -> Measures:
    """What always saying the median gets, and for rmse and r2 always saying the mean, (b,) each."""
    found = errors_of(answers.constant(constants[0]), counts, within)
    zeros = np.zeros(len(counts))
    squared = errors_of(answers.constant(constants[1]), counts, ())["rmse"]
    return found | {"rmse": squared, "r2": zeros, "pearson": zeros, "spearman": zeros}


def _trivial_interval(answers: Answers, level: float) -> dict[str, float]:
    """Coverage and width of the interval that holds the middle of the judged pictures, said for every picture."""
    if answers.inside is None:
        return {}
    low, high = np.quantile(answers.truth, [(1 - level) / 2, (1 + level) / 2])
    inside = (answers.truth >= low) & (answers.truth <= high)
    return {"coverage": float(inside.mean()), "width": float(high - low)}


def _gains(
    answers: Answers,
    found: dict[str, float],
    baselines: dict[str, float],
    again: Measures,
    drawn: Measures,
    constants: tuple[float, float],
    within: tuple[float, ...],
) -> dict[str, Any]:
    """How much better than the trivial answer, on the same pictures; above 0 is better."""
    errors, other = answers.errors, {c: answers.constant(c).errors for c in constants}
    limits = {within_key(k): k for k in within}
    gains = {}
    for key, trivial in baselines.items():
        if key == "bias":
            continue
        sign = -1 if key in _ERRORS else 1
        theirs = other[constants[1] if key in _OF_MEAN else constants[0]]
        pairs: tuple[NDArray[np.bool_] | None, NDArray[np.bool_] | None] = (errors < theirs, errors > theirs)
        if key in limits:
            mine, its = errors <= limits[key], theirs <= limits[key]
            pairs = (mine & ~its, ~mine & its)
        differences = sign * (again[key] - drawn[key]) if again else np.zeros(0)
        gains[key] = gain(
            sign * (found[key] - trivial), _with_value(differences), *((None, None) if key in _ORDER else pairs)
        )
    return gains


def _with_value(drawn: Array) -> Array:
    """The resamples that have a value; none where half of them have not."""
    known = drawn[~np.isnan(drawn)]
    return known if 2 * len(known) > len(drawn) else np.zeros(0)


def _interval(key: str, value: float, drawn: Array | None, n: int) -> list[float] | None:
    """The interval of one metric from its resamples; None where nothing can be said."""
    known = np.zeros(0) if drawn is None else _with_value(drawn)
    if key == "coverage" or key.startswith("within_"):
        return fraction_interval(known if len(known) else np.full(1, value), value, n)
    return interval(known) if len(known) else None


def _intervals(found: dict[str, float], again: Measures, n: int) -> dict[str, list[float] | None]:
    """The interval of each metric that has a value."""
    return {key: _interval(key, value, again.get(key), n) for key, value in found.items() if not math.isnan(value)}


def _parts(answers: Answers, ranges: int) -> list[slice]:
    """Parts of the target's range of about as many pictures each, from the smallest values to the largest."""
    edges = np.unique(np.quantile(answers.truth, np.linspace(0, 1, ranges + 1)[1:-1]))
    starts = np.searchsorted(answers.truth, edges, side="left")  # a value on an edge belongs to the upper part
    bounds = [int(at) for at in np.unique([0, *starts, answers.n])]
    return [slice(start, end) for start, end in pairwise(bounds)]


def _range_row(
    answers: Answers, whole: NDArray[np.intp], part: slice, median: float, again: Measures | None
) -> dict[str, Any]:
    """One part of the range; `again` are its resamples, None for no intervals."""
    means = {key: float(value[0]) for key, value in means_of_part(answers, whole, part).items()}
    size = part.stop - part.start
    return {
        "low": float(answers.truth[part.start]),
        "high": float(answers.truth[part.stop - 1]),
        "n": size,
        **means,
        "median_error": float(np.median(answers.errors[part])),
        "mae_baseline": float(answers.constant(median).errors[part].mean()),
        "intervals": {} if again is None else _intervals(means, {} if size == 1 else again, size),
    }


def _check(
    truth: Array, values: Array, ends: Array | None, level: float, within: Sequence[float], ranges: int
) -> NDArray[np.bool_]:
    """Which pictures have a truth.

    Raises:
        ValueError: what was found, and the rule.
    """
    truth, values = np.asarray(truth, np.float64), np.asarray(values, np.float64)
    if truth.ndim != 1 or truth.shape != values.shape or (ends is not None and np.shape(ends) != (len(truth), 2)):
        raise ValueError(
            f"truth {truth.shape}, values {values.shape}, intervals {None if ends is None else np.shape(ends)}; they "
            "must be (n,), (n,) and (n, 2)"
        )
    known: NDArray[np.bool_] = np.logical_not(np.isnan(truth))
    if not (np.isfinite(truth[known]).all() and np.isfinite(values[known]).all()):
        raise ValueError("a truth is infinite or an answer is not finite; only a truth may be NaN, where it is missing")
    if ends is not None:
        low, high = np.asarray(ends, np.float64)[known].T
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
            raise ValueError("an interval has an end that is not finite, or ends below its beginning")
    if not 0 < level < 1 or ranges < 1 or any(not (math.isfinite(k) and k > 0) for k in within):
        raise ValueError(
            f"level {level}, {ranges} ranges, within {list(within)}; the level must be between 0 and 1, the others "
            "above 0"
        )
    return known
