"""Classification: one label a picture (softmax), or any number of labels (a sigmoid for each)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from convnext.metrics.classification import judge, judge_multi_label
from convnext.metrics.thresholds import DEFAULT, choose_thresholds, too_few
from convnext.tasks.task import Task


class SingleLabel:
    """Exactly one class a picture; cross-entropy against soft targets (Table 5: label smoothing 0.1)."""

    name = "classify"
    primary = "top1"
    title = "top-1"

    def __init__(self, classes: tuple[str, ...], label_smoothing: float = 0.0, weights: tuple[float, ...] = ()) -> None:
        self.classes, self.outputs, self.smoothing = classes, len(classes), label_smoothing
        self.weights = torch.tensor(weights) if weights else None

    def targets(self, labels: Tensor) -> Tensor:
        """(N,) class indices -> (N, K): 1 - s + s / K at the label, s / K elsewhere."""
        off = self.smoothing / self.outputs
        return F.one_hot(labels, self.outputs).float() * (1 - self.smoothing) + off

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy with soft targets, in fp32, each class times its weight."""
        weights = None if self.weights is None else self.weights.to(outputs.device)
        return F.cross_entropy(outputs.float(), targets, weight=weights)

    def hits(self, outputs: Tensor, labels: Tensor) -> int | None:
        """Pictures whose most probable class is the label."""
        return int((outputs.argmax(1) == labels).sum())

    def predict(self, outputs: Tensor) -> Tensor:
        """Probabilities that add up to 1."""
        return outputs.float().softmax(-1)

    def metrics(self, predictions: NDArray[np.float32], labels: NDArray[Any]) -> dict[str, float]:
        """Loss, top-1 and macro F1 of a split."""
        if len(labels) == 0:
            return {"loss": float("nan"), "top1": 0.0, "macro_f1": 0.0}
        named = predictions.argmax(1)
        nll = -np.log(np.clip(predictions[np.arange(len(labels)), labels], 1e-12, None)).mean()
        return {"loss": float(nll), "top1": float((named == labels).mean()), "macro_f1": _macro_f1(named, labels)}

    def judge(
        self, predictions: NDArray[np.float32], labels: NDArray[Any], majority: tuple[int, ...]
    ) -> dict[str, Any]:
        """The full verdict, beside always naming the largest class of these pictures; `majority` is not used.

        No constant answer does better, so a model that beats it has learnt something of the pictures.
        """
        return judge(predictions, labels, self.classes, majority=int(np.bincount(labels).argmax()))

    def settle(self, predictions: NDArray[np.float32], labels: NDArray[Any]) -> dict[str, Any]:
        """Nothing: the most probable class is named."""
        return {}


class MultiLabel:
    """Any number of classes a picture; binary cross-entropy for each class.

    Args:
        classes: their names.
        label_smoothing: how far the targets are drawn towards 1/2.
        weights: of each class's pictures in the loss, where a picture without it counts 1; () for 1 each.
        thresholds: from which probability on each class is named, as chosen on validation; () where nothing was chosen.
        rule: what `settle` chooses thresholds for, see `metrics.thresholds`.
    """

    name = "classify"
    primary = "micro_f1"
    title = "micro F1"

    def __init__(
        self, classes: tuple[str, ...], label_smoothing: float = 0.0, weights: tuple[float, ...] = (),
        thresholds: tuple[float, ...] = (), rule: str = "f1",
    ) -> None:  # fmt: skip
        self.classes, self.outputs, self.smoothing = classes, len(classes), label_smoothing
        self.weights = torch.tensor(weights) if weights else None
        self.thresholds, self.rule = thresholds, rule

    def targets(self, labels: Tensor) -> Tensor:
        """(N, K) of 0 and 1 -> the same, drawn towards 1/2 by the label smoothing."""
        return labels.float() * (1 - self.smoothing) + self.smoothing / 2

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy, mean over classes and pictures, in fp32, each class's pictures times its weight."""
        weights = None if self.weights is None else self.weights.to(outputs.device)
        return F.binary_cross_entropy_with_logits(outputs.float(), targets, pos_weight=weights)

    def hits(self, outputs: Tensor, labels: Tensor) -> int | None:
        """No count: a picture has many answers."""
        return None

    def predict(self, outputs: Tensor) -> Tensor:
        """A probability for each class by itself."""
        return outputs.float().sigmoid()

    def metrics(self, predictions: NDArray[np.float32], labels: NDArray[Any]) -> dict[str, float]:
        """Loss, micro F1 and the share of pictures with every label right, at a threshold of 0.5."""
        if len(labels) == 0:
            return {"loss": float("nan"), "micro_f1": 0.0, "exact_match": 0.0}
        p, y = np.clip(predictions.astype(np.float64), 1e-7, 1 - 1e-7), labels.astype(np.float64)
        loss = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()  # not a number when a prediction is none
        named, truth = predictions >= DEFAULT, labels > 0.5
        hits = float((named & truth).sum())
        micro = 2 * hits / max(1.0, float(named.sum() + truth.sum()))
        return {"loss": float(loss), "micro_f1": micro, "exact_match": float((named == truth).all(1).mean())}

    def judge(
        self, predictions: NDArray[np.float32], labels: NDArray[Any], majority: tuple[int, ...]
    ) -> dict[str, Any]:
        """The full verdict at one half, beside always naming the most frequent set of labels in training.

        `at_thresholds` is the same at the thresholds that were chosen on validation, where there are any.
        """
        baseline = np.zeros(self.outputs, dtype=bool)
        baseline[list(majority)] = True
        result = judge_multi_label(predictions, labels > 0.5, self.classes, baseline=baseline)
        if self.thresholds:
            chosen = judge_multi_label(
                predictions, labels > 0.5, self.classes, threshold=self.thresholds, ranking=False
            )
            left_out = ("n", "exact_match_baseline", "micro_f1_baseline")
            result["at_thresholds"] = {key: value for key, value in chosen.items() if key not in left_out}
        return result

    def settle(self, predictions: NDArray[np.float32], labels: NDArray[Any]) -> dict[str, Any]:
        """Each class's threshold, chosen on these pictures, for what, and the classes of which there are too few."""
        truth = labels > 0.5
        few = [] if self.rule == "fixed" else too_few(truth)
        chosen = choose_thresholds(predictions, truth, self.rule)
        return {"thresholds": list(chosen), "thresholds_for": self.rule, "thresholds_few": few}


def task_for(
    classes: tuple[str, ...],
    multi_label: bool,
    label_smoothing: float = 0.0,
    weights: tuple[float, ...] = (),
    *,
    thresholds: tuple[float, ...] = (),
    rule: str = "f1",
) -> Task:
    """The classification task that fits the labels; `thresholds` and `rule` are for several labels a picture."""
    if multi_label:
        return MultiLabel(classes, label_smoothing, weights, thresholds, rule)
    return SingleLabel(classes, label_smoothing, weights)


def label_weights(counts: list[int], pictures: int, balance: float) -> tuple[float, ...]:
    """Weights of each class's pictures in the loss of several labels: (pictures without it / pictures with)^balance.

    A picture without the class counts 1. So 0 gives none, and with 1 the pictures with a class have the same share of
    its loss as those without, however rare it is. A class that all pictures have, or none, gets weight 1.
    """
    if balance == 0:
        return ()
    return tuple(((pictures - n) / n) ** balance if 0 < n < pictures else 1.0 for n in counts)


def class_weights(counts: list[int], balance: float) -> tuple[float, ...]:
    """Weights of the classes in the loss: proportional to count^-balance, of mean 1 over the training pictures.

    0 gives none, 1 gives each class the same share of the loss. A class without pictures gets weight 1.
    """
    if balance == 0:
        return ()
    raw = [max(1, count) ** -balance for count in counts]
    mean = sum(w * c for w, c in zip(raw, counts, strict=True)) / sum(counts)
    return tuple(w / mean if c else 1.0 for w, c in zip(raw, counts, strict=True))


def _macro_f1(named: NDArray[Any], labels: NDArray[Any]) -> float:
    """F1 averaged over the classes that occur among the labels."""
    scores = []
    for index in np.unique(labels):
        hits = float(((named == index) & (labels == index)).sum())
        scores.append(2 * hits / float((named == index).sum() + (labels == index).sum()))
    return float(np.mean(scores))
