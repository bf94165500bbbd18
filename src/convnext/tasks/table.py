"""The table of tasks, one line a task. A kind is imported when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from convnext.config import nearest, override
from convnext.errors import DataError, RecipeError, RunError, WeightsError

if TYPE_CHECKING:
    from convnext.data.sources.dataset import Dataset
    from convnext.data.sources.targets import Targets
    from convnext.recipe import Recipe
    from convnext.tasks.checks import Check
    from convnext.tasks.task import Kind, Score, Task

TASKS = {
    "classify": "convnext.tasks.classify",
    "regress": "convnext.tasks.regress",
}
"""The folder of each: its `kind` (see `tasks.task.Kind`), its `reporting` (see `tasks.reporting.Reporting`), and where
its part of a run's files has kinds that must be checked, its `files` (see `checks_of`)."""
AUTO = "auto"
"""In a recipe: by the data."""
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
    return asked(recipe).for_training(recipe, dataset)


def targets_of(recipe: Recipe) -> Targets:
    """How the targets of a recipe's task are found.

    Raises:
        RecipeError: there is no such task.
    """
    return asked(recipe).TARGETS.for_recipe(recipe.task)


def asked(recipe: Recipe) -> Kind:
    """The kind that a recipe asks for; the first one where it leaves that open, as recipes of before did.

    Raises:
        RecipeError: there is no such task.
    """
    name = FIRST if recipe.task.kind == AUTO else recipe.task.kind
    if name not in TASKS:
        raise RecipeError(f'task.kind = "{name}": it is one of {", ".join([AUTO, *TASKS])}{nearest(name, TASKS)}')
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


def decided(recipe: Recipe, root: str | Path) -> Recipe:
    """The recipe with its task said, where it left that to the data.

    Settings that only one kind has decide, then the columns of a table: each kind says whether they are its own.
    Folders and shards, and tables that none claims, are of the first kind, whose reader then says what is wrong with
    them.

    Raises:
        DataError: it cannot be told; the message says how to say it.
        RecipeError: there is no such task.
    """
    from convnext.data.sources.table import TABLE_SUFFIXES

    asked(recipe)
    if recipe.task.kind != AUTO:
        return recipe
    table = Path(root).expanduser().absolute()
    claims = {name: 2 * kind_of(name).TARGETS.for_recipe(recipe.task).asked for name in TASKS}
    if not any(claims.values()) and table.suffix.lower() in TABLE_SUFFIXES and table.is_file():
        claims = _claims(table, recipe)
    best = max(TASKS, key=lambda name: claims[name])  # of equal ones the first
    return override(recipe, {"task.kind": best})


def _claims(table: Path, recipe: Recipe) -> dict[str, int]:
    """How far each kind claims a table; a kind is not asked where one before it has a column of its own there, but
    for what the recipe names."""
    from convnext.data.sources.columns import columns_of
    from convnext.data.sources.rows import read_rows

    try:
        columns, rows, _ = read_rows(table)
    except DataError:  # the reader will say it
        return dict.fromkeys(TASKS, 0)
    spec, claims = columns_of(recipe.data), dict.fromkeys(TASKS, 0)
    for name in TASKS:
        targets = kind_of(name).TARGETS.for_recipe(recipe.task)
        try:
            claims[name] = targets.claim(table, columns, rows, spec)
        except DataError:
            if not any(claims.values()):
                raise
    return claims


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
