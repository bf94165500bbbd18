"""The trivial answer: the same for every picture. What a model must beat before it has learnt anything of pictures.

For each headline metric there is one that no constant answer beats on the judged pictures themselves, so a model that
beats it has learnt something. With one class a picture it names the largest class (for top-5: the five largest). With
several it names the labels that are best for the metric: the most frequent set for the exact match, the commonest
labels for micro F1, every label for macro F1; ranking is by chance, whose average precision is the share of pictures
that have the label. Confidence that is each class's share is calibrated without knowing anything: an error of 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convnext.metrics.scores import Array, Counts


def constant_scores(counts: Counts, n: int, majority: int, five: Array) -> dict[str, Array]:
    """Scores of always naming one class, (b,) each, from counts over b samples of n pictures.

    Args:
        counts: with `truth`, (b, k).
        n: pictures of a sample.
        majority: the class that is always named.
        five: the five classes that are always named for top-5.
    """
    truth = counts["truth"]
    own, present = truth[:, majority], np.maximum((truth > 0).sum(1), 1)
    recall = (own > 0) / present
    scores = {
        "top1": own / n,
        "macro_precision": own / n / present,
        "macro_recall": recall,
        "macro_f1": 2 * own / (n + own) / present,
        "balanced_accuracy": recall,
    }
    return scores | ({"top5": truth[:, five].sum(1) / n} if truth.shape[1] > 5 else {})


def five_largest(truth: Array, majority: int) -> Array:
    """Indices of `majority` and the four largest others of (k,) counts."""
    order = [int(c) for c in np.argsort(-truth, kind="stable") if c != majority]
    return np.array([majority, *order[:4]])


def frequent_set(truth: Array) -> Array:
    """The label set (k,) that the most rows of (n, k) have; of several the first in the order of their bits."""
    rows, count = np.unique(truth, axis=0, return_counts=True)
    chosen: Array = rows[int(count.argmax())]
    return chosen


def common_labels(truth: Array) -> Array:
    """The label set (k,) that gives the best micro F1 when it is always named, for labels (n, k).

    It holds the commonest labels: for any size of the set the largest number of hits comes from these.
    """
    count = truth.sum(0)
    order = np.argsort(-count, kind="stable")
    sizes = np.arange(1, len(count) + 1)
    f1 = 2 * count[order].cumsum() / np.maximum(sizes * len(truth) + count.sum(), 1)
    chosen = np.zeros(len(count), bool)
    chosen[order[: int(f1.argmax()) + 1]] = True
    return chosen


@dataclass(frozen=True)
class Constant:
    """The constant answers (k,) that are best on labels `truth` (n, k) for the exact match and for micro F1."""

    truth: Array
    frequent: Array
    labels: Array

    @classmethod
    def of(cls, truth: Array) -> Constant:
        """Found from the labels themselves."""
        return cls(truth, frequent_set(truth), common_labels(truth))

    def whole(self, truth: Array) -> Array:
        """What is added up over pictures: exact matches of one, hits and all labels of the other, (n, 3)."""
        hits = (truth & self.labels).sum(1)
        return np.column_stack([(truth == self.frequent).all(1), hits, truth.sum(1) + self.labels.sum()])

    def disagreements(self, named: Array, truth: Array) -> dict[str, tuple[Array, Array]]:
        """Pictures (n,) on which the model is better and worse: right and wrong, or fewer and more wrong labels."""
        right, same = (named == truth).all(1), (truth == self.frequent).all(1)
        wrong, theirs = (named != truth).sum(1), (truth != self.labels).sum(1)
        return {"exact_match": (right & ~same, ~right & same), "micro_f1": (wrong < theirs, wrong > theirs)}


def constant_label_scores(truth: Array, n: int) -> dict[str, Array]:
    """Scores of naming every label, and of ranking by chance, (b,) each, from the pictures of each label (b, k)."""
    present = np.maximum((truth > 0).sum(1), 1)
    return {
        "macro_f1": (2 * truth / (n + truth)).sum(1) / present,
        "macro_precision": truth.sum(1) / n / present,
        "macro_recall": (truth > 0).sum(1) / present,
        "mean_average_precision": truth.sum(1) / n / present,
    }
