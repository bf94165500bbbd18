"""The verdict of a regression as result.json holds it: each target in its unit, beside the trivial answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convnext.metrics.intervals import count_rows, interval, resamples
from convnext.metrics.paired import gain
from convnext.tasks.records import SETTLED, TRUTH, Records
from convnext.tasks.regress import scores
from convnext.tasks.regress.conformal import Calibration, needed
from convnext.tasks.regress.measures import Answers, errors_of
from convnext.tasks.regress.scaling import Scaling, Target

Array = NDArray[np.float64]

VALUE, LOW, HIGH = "value", "low", "high"
"""Columns of records: answers and the ends of their intervals, (n, T) in the targets' units."""
BOOTSTRAP = 1000


class Asked(Protocol):
    """What a verdict must know of the task; see `regressor.Regressor`."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the targets, in order."""
        ...

    @property
    def has_intervals(self) -> bool:
        """Whether every target has one."""
        ...

    asked: tuple[Target, ...]
    scaling: Scaling
    loss_name: str
    level: float
    within: tuple[tuple[float, ...], ...]
    calibrations: tuple[Calibration, ...]


def judge(task: Asked, records: Records, training: Mapping[str, Any] | None) -> dict[str, Any]:
    """Every target by itself, and of several the mean error in deviations.

    Args:
        task: what was asked.
        records: of the judged pictures.
        training: data.json of the run, for its median; None where several runs gave the records.
    """
    targets = {name: _target(task, records, t, training) for t, name in enumerate(task.names)}
    found: dict[str, Any] = {
        "n": len(records), "loss": task.loss_name, "level": task.level or None, "width_kind": _kind(task),
        "targets": targets,
    }  # fmt: skip
    if len(task.names) == 1:
        only = targets[task.names[0]]
        own = {
            key: value
            for key, value in only.items()
            if key not in ("n", "level", "log", "range", "training", "calibration")
        }
        return found | {"target": task.names[0]} | own
    return found | {"target": "", "unit": ""} | _together(task, records)


def _kind(task: Asked) -> str | None:
    if not task.has_intervals:
        return None
    return "absolute" if task.calibrations[0].scaled is None else "scaled"


def _target(task: Asked, records: Records, t: int, training: Mapping[str, Any] | None) -> dict[str, Any]:
    """One target: all its scores, what it is, what training saw of it, and what its intervals stand on."""
    truth, values = records[TRUTH][:, t], records[VALUE][:, t]
    ends = np.column_stack([records[LOW][:, t], records[HIGH][:, t]]) if LOW in records else None
    found, of = _scores(task, records, t, truth, values, ends), task.asked[t]
    seen = (((training or {}).get("targets") or {}).get(of.name) or {}).get("splits", {}).get("train")
    found |= {"unit": of.unit, "log": of.log, "range": [of.low, of.high], "training": _without_histogram(seen)}
    found["training_median"] = _always(truth, None if seen is None else seen.get("median"))
    calibration = task.calibrations[t] if task.calibrations else None
    found["calibration"] = None
    if calibration is not None:
        needs = needed(calibration.level)
        found["calibration"] = calibration.to_json() | {"needed": needs, "shortage": calibration.shortage(of.name)}
    return found


def _scores(task: Asked, records: Records, t: int, truth: Array, values: Array, ends: Array | None) -> dict[str, Any]:
    """The scores; of the intervals on pictures alone that did not make them, whose errors they hold by construction."""
    level, within = task.level or 0.9, task.within[t]
    settled = records[SETTLED].astype(bool) if SETTLED in records else np.zeros(len(truth), bool)
    if ends is None or not settled.any():
        found = scores.judge(truth, values, ends=ends, level=level, within=within, bootstrap=BOOTSTRAP)
        return found | {"coverage_n": 0 if ends is None else found["n"]}
    found = scores.judge(truth, values, within=within, level=level, bootstrap=BOOTSTRAP)
    fresh = ~settled
    other = scores.judge(truth[fresh], values[fresh], ends=ends[fresh], level=level, within=within, bootstrap=BOOTSTRAP)
    for key in ("coverage", "width"):
        found[key] = other[key]
        for table in ("baselines", "gains", "intervals"):
            if key in other[table]:
                found[table][key] = other[table][key]
    return found | {"level": level, "coverage_n": other["n"]}


def _without_histogram(seen: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if seen is None else {key: value for key, value in seen.items() if key != "histogram"}


def _always(truth: Array, value: float | None) -> dict[str, float] | None:
    """What always saying the median of training gets on these pictures."""
    known = truth[~np.isnan(truth)]
    if value is None or not len(known):
        return None
    errors = np.abs(known - value)
    return {"mae": float(errors.mean()), "median_error": float(np.median(errors))}


def _together(task: Asked, records: Records) -> dict[str, Any]:
    """Of several targets the mean error in deviations, and each one's mean absolute error, beside the medians."""
    truth = records[TRUTH]
    with np.errstate(invalid="ignore"):
        medians = np.array([np.median(column[~np.isnan(column)]) if (~np.isnan(column)).any() else 0.0
                            for column in truth.T])  # fmt: skip
    trivial = Records({TRUTH: truth, VALUE: np.broadcast_to(medians, truth.shape)})
    whole = [np.arange(len(records), dtype=np.intp)[None]]
    mine, theirs = (resampled(task, each, whole) for each in (records, trivial))
    drawn = list(resamples(len(records), BOOTSTRAP, 0)) if len(records) > 1 else []
    again, its = (resampled(task, each, drawn) if drawn else {} for each in (records, trivial))
    errors, other = errors_of_picture(records), errors_of_picture(trivial)
    found: dict[str, Any] = {key: _number(value[0]) for key, value in mine.items()}
    keys = [key for key, value in mine.items() if not np.isnan(value[0])]
    found["baselines"] = {key: float(theirs[key][0]) for key in keys}
    found["intervals"] = {key: interval(_known(again[key])) if drawn and len(_known(again[key])) else None
                          for key in keys}  # fmt: skip
    found["gains"] = {
        key: gain(
            float(theirs[key][0] - mine[key][0]), _known(its[key] - again[key]) if drawn else np.zeros(0),
            *((errors < other, errors > other) if key == "error" else (None, None)),
        )
        for key in keys
    }  # fmt: skip
    return found


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _known(drawn: Array) -> Array:
    return drawn[~np.isnan(drawn)]


def errors_of_picture(records: Records) -> Array:
    """(n,) the size of each picture's error; of several targets the mean in deviations of the truth; 0 for unknown."""
    errors, truth = np.abs(records[VALUE] - records[TRUTH]), records[TRUTH]
    known = ~np.isnan(truth)
    if truth.shape[1] > 1:
        deviations = [column[~np.isnan(column)].std() if (~np.isnan(column)).any() else 1.0 for column in truth.T]
        errors = errors / np.array([d if d > 0 else 1.0 for d in deviations])
    found: Array = np.where(known, errors, 0.0).sum(1) / np.maximum(known.sum(1), 1)
    return found


def resampled(task: Asked, records: Records, samples: Iterable[NDArray[np.intp]]) -> dict[str, NDArray[Any]]:
    """The compared scores by key, (b,) each, on samples of the pictures, in chunks (b', m) of their numbers."""
    parts = [_sample(task, records, count_rows(rows, len(records))) for rows in samples]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _sample(task: Asked, records: Records, counts: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    truth, values = records[TRUTH], records[VALUE]
    if truth.shape[1] == 1 and not np.isnan(truth).any():
        found = errors_of(Answers(truth[:, 0], values[:, 0]), counts, task.within[0])
        return {key: column for key, column in found.items() if key != "bias"}
    known = ~np.isnan(truth)
    sums = counts @ np.where(known, np.abs(values - truth), 0.0)
    with np.errstate(invalid="ignore"):
        means = sums / (counts @ known.astype(np.intp))  # NaN where no picture with a value was drawn
    if truth.shape[1] == 1:
        return {"mae": means[:, 0]}
    shares = means / np.array(task.scaling.deviation_in_unit)
    return {"error": shares.mean(1)} | {f"mae_{name}": means[:, t] for t, name in enumerate(task.names)}
