"""Validation inside a run: the pictures are shared out among the processes, and every one of them is counted once."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from convnext.data.loader import Batch
from convnext.data.preprocessing import Preprocessing
from convnext.errors import DataError
from convnext.tasks.collect import Predictions, collect
from convnext.tasks.task import Task
from convnext.train.distributed import Ranks


@dataclass
class Judge:
    """Measures weights on the validation pictures.

    Args:
        model: a model of its own, into which the weights go.
        batches: this process's part of the pictures; the parts may differ in size.
    """

    model: nn.Module
    batches: DataLoader[Batch]
    task: Task
    preprocessing: Preprocessing
    device: torch.device
    precision: str
    ranks: Ranks

    def __post_init__(self) -> None:
        self.settled: dict[str, dict[str, Any]] = {}

    def __call__(self, weights: Mapping[str, Tensor], source: str) -> tuple[dict[str, float], list[str]]:
        """The task's metrics over all pictures of all processes, the same everywhere, and what could not be read.

        What the task decides on these pictures is kept in `settled` by the `source` of the weights, "model" or "ema".

        Raises:
            DataError: no picture can be read any more.
        """
        self.model.load_state_dict(weights)
        own = collect(
            self.model, self.batches, self.task, self.preprocessing, device=self.device, precision=self.precision
        )
        found = joined_in_order(self.ranks.gather(own))
        if not len(found.labels):
            raise DataError(
                "none of the validation pictures can be read any more; the last saved state is kept. Bring them "
                "back, then go on by --resume"
            )
        self.settled[source] = self.task.settle(found.values, found.labels)
        return self.task.metrics(found.values, found.labels), list(found.failed)


def joined_in_order(parts: list[Predictions]) -> Predictions:
    """One set of predictions from the parts of several processes, in the order of the pictures."""
    if len(parts) == 1:
        return parts[0]
    failed = tuple(text for part in parts for text in part.failed)
    reasons = {at: text for part in parts for at, text in part.reasons.items()}
    parts = [part for part in parts if len(part.labels)] or parts[:1]
    order = np.argsort(np.concatenate([part.indices for part in parts]), kind="stable")
    return Predictions(
        np.concatenate([part.values for part in parts])[order],
        np.concatenate([part.labels for part in parts])[order],
        np.concatenate([part.indices for part in parts])[order],
        failed,
        reasons,
    )


def build_twin(model: nn.Module) -> nn.Module:
    """A second copy of a model, for judging weights without touching the one that trains."""
    twin = copy.deepcopy(model)
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    return twin.eval()
