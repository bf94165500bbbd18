"""`convnext tune`: many runs, each with other settings, to find the recipe with the best validation result.

The study lies in a file beside its runs, so that it can be stopped and gone on with, and several processes may work on
it. The test split is never looked at.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext.config import as_dict, get, override
from convnext.data.names import called
from convnext.data.sources.reading import Reading
from convnext.errors import MemoryFull, NonFiniteLoss, RecipeError, RunError, UserError
from convnext.recipe import Recipe
from convnext.run.environment import launched
from convnext.run.lock import LOCK
from convnext.run.reading import read_data
from convnext.run.record import say
from convnext.study.database import refuse_programs
from convnext.study.samplers import grid_size, make_pruner, make_sampler, refuse_unfit
from convnext.study.subject import Search
from convnext.study.trials import (
    COUNTS,
    DATABASE,
    GENERATION,
    NAME,
    REASON,
    SCORE,
    SLOT,
    count_done,
    direction_of,
    fail_dead,
    folder_of,
    free_slot,
    hold,
    refuse_foreign,
    refuse_links,
    rows_of,
    turn,
)
from convnext.study.tune_result import RESULT, Train, describe, keep_best, mend_result, write_result
from convnext.tasks.table import decided, targets_of
from convnext.tasks.task import Score
from convnext.train.distributed import Ranks
from convnext.train.plan import Plan
from convnext.train.prepare import fill_up, refuse_nesting
from convnext.train.train import train_run

if TYPE_CHECKING:
    import optuna

MEASURED = ("train.epochs", "train.precision")
"""Keys that "auto" chooses by a measurement: made once for all trials, which could not be compared otherwise."""
_HOPELESS = 5
_TOLD = 300  # characters of what is wrong with a study: its values may be of any length
_NONSENSE = (LookupError, RuntimeError, ValueError, TypeError, AttributeError, ArithmeticError, AssertionError)
"""What Optuna meets where a column holds something else than it wrote; a word of no enumeration is a LookupError."""


def with_data(what: Search) -> Search:
    """The search with its data read, once for all trials.

    Raises:
        UserError: the data cannot be used, or the study would lie in it.
    """
    if launched("WORLD_SIZE", 1, least=1) > 1:
        raise UserError("tune trains each trial in one process; for more, start the same command several times")
    refuse_unfit(what.sampler, what.pruner, what.knobs)
    refuse_nesting(what.data, what.out)
    _refuse_files(what.out)
    what = replace(what, recipe=decided(what.recipe, what.data))
    reading, targets = Reading.of(what.recipe.data), targets_of(what.recipe)
    dataset = read_data(what.data, reading, targets)
    targets.refuse_unlearnable(dataset, reading)
    return replace(what, dataset=dataset)


def search(
    what: Search, *, trials: int | None, minutes: float | None, train: Train | None = None
) -> list[dict[str, Any]]:
    """Runs trials until there are `trials` of them in the study, or the time is over; gives all of the study's trials.

    Args:
        what: data, recipe, space, folder.
        trials: how many in all; None: until the time is over, or the grid is done.
        minutes: no trial begins after so long.
        train: stands in for the training, in tests.

    Raises:
        UserError: optuna is not installed, the folder holds another study, or a setting cannot work.
        KeyboardInterrupt: Ctrl-C; the study goes on with the same command.
    """
    if train is None and what.dataset is None:
        what = with_data(what)
    study = open_study(what)
    if train is None:
        what = replace(what, recipe=_settled(study, what))
    mend_result(study, what)
    study.pruner = make_pruner(what.pruner, what.recipe.train.epochs)
    if what.sampler == "grid":
        trials = min(trials or grid_size(what.knobs), grid_size(what.knobs))
    start, begun, run = time.monotonic(), 0, train or trainer(what)
    while minutes is None or time.monotonic() - start <= 60 * minutes:
        with contextlib.ExitStack() as held:
            with turn(what.out):
                trial = _ask(study, what, trials, held)
            if trial is None:
                break
            _one(study, what, trial, run)
        begun += 1
        say(describe(study, trials, None if minutes is None else 60 * minutes - (time.monotonic() - start)))
        _refuse_hopeless(rows_of(study))
    if not begun:
        say(f"{what.out} has {count_done(study)} trials already; to go on, ask for more of them")
    return rows_of(study)


def open_study(what: Search) -> optuna.Study:
    """The study in `what.out`, made if there is none.

    Raises:
        UserError: optuna is not there, a sampler does not go with the space, or the folder holds another study.
    """
    try:
        import optuna
    except ImportError:
        raise UserError("tune needs the package optuna: pip install 'convnext[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    refuse_unfit(what.sampler, what.pruner, what.knobs)
    _refuse_files(what.out)
    try:
        what.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{what.out} cannot be made ({error.strerror}); give --out a folder of yours") from None
    with turn(what.out):
        study = load_study(what.out, make=what.score)
        known = study.user_attrs.get("identity")
        if known is None:
            study.set_user_attr("identity", what.identity())
            study.set_user_attr("contents", _contents(what))
        else:
            _refuse_other(what, known)
            _refuse_replaced(what, study.user_attrs.get("contents"))
    return study


def load_study(out: Path, *, make: Score | None = None) -> optuna.Study:
    """The study in a folder; with `make` it is made where there is none, to find the best by that score.

    Raises:
        RunError: there is none, or its file is damaged.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    file = out.absolute() / DATABASE
    refuse_links(out)
    if not make and not file.is_file():
        raise RunError(f"{out} holds no study; `convnext tune DATA --out {shlex.quote(str(out))}` makes one")
    for place in (file, out):
        if place.exists() and not os.access(place, os.W_OK):
            raise RunError(f"{place} cannot be written; change its permissions, or give --out another folder")
    try:
        if not make or file.is_file():
            _refuse_emptied(out, file)
        if file.is_file():
            refuse_programs(file)
        storage = optuna.storages.RDBStorage(f"sqlite:///{file}", engine_kwargs={"connect_args": {"timeout": 60}})
        if make and not storage.get_all_studies():
            _refuse_emptied(out, file, empty=True)
        if make:
            study = optuna.create_study(
                storage=storage, study_name=NAME, direction=direction_of(make), load_if_exists=True
            )
            if not study.user_attrs:
                study.set_user_attr(SCORE, make.to_json())
        else:
            study = optuna.load_study(storage=storage, study_name=NAME)
        refuse_foreign(study)
        return study
    except (SQLAlchemyError, optuna.exceptions.OptunaError, *_NONSENSE) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        first = first if len(first) <= _TOLD else f"{first[:_TOLD]} ..."
        raise RunError(
            f"{out / DATABASE} cannot be used ({first}); put a copy of it back, or give --out another folder"
        ) from None


def _refuse_emptied(out: Path, file: Path, *, empty: bool = False) -> None:
    """A database without a study beside trials has lost them: a new one would begin in their place, in silence."""
    if (empty or file.stat().st_size == 0) and any((out / name).exists() for name in ("trials", RESULT)):
        raise RunError(
            f"{file} is empty, but there are trials in {out}: put a copy of it back, or give --out another folder"
        )


def _refuse_files(out: Path) -> None:
    """A folder with something else in it is no place for a study."""
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; --out takes the name of a folder")
    inside = {file.name for file in out.iterdir()} - {LOCK} if out.is_dir() else set()
    if inside and DATABASE not in inside:
        raise RunError(f"{out} holds other files and no study; give --out a new or an empty folder")


def _refuse_other(what: Search, known: dict[str, Any]) -> None:
    asked, usual = what.identity(), json.loads(json.dumps(as_dict(Recipe())))
    new = {key: value for key, value in asked["recipe"].items() if key not in known["recipe"] and "." in key}
    since = {key: value for key, value in new.items() if value == usual[key.split(".")[0]][key.split(".")[1]]}
    known = known | {"recipe": known["recipe"] | since}  # keys that there were not when the study began
    if asked == known:
        return
    differ = [name for name in ("data", "grid") if asked[name] != known[name]]
    names = {"data": "other data (pictures, labels or splits)", "grid": "a sampler that does not go with this one"}
    found = [names[name] for name in differ]
    for name, title in (("recipe", "another recipe"), ("space", "another space")):
        keys = sorted(key for key in asked[name] | known[name] if asked[name].get(key) != known[name].get(key))
        found += [f"{title} ({', '.join(keys)})"] if keys else []
    raise RunError(
        f"{what.out} holds a study of {' and '.join(found)}; give --out another folder, or the same command as before "
        "to go on with it"
    )


def _contents(what: Search) -> str:
    return "" if what.dataset is None else what.dataset.digest_of_contents()


def _refuse_replaced(what: Search, before: object) -> None:
    """Pictures under their old names with other contents: trials of before and after could not be compared."""
    now = _contents(what)
    if before and now and before != now:
        raise RunError(
            f"pictures in {called(what.data)} were replaced under their names since the study in {what.out} began; put "
            "the old ones back, or give --out another folder"
        )


def _settled(study: optuna.Study, what: Search) -> Recipe:
    """The recipe with its measured keys fixed, and weights looked for: once, for all processes that join."""
    varied = {knob.key for knob in what.knobs}
    wanted = MEASURED if "model.name" in varied else (*MEASURED, "weights")
    left = [key for key in wanted if get(what.recipe, key) == "auto" and key not in varied]
    if not left or what.dataset is None:
        return what.recipe
    settled = study.user_attrs.get("settled")
    if settled is None:
        plan = fill_up(what.dataset, Plan(what.recipe), Ranks())
        with turn(what.out):
            settled = study.user_attrs.get("settled")
            if settled is None:
                settled = {key: get(plan.recipe, key) for key in left}
                study.set_user_attr("settled", settled)
    say("measured once, for all trials: " + ", ".join(f"{key} = {value}" for key, value in settled.items()))
    return override(what.recipe, settled)


def _ask(
    study: optuna.Study, what: Search, trials: int | None, held: contextlib.ExitStack
) -> optuna.Trial | None:  # fmt: skip
    """The next trial, which `held` keeps alive for the eyes of other processes; None where there are enough."""
    fail_dead(study, what.out)
    if trials is not None and count_done(study) >= trials:
        return None
    slot = free_slot(study)
    study.sampler = make_sampler(what.sampler, what.knobs, what.seed, slot)
    trial = study.ask({knob.key: knob.distribution() for knob in what.knobs})
    hold(what.out, trial.number, held)
    trial.set_user_attr(SLOT, slot)
    if (generation := getattr(study.sampler, GENERATION, None)) is not None:
        trial.set_user_attr(GENERATION, generation)
    return trial


def _one(study: optuna.Study, what: Search, trial: optuna.Trial, train: Train) -> None:
    """One trial, from its settings to what it gave."""
    from optuna import TrialPruned
    from optuna.trial import TrialState as State

    score = what.score

    def after_epoch(row: dict[str, Any]) -> None:
        trial.report(value_of(row, score), int(row["epoch"]))
        if row["epoch"] != row.get("epochs") and trial.should_prune():
            raise TrialPruned

    def fail(reason: str, *, counts: bool) -> None:
        trial.set_user_attr(REASON, reason)
        trial.set_user_attr(COUNTS, counts)
        study.tell(trial, state=State.FAIL)

    say(f"trial {trial.number}: " + ", ".join(f"{key}={_short(value)}" for key, value in trial.params.items()))
    try:
        value = train(override(what.recipe, trial.params), folder_of(what.out, trial.number) / "run", after_epoch)
    except TrialPruned:
        study.tell(trial, state=State.PRUNED)
        say(f"trial {trial.number}: stopped early, others were better by then")
    except (NonFiniteLoss, MemoryFull, RecipeError) as error:  # these settings cannot work, others may
        fail(str(error).splitlines()[0], counts=True)
        say(f"trial {trial.number}: failed: {error}")
    except BaseException as error:
        first = (str(error).splitlines() or [""])[0]
        stopped = isinstance(error, KeyboardInterrupt)
        fail("stopped" if stopped else first or type(error).__name__, counts=False)
        raise
    else:
        if study.tell(trial, value).state != State.COMPLETE:  # a trial that never counts would be made again for ever
            raise RunError(f"trial {trial.number}: the study does not take its value {value}; is {DATABASE} damaged?")
    finally:
        with turn(what.out):
            write_result(study, what)
            keep_best(study, what.out)


def trainer(what: Search) -> Train:
    """The real training: the value is that of the last epoch, since the best of many epochs would flatter."""
    import torch

    def train(recipe: Recipe, out: Path, after_epoch: Callable[[dict[str, Any]], None]) -> float:
        try:
            run = train_run(what.data, recipe, out, overwrite=True, after_epoch=after_epoch, known=what.dataset)
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise MemoryFull(f"the memory is full ({str(error) or type(error).__name__})") from None
        finally:
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return value_of(run.read_log()[-1], what.score)

    return train


def value_of(row: dict[str, Any], score: Score) -> float:
    """An epoch's validation result: of the moving average where there is one, as that is what the run keeps."""
    for key in (f"ema_val_{score.key}", f"val_{score.key}"):
        if key in row:
            return float(row[key])
    raise RunError(f"the epoch has no validation result: {sorted(row)}")


def _refuse_hopeless(rows: list[dict[str, Any]]) -> None:
    """Where nothing but failures comes, more of them would not help."""
    failed = [row for row in rows if row["state"] == "fail" and row["counts"]]
    if len(failed) >= _HOPELESS and all(row["state"] == "fail" for row in rows):
        raise UserError(
            f"the first {len(failed)} trials all failed, the last one: {failed[-1]['reason']}. Change the space or the "
            "recipe, and give --out another folder"
        )


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
