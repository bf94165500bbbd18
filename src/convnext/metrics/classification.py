"""How good a classifier is: exact counts, fractions from 0 to 1, and an interval beside every headline number.

The rules, the same for the value and for every resample of its interval:

- **Ties** go to the class of the lowest index, for top-1 and for top-5.
- **Never predicted**: a class that occurs but is never named has no precision (0 / 0); it counts as 0, and its
  interval is [0, 1].
- **Absent**: a class without a picture is left out of the averages over classes (`macro_*`, `balanced_accuracy`,
  `mean_average_precision`), as scikit-learn's `balanced_accuracy_score` does. Its own row shows `n` 0, zeros, and
  intervals of [0, 1]: nothing is known about it.
- **F1** of a class is 2 hits / (pictures + namings), the harmonic mean of its precision and recall. `macro_f1` is the
  mean of the classes' F1.
- **nll** is the mean of -log p(truth), in nats, with p kept above 2.2e-16 so that it stays finite.
- **calibration_error** is the expected calibration error (Guo et al., "On Calibration of Modern Neural Networks",
  2017, section 2): pictures go into 15 equal bins of confidence (the winner's probability), each with its upper edge;
  the bins' gaps between mean confidence and accuracy are averaged, weighted by their pictures.

`convnext.metrics.intervals` says what the intervals mean, `convnext.metrics.baselines` what the trivial answer is. The
order of the pictures changes neither values nor intervals. `judge` is for one class a picture, `judge_multi_label` for
any number of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convnext.metrics.baselines import constant_scores, five_largest
from convnext.metrics.intervals import count_rows, resamples
from convnext.metrics.multi_label import judge_multi_label
from convnext.metrics.paired import gain
from convnext.metrics.scores import (
    BINS,
    Array,
    Counts,
    bin_of,
    check_probs,
    headline_intervals,
    macro_scores,
    per_class,
    reliability,
    row_chunks,
    stack,
)

__all__ = ["BINS", "judge", "judge_multi_label"]

_SMALLEST = float(np.finfo(np.float64).eps)


def judge(
    probs: Array,
    labels: Array,
    classes: Sequence[str],
    *,
    majority: int | None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Judge predictions where each picture has one class. The module's docstring has the rules.

    Args:
        probs: (n, k), each row the probabilities of one picture.
        labels: (n,) true class indices.
        classes: the k names.
        majority: index of the class that the trivial baseline always names; None leaves it empty.
        bootstrap: resamples for the intervals; 0 leaves them empty.
        seed: of the resampling.

    Returns:
        A dict ready for JSON: n, correct, top1, top5 (only with more than 5 classes: the truth among the five most
        probable), macro_precision, macro_recall, macro_f1, balanced_accuracy (the same number as macro_recall), nll,
        calibration_error, majority_class, majority_top1, baselines {metric: what the trivial answer gets; {} without
        `majority`}, gains {metric: {value, interval}: the difference to it on the same pictures, top1 with won, lost
        and p of the exact McNemar test}, intervals {metric: [low, high]}, confusion (k x k counts, rows are the truth),
        per_class [{name, n, named (how often it was said), precision, recall, f1, intervals}], reliability {confidence,
        accuracy, count} with one entry a bin; an empty bin has count 0, its centre as confidence, and accuracy 0.

    Raises:
        ValueError: wrong shapes, a probability that is not one, rows that do not sum to 1, a label out of range.
    """
    probs, labels = np.asarray(probs), np.asarray(labels)
    check_probs(probs, classes, sums_to_one=True)
    _check_labels(labels, *probs.shape)
    k = len(classes)
    if majority is not None and not 0 <= majority < k:
        raise ValueError(f"majority is {majority}; it must be a class index from 0 to {k - 1}, or None")
    seen = _look(probs, labels)
    counts = _count(seen, k, np.arange(seen.n)[None])
    again = stack([_count(seen, k, rows) for rows in resamples(seen.n, bootstrap, seed)])
    values, spread = _headline(counts, seen.n, k), _headline(again, seen.n, k) if again else {}
    baselines, gains = (
        ({}, {}) if majority is None else _against_constant(seen, counts, again, values, spread, majority)
    )
    return {
        "n": seen.n,
        "correct": int(seen.hit.sum()),
        **{name: float(value[0]) for name, value in values.items()},
        "majority_class": None if majority is None else str(classes[majority]),
        "majority_top1": None if majority is None else float(np.mean(seen.truth == majority)),
        "baselines": baselines,
        "gains": gains,
        "intervals": headline_intervals(values, spread, counts["truth"][0], seen.n),
        "confusion": np.bincount(seen.truth * k + seen.named, minlength=k * k).reshape(k, k).tolist(),
        "per_class": per_class(classes, counts, again),
        "reliability": reliability(seen.bin, seen.confidence, seen.hit),
    }


def _against_constant(
    seen: _Seen, counts: Counts, again: Counts, values: Counts, spread: Counts, majority: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """What always naming `majority` gets, and how much more the model gets on the same pictures."""
    five = five_largest(counts["truth"][0], majority)
    trivial = constant_scores(counts, seen.n, majority, five)
    drawn = constant_scores(again, seen.n, majority, five) if again else {}
    right = seen.truth == majority
    gains = {}
    for name, score in trivial.items():
        pairs = (seen.hit & ~right, ~seen.hit & right) if name == "top1" else (None, None)
        differences = spread[name] - drawn[name] if drawn else np.zeros(0)
        gains[name] = gain(float(values[name][0] - score[0]), differences, *pairs)
    return {name: float(score[0]) for name, score in trivial.items()} | {"calibration_error": 0.0}, gains


@dataclass(frozen=True)
class _Seen:
    """What the metrics need of each picture, in an order that depends on nothing but these values; all are (n,)."""

    truth: Array
    named: Array
    hit: Array  # named == truth
    in_five: Array  # the truth is among the five most probable
    nll: Array
    confidence: Array
    bin: Array  # of the confidence, 0..BINS-1

    @property
    def n(self) -> int:
        return len(self.truth)


def _look(probs: Array, labels: Array) -> _Seen:
    n, k = probs.shape
    truth, named, in_five = labels.astype(np.intp), np.empty(n, np.intp), np.empty(n, bool)
    confidence, right = np.empty(n), np.empty(n)
    for rows in row_chunks(n, k):
        part, own = probs[rows], truth[rows, None]
        mine = np.take_along_axis(part, own, axis=1)
        before = (part > mine) | ((part == mine) & (np.arange(k) < own))
        in_five[rows] = before.sum(1) < 5
        named[rows], confidence[rows], right[rows] = part.argmax(1), part.max(1), mine[:, 0]
    order = np.lexsort((in_five, right, confidence, named, truth))
    truth, named, confidence = truth[order], named[order], np.minimum(confidence[order], 1.0)
    return _Seen(
        truth=truth,
        named=named,
        hit=named == truth,
        in_five=in_five[order],
        nll=-np.log(np.clip(right[order], _SMALLEST, 1.0)),
        confidence=confidence,
        bin=bin_of(confidence),
    )


def _count(seen: _Seen, k: int, rows: Array) -> Counts:
    """Counts and sums over each row of picture numbers (b, n): (b, k) by class, (b,) over all."""
    b = len(rows)
    bins = seen.bin[rows] + np.arange(b)[:, None] * BINS
    gap = np.bincount(bins.ravel(), weights=(seen.confidence - seen.hit)[rows].ravel(), minlength=b * BINS)
    return {
        "truth": count_rows(seen.truth[rows], k),
        "named": count_rows(seen.named[rows], k),
        "hits": count_rows(np.where(seen.hit, seen.truth, k)[rows], k + 1)[:, :k],
        "in_five": seen.in_five[rows].sum(1),
        "nll": seen.nll[rows].sum(1),
        "gap": np.abs(gap.reshape(b, BINS)).sum(1),
    }


def _headline(counts: Counts, n: int, k: int) -> dict[str, Array]:
    """The headline metrics, (b,) each, of b samples of n pictures."""
    mean = macro_scores(counts)
    return {
        "top1": counts["hits"].sum(1) / n,
        **({"top5": counts["in_five"] / n} if k > 5 else {}),
        "macro_precision": mean["precision"],
        "macro_recall": mean["recall"],
        "macro_f1": mean["f1"],
        "balanced_accuracy": mean["recall"],
        "nll": counts["nll"] / n,
        "calibration_error": counts["gap"] / n,
    }


def _check_labels(labels: Array, n: int, k: int) -> None:
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels has shape {labels.shape} and type {labels.dtype}; it must be {n} integers, ({n},)")
    wrong = np.flatnonzero((labels < 0) | (labels >= k))
    if len(wrong):
        raise ValueError(f"labels[{wrong[0]}] is {labels[wrong[0]]}; every label must be from 0 to {k - 1}")
