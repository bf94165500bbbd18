"""One class a picture: softmax and cross-entropy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from convnext.metrics.classification import judge
from convnext.metrics.intervals import count_rows
from convnext.metrics.scores import macro_scores
from convnext.tasks.classify.classifier import NAMED, VALUES, Classifier
from convnext.tasks.classify.meaning import counts
from convnext.tasks.classify.scores import SINGLE, TOP5
from convnext.tasks.classify.worst import in_turns, with_one_label
from convnext.tasks.records import TRUTH, Records
from convnext.tasks.score import Score
from convnext.tasks.task import Forward

if TYPE_CHECKING:
    from convnext.data.sources.dataset import Dataset


class SingleLabel(Classifier):
    """Exactly one class a picture; cross-entropy against soft targets (Table 5: label smoothing 0.1)."""

    multi_label = False
    won = "right where the first is wrong"

    @property
    def scores(self) -> tuple[Score, ...]:  # type: ignore[override]
        """Top-1 first; top-5 only with more than five classes."""
        return tuple(score for score in SINGLE if score != TOP5 or self.outputs > 5)

    def describe(self) -> str:
        """How many classes."""
        return f"{self.outputs} classes"

    def targets(self, truths: Tensor) -> Tensor:
        """(N,) class indices -> (N, K): 1 - s + s / K at the label, s / K elsewhere."""
        off = self.smoothing / self.outputs
        return F.one_hot(truths, self.outputs).float() * (1 - self.smoothing) + off

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy with soft targets, in fp32, each class times its weight."""
        weights = None if self.weights is None else self.weights.to(outputs.device)
        return F.cross_entropy(outputs.float(), targets, weight=weights)

    def losses(self, forward: Forward, pictures: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The loss, and how many pictures have the label as their most probable class."""
        outputs = forward(pictures)
        return {"loss": self.loss(outputs, targets), "top1": (outputs.argmax(1) == targets.argmax(1)).sum()}

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Probabilities that add up to 1."""
        return outputs.float().softmax(-1)

    def metrics(self, records: Records) -> dict[str, float]:
        """Loss, top-1 and macro F1 of a split."""
        if len(records) == 0:
            return {"loss": float("nan"), "top1": 0.0, "macro_f1": 0.0}
        values, truth = records[VALUES], records[TRUTH]
        named = values.argmax(1)
        nll = -np.log(np.clip(values[np.arange(len(truth)), truth], 1e-12, None)).mean()
        return {"loss": float(nll), "top1": float((named == truth).mean()), "macro_f1": _macro_f1(named, truth)}

    def settle(self, records: Records) -> dict[str, Any]:
        """Nothing: the most probable class is named."""
        return {}

    def judge(self, records: Records, training: Mapping[str, Any] | None) -> dict[str, Any]:
        """The full verdict, beside always naming the largest class of these pictures; `training` is not used.

        No constant answer does better, so a model that beats it has learnt something of the pictures.
        """
        truth = records[TRUTH]
        return judge(records[VALUES], truth, self.classes, majority=int(np.bincount(truth).argmax()))

    def yardstick(self, dataset: Dataset) -> dict[str, Any] | None:
        """Always naming the largest class: the best constant answer on these pictures, as in a run's own verdict."""
        seen = counts(dataset, "val")
        largest = seen.index(max(seen))
        return {"pictures": sum(seen), "always": self.classes[largest], "trivial": seen[largest] / sum(seen)}

    def worst(self, records: Records, count: int) -> list[tuple[int, dict[str, Any]]]:
        """Wrong answers by what was taken for what, the surest of each first."""
        return in_turns(with_one_label(records[VALUES], records[TRUTH], self.classes), count)

    def labels(self, records: Records) -> NDArray[np.bool_]:
        """(n, K) bool: the true class."""
        return self._one_hot(records[TRUTH])

    def named(self, records: Records) -> NDArray[np.bool_]:
        """(n, K) bool: the most probable class."""
        found: NDArray[np.bool_] = records[NAMED] if NAMED in records else self._one_hot(records[VALUES].argmax(1))
        return found

    def _one_hot(self, indices: NDArray[Any]) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = indices.astype(np.intp)[:, None] == np.arange(self.outputs)
        return found

    def errors(self, records: Records) -> NDArray[Any]:
        """(n,) 1 where another class was named."""
        wrong: NDArray[Any] = self.named(records).argmax(1) != records[TRUTH]
        return wrong.astype(np.intp)

    def resampled(self, records: Records, samples: Iterable[NDArray[np.intp]]) -> dict[str, NDArray[Any]]:
        """Top-1, balanced accuracy, macro F1, and with more than five classes top-5."""
        values, truth, k = records[VALUES], records[TRUTH].astype(np.intp), self.outputs
        named = self.named(records).argmax(1)
        mine = np.take_along_axis(values, truth[:, None], axis=1)
        before = (values > mine) | ((values == mine) & (np.arange(k) < truth[:, None]))
        parts = [_scores(truth, named, before.sum(1) < 5, k, rows) for rows in samples]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _scores(
    truth: NDArray[np.intp], named: NDArray[np.intp], in_five: NDArray[np.bool_], k: int, rows: NDArray[np.intp]
) -> dict[str, NDArray[Any]]:
    hit = truth == named
    counts = {
        "truth": count_rows(truth[rows], k),
        "named": count_rows(named[rows], k),
        "hits": count_rows(np.where(hit, truth, k)[rows], k + 1)[:, :k],
    }
    mean = macro_scores(counts)
    scores = {"top1": hit[rows].mean(1), "balanced_accuracy": mean["recall"], "macro_f1": mean["f1"]}
    return scores | ({"top5": in_five[rows].mean(1)} if k > 5 else {})


def _macro_f1(named: NDArray[Any], labels: NDArray[Any]) -> float:
    """F1 averaged over the classes that occur among the labels."""
    scores = []
    for index in np.unique(labels):
        hits = float(((named == index) & (labels == index)).sum())
        scores.append(2 * hits / float((named == index).sum() + (labels == index).sum()))
    return float(np.mean(scores))
