"""What the files of a run hold in the words of a classification; see `tasks.table.checks_of`."""

from __future__ import annotations

from typing import Any

from convnext.tasks.checks import (
    Check,
    Damaged,
    count,
    either,
    flag,
    maybe,
    named,
    number,
    rows,
    square,
    table,
    text,
)

_PAIRS = named(maybe(rows(maybe(number), 2)))
_CLASS = {"name": text, "n": count, "named": count, "intervals": _PAIRS} | {
    key: maybe(number) for key in ("precision", "recall", "f1", "average_precision", "specificity", "threshold")
}


def _bins(value: Any, at: str) -> None:
    table({"confidence": rows(maybe(number)), "accuracy": rows(maybe(number)), "count": rows(count)},
          ("confidence", "accuracy", "count"))(value, at)  # fmt: skip
    for key in ("confidence", "accuracy"):
        if len(value[key]) != len(value["count"]):
            raise Damaged(f"{at}.{key}", len(value[key]), f"a list of {len(value['count'])}")


def _data(value: Any, at: str) -> None:
    table({"classes": rows(text), "multi_label": flag, "majority": rows(count), "counts": named(rows(count))})(
        value, at
    )
    classes = value.get("classes")
    for split, counts in value.get("counts", {}).items():
        if classes is not None and len(counts) != len(classes):
            raise Damaged(f"counts.{split[:40]}", len(counts), f"a list of {len(classes)}, one for each class")
    for index in value.get("majority", ()) if classes is not None else ():
        if index >= len(classes):
            raise Damaged("majority", index, f"below {len(classes)}, the number of classes")


_NUMBERS = (
    "top1", "top5", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "micro_f1", "exact_match",
    "mean_average_precision", "calibration_error", "nll", "majority_top1", "micro_f1_baseline", "exact_match_baseline",
)  # fmt: skip
_RESULT = {key: maybe(number) for key in _NUMBERS} | {
    "correct": count, "majority_class": maybe(text), "multi_label": flag, "confusion": maybe(square),
    "reliability": maybe(_bins), "per_class": maybe(rows(table(_CLASS, ("name",)))), "constant_labels": rows(text),
    "thresholds": table({"for": text, "values": named(number)}),
    "at_thresholds": table({"intervals": _PAIRS, "per_class": rows(table(_CLASS, ("name",)))}),
    "gains": named(table({"value": number})),
}  # fmt: skip

CHECKS: dict[str, Check] = {
    "result.json": table(_RESULT),
    "data.json": _data,
    "mistakes.json": rows(table({
        "truth": maybe(either(text, rows(text))), "predicted": maybe(either(text, rows(text))),
        "confidence": maybe(number), "label": text, "kind": text,
    })),
}  # fmt: skip
"""Of each file the part that is a classification's."""
