"""What to do next, as far as it is the same for every task: pictures that were learned from, trainings too short."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from convnext.tasks.overlap import overlap_of
from convnext.tasks.reporting import Action, Advice, Followed, RunTables
from convnext.tasks.verdicts import FEW_KNOWN, epoch_score
from convnext.tasks.words import counted, number

ENOUGH_STEPS = {"scratch": 500, "pretrained": 100}
"""Optimizer steps below which a run is called short: so few teach little, whatever else is chosen."""
LOOK = Action("look")


def in_order(
    run: RunTables, followed: Followed, own: bool, where: int | None, look_for: tuple[str, str], more: Sequence[Advice]
) -> list[Advice]:
    """What to do next, the most pressing first; never empty for a run that was judged.

    Args:
        run: the run's tables, with the result to be explained.
        followed: the score that training follows.
        own: the result is of the run's own data; otherwise the training is not spoken of.
        where: the result against the trivial answer, as `Headline.where`.
        look_for: a sentence on what to look for in the data of a model that has learnt nothing, and one for other data.
        more: what the task has seen itself, in its order.
    """
    if not run.result:
        return []
    # a run that was too short rises too: one command for both
    longer = (_short(run) or _rising(run, followed)) if own else None
    found = [item for item in (_known(run, own), longer, *more) if item is not None]
    if where is not None and where <= 0:
        found.insert(0, _doubt(where, look_for[0 if own else 1] if not found else ""))
    return found or [Advice("use", "Nothing stands out. Use it:", Action("predict"))]


def _known(run: RunTables, own: bool) -> Advice | None:
    """The score is that of pictures that were learned from."""
    known, told = overlap_of(run.result)
    n = number(run.result.get("n")) or 0
    if known <= FEW_KNOWN * n:
        return None
    if own and run.result.get("split") != "train":
        return Advice("known", f"{told} Take the copies out.", LOOK)
    again = Action("judge") if run.log else None
    return Advice("known", "Judge it on pictures that it was not trained on.", again)


def _doubt(where: int, look_for: str) -> Advice:
    """The trivial answer is not beaten; `look_for` is said where nothing else explains it."""
    than = "worse" if where < 0 else "not clearly better"
    text = f"Do not use this model yet: it is {than} than the trivial answer."
    return Advice("doubt", f"{text} {look_for}", LOOK) if look_for else Advice("doubt", text)


def _short(run: RunTables) -> Advice | None:
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
    return Advice("short", text, Action("longer", epochs))


def _from_scratch(run: RunTables) -> bool:
    planned = [str(row.get("value")) for row in run.plan if row.get("key") == "weights"]
    return (planned[-1] if planned else str(run.recipe.get("weights", "auto"))) in ("none", "auto")


def _rising(run: RunTables, followed: Followed) -> Advice | None:
    """The validation score still gets better at the end."""
    scores = [score for row in run.log if (score := epoch_score(row, followed)) is not None]
    part = max(1, len(scores) // 4)
    if len(scores) < 2:
        return None
    before, last = statistics.fmean(scores[-2 * part : -part]), statistics.fmean(scores[-part:])
    sign = 1 if followed.higher_is_better else -1
    best_of_all, best_of_last = followed.best_of(scores), followed.best_of(scores[-part:])
    if best_of_all is None or best_of_last is None:
        return None
    if sign * (last - before) < followed.rise or sign * best_of_all > sign * best_of_last + 1e-9:
        return None
    over = "in the last epoch" if part == 1 else f"in the last {part} epochs, on average"
    moves = "rises" if followed.higher_is_better else "falls"
    gain = f"{followed.unit.change(last - before)} {followed.unit.of_change}".rstrip()
    text = f"Validation still {moves}: {gain} {over}. Train longer."
    return Advice("rising", text, Action("longer", 2 * run.epochs[0]))
