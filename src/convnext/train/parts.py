"""What is made from a complete recipe and data alone, before any training."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch

from convnext.data.augment import TrainTransform
from convnext.data.loader import Collate, EpochSampler, EvalPictures, TrainPictures
from convnext.data.names import called, csv_cell, csv_path
from convnext.data.preprocessing import Preprocessing
from convnext.data.scales import range_of_recipe
from convnext.data.shard_order import ShardSampler
from convnext.data.shards import ShardedDataset, ShardSamples
from convnext.data.sources import Dataset
from convnext.data.transforms import channel_statistics, train_short_side
from convnext.errors import DataError, RecipeError
from convnext.nn.create import build_network
from convnext.nn.network import Network
from convnext.nn.spec import spec_of
from convnext.recipe import Recipe
from convnext.run.contents import digest_of_contents
from convnext.tasks.classify import class_weights, label_weights, task_for
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
    """The recipe's network for the data's classes, with seeded or pretrained weights."""
    torch.manual_seed(recipe.train.seed)
    return build_network(spec_of(recipe, len(dataset.classes)), recipe.weights, dataset.classes)


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
    counts, balance = dataset.counts("train"), recipe.train.class_balance
    if dataset.multi_label:
        weights = label_weights(counts, len(dataset.splits["train"]), balance)
    else:
        weights = class_weights(counts, balance)
    if "val" not in dataset.splits:
        raise DataError(
            f"{called(dataset.root)}: no pictures are left for validation; every class needs 3 different pictures or "
            "more, or give a val split of your own"
        )
    if recipe.augment.randaugment and model.in_chans == 4:
        raise RecipeError("augment.randaugment does not work on pictures with alpha (model.in_chans = 4)")
    return Parts(
        task_for(
            dataset.classes,
            dataset.multi_label,
            recipe.augment.label_smoothing,
            weights,
            rule=recipe.train.thresholds,
        ),
        preprocessing,
        TrainPictures(dataset.splits["train"], transform, side, data.interpolation, value_range),
        EvalPictures(dataset.splits["val"], preprocessing),
        Collate(len(dataset.classes), dataset.multi_label),
    )


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """What a run learned from, for data.json."""
    if isinstance(dataset, ShardedDataset):
        counts = dataset.counts("train")
        half = len(dataset.splits["train"]) / 2  # of several labels those that most pictures have
        majority = [i for i, n in enumerate(counts) if n > half] if dataset.multi_label else [counts.index(max(counts))]
    else:
        sets = Counter(sample.labels for sample in dataset.splits["train"])
        majority = list(sorted(sets.items(), key=lambda item: (-item[1], item[0]))[0][0])
    return {
        "root": called(dataset.root), "layout": dataset.layout, "classes": list(dataset.classes),
        "multi_label": dataset.multi_label,
        "majority": majority,
        "counts": {split: dataset.counts(split) for split in dataset.splits},
        "pictures": {split: len(samples) for split, samples in dataset.splits.items()},
        "fingerprint": fingerprint(dataset), "contents": digest_of_contents(dataset),
        "broken": [{"path": str(b.path), "reason": b.reason} for b in dataset.broken],
        "notes": list(dataset.notes),
    }  # fmt: skip


def list_splits(dataset: Dataset) -> str:
    """Which picture is in which split, as CSV: path below the data (or its tars), split, labels."""
    base = dataset.root if dataset.root.is_dir() else dataset.root.parent
    if isinstance(dataset, ShardedDataset):
        base = dataset.folder
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "split", "label"])
    for split, samples in dataset.splits.items():
        if isinstance(dataset, ShardedDataset) and (split == "train" or len(samples) > 100_000):
            continue  # the index has them; millions of lines would say no more
        for sample in samples:
            names = csv_cell("|".join(dataset.classes[i] for i in sample.labels) or "|")
            writer.writerow([csv_path(os.path.relpath(sample.path, base)), split, names])
    return text.getvalue()


def fingerprint(dataset: Dataset) -> str:
    """A hash of every picture's place, labels and split; the same wherever the data lies."""
    if isinstance(dataset, ShardedDataset):
        return dataset.digest
    digest = hashlib.sha256()
    base = dataset.root if dataset.root.is_dir() else dataset.root.parent
    for split, samples in dataset.splits.items():
        for sample in samples:
            digest.update(os.fsencode(os.path.relpath(sample.path, base)) + repr((split, sample.labels)).encode())
    return digest.hexdigest()


def make_sampler(
    pictures: TrainPictures, batch: int, seed: int, size: int, rank: int = 0, world: int = 1
) -> EpochSampler:
    """The order of the training pictures: any, or window by window where they lie in shards."""
    if isinstance(pictures.samples, ShardSamples):
        return ShardSampler(pictures.samples, batch, seed, size, rank, world)
    return EpochSampler(len(pictures), batch, seed, size, rank, world)


def model_config(recipe: Recipe, dataset: Dataset, preprocessing: Preprocessing) -> dict[str, Any]:
    """What a model file says about itself: how to build it, its classes, what it must be shown."""
    return {
        "model": spec_of(recipe, len(dataset.classes)).kept(),
        "classes": list(dataset.classes), "multi_label": dataset.multi_label,
        "preprocessing": preprocessing.to_json(),
    }  # fmt: skip
