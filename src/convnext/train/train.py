"""`convnext train`: from data and a recipe to a trained run folder. The loop itself is in `loop.py`."""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convnext.config import load_recipe, override, to_toml
from convnext.data.loader import (
    Collate,
    EpochSampler,
    EvalPictures,
    Preprocessing,
    TrainPictures,
    eval_loader,
    train_loader,
)
from convnext.data.mixing import Mixing
from convnext.data.sources import Dataset, read_dataset
from convnext.data.transforms import TrainTransform, normalization, normalize, train_short_side
from convnext.errors import RecipeError, RunError
from convnext.nn.convnext import ConvNeXt
from convnext.nn.create import create_model
from convnext.nn.download import find_weights
from convnext.nn.weights import load_state, read_state, save_model
from convnext.recipe import Recipe
from convnext.run.environment import describe_environment, usable_cores
from convnext.run.folder import RunFolder, create_run, open_run, refuse_small_disk, refuse_taken, write_text
from convnext.run.record import clock, progress, say
from convnext.run.sample import save_batch
from convnext.run.state import EMA, Progress, TrainState, read_state_file
from convnext.tasks.classify import class_weights, task_for
from convnext.tasks.collect import autocast, collect
from convnext.tasks.task import Task
from convnext.train import plan as planning
from convnext.train.groups import weight_decay_groups
from convnext.train.loop import Loop
from convnext.train.plan import Plan, count_steps

EVAL_BATCH = 64


@dataclass(frozen=True)
class Parts:
    """What is made from a recipe and data alone, before any training."""

    task: Task
    preprocessing: Preprocessing
    train_set: TrainPictures
    val_set: EvalPictures
    collate: Collate


def train_run(root: Path, recipe: Recipe, out: Path, *, overwrite: bool = False) -> RunFolder:
    """Trains a model on `root` as the recipe says and leaves everything in the run folder `out`.

    Args:
        root: image folder or CSV table.
        recipe: may hold "auto"; what was chosen is written to `out/recipe.toml` before the first step.
        out: a new or empty folder.
        overwrite: replace a run that is in `out`.

    Raises:
        UserError: the data, the recipe, the weights or the folder cannot be used; nothing was overwritten then.
        NonFiniteLoss: the loss is not a number; the last good state is kept.
        KeyboardInterrupt: Ctrl-C; the state is saved.
    """
    refuse_taken(out, overwrite=overwrite)
    dataset = read_data(root, recipe)
    recipe = override(recipe, {"data.root": str(root.expanduser().resolve()), "data.classes": dataset.classes})
    plan, model, parts = prepare(dataset, Plan(recipe))
    refuse_small_disk(out, 44 * sum(p.numel() for p in model.parameters()))  # state, two models, and each once more
    run = create_run(out, overwrite=overwrite)
    _introduce(dataset, plan, model)
    write_text(run.recipe, to_toml(plan.recipe, _header(run, root)))
    run.write_json("plan.json", plan.choices)
    run.write_json("environment.json", describe_environment(shlex.join(sys.argv)))
    run.write_json("data.json", describe_data(dataset))
    save_batch(run, parts.train_set, parts.preprocessing, plan.recipe, dataset)
    loop = _loop(run, plan.recipe, dataset, model, parts)
    return _finish(loop)


def resume_run(out: Path) -> RunFolder:
    """Goes on with a run that was stopped, from the last state that it saved.

    Raises:
        RunError: there is no run in `out`, its state is missing or damaged, or it is already finished.
    """
    run = open_run(out)
    recipe = load_recipe(run.recipe)
    content = read_state_file(run.state)
    done = content["progress"]
    if done["epoch"] >= int(recipe.train.epochs) or done["stopped_early"]:
        raise RunError(f"{out} is finished ({done['epoch']} epochs); `convnext evaluate {out}` judges it")
    dataset = read_data(Path(recipe.data.root), recipe)
    known = run.read_json("data.json")
    if known is not None and known["counts"]["train"] != dataset.counts("train"):
        raise RunError(
            f"the training pictures in {recipe.data.root} are not those that the run started with: "
            f"{sum(dataset.counts('train'))} now, {sum(known['counts']['train'])} then. Put them back, or start anew"
        )
    model = build_model(recipe, dataset)
    parts = make_parts(recipe, dataset)
    loop = _loop(run, recipe, dataset, model, parts)
    loop.state.load(run.state)
    at = loop.state.progress
    say(f"going on with {out} after epoch {at.epoch} and {at.step_in_epoch} steps of the next")
    return _finish(loop)


def read_data(root: Path, recipe: Recipe) -> Dataset:
    """The data set of a recipe, with every file checked, a progress bar, and the loader's remarks."""
    data = recipe.data
    with progress("checking pictures", 1) as bar:
        dataset = read_dataset(
            root, val=data.val, test=data.test, classes=data.classes, path_column=data.path_column,
            label_column=data.label_column, split_column=data.split_column, progress=bar.update,
        )  # fmt: skip
    for note in dataset.notes:
        say(note)
    for broken in dataset.broken[:10]:
        say(f"left out: {broken.path}: {broken.reason}")
    if len(dataset.broken) > 10:
        say(f"left out: {len(dataset.broken) - 10} more files; all are listed in data.json")
    return dataset


def prepare(dataset: Dataset, plan: Plan) -> tuple[Plan, ConvNeXt, Parts]:
    """Fills up the recipe for this data and machine; the model it gives has its weights."""
    pictures = len(dataset.splits["train"])
    side, mean_pixels = planning.picture_sizes(dataset)
    device = planning.choose_device(plan)
    planning.choose_precision(plan, device)
    planning.choose_model(plan, device, side)
    found = find_weights(plan.recipe.model.name, plan.recipe.weights, say)
    if plan.recipe.weights == "auto":
        source = "none" if found is None else found.source
        plan.repair("weights", source, "within reach" if found else "no pretrained weights cached or reachable")
    planning.choose_batch(plan, device, pictures)
    planning.choose_loading(plan, pictures, mean_pixels, device)
    per_epoch = pictures // int(plan.recipe.train.batch)

    def measure() -> float:
        return _seconds_per_epoch(dataset, plan.recipe, device)

    epochs = planning.choose_epochs(plan, measure, found is not None, device)
    planning.choose_optimisation(plan, found is not None, epochs, per_epoch)
    return plan, build_model(plan.recipe, dataset), make_parts(plan.recipe, dataset)


def build_model(recipe: Recipe, dataset: Dataset) -> ConvNeXt:
    """The recipe's network for the data's classes, with seeded or pretrained weights."""
    torch.manual_seed(recipe.train.seed)
    model = create_model(
        recipe.model.name, num_classes=len(dataset.classes), in_chans=recipe.model.in_chans,
        drop_path=_number(recipe.model.drop_path, 0.0), layer_scale=_number(recipe.model.layer_scale, 1e-6),
        head_init_scale=recipe.model.head_init_scale, stem_patch=int(recipe.model.stem_patch),
        checkpointing=recipe.model.checkpointing,
    )  # fmt: skip
    found = find_weights(recipe.model.name, recipe.weights, say)
    if found is not None:
        say(str(load_state(model, read_state(found.path), source=found.source)))
    return model


def make_parts(recipe: Recipe, dataset: Dataset) -> Parts:
    """Task, preprocessing and data sets of a complete recipe."""
    data, model, size = recipe.data, recipe.model, int(recipe.data.size)
    mean, std = normalization(data.normalization, model.in_chans)
    preprocessing = Preprocessing(int(data.eval_size), data.crop_ratio, data.interpolation, mean, std, model.in_chans)
    try:
        transform = TrainTransform(data, recipe.augment, size, model.in_chans)
    except (ValueError, KeyError, AssertionError) as error:
        raise RecipeError(f'augment.randaugment = "{recipe.augment.randaugment}" is not understood: {error}') from None
    side = train_short_side(size, recipe.augment.crop_min)
    if dataset.multi_label and recipe.train.class_balance:
        raise RecipeError("train.class_balance is for one label a picture; with several labels leave it at 0")
    weights = class_weights(dataset.counts("train"), recipe.train.class_balance)
    judged_on = "val" if "val" in dataset.splits else "test"
    return Parts(
        task_for(dataset.classes, dataset.multi_label, recipe.augment.label_smoothing, weights),
        preprocessing,
        TrainPictures(dataset.splits["train"], transform, side, data.interpolation),
        EvalPictures(dataset.splits[judged_on], preprocessing),
        Collate(len(dataset.classes), dataset.multi_label),
    )


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """What a run learned from, for data.json."""
    sets = Counter(sample.labels for sample in dataset.splits["train"])
    return {
        "root": str(dataset.root), "layout": dataset.layout, "classes": list(dataset.classes),
        "multi_label": dataset.multi_label,
        "majority": list(sorted(sets.items(), key=lambda item: (-item[1], item[0]))[0][0]),
        "counts": {split: dataset.counts(split) for split in dataset.splits},
        "pictures": {split: len(samples) for split, samples in dataset.splits.items()},
        "broken": [{"path": str(b.path), "reason": b.reason} for b in dataset.broken],
        "notes": list(dataset.notes),
    }  # fmt: skip


def model_config(recipe: Recipe, dataset: Dataset, preprocessing: Preprocessing) -> dict[str, Any]:
    """What a model file says about itself: how to build it, its classes, what it must be shown."""
    return {
        "model": {
            "name": recipe.model.name, "num_classes": len(dataset.classes), "in_chans": recipe.model.in_chans,
            "stem_patch": recipe.model.stem_patch, "layer_scale": recipe.model.layer_scale,
        },
        "classes": list(dataset.classes), "multi_label": dataset.multi_label,
        "preprocessing": {
            "size": preprocessing.size, "crop_ratio": preprocessing.crop_ratio,
            "interpolation": preprocessing.interpolation, "mean": list(preprocessing.mean),
            "std": list(preprocessing.std), "in_chans": preprocessing.in_chans,
        },
    }  # fmt: skip


def _loop(run: RunFolder, recipe: Recipe, dataset: Dataset, model: ConvNeXt, parts: Parts) -> Loop:
    device = torch.device(recipe.train.device)
    network: nn.Module = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = count_steps(recipe, len(parts.train_set))
    optimizer = _optimizer(network, recipe, device)
    ema = EMA(network, float(recipe.train.ema_decay)) if recipe.train.ema else None
    sampler = EpochSampler(len(parts.train_set), int(recipe.train.batch), recipe.train.seed)
    _fill_caches(parts, recipe)
    config = model_config(recipe, dataset, parts.preprocessing)

    def save(name: str, weights: dict[str, Tensor], epoch: int, source: str) -> None:
        save_model(run.path / name, weights, config | {"epoch": epoch, "source": source})

    workers = int(recipe.data.workers)
    return Loop(
        run, recipe, steps, parts.task, TrainState(network, optimizer, ema, Progress()), device, parts.preprocessing,
        Mixing(recipe.augment.mixup, recipe.augment.cutmix, recipe.augment.mix_probability, recipe.train.seed),
        sampler, train_loader(parts.train_set, sampler, parts.collate, workers, device.type == "cuda"),
        eval_loader(parts.val_set, parts.collate, EVAL_BATCH, 0 if parts.val_set.cache is not None else workers), save,
    )  # fmt: skip


def _finish(loop: Loop) -> RunFolder:
    loop.run_all()
    done = loop.state.progress
    say(
        f"trained {done.epoch} epochs in {clock(done.seconds)}; best epoch on validation: {done.best_epoch} "
        f"({loop.task.primary} {100 * done.best:.1f} %, {'moving average' if done.best_source == 'ema' else 'model'})"
    )
    return loop.run


def _optimizer(model: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """AdamW in its fused form where torch has one (CPU, CUDA)."""
    train = recipe.train
    return torch.optim.AdamW(
        weight_decay_groups(model, train.weight_decay), lr=float(train.lr), betas=train.betas,
        fused=device.type in ("cpu", "cuda"),
    )  # fmt: skip


def _fill_caches(parts: Parts, recipe: Recipe) -> None:
    """Decodes pictures into memory, the validation pictures first, within the recipe's budget."""
    budget = int(float(recipe.data.cache_gb) * 1e9)
    if budget <= 0:
        return
    workers = usable_cores()
    view = parts.preprocessing.in_chans * parts.preprocessing.size**2
    if len(parts.val_set) * view <= budget // 4:
        parts.val_set.fill_cache(budget // 4, workers)
    with progress("decoding", len(parts.train_set)) as bar:
        parts.train_set.fill_cache(budget, workers, bar.update)


def _seconds_per_epoch(dataset: Dataset, recipe: Recipe, device: torch.device) -> float:
    """Times a few steps of training and of evaluation on a throw-away copy of the model."""
    trial = override(recipe, {"train.epochs": 1, "train.warmup_epochs": 0, "train.lr": 1e-3, "train.ema_decay": 0.99})
    parts = make_parts(trial, dataset)
    model = create_model(
        trial.model.name,
        num_classes=len(dataset.classes),
        in_chans=trial.model.in_chans,
        stem_patch=int(trial.model.stem_patch),
        checkpointing=trial.model.checkpointing,
    ).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _optimizer(model, trial, device)
    batch, micro = int(trial.train.batch), int(trial.train.micro_batch)
    count = max(batch, min(len(parts.train_set), 8 * batch) // batch * batch)
    sampler = EpochSampler(count, batch, trial.train.seed)
    loader = train_loader(parts.train_set, sampler, parts.collate, int(trial.data.workers), False)
    times = []
    for _ in range(2):
        start = time.perf_counter()
        for got in loader:
            pictures = normalize(got.pictures.to(device), parts.preprocessing.mean, parts.preprocessing.std)
            targets = parts.task.targets(got.labels.to(device))
            for x, y in zip(pictures.split(micro), targets.split(micro), strict=True):
                with autocast(device, trial.train.precision):
                    outputs = model(x)
                parts.task.loss(outputs, y).backward()
            optimizer.step()
            optimizer.zero_grad()
            times.append(time.perf_counter() - start)
            start = time.perf_counter()
    step = sorted(times[len(times) // 4 :])[len(times) * 3 // 8]
    held_out = EvalPictures(parts.val_set.samples[:EVAL_BATCH], parts.preprocessing)
    start = time.perf_counter()
    batches = eval_loader(held_out, parts.collate, EVAL_BATCH, 0)
    collect(model, batches, parts.task, parts.preprocessing, device=device, precision=trial.train.precision)
    each = (time.perf_counter() - start) / len(held_out)
    rounds = 2 if trial.train.ema else 1
    return step * (len(parts.train_set) // batch) * 1.03 + each * len(parts.val_set) * rounds


def _introduce(dataset: Dataset, plan: Plan, model: nn.Module) -> None:
    """Says what is about to happen, and every choice with its reason."""
    sizes = ", ".join(f"{len(samples)} {split}" for split, samples in dataset.splits.items())
    kind = "labels, several a picture" if dataset.multi_label else "classes"
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    say(f"{dataset.root}: {len(dataset.classes)} {kind}; pictures: {sizes}")
    say(f"{plan.recipe.model.name}, {millions:.1f} M parameters; chosen for this data and machine:")
    for choice in plan.choices:
        say(f"  {choice['key'] + ' = ' + str(choice['value']):<34} {choice['why']}")


def _header(run: RunFolder, root: Path) -> str:
    again = shlex.join(["convnext", "train", str(root), str(run.recipe), "--out", f"{run.path}-again"])
    return f"The complete recipe of this run, as it was run.\nAgain: {again}"


def _number(value: float | str, fallback: float) -> float:
    return fallback if isinstance(value, str) else float(value)
