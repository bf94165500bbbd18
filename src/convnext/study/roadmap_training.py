"""The roadmap as an experiment: chosen steps trained under one recipe, with several seeds each."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from convnext.config import all_keys, get, load_recipe, override
from convnext.errors import RunError, UserError
from convnext.evaluate.evaluate import judge_run
from convnext.nn.roadmap import Step
from convnext.recipe import Recipe
from convnext.run.folder import RunFolder, write_text
from convnext.run.record import say
from convnext.study.roadmap import RESULT, Road, add_measured, one_line
from convnext.train.train import resume_run, train_run

DEFAULTS: dict[str, Any] = {
    "weights": "none",
    "model.drop_path": 0.0,
    "model.init": "fan_in",
    "data.size": 96,
    "train.epochs": 24,
    "train.batch": 32,
    "train.lr": 1e-3,
    "train.warmup_epochs": 2.0,
}
"""What `--train` uses where the user gives nothing: a recipe for a small network and a few thousand pictures."""

FIXED: dict[str, Any] = {"train.ema": False, "model.layer_scale": 0.0, "model.stem_patch": 4}
"""What every step is trained with: no average, which hurts BatchNorm (Appendix A.1), and no layer scale, which only the
last step has. So steps differ in their networks alone."""


def make_recipe(file: Path | None, settings: list[str]) -> Recipe:
    """The one recipe of all steps: the file, or else `DEFAULTS`; then the user's settings; then `FIXED`.

    Raises:
        UserError: a setting contradicts `FIXED`, or chooses the network.
        RecipeError: the file or a setting has mistakes.
    """
    clash = {text.partition("=")[0] for text in settings} & {*FIXED, "model.name", "train.seed", "train.minutes"}
    if clash:
        raise UserError(
            f"{', '.join(sorted(clash))}: the roadmap sets this itself, so that steps differ in their networks alone "
            "(--steps and --seeds choose networks and seeds; give train.epochs, not minutes)"
        )
    defaults = [] if file else [f"{key}={value}" for key, value in DEFAULTS.items()]
    given = {text.partition("=")[0] for text in settings}
    recipe = load_recipe(file, [text for text in defaults if text.partition("=")[0] not in given] + settings)
    if recipe.train.epochs == "auto":
        raise UserError("the roadmap needs train.epochs: epochs measured from minutes would differ from step to step")
    return override(recipe, FIXED)


def train_steps(data: Path, road: Road, steps: list[Step], seeds: int, out: Path, recipe: Recipe) -> Road:
    """Trains each step with each seed, one run folder for each, and adds the accuracies to the table.

    Runs that are already there are not repeated, so a stopped experiment goes on where it was. After every run
    `out`/roadmap.json has all that is known.

    Args:
        data: image folder or CSV table.
        road: the table to add to.
        steps: which steps.
        seeds: how many, from 0 on.
        out: folder of the runs.
        recipe: as `make_recipe` gives it.

    Raises:
        UserError: the data cannot be used, or `out` holds runs of another recipe.
    """
    add_measured(road, out)
    by_name = {row.name: row for row in road.steps}
    total, done, start = len(steps) * seeds, 0, time.monotonic()
    for seed in range(seeds):
        for step in steps:
            row = by_name[step.name]
            settings = override(recipe, {"model.name": row.model, "train.seed": seed})
            say(f"roadmap: {row.name}, seed {seed} ({done + 1} of {total})")
            result = _run(data, settings, out / f"{row.name}-{seed}")
            if "top1" not in result:
                raise UserError(f"{data} has several labels a picture; the roadmap compares one label a picture")
            row.measured[seed] = float(result["top1"])
            done += 1
            record = _record(road, recipe, data, result)
            road.experiment = one_line(record)
            write_text(out / RESULT, json.dumps(record, indent=1) + "\n")
            left = (time.monotonic() - start) / done * (total - done)
            say(f"roadmap: {row.name}, seed {seed}: {100 * row.measured[seed]:.1f} %; about {left / 60:.0f} min left")
    return road


def _run(data: Path, recipe: Recipe, out: Path) -> dict[str, Any]:
    """One run: as it stands if it is complete, else trained or gone on with."""
    folder = RunFolder(out)
    if folder.recipe.exists():
        _refuse_other(folder, recipe, data)
        if (known := folder.read_json("result.json")) is not None:
            return dict(known)
        resume_run(out)
    else:
        train_run(data, recipe, out)
    return dict(judge_run(out))


def _refuse_other(folder: RunFolder, recipe: Recipe, data: Path) -> None:
    """A run that is there counts only if it is the one that is asked for."""
    there = load_recipe(folder.recipe, [])
    wanted = override(recipe, {"data.root": str(data.expanduser().absolute())})
    for key in all_keys():
        found, asked = get(there, key), get(wanted, key)
        if asked != "auto" and found != asked and not (key == "data.classes" and not asked):
            raise RunError(
                f"{folder.path} was trained with {key} = {found}, now {asked} is asked for; give --out another folder"
            )


def _record(road: Road, recipe: Recipe, data: Path, result: dict[str, Any]) -> dict[str, Any]:
    return road.to_json() | {
        "data": str(data), "epochs": recipe.train.epochs, "size": recipe.data.size, "judged_on": result.get("split"),
        "pictures": result.get("n"), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
