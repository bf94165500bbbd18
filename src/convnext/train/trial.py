"""How long an epoch will take here: a few timed steps on a throw-away copy of the model."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch

from convnext.config import override
from convnext.data.loader import EpochSampler, EvalPictures, TrainPictures, eval_loader, train_loader
from convnext.data.sources import Dataset
from convnext.data.transforms import normalize
from convnext.nn.create import create_model
from convnext.nn.network import Network
from convnext.recipe import Recipe
from convnext.run.environment import forget_peak, peak_memory, usable_cores
from convnext.tasks.collect import EVAL_BATCH, autocast, collect
from convnext.train.freeze import Freezing
from convnext.train.loop import end_workers
from convnext.train.optimizers import make_optimizer
from convnext.train.parts import Parts, make_parts
from convnext.train.schedule import size_at

TRIAL_SECONDS = 30.0
"""How long steps are timed at most."""


@dataclass(frozen=True)
class Trial:
    """What a few steps took.

    Attributes:
        step: seconds of a step at full size, the median.
        count: how many were timed.
        seconds_per_epoch: of an epoch with its validation, pictures growing as the recipe says.
        peak: bytes at most; 0 where the system does not say.
    """

    step: float
    count: int
    seconds_per_epoch: float
    peak: int


def seconds_per_epoch(dataset: Dataset, recipe: Recipe, device: torch.device, world: int = 1) -> float:
    """Times a few steps of training and of evaluation on a throw-away copy of the model.

    With several processes this one takes the steps of its share; that the others compute at the same time, and that
    gradients are exchanged, is not in it.
    """
    return try_steps(dataset, recipe, device, world).seconds_per_epoch


def try_steps(
    dataset: Dataset, recipe: Recipe, device: torch.device, world: int = 1, at_most: int | None = None
) -> Trial:
    """The same with all that is found on the way; `at_most` limits the number of steps that are timed."""
    trial = override(recipe, {"train.lr": 1e-3})
    parts = make_parts(trial, dataset)
    model = create_model(
        trial.model.name,
        num_classes=len(dataset.classes),
        in_chans=trial.model.in_chans,
        stem_patch=int(trial.model.stem_patch),
        size=int(trial.data.size),
        checkpointing=trial.model.checkpointing,
    ).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    Freezing(model, trial).begin(model, trial.train.freeze_epochs)  # as in most epochs
    batch = int(trial.train.batch) // world
    count = max(batch, min(len(parts.train_set), 8 * batch) // batch * batch)
    trial_set = TrainPictures(
        parts.train_set.samples[:count],
        parts.train_set.transform,
        parts.train_set.short_side,
        trial.data.interpolation,
        parts.train_set.value_range,
    )
    memory = int(float(trial.data.cache_gb) * 1e9)
    on_disk = int(min(trial.data.disk_cache_gb, 1.0) * 1e9)  # the system would keep so small a file in memory
    trial_set.fill_cache(max(memory, on_disk), usable_cores())
    forget_peak(device)
    times = _time_steps(trial, trial_set, parts, model, device, batch, at_most)
    peak = peak_memory(device)
    step = statistics.median(times[len(times) // 4 :])
    held_out = EvalPictures(parts.val_set.samples[:EVAL_BATCH], parts.preprocessing)
    held_out.fill_cache(memory, usable_cores())
    start = time.perf_counter()
    batches = eval_loader(held_out, parts.collate, EVAL_BATCH, 0)
    collect(model, batches, parts.task, parts.preprocessing, device=device, precision=trial.train.precision)
    each = (time.perf_counter() - start) / len(held_out)
    rounds = 2 if trial.train.ema else 1
    growing = statistics.mean((size_at(trial, epoch, 100) / int(trial.data.size)) ** 2 for epoch in range(100))
    train = step * growing * (len(parts.train_set) // (batch * world)) * 1.03
    return Trial(step, len(times), train + each * len(parts.val_set) * rounds / world, peak)


def _time_steps(
    trial: Recipe, pictures: TrainPictures, parts: Parts, model: Network, device: torch.device, batch: int,
    at_most: int | None,
) -> list[float]:  # fmt: skip
    """Seconds of each step, the first one to warm up left out where `at_most` asks for few."""
    optimizer, micro = make_optimizer(model, trial, device), int(trial.train.micro_batch)
    sampler = EpochSampler(len(pictures), batch, trial.train.seed, int(trial.data.size))
    loader = train_loader(pictures, sampler, parts.collate, int(trial.data.workers), False)
    times: list[float] = []
    enough = 2 * len(pictures) // batch if at_most is None else at_most + 1
    while len(times) < enough and (len(times) < 3 or sum(times) < TRIAL_SECONDS):
        start = time.perf_counter()
        for got in loader:
            shown = normalize(got.pictures.to(device), parts.preprocessing.mean, parts.preprocessing.std)
            targets = parts.task.targets(got.labels.to(device))
            for x, y in zip(shown.split(micro), targets.split(micro), strict=True):
                with autocast(device, trial.train.precision):
                    outputs = model(x)
                loss = parts.task.loss(outputs, y)
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()  # waits for a GPU
            times.append(time.perf_counter() - start)
            if len(times) >= enough or (len(times) >= 3 and sum(times) > TRIAL_SECONDS):
                break
            start = time.perf_counter()
    end_workers(loader)
    return times if at_most is None else times[1:] or times
