"""A search space: which keys of a recipe are varied, and over what."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext.config import all_keys, get, nearest, override, shipped
from convnext.errors import RecipeError, UserError
from convnext.nn.spec import outline
from convnext.recipe import Recipe
from convnext.toml_file import NoToml, read_toml

if TYPE_CHECKING:
    import optuna

MEASURE = (
    "task.kind", "task.targets", "task.unit", "task.range", "task.coverage", "task.within", "data.root", "data.val",
    "data.test", "data.classes", "data.path_column", "data.label_column", "data.split_column", "data.label_separator",
    "data.val_fold", "data.test_fold", "data.group_column", "data.ignore_columns",
)  # fmt: skip
"""Keys that decide what a trial is judged on: trials that differ in them could not be compared."""
_WORDS = ("choices", "low", "high", "step", "log")
_ALL = 64
"""Of so many whole numbers each is tried on the schema."""

_TOLD = 20  # mistakes that are told at once


@dataclass(frozen=True)
class Knob:
    """A key that is varied: over `choices`, or from `low` to `high`, in logarithms or in steps where asked for."""

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """As Optuna has it."""
        from optuna import distributions as d

        if self.choices:
            return d.CategoricalDistribution(self.choices)
        if self.whole:
            return d.IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return d.FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    @property
    def grid(self) -> tuple[Any, ...]:
        """Every value, where they can be counted: choices, or steps; else nothing."""
        if self.choices or self.step is None:
            return self.choices
        number = round((self.high - self.low) / self.step) + 1
        values = (self.low + index * self.step for index in range(number))
        return tuple(int(value) if self.whole else round(value, 12) for value in values)

    def samples(self) -> tuple[Any, ...]:
        """Values that must be good for all to be: the choices, every whole number of a few, or the ends and between."""
        if self.choices:
            return self.choices
        if self.whole:
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            few = (high - low) // step < _ALL
            return tuple(range(low, high + 1, step)) if few else (low, low + step, high)
        between = self.low + (self.step or (self.high - self.low) / math.pi)
        return (self.low, between, self.high)


def find_space(word: str) -> Path:
    """A space by its file, or by the name of one that is shipped.

    Raises:
        RecipeError: there is none.
    """
    folder = shipped() / "spaces"
    for path in (Path(word), folder / word, folder / f"{word}.toml"):
        if path.is_file():
            return path
    known = [file.stem for file in sorted(folder.glob("*.toml"))]
    raise RecipeError(
        f"there is no search space {word}; give a TOML file, or one of {', '.join(known)}{nearest(word, known)}"
    )


def load_space(path: Path, recipe: Recipe) -> tuple[Knob, ...]:
    """The knobs of a file: a table for each key of the recipe, `["train.lr"]` with low and high, or choices.

    Raises:
        RecipeError: a key is not the recipe's, or its values are not allowed; the message lists all mistakes.
    """
    try:
        raw = read_toml(path)
    except (OSError, NoToml) as error:
        raise RecipeError(f"the search space {path} cannot be read: {error}") from None
    knobs, mistakes = [], []
    for key, table in _flat(raw).items():
        try:
            knobs.append(_knob(key, table, recipe))
        except RecipeError as error:
            mistakes.append(str(error))
            if len(mistakes) == _TOLD:
                mistakes.append("and perhaps more, which are told when these are mended")
                break
    if not knobs and not mistakes:
        mistakes.append("it varies nothing")
    if mistakes:
        count = f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}"
        raise RecipeError("\n  - ".join([f"the search space {path} has {count}:", *mistakes]))
    return tuple(knobs)


def without(knobs: tuple[Knob, ...], settings: Iterable[str]) -> tuple[Knob, ...]:
    """The knobs that `key=value` settings leave open: what is set is not varied.

    Raises:
        RecipeError: none is left.
    """
    fixed = {setting.partition("=")[0].strip() for setting in settings}
    left = tuple(knob for knob in knobs if knob.key not in fixed)
    if not left:
        raise RecipeError(f"nothing is left to vary: {', '.join(knob.key for knob in knobs)} set on the command line")
    return left


def _flat(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Tables by dotted key: TOML takes [train.lr] without quotes for a table in a table, which means the same here."""
    flat: dict[str, Any] = {}
    for name, value in raw.items():
        if name not in all_keys() and isinstance(value, Mapping) and value and not set(value) & set(_WORDS):
            flat |= {f"{name}.{inner}": table for inner, table in value.items()}
        else:
            flat[name] = value
    return flat


def _knob(key: str, table: Any, recipe: Recipe) -> Knob:
    if key not in all_keys():
        raise RecipeError(f"{key}: there is no such key in a recipe{nearest(key, all_keys())}")
    if key in MEASURE:
        raise RecipeError(f"{key}: decides on which pictures a trial is judged; set it for all trials, as {key}=...")
    if not isinstance(table, Mapping):
        raise RecipeError(f'{key}: must be a table, as ["{key}"] with low and high, or choices')
    if unknown := sorted(set(table) - set(_WORDS)):
        hint = nearest(unknown[0], _WORDS)
        raise RecipeError(f"{key}: {', '.join(unknown)} is not understood; there are {', '.join(_WORDS)}{hint}")
    knob = _choice(key, table) if "choices" in table else _range(key, table, recipe)
    for value in knob.samples():
        if problem := _problem(recipe, key, value):
            raise RecipeError(problem)
    return knob


def _problem(recipe: Recipe, key: str, value: Any) -> str:
    """Why a value is refused; empty where it is taken."""
    try:
        override(recipe, {key: value})
        if key == "model.name" and value != "auto":
            outline(str(value))
    except UserError as error:
        return str(error).splitlines()[-1].removeprefix("  - ")
    return ""


def _choice(key: str, table: Mapping[str, Any]) -> Knob:
    choices = table["choices"]
    if not isinstance(choices, list) or not choices or len(table) > 1:
        raise RecipeError(f"{key}: choices must be a list of values, alone")
    if not all(isinstance(value, bool | int | float | str) for value in choices):
        raise RecipeError(f"{key}: choices must be numbers, words, true or false")
    if doubled := [value for index, value in enumerate(choices) if value in choices[:index]]:
        raise RecipeError(f"{key}: choices have {doubled[0]} twice")
    return Knob(key, tuple(choices))


def _range(key: str, table: Mapping[str, Any], recipe: Recipe) -> Knob:
    if "low" not in table or "high" not in table:
        raise RecipeError(f"{key}: give low and high, or choices")
    if isinstance(get(Recipe(), key), bool):
        raise RecipeError(f"{key}: is on or off; write choices = [true, false]")
    low, high, step, log = table["low"], table["high"], table.get("step"), table.get("log", False)
    numbers = [value for value in (low, high, step) if value is not None]
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers):
        raise RecipeError(f"{key}: low, high and step must be numbers, not {', '.join(map(str, numbers))}")
    if low >= high:
        raise RecipeError(
            f"{key}: low = {low} must be below high = {high}; for one value, set {key}=... for all trials"
        )
    if not isinstance(log, bool):
        raise RecipeError(f"{key}: log = {log} must be true or false")
    if log and (low <= 0 or step is not None):
        raise RecipeError(f"{key}: in logarithms low must be above 0, and there is no step")
    if step is not None and (step <= 0 or not _is_whole((high - low) / step)):
        raise RecipeError(f"{key}: high = {high} must lie a number of steps of {step} above low = {low}")
    whole = all(isinstance(n, int) for n in numbers) and (step is not None or bool(_problem(recipe, key, low + 0.5)))
    return Knob(key, (), low, high, step, log, whole)


def _is_whole(value: float) -> bool:
    return value >= 1 - 1e-9 and abs(value - round(value)) < 1e-6
