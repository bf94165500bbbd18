"""What a search leaves: all trials, the best recipe, and what that gives with other seeds."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext.config import load_recipe, override, to_toml
from convnext.data.names import count
from convnext.errors import RunError
from convnext.recipe import Recipe
from convnext.run.folder import RunFolder, write_text
from convnext.run.record import clock, say
from convnext.study.subject import Search
from convnext.study.trials import DATABASE, Row, best_of, drop_weights, rows_of, run_of, score_of_study, turn
from convnext.tasks.table import score_of, task_of

if TYPE_CHECKING:
    import optuna

RESULT, BEST = "tune.json", "best.toml"
REPEATS = "repeats"
"""What is noted at the study: what the best gave with other seeds."""
_CELLS = 20

Train = Callable[[Recipe, Path, Callable[[dict[str, Any]], None]], float]
"""(recipe, run folder, after each epoch) -> the value of the last epoch."""


def read_result(out: Path) -> dict[str, Any]:
    """The content of OUT/tune.json.

    Raises:
        RunError: there is no search in the folder.
    """
    known = RunFolder(out).read_table(RESULT)
    if known is None:
        raise RunError(f"there is no {out / RESULT}; give the folder that `convnext tune` wrote")
    return known


def mend_result(study: optuna.Study, what: Search) -> None:
    """Writes tune.json anew where it is damaged or gone: all of it is in the study."""
    if not study.get_trials(deepcopy=False):
        return
    try:
        read_result(what.out)
    except RunError as error:
        say(f"{error}: it is written anew from {what.out / DATABASE}")
        with turn(what.out):
            write_result(study, what)


def write_result(study: optuna.Study, what: Search) -> None:
    """tune.json, and best.toml once a trial has ended; for the process whose `turn` it is."""
    rows = rows_of(study)
    score = what.score
    best = best_of(rows, score)
    known = {"data": str(what.data), "sampler": what.sampler, "pruner": what.pruner, "seed": what.seed,
             "objective": "validation after the last epoch, of the moving average where there is one",
             "score": score.to_json(), "best": None if best is None else best["number"],
             "judged_on": judged_on(what), "trials": rows}  # fmt: skip
    repeats = _repeats(study, what.out)
    if best is not None and repeats["trial"] == best["number"]:
        known["repeats"] = repeats
    write_text(what.out / RESULT, json.dumps(known, indent=1) + "\n")
    if best is not None:
        header = (
            f"The best of {count(sum(row['counts'] for row in rows), 'trial')} of the search in {what.out}: trial "
            f"{best['number']}, validation {score.text(best['value'], 2)} after its last epoch.\n"
            f"The best of many trials flatters: run it with other seeds.\n"
            f"Command: {shlex.join(['convnext', 'train', str(what.data), str(what.out / BEST)])}"
        )
        write_text(what.out / BEST, to_toml(best_recipe(what, best), header))


def judged_on(what: Search) -> dict[str, Any] | None:
    """How many pictures judge a trial, and what always giving the same answer gets; None where that says little."""
    return None if what.dataset is None else task_of(what.recipe, what.dataset).yardstick(what.dataset)


def in_doubt(best: Row, known: dict[str, Any]) -> list[str]:
    """What the best result does not say: its interval, the trivial answer, and how many trials are as good."""
    lines, judged, score = [], known.get("judged_on"), score_of(known.get("score"))
    ends = score.interval(best["value"], judged["pictures"]) if judged else None
    if judged:
        within = f"95 % interval {score.number(ends[0])} to {score.text(ends[1])}; " if ends else ""
        lines.append(
            f"{count(judged['pictures'], 'validation picture')}: {within}"
            f'always "{judged["always"]}" gets {score.text(judged["trivial"])}'
        )
    others = [row for row in known["trials"] if row["state"] == "complete" and row["number"] != best["number"]]
    equal = [str(row["number"]) for row in others if row["value"] == best["value"]]
    if equal:
        lines.append(f"trial{'s' * (len(equal) > 1)} {', '.join(equal)} reached the same; the first is taken")
    near = sum(score.better(row["value"], min(ends, key=score.gain)) for row in others) if ends else 0
    if near:
        lines.append(f"{count(near, 'other trial')} lie{'s' * (near == 1)} within that interval")
    return lines


def best_recipe(what: Search, best: Row) -> Recipe:
    """The recipe of a trial as it was run, with everything chosen that was left open."""
    as_run = run_of(what.out, best["number"]).recipe
    if as_run.exists():
        return override(load_recipe(as_run), {"data.root": what.recipe.data.root})
    return override(what.recipe, best["params"])


def keep_best(study: optuna.Study, out: Path) -> None:
    """Weights of the best trial stay on disk; those of the others would fill it."""
    rows = rows_of(study)
    best = best_of(rows, score_of_study(study))
    for row in rows:
        if row["state"] != "running" and row is not best:
            drop_weights(run_of(out, row["number"]))


def repeat(study: optuna.Study, what: Search, times: int, train: Train) -> list[float]:
    """The best recipe again with other seeds: what may be expected of it. Those that were run before are not again."""
    best = best_of(rows_of(study), score_of_study(study))
    if best is None:
        return []
    known = _repeats(study, what.out)
    values: list[float] = list(known["values"]) if known["trial"] == best["number"] else []
    recipe = best_recipe(what, best)
    for number in range(len(values) + 1, times + 1):
        seeded = override(recipe, {"train.seed": recipe.train.seed + number})
        say(f"the best recipe again, seed {seeded.train.seed} ({number} of {times})")
        place = what.out / "repeats" / f"{best['number']:04d}-{number}"
        values.append(train(seeded, place, lambda row: None))
        drop_weights(RunFolder(place))
        with turn(what.out):
            study.set_user_attr(REPEATS, {"trial": best["number"], "values": values})
            write_result(study, what)
    return values


def _repeats(study: optuna.Study, out: Path) -> dict[str, Any]:
    """What the best gave with other seeds: kept in the study, and in tune.json alone by older versions."""
    nothing: dict[str, Any] = {"trial": None, "values": []}
    known = study.user_attrs.get(REPEATS)
    if known is None:
        with contextlib.suppress(RunError):
            known = read_result(out).get("repeats")
    if not isinstance(known, dict) or "trial" not in known or not isinstance(known.get("values"), list):
        return nothing
    return known if all(type(value) is float for value in known["values"]) else nothing


def describe(study: optuna.Study, trials: int | None, seconds: float | None) -> str:
    """A line with a bar: how many trials of how many, the best, and how long it will take."""
    rows, score = rows_of(study), score_of_study(study)
    best, running = best_of(rows, score), sum(row["state"] == "running" for row in rows)
    ended = [row for row in rows if row["counts"] and row["state"] != "running"]
    failed = sum(row["state"] == "fail" for row in ended)
    parts = [f"{len(ended)} trials" if trials is None else f"{len(ended)} of {trials} trials"]
    if trials is not None:
        cells = min(_CELLS, _CELLS * len(ended) // trials)
        parts[0] = f"[{'#' * cells}{'.' * (_CELLS - cells)}] {parts[0]}"
    if failed:
        parts.append(f"{failed} failed")
    if best is not None:
        parts.append(f"the best is trial {best['number']} with {score.text(best['value'], 2)}")
    left = [max(0.0, seconds)] if seconds is not None else []
    took = [row["seconds"] for row in ended if row["seconds"]]
    if trials is not None and took:
        left.append(sum(took) / len(took) * max(0, trials - len(ended)) / (running + 1))
    if left and min(left) > 0:
        parts.append(f"about {clock(min(left))} left")
    return ", ".join(parts)
