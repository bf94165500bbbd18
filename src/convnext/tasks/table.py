"""The table of tasks, one line a task. A kind is imported when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from convnext.config import nearest
from convnext.errors import RecipeError, RunError, WeightsError

if TYPE_CHECKING:
    from convnext.data.dataset import Dataset
    from convnext.data.targets import Targets
    from convnext.recipe import Recipe
    from convnext.tasks.checks import Check
    from convnext.tasks.task import Kind, Score, Task

TASKS = {
    "classify": "convnext.tasks.classify",
}
"""The folder of each: its `kind` (see `tasks.task.Kind`), its `reporting` (see `tasks.reporting.Reporting`), and where
its part of a run's files has kinds that must be checked, its `files` (see `checks_of`)."""
FIRST = "classify"
"""What files of before there was a second task are of. Its model files say the meaning in their own fields, as ever."""


def kind_of(name: str) -> Kind:
    """The kind of a name.

    Raises:
        KeyError: there is none.
    """
    return cast("Kind", import_module(f"{TASKS[name]}.kind"))


def task_of(recipe: Recipe, dataset: Dataset) -> Task:
    """The task that a recipe asks of a data set.

    Raises:
        RecipeError: there is no such task.
        UserError: the data cannot be asked that.
    """
    return _asked(recipe).for_training(recipe, dataset)


def targets_of(recipe: Recipe) -> Targets:
    """How the targets of a recipe's task are found.

    Raises:
        RecipeError: there is no such task.
    """
    return _asked(recipe).TARGETS


def _asked(recipe: Recipe) -> Kind:
    name = recipe.task.kind
    if name not in TASKS:
        raise RecipeError(f'task.kind = "{name}": it is one of {", ".join(TASKS)}{nearest(name, TASKS)}')
    return kind_of(name)


def checks_of(name: str) -> Mapping[str, Check]:
    """What result.json, data.json and mistakes.json of a task hold beside what every run's do: a check by file.

    It is `CHECKS` of the module `files` in the task's folder; none for a task without it, or of a later version. A run
    folder may come from anybody: whoever reads a file relies on what is checked, and on nothing else.
    """
    if name not in TASKS:
        return {}
    try:
        found: Mapping[str, Check] = import_module(f"{TASKS[name]}.files").CHECKS
    except ModuleNotFoundError as error:
        if error.name not in (TASKS[name], f"{TASKS[name]}.files"):
            raise  # else a mistake in its imports would switch the checks off
        return {}
    return found


def to_model_file(task: Task, settled: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a model file that say what its outputs mean, with what was settled on validation."""
    meaning = task.meaning(settled)
    return meaning if task.name == FIRST else {"task": task.name, "meaning": meaning}


def of_model_file(config: Mapping[str, Any], source: str) -> Task:
    """The task of a model file, by its description.

    Raises:
        WeightsError: this version has no such task, or the task cannot be made of that.
    """
    name = config.get("task", FIRST)
    if name not in TASKS:
        raise WeightsError(f'{source} is of a task "{name}", which this version does not have ({", ".join(TASKS)})')
    try:
        return kind_of(name).of_meaning(config if name == FIRST else config.get("meaning") or {})
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{source}: its description does not say what its outputs mean ({error})") from None


def of_result(result: Mapping[str, Any]) -> Task:
    """The task of a verdict, as result.json holds it.

    Raises:
        RunError: this version has no such task.
        ValueError, KeyError, TypeError: it is no verdict of that kind.
    """
    name = result.get("task") or FIRST
    if name not in TASKS:
        raise RunError(f'the verdict is of a task "{name}", which this version does not have ({", ".join(TASKS)})')
    return kind_of(name).of_result(result)


def bounded() -> list[Score]:
    """All scores that a verdict of any task may have."""
    return [score for name in TASKS for score in kind_of(name).SCORES]


def score_of(known: Mapping[str, Any] | None) -> Score:
    """The score that a search went by, as it was noted; None stands for a search of before there was a second task.

    Raises:
        ValueError: it is no score.
    """
    from convnext.tasks.score import Score

    return kind_of(FIRST).SCORES[0] if known is None else Score.of_json(known)
