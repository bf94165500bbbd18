"""`convnext train DATA --folds K`: K runs, each judged on a fold that it has not seen, and one verdict over them all.

The folder holds the runs `fold-1` ... `fold-K`, `folds.toml` as it was given, `folds.json` with what was asked for,
and in the end `predictions.csv`, every picture once, said by the run that had not seen it, and `result.json`. What is
left open is chosen by the first fold and holds for all. A fold's best epoch is chosen on pictures of its other folds,
so the held-out ones have no part in it.
"""

from __future__ import annotations

import csv
import io
import math
import shlex
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convnext.config import load_complete, load_recipe, override, to_toml
from convnext.errors import RunError
from convnext.evaluate.evaluate import evaluate_run, judge_and_keep, list_predictions
from convnext.evaluate.verdict import Judged
from convnext.recipe import Recipe
from convnext.run.folder import FOLDS, RunFolder, drop_state, locked, new_run, refuse_linked, write_text
from convnext.run.lock import HOLDER, LOCK
from convnext.run.record import say
from convnext.tasks.records import joined
from convnext.tasks.table import of_result
from convnext.train.resume import resume_run, same_data
from convnext.train.train import train_run

BEGUN, GIVEN = FOLDS, "folds.toml"
AfterFold = Callable[[Path], None]


def has_folds(path: Path | None) -> bool:
    """Whether a folder holds the folds of a training."""
    return path is not None and (path / BEGUN).is_file()


def train_folds(
    root: str | Path, recipe: Recipe, out: Path, folds: int, *, overwrite: bool = False, after: AfterFold | None = None
) -> dict[str, Any]:
    """Trains and judges one run a fold and gives what is in result.json.

    Args:
        root: image folder or CSV table.
        recipe: may hold "auto"; data.folds and data.fold are set here. A time budget counts for each fold.
        out: a new or empty folder.
        folds: 2 or more.
        overwrite: replace as many folds that are in `out`.
        after: is given each run that was judged, as to write its report.

    Raises:
        UserError: as `train_run`, or the folder holds something else.
        KeyboardInterrupt: Ctrl-C; `resume_folds` goes on.
    """
    _refuse_taken(out, folds, overwrite)
    out.mkdir(parents=True, exist_ok=True)
    place, again = str(Path(root).expanduser().absolute()), str(out / GIVEN)
    with locked(RunFolder(out)):
        _clear(out, folds)
        command = ["convnext", "train", place, again, "--folds", str(folds), "--out", f"{out}-again"]
        header = f"The recipe of {folds} folds, as it was given.\nAgain: {shlex.join(command)}"
        write_text(out / GIVEN, to_toml(override(recipe, {"data.root": place}), header))
        RunFolder(out).write_json(BEGUN, {"folds": folds, "data": place})
        if recipe.train.minutes != "auto" and recipe.train.epochs == "auto":
            say(f"train.minutes = {recipe.train.minutes:g} is for the first fold; the others have as many epochs")
        return _go_on(out, folds, after=after)


def resume_folds(out: Path, *, after: AfterFold | None = None) -> dict[str, Any]:
    """Goes on with folds that were stopped: what is judged stays, what was begun goes on, the rest is trained.

    Raises:
        RunError: the folder is damaged, or every fold is judged already.
    """
    asked = RunFolder(out).read_table(BEGUN) or {}
    folds = asked.get("folds")
    if not isinstance(folds, int) or not 2 <= folds <= 1000 or not isinstance(asked.get("data"), str):
        raise RunError(f"{out / BEGUN} is damaged: it does not say how many folds of which data; start them anew")
    if (out / "result.json").is_file():
        raise RunError(f"{out} is finished: its {folds} folds are judged, result.json and predictions.csv are there")
    with locked(RunFolder(out)):
        return _go_on(out, folds, after=after)


def describe_folds(summary: dict[str, Any]) -> str:
    """A table: a row a fold, mean and standard deviation, and the verdict over all pictures at once."""
    whole = summary["out_of_fold"]
    scores = [
        score for score in of_result(summary | whole).scores if score.key in summary["metrics"] and not score.minor
    ][:5]
    lines = ["fold  pictures  " + "  ".join(f"{score.title:>8}" for score in scores)]

    def add(start: str, values: dict[str, float]) -> None:
        cells = (f"{score.text(values[score.key]):>{max(8, len(score.title))}}" for score in scores)
        lines.append(f"{start}  {'  '.join(cells)}")

    for row in summary["runs"]:
        add(f"{row['fold']:>4}  {row['n']:>8}", row)
    for word in ("mean", "std"):
        add(f"{word:>4}  {'':>8}", {key: spread[word] for key, spread in summary["metrics"].items()})
    lines.append(f"all {whole['n']} pictures at once, each judged by the run that had not seen it:")
    for score in scores:
        low, high = (score.number(end) for end in whole["intervals"].get(score.key, (math.nan, math.nan)))
        lines.append(f"  {score.title:<24}{score.text(whole[score.key]):>8}  [{low}, {high}]")
    lines.append("  (std: between folds, which share training pictures; brackets: 95 % bootstrap over the pictures)")
    return "\n".join(lines)


def _refuse_taken(out: Path, folds: int, overwrite: bool) -> None:
    if folds < 2:
        raise RunError(f"--folds {folds}: two folds at least, one to learn from and one to judge")
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; --out takes the name of a folder")
    if has_folds(out):
        there = (RunFolder(out).read_table(BEGUN) or {}).get("folds")
        if not overwrite:
            raise RunError(
                f"{out} holds {there} folds; go on with them by --resume, replace them by --overwrite, or give another "
                "--out"
            )
        if there != folds:
            raise RunError(f"{out} holds {there} folds, not {folds}; give another --out")
    elif out.is_dir() and any(item.name not in (LOCK, HOLDER) for item in out.iterdir()):
        raise RunError(f"{out} holds other files and no folds; give --out a new or an empty folder")


def _clear(out: Path, folds: int) -> None:
    """Takes away the verdict and the runs of folds that are to be replaced, so that none is taken for a new one."""
    for name in ("result.json", "predictions.csv"):
        (out / name).unlink(missing_ok=True)
    for fold in range(1, folds + 1):
        refuse_linked(out / f"fold-{fold}")
        if (out / f"fold-{fold}").exists():
            with new_run(out / f"fold-{fold}", overwrite=True):
                pass


def _go_on(out: Path, folds: int, *, after: AfterFold | None) -> dict[str, Any]:
    asked = load_recipe(out / GIVEN)
    recipe, judged = override(asked, {"data.folds": folds}), []
    for fold in range(1, folds + 1):
        run = RunFolder(out / f"fold-{fold}")
        say(f"fold {fold} of {folds}: {run.path}")
        judged.append(_one(run, override(recipe, {"data.fold": fold, "data.classes": asked.data.classes})))
        if after is not None:
            after(run.path)
        if fold == 1:
            recipe = _alike(load_complete(run.recipe), asked)
    summary = _summary(judged)
    write_text(out / "predictions.csv", _predictions(judged))
    RunFolder(out).write_json("result.json", summary)
    return summary


def _alike(first: Recipe, asked: Recipe) -> Recipe:
    """The recipe of the other folds: what the first one chose, and the epochs that its budget came to in the end.

    The changes of length themselves belong to the first fold's number of steps. What follows from the length by rule
    is chosen anew.
    """
    if not (changes := first.train.replanned):
        return first
    epochs = max(1, round(int(first.train.epochs) * changes[-1][1] / changes[0][1]))
    by_rule = {"train.warmup_epochs": asked.train.warmup_epochs, "train.ema_decay": asked.train.ema_decay}
    return override(first, {"train.epochs": epochs, "train.replanned": (), **by_rule})


def _one(run: RunFolder, recipe: Recipe) -> Judged:
    """A fold that is trained and judged, whatever of that is still to do."""
    refuse_linked(run.path)
    if not run.recipe.exists():
        train_run(recipe.data.root, recipe, run.path)
    elif run.result.exists():
        same_data(run, load_complete(run.recipe))  # else the folds would be of several data sets
        say("  is judged already; asked again for its predictions")
        return evaluate_run(run.path)
    else:
        resume_run(run.path)
    judged = judge_and_keep(run.path)
    if not recipe.train.keep_state:
        drop_state(run)
    return judged


def _summary(judged: list[Judged]) -> dict[str, Any]:
    results = [one.result for one in judged]
    first, task = results[0], judged[0].task
    metrics = {}
    for score in task.scores:
        values = [result[score.key] for result in results if score.key in result]
        if len(values) == len(results):
            spread = {"mean": statistics.fmean(values), "std": statistics.stdev(values)}
            metrics[score.key] = spread | {"min": min(values), "max": max(values), "values": values}
    whole = task.judge(joined([one.predictions.records for one in judged]), None)
    rows = [
        {"fold": fold, "run": f"fold-{fold}", "n": one.result["n"], "epoch": one.result["epoch"]}
        | {name: one.result[name] for name in metrics}
        for fold, one in enumerate(judged, 1)
    ]
    return {
        "kind": "folds", "folds": len(judged), "model": first["model"], "data_root": first["data_root"],
        "task": task.name, **task.told(), "metrics": metrics, "out_of_fold": whole, "runs": rows,
        "unreadable": sum(result["unreadable"] for result in results),
        "train_seconds": sum(result["train_seconds"] for result in results),
    }  # fmt: skip


def _predictions(judged: list[Judged]) -> str:
    """The predictions of all folds as one table, with the fold beside the path; each picture once."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for fold, one in enumerate(judged, 1):
        header, *rows = csv.reader(io.StringIO(list_predictions(one)))
        if fold == 1:
            writer.writerow([header[0], "fold", *header[1:]])
        writer.writerows([row[0], fold, *row[1:]] for row in rows)
    return text.getvalue()
