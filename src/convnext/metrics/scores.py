"""What the judges of classifiers share: scores of classes from counts, their averages, and the checks of probabilities.

Counts come as a dict of arrays (b, k): b samples of the pictures (the set itself, or its resamples) and k classes.
`truth` has the pictures of a class, `named` how often it was predicted, `hits` how often rightly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.metrics.intervals import CHUNK, as_many, fraction_interval, interval, wilson_rates

Array = NDArray[Any]
Counts = dict[str, Array]

BINS = 15
"""Equal bins of probability in which calibration is looked at."""
_ABOVE_ONE = 0.001  # what rounding may add to a probability
_SUM_TOLERANCE = 0.01  # what rounding to 16 bits may do to the sum of a row


def class_scores(counts: Counts) -> Counts:
    """Precision, recall and F1, (b, k) each, 0 where undefined; and `average_precision` where the counts have it."""
    hits, truth, named = counts["hits"], counts["truth"], counts["named"]
    scores = {
        "precision": hits / np.maximum(named, 1),
        "recall": hits / np.maximum(truth, 1),
        "f1": 2 * hits / np.maximum(truth + named, 1),
    }
    if "average_precision" in counts:
        scores["average_precision"] = counts["average_precision"]
    return scores


def macro_scores(counts: Counts) -> Counts:
    """The mean of each score over the classes that have pictures, (b,) each; 0 if none has."""
    present = np.maximum((counts["truth"] > 0).sum(1), 1)
    return {name: score.sum(1) / present for name, score in class_scores(counts).items()}  # absent classes have 0


def per_class(classes: Sequence[str], counts: Counts, again: Counts) -> list[dict[str, Any]]:
    """One row a class: name, pictures, scores, and intervals ({} where there are no resamples, `again`).

    Precision and recall are shares of a few pictures and have Wilson's intervals; a class that was never named has no
    precision, and any may be its true one: [0, 1]. The others are resampled; resamples without a picture of the class
    are left out, as it is left out of the averages there. Of a class without a picture nothing is known.
    """
    scores = class_scores(counts)
    spread = class_scores(again) if again else {}
    hits, truth, named = counts["hits"][0], counts["truth"][0], counts["named"][0]
    rates = {"precision": wilson_rates(hits, named), "recall": wilson_rates(hits, truth)}
    rows = []
    for c, name in enumerate(classes):
        row: dict[str, Any] = {"name": str(name), "n": int(truth[c]), "named": int(named[c])}
        row |= {key: float(score[0, c]) for key, score in scores.items()}
        row["intervals"] = {}
        for key, drawn in spread.items():
            known = again["truth"][:, c] > 0
            if not truth[c]:
                ends = [0.0, 1.0]
            elif key in rates:
                ends = rates[key][c]
            else:
                ends = fraction_interval(drawn[known, c], row[key], int(truth[c]))
            row["intervals"][key] = ends
        rows.append(row)
    return rows


def bin_of(probs: Array) -> Array:
    """The bin of each probability, 0 .. BINS - 1; a bin has its upper edge."""
    return np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], probs, side="left")


def reliability(bins: Array, confidence: Array, truth: Array) -> dict[str, list[Any]]:
    """Mean probability, share of truth, and number in each bin: {confidence, accuracy, count}, one entry a bin.

    An empty bin has count 0, its centre as confidence, and accuracy 0.
    """
    count = np.bincount(bins, minlength=BINS)
    filled = np.maximum(count, 1)
    mean = np.bincount(bins, weights=confidence, minlength=BINS) / filled
    share = np.bincount(bins, weights=truth, minlength=BINS) / filled
    centres = (np.arange(BINS) + 0.5) / BINS
    return {
        "confidence": np.where(count > 0, mean, centres).tolist(),
        "accuracy": share.tolist(),
        "count": count.tolist(),
    }


def headline_intervals(values: dict[str, Array], spread: dict[str, Array], truth: Array, n: int) -> dict[str, Any]:
    """The interval of each headline metric, [low, high], from its resampled values `spread` (b,).

    Args:
        values: the metrics themselves, (1,) each.
        spread: {} for no intervals.
        truth: pictures of each class, (k,).
        n: pictures.
    """
    out = {}
    for name, drawn in spread.items():
        averaged = name.startswith(("macro", "balanced", "mean"))
        size = as_many(truth) if averaged else n
        out[name] = interval(drawn) if name == "nll" else fraction_interval(drawn, float(values[name][0]), size)
    return out


def stack(parts: Sequence[Counts]) -> Counts:
    """The counts of several chunks of resamples as one; {} for no chunk."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def row_chunks(n: int, k: int) -> Iterator[slice]:
    """Slices over n rows of k values, each of at most CHUNK values (but at least a row)."""
    step = max(1, CHUNK // k)
    return (slice(start, start + step) for start in range(0, n, step))


def check_probs(probs: Array, classes: Sequence[str], *, sums_to_one: bool) -> None:
    """Check shape, type and values of the probabilities (n, k).

    Raises:
        ValueError: what was found, and the rule.
    """
    if probs.ndim != 2 or probs.shape[0] < 1 or probs.shape[1] != len(classes) or len(classes) < 1 + sums_to_one:
        raise ValueError(
            f"probs has shape {probs.shape} for {len(classes)} classes; it must be (n, k) with n at least 1 and "
            f"k, the number of classes, at least {1 + sums_to_one}"
        )
    if not np.issubdtype(probs.dtype, np.floating):
        raise ValueError(f"probs has the type {probs.dtype}; it must be a floating-point type")
    for rows in row_chunks(*probs.shape):
        part = probs[rows]
        wrong = ~((part >= 0) & (part <= 1 + _ABOVE_ONE))
        if wrong.any():
            i, j = np.argwhere(wrong)[0]
            raise ValueError(
                f"probs[{rows.start + i}, {j}] is {part[i, j]}; every value must be from 0 to 1 "
                "(softmax or sigmoid outputs, not logits)"
            )
        sums = part.sum(1, dtype=np.float64)
        if sums_to_one and (np.abs(sums - 1) > _SUM_TOLERANCE).any():
            i = np.abs(sums - 1).argmax()
            raise ValueError(
                f"probs[{rows.start + i}] sums to {sums[i]:.4g}; every row must sum to 1 within {_SUM_TOLERANCE} "
                "(softmax outputs; for sigmoids use judge_multi_label)"
            )
