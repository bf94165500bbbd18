"""`convnext tune`: many runs, each with other settings, to find the recipe with the best validation result.

The study lies in a file beside its runs, so that it can be stopped and gone on with, and several processes may work on
it. The test split is never looked at.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext.config import as_dict, override, to_toml
from convnext.errors import NonFiniteLoss, RecipeError, RunError, UserError
from convnext.recipe import Recipe
from convnext.run.folder import RunFolder, locked, write_text
from convnext.run.record import clock, say
from convnext.study.space import Knob
from convnext.train.train import train_run

if TYPE_CHECKING:
    import optuna

SAMPLERS = ("tpe", "cmaes", "nsga2", "random", "grid")
PRUNERS = ("median", "hyperband", "none")
DATABASE, RESULT, BEST = "tune.db", "tune.json", "best.toml"

Train = Callable[[Recipe, Path, Callable[[dict[str, Any]], None]], float]
"""(recipe, run folder, after each epoch) -> the value of the last epoch."""


@dataclass(frozen=True)
class Search:
    """What is searched, and how.

    Attributes:
        data: image folder or table, or shards.
        recipe: what is not varied.
        knobs: what is.
        out: folder of the study.
        sampler: one of `SAMPLERS`.
        pruner: one of `PRUNERS`.
        seed: of the sampler; the runs have the recipe's.
    """

    data: Path
    recipe: Recipe
    knobs: tuple[Knob, ...]
    out: Path
    sampler: str = "tpe"
    pruner: str = "median"
    seed: int = 0

    def identity(self) -> str:
        """By what a study is known: data, recipe and space."""
        recipe = as_dict(self.recipe)
        return json.dumps([str(self.data.absolute()), recipe, [knob.__dict__ for knob in self.knobs]], default=str)


def search(
    what: Search, *, trials: int | None, minutes: float | None, train: Train | None = None
) -> list[dict[str, Any]]:
    """Runs trials until there are `trials` of them in the study, or the time is over; gives all of the study's trials.

    Raises:
        UserError: optuna is not installed, the folder holds another study, or a setting cannot work.
        KeyboardInterrupt: Ctrl-C; the study goes on with the same command.
    """
    study = open_study(what)
    _fail_dead(study, what.out)
    start, run = time.monotonic(), train or _trainer(what)
    while trials is None or count_done(study) < trials:
        if minutes is not None and time.monotonic() - start > 60 * minutes:
            break
        if what.sampler == "grid" and count_done(study) >= _grid_size(what.knobs):
            break
        _one(study, what, run)
        _write(study, what)
        _tell(study, start, trials)
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
    _check_names(what)
    try:
        what.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{what.out} cannot be made ({error.strerror}); give --out a folder of yours") from None
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{what.out.absolute() / DATABASE}", engine_kwargs={"connect_args": {"timeout": 60}}
    )
    study = optuna.create_study(
        storage=storage, study_name="tune", direction="maximize", load_if_exists=True, sampler=_sampler(what, 0),
        pruner=_pruner(what),
    )  # fmt: skip
    known = study.user_attrs.get("identity")
    if known is None:
        study.set_user_attr("identity", what.identity())
    elif known != what.identity():
        raise RunError(
            f"{what.out} holds a study of other data, another recipe or another space; give --out another folder, or "
            "the same command as before to go on with it"
        )
    return study


def _check_names(what: Search) -> None:
    for name, known, option in ((what.sampler, SAMPLERS, "sampler"), (what.pruner, PRUNERS, "pruner")):
        if name not in known:
            raise UserError(f'--{option} "{name}" is not known; there are {", ".join(known)}')
    if what.sampler == "grid" and not all(knob.choices for knob in what.knobs):
        open_ended = ", ".join(knob.key for knob in what.knobs if not knob.choices)
        raise UserError(f"--sampler grid tries every choice, but {open_ended} has none; write choices, or use tpe")
    if what.sampler == "cmaes" and all(knob.choices for knob in what.knobs):
        raise UserError("--sampler cmaes varies numbers, and the space has choices only; use tpe or grid")


def _sampler(what: Search, number: int) -> optuna.samplers.BaseSampler:
    """Seeded by the number of the trial, so that a study that was stopped goes on as it would have."""
    from optuna import samplers as s

    seed = what.seed * 1_000_003 + number
    if what.sampler == "cmaes":
        try:
            return s.CmaEsSampler(seed=seed)
        except ImportError:
            raise UserError("--sampler cmaes needs the package cmaes: pip install cmaes") from None
    if what.sampler == "nsga2":
        return s.NSGAIISampler(seed=seed, population_size=10)
    if what.sampler in ("random", "grid"):
        return s.RandomSampler(seed=seed)
    return s.TPESampler(seed=seed, n_startup_trials=8)


def _pruner(what: Search) -> optuna.pruners.BasePruner:
    from optuna import pruners as p

    if what.pruner == "none":
        return p.NopPruner()
    return p.HyperbandPruner() if what.pruner == "hyperband" else p.MedianPruner(n_startup_trials=4, n_warmup_steps=1)


def _enqueue(study: optuna.Study, knobs: tuple[Knob, ...]) -> None:
    """Puts every combination of the choices that is not in the study yet into its queue."""
    for values in itertools.product(*(knob.choices for knob in knobs)):
        study.enqueue_trial(dict(zip((knob.key for knob in knobs), values, strict=True)), skip_if_exists=True)


def _grid_size(knobs: tuple[Knob, ...]) -> int:
    size = 1
    for knob in knobs:
        size *= len(knob.choices)
    return size


def count_done(study: optuna.Study) -> int:
    """Trials that ended with a value or were pruned, and those that run now: killed and failed ones do not count."""
    from optuna.trial import TrialState as State

    return len(study.get_trials(deepcopy=False, states=(State.COMPLETE, State.PRUNED, State.RUNNING)))


def _one(study: optuna.Study, what: Search, train: Train) -> None:
    """One trial, from its settings to what it gave."""
    from optuna import TrialPruned
    from optuna.trial import TrialState as State

    study.sampler = _sampler(what, len(study.get_trials(deepcopy=False)))
    if what.sampler == "grid":
        _enqueue(study, what.knobs)
    trial = study.ask({knob.key: knob.distribution() for knob in what.knobs})
    folder = folder_of(what.out, trial.number)
    folder.mkdir(parents=True, exist_ok=True)
    trial.set_user_attr("started", time.time())

    def after_epoch(row: dict[str, Any]) -> None:
        trial.report(value_of(row), int(row["epoch"]))
        if trial.should_prune():
            raise TrialPruned

    say(f"trial {trial.number}: " + ", ".join(f"{key}={_short(value)}" for key, value in trial.params.items()))
    with _held(folder):
        try:
            value = train(override(what.recipe, trial.params), folder / "run", after_epoch)
        except TrialPruned:
            study.tell(trial, state=State.PRUNED)
            say(f"trial {trial.number}: stopped early, others were better by then")
        except (NonFiniteLoss, RunError) as error:
            trial.set_user_attr("reason", str(error).splitlines()[0])
            study.tell(trial, state=State.FAIL)
            say(f"trial {trial.number}: failed: {error}")
        except BaseException as error:
            trial.set_user_attr("reason", type(error).__name__)
            study.tell(trial, state=State.FAIL)
            raise
        else:
            study.tell(trial, value)


def _trainer(what: Search) -> Train:
    """The real training: the value is that of the last epoch, since the best of many epochs would flatter."""

    def train(recipe: Recipe, out: Path, after_epoch: Callable[[dict[str, Any]], None]) -> float:
        run = train_run(what.data, recipe, out, overwrite=True, after_epoch=after_epoch)
        return value_of(run.read_log()[-1])

    return train


def value_of(row: dict[str, Any]) -> float:
    """An epoch's validation result: of the moving average where there is one."""
    for key in ("ema_val_top1", "ema_val_micro_f1", "val_top1", "val_micro_f1"):
        if key in row:
            return float(row[key])
    raise RecipeError(f"the epoch has no validation result: {sorted(row)}")


def folder_of(out: Path, number: int) -> Path:
    """Where a trial's run lies."""
    return out / "trials" / f"{number:04d}"


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """A lock that goes with this process: by it others know that the trial is alive."""
    with locked(RunFolder(folder)):
        yield


def _fail_dead(study: optuna.Study, out: Path) -> None:
    """Trials that a killed process left running."""
    from optuna.trial import TrialState as State

    for trial in study.get_trials(deepcopy=False, states=(State.RUNNING,)):
        folder = folder_of(out, trial.number)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _held(folder):
                study.tell(trial.number, state=State.FAIL)
                say(f"trial {trial.number} was killed, and does not count")
        except RunError:  # another process holds it
            continue


def rows_of(study: optuna.Study) -> list[dict[str, Any]]:
    """All trials: number, state, value, settings, values after each epoch, seconds, and why one failed."""
    rows = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name == "WAITING":  # of a grid, not begun
            continue
        took = trial.duration.total_seconds() if trial.duration else None
        rows.append({
            "number": trial.number, "state": trial.state.name.lower(), "value": trial.value, "params": trial.params,
            "epochs": {str(step): value for step, value in trial.intermediate_values.items()}, "seconds": took,
            "reason": trial.user_attrs.get("reason", ""),
        })  # fmt: skip
    return rows


def best_of(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The trial with the highest value; of equals the first."""
    done = [row for row in rows if row["state"] == "complete"]
    return max(done, key=lambda row: row["value"]) if done else None


def importance_of(out: Path) -> list[tuple[str, float]]:
    """Each key's share of what makes a trial good, by PED-ANOVA (Watanabe et al., 2023); nothing below eight trials."""
    import optuna

    study = optuna.load_study(study_name="tune", storage=f"sqlite:///{out.absolute() / DATABASE}")
    ended = [row for row in rows_of(study) if row["state"] == "complete"]
    if len(ended) < 8 or len({row["value"] for row in ended}) < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return sorted(found.items(), key=lambda item: -item[1])


def _write(study: optuna.Study, what: Search) -> None:
    """tune.json, and best.toml once a trial has ended."""
    rows = rows_of(study)
    about = {"data": str(what.data), "sampler": what.sampler, "pruner": what.pruner, "seed": what.seed}
    write_text(what.out / RESULT, json.dumps(about | {"trials": rows}, indent=1) + "\n")
    best = best_of(rows)
    if best is not None:
        header = (
            f"The best of {len(rows)} trials of the search in {what.out} (trial {best['number']}): validation "
            f"{100 * best['value']:.2f} % after its last epoch.\nThe best of many trials flatters: run it with other "
            f"seeds.\nCommand: convnext train {what.data} {what.out / BEST}"
        )
        write_text(what.out / BEST, to_toml(override(what.recipe, best["params"]), header))


def _tell(study: optuna.Study, start: float, trials: int | None) -> None:
    rows = rows_of(study)
    best, done = best_of(rows), count_done(study)
    said = f"{done} trials" if trials is None else f"{done} of {trials} trials"
    if best is not None:
        said += f", the best is {best['number']} with {100 * best['value']:.2f} %"
    ended = [row["seconds"] for row in rows if row["seconds"]]
    if trials is not None and ended and trials > done:
        said += f", about {clock(sum(ended) / len(ended) * (trials - done))} left"
    say(said)


def repeat(what: Search, times: int, train: Train | None = None) -> list[float]:
    """The best recipe again with other seeds: what may be expected of it."""
    best = best_of(rows_of(open_study(what)))
    if best is None:
        return []
    run, values = train or _trainer(what), []
    for seed in range(1, times + 1):
        recipe = override(what.recipe, best["params"] | {"train.seed": what.recipe.train.seed + seed})
        say(f"the best recipe again, seed {recipe.train.seed}")
        values.append(run(recipe, what.out / "repeats" / str(seed), lambda row: None))
    known = json.loads((what.out / RESULT).read_text(encoding="utf-8"))
    write_text(what.out / RESULT, json.dumps(known | {"repeats": values}, indent=1) + "\n")
    return values


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
