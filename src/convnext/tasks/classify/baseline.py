"""A classification's result beside the trivial answer: what that gets by each metric, and whether it is beaten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from convnext.metrics.baselines import constant_scores, five_largest
from convnext.metrics.intervals import wilson
from convnext.metrics.paired import gain_of_counts
from convnext.tasks import scored
from convnext.tasks.reporting import Json, RunTables
from convnext.tasks.verdicts import interval_of
from convnext.tasks.words import number


def has_several(run: RunTables) -> bool:
    """Whether a picture can have several classes, or none."""
    return bool(run.result.get("multi_label", run.data.get("multi_label", False)))


def class_names(run: RunTables) -> list[str]:
    """Class names in the order of the model's outputs."""
    names = run.data.get("classes") or [row.get("name", "") for row in run.result.get("per_class") or []]
    return [str(name) for name in names]


def main_key(run: RunTables) -> str:
    """The main metric of a result: "top1", or "micro_f1" when pictures have several labels."""
    return "micro_f1" if has_several(run) else "top1"


def weakest_first(result: Mapping[str, Any]) -> list[Json]:
    """The classes' rows by F1, the weakest first; those without pictures, of which nothing is known, at the end."""
    rows = [row for row in result.get("per_class") or [] if isinstance(row, dict)]
    return sorted(rows, key=lambda row: (not row.get("n"), number(row.get("f1")) or 0.0))


def baseline_of(result: Mapping[str, Any], key: str) -> float | None:
    """What the trivial answer gets by a metric; results of before it was kept have it for the main ones."""
    if (value := scored.baseline_of(result, key)) is not None:
        return value
    old = {"top1": "majority_top1", "micro_f1": "micro_f1_baseline", "exact_match": "exact_match_baseline"}
    return number(result.get(old[key])) if key in old else _constant(result).get(key)


def _constant(result: Mapping[str, Any]) -> dict[str, float]:
    """The baselines of an old result with one class a picture, from the pictures of each class."""
    rows = [row for row in result.get("per_class") or [] if isinstance(row, dict)]
    truth, names = [row.get("n") for row in rows], [row.get("name") for row in rows]
    majority, n = result.get("majority_class"), result.get("n")
    whole = [count for count in truth if isinstance(count, int)]
    if "baselines" in result or majority not in names or len(whole) < len(rows) or sum(whole) != n or not n:
        return {}
    counts, at = np.array([whole]), names.index(majority)
    scores = constant_scores({"truth": counts}, n, at, five_largest(counts[0], at))
    return {name: float(score[0]) for name, score in scores.items()} | {"calibration_error": 0.0}


def gain_of(result: Mapping[str, Any], key: str) -> Json | None:
    """The difference to the trivial answer on the same pictures; for top-1 found anew where an old result lacks it."""
    if (gain := scored.gain_of(result, key)) is not None:
        return gain
    return _gain_of_matrix(result) if key == "top1" and not isinstance(result.get("gains"), dict) else None


def _gain_of_matrix(result: Mapping[str, Any]) -> Json | None:
    """From the confusion counts: right answers outside the largest class are won, wrong ones inside it are lost."""
    matrix, classes = result.get("confusion"), [row.get("name") for row in result.get("per_class") or []]
    majority = result.get("majority_class")
    if not isinstance(matrix, list) or majority not in classes or len(matrix) != len(classes):
        return None
    at = classes.index(majority)
    right = sum(row[i] for i, row in enumerate(matrix))
    n = sum(map(sum, matrix))
    return gain_of_counts(right - matrix[at][at], sum(matrix[at]) - matrix[at][at], n) if n else None


def settled(result: Mapping[str, Any], key: str) -> int | None:
    """1: better than the trivial answer by this metric, -1: worse, 0: chance may be all, None: nothing to go by."""
    value, baseline = number(result.get(key)), baseline_of(result, key)
    if value is None or baseline is None:
        return None
    ends, n = interval_of(result, key), result.get("n")
    if ends is None:
        ends = wilson(value, n) if isinstance(n, int) and n > 0 and 0 <= value <= 1 else (value, value)
    return scored.settle(baseline, gain_of(result, key), ends)
