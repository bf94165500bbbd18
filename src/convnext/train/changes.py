"""What may be changed in a run that goes on, what may not, and how it is written down."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Sequence
from typing import Any

from convnext.config import all_keys, as_setting, get, load_complete, load_recipe, override, to_toml
from convnext.data.names import count
from convnext.errors import RecipeError, RunError
from convnext.recipe import Recipe
from convnext.run.environment import command_line
from convnext.run.folder import CHANGES, RunFolder, write_text
from convnext.run.record import say
from convnext.run.state import Progress
from convnext.tasks.task import Score
from convnext.train.budget import SHARE
from convnext.train.freeze import refuse_freezing
from convnext.train.plan import MAX_EPOCHS_FINE_TUNING, MAX_EPOCHS_FROM_SCRATCH, Steps

LAST = "last"
"""`weights=last`: a run whose state is gone goes on from its last weights, with a new optimizer."""

_TABLES = {
    "task": "the saved weights answer this question",
    "model": "the saved weights and the optimizer's state are of this network",
    "data": "by this the run has learnt and was judged; its epochs could not be compared",
    "weights": "a run that goes on starts from its own",
}
_FREE = {
    "model.drop_path", "model.checkpointing", "data.root", "data.workers", "data.cache_gb", "data.disk_cache_gb",
    "train.minutes",
}  # fmt: skip
"""Keys of those tables that may change all the same. (`data.root` for data that has moved: it must be the same.)"""
_FIXED = {
    "train.batch": "its place in the epoch would mean other pictures",
    "train.seed": "its place in the epoch would mean other pictures",
    "train.ema": "the saved state was made with it as it is",
    "train.optimizer": "the saved state is this optimizer's",
    "train.layer_decay": "the optimizer's state is sorted by it",
    "train.sharding": "the state was saved with it",
    "train.replanned": "it records how the run's own length was changed",
}

LENGTH = {"train.epochs", "train.minutes"}
"""Keys by which the length of a run is given."""

Changes = dict[str, tuple[Any, Any]]
"""What is changed: old and new value by key."""


def asked(run: RunFolder, settings: Sequence[str]) -> tuple[Recipe, Changes, bool]:
    """The recipe of a run with settings laid over it, what that changes, and whether `weights=last` is among them.

    Raises:
        RecipeError: a setting is none, or names a value that is no value.
        RunError: it is of what a run keeps to its end.
    """
    before = load_complete(run.recipe)
    from_last = f"weights={LAST}" in settings
    words = [word for word in settings if word != f"weights={LAST}"]
    if not words:
        return before, {}, from_last
    given = [word.partition("=")[0].strip() for word in words]
    budget = "train.minutes" in given and "train.epochs" not in given
    if "train.epochs" in given and "train.minutes" not in given and before.train.minutes != "auto":
        words.append("train.minutes=auto")  # epochs that were asked for are not planned anew by an old budget
    after = load_recipe(run.recipe, words)
    if budget:
        after = override(after, {"train.epochs": _within(run, after)})
    left = [key for key in given if get(after, key) == "auto" and get(before, key) != "auto"]
    if left:
        raise RecipeError(f'{", ".join(left)} = "auto": nothing is chosen anew in a run that goes on; give a value')
    changed = {key: (get(before, key), get(after, key)) for key in all_keys() if get(before, key) != get(after, key)}
    if changed.keys() & LENGTH:
        changed.pop("train.replanned", None)  # a new length goes with a new plan
    elif "train.replanned" not in given:
        after = override(after, {"train.replanned": before.train.replanned})  # it went with settings of the same value
        changed.pop("train.replanned", None)
    _refuse_fixed(run, changed, before)
    if changed.keys() & {"train.freeze", "train.freeze_epochs"}:
        refuse_freezing(after)
    return after, changed, from_last


def _refuse_fixed(run: RunFolder, changed: Changes, before: Recipe) -> None:
    lines = []
    for key, (old, new) in changed.items():
        why = (
            _FIXED.get(key)
            or _of_freezing(key, before)
            or (None if key in _FREE else _TABLES.get(key.partition(".")[0]))
        )
        if why is not None:
            lines.append(f"{key} is {old} and cannot become {new}: {why}")
    if lines:
        other = "model.name" in changed  # its weights fit no other network
        again = ["convnext", "train", before.data.root, str(run.recipe), f"weights={'auto' if other else run.last}"]
        again += [as_setting(key, new) for key, (_, new) in changed.items() if key != "weights"]
        if before.train.replanned and not changed.keys() & {*LENGTH, "train.batch", "train.replanned"}:
            again.append("train.replanned=[]")
        how = "Start a new run" + ("" if other else " from its weights")
        raise RunError(f"{run.path}: {'; '.join(lines)}. {how}: {shlex.join([*again, '--out', f'{run.path}-2'])}")


def _of_freezing(key: str, before: Recipe) -> str | None:
    """The optimizer knows all weights, so others may learn from now on; but a shared-out state holds those that did."""
    shared = before.train.sharding == "fsdp2"
    return "the shares that were saved are of what learns" if key == "train.freeze" and shared else None


def _within(run: RunFolder, recipe: Recipe) -> int:
    """How many epochs a new budget has room for in all, at the pace of those that are done."""
    rows = run.read_log()
    if not rows or not float(rows[-1].get("seconds") or 0) > 0:
        raise RunError(f"{run.path} has no epoch yet by which its pace is known; give train.epochs")
    pace = float(rows[-1]["seconds"]) / max(1, rows[-1]["epoch"])
    epochs = int(60 * float(recipe.train.minutes) / pace)
    if epochs <= rows[-1]["epoch"]:
        raise RunError(
            f"train.minutes = {recipe.train.minutes:g} is what the {count(rows[-1]['epoch'], 'epoch')} of {run.path} "
            f"have taken already ({rows[-1]['seconds'] / 60:.1f} min); it counts from the run's beginning: give more"
        )
    return epochs


def refuse_useless(run: RunFolder, recipe: Recipe, changed: Changes, done: dict[str, Any]) -> None:
    """Raises a RunError where the run would not go on in spite of its changes: no epoch is left, or no patience.

    Args:
        run: the run.
        recipe: as it shall hold.
        changed: what `asked` gave.
        done: the progress of the saved state.
    """
    epoch, epochs, patience = int(done["epoch"]), int(recipe.train.epochs), recipe.train.patience
    if "train.epochs" in changed and epochs <= epoch:
        raise RunError(f"{run.path} has {count(epoch, 'epoch')} already; train.epochs={epochs} leaves none: give more")
    waited = epoch - int(done.get("best_epoch", 0))
    if changed and epoch < epochs and done.get("stopped_early") and patience and waited >= patience:
        raise RunError(
            f"{run.path} stopped early, {count(waited, 'epoch')} after its best; train.patience = {patience} would "
            f"stop it again at once: add train.patience={waited + patience}, or 0 for none"
        )


def as_changed(done: dict[str, Any], changed: Changes) -> dict[str, Any]:
    """The progress of a saved state as it counts after the changes: a new length is a new plan, and lifts a stop."""
    lifted = {"stopped_early": False} if changed.keys() & {*LENGTH, "train.patience"} else {}
    return done | lifted | ({"replanned": []} if changed.keys() & LENGTH else {})


def set_length(done: Progress, recipe: Recipe, changed: Changes, steps: Steps) -> None:
    """The length of a run that goes on with another one: so many epochs, or a budget that is kept from here on."""
    if not changed.keys() & LENGTH:
        return
    done.replanned, done.budget, done.most_steps = [], 0.0, 0
    if recipe.train.minutes != "auto" and "train.minutes" in changed:
        most = MAX_EPOCHS_FROM_SCRATCH if recipe.weights == "none" else MAX_EPOCHS_FINE_TUNING
        done.budget = 60 * SHARE * float(recipe.train.minutes)
        done.most_steps = max(most, int(recipe.train.epochs)) * steps.per_epoch


def write_down(run: RunFolder, recipe: Recipe, changed: Changes, done: Progress, *, from_last: bool) -> None:
    """Notes the changes in changes.json, with the place from which they hold, and the recipe as it now is."""
    if not changed and not from_last:
        return
    history = list(run.read_json(CHANGES) or [])
    history.append({
        "time": datetime.datetime.now().astimezone().isoformat("T", "seconds"), "epoch": done.epoch, "step": done.step,
        "step_in_epoch": done.step_in_epoch, "changed": {key: list(pair) for key, pair in changed.items()},
        "from_last_weights": from_last, "command": command_line(),
    })  # fmt: skip
    run.write_json(CHANGES, history)
    header = [line[2:] for line in (run.read_text(run.recipe.name) or "").splitlines() if line.startswith("# ")]
    note = f"Changed while the run went on: {CHANGES} has what and when."
    write_text(run.recipe, to_toml(recipe, "\n".join([*(line for line in header if line != note), note])))
    for key, (old, new) in changed.items():
        say(f"  {key}: {old} -> {new}")


def from_log(run: RunFolder, recipe: Recipe, score: Score | None = None) -> Progress:
    """Where a run stands by its log alone, after its last epoch, and how its length was changed by its recipe.

    What its best epoch got by `score` is left open without one.
    """
    rows = run.read_log()
    last, best = rows[-1], next((row for row in reversed(rows) if row.get("best")), None)
    found = Progress(epoch=last["epoch"], step=int(last.get("step") or 0), seconds=float(last.get("seconds") or 0.0))
    found.replanned = [list(change) for change in recipe.train.replanned]
    found.best_epoch = best["epoch"] if best is not None else 0
    if score is None:
        return found
    found.best = score.worst
    for prefix, source in (("val", "model"), ("ema_val", "ema")):
        value = best.get(f"{prefix}_{score.key}") if best is not None else None
        if value is not None and score.better(float(value), found.best):
            found.best, found.best_source = float(value), source
    return found
