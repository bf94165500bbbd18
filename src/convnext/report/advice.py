"""What to do next: what the numbers of a run show to be wrong or unfinished, each with the command that may mend it."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from convnext.report.commands import doctor, quoted, train_again, train_on
from convnext.report.files import Json, RunFiles
from convnext.report.verdict import FEW_KNOWN, metric_key, settled, validation_score
from convnext.report.words import counted, number, percent, points
from convnext.run.contents import overlap_of

ENOUGH_STEPS = {"scratch": 500, "pretrained": 100}
"""Optimizer steps below which a run is called short: so few teach little, whatever else is chosen."""
RISING = 0.01
"""Gain of the last quarter of the epochs over the one before from which a curve counts as rising."""
FAR = 0.05
"""Difference of validation and test from which they count as far apart, if chance does not explain it."""


@dataclass(frozen=True)
class Advice:
    """One thing to do: what was seen, and a command to paste ("" where there is none)."""

    kind: str
    text: str
    command: str = ""


def advise(run: RunFiles, *, own: bool = True) -> list[Advice]:
    """What to do next, the most pressing first; never empty for a run that was judged.

    Args:
        run: the folder's files, with the result to be explained.
        own: the result is of the run's own data; otherwise the training is not spoken of.
    """
    if not run.result:
        return []
    longer = (_short(run) or _rising(run)) if own else None  # a run that was too short rises too: one command for both
    seen = [_known(run, own), longer, _never_named(run, own), _apart(run) if own else None]
    found = [item for item in seen if item is not None]
    if doubt := _doubt(run, alone=not found, own=own):
        found.insert(0, doubt)
    return found or [_use(run)]


def _known(run: RunFiles, own: bool) -> Advice | None:
    """The score is that of pictures that were learned from."""
    known, told = overlap_of(run.result)
    n = number(run.result.get("n")) or 0
    if known <= FEW_KNOWN * n:
        return None
    if own and run.result.get("split") != "train":
        return Advice("known", f"{told} Take the copies out.", doctor(run))
    again = f"convnext evaluate {quoted(run.folder)}" if run.log else ""
    return Advice("known", "Judge it on pictures that it was not trained on.", again)


def _doubt(run: RunFiles, *, alone: bool, own: bool) -> Advice | None:
    where = settled(run.result, "micro_f1" if run.multi_label else "top1")
    if where is None or where > 0:
        return None
    text = (
        "Do not use this model yet: it is "
        + ("worse" if where < 0 else "not clearly better")
        + " than the trivial answer."
    )
    if not alone:
        return Advice("doubt", text)
    look = doctor(run)
    if not own:
        return Advice("doubt", f"{text} Look whether these pictures and labels are like those it was trained on.", look)
    return Advice("doubt", f"{text} Look at the data first: wrong labels, too few pictures, copies.", look)


def _short(run: RunFiles) -> Advice | None:
    """Fewer steps than teach anything."""
    steps = number(run.log[-1].get("step")) if run.log else None
    done = run.epochs[0]
    if not steps or not done:
        return None
    scratch = _from_scratch(run)
    enough = ENOUGH_STEPS["scratch" if scratch else "pretrained"]
    if steps >= enough:
        return None
    least = 2 if scratch else 1
    epochs = min(500, max(2 * done, math.ceil(least * enough * done / steps)))
    how = " from scratch" if scratch else ""
    text = f"{counted(int(steps), 'step')}{how} ({counted(done, 'epoch')}) are too few to learn much. Train longer."
    return Advice("short", text, train_on(run, epochs))


def _from_scratch(run: RunFiles) -> bool:
    planned = [str(row.get("value")) for row in run.plan if row.get("key") == "weights"]
    return (planned[-1] if planned else str(run.recipe.get("weights", "auto"))) in ("none", "auto")


def _rising(run: RunFiles) -> Advice | None:
    """The validation score still gets better at the end."""
    key = metric_key(run)
    scores = [score for row in run.log if (score := validation_score(row, key)) is not None]
    part = max(1, len(scores) // 4)
    if len(scores) < 2:
        return None
    before, last = statistics.fmean(scores[-2 * part : -part]), statistics.fmean(scores[-part:])
    if last - before < RISING or max(scores) > max(scores[-part:]) + 1e-9:
        return None
    over = "in the last epoch" if part == 1 else f"in the last {part} epochs, on average"
    text = f"Validation still rises: {points(last - before)} points {over}. Train longer."
    return Advice("rising", text, train_on(run, 2 * run.epochs[0]))


def _never_named(run: RunFiles, own: bool) -> Advice | None:
    """Classes that occur among the judged pictures, and that the model never says."""
    rows = [row for row in run.result.get("per_class") or [] if isinstance(row, dict)]
    silent = [str(row.get("name")) for row, named in zip(rows, _named(run.result, len(rows)), strict=True)
              if named == 0 and (row.get("n") or 0) > 0]  # fmt: skip
    if not silent:
        return None
    shown = ", ".join(f"\u201c{name}\u201d" for name in silent[:5]) + (
        f" and {len(silent) - 5} more" if len(silent) > 5 else ""
    )
    text = f"{len(silent)} of {counted(len(rows), 'class')} {'is' if len(silent) == 1 else 'are'} never named: {shown}."
    if not own:
        return Advice("never named", text)
    balance = number((run.recipe.get("train") or {}).get("class_balance"))
    largest = max(row["n"] for row in rows if row.get("name") in silent)
    if run.multi_label or balance == 1 or largest >= statistics.fmean(row.get("n") or 0 for row in rows):
        return Advice("never named", f"{text} They need more training pictures, or a longer training.")
    return Advice(
        "never named", f"{text} Give rare classes more weight, and more pictures.",
        train_again(run, "train.class_balance=1", suffix="balanced"),
    )  # fmt: skip


def _named(result: Json, classes: int) -> list[int | None]:
    """How often each class was said; None where that is not known."""
    said = [row.get("named") if isinstance(row, dict) else None for row in result.get("per_class") or []]
    matrix = result.get("confusion")
    if isinstance(matrix, list) and len(matrix) == classes and any(count is None for count in said):
        said = [sum(row[at] for row in matrix) for at in range(classes)]
    return [count if isinstance(count, int) else None for count in said]


def _apart(run: RunFiles) -> Advice | None:
    """The test pictures are much harder, or easier, than validation's."""
    result, key = run.result, metric_key(run)
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
    return Advice("apart", f"{told} Look at how the data is split.", doctor(run))


def _use(run: RunFiles) -> Advice:
    return Advice("use", "Nothing stands out. Use it:", f"convnext predict {quoted(run.folder)} FILES")
