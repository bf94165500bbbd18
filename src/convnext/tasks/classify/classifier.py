"""What both classifications have in common: one class a picture, and any number of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convnext.data.names import csv_cell, csv_value, listed
from convnext.errors import DataError, UserError
from convnext.tasks.classify.answers import Prediction, decimals
from convnext.tasks.classify.meaning import Classes, counts
from convnext.tasks.records import TRUTH, Records
from convnext.tasks.score import Score
from convnext.tasks.task import Forward

if TYPE_CHECKING:
    from convnext.data.sources.dataset import Dataset
    from convnext.nn.network import Network

VALUES, NAMED = "values", "named"
"""Columns of records: probabilities (n, K); and where they were read from a table, what that says was named, bool."""
SEPARATOR = "|"
"""Between the labels of a cell; alone it stands for none."""


class Classifier:
    """A task whose outputs are classes; see `SingleLabel` and `MultiLabel`.

    Args:
        classes: their names.
        label_smoothing: share of the label that is spread over all classes, or towards 1/2.
        weights: of each class in the loss; () for 1 each.
    """

    name = "classify"
    followed: tuple[str, ...] = ("top1",)
    aside: frozenset[int] = frozenset()
    multi_label: bool
    scores: tuple[Score, ...]
    thresholds: tuple[float, ...] = ()

    def __init__(self, classes: tuple[str, ...], label_smoothing: float = 0.0, weights: tuple[float, ...] = ()) -> None:
        self.classes, self.outputs, self.smoothing = classes, len(classes), label_smoothing
        self.weights = torch.tensor(weights) if weights else None

    @property
    def output_names(self) -> tuple[str, ...]:
        """The classes."""
        return self.classes

    @property
    def compared(self) -> tuple[Score, ...]:
        """Those of `scores` that say how often it is right."""
        return tuple(score for score in self.scores if score.key not in ("nll", "calibration_error"))

    def meaning(self, settled: Mapping[str, Any]) -> dict[str, Any]:
        """Classes, whether a picture may have several of them, and what was settled."""
        return {"classes": list(self.classes), "multi_label": self.multi_label, **settled}

    def told(self) -> dict[str, Any]:
        """Whether a picture may have several labels."""
        return {"multi_label": self.multi_label}

    def inform(self, network: Network) -> None:
        """Tells a network its classes, whether a picture may have several, and their thresholds."""
        network.classes, network.multi_label, network.thresholds = self.classes, self.multi_label, self.thresholds

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Outputs (N, K) as probabilities, in fp32."""
        raise NotImplementedError

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch against soft targets (N, K), a scalar, in fp32."""
        raise NotImplementedError

    def losses(self, forward: Forward, pictures: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The loss alone: with several labels a picture has many answers, and nothing is counted."""
        return {"loss": self.loss(forward(pictures), targets)}

    @property
    def encoding(self) -> Classes:
        """Indices of the classes."""
        return Classes(self.classes, self.multi_label)

    def take(self, dataset: Dataset, data: Path, source: Path) -> list[str]:
        """Classes without a picture, and one label a picture where it names several.

        Raises:
            DataError: pictures have several labels or none, and it names one.
        """
        if dataset.multi_label and not self.multi_label:
            raise DataError(f"{data} has pictures with several labels or none; {source} names one class a picture")
        lacking = set(range(len(self.classes)))
        for split in dataset.splits:
            lacking -= {at for at, n in enumerate(counts(dataset, split)) if n}
        remarks = []
        if lacking:
            names = listed((self.classes[at] for at in sorted(lacking)), 6)
            remarks.append(f"{data} has no picture of {names}: where the model names one of them it counts as wrong")
        if self.multi_label and not dataset.multi_label:
            remarks.append(
                f"{data} has one label a picture, and the model names any number of them: others count as wrong"
            )
        return remarks

    def trivial(self, dataset: Dataset, split: str) -> dict[str, Any]:
        """The commonest class of the split."""
        seen = counts(dataset, split)
        return {"majority": [int(np.argmax(seen))] if sum(seen) else []}

    def record(self, outputs: Tensor, truths: Tensor) -> Records:
        """Probabilities (N, K), and the labels: (N,) indices, or (N, K) of 0 and 1.

        Raises:
            UserError: the network gives another number of outputs than there are classes.
        """
        if outputs.shape[1:] != (self.outputs,):
            raise UserError(
                f"the network gives {' x '.join(map(str, outputs.shape[1:]))} numbers for a picture, and has names for "
                f"{self.outputs} outputs; after a change of the head use network.reset_classifier(N) and set "
                "network.classes"
            )
        return Records({VALUES: self.probabilities(outputs).cpu().numpy(), TRUTH: truths.numpy()})

    def labels(self, records: Records) -> NDArray[np.bool_]:
        """(n, K) bool: the true labels."""
        raise NotImplementedError

    def named(self, records: Records) -> NDArray[np.bool_]:
        """(n, K) bool: what the model names; where records were read from a table, what that says."""
        raise NotImplementedError

    def names(self, row: NDArray[np.bool_] | Sequence[int], separator: str = SEPARATOR) -> str:
        """The classes of a row of (K,) bool in one text."""
        return separator.join(self.classes[int(i)] for i in np.flatnonzero(row))

    # -- tables and answers -------------------------------------------------------------------------------------------

    def columns(self) -> list[str]:
        """Truth, what was named, each class's probability; and what is named at the thresholds where there are any."""
        extra = ["named_at_thresholds"] if self.thresholds else []
        return [TRUTH, NAMED, *(f"p_{name}" for name in self.classes), *extra]

    def row(self, records: Records, at: int) -> list[object]:
        """The cells below them."""
        one, values = records.at([at]), records[VALUES][at]
        said = [self.labels(one)[0], self.named(one)[0]]
        if self.thresholds:
            said.append(values.astype(np.float64) >= np.array(self.thresholds))
        cells = [csv_cell(self.names(row) or SEPARATOR) for row in said]
        return [*cells[:2], *decimals(values, exact=self.multi_label), *cells[2:]]

    def read(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Records:
        """Probabilities in float64, truth and what was named, from the cells of a table.

        Raises:
            ValueError: a column is not there, or a cell names no class.
        """
        columns = [header.index(f"p_{name}") for name in self.classes]
        places, shape = [header.index(name) for name in (TRUTH, NAMED)], (len(rows), self.outputs)
        truth, named = (
            np.array([self._labels_of(row[place]) for row in rows], dtype=bool).reshape(shape) for place in places
        )
        values = np.array([[float(row[i]) for i in columns] for row in rows]).reshape(shape)
        return Records({VALUES: values, NAMED: named, TRUTH: truth if self.multi_label else truth.argmax(1)})

    def _labels_of(self, cell: str) -> list[bool]:
        """The row of labels that a cell names: one class, or several with bars between them."""
        text = csv_value(cell)
        said = [text] if not self.multi_label else [] if text == SEPARATOR else text.split(SEPARATOR)
        if unknown := [name for name in said if name not in self.classes]:
            raise ValueError(f'"{unknown[0]}" is none of its classes')
        return [name in said for name in self.classes]

    def answer(self, records: Records, at: int, path: Path | None, top: int) -> Prediction:
        """The `top` most probable classes; with several labels also those that reach their thresholds."""
        values = records[VALUES][at]
        order = np.argsort(-values, kind="stable")[:top]
        best = tuple(zip((self.classes[i] for i in order), decimals(values[order], exact=True), strict=True))
        return Prediction(path, best, self.reached(values))

    def reached(self, values: NDArray[np.float32]) -> tuple[str, ...] | None:
        """The labels that probabilities (K,) give a picture; None where it has one class, the most probable."""
        return None

    def no_answer(self, path: Path | None, error: str, missing: bool) -> Prediction:
        """No names, and why."""
        return Prediction(path, (), None, error, missing)

    # -- two runs on the same pictures --------------------------------------------------------------------------------

    def difference(self, other: Any) -> str:
        """One label against several, or other classes."""
        if other.multi_label != self.multi_label:
            return "one names one class a picture, the other any number of them"
        if set(other.classes) != set(self.classes):
            only = sorted(set(self.classes) ^ set(other.classes))
            return (
                f"they have other classes: {listed(only, 6)} is in one of them only. Runs of the same classes can be "
                "compared"
            )
        return ""

    def as_in(self, other: Any, records: Records) -> Records:
        """The columns in the order of the other's classes."""
        order = [self.classes.index(name) for name in other.classes]
        truth = records[TRUTH][:, order] if self.multi_label else np.argsort(order)[records[TRUTH].astype(np.intp)]
        return Records({VALUES: records[VALUES][:, order], NAMED: self.named(records)[:, order], TRUTH: truth})

    def truths(self, records: Records) -> list[str]:
        """The labels of each picture."""
        return [self.names(row, " and ") or "none" for row in self.labels(records)]
