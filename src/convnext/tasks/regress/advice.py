"""What to do next with a regression: what its errors, its intervals and its targets show to be wrong or unfinished."""

from __future__ import annotations

import math

from convnext.data.names import figure
from convnext.tasks.advice import LOOK, in_order
from convnext.tasks.regress.conformal import needed
from convnext.tasks.regress.judged import Judged, headline_of, splits_of, targets_of
from convnext.tasks.regress.verdict import followed
from convnext.tasks.reporting import Action, Advice, RunTables
from convnext.tasks.verdicts import SPLIT_WORDS
from convnext.tasks.words import number, percent

FAR = 0.1
"""Difference of validation and test, as a share of what the trivial answer gets, from which they count as far apart."""
OFF_MIDDLE = 1.5
"""An end of the range errs so many times as much as all pictures do, from which it counts as neglected."""
FAR_OUT = 5.0
"""A value counts as an outlier that is so many widths of the middle 90 % beyond it."""
BALANCE = 0.5
"""The setting that is advised against neglected ends: weights by the square root of the density."""
_LOOK_FOR = (
    "Look at the data first: wrong values, too few pictures, a target that cannot be seen in them.",
    "Look whether these pictures and values, and their unit, are like those it was trained on.",
)
_Z99, _Z95 = 2.576, 1.96


def advise(run: RunTables, own: bool) -> list[Advice]:
    """What to do next, the most pressing first; never empty for a run that was judged.

    Args:
        run: the run's tables, with the result to be explained.
        own: the result is of the run's own data; otherwise the training is not spoken of.
    """
    key, judged = headline_of(run.result, run.data)
    where = None if judged is None else judged.settled(key)
    targets = targets_of(run.result, run.data)
    several = len(targets) > 1
    seen = [_outliers(run, targets) if own else None, _apart(run, key, judged) if own else None]
    for each in targets:
        named = f"{each.name}: " if several else ""
        seen += [_neglected(run, each, named, own), _too_few(run, each, named, own), _broken_promise(each, named)]
    found, kinds = [], set()
    for item in seen:
        if item is not None and (item.kind, item.action) not in kinds:  # the same command mends it for all targets
            kinds.add((item.kind, item.action))
            found.append(item)
    return in_order(run, followed(run), own, where, _LOOK_FOR, found)


def _outliers(run: RunTables, targets: list[Judged]) -> Advice | None:
    """Training values that are far from all others: slips, or a scale that is not linear."""
    for each in targets:
        for split, table in splits_of(run.data, each.name).items():
            quantiles = table.get("quantiles")
            middle = quantiles if isinstance(quantiles, dict) else {}
            low, high = number(middle.get("0.05")), number(middle.get("0.95"))
            ends = number(table.get("min")), number(table.get("max"))
            if low is None or high is None or None in ends:
                continue
            far = [end for end in ends if end is not None and _is_far(end, low, high, bool(each.table.get("log")))]
            if far:
                values = " and ".join(each.told(value) for value in far)
                text = (
                    f"{each.name}: the {SPLIT_WORDS[split]} values reach {values}, while the middle 90\u00a0% lie "
                    f"between {figure(low)} and {each.told(high)}. Look for slips."
                )
                log = not each.table.get("log") and ends[0] is not None and ends[0] > 0
                return Advice("outliers", text + (" If they are true, try task.scale=log." if log else ""), LOOK)
    return None


def _is_far(end: float, low: float, high: float, log: bool) -> bool:
    if log:
        if min(end, low, high) <= 0:
            return False
        end, low, high = math.log(end), math.log(low), math.log(high)
    return high > low and (end > high + FAR_OUT * (high - low) or end < low - FAR_OUT * (high - low))


def _apart(run: RunTables, key: str, judged: Judged | None) -> Advice | None:
    """The test pictures are much harder, or easier, than validation's."""
    result = run.result
    row = next((row for row in run.log if row["epoch"] == result.get("epoch")), None) or {}
    before = number(row.get(f"ema_val_{key}" if result.get("source") == "ema" else f"val_{key}"))
    seen = number((run.data.get("pictures") or {}).get("val"))
    if judged is None or before is None or not seen or result.get("split") != "test":
        return None
    value, ends, trivial = judged.score(key), judged.interval(key), judged.baseline(key)
    if value is None or ends is None or trivial is None:
        return None
    error = (ends[1] - ends[0]) / 2 / _Z95 * math.sqrt(1 + judged.n / seen)
    if abs(before - value) < max(FAR * trivial, _Z99 * error):
        return None
    told = f"The error was {judged.unit.text(before)} on validation and is {judged.unit.text(value)} on the test: "
    if value > before:
        told += "the test pictures are of another kind, or training has near copies of validation's."
    else:
        told += "the splits are not alike."
    return Advice("apart", f"{told} Look at how the data is split.", LOOK)


def _neglected(run: RunTables, judged: Judged, named: str, own: bool) -> Advice | None:
    """An end of the range whose answers are drawn to the middle, beyond what chance explains."""
    rows, mae = judged.ranges, judged.score("mae")
    if len(rows) < 3 or not mae or judged.settled("mae") != 1:  # what has learnt nothing says the middle everywhere
        return None
    ends = [row for row, towards in ((rows[0], 1), (rows[-1], -1)) if _drawn_in(row, towards, mae)]
    if not ends:
        return None
    told = " and ".join(f"from {row.name} (by {row.unit.text(abs(row.score('bias') or 0.0))})" for row in ends)
    text = f"{named}Answers for true values {told} are drawn to the middle."
    balance = number((run.recipe.get("task") or {}).get("balance")) or 0.0
    if not own or balance >= BALANCE:
        return Advice("ends", f"{text} More training pictures there may mend it.")
    again = Action("again", settings=(f"task.balance={BALANCE:g}",), suffix="balanced")
    return Advice("ends", f"{text} Give rare values more weight, and more pictures.", again)


def _drawn_in(row: Judged, towards: int, mae: float) -> bool:
    """Whether answers at an end of the range are off towards the middle, and more than those of all pictures."""
    own, bias, ends = row.score("mae"), row.score("bias"), row.interval("bias")
    if own is None or bias is None or ends is None or own < OFF_MIDDLE * mae:
        return False
    return towards * bias > own / 2 and ends[0] * ends[1] > 0


def _too_few(run: RunTables, judged: Judged, named: str, own: bool) -> Advice | None:
    """No intervals, for want of calibration pictures."""
    known, level = judged.calibration, number(judged.calibration.get("level"))
    if level is None or number(known.get("absolute")) is not None or number(known.get("scaled")) is not None:
        return None
    pictures = int(number(known.get("pictures")) or 0)
    text = (
        f"{named}There are no intervals: {100 * level:g}\u00a0% take at least {needed(level)} validation pictures that "
        f"choose no epoch, and there are {pictures:,}. Give more pictures to validation"
    )
    lower = _level_for(pictures)
    if not own or lower is None:
        return Advice("few", f"{text}.")
    again = Action("again", settings=(f"task.coverage={lower:g}",), suffix=f"{100 * lower:g}")
    return Advice("few", f"{text} (data.val), or be content with {100 * lower:g}\u00a0%.", again)


def _level_for(pictures: int) -> float | None:
    """The highest level in steps of 5 % that so many calibration pictures allow, from a half on."""
    return next((at / 100 for at in range(95, 45, -5) if needed(at / 100) <= pictures), None)


def _broken_promise(judged: Judged, named: str) -> Advice | None:
    """Intervals that hold the truth less often than they promise, beyond what their own calibration explains."""
    value, level, ends = judged.score("coverage"), judged.level, judged.interval("coverage")
    pictures = number(judged.calibration.get("pictures")) or 0
    if value is None or level is None or ends is None or not pictures:
        return None
    varies = _Z95 * math.sqrt(level * (1 - level) / (pictures + 2))
    if ends[1] >= level - varies:
        return None
    text = (
        f"{named}The intervals hold the truth of {percent(value)} of these pictures, and promise {100 * level:g}\u00a0%"
    )
    return Advice("coverage", f"{text}: these pictures are not like those that calibrated them.", LOOK)
