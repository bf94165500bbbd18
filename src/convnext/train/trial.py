"""How long an epoch will take here: a few timed steps on a throw-away copy of the model."""

from __future__ import annotations

import statistics
import time

import torch

from convnext.config import override
from convnext.data.loader import EpochSampler, EvalPictures, TrainPictures, eval_loader, train_loader
from convnext.data.sources import Dataset
from convnext.data.transforms import normalize
from convnext.nn.create import create_model
from convnext.recipe import Recipe
from convnext.run.environment import usable_cores
from convnext.tasks.collect import EVAL_BATCH, autocast, collect
from convnext.train.loop import end_workers
from convnext.train.parts import make_optimizer, make_parts
from convnext.train.schedule import size_at

TRIAL_SECONDS = 30.0
"""How long steps are timed at most."""


def seconds_per_epoch(dataset: Dataset, recipe: Recipe, device: torch.device) -> float:
    """Times a few steps of training and of evaluation on a throw-away copy of the model."""
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
    optimizer = make_optimizer(model, trial, device)
    batch, micro = int(trial.train.batch), int(trial.train.micro_batch)
    count = max(batch, min(len(parts.train_set), 8 * batch) // batch * batch)
    trial_set = TrainPictures(
        parts.train_set.samples[:count], parts.train_set.transform, parts.train_set.short_side, trial.data.interpolation
    )
    memory = int(float(trial.data.cache_gb) * 1e9)
    on_disk = int(min(trial.data.disk_cache_gb, 1.0) * 1e9)  # the system would keep so small a file in memory
    trial_set.fill_cache(max(memory, on_disk), usable_cores())
    sampler = EpochSampler(count, batch, trial.train.seed, int(trial.data.size))
    loader = train_loader(trial_set, sampler, parts.collate, int(trial.data.workers), False)
    times: list[float] = []
    while len(times) < 2 * count // batch and (len(times) < 3 or sum(times) < TRIAL_SECONDS):
        start = time.perf_counter()
        for got in loader:
            pictures = normalize(got.pictures.to(device), parts.preprocessing.mean, parts.preprocessing.std)
            targets = parts.task.targets(got.labels.to(device))
            for x, y in zip(pictures.split(micro), targets.split(micro), strict=True):
                with autocast(device, trial.train.precision):
                    outputs = model(x)
                loss = parts.task.loss(outputs, y)
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()  # waits for a GPU
            times.append(time.perf_counter() - start)
            if len(times) >= 3 and sum(times) > TRIAL_SECONDS:
                break
            start = time.perf_counter()
    end_workers(loader)
    step = statistics.median(times[len(times) // 4 :])
    held_out = EvalPictures(parts.val_set.samples[:EVAL_BATCH], parts.preprocessing)
    held_out.fill_cache(memory, usable_cores())
    start = time.perf_counter()
    batches = eval_loader(held_out, parts.collate, EVAL_BATCH, 0)
    collect(model, batches, parts.task, parts.preprocessing, device=device, precision=trial.train.precision)
    each = (time.perf_counter() - start) / len(held_out)
    rounds = 2 if trial.train.ema else 1
    step *= statistics.mean((size_at(trial, epoch, 100) / int(trial.data.size)) ** 2 for epoch in range(100))
    return step * (len(parts.train_set) // batch) * 1.03 + each * len(parts.val_set) * rounds
