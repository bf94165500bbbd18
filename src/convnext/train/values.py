"""Which values are black and white in pictures of more than 8 bits: decided once for a data set, before any step."""

from __future__ import annotations

from convnext.config import override
from convnext.data.names import figure
from convnext.data.pictures.levels import range_of
from convnext.data.pictures.scales import Scale, beyond, range_for, range_of_recipe, scales_of
from convnext.data.shards.read import glimpse
from convnext.data.sources.check import check_file
from convnext.data.sources.dataset import Dataset
from convnext.errors import RecipeError
from convnext.train.plan import Plan

_LOOKED_AT = 64  # pictures in shards, which nobody has opened before


def choose_range(plan: Plan, dataset: Dataset) -> None:
    """Fills in `data.value_range`, and says what a given one does.

    Raises:
        DataError: the pictures are on several scales.
        RecipeError: a range is needed and not given.
    """
    scales = _glimpsed(dataset) if dataset.in_shards else dataset.scales
    setting = plan.recipe.data.value_range
    if setting == "auto" and dataset.in_shards and any(not scale.full for scale in scales):
        _refuse("auto", scales, "in shards it is not chosen by itself")
    if setting == "bits" and any(not scale.full for scale in scales):
        _refuse("bits", scales, "their format says nothing of a range")
    if setting == "auto":
        chosen, why = range_for(scales)
        if scales:
            plan.choose("data.value_range", "bits" if chosen is None else list(chosen), why)
        else:
            plan.recipe = override(plan.recipe, {"data.value_range": "bits"})
    if word := beyond(scales, range_of_recipe(plan.recipe.data.value_range)):
        plan.note("data.value_range", word)


def _refuse(setting: str, scales: tuple[Scale, ...], why: str) -> None:
    found = next(scale for scale in scales if not scale.full)
    black, white = range_of(found.low, found.high)
    raise RecipeError(
        f'data.value_range = "{setting}": there are {found.kind} values, as in {found.first}, and {why}; those looked '
        f"at lie in {figure(found.low)} to {figure(found.high)}: set data.value_range=[{black:g}, {white:g}] if all do"
    )


def _glimpsed(dataset: Dataset) -> tuple[Scale, ...]:
    """What an even sample of the training pictures holds."""
    samples = dataset.splits["train"]
    paths = [samples[i].path for i in glimpse(samples, _LOOKED_AT)]
    return scales_of((path, check_file(path)) for path in paths)
