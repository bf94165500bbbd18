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

from convnext.data.feed.loader import Batch
from convnext.data.feed.preprocessing import Preprocessing
from convnext.errors import DataError
from convnext.run.record import clock
from convnext.tasks.collect import collect, in_order
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
        found = in_order(self.ranks.gather(own))
        if not len(found):
            raise DataError(
                "none of the validation pictures can be read any more; the last saved state is kept. Bring them "
                "back, then go on by --resume"
            )
        aside = np.isin(found.indices, sorted(self.task.aside))
        chooses, settles = (found.records.at(np.flatnonzero(rows)) for rows in (~aside, aside))
        self.settled[source] = self.task.settle(settles if self.task.aside else found.records)
        return self.task.metrics(chooses), list(found.failed)


def build_twin(model: nn.Module) -> nn.Module:
    """A second copy of a model, for judging weights without touching the one that trains."""
    twin = copy.deepcopy(model)
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    return twin.eval()


def describe_epoch(row: dict[str, Any], task: Task) -> str:
    """One line for a person."""
    score = task.scores[0]
    parts = [f"epoch {row['epoch']:>3}/{row['epochs']}", f"loss {row['train_loss']:.3f}"]
    parts.append(f"val loss {row['val_loss']:.3f}")
    parts.append(f"val {score.title} {score.text(row[f'val_{score.key}'])}")
    if f"ema_val_{score.key}" in row:
        parts.append(f"average {score.text(row[f'ema_val_{score.key}'])}")
    parts.append(f"{row['images_per_second']:.0f} pictures/s")
    if row["data_wait"] > 0.1:
        parts.append(f"waiting for data {100 * row['data_wait']:.0f} %")
    parts.append(clock(row["seconds"]))
    return "  ".join(parts) + ("  best" if row["best"] else "")
