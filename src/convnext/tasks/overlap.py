"""What a result says of the pictures that its model knew before: a score on those is called what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_own_validation(result: Mapping[str, Any]) -> bool:
    """Whether a verdict is on the very pictures that chose the run's epoch and thresholds, not other data's."""
    if known := _count(result.get("in_validation")):
        return known == _count(result.get("n"))
    return result.get("split") == "val" and "columns" not in result  # which only other data has


def overlap_of(result: Mapping[str, Any]) -> tuple[int, str]:
    """How many judged pictures the model had learned from, and a sentence on it; 0 and "" where that says nothing."""
    n, known, watched = (_count(result.get(key)) for key in ("n", "in_training", "in_validation"))
    if is_own_validation(result):
        watched = 0  # is said of the whole split
    if known and known == n:
        return (
            known,
            "The model was trained on all of these pictures: the score says what it remembers, not what it can.",
        )
    if known:
        return (
            known,
            f"The model was trained on {known:,} of these {n:,} pictures (the same files): the score flatters.",
        )
    if watched:
        return 0, f"{watched:,} of these {n:,} pictures chose the best epoch in training: the score flatters a little."
    return 0, ""


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0
