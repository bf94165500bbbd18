"""The roadmap as an experiment: chosen steps trained under one recipe, with several seeds each."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from convnext.config import all_keys, get, load_recipe, override
from convnext.errors import RunError, UserError
from convnext.evaluate.evaluate import judge_run
from convnext.nn.others.roadmap import Step
from convnext.recipe import Recipe
from convnext.run.folder import RunFolder, drop_state, locked, refuse_linked, write_text
from convnext.run.record import say
from convnext.study.roadmap import RESULT, Road, add_measured, one_line, read_record
from convnext.tasks.table import of_result
from convnext.train.resume import resume_run
from convnext.train.train import train_run

DEFAULTS: dict[str, Any] = {
    "weights": "none",
    "model.drop_path": 0.0,
    "model.init": "fan_in",
    "data.size": 96,
    "train.epochs": 24,
    "train.batch": 32,
    "train.lr": 1e-3,
    "train.warmup_epochs": 2.0,
    "train.precision": "fp32",
}
"""What `--train` uses where the user gives nothing: a recipe for a small network and a few thousand pictures. The
precision is given, or it would be measured for each run, and runs might differ in it."""

FIXED: dict[str, Any] = {"train.ema": False, "model.layer_scale": 0.0, "model.stem_patch": 4}
"""What every step is trained with: no average, which hurts BatchNorm (Appendix A.1), and no layer scale, which only the
last step has. So steps differ in their networks alone."""

VARYING = {"model.name", "train.seed", "data.root", "data.workers", "data.cache_gb", "data.disk_cache_gb"}
"""Keys that may differ between the runs of an experiment."""


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
        UserError: the data cannot be used.
        RunError: `out` holds another experiment, or another process works there.
    """
    if not data.expanduser().exists():
        raise UserError(f"{data}: there is no such folder or table")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out} cannot be made: {error.strerror}; give --out another folder") from None
    with locked(RunFolder(out)):
        if _goes_on(out, road, recipe, data):
            add_measured(road, out)
        else:
            _write_record(out, road, recipe, data, {})
        _train_all(data, road, [(step, seed) for seed in range(seeds) for step in steps], out, recipe)
    return road


def _train_all(data: Path, road: Road, runs: list[tuple[Step, int]], out: Path, recipe: Recipe) -> None:
    by_name = {row.name: row for row in road.steps}
    trained, start = 0, time.monotonic()
    for i, (step, seed) in enumerate(runs):
        row = by_name[step.name]
        settings = override(recipe, {"model.name": row.model, "train.seed": seed})
        say(f"roadmap: {row.name}, seed {seed} ({i + 1} of {len(runs)})")
        folder = out / f"{row.name}-{seed}"
        trained += not (folder / "result.json").exists()
        result = _run(data, settings, folder)
        score = of_result(result).scores[0]
        if not score.counted:
            raise UserError(
                f"{data} is judged by {score.title}; the roadmap compares shares of right pictures, of one label each"
            )
        row.measured[seed] = float(result[score.key])
        _write_record(out, road, recipe, data, result)
        left = (time.monotonic() - start) / max(1, trained) * (len(runs) - i - 1)
        say(f"roadmap: {row.name}, seed {seed}: {score.text(row.measured[seed])}; at most {left / 60:.0f} min left")


def _run(data: Path, recipe: Recipe, out: Path) -> dict[str, Any]:
    """One run: as it stands if it is complete, else trained or gone on with."""
    folder = RunFolder(out)
    refuse_linked(out)
    if not folder.recipe.exists():
        train_run(data, recipe, out)
    elif (known := folder.read_json("result.json")) is not None:
        return dict(known)
    else:
        resume_run(out)
    result = dict(judge_run(out))
    if not recipe.train.keep_state:
        drop_state(folder)
    return result


def _goes_on(out: Path, road: Road, recipe: Recipe, data: Path) -> bool:
    """Whether `out` holds a part of this experiment; one that has no run and no result has not begun.

    Raises:
        RunError: it holds another one: its table would compare what cannot be compared.
    """
    known, runs = read_record(out), sorted(out.glob("*-*/recipe.toml"))
    if known is None and runs:
        raise RunError(f"{runs[0].parent} is there already, without {out / RESULT}; give --out another folder")
    if known is None or not (runs or known.get("pictures")):
        return False
    asked = {"regime": road.regime, "scale": road.scale, "data": _place(data)} | _settings(recipe)
    there = {key: known.get(key) for key in ("regime", "scale", "data")} | dict(known.get("recipe") or {})
    for key, value in asked.items():
        if there.get(key, value) != value:
            raise RunError(
                f"{out} holds an experiment with {key} = {there[key]}, now {value} is asked for; give --out another "
                "folder"
            )
    return True


def _place(data: Path) -> str:
    return str(data.expanduser().absolute())


def _settings(recipe: Recipe) -> dict[str, Any]:
    """What all runs of an experiment have in common, as JSON has it."""
    found: dict[str, Any] = json.loads(json.dumps({key: get(recipe, key) for key in all_keys() if key not in VARYING}))
    return found


def _write_record(out: Path, road: Road, recipe: Recipe, data: Path, result: dict[str, Any]) -> None:
    """Everything known so far, with what all runs have in common."""
    about = {
        "data": _place(data), "recipe": _settings(recipe), "epochs": recipe.train.epochs, "size": recipe.data.size,
        "judged_on": result.get("split"), "pictures": result.get("n"), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    road.experiment = one_line(about)
    write_text(out / RESULT, json.dumps(road.to_json() | about, indent=1) + "\n")
