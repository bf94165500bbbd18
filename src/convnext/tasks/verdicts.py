"""What every task's verdict has in common: whether the trivial answer is beaten, in words that claim no more than that.

A verdict is good only where a model beats the trivial answer on the same pictures, on a split that had no part in the
training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convnext.tasks.blocks import Interval
from convnext.tasks.overlap import overlap_of
from convnext.tasks.reporting import Followed, Json, RunTables, Verdict
from convnext.tasks.words import counted, number

FEW_KNOWN = 0.01
"""Share of training pictures among those judged up to which a verdict stands, with a word on them."""
SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}
LABELS = {1: "Better than the trivial answer", 0: "Not clearly better than the trivial answer",
          -1: "Worse than the trivial answer"}  # fmt: skip


@dataclass(frozen=True)
class Headline:
    """The main score of a result beside the trivial answer.

    Attributes:
        score: the score with its interval, as "Top-1 80.0 % (75.0-85.0)".
        where: 1: better than the trivial answer, -1: worse, 0: chance may be all, None: nothing to compare with.
        trivial: what the trivial answer always says.
        gets: what it gets.
        difference: the difference on the same pictures, a sentence; "" where none is known.
    """

    score: str
    where: int | None
    trivial: str = ""
    gets: str = ""
    difference: str = ""


def verdict_of(run: RunTables, headline: Headline) -> Verdict:
    """The result in one sentence, worded with care where the pictures do not settle it."""
    result = run.result
    score = f"{headline.score} on {counted(count_of(result), f'{split_word(result)} picture')}"
    known, told = overlap_of(result)
    caveat, where = " ".join(filter(None, (_split_caveat(result), told))), headline.where
    trivial, gets, difference = headline.trivial, headline.gets, headline.difference
    if where is None:
        return Verdict("open", "No comparison", f"{score}; there is no trivial answer to compare it with.", caveat)
    if where < 0:
        text = f"{score} is worse than always saying {trivial}, which gets {gets}."
        return Verdict("doubtful", LABELS[where], text, caveat, difference)
    if where == 0:
        text = f"{score} is not clearly better than always saying {trivial}, which gets {gets}."
        return Verdict("doubtful", LABELS[where], text, caveat, difference)
    text = f"{score}; always saying {trivial} gets {gets}."
    if known > FEW_KNOWN * count_of(result):
        return Verdict("open", "Pictures that it was trained on", text, caveat, difference)
    if _split_caveat(result):
        return Verdict("open", "Validation pictures only", text, caveat, difference)
    return Verdict("good", LABELS[where], text, caveat, difference)


def unfinished(run: RunTables, followed: Followed) -> Verdict:
    """What is known of a run without a result: the epochs that are done, with the score that training follows."""
    if not run.log:
        return Verdict("open", "Not finished", "This run has not finished its first epoch yet.")
    epoch, planned = run.epochs
    text = f"{counted(epoch, 'epoch')} of {planned} done"
    if epoch >= planned:
        text = f"All {counted(planned, 'epoch')} done, the final evaluation is missing"
    scored = [(value, int(row["epoch"])) for row in run.log if (value := epoch_score(row, followed)) is not None]
    best = followed.best_of([value for value, _ in scored])
    if best is None:
        return Verdict("open", "Not finished", text + ".")
    first = min(at for value, at in scored if value == best)
    caveat = "These are validation numbers from training, without intervals. A final result follows when the run ends."
    now, say = epoch_score(run.log[-1], followed), followed.unit.text
    text += f"; validation {followed.name} now {say(now)}, best {say(best)} at epoch {first}."
    return Verdict("open", "Not finished", text, caveat)


def epoch_score(row: Json, followed: Followed) -> float | None:
    """One epoch's validation score: the better of the plain and the averaged weights."""
    scores = [number(row.get(f"val_{followed.key}")), number(row.get(f"ema_val_{followed.key}"))]
    return followed.best_of([score for score in scores if score is not None])


def interval_of(metrics: Mapping[str, Any], key: str) -> Interval | None:
    """The interval of one metric, None when it is missing or not made of two numbers."""
    intervals = metrics.get("intervals")
    return ends_of(intervals.get(key) if isinstance(intervals, dict) else None)


def ends_of(ends: Any) -> Interval | None:
    """Two numbers, or None for anything else."""
    if not isinstance(ends, list | tuple) or len(ends) != 2 or any(number(end) is None for end in ends):
        return None
    return float(ends[0]), float(ends[1])


def count_of(result: Mapping[str, Any]) -> int:
    """Judged pictures; 0 where that is not known."""
    n = result.get("n", 0)
    return n if isinstance(n, int) else 0


def split_word(result: Mapping[str, Any]) -> str:
    """The judged split as an adjective of pictures: "test", "validation", or "evaluation" for other data."""
    return SPLIT_WORDS.get(str(result.get("split")), "evaluation")


def _split_caveat(result: Json) -> str:
    if result.get("split") != "val":
        return ""
    if result.get("weights") == "best":
        return (
            "There is no test split, and the same validation pictures chose the best epoch: "
            "expect a little less on new pictures."
        )
    return (
        "There is no test split. These validation pictures were watched during training: "
        "check with pictures that were not."
    )
