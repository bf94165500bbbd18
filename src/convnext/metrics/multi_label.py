"""How good a classifier is where each picture has any number of classes. The rules are in `metrics.classification`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convnext.metrics.baselines import Constant, constant_label_scores
from convnext.metrics.intervals import resamples
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


def judge_multi_label(
    probs: Array,
    labels: Array,
    classes: Sequence[str],
    *,
    threshold: float | Sequence[float] = 0.5,
    baseline: Array | None = None,
    ranking: bool = True,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Judge predictions where each picture has any number of classes.

    A class is named when its probability is at least `threshold`, its own where there are several. Average precision
    needs no threshold: it is the mean, over the pictures of the class, of the precision among all pictures at least as
    probable (equal probabilities come together, as in scikit-learn's `average_precision_score`). The intervals take
    time in proportion to n * k * bootstrap: four seconds for 10,000 pictures of 100 classes, about two minutes for
    50,000 of 1,000.

    Args:
        probs: (n, k), each value a probability of its own.
        labels: (n, k) bool.
        classes: the k names.
        threshold: from 0 to 1, one for all classes or k of them.
        baseline: (k,) bool, the label set most frequent in *training*, which the trivial baseline always names.
        ranking: whether to give what no threshold changes: average precision and calibration.
        bootstrap: resamples for the intervals; 0 leaves them empty.
        seed: of the resampling.

    Returns:
        A dict ready for JSON: n, exact_match (share of pictures with every label right), micro_f1 (over all pairs of
        picture and class), macro_f1, macro_precision, macro_recall, mean_average_precision, calibration_error (over
        all pairs of picture and class, in 15 equal bins of probability: the gaps between its mean and the share of
        pairs that are true, weighted by their pairs), exact_match_baseline, micro_f1_baseline (both None without
        `baseline`), baselines {metric: what the best constant answer gets, of all label sets}, gains {metric: {value,
        interval}: the difference to it on the same pictures; exact_match and micro_f1 with the pictures won and lost
        and p of the exact sign test}, constant_labels (those that the best constant answer of micro F1 names),
        intervals {metric: [low, high]}, per_class [{name, n, named, threshold, precision, recall, f1,
        average_precision, calibration_error, intervals}], reliability {confidence, accuracy, count} over all pairs.

    Raises:
        ValueError: wrong shapes, a probability that is not one, labels other than true and false, a wrong threshold.
    """
    probs, labels = np.asarray(probs), np.asarray(labels)
    check_probs(probs, classes, sums_to_one=False)
    truth = _check_labels(labels, probs.shape, threshold, baseline)
    order = _stable_order(probs, truth)
    truth, probs, n = truth[order], probs[order], len(probs)
    limits = np.broadcast_to(np.asarray(threshold, np.float64), (len(classes),))
    named = probs.astype(np.float64) >= limits
    plans = [_plan(probs[:, c], truth[:, c], named[:, c], ranking=ranking) for c in range(len(classes))]
    whole = np.column_stack([(named == truth).all(1), *_pairs(named, truth).T])
    gaps = _gaps(probs, truth) if ranking else None
    if gaps is not None:
        whole = np.column_stack([whole, gaps[0]])
    constant = Constant.of(truth)

    def count(weights: Array) -> Counts:
        sums = weights.T.astype(np.float64) @ constant.whole(truth)
        return _count(plans, whole, weights, ranking=ranking) | {"constant": sums}

    counts = count(np.ones((n, 1), _weight_type(n)))
    again = stack([count(_weights(rows)) for rows in resamples(n, bootstrap, seed)])
    values, spread = _headline(counts, n), _headline(again, n) if again else {}
    trivial = None if baseline is None else np.broadcast_to(np.asarray(baseline, bool), truth.shape)
    return {
        "n": n,
        **{name: float(value[0]) for name, value in values.items()},
        "exact_match_baseline": None if trivial is None else float((trivial == truth).all(1).mean()),
        "micro_f1_baseline": None if trivial is None else float(_micro_f1(_pairs(trivial, truth).sum(0))),
        **_against_constant(constant, counts, again, values, spread, constant.disagreements(named, truth)),
        "constant_labels": [str(name) for name, chosen in zip(classes, constant.labels, strict=True) if chosen],
        "intervals": headline_intervals(values, spread, counts["truth"][0], n),
        "per_class": _rows(classes, counts, again, limits, None if gaps is None else np.abs(gaps[1]).sum(1) / n),
        **({} if gaps is None else {"reliability": _reliability(probs, truth)}),
    }


def _against_constant(
    constant: Constant, counts: Counts, again: Counts, values: Counts, spread: Counts, pairs: dict[str, Any]
) -> dict[str, Any]:
    """`baselines`: what the best constant answers get; `gains`: how much more the model gets on the same pictures."""
    n = len(constant.truth)

    def scores(of: Counts) -> dict[str, Array]:
        sums = of["constant"]
        found = {"exact_match": sums[:, 0] / n, "micro_f1": _micro_f1(sums[:, 1:])}
        return found | {k: v for k, v in constant_label_scores(of["truth"], n).items() if k in values}

    trivial, drawn = scores(counts), scores(again) if again else {}
    gains = {
        name: gain(
            float(values[name][0] - value[0]),
            spread[name] - drawn[name] if drawn else np.zeros(0),
            *pairs.get(name, (None, None)),
        )
        for name, value in trivial.items()
    }
    calibrated = {"calibration_error": 0.0} if "calibration_error" in values else {}
    return {"baselines": {name: float(value[0]) for name, value in trivial.items()} | calibrated, "gains": gains}


def resampled(probs: Array, truth: Array, named: Array, rows: Array) -> dict[str, Array]:
    """The metrics, (b,) each, over each row of picture numbers (b, n); probs, truth and named are (n, k)."""
    plans = [_plan(probs[:, c], truth[:, c], named[:, c]) for c in range(probs.shape[1])]
    whole = np.column_stack([(named == truth).all(1), *_pairs(named, truth).T])
    scores = _headline(_count(plans, whole, _weights(rows)), len(probs))
    return {name: scores[name] for name in ("micro_f1", "exact_match", "macro_f1", "mean_average_precision")}


def _gaps(probs: Array, truth: Array) -> tuple[Array, Array]:
    """Sums of probability less truth in each bin: over the classes of each picture (n, BINS), and of each class."""
    n, k = probs.shape
    of_picture, of_class = np.zeros((n, BINS)), np.zeros((k, BINS))
    for rows in row_chunks(n, k):
        part = np.clip(probs[rows].astype(np.float64), 0, 1)
        bins, gap = bin_of(part), (part - truth[rows]).ravel()
        across = (bins + np.arange(len(part))[:, None] * BINS).ravel()
        down = (bins + np.arange(k) * BINS).ravel()
        of_picture[rows] = np.bincount(across, weights=gap, minlength=len(part) * BINS).reshape(-1, BINS)
        of_class += np.bincount(down, weights=gap, minlength=k * BINS).reshape(k, BINS)
    return of_picture, of_class


def _rows(
    classes: Sequence[str], counts: Counts, again: Counts, limits: Array, calibration: Array | None
) -> list[dict[str, Any]]:
    """One row a class, with its threshold, and its own calibration error where that was asked for."""
    rows = per_class(classes, counts, again)
    for c, row in enumerate(rows):
        row["threshold"] = float(limits[c])
        if calibration is not None:
            row["calibration_error"] = float(calibration[c])
    return rows


def _reliability(probs: Array, truth: Array) -> dict[str, list[Any]]:
    part = np.clip(probs.astype(np.float64), 0, 1).ravel()
    return reliability(bin_of(part), part, truth.ravel())


def _stable_order(probs: Array, truth: Array) -> Array:
    """An order of the pictures that depends only on their values, not on how they came."""
    rows = zip(probs, truth, strict=True)
    keys = [hashlib.sha256(p.astype(np.float64).tobytes() + t.tobytes()).digest() for p, t in rows]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.intp)


def _pairs(named: Array, truth: Array) -> Array:
    """Hits, and true plus named labels, of each picture: (n, 2)."""
    return np.column_stack([(named & truth).sum(1), named.sum(1) + truth.sum(1)])


def _micro_f1(pairs: Array) -> Array:
    """F1 from sums of `_pairs`, (..., 2); 0 if there is no label, neither true nor named."""
    f1: Array = 2 * pairs[..., 0] / np.maximum(pairs[..., 1], 1)
    return f1


@dataclass(frozen=True)
class _Plan:
    """Picture numbers of one class, sorted once, so that each resample only adds up weights.

    A threshold is a probability that at least one picture of the class has; thresholds go from high to low.
    """

    truth: Array  # pictures of the class, most probable first
    named: Array  # pictures that it was named for
    hits: Array  # both
    ranked: Array  # all pictures down to the last threshold, most probable first
    starts: Array  # where in `ranked` the pictures of each threshold begin, those since the one before included
    own_starts: Array  # where in `truth` they do


def _plan(scores: Array, truth: Array, named: Array, *, ranking: bool = True) -> _Plan:
    if not ranking:
        none = np.zeros(0, np.intp)
        return _Plan(np.flatnonzero(truth), np.flatnonzero(named), np.flatnonzero(truth & named), none, none, none)
    order = np.argsort(-scores, kind="stable")
    own = order[truth[order]]
    thresholds, own_starts = np.unique(-scores[own], return_index=True)
    ends = np.searchsorted(-scores[order], thresholds, side="right")
    return _Plan(
        truth=own,
        named=np.flatnonzero(named),
        hits=np.flatnonzero(truth & named),
        ranked=order[: ends[-1] if len(ends) else 0].astype(np.int32),
        starts=np.concatenate([[0], ends[:-1]]) if len(ends) else ends,
        own_starts=own_starts,
    )


def _weight_type(n: int) -> type[np.unsignedinteger[Any]]:
    """A small type that holds every sum of weights, which is n at most."""
    return np.uint16 if n < 1 << 16 else np.uint32


def _weights(rows: Array) -> Array:
    """How often each picture was drawn: picture numbers (b, n) -> (n, b)."""
    b, n = rows.shape
    drawn = np.bincount((rows * b + np.arange(b)[:, None]).ravel(), minlength=n * b)
    return drawn.reshape(n, b).astype(_weight_type(n))


def _count(plans: list[_Plan], whole: Array, weights: Array, *, ranking: bool = True) -> Counts:
    """Counts and average precisions under weights (n, b): (b, k) by class, and sums of `whole` over all, (b, ...)."""
    counts = {
        "truth": np.column_stack([_sum(weights, plan.truth) for plan in plans]),
        "named": np.column_stack([_sum(weights, plan.named) for plan in plans]),
        "hits": np.column_stack([_sum(weights, plan.hits) for plan in plans]),
        "whole": weights.T.astype(np.float64) @ whole,
    }
    if ranking:
        counts["average_precision"] = np.column_stack([_average_precision(plan, weights) for plan in plans])
    return counts


def _sum(weights: Array, pictures: Array) -> Array:
    total: Array = weights.take(pictures, axis=0).sum(0, dtype=np.int64)
    return total


def _average_precision(plan: _Plan, weights: Array) -> Array:
    """(b,) for weights (n, b): the precision down to each threshold, averaged by the class's weight at it."""
    if not len(plan.starts):
        return np.zeros(weights.shape[1])
    here = np.add.reduceat(weights.take(plan.ranked, axis=0), plan.starts, axis=0, dtype=weights.dtype)
    own = np.add.reduceat(weights.take(plan.truth, axis=0), plan.own_starts, axis=0, dtype=weights.dtype)
    reached, found = here.cumsum(0, dtype=np.float64), own.cumsum(0, dtype=np.float64)
    mean: Array = (own * found / np.maximum(reached, 1)).sum(0) / np.maximum(found[-1], 1)
    return mean


def _headline(counts: Counts, n: int) -> dict[str, Array]:
    """The headline metrics, (b,) each, of b samples of n pictures."""
    mean, whole = macro_scores(counts), counts["whole"]
    found = {
        "exact_match": whole[:, 0] / n,
        "micro_f1": _micro_f1(whole[:, 1:3]),
        "macro_f1": mean["f1"],
        "macro_precision": mean["precision"],
        "macro_recall": mean["recall"],
    }
    if "average_precision" in mean:
        found["mean_average_precision"] = mean["average_precision"]
    if whole.shape[1] > 3:
        found["calibration_error"] = np.abs(whole[:, 3:]).sum(1) / (n * counts["truth"].shape[1])
    return found


def _check_labels(
    labels: Array, shape: tuple[int, ...], threshold: float | Sequence[float], baseline: Array | None
) -> Array:
    """Check everything but the probabilities; returns the labels as bool."""
    if labels.shape != shape:
        raise ValueError(f"labels has shape {labels.shape}; it must be {shape}, the shape of probs")
    if labels.dtype != bool and not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels has values other than 0 and 1 (type {labels.dtype}); each must be true or false")
    limits = np.asarray(threshold, np.float64)
    if limits.shape not in ((), shape[1:]) or not ((limits >= 0) & (limits <= 1)).all():
        raise ValueError(f"threshold is {threshold}; it must be from 0 to 1, one number or one a class")
    if baseline is not None and np.shape(baseline) != shape[1:]:
        raise ValueError(f"baseline has shape {np.shape(baseline)}; it must be {shape[1:]}, one value a class")
    return labels.astype(bool)
