"""What is made from a complete recipe and data alone, before any training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from convnext.data.feed.augment import TrainTransform
from convnext.data.feed.loader import Collate, EpochSampler, EvalPictures, TrainPictures
from convnext.data.feed.preprocessing import Preprocessing
from convnext.data.names import called
from convnext.data.pictures.scales import range_of_recipe
from convnext.data.pictures.transforms import channel_statistics, train_short_side
from convnext.data.shards.order import ShardSampler
from convnext.data.shards.read import ShardSamples
from convnext.data.sources.dataset import Dataset
from convnext.errors import DataError, RecipeError
from convnext.nn.create import build_network
from convnext.nn.network import Network
from convnext.nn.spec import spec_of
from convnext.recipe import Recipe
from convnext.tasks.table import task_of, to_model_file
from convnext.tasks.task import Task


@dataclass(frozen=True)
class Parts:
    """Task, preprocessing and data sets."""

    task: Task
    preprocessing: Preprocessing
    train_set: TrainPictures
    val_set: EvalPictures
    collate: Collate


def build_model(recipe: Recipe, dataset: Dataset) -> Network:
    """The recipe's network for what is asked of the data, with seeded or pretrained weights."""
    task = task_of(recipe, dataset)
    torch.manual_seed(recipe.train.seed)
    return build_network(spec_of(recipe, task.outputs), recipe.weights, task.output_names)


def make_parts(recipe: Recipe, dataset: Dataset) -> Parts:
    """Task, preprocessing and data sets of a complete recipe."""
    data, model, size = recipe.data, recipe.model, int(recipe.data.size)
    mean, std = channel_statistics(data, model.in_chans)
    ratio = data.crop_ratio if data.fit == "crop" else 1.0  # nothing is cropped
    value_range = range_of_recipe(data.value_range)
    preprocessing = Preprocessing(
        int(data.eval_size), ratio, data.interpolation, mean, std, model.in_chans, data.fit, value_range
    )  # fmt: skip
    try:
        transform = TrainTransform(data, recipe.augment, size, model.in_chans)
    except (ValueError, KeyError, AssertionError) as error:
        raise RecipeError(f'augment.randaugment = "{recipe.augment.randaugment}" is not understood: {error}') from None
    side = train_short_side(size, recipe.augment.crop_min)
    if "val" not in dataset.splits:
        raise DataError(
            f"{called(dataset.root)}: no pictures are left for validation; every class needs 3 different pictures or "
            "more, or give a val split of your own"
        )
    if recipe.augment.randaugment and model.in_chans == 4:
        raise RecipeError("augment.randaugment does not work on pictures with alpha (model.in_chans = 4)")
    return Parts(
        task_of(recipe, dataset),
        preprocessing,
        TrainPictures(dataset.splits["train"], transform, side, data.interpolation, value_range),
        EvalPictures(dataset.splits["val"], preprocessing),
        Collate(dataset.meaning),
    )


def make_sampler(
    pictures: TrainPictures, batch: int, seed: int, size: int, rank: int = 0, world: int = 1
) -> EpochSampler:
    """The order of the training pictures: any, or window by window where they lie in shards."""
    if isinstance(pictures.samples, ShardSamples):
        return ShardSampler(pictures.samples, batch, seed, size, rank, world)
    return EpochSampler(len(pictures), batch, seed, size, rank, world)


def model_config(recipe: Recipe, parts: Parts, settled: Mapping[str, Any]) -> dict[str, Any]:
    """What a model file says about itself: how to build it, what its outputs mean, what it must be shown.

    `settled` is what the task decided on the validation pictures with these weights.
    """
    return {
        "model": spec_of(recipe, parts.task.outputs).kept(), **to_model_file(parts.task, settled),
        "preprocessing": parts.preprocessing.to_json(),
    }  # fmt: skip
