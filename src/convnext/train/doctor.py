"""Checks a complete recipe against its data and this machine before the first step: repairs, warns, or refuses.

What makes an epoch without a step, a warm-up longer than the run, or a network that cannot see the pictures is met
earlier, where `train.plan` chooses batch, rates and sizes; here is what only shows once everything is chosen.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys

import torch
from torch import nn

from convnext.config import as_dict, override
from convnext.data.names import count as counted
from convnext.memory import available_memory
from convnext.nn.spec import spec_of
from convnext.recipe import Recipe, TrainRecipe
from convnext.run.environment import usable_cores
from convnext.train.groups import parameter_groups
from convnext.train.optimizers import OPTIMIZERS, decay_of
from convnext.train.plan import Plan, count_steps, estimated_bytes, peak_rate
from convnext.train.schedule import average_decay

FAR = 8.0
"""How many times above the usual a rate is worth a word."""
MUCH_DECAY = 0.01
"""Weight decay that is too much where it is added to the gradient."""


def examine(plan: Plan, pictures: int, device: torch.device, world: int = 1, here: int = 1) -> None:
    """Looks at a plan in which nothing is left open.

    Args:
        plan: is repaired, each time with the reason.
        pictures: how many there are to train on.
        device: where the training runs.
        world: processes that share the batch.
        here: those of them on this machine.
    """
    if plan.recipe.train.layer_decay != 1.0:  # refuses a network whose blocks are not known
        parameter_groups(spec_of(plan.recipe).on_meta(), 0.0, plan.recipe.train.layer_decay)
    _workers(plan, here)
    _average(plan, pictures)
    _rate(plan)
    _terms(plan)
    _mixing(plan, world)
    fit_memory(plan, device, world, here)


def _workers(plan: Plan, here: int) -> None:
    cores = usable_cores()
    each = max(1, cores // here)
    if int(plan.recipe.data.workers) > each:
        shared = f" for {here} processes" if here > 1 else ""
        there = f"there {'is' if cores == 1 else 'are'} {counted(cores, 'core')}{shared}"
        plan.repair("data.workers", each, f"{there}; more loaders only wait for each other")


def _average(plan: Plan, pictures: int) -> None:
    """A moving average that never gets to see the end of the run, or that averages batch statistics."""
    train = plan.recipe.train
    if not train.ema:
        return
    if has_batch_norm(plan.recipe):
        plan.repair("train.ema", False, "an average hurts networks with BatchNorm (paper, Appendix A.1)")
        return
    steps = max(1, count_steps(plan.recipe, pictures).total)
    decay = float(train.ema_decay)
    half_life = math.log(0.5) / math.log(decay) if 0 < decay < 1 else 0.0
    if half_life > steps / 2:
        why = f"with {decay:g} the initial weights count for half after {half_life:,.0f} steps, the run has {steps:,}"
        plan.repair("train.ema_decay", average_decay(steps), why)


def has_batch_norm(recipe: Recipe) -> bool:
    """Whether the network normalises over the batch."""
    modules = spec_of(recipe).on_meta().modules()
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in modules)


def _rate(plan: Plan) -> None:
    """A rate that was meant for another batch, where nothing says which."""
    train = plan.recipe.train
    if train.lr_batch:
        if train.lr_batch != int(train.batch):
            scaled = f"{peak_rate(plan.recipe):.3g} at a batch of {train.batch}"
            plan.note("train.lr", f"for a batch of {train.lr_batch}; here it is {scaled}")
        return
    usual = OPTIMIZERS[train.optimizer].scratch * math.sqrt(int(train.batch) / 64)
    if float(train.lr) > FAR * usual:
        plan.note(
            "train.lr",
            f"warning: {float(train.lr) / usual:.0f} times what is usual for a batch of {train.batch} ({usual:.2g}); "
            "if it comes from a recipe for a larger batch, set train.lr_batch to that",
        )


def _terms(plan: Plan) -> None:
    """Settings that the optimizer does not have, or that mean something else with it."""
    train, blank = plan.recipe.train, TrainRecipe()
    kind = OPTIMIZERS[train.optimizer]
    for term in ("betas", "momentum"):
        if term not in kind.terms and getattr(train, term) != getattr(blank, term):
            plan.note(f"train.{term}", f"not used: {train.optimizer} has no such term")
    if not kind.decoupled and decay_of(plan.recipe) > MUCH_DECAY:
        plan.note(
            "train.weight_decay",
            f"warning: {train.optimizer} adds it to the gradient, where {kind.weight_decay:g} is usual; AdamW's values "
            "are too large for that",
        )
    if train.optimizer == "sgd" and not train.lr_batch and float(train.lr) < kind.tuning / FAR:
        plan.note(
            "train.lr",
            f"warning: little for sgd ({kind.tuning:g} to {kind.scratch:g} at a batch of 64 are usual); is it AdamW's?",
        )


def _mixing(plan: Plan, world: int) -> None:
    augment = plan.recipe.augment
    if (augment.mixup or augment.cutmix) and int(plan.recipe.train.batch) // world < 2:
        plan.note("augment.mixup", "warning: a batch of one picture a process has nothing to be mixed with")


def fit_memory(plan: Plan, device: torch.device, world: int, here: int = 1) -> None:
    """Measures a step's memory where the estimate says that it matters, and lowers the micro-batch if it must."""
    micro = int(plan.recipe.train.micro_batch)
    free = torch.cuda.mem_get_info()[0] if device.type == "cuda" else available_memory() // here
    if not free or estimated_bytes(plan.recipe) * micro < free / 4 or micro < 2:
        return
    few = [step_bytes(plan.recipe, n, device) for n in (1, 2)]
    if 0 in few:
        return
    each, fixed = max(1, few[1] - few[0]), few[0] - (few[1] - few[0])
    fits = int((0.8 * free - fixed) / each)
    if micro > fits:
        share = int(plan.recipe.train.batch) // world
        divisors = (share // parts for parts in range(1, share + 1) if share % parts == 0)
        smaller = next((size for size in divisors if size <= fits), 1)
        plan.repair(
            "train.micro_batch", smaller,
            f"measured: {each / 1e6:.0f} MB a picture and {fixed / 1e6:.0f} MB besides, {free / 1e9:.1f} GB are free",
        )  # fmt: skip


def step_bytes(recipe: Recipe, pictures: int, device: torch.device) -> int:
    """Bytes that a step of so many pictures takes at most, in a process of its own; 0 when that cannot be had."""
    settings = {"recipe": as_dict(override(recipe, {"weights": "none"})), "pictures": pictures, "device": str(device)}
    command = [sys.executable, "-m", "convnext.train.footprint"]
    try:
        done = subprocess.run(
            command, input=json.dumps(settings), capture_output=True, text=True, timeout=600, check=False
        )
    except subprocess.TimeoutExpired:
        return 0
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip().isdigit() else 0
