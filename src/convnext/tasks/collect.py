"""Runs a model over a split and gathers predictions; the same code in training and in every later command."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convnext.data.loader import Batch
from convnext.data.preprocessing import Preprocessing
from convnext.data.transforms import normalize
from convnext.tasks.task import Task

EVAL_BATCH = 64
"""Pictures in a forward pass of evaluation; the same everywhere, so that a saved run gives the same numbers again."""


HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions of 16 bits."""


@dataclass(frozen=True)
class Predictions:
    """Predictions (n, outputs), labels (n,) or (n, outputs), position of each in its split, and files that failed.

    `reasons` says of each position without a prediction why it has none.
    """

    values: NDArray[np.float32]
    labels: NDArray[Any]
    indices: NDArray[np.int64]
    failed: tuple[str, ...]
    reasons: dict[int, str] = field(default_factory=dict)


def decimals(values: NDArray[np.float32], *, exact: bool) -> list[float]:
    """Predictions as numbers for a file, from which the same float32 numbers are read again.

    Args:
        values: one row.
        exact: all digits, so that any threshold divides what is read as it divides the values. Else the shortest
            decimal numbers, of half the length: for tables of which nobody asks that.
    """
    return values.astype(np.float64).tolist() if exact else [float(text) for text in values.astype(str)]


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
    """Predictions for every readable picture of `batches`, in their order. The model's training mode is put back."""
    was_training = model.training
    model.eval()
    values, labels, indices, failed = [], [], [], []
    reasons: dict[int, str] = {}
    for batch in batches:
        failed += batch.failed
        reasons |= batch.reasons
        if len(batch.indices):
            pictures = normalize(batch.pictures.to(device), preprocessing.mean, preprocessing.std)
            with autocast(device, precision):
                outputs = model(pictures)
            values.append(task.predict(outputs).cpu().numpy())
            labels.append(batch.labels.numpy())
            indices.append(batch.indices.numpy())
        if advance is not None:
            advance(len(batch.indices) + len(batch.failed))
    model.train(was_training)
    if not values:
        return Predictions(
            np.zeros((0, task.outputs), np.float32), np.zeros(0), np.zeros(0, np.int64), tuple(failed), reasons
        )
    return Predictions(np.concatenate(values), np.concatenate(labels), np.concatenate(indices), tuple(failed), reasons)
