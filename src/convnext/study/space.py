"""A search space: which keys of a recipe are varied, and over what."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext.config import all_keys, nearest, override, shipped
from convnext.errors import RecipeError
from convnext.recipe import Recipe

if TYPE_CHECKING:
    import optuna


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

    def ends(self) -> tuple[Any, ...]:
        """Values that must be good for all between them to be."""
        return self.choices or ((int(self.low), int(self.high)) if self.whole else (self.low, self.high))


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
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"the search space {path} cannot be read: {error}") from None
    knobs, mistakes = [], []
    for key, table in raw.items():
        try:
            knob = _knob(key, table)
            for value in knob.ends():
                override(recipe, {key: value})
            knobs.append(knob)
        except RecipeError as error:
            mistakes.append(str(error).replace("\n", " "))
    if not knobs and not mistakes:
        mistakes.append("it varies nothing")
    if mistakes:
        raise RecipeError("\n  - ".join([f"the search space {path} has {len(mistakes)} mistake(s):", *mistakes]))
    return tuple(knobs)


def _knob(key: str, table: Any) -> Knob:
    if key not in all_keys():
        raise RecipeError(f"{key}: there is no such key in a recipe{nearest(key, all_keys())}")
    if not isinstance(table, Mapping):
        raise RecipeError(f'{key}: must be a table, as ["{key}"] with low and high, or choices')
    unknown = set(table) - {"choices", "low", "high", "step", "log"}
    if unknown:
        raise RecipeError(
            f"{key}: {', '.join(sorted(unknown))} is not understood; there are choices, low, high, step, log"
        )
    if "choices" in table:
        choices = table["choices"]
        if not isinstance(choices, list) or not choices or len(table) > 1:
            raise RecipeError(f"{key}: choices must be a list of values, alone")
        return Knob(key, tuple(choices))
    if "low" not in table or "high" not in table:
        raise RecipeError(f"{key}: give low and high, or choices")
    low, high, step, log = table["low"], table["high"], table.get("step"), bool(table.get("log", False))
    numbers = [value for value in (low, high, step) if value is not None]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers) or low > high:
        raise RecipeError(f"{key}: low = {low} and high = {high} must be numbers, low not above high")
    if log and (low <= 0 or step is not None):
        raise RecipeError(f"{key}: in logarithms low must be above 0, and there is no step")
    return Knob(key, (), low, high, step, log, all(isinstance(value, int) for value in numbers))
