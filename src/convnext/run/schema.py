"""What the small files of a run hold: every value's kind, checked once, where the file is read.

A run folder may be damaged, or made by somebody who means harm. Who reads it through here can rely on the kinds of what
is named below; keys that are not named, as those of a later version, are handed on as they are.
"""

from __future__ import annotations

import json
from typing import Any

from convnext.memory import available_memory
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
    scalar,
    table,
    text,
    whole,
)
from convnext.tasks.score import Score
from convnext.tasks.table import FIRST, checks_of

__all__ = ["FILES", "Damaged", "parse"]

_DEEPEST = 32
_GROWTH, _SMALL = 40, 1_000_000
"""Bytes of memory that a byte of JSON becomes, at most ("[],[],"); and bytes of it that always fit."""


_DATA = table({
    "task": text, "root": text, "layout": text, "pictures": named(count), "fingerprint": text, "contents": text,
    "broken": rows(table({"path": text, "reason": text})), "notes": rows(text),
})  # fmt: skip


def _epoch(value: Any, at: str) -> None:
    table({"epoch": count, "epochs": count, "step": count, "size": count, "best": flag, "time": text}, ("epoch",))(
        value, at
    )
    for key, item in value.items():
        if key.startswith(("train_", "val_", "ema_")) or key in _PACE:
            maybe(number)(item, key[:40])


_PACE = ("seconds", "epoch_seconds", "images_per_second", "data_wait", "lr")
PAIRS = named(maybe(rows(maybe(number), 2)))
"""Intervals by the name of their score."""
_GAINS = named(
    table({
        "value": maybe(number), "interval": maybe(rows(number, 2)), "won": count, "lost": count, "p": number,
    }, ("value",))
)  # fmt: skip
_RESULT = table(
    {key: maybe(text) for key in ("split", "weights", "source", "model", "task", "data_root")}
    | dict.fromkeys(("n", "params", "epoch", "epochs", "unreadable", "in_training", "in_validation"), count)
    | {
        "seed": whole, "test_split": flag, "train_seconds": maybe(number), "intervals": PAIRS, "columns": rows(text),
        "last_val": named(maybe(number)), "baselines": named(maybe(number)), "gains": _GAINS,
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
    "result.json": _RESULT,
    "data.json": _DATA,
    "environment.json": table(
        {"command": either(text, rows(text)), "run": text, "date": text, "cores": maybe(number), "cpu": maybe(text),
         "gpu": maybe(text)}
    ),
    "plan.json": rows(table({"key": text, "value": _setting, "why": text}, ("key",))),
    "mistakes.json": rows(table({"path": text, "picture": maybe(text)})),
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
"""The kinds of what each file of a run holds, whatever its task; of the log, each line."""


def parse(content: bytes, name: str, task: str = "") -> Any:
    """The content of a JSON file (or of a line of the log) of a run, checked.

    Args:
        content: the bytes of the file.
        name: of the file.
        task: in whose words it speaks besides; "" for what it says itself, else for a classification as of old.

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
    said = value.get("task") if isinstance(value, dict) else None
    if (check := checks_of(task or said or FIRST).get(name)) is not None:
        check(value, "")
    return value


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(item, levels - 1) for item in inner)
