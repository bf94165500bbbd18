"""What a task tells the loop: targets and losses, predictions, metrics. The loop itself knows no task."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class Task(Protocol):
    """A kind of question that pictures can answer."""

    name: str
    outputs: int
    """Size of the network's head."""
    primary: str
    """Key of the metric that decides which epoch is best; larger is better."""
    title: str
    """The same for people."""

    def targets(self, labels: Tensor) -> Tensor:
        """Labels of a batch as what the loss compares with: soft targets (N, outputs)."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch, a scalar."""
        ...

    def hits(self, outputs: Tensor, labels: Tensor) -> int | None:
        """How many of a training batch are right; None where that has no meaning."""
        ...

    def predict(self, outputs: Tensor) -> Tensor:
        """Outputs (N, outputs) as predictions that a person understands, here probabilities."""
        ...

    def metrics(self, predictions: NDArray[np.float32], labels: NDArray[Any]) -> dict[str, float]:
        """The few numbers logged every epoch; `loss` and `primary` among them."""
        ...

    def settle(self, predictions: NDArray[np.float32], labels: NDArray[Any]) -> dict[str, Any]:
        """What is decided on the validation pictures and belongs into the model file, such as thresholds."""
        ...

    def judge(
        self, predictions: NDArray[np.float32], labels: NDArray[Any], majority: tuple[int, ...]
    ) -> dict[str, Any]:
        """The full verdict with intervals, as it stands in result.json.

        `majority` is the label, or the set of labels, that is most frequent in training: a trivial answer.
        """
        ...
