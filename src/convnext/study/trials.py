"""The trials of a search: which count, which are alive, which is best, and what is kept of each on disk."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from convnext.errors import RunError
from convnext.files import is_own_folder, own_folder
from convnext.run.folder import RunFolder, locked, refuse_linked
from convnext.run.record import say
from convnext.tasks.table import score_of
from convnext.tasks.task import Score

if TYPE_CHECKING:
    import optuna

DATABASE, NAME = "tune.db", "tune"
SCORE = "score"
"""What is noted at the study: by what its trials are compared."""
COUNTS, SLOT, REASON, GENERATION = "counts", "slot", "reason", "generation"
"""What is noted at a trial: that it failed by its settings, its place in the search, why it failed, and in an evolution
the generation that it was drawn for."""
_PATIENCE = 120.0
_LEAST = 8
"""Trials that must have ended for the importance of the keys to be said."""

Row = dict[str, Any]


def folder_of(out: Path, number: int) -> Path:
    """The folder of a trial: its lock, and its run."""
    return out / "trials" / f"{number:04d}"


def run_of(out: Path, number: int) -> RunFolder:
    """A trial's run."""
    return RunFolder(folder_of(out, number) / "run")


def refuse_foreign(study: optuna.Study) -> None:
    """Raises a ValueError where a study holds what this program does not write: damage, or somebody's ill will."""
    known, score = study.user_attrs, score_of_study(study)
    if [direction.name for direction in study.directions] != [direction_of(score).upper()]:
        raise ValueError(f"it does not look for the {'highest' if score.higher_is_better else 'lowest'} of one value")
    kinds = {"data": str, "recipe": dict, "space": dict, "grid": bool}
    identity, settled = known.get("identity", dict.fromkeys(kinds)), known.get("settled", {})
    if not isinstance(identity, dict) or not isinstance(settled, dict):
        raise ValueError("it does not say what it is a study of")
    if "identity" in known and any(type(identity.get(key)) is not kind for key, kind in kinds.items()):
        raise ValueError("it does not say what it is a study of")
    if any(isinstance(value, dict | list) for value in settled.values()):
        raise ValueError("what was measured for all trials is no value")
    for trial in study.get_trials(deepcopy=False):
        noted, found = {SLOT: int, COUNTS: bool, REASON: str, GENERATION: int}, trial.user_attrs
        wrong = [key for key, kind in noted.items() if key in found and type(found[key]) is not kind]
        if wrong:
            raise ValueError(f"trial {trial.number} has no sound {wrong[0]}")
        if type(trial.number) is not int or trial.number < 0:
            raise ValueError("a trial's number is none")
        if not _sound(trial) or ("identity" in known and set(trial.params) - set(identity["space"])):
            raise ValueError(f"trial {trial.number} has settings that the search does not vary, or no value can be")
        if trial.state.name == "COMPLETE" and not isinstance(trial.value, float):
            raise ValueError(f"trial {trial.number} is complete without a value")


def score_of_study(study: optuna.Study) -> Score:
    """By what the trials of a study are compared.

    Raises:
        ValueError: it does not say that.
    """
    return score_of(study.user_attrs.get(SCORE))


def direction_of(score: Score) -> Literal["maximize", "minimize"]:
    """Which way a study goes, as Optuna calls it."""
    return "maximize" if score.higher_is_better else "minimize"


def _sound(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether the settings of a trial are values that their distributions can give."""
    from optuna.distributions import CategoricalDistribution

    for key, value in trial.params.items():
        kinds: tuple[type, ...] = (int, float)
        if isinstance(trial.distributions[key], CategoricalDistribution):
            kinds = (bool, int, float, str)
        if type(key) is not str or type(value) not in kinds or (type(value) is float and not math.isfinite(value)):
            return False
    return True


def refuse_links(out: Path) -> None:
    """Raises a RunError where a folder or the database of a study is a link: others' files would be taken for its.

    Links come with folders that others have packed. The study's folder itself may be one: that is its user's own doing.
    """
    bases = [out / f"{DATABASE}{ending}" for ending in ("", "-journal", "-wal", "-shm")]
    folders = [out / "trials", *(out / "trials").glob("*"), *(out / "trials").glob("*/run")]
    folders += [out / "repeats", *(out / "repeats").glob("*")]
    for path in (*bases, *folders):
        refuse_linked(path)


@contextlib.contextmanager
def turn(out: Path) -> Iterator[None]:
    """Lets one process at a time choose a trial or write the results; the others wait.

    Raises:
        RunError: a process held the study for two minutes, or the folder cannot be written.
    """
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(RunFolder(out)))
                break
            except RunError:
                if time.monotonic() - start > _PATIENCE or not out.is_dir():
                    raise
                time.sleep(0.02)
        yield


def counting(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that ended with a value, were stopped early, run now, or failed by their settings; not the killed ones."""
    from optuna.trial import TrialState as State

    found = study.get_trials(deepcopy=False, states=(State.COMPLETE, State.PRUNED, State.RUNNING, State.FAIL))
    return [trial for trial in found if trial.state != State.FAIL or trial.user_attrs.get(COUNTS)]


def count_done(study: optuna.Study) -> int:
    """How many trials count."""
    return len(counting(study))


def free_slot(study: optuna.Study) -> int:
    """The first place in the search that no trial has which counts: that of a killed one is taken again."""
    taken = {trial.user_attrs.get(SLOT) for trial in counting(study)}
    return next(slot for slot in range(len(taken) + 1) if slot not in taken)


def hold(out: Path, number: int, held: contextlib.ExitStack) -> None:
    """Holds a trial's folder; the lock goes with the process, and by it others know that the trial is alive."""
    folder = folder_of(out, number)
    try:
        own_folder(folder.parent)
        own_folder(folder)
    except OSError as error:
        raise RunError(f"{folder} cannot be made ({error.strerror}); give --out a folder of yours") from None
    held.enter_context(locked(RunFolder(folder)))


def fail_dead(study: optuna.Study, out: Path) -> None:
    """Marks trials as failed that a killed process left running; for the one whose `turn` it is."""
    from optuna.trial import TrialState as State

    for trial in study.get_trials(deepcopy=False, states=(State.RUNNING,)):
        with contextlib.ExitStack() as held:
            try:
                hold(out, trial.number, held)
            except RunError:  # a process holds it, so it lives
                continue
            study.tell(trial.number, state=State.FAIL)
            drop_weights(run_of(out, trial.number))
            say(f"trial {trial.number} was killed, and does not count")


def drop_weights(run: RunFolder) -> None:
    """Removes what is large in a run; its recipe and its log stay."""
    if not is_own_folder(run.path):
        return
    files = [run.state, run.state.with_name("previous.state.pt"), run.last, run.best]
    files += run.states.glob("*.state.pt") if is_own_folder(run.states) else []
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def rows_of(study: optuna.Study) -> list[Row]:
    """All trials: number, state, value, settings, values after each epoch, seconds, and why one failed."""
    rows = []
    for trial in study.get_trials(deepcopy=False):
        took = trial.duration.total_seconds() if trial.duration else None
        rows.append({
            "number": trial.number, "state": trial.state.name.lower(), "value": trial.value, "params": trial.params,
            "epochs": {str(step): value for step, value in trial.intermediate_values.items()}, "seconds": took,
            "reason": trial.user_attrs.get(REASON, "killed" if trial.state.name == "FAIL" else ""),
            "counts": trial.state.name != "FAIL" or bool(trial.user_attrs.get(COUNTS)),
        })  # fmt: skip
    return rows


def best_of(rows: list[Row], score: Score) -> Row | None:
    """The trial with the best value of those that ran to their end; of equals the first."""
    best: Row | None = None
    for row in rows:
        if row["state"] == "complete" and (best is None or score.better(row["value"], best["value"])):
            best = row
    return best


def importance_of(study: optuna.Study) -> list[tuple[str, float]]:
    """Each key's share of what makes a trial good, by PED-ANOVA (Watanabe et al., 2023); nothing below eight trials."""
    import optuna

    ended = [row["value"] for row in rows_of(study) if row["state"] == "complete"]
    if len(ended) < _LEAST or len(set(ended)) < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
    return sorted(found.items(), key=lambda item: -item[1])
