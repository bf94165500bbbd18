"""Results as text for a terminal."""

from __future__ import annotations

from typing import Any

_NAMES = {
    "top1": "top-1", "top5": "top-5", "balanced_accuracy": "balanced accuracy", "macro_precision": "macro precision",
    "macro_recall": "macro recall", "macro_f1": "macro F1", "micro_f1": "micro F1", "exact_match": "exact match",
    "mean_average_precision": "mean average precision", "calibration_error": "calibration error",
}  # fmt: skip


def weights_judged(result: dict[str, Any]) -> str:
    """Which weights were judged, as "best epoch (12), averaged (EMA)"."""
    epoch = f" ({result['epoch']})" if result.get("epoch") is not None else ""
    averaged = ", averaged (EMA)" if result.get("source") == "ema" else ""
    words = {"best": "best epoch", "last": "last epoch"}.get(str(result.get("weights")), str(result.get("weights", "")))
    return f"{words}{epoch}{averaged}"


def describe_result(result: dict[str, Any]) -> str:
    """The verdict, the classes, and beside it what always naming the same answer would get."""
    lines = [f"{result['model']}, {weights_judged(result)}, on {result['n']} {result['split']} pictures"]
    if result["split"] == "val" and result["weights"] == "last":
        test = "--split test judges the test split" if result.get("test_split") else "there is no test split"
        lines.append(f"  ({test}; the best epoch was chosen on these pictures, so the last one is judged)")
    for key, name in _NAMES.items():
        if key in result:
            low, high = result["intervals"].get(key, (None, None))
            interval = "" if low is None else f"  [{100 * low:.1f}, {100 * high:.1f}]"
            lines.append(f"  {name:<24}{100 * result[key]:6.1f} %{interval}")
    if result.get("majority_top1") is not None:
        always = f'always "{result["majority_class"]}"'
        lines.append(f"  {always:<24}{100 * result['majority_top1']:6.1f} %  (the trivial answer)")
    if "exact_match_baseline" in result:
        for key, name in (("micro_f1", "micro F1"), ("exact_match", "exact match")):
            lines.append(f"  {'always the same labels':<24}{100 * result[f'{key}_baseline']:6.1f} %  ({name})")
    if result.get("unreadable"):
        lines.append(f"  {result['unreadable']} pictures could not be read and are not counted")
    width = max(len(str(entry["name"])) for entry in result["per_class"])
    lines.append(f"  {'class':<{width}}  pictures  precision  recall      F1")
    for entry in result["per_class"][:40]:
        numbers = f"{100 * entry['precision']:10.1f}{100 * entry['recall']:8.1f}{100 * entry['f1']:8.1f}"
        lines.append(f"  {entry['name']:<{width}}  {entry['n']:>8}{numbers}")
    if len(result["per_class"]) > 40:
        lines.append(f"  and {len(result['per_class']) - 40} more classes; --json lists all")
    return "\n".join([*lines, "  (brackets: 95 % bootstrap interval over the pictures)"])
