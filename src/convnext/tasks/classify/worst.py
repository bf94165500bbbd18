"""The mistakes that a run keeps for its report: of every confusion some, those first of which the model was surest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OF_A_KIND = 12
"""Mistakes kept of one confusion."""

Confusion = tuple[Any, ...]
Mistake = tuple[Confusion, float, int, dict[str, Any]]
"""What was taken for what, how sure the model was, the row of the record, and what to write of it."""


def in_turns(mistakes: Sequence[Mistake], count: int) -> list[tuple[int, dict[str, Any]]]:
    """Rows of the mistakes to keep, with what was said: the commonest confusion first, the surest of it first.

    Confusions take turns, so that a rare one has its picture too.
    """
    confusions: dict[Confusion, list[tuple[float, int, dict[str, Any]]]] = defaultdict(list)
    for confusion, confidence, at, row in mistakes:
        confusions[confusion].append((-confidence, at, row))
    order = sorted(confusions, key=lambda confusion: (-len(confusions[confusion]), confusion))
    turns = [(turn, c) for turn in range(OF_A_KIND) for c in order if turn < len(confusions[c])][:count]
    chosen = []
    for confusion in order:
        surest = sorted(confusions[confusion], key=lambda each: each[:2])
        chosen += [(at, row) for _, at, row in surest[: sum(of == confusion for _, of in turns)]]
    return chosen


def with_one_label(values: NDArray[Any], truth: NDArray[Any], classes: Sequence[str]) -> list[Mistake]:
    """Of probabilities (n, K) and class indices (n,): the pictures of which another class was named."""
    named = values.argmax(1)
    out: list[Mistake] = []
    for at in np.flatnonzero(named != truth):
        sure = float(values[at].max())
        row = {"truth": classes[int(truth[at])], "predicted": classes[int(named[at])], "confidence": sure}
        out.append(((int(truth[at]), int(named[at])), sure, int(at), row))
    return out


def with_labels(
    values: NDArray[Any], truth: NDArray[np.bool_], bars: NDArray[np.float64], classes: Sequence[str]
) -> list[Mistake]:
    """The same of probabilities and labels (n, K), named from `bars` (K,) on.

    A picture belongs to the label of which the model was most wrongly sure: one it missed, or one it added.
    """
    said = values >= bars
    # how far beyond the bar, as a share of the way to certainty
    sure = np.where(said, (values - bars) / np.maximum(1 - bars, 1e-6), (bars - values) / np.maximum(bars, 1e-6))
    wrong, names = np.where(said != truth, sure, -1.0), np.array(classes, dtype=object)
    out: list[Mistake] = []
    for at in np.flatnonzero((said != truth).any(1)):
        label = int(wrong[at].argmax())
        kind = "added" if said[at, label] else "missed"
        confidence = float(values[at, label] if kind == "added" else 1 - values[at, label])
        row = {
            "truth": " | ".join(names[truth[at]]), "predicted": " | ".join(names[said[at]]) or "none",
            "confidence": confidence, "label": classes[label], "kind": kind,
        }  # fmt: skip
        out.append(((kind, label), confidence, int(at), row))
    return out
