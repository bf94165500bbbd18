"""The doctor on numbers: values that are missing, far from all others or unevenly spread, and splits that differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.data.doctor.findings import Case, Finding, Picture
from convnext.data.names import count, figure, listed
from convnext.data.sources.dataset import Dataset
from convnext.tasks.regress.meaning import asked_of, values_of

Array = NDArray[np.float64]

FAR = 5.0
"""Interquartile ranges from the nearer quartile beyond which a value is called an outlier: of a normal distribution one
in 10^12 is. Tukey calls 3 "far out" (Exploratory Data Analysis, 1977), which skewed targets reach often."""
FEW = 200
"""Pictures below which a split judges roughly."""
_SHOWN = 20
_UNEVEN = 20.0


def findings(data: Dataset, pictures: Sequence[Picture]) -> list[Finding]:
    """All that is wrong with the values; each target by itself."""
    found: list[Finding] = []
    for t, target in enumerate(asked_of(data)):
        values = np.array([picture.target[t] for picture in pictures], np.float64)
        found += [
            *_missing(target, values, pictures), *_outliers(target, values, pictures), *_uneven(data, target, t),
            *_ranges(data, target, t),
        ]  # fmt: skip
    return [*found, *_small(data)]


def _missing(target: Any, values: Array, pictures: Sequence[Picture]) -> list[Finding]:
    rows = np.flatnonzero(np.isnan(values))
    if not len(rows):
        return []
    message = f'{count(len(rows), "picture")} without a value of "{target.name}"'
    advice = "fill them in where they are known: such a picture teaches nothing about this target"
    cases = tuple(Case((pictures[at].name,)) for at in rows[:_SHOWN])
    return [Finding("warning", "missing_target", message, advice, cases)]


def _outliers(target: Any, values: Array, pictures: Sequence[Picture]) -> list[Finding]:
    """Values far from all others, on the scale that they are learnt on."""
    moved = np.log(values) if target.log else values
    known = moved[~np.isnan(moved)]
    low, high = np.quantile(known, [0.25, 0.75])
    reach = FAR * (high - low)
    if not reach > 0:
        return []
    with np.errstate(invalid="ignore"):
        rows = np.flatnonzero((moved < low - reach) | (moved > high + reach))
    if not len(rows):
        return []
    order = rows[np.argsort(-np.abs(moved[rows] - np.median(known)), kind="stable")]
    shown = listed((target.in_unit(values[at]) for at in order), 5)
    message = (
        f'{count(len(rows), "value")} of "{target.name}" far from all others ({shown}; half of all lie from '
        f"{figure(float(np.nanquantile(values, 0.25)))} to {figure(float(np.nanquantile(values, 0.75)))})"
    )
    advice = (
        "look whether they are mistakes (a wrong unit, a missing point, a code such as 999 for unknown); task.range "
        "refuses what cannot be; task.loss=l1 is moved by them the least"
    )
    cases = tuple(Case((pictures[at].name,), target.in_unit(values[at])) for at in order[:_SHOWN])
    return [Finding("warning", "outlier", message, advice, cases)]


def _uneven(data: Dataset, target: Any, t: int) -> list[Finding]:
    """Tenths of the range in which there are hardly any training pictures, beside the fullest one."""
    known = values_of(data, "train")[:, t]
    known = known[~np.isnan(known)]
    moved = np.log(known) if target.log else known
    if len(np.unique(moved)) < 3:
        return []
    counts, edges = np.histogram(moved, 10)
    if counts.max() < _UNEVEN * max(1, int(np.median(counts))):
        return []
    at = int(counts.argmax())
    ends = [figure(float(np.exp(end) if target.log else end)) for end in edges[at : at + 2]]
    message = (
        f'uneven values of "{target.name}": {counts[at]:,} of {len(known):,} training pictures lie in one tenth of the '
        f"range, from {ends[0]} to {ends[1]}"
    )
    advice = "look at the error by range of the target; try task.balance=0.5, or task.scale=log where all are above 0"
    return [Finding("note", "uneven_target", message, advice)]


def _ranges(data: Dataset, target: Any, t: int) -> list[Finding]:
    """Splits that judge values which training never saw."""
    train = values_of(data, "train")[:, t]
    if np.isnan(train).all():
        return []
    low, high = np.nanmin(train), np.nanmax(train)
    found = []
    for split in ("val", "test"):
        values = values_of(data, split)[:, t]
        with np.errstate(invalid="ignore"):
            outside = int(((values < low) | (values > high)).sum())
        if outside:
            message = (
                f'{split} has {count(outside, "value")} of "{target.name}" outside those of training ({figure(low)} to '
                f"{figure(high)})"
            )
            advice = "a network answers badly beyond what it has seen: put such pictures into training too"
            found.append(Finding("note", "target_range", message, advice))
    return found


def _small(data: Dataset) -> list[Finding]:
    found = []
    for split in ("val", "test"):
        n = len(data.splits.get(split, ()))
        if 0 < n < FEW:
            # of a normal error 1.96 * deviation / mean of its size is 1.48
            message = (
                f"{split} has only {count(n, 'picture')}: a mean error is uncertain by about {100 * 1.5 / n**0.5:.0f} %"
            )
            advice = "judge with more; `convnext compare` tells on few which of two runs is better"
            found.append(Finding("note", "few_to_judge", message, advice))
    return found
