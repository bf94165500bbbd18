"""From which probability on a label is named, where each picture has any number: chosen per label on validation.

Half is the right threshold for probabilities that are true, and for the share of right answers. For F1 and for balanced
accuracy it is not (Lipton et al., "Optimal Thresholding of Classifiers to Maximize F1 Measure", 2014): a rare label is
named too seldom.
"""

from __future__ import annotations

import numpy as np

from convnext.metrics.scores import Array

DEFAULT = 0.5
ENOUGH = 5
"""Pictures with a label, and without it, that a threshold needs; with fewer it stays at one half."""
RULES = ("f1", "balanced_accuracy", "fixed")


def choose_thresholds(probs: Array, truth: Array, rule: str) -> tuple[float, ...]:
    """For each label the threshold with the highest score on these pictures.

    Of thresholds that are equally good the one nearest to one half is taken, and one half itself where it is among
    them. A label that fewer than `ENOUGH` pictures have, or lack, keeps one half.

    Args:
        probs: (n, k) from 0 to 1.
        truth: (n, k) of true and false.
        rule: "f1", "balanced_accuracy" (the mean of the shares of pictures with and without the label that are
            right), or "fixed" for one half.

    Returns:
        k numbers; a label is named when its probability is at least its threshold.

    Raises:
        ValueError: another rule.
    """
    if rule not in RULES:
        raise ValueError(f'the rule is "{rule}"; it must be one of {", ".join(RULES)}')
    probs, truth = np.asarray(probs, dtype=np.float64), np.asarray(truth, dtype=bool)
    if rule == "fixed":
        return (DEFAULT,) * int(probs.shape[1])
    return tuple(_choose(probs[:, c], truth[:, c], rule) for c in range(probs.shape[1]))


def too_few(truth: Array) -> list[int]:
    """The labels, by number, that too few of these pictures (n, k) have, or lack, for a choice."""
    having = truth.sum(0)
    return [c for c, number in enumerate(having) if min(number, len(truth) - number) < ENOUGH]


def _choose(probs: Array, truth: Array, rule: str) -> float:
    n, positives = len(truth), int(truth.sum())
    if min(positives, n - positives) < ENOUGH or not np.isfinite(probs).all():
        return DEFAULT
    order = np.argsort(-probs, kind="stable")
    scores, hits = probs[order], np.cumsum(truth[order])
    last = np.flatnonzero(np.append(scores[:-1] != scores[1:], True))  # of each run of equal probabilities
    named, hits = last + 1, hits[last]
    if rule == "f1":
        gain = 2 * hits / (named + positives)
    else:
        gain = (hits / positives + 1 - (named - hits) / (n - positives)) / 2
    high = scores[last]
    low = np.append(high[1:], 0.0)
    best = np.flatnonzero(gain >= gain.max() - 1e-12)
    between = [_between(low[i], high[i]) for i in best]
    return min(between, key=lambda threshold: (abs(threshold - DEFAULT), threshold))


def _between(low: float, high: float) -> float:
    """A threshold above `low` and at most `high`: one half, or the middle, with no more digits than it needs."""
    if low < DEFAULT <= high:
        return DEFAULT
    middle = (low + high) / 2
    for digits in range(2, 17):
        if low < round(middle, digits) <= high:
            return float(round(middle, digits))
    return float(high)
