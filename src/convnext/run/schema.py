"""What the small files of a run hold: every value's kind, checked once, where the file is read.

A run folder may be damaged, or made by somebody who means harm. Who reads it through here can rely on the kinds of what
is named below; keys that are not named, as those of a later version, are handed on as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from convnext.memory import available_memory
from convnext.tasks.score import Score

Check = Callable[[Any, str], None]
"""(value, where it stands) -> nothing; raises `Damaged` where it is of another kind."""
MOST = 2**63
_DEEPEST = 32
_GROWTH, _SMALL = 40, 1_000_000
"""Bytes of memory that a byte of JSON becomes, at most ("[],[],"); and bytes of it that always fit."""


class Damaged(Exception):
    """A value is not what its file should hold; the message says where, what it is, and what it must be."""

    def __init__(self, at: str, value: Any, rule: str) -> None:
        whole = f"it holds {_short(value)}, no {rule.removeprefix('a ')}"
        super().__init__(f"{at} = {_short(value)}: it must be {rule}" if at else whole)


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"a {'table' if isinstance(value, dict) else 'list'}"
    try:
        text = json.dumps(value, ensure_ascii=True)
    except ValueError:  # more digits than Python writes
        return "a number without end"
    return text if len(text) <= 40 else f"{text[:37]}..."


def text(value: Any, at: str) -> None:
    """Words."""
    if not isinstance(value, str):
        raise Damaged(at, value, "text")


def flag(value: Any, at: str) -> None:
    """true or false."""
    if not isinstance(value, bool):
        raise Damaged(at, value, "true or false")


def number(value: Any, at: str) -> None:
    """Any number, NaN too, that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float) or (isinstance(value, int) and abs(value) >= MOST):
        raise Damaged(at, value, "a number")


def whole(value: Any, at: str) -> None:
    """A whole number below 2^63."""
    if type(value) is not int or abs(value) >= MOST:
        raise Damaged(at, value, "a whole number")


def count(value: Any, at: str) -> None:
    """A whole number from 0 on."""
    if type(value) is not int or not 0 <= value < MOST:
        raise Damaged(at, value, "a whole number, 0 or more")


def scalar(value: Any, at: str) -> None:
    """Text, a number, true, false or null."""
    if not isinstance(value, str | bool) and value is not None:
        number(value, at)


def maybe(check: Check) -> Check:
    """The same, or null."""

    def checked(value: Any, at: str) -> None:
        if value is not None:
            check(value, at)

    return checked


def either(check: Check, other: Check) -> Check:
    """One of two kinds."""

    def checked(value: Any, at: str) -> None:
        try:
            check(value, at)
        except Damaged:
            other(value, at)

    return checked


def rows(check: Check, length: int | None = None) -> Check:
    """A list of values of one kind."""

    def checked(value: Any, at: str) -> None:
        if not isinstance(value, list):
            raise Damaged(at, value, "a list")
        if length is not None and len(value) != length:
            raise Damaged(at, len(value), f"a list of {length}")
        for index, item in enumerate(value):
            check(item, f"{at}[{index}]")

    return checked


def named(check: Check) -> Check:
    """A table of values of one kind, by names that are not known beforehand."""

    def checked(value: Any, at: str) -> None:
        if not isinstance(value, dict):
            raise Damaged(at, value, "a table")
        for key, item in value.items():
            check(item, f"{at}.{key[:40]}" if at else key[:40])

    return checked


def table(known: Mapping[str, Check], needed: tuple[str, ...] = ()) -> Check:
    """A table whose keys have kinds of their own; `needed` must be there."""

    def checked(value: Any, at: str) -> None:
        if not isinstance(value, dict):
            raise Damaged(at, value, "a table")
        for key in needed:
            if key not in value:
                raise Damaged(f"{at}.{key}" if at else key, None, "there")
        for key, check in known.items():
            if key in value:
                check(value[key], f"{at}.{key}" if at else key)

    return checked


def square(value: Any, at: str) -> None:
    """Counts in as many rows as columns."""
    rows(rows(count))(value, at)
    for index, row in enumerate(value):
        if len(row) != len(value):
            raise Damaged(f"{at}[{index}]", len(row), f"a list of {len(value)}")


def _bins(value: Any, at: str) -> None:
    table({"confidence": rows(maybe(number)), "accuracy": rows(maybe(number)), "count": rows(count)},
          ("confidence", "accuracy", "count"))(value, at)  # fmt: skip
    for key in ("confidence", "accuracy"):
        if len(value[key]) != len(value["count"]):
            raise Damaged(f"{at}.{key}", len(value[key]), f"a list of {len(value['count'])}")


def _data(value: Any, at: str) -> None:
    table({
        "root": text, "layout": text, "classes": rows(text), "multi_label": flag, "majority": rows(count),
        "counts": named(rows(count)), "pictures": named(count), "fingerprint": text,
        "contents": text,
        "broken": rows(table({"path": text, "reason": text})), "notes": rows(text),
    })(value, at)  # fmt: skip
    classes = value.get("classes")
    for split, counts in value.get("counts", {}).items():
        if classes is not None and len(counts) != len(classes):
            raise Damaged(f"counts.{split[:40]}", len(counts), f"a list of {len(classes)}, one for each class")
    for index in value.get("majority", ()) if classes is not None else ():
        if index >= len(classes):
            raise Damaged("majority", index, f"below {len(classes)}, the number of classes")


def _epoch(value: Any, at: str) -> None:
    table({"epoch": count, "epochs": count, "step": count, "size": count, "best": flag, "time": text}, ("epoch",))(
        value, at
    )
    for key, item in value.items():
        if key.startswith(("train_", "val_", "ema_")) or key in _PACE:
            maybe(number)(item, key[:40])


_PACE = ("seconds", "epoch_seconds", "images_per_second", "data_wait", "lr")
_PAIRS = named(maybe(rows(maybe(number), 2)))
_CLASS = {"name": text, "n": count, "named": count, "intervals": _PAIRS} | {
    key: maybe(number) for key in ("precision", "recall", "f1", "average_precision", "specificity", "threshold")
}
_GAINS = named(
    table({"value": number, "interval": maybe(rows(number, 2)), "won": count, "lost": count, "p": number}, ("value",))
)
_RESULT = (
    {key: maybe(text) for key in ("split", "weights", "source", "model", "task", "data_root", "majority_class")}
    | dict.fromkeys(("n", "correct", "params", "epoch", "epochs", "unreadable", "in_training", "in_validation"), count)
    | {key: maybe(number) for key in (
        "top1", "top5", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "micro_f1", "exact_match",
        "mean_average_precision", "calibration_error", "nll", "majority_top1", "micro_f1_baseline",
        "exact_match_baseline", "train_seconds",
    )}
    | {
        "seed": whole, "multi_label": flag, "test_split": flag, "confusion": maybe(square), "reliability": maybe(_bins),
        "per_class": maybe(rows(table(_CLASS, ("name",)))), "intervals": _PAIRS,
        "last_val": named(maybe(number)), "baselines": named(maybe(number)), "gains": _GAINS,
        "constant_labels": rows(text), "columns": rows(text),
        "thresholds": table({"for": text, "values": named(number)}),
        "at_thresholds": table({"intervals": _PAIRS, "per_class": rows(table(_CLASS, ("name",)))}),
    }
)  # fmt: skip

_setting = either(scalar, rows(either(scalar, rows(scalar))))


def _state(value: Any, at: str) -> None:
    if value not in ("complete", "pruned", "fail", "running", "waiting"):
        raise Damaged(at, value, "complete, pruned, fail, running or waiting")


def _score(value: Any, at: str) -> None:
    try:
        Score.of_json(value)
    except ValueError:
        raise Damaged(at, value, "what a score is") from None


def _by_step(value: Any, at: str) -> None:
    named(number)(value, at)
    for key in value:
        if not key.isdecimal() or len(key) > 9:
            raise Damaged(at, key, "numbers by the number of the epoch")


def _trial(value: Any, at: str) -> None:
    table(_TRIAL, tuple(_TRIAL))(value, at)
    if value["state"] == "complete" and not isinstance(value["value"], int | float):
        raise Damaged(f"{at}.value", value["value"], "a number: the trial is complete")


_TRIAL: dict[str, Check] = {
    "number": count, "state": _state, "value": maybe(number), "params": named(_setting), "epochs": _by_step,
    "seconds": maybe(number), "reason": text, "counts": flag,
}  # fmt: skip

FILES: dict[str, Check] = {
    "result.json": table(_RESULT),
    "data.json": _data,
    "environment.json": table(
        {"command": either(text, rows(text)), "run": text, "date": text, "cores": maybe(number), "cpu": maybe(text),
         "gpu": maybe(text)}
    ),
    "plan.json": rows(table({"key": text, "value": _setting, "why": text}, ("key",))),
    "mistakes.json": rows(table({
        "path": text, "truth": maybe(either(text, rows(text))), "predicted": maybe(either(text, rows(text))),
        "confidence": maybe(number), "picture": maybe(text), "label": text, "kind": text,
    })),
    "contents.json": table({"train": text, "val": text}),
    "batch.json": table({"labels": rows(either(text, rows(text)))}),
    "changes.json": rows(table({
        "time": text, "epoch": count, "step": count, "step_in_epoch": count, "changed": named(rows(_setting, 2)),
        "from_last_weights": flag, "command": text,
    }, ("epoch", "changed"))),
    "log.jsonl": _epoch,
    "tune.json": table({
        "data": text, "sampler": text, "pruner": text, "seed": whole, "objective": text, "best": maybe(count),
        "score": _score,
        "judged_on": maybe(table({"pictures": count, "always": text, "trivial": number},
                                 ("pictures", "always", "trivial"))),
        "trials": rows(_trial),
        "repeats": table({"trial": maybe(count), "values": rows(number)}, ("trial", "values")),
    }, ("trials",)),
}  # fmt: skip
"""The kinds of what each file of a run holds; of the log, each line."""


def parse(content: bytes, name: str) -> Any:
    """The content of a JSON file (or of a line of the log) of a run, checked.

    Raises:
        Damaged: it is no JSON, or a value is of another kind than it must be.
    """
    if (room := available_memory()) and len(content) > max(_SMALL, room // _GROWTH):
        raise Damaged("", f"{len(content) / 1e6:,.0f} MB", f"JSON that fits into {room / 1e9:.1f} GB of memory")
    try:
        value = json.loads(content)
    except RecursionError:
        raise Damaged("", "brackets in brackets without end", "JSON of a few levels") from None
    except ValueError as error:  # no JSON, no UTF-8, or more digits than Python reads
        raise Damaged("", content[:20].decode("ascii", "replace"), f"JSON ({error})") from None
    if _deeper(value, _DEEPEST):
        raise Damaged("", "brackets in brackets", f"JSON of {_DEEPEST} levels at most")
    if (check := FILES.get(name)) is not None:
        check(value, "")
    return value


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(item, levels - 1) for item in inner)
