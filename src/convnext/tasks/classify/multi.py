"""Any number of labels a picture: a sigmoid and a binary cross-entropy for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from convnext.metrics.multi_label import judge_multi_label, resampled
from convnext.metrics.thresholds import DEFAULT, choose_thresholds, too_few
from convnext.tasks.classify.classifier import NAMED, VALUES, Classifier
from convnext.tasks.classify.scores import SEVERAL
from convnext.tasks.classify.worst import in_turns, with_labels
from convnext.tasks.records import TRUTH, Records

if TYPE_CHECKING:
    from convnext.data.sources.dataset import Dataset


class MultiLabel(Classifier):
    """Any number of classes a picture; binary cross-entropy for each class.

    Args:
        classes: their names.
        label_smoothing: how far the targets are drawn towards 1/2.
        weights: of each class's pictures in the loss, where a picture without it counts 1; () for 1 each.
        thresholds: from which probability on each class is named, as chosen on validation; () where nothing was chosen.
        rule: what `settle` chooses thresholds for, see `metrics.thresholds`.
        chosen: what the thresholds were chosen for, and the numbers of the labels with too few pictures for that; None
            where nobody knows, then verdicts do not say it.
        bars: the probabilities from which on a verdict counts a label as named; () for one half each.
    """

    multi_label = True
    scores = SEVERAL
    won = "fewer labels wrong"

    def __init__(
        self, classes: tuple[str, ...], label_smoothing: float = 0.0, weights: tuple[float, ...] = (),
        thresholds: tuple[float, ...] = (), rule: str = "f1", chosen: tuple[str, tuple[int, ...]] | None = None,
        bars: tuple[float, ...] = (),
    ) -> None:  # fmt: skip
        super().__init__(classes, label_smoothing, weights)
        self.thresholds, self.rule, self.chosen = thresholds, rule, chosen
        self.bars = np.array(bars or (DEFAULT,) * len(classes))

    def describe(self) -> str:
        """How many labels."""
        return f"{self.outputs} labels, several a picture"

    def meaning(self, settled: Mapping[str, Any]) -> dict[str, Any]:
        """The same with thresholds: those that were settled, else those that it has."""
        own: dict[str, Any] = {"thresholds": list(self.thresholds)} if self.thresholds else {}
        if own and self.chosen is not None:
            own |= {"thresholds_for": self.chosen[0], "thresholds_few": list(self.chosen[1])}
        return super().meaning(own | dict(settled))

    def targets(self, truths: Tensor) -> Tensor:
        """(N, K) of 0 and 1 -> the same, drawn towards 1/2 by the label smoothing."""
        return truths.float() * (1 - self.smoothing) + self.smoothing / 2

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy, mean over classes and pictures, in fp32, each class's pictures times its weight."""
        weights = None if self.weights is None else self.weights.to(outputs.device)
        return F.binary_cross_entropy_with_logits(outputs.float(), targets, pos_weight=weights)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """A probability for each class by itself."""
        return outputs.float().sigmoid()

    def metrics(self, records: Records) -> dict[str, float]:
        """Loss, micro F1 and the share of pictures with every label right, at a threshold of 0.5."""
        if len(records) == 0:
            return {"loss": float("nan"), "micro_f1": 0.0, "exact_match": 0.0}
        values, truth = records[VALUES], self.labels(records)
        p, y = np.clip(values.astype(np.float64), 1e-7, 1 - 1e-7), records[TRUTH].astype(np.float64)
        loss = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()  # not a number when a prediction is none
        named = values >= DEFAULT
        hits = float((named & truth).sum())
        micro = 2 * hits / max(1.0, float(named.sum() + truth.sum()))
        return {"loss": float(loss), "micro_f1": micro, "exact_match": float((named == truth).all(1).mean())}

    def settle(self, records: Records) -> dict[str, Any]:
        """Each class's threshold, chosen on these pictures, for what, and the classes of which there are too few."""
        truth = self.labels(records)
        few = [] if self.rule == "fixed" else too_few(truth)
        chosen = choose_thresholds(records[VALUES], truth, self.rule)
        return {"thresholds": list(chosen), "thresholds_for": self.rule, "thresholds_few": few}

    def judge(self, records: Records, training: Mapping[str, Any] | None) -> dict[str, Any]:
        """The full verdict at one half, beside always naming the most frequent set of labels in training.

        `at_thresholds` is the same at the thresholds that were chosen on validation, where there are any, and
        `thresholds` says what these are.
        """
        values, truth = records[VALUES], self.labels(records)
        baseline = None
        if training is not None:
            baseline = np.zeros(self.outputs, dtype=bool)
            baseline[list(training.get("majority", ()))] = True
        result = judge_multi_label(values, truth, self.classes, baseline=baseline)
        if training is None:  # what is most frequent in training, and each threshold, differs from model to model
            return {key: value for key, value in result.items() if not key.endswith("_baseline")}
        if self.thresholds:
            at = judge_multi_label(values, truth, self.classes, threshold=self.thresholds, ranking=False)
            left_out = ("n", "exact_match_baseline", "micro_f1_baseline")
            result["at_thresholds"] = {key: value for key, value in at.items() if key not in left_out}
        if self.thresholds and self.chosen is not None:
            result["thresholds"] = {
                "for": self.chosen[0], "chosen_on": "val",
                "values": dict(zip(self.classes, self.thresholds, strict=True)),
                "too_few_pictures": [self.classes[i] for i in self.chosen[1] if 0 <= i < self.outputs],
            }  # fmt: skip
        return result

    def yardstick(self, dataset: Dataset) -> dict[str, Any] | None:
        """None: the best constant set of labels says little of micro F1."""
        return None

    def worst(self, records: Records, count: int) -> list[tuple[int, dict[str, Any]]]:
        """Pictures with a wrong label, by the label of which the model was most wrongly sure."""
        return in_turns(with_labels(records[VALUES], self.labels(records), self.bars, self.classes), count)

    def labels(self, records: Records) -> NDArray[np.bool_]:
        """(n, K) bool: the true labels."""
        return records[TRUTH] > 0.5

    def named(self, records: Records) -> NDArray[np.bool_]:
        """(n, K) bool: the labels that a verdict counts as named."""
        return records[NAMED] if NAMED in records else records[VALUES].astype(np.float64) >= self.bars

    def reached(self, values: NDArray[np.float32]) -> tuple[str, ...]:
        """The labels that reach their thresholds, or one half where none were chosen."""
        limits = self.thresholds or (DEFAULT,) * self.outputs
        return tuple(c for c, v, t in zip(self.classes, values, limits, strict=True) if float(v) >= t)

    def errors(self, records: Records) -> NDArray[Any]:
        """(n,) how many labels are wrong."""
        wrong: NDArray[Any] = (self.named(records) != self.labels(records)).sum(1)
        return wrong

    def resampled(self, records: Records, samples: Iterable[NDArray[np.intp]]) -> dict[str, NDArray[Any]]:
        """Micro F1, exact match, macro F1 and mean average precision."""
        truth, named = self.labels(records), self.named(records)
        parts = [resampled(records[VALUES], truth, named, rows) for rows in samples]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
