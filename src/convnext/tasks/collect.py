"""Runs a model over a split and gathers records; the same code in training and in every later command."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convnext.data.feed.loader import Batch
from convnext.data.feed.preprocessing import Preprocessing
from convnext.data.pictures.transforms import normalize
from convnext.tasks.records import Records, joined
from convnext.tasks.task import Task

EVAL_BATCH = 64
"""Pictures in a forward pass of evaluation; the same everywhere, so that a saved run gives the same numbers again."""


HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions of 16 bits."""


@dataclass(frozen=True)
class Predictions:
    """What was found of n pictures: a record of each, its position in its split, and files that failed.

    `reasons` says of each position without a record why it has none.
    """

    records: Records
    indices: NDArray[np.int64]
    failed: tuple[str, ...]
    reasons: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.indices)


def in_order(parts: Sequence[Predictions]) -> Predictions:
    """One set of predictions from the parts of several processes, in the order of the pictures."""
    if len(parts) == 1:
        return parts[0]
    indices = np.concatenate([part.indices for part in parts])
    order = np.argsort(indices, kind="stable")
    return Predictions(
        joined([part.records for part in parts]).at(order), indices[order],
        tuple(text for part in parts for text in part.failed),
        {at: text for part in parts for at, text in part.reasons.items()},
    )  # fmt: skip


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """The context in which forward passes run: autocast to bf16 or fp16, or nothing for fp32 and tf32."""
    if precision in HALVES:
        return torch.autocast(device.type, dtype=HALVES[precision])
    return contextlib.nullcontext()


@torch.no_grad()
def collect(
    model: nn.Module,
    batches: Iterable[Batch],
    task: Task,
    preprocessing: Preprocessing,
    *,
    device: torch.device,
    precision: str = "fp32",
    advance: Callable[[int], None] | None = None,
) -> Predictions:
    """A record of every readable picture of `batches`, in their order. The model's training mode is put back."""
    was_training = model.training
    model.eval()
    records, indices, failed = [], [np.zeros(0, np.int64)], []
    reasons: dict[int, str] = {}
    for batch in batches:
        failed += batch.failed
        reasons |= batch.reasons
        if len(batch.indices):
            pictures = normalize(batch.pictures.to(device), preprocessing.mean, preprocessing.std)
            with autocast(device, precision):
                outputs = model(pictures)
            records.append(task.record(outputs, batch.targets))
            indices.append(batch.indices.numpy())
        if advance is not None:
            advance(len(batch.indices) + len(batch.failed))
    model.train(was_training)
    return Predictions(joined(records), np.concatenate(indices), tuple(failed), reasons)
