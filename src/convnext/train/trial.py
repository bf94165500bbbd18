"""How long an epoch will take here: a few timed steps on a throw-away copy of the model."""

from __future__ import annotations

import hashlib
import io
import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from convnext.config import override
from convnext.data.feed.loader import EpochSampler, EvalPictures, TrainPictures, eval_loader, train_loader
from convnext.data.pictures.transforms import normalize
from convnext.data.sources.dataset import Dataset
from convnext.nn.network import Network
from convnext.nn.spec import spec_of
from convnext.recipe import Recipe
from convnext.run.cores import CORES
from convnext.run.environment import forget_peak, peak_memory, usable_cores
from convnext.tasks.collect import EVAL_BATCH, autocast, collect
from convnext.tasks.table import task_of
from convnext.train.freeze import Freezing
from convnext.train.loop import end_workers
from convnext.train.optimizers import make_optimizer
from convnext.train.parts import Parts, make_parts
from convnext.train.plan import Plan, choose_start, usual_batch
from convnext.train.schedule import size_at

TRIAL_SECONDS, SHARE = 30.0, 0.1
"""How long steps are timed at most: seconds, and the share of a budget."""
STEADY = 6
"""Steps in a group; when two groups took as long, their time is believed."""
BESIDES = 1.15
"""An epoch against its networks' passes alone: loading, the optimizer, saving; about, as seen on two cores."""
GLANCE_SECONDS, GLANCE_BATCH = 3.0, 32
"""How long a glance at one network takes, and the pictures of a step at most."""
JUDGING = 5.0
"""Seconds after the last epoch besides the test pictures themselves: loading, resampling, the report."""


@dataclass(frozen=True)
class Trial:
    """What a few steps took.

    Attributes:
        step: seconds of a step at full size, the median.
        count: how many were timed.
        seconds_per_epoch: of an epoch with its validation, pictures growing as the recipe says.
        before: seconds before the first epoch, in which pictures are decoded.
        after: seconds after the last one, in which the model is judged.
        peak: bytes at most; 0 where the system does not say.
    """

    step: float
    count: int
    seconds_per_epoch: float
    before: float
    after: float
    peak: int


def glance(recipe: Recipe, dataset: Dataset, device: torch.device, world: int = 1) -> float:
    """About how many seconds an epoch takes: the network alone, on random pictures, until its steps are steady.

    The recipe names the network, the size of the pictures and the precision; the rest may still be open.
    """
    pictures = len(dataset.splits["train"])
    batch = recipe.train.batch if recipe.train.batch != "auto" else usual_batch(device, pictures, world)
    each = min(max(1, int(batch) // world), GLANCE_BATCH)
    side = int(recipe.data.size)
    network = _as_trained(recipe, dataset).train()
    model = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    Freezing(model, recipe).begin(model, recipe.train.freeze_epochs)  # as in most epochs
    x = torch.randn(each, recipe.model.in_chans, side, side, device=device).to(memory_format=torch.channels_last)
    times: list[float] = []
    while len(times) < 3 or (not is_steady(times, 3) and sum(times) < GLANCE_SECONDS):
        start = time.perf_counter()
        with autocast(device, recipe.train.precision):
            outputs = model(x)
        outputs.float().square().mean().backward()
        outputs.sum().item()  # waits for a GPU
        times.append(time.perf_counter() - start)
        CORES.step(times[-1])
    step = statistics.median(times[1:])
    held_out = len(dataset.splits.get("val", ())) * (2 if recipe.train.ema else 1) / 3  # no backward pass
    return BESIDES * step / each * (pictures + held_out) / world


def _as_trained(recipe: Recipe, dataset: Dataset) -> Network:
    """The network that the run will train, as far as it is settled, and as the plan will settle the rest; new."""
    plan = Plan(recipe)
    choose_start(plan, pretrained=recipe.weights not in ("none", "auto"))
    return spec_of(plan.recipe, task_of(plan.recipe, dataset).outputs).build()


def is_steady(times: list[float], group: int = STEADY) -> bool:
    """Whether the medians of the last two groups of steps differ by a twentieth at most."""
    if len(times) < 2 * group:
        return False
    last, before = statistics.median(times[-group:]), statistics.median(times[-2 * group : -group])
    return abs(last - before) <= 0.05 * last


def try_steps(
    dataset: Dataset, recipe: Recipe, device: torch.device, world: int = 1, at_most: int | None = None
) -> Trial:
    """The same with all that is found on the way; `at_most` limits the number of steps that are timed."""
    trial = override(recipe, {"train.lr": 1e-3})
    parts = make_parts(trial, dataset)
    network = _as_trained(trial, dataset)
    model = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
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
    start = time.perf_counter()
    trial_set.fill_cache(max(memory, on_disk), usable_cores())
    decoding = (time.perf_counter() - start) / count if max(memory, on_disk) else 0.0
    forget_peak(device)
    times, saving = _time_steps(trial, trial_set, parts, model, device, batch, at_most)
    peak = peak_memory(device)
    step = statistics.median(times[-2 * STEADY :])
    held_out = EvalPictures(parts.val_set.samples[:EVAL_BATCH], parts.preprocessing)
    held_out.fill_cache(memory, usable_cores())
    start = time.perf_counter()
    batches = eval_loader(held_out, parts.collate, EVAL_BATCH, 0)
    collect(model, batches, parts.task, parts.preprocessing, device=device, precision=trial.train.precision)
    each = (time.perf_counter() - start) / len(held_out)
    rounds = 2 if trial.train.ema else 1
    growing = statistics.mean((size_at(trial, epoch, 100) / int(trial.data.size)) ** 2 for epoch in range(100))
    train = step * growing * (len(parts.train_set) // (batch * world)) * 1.03
    judged = len(dataset.splits.get("test", parts.val_set))
    before, after = decoding * (len(parts.train_set) + len(parts.val_set)), JUDGING + each * judged
    judging = each * len(parts.val_set) * rounds / world
    return Trial(step, len(times), train + judging + saving, before, after, peak)


def _time_steps(
    trial: Recipe, pictures: TrainPictures, parts: Parts, model: Network, device: torch.device, batch: int,
    at_most: int | None,
) -> tuple[list[float], float]:  # fmt: skip
    """Seconds of each step but the first, which warms up; and of saving the state."""
    optimizer, micro = make_optimizer(model, trial, device), int(trial.train.micro_batch)
    sampler = EpochSampler(len(pictures), batch, trial.train.seed, int(trial.data.size))
    loader = train_loader(pictures, sampler, parts.collate, int(trial.data.workers), False)
    times: list[float] = []
    longest = TRIAL_SECONDS
    if trial.train.minutes != "auto":
        longest = min(longest, SHARE * 60 * float(trial.train.minutes))

    def enough() -> bool:
        if at_most is not None:
            return len(times) > at_most
        return len(times) >= 3 and (is_steady(times[1:]) or sum(times) > longest)

    def forward(x: Tensor) -> Tensor:
        with autocast(device, trial.train.precision):
            outputs: Tensor = model(x)
        return outputs

    while not enough():
        start = time.perf_counter()
        for got in loader:
            shown = normalize(got.pictures.to(device), parts.preprocessing.mean, parts.preprocessing.std)
            targets = parts.task.targets(got.targets.to(device))
            for x, y in zip(shown.split(micro), targets.split(micro), strict=True):
                loss = parts.task.losses(forward, x, y)["loss"]
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()  # waits for a GPU
            times.append(time.perf_counter() - start)
            CORES.step(times[-1])
            if enough():
                break
            start = time.perf_counter()
    end_workers(loader)
    return times[1:] or times, _time_saving(model, optimizer)


def _time_saving(model: Network, optimizer: torch.optim.Optimizer) -> float:
    """Seconds in which a state is packed, hashed, written and read again, and two models with it, by an estimate."""
    start, buffer = time.perf_counter(), io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
    hashlib.sha256(buffer.getbuffer()).digest()
    return 3 * (time.perf_counter() - start)
