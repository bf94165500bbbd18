"""What judging gives: the numbers, and the pictures and predictions that they stand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convnext.data.sources.dataset import Sample
from convnext.tasks.collect import Predictions
from convnext.tasks.table import of_result
from convnext.tasks.task import Task


@dataclass(frozen=True)
class Judged:
    """The verdict, and what it stands on."""

    result: dict[str, Any]
    samples: tuple[Sample, ...]
    predictions: Predictions

    @property
    def task(self) -> Task:
        """The task as the verdict tells it, which reads and writes the records."""
        return of_result(self.result)
