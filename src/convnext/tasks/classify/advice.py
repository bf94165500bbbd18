"""What to do next with a classification: what its classes and its splits show to be wrong or unfinished."""

from __future__ import annotations

import math
import statistics

from convnext.tasks.advice import LOOK, in_order
from convnext.tasks.classify.baseline import has_several, main_key, settled
from convnext.tasks.classify.verdict import followed
from convnext.tasks.reporting import Action, Advice, Json, RunTables
from convnext.tasks.words import counted, number, percent, quoted_names

FAR = 0.05
"""Difference of validation and test from which they count as far apart, if chance does not explain it."""
_LOOK_FOR = (
    "Look at the data first: wrong labels, too few pictures, copies.",
    "Look whether these pictures and labels are like those it was trained on.",
)


def advise(run: RunTables, own: bool) -> list[Advice]:
    """What to do next, the most pressing first; never empty for a run that was judged.

    Args:
        run: the run's tables, with the result to be explained.
        own: the result is of the run's own data; otherwise the training is not spoken of.
    """
    seen = [_never_named(run, own), _apart(run) if own else None]
    more = [item for item in seen if item is not None]
    return in_order(run, followed(run), own, settled(run.result, main_key(run)), _LOOK_FOR, more)


def _never_named(run: RunTables, own: bool) -> Advice | None:
    """Classes that occur among the judged pictures, and that the model never says."""
    rows = [row for row in run.result.get("per_class") or [] if isinstance(row, dict)]
    silent = [str(row.get("name")) for row, named in zip(rows, _named(run.result, len(rows)), strict=True)
              if named == 0 and (row.get("n") or 0) > 0]  # fmt: skip
    if not silent:
        return None
    are = "is" if len(silent) == 1 else "are"
    text = f"{len(silent)} of {counted(len(rows), 'class')} {are} never named: {quoted_names(silent, 5)}."
    if not own:
        return Advice("never named", text)
    balance = number((run.recipe.get("train") or {}).get("class_balance"))
    largest = max(row["n"] for row in rows if row.get("name") in silent)
    if has_several(run) or balance == 1 or largest >= statistics.fmean(row.get("n") or 0 for row in rows):
        return Advice("never named", f"{text} They need more training pictures, or a longer training.")
    again = Action("again", settings=("train.class_balance=1",), suffix="balanced")
    return Advice("never named", f"{text} Give rare classes more weight, and more pictures.", again)


def _named(result: Json, classes: int) -> list[int | None]:
    """How often each class was said; None where that is not known."""
    said = [row.get("named") if isinstance(row, dict) else None for row in result.get("per_class") or []]
    matrix = result.get("confusion")
    if isinstance(matrix, list) and len(matrix) == classes and any(count is None for count in said):
        said = [sum(row[at] for row in matrix) for at in range(classes)]
    return [count if isinstance(count, int) else None for count in said]


def _apart(run: RunTables) -> Advice | None:
    """The test pictures are much harder, or easier, than validation's."""
    result, key = run.result, followed(run).key
    value, n = number(result.get(key)), result.get("n")
    row = next((row for row in run.log if row["epoch"] == result.get("epoch")), None)
    before = number((row or {}).get(f"ema_val_{key}" if result.get("source") == "ema" else f"val_{key}"))
    seen = (run.data.get("pictures") or {}).get("val") or sum((run.data.get("counts") or {}).get("val") or [])
    if result.get("split") != "test" or value is None or before is None or not seen or not isinstance(n, int):
        return None
    error = math.sqrt(max(before * (1 - before), 0.01) / seen + max(value * (1 - value), 0.01) / max(n, 1))
    if abs(before - value) < max(FAR, 2.576 * error):
        return None
    told = f"Validation said {percent(before)}, the test {percent(value)}: "
    if value < before:
        told += "the test pictures are of another kind, or training has near copies of validation's."
    else:
        told += "the splits are not alike."
    return Advice("apart", f"{told} Look at how the data is split.", LOOK)
