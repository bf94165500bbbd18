"""The verdict: whether a run has beaten the trivial answer, in words that claim no more than was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from convnext.metrics.baselines import constant_scores, five_largest
from convnext.metrics.intervals import wilson
from convnext.metrics.paired import gain_of_counts, side
from convnext.report.files import Json, RunFiles
from convnext.report.words import counted, number, percent, points, span
from convnext.run.contents import overlap_of

FEW_KNOWN = 0.01
"""Share of training pictures among those judged up to which a verdict stands, with a word on them."""
SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}
LABELS = {1: "Better than the trivial answer", 0: "Not clearly better than the trivial answer",
          -1: "Worse than the trivial answer"}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """One sentence on the result and what must be said with it. `tone` is "good", "doubtful" or "open".

    `difference` is the difference to the trivial answer on the same pictures, in a sentence; "" where none is known.
    """

    tone: str
    label: str
    sentence: str
    caveat: str = ""
    difference: str = ""


def interval_of(metrics: Json, key: str) -> tuple[float, float] | None:
    """The interval of one metric, None when it is missing or not made of two numbers."""
    intervals = metrics.get("intervals")
    return ends_of(intervals.get(key) if isinstance(intervals, dict) else None)


def ends_of(ends: Any) -> tuple[float, float] | None:
    """Two numbers, or None for anything else."""
    if not isinstance(ends, list | tuple) or len(ends) != 2 or any(number(end) is None for end in ends):
        return None
    return float(ends[0]), float(ends[1])


def baseline_of(result: Json, key: str) -> float | None:
    """What the trivial answer gets by a metric; results of before it was kept have it for the main ones."""
    known = result.get("baselines")
    if isinstance(known, dict) and (value := number(known.get(key))) is not None:
        return value
    old = {"top1": "majority_top1", "micro_f1": "micro_f1_baseline", "exact_match": "exact_match_baseline"}
    return number(result.get(old[key])) if key in old else _constant(result).get(key)


def _constant(result: Json) -> dict[str, float]:
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


def gain_of(result: Json, key: str) -> Json | None:
    """The difference to the trivial answer on the same pictures; for top-1 found anew where an old result lacks it."""
    known = result.get("gains")
    gain = known.get(key) if isinstance(known, dict) else None
    if isinstance(gain, dict) and number(gain.get("value")) is not None and ends_of(gain.get("interval")):
        return gain
    return _gain_of_matrix(result) if key == "top1" and not isinstance(known, dict) else None


def _gain_of_matrix(result: Json) -> Json | None:
    """From the confusion counts: right answers outside the largest class are won, wrong ones inside it are lost."""
    matrix, classes = result.get("confusion"), [row.get("name") for row in result.get("per_class") or []]
    majority = result.get("majority_class")
    if not isinstance(matrix, list) or majority not in classes or len(matrix) != len(classes):
        return None
    at = classes.index(majority)
    right = sum(row[i] for i, row in enumerate(matrix))
    n = sum(map(sum, matrix))
    return gain_of_counts(right - matrix[at][at], sum(matrix[at]) - matrix[at][at], n) if n else None


def settled(result: Json, key: str) -> int | None:
    """1: better than the trivial answer by this metric, -1: worse, 0: chance may be all, None: nothing to go by."""
    value, baseline = number(result.get(key)), baseline_of(result, key)
    if value is None or baseline is None:
        return None
    if (gain := gain_of(result, key)) is not None:
        return side(gain)
    ends, n = interval_of(result, key), result.get("n")
    if ends is None:
        ends = wilson(value, n) if isinstance(n, int) and n > 0 and 0 <= value <= 1 else (value, value)
    return 1 if ends[0] > baseline else -1 if ends[1] < baseline else 0


def verdict(run: RunFiles) -> Verdict:
    """The result in one sentence, worded with care where the pictures do not settle it."""
    if not run.result:
        return _unfinished(run)
    result = run.result
    key, name = ("micro_f1", "Micro-F1") if run.multi_label else ("top1", "Top-1")
    value, baseline = number(result.get(key)), baseline_of(result, key)
    split = SPLIT_WORDS.get(str(result.get("split")), "evaluation")
    ends = interval_of(result, key)
    score = (
        f"{name} {percent(value)}{f' ({span(ends)})' if ends else ''} on {counted(_count(result), f'{split} picture')}"
    )
    known, told = overlap_of(result)
    caveat, where = " ".join(filter(None, (_split_caveat(result), told))), settled(result, key)
    if where is None or baseline is None:
        return Verdict("open", "No comparison", f"{score}; there is no trivial answer to compare it with.", caveat)
    trivial, gets = _trivial(run, baseline)
    difference = _difference(result, key, where)
    if where < 0:
        text = f"{score} is worse than always saying {trivial}, which gets {gets}."
        return Verdict("doubtful", LABELS[where], text, caveat, difference)
    if where == 0:
        text = f"{score} is not clearly better than always saying {trivial}, which gets {gets}."
        return Verdict("doubtful", LABELS[where], text, caveat, difference)
    text = f"{score}; always saying {trivial} gets {gets}."
    if known > FEW_KNOWN * _count(result):
        return Verdict("open", "Pictures that it was trained on", text, caveat, difference)
    if _split_caveat(result):
        return Verdict("open", "Validation pictures only", text, caveat, difference)
    return Verdict("good", LABELS[where], text, caveat, difference)


def _count(result: Json) -> int:
    n = result.get("n", 0)
    return n if isinstance(n, int) else 0


def _trivial(run: RunFiles, baseline: float) -> tuple[str, str]:
    """What the trivial answer says, and what it gets."""
    result = run.result
    if not run.multi_label:
        majority = result.get("majority_class")
        return (f"\u201c{majority}\u201d" if majority is not None else "one class"), percent(baseline)
    known, gets = number(result.get("micro_f1_baseline")), percent(baseline)
    best = [str(name) for name in result.get("constant_labels") or []]
    if known is None or not best or baseline <= known + 1e-9:
        return "the commonest set of labels", gets
    shown = ", ".join(f"\u201c{name}\u201d" for name in best[:3]) + (
        f" and {len(best) - 3} more" if len(best) > 3 else ""
    )
    return "the commonest set of labels", f"{percent(known)} (and always saying {shown} {gets})"


def _difference(result: Json, key: str, where: int) -> str:
    gain = gain_of(result, key)
    if gain is None:
        return ""
    ends = ends_of(gain.get("interval"))
    if ends is None:
        return ""
    text = f"On the same pictures that is {points(gain['value'])} points"
    text += f", 95 % interval {points(ends[0])} to {points(ends[1])}"
    disagree, p = int(gain.get("won") or 0) + int(gain.get("lost") or 0), number(gain.get("p"))
    if where == 0 and (ends[0] > 0 or ends[1] < 0) and p is not None:
        text += f"; but the two differ on {counted(disagree, 'picture')} only, where chance does as much ({percent(p)})"
    elif where == 0:
        text += ": chance may do that"
    others = [name for name in ("balanced_accuracy", "macro_f1") if where < 1 and settled(result, name) == 1]
    if others:
        names = " and ".join(name.replace("_", " ").replace(" f1", " F1") for name in others)
        text += f". By {names} it is clearly better: it finds the rarer classes"
    return text + "."


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


def _unfinished(run: RunFiles) -> Verdict:
    if not run.log:
        return Verdict("open", "Not finished", "This run has not finished its first epoch yet.")
    last, key = run.log[-1], metric_key(run)
    name = "micro-F1" if key == "micro_f1" else "top-1"
    epoch, planned = run.epochs
    text = f"{counted(epoch, 'epoch')} of {planned} done"
    if epoch >= planned:
        text = f"All {counted(planned, 'epoch')} done, the final evaluation is missing"
    scored = [(score, int(row["epoch"])) for row in run.log if (score := validation_score(row, key)) is not None]
    if not scored:
        return Verdict("open", "Not finished", text + ".")
    best, best_epoch = max(scored, key=lambda pair: (pair[0], -pair[1]))
    caveat = "These are validation numbers from training, without intervals. A final result follows when the run ends."
    now = validation_score(last, key)
    text += f"; validation {name} now {percent(now)}, best {percent(best)} at epoch {best_epoch}."
    return Verdict("open", "Not finished", text, caveat)


def metric_key(run: RunFiles) -> str:
    """The accuracy that the log follows: "top1", or "micro_f1" when pictures have several labels."""
    return "micro_f1" if run.multi_label or any("val_micro_f1" in row for row in run.log) else "top1"


def validation_score(row: Json, key: str) -> float | None:
    """One epoch's validation score: the better of the plain and the averaged weights."""
    scores = [number(row.get(f"val_{key}")), number(row.get(f"ema_val_{key}"))]
    return max((score for score in scores if score is not None), default=None)
