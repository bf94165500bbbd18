"""What the files of a run hold in the words of a regression; see `tasks.table.checks_of`."""

from __future__ import annotations

from convnext.tasks.checks import Check, count, either, flag, maybe, named, number, rows, table, text

_SCORES: dict[str, Check] = {
    "n": count, "missing": count, "within": rows(number), "level": maybe(number), "coverage_n": count,
    "baselines": named(maybe(number)), "intervals": named(maybe(rows(maybe(number), 2))),
    "gains": named(table({
        "value": number, "interval": maybe(rows(maybe(number), 2)), "won": count, "lost": count, "p": number,
    }, ("value",))),
    "trivial": table({"median": maybe(number), "mean": maybe(number)}),
    "by_range": rows(table({
        "low": number, "high": number, "n": count, "intervals": named(maybe(rows(maybe(number), 2))),
        **dict.fromkeys(("mae", "mae_baseline", "median_error", "bias", "coverage", "width"), maybe(number)),
    }, ("low", "high", "n"))),
    "training_median": maybe(named(maybe(number))), "unit": text,
    **dict.fromkeys(("mae", "rmse", "median_error", "bias", "r2", "pearson", "spearman", "coverage", "width"),
                    maybe(number)),
}  # fmt: skip
_SUMMARY: dict[str, Check] = {
    "n": count, "missing": count, "quantiles": maybe(named(number)),
    **dict.fromkeys(("min", "max", "mean", "deviation", "median"), maybe(number)),
}  # fmt: skip
_RANGE = rows(maybe(number), 2)
_CALIBRATION = table({
    "level": number, "pictures": count, "needed": count, "absolute": maybe(number), "scaled": maybe(number),
    "shortage": text,
}, ("level", "pictures"))  # fmt: skip
_TARGET = table(
    _SCORES | {"log": flag, "range": _RANGE, "training": maybe(table(_SUMMARY)), "calibration": maybe(_CALIBRATION)},
    ("n", "unit"),
)
_SPLIT = table(_SUMMARY | {"histogram": table({"edges": rows(number), "counts": rows(count)})}, ("n",))

CHECKS: dict[str, Check] = {
    "result.json": table(_SCORES | {
        "loss": text, "target": text, "width_kind": maybe(text), "targets": named(_TARGET), "error": maybe(number),
        "scores": rows(table({"key": text, "title": text, "unit": text})), "meaning": table({}),
    }),
    "data.json": table({
        "targets": named(table({"unit": text, "log": flag, "range": _RANGE, "splits": named(_SPLIT)}, ("splits",))),
    }),
    "mistakes.json": rows(table({
        "truth": maybe(either(text, rows(text))), "answer": text, "target": text, "truth_value": number,
        "value": number, "low": maybe(number), "high": maybe(number), "error": number, "outside": maybe(flag),
    })),
}  # fmt: skip
"""Of each file the part that is a regression's."""
