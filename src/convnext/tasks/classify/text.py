"""A classification's result as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convnext.tasks.classify.baseline import baseline_of, gain_of, settled
from convnext.tasks.overlap import is_own_validation
from convnext.tasks.text import opening
from convnext.tasks.verdicts import LABELS, ends_of
from convnext.tasks.words import for_terminal, points

_NAMES = {
    "top1": "top-1", "top5": "top-5", "balanced_accuracy": "balanced accuracy", "macro_precision": "macro precision",
    "macro_recall": "macro recall", "macro_f1": "macro F1", "micro_f1": "micro F1", "exact_match": "exact match",
    "mean_average_precision": "mean average precision", "calibration_error": "calibration error",
}  # fmt: skip


def describe(result: Mapping[str, Any]) -> str:
    """The verdict, the classes, and beside it what always naming the same answer would get."""
    lines = opening(result)
    for key, name in _NAMES.items():
        if key in result:
            low, high = result["intervals"].get(key, (None, None))
            interval = "" if low is None else f"  [{100 * low:.1f}, {100 * high:.1f}]"
            lines.append(f"  {name:<24}{100 * result[key]:6.1f} %{interval}")
    lines += against_trivial(result)
    lines += _at_thresholds(result)
    if result.get("unreadable"):
        lines.append(f"  {result['unreadable']} pictures could not be read and are not counted")
    lines += _classes(result["per_class"])
    return "\n".join([*lines, "  (brackets: 95 % interval over the pictures)"])


def against_trivial(result: Mapping[str, Any]) -> list[str]:
    """What always giving the same answer gets, and whether the model is better on the same pictures."""
    rows = [("top1", f'always "{result.get("majority_class")}"', "the trivial answer")]
    if "exact_match_baseline" in result:
        rows = [(key, "always the same labels", _NAMES[key]) for key in ("micro_f1", "exact_match")]
    lines = []
    for key, always, what in rows:
        if (baseline := baseline_of(result, key)) is None:
            continue
        lines.append(f"  {always:<24}{100 * baseline:6.1f} %  ({what})")
        gain, where = gain_of(result, key), settled(result, key)
        ends = ends_of(gain.get("interval")) if gain else None
        if gain is not None and ends is not None and where is not None:
            told = f"{points(gain['value'])} points [{points(ends[0])}, {points(ends[1])}] on the same pictures"
            lines.append(f"  {for_terminal(told)}: {LABELS[where].lower()}")
    return lines


def _classes(rows: Sequence[dict[str, Any]], most: int = 40) -> list[str]:
    """The table of the classes; of very many the weakest."""
    shown = rows if len(rows) <= most else sorted(rows, key=lambda row: (row["f1"], -row["n"]))[:most]
    width = max(5, *(len(str(row["name"])) for row in shown))
    lines = [f"  {'class':<{width}}  pictures    precision  recall      F1"]
    for row in shown:
        never = row.get("named") == 0
        precision = f"{'never named':>13}" if never else f"{100 * row['precision']:13.1f}"
        lines.append(
            f"  {row['name']:<{width}}  {row['n']:>8}{precision}{100 * row['recall']:8.1f}{100 * row['f1']:8.1f}"
        )
    if len(rows) > most:
        lines.append(f"  these are the {most} weakest by F1 of {len(rows)} classes; --json lists all")
    return lines


def _at_thresholds(result: Mapping[str, Any]) -> list[str]:
    """With several labels: the same at the thresholds that were chosen on validation, and which were not."""
    if "at_thresholds" not in result or not isinstance(chosen := result.get("thresholds"), dict):
        return []
    if chosen.get("for") == "fixed":
        return []
    what = str(chosen.get("for", "")).replace("_", " ").replace("f1", "F1")
    where = "these pictures, so flattering," if is_own_validation(result) else "validation"
    lines = [f"  each label from a threshold of its own, chosen on {where} for {what} (predict does the same):"]
    for key in ("macro_f1", "micro_f1", "exact_match"):
        value, (low, high) = result["at_thresholds"][key], result["at_thresholds"]["intervals"][key]
        lines.append(f"    {_NAMES[key]:<22}{100 * value:6.1f} %  [{100 * low:.1f}, {100 * high:.1f}]")
    few = [str(name) for name in chosen.get("too_few_pictures", [])]
    if few:
        more = f" and {len(few) - 10} more" if len(few) > 10 else ""
        lines.append(f"    (one half still, for want of validation pictures: {', '.join(few[:10])}{more})")
    return lines
