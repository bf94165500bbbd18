"""`convnext train --resume`: a run goes on where it stopped, exactly, or changed in what may be changed."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convnext.config import get, override
from convnext.data.names import called, count
from convnext.data.sources.dataset import Dataset
from convnext.data.sources.reading import Reading
from convnext.errors import DataError, RunError
from convnext.nn.weights.load import load_state, read_model
from convnext.recipe import Recipe
from convnext.run.contents import count_known
from convnext.run.folder import RunFolder, is_judged, locked, open_run, report_is_due
from convnext.run.reading import read_data
from convnext.run.record import say, silenced
from convnext.run.state import heal, previous, read_state_file
from convnext.tasks.table import targets_of
from convnext.train import budget
from convnext.train.changes import Changes, as_changed, asked, from_log, refuse_useless, set_length, write_down
from convnext.train.course import to_changes
from convnext.train.distributed import joined, refuse_uneven
from convnext.train.loop import FIXED, Loop, is_finished
from convnext.train.parts import build_model, make_parts
from convnext.train.train import describe, make_loop, run_loop, watched


def resume_run(out: Path, root: Path | None = None, settings: Sequence[str] = ()) -> RunFolder:
    """Goes on with a run that was stopped, from the last state that it saved, or from its beginning if it saved none.

    A run that is trained, but was stopped before it was judged or its report was written, is given back as it is.

    Args:
        out: the run folder.
        root: where given, it must be the data that the run is of.
        settings: what is changed from here on, as `train.epochs=60`; more epochs prolong a finished run. It is noted in
            changes.json. `weights=last` goes on from the last weights where the state is gone.

    Raises:
        RunError: there is no run in `out`, it is of other data than `root`, its state is damaged or gone, its data has
            changed, a setting is of what a run keeps to its end, or the run is already finished.
    """
    run = open_run(out)
    recipe, changed, from_last = asked(run, settings)
    if root is not None and root.expanduser().resolve() != Path(recipe.data.root).resolve():
        raise RunError(f"{out} is a run on {recipe.data.root}, not on {called(root)}; leave DATA out to go on with it")
    with contextlib.ExitStack() as stack:
        ranks = stack.enter_context(joined(recipe.train.device))
        stack.enter_context(silenced(not ranks.first))
        stack.enter_context(watched(ranks))
        ranks.together(lambda: stack.enter_context(locked(run)))
        saved = ranks.together(lambda: _saved_progress(run, recipe, from_last=from_last))
        if saved is not None:
            ranks.together(lambda: refuse_useless(run, recipe, changed, saved))
            if is_finished(as_changed(saved, changed), int(recipe.train.epochs)):
                ranks.together(lambda: _refuse_finished(run, saved["epoch"], changed))
                return run
        ranks.agree(lambda: refuse_uneven(int(recipe.train.batch), ranks))
        if saved is not None:
            ranks.together(lambda: _refuse_lost(run, settings, from_last=from_last))
        dataset = ranks.agree(lambda: same_data(run, recipe))
        ranks.together(lambda: heal(run.state))
        model = build_model(recipe if saved is None else override(recipe, {"weights": "none"}), dataset)
        parts, again = make_parts(recipe, dataset), budget.of_run(recipe, run.read_json("plan.json"))
        if from_last:
            load_state(model, read_model(run.last)[0], source=str(run.last))
        if saved is None and ranks.first:
            say(f"{out} was stopped before it saved anything: it starts again")
            describe(run, dataset, recipe, parts)

        def make() -> Loop:
            loop = make_loop(run, recipe, dataset, model, parts, ranks)
            if from_last:
                loop.state.progress = from_log(run, recipe, parts.task.scores[0])
            elif saved is not None:
                ranks.agree(lambda: loop.state.load(run.state, ranks.rank))
                loop.state.progress.stopped_early = False
            else:
                budget.set_length(loop.state.progress, again, loop.steps, ranks)
            set_length(loop.state.progress, recipe, changed, loop.steps)
            if ranks.first:
                _say_where(run, loop, from_last=from_last)
                write_down(run, recipe, changed, loop.state.progress, from_last=from_last)
                replanned = to_changes(loop.state.progress.replanned)
                if saved is not None and replanned != recipe.train.replanned:
                    budget.record_changes(run, replanned)
            return loop

        return run_loop(run, make)


def _say_where(run: RunFolder, loop: Loop, *, from_last: bool) -> None:
    at = loop.state.progress
    if not at.step:
        return
    steps = f" and {at.step_in_epoch} steps of the next" if at.step_in_epoch else ""
    how = ", from its last weights with a new optimizer" if from_last else ""
    say(f"going on with {run.path} on {loop.device} after epoch {at.epoch}{steps}{how}")


def _saved_progress(run: RunFolder, recipe: Recipe, *, from_last: bool) -> dict[str, Any] | None:
    """The progress of the saved state, or where there is none any more, that of the log; None before the first."""
    if from_last or not (run.state.exists() or previous(run.state).exists()):
        rows = run.read_log()
        begun = from_last or len(rows) > 1 or run.result.exists() or (rows and rows[-1]["epoch"] >= recipe.train.epochs)
        return (asdict(from_log(run, recipe)) | {"stopped_early": _gave_up(rows, recipe)}) if rows and begun else None
    content = read_state_file(run.state)
    if (of := content.get("run")) and run.identity and of != run.identity:
        raise RunError(
            f"{run.state} is the state of another run; put the one of this run back, or start a new run from its "
            f"weights: weights=OTHER_RUN/{run.last.name}"
        )
    fixed = content.get("fixed", {})
    for key, before in fixed.items() if isinstance(fixed, dict) else ():
        if key in FIXED and get(recipe, key) != before:
            raise RunError(
                f"{run.state} was saved with {key} = {before}, {run.recipe} says {get(recipe, key)}; change it back, "
                f"or start a new run from these weights: weights={run.last}"
            )
    progress: dict[str, Any] = content["progress"]
    return progress


def _gave_up(rows: list[dict[str, Any]], recipe: Recipe) -> bool:
    """Whether a log ends as that of a run does which stopped early."""
    best = next((row["epoch"] for row in reversed(rows) if row.get("best")), 0)
    return 0 < recipe.train.patience <= int(rows[-1]["epoch"]) - int(best)


def _refuse_lost(run: RunFolder, settings: Sequence[str], *, from_last: bool) -> None:
    """A run that has epochs but no state any more does not begin again unasked."""
    if from_last and run.last.exists():
        return
    if from_last:
        raise RunError(f"weights=last: {run.path} has no {run.last.name}; start a new run")
    if not _state_is_gone(run):
        return
    raise RunError(
        f"{run.path} has no {run.state.name} any more (a finished run keeps it where train.keep_state = true), so it "
        "cannot go on exactly. From its last weights, with a new optimizer: " + _again(run, ["weights=last", *settings])
    )


def _state_is_gone(run: RunFolder) -> bool:
    return not (run.state.exists() or previous(run.state).exists())


def _again(run: RunFolder, settings: Sequence[str]) -> str:
    return shlex.join(["convnext", "train", "--resume", "--out", str(run.path), *settings])


def _refuse_finished(run: RunFolder, epoch: int, changed: Changes) -> None:
    """A run that is trained, judged and reported; one of which something is missing passes, with a word."""
    if is_judged(run):
        if not report_is_due(run):
            folder = shlex.quote(str(run.path))
            what = f"{', '.join(changed)} would change nothing any more; " if changed else ""
            more = [f"train.epochs={2 * epoch}"]
            if gone := _state_is_gone(run):
                more.insert(0, "weights=last")
            raise RunError(
                f"{run.path} is finished ({count(epoch, 'epoch')}); {what}`{_again(run, more)}` "
                f"prolongs it{' (from its last weights, with a new optimizer)' if gone else ''}, "
                f"`convnext evaluate {folder}` judges it again, `convnext report {folder}` writes its report again"
            )
        say(f"{run.path} is trained and judged ({count(epoch, 'epoch')}), but its report was not written")
    else:
        say(f"{run.path} is trained ({count(epoch, 'epoch')}), but was not judged")


def same_data(run: RunFolder, recipe: Recipe) -> Dataset:
    """The data of a run that goes on.

    Raises:
        RunError: it is not what the run started with: other pictures, labels, splits or contents.
        DataError: it cannot be read.
    """
    try:
        dataset = read_data(Path(recipe.data.root), Reading.of(recipe.data, settled=True), targets_of(recipe))
    except DataError as error:
        raise DataError(f"{error}. The run's data is data.root in {run.recipe}: if it moved, change it there") from None
    known = run.read_table("data.json")
    if known is not None and known.get("fingerprint") != dataset.fingerprint():
        counts = known.get("pictures")
        before = sum(counts.values()) if isinstance(counts, dict) else "an unknown number"
        now = sum(len(s) for s in dataset.splits.values())
        raise RunError(
            f"the pictures in {recipe.data.root} are not those that the run started with ({before} then, {now} now; "
            "names, labels or splits differ). Put them back, or start a new run"
        )
    contents = (known or {}).get("contents"), dataset.digest_of_contents()
    if all(contents) and contents[0] != contents[1]:
        kept = count_known(run, dataset.splits["train"]).get("train")
        other = "" if kept is None else f" ({len(dataset.splits['train']) - kept} of those for training)"
        raise RunError(
            f"pictures in {recipe.data.root} were replaced under their names since the run started{other}. Put the old "
            f"ones back, or start a new run from its weights: weights={run.path}"
        )
    return dataset
