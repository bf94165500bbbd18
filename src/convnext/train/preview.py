"""What a run will be, before it begins: `convnext train --dry-run`."""

from __future__ import annotations

import torch

from convnext.data.sources.dataset import Dataset
from convnext.memory import available_memory
from convnext.recipe import Recipe
from convnext.run.environment import find_device
from convnext.run.record import clock
from convnext.train.plan import Steps, count_steps, rate_at
from convnext.train.schedule import size_at
from convnext.train.trial import Trial, try_steps

POINTS = 6
"""How many moments of the schedule are shown."""


def describe_plan(dataset: Dataset, recipe: Recipe, world: int = 1) -> str:
    """Steps, schedule, memory and time of a complete recipe, from three timed steps on this machine."""
    device = find_device(str(recipe.train.device))
    steps = count_steps(recipe, len(dataset.splits["train"]))
    found = try_steps(dataset, recipe, device, world, at_most=3)
    train = recipe.train
    batch, micro = int(train.batch), int(train.micro_batch)
    each = batch // world
    shared, words = (f"{world} x ", "processes x ") if world > 1 else ("", "")
    over = len(dataset.splits["train"]) - steps.per_epoch * batch
    lines = [
        f"steps: {steps.total:,} = {train.epochs} epochs of {steps.per_epoch:,}, {steps.warmup:,} of them warm-up",
        f"batch: {batch} = {shared}{-(-each // micro)} x {micro} ({words}accumulated x at once); "
        f"{over} pictures of an epoch are left over, others each time",
        f"precision: {train.precision} on {device}",
        "",
        *schedule(recipe, steps),
        "",
        *costs(found, recipe, steps, device),
        *(["one process was timed: exchanging gradients, and the others on its machine, come on top"] * (world > 1)),
    ]
    return "\n".join(lines)


def schedule(recipe: Recipe, steps: Steps) -> list[str]:
    """A table of some moments: step, epoch, learning rate, side of the pictures."""
    last = max(0, steps.total - 1)
    evenly = [round(last * i / (POINTS - 1)) for i in range(POINTS)]
    moments = sorted({0, max(0, steps.warmup - 1), *evenly})
    rows = ["    step    epoch  learning rate  pictures"]
    for step in moments:
        epoch = step // max(1, steps.per_epoch)
        size = size_at(recipe, epoch, int(recipe.train.epochs))
        rows.append(f"{step + 1:>8,} {epoch + 1:>8,} {rate_at(recipe, steps, step):>14.3g} {size:>6} px")
    return rows


def costs(found: Trial, recipe: Recipe, steps: Steps, device: torch.device) -> list[str]:
    """Time and memory, by what three steps took."""
    seconds = found.seconds_per_epoch * int(recipe.train.epochs)
    rate = int(recipe.train.batch) / found.step
    lines = [
        f"a step: {found.step:.3g} s ({rate:.3g} pictures/s, the median of {found.count} steps)",
        f"the run: about {clock(seconds)} with validation",
    ]
    if found.peak:
        place = "of the GPU" if device.type == "cuda" else "of the process, pictures in memory not counted"
        room = torch.cuda.mem_get_info()[0] if device.type == "cuda" else available_memory()
        lines.append(f"memory: {found.peak / 1e9:.2f} GB at most {place} ({room / 1e9:.1f} GB are free)")
    return lines
