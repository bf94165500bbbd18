"""What judging gives: the numbers, and the pictures and predictions that they stand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convnext.data.dataset import Sample
from convnext.tasks.collect import Predictions


@dataclass(frozen=True)
class Judged:
    """The verdict, and what it stands on."""

    result: dict[str, Any]
    samples: tuple[Sample, ...]
    predictions: Predictions
