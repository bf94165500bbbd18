"""Results as text for a terminal, as far as it is the same for every task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convnext.tasks.overlap import overlap_of
from convnext.tasks.verdicts import SPLIT_WORDS


def opening(result: Mapping[str, Any]) -> list[str]:
    """The first lines: which model and weights, judged on what, and what must be known of it."""
    lines = [f"{result['model']}, {weights_judged(result)}, on {result['n']} {result['split']} pictures"]
    if result["split"] == "val" and result["weights"] == "last":
        test = "--split test judges the test split" if result.get("test_split") else "there is no test split"
        lines.append(f"  ({test}; the best epoch was chosen on these pictures, so the last one is judged)")
    if told := overlap_of(result)[1]:
        lines.append(f"  {told}")
    return lines


def weights_judged(result: Mapping[str, Any]) -> str:
    """Which weights were judged, as "best epoch (12), averaged (EMA)"."""
    epoch = f" ({result['epoch']})" if result.get("epoch") is not None else ""
    averaged = ", averaged (EMA)" if result.get("source") == "ema" else ""
    words = {"best": "best epoch", "last": "last epoch"}.get(str(result.get("weights")), str(result.get("weights", "")))
    return f"{words}{epoch}{averaged}"


def told_pictures(totals: Mapping[str, int]) -> str:
    """The pictures of each split that has any, in a line."""
    return " \u00b7 ".join(f"{totals[s]:,}\u00a0{word}" for s, word in SPLIT_WORDS.items() if totals.get(s))
