"""What `train` chooses where the recipe says "auto": every choice with its reason, before the first step.

The rules are for pictures of an ordinary size on an ordinary machine. A value given in the recipe stays, unless it
cannot work: then it is repaired, with the reason.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from convnext.config import get, override
from convnext.data.names import count as counted
from convnext.data.pictures.opened import read_size
from convnext.data.pictures.transforms import train_short_side
from convnext.data.shards.read import glimpse
from convnext.data.sources.dataset import Dataset
from convnext.errors import DataError, RecipeError
from convnext.memory import available_memory
from convnext.nn.count import count
from convnext.nn.spec import Outline, outline
from convnext.recipe import Recipe
from convnext.run.environment import find_device, usable_cores
from convnext.train.optimizers import OPTIMIZERS
from convnext.train.schedule import average_decay, learning_rate

DEFAULT_MINUTES = 30.0
"""Time budget on a processor, when neither epochs nor minutes are given."""
MAX_EPOCHS_FROM_SCRATCH = 300
MAX_EPOCHS_FINE_TUNING = 30


@dataclass
class Plan:
    """A recipe that fills up, and what was chosen on the way: rows of key, value, why."""

    recipe: Recipe
    choices: list[dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    """The moment from which a time budget counts."""
    most_epochs: int = 0
    """Where the epochs were chosen for a time budget: how many there may be at most; else 0."""
    after: float = 0.0
    """Seconds of the budget for judging, after the last step."""

    def choose(self, key: str, value: Any, why: str) -> Any:
        """Sets a key that is still "auto"; a given value stays. Returns the value that holds."""
        current = get(self.recipe, key)
        if current != "auto":
            return current
        return self.repair(key, value, why)

    def repair(self, key: str, value: Any, why: str) -> Any:
        """Sets a key whatever it was, with the reason."""
        self.recipe = override(self.recipe, {key: value})
        self.choices.append({"key": key, "value": value, "why": why})
        return value

    def choose_quietly(self, key: str, value: Any) -> None:
        """The same where there is nothing to tell: the usual."""
        if get(self.recipe, key) == "auto":
            self.recipe = override(self.recipe, {key: value})

    def note(self, key: str, why: str) -> None:
        """Says something about a value that stays as it is."""
        self.choices.append({"key": key, "value": get(self.recipe, key), "why": why})


@dataclass(frozen=True)
class Steps:
    """Derived numbers of a run; never stored, always computed from the recipe and the number of pictures."""

    per_epoch: int
    total: int
    warmup: int


def count_steps(recipe: Recipe, pictures: int) -> Steps:
    """Optimizer steps of a complete recipe over `pictures` training pictures."""
    per_epoch = pictures // int(recipe.train.batch)
    total = per_epoch * int(recipe.train.epochs)
    return Steps(per_epoch, total, min(total, round(per_epoch * float(recipe.train.warmup_epochs))))


def rate_at(recipe: Recipe, steps: Steps, step: float) -> float:
    """Learning rate of a complete recipe at an optimizer step, or at a position between two."""
    return learning_rate(
        step, peak=peak_rate(recipe), minimum=recipe.train.min_lr, warmup=steps.warmup, total=steps.total
    )


def peak_rate(recipe: Recipe) -> float:
    """The highest learning rate: train.lr, scaled linearly from train.lr_batch to the batch where that is given.

    The recipe keeps both numbers, so that a run that is repeated or resumed is not scaled twice.
    """
    train = recipe.train
    return float(train.lr) * (int(train.batch) / train.lr_batch if train.lr_batch else 1.0)


def choose_device(plan: Plan) -> torch.device:
    """The device: as given when it is there, else the best there is.

    Raises:
        UserError: a device was asked for that this machine does not have.
    """
    asked = plan.choose("train.device", find_device("auto").type, "the best that this machine has")
    return find_device(str(asked))


def choose_precision(plan: Plan, device: torch.device) -> None:
    """bf16 where it is at least half as fast again as fp32: known for a GPU, measured for a processor."""
    if plan.recipe.train.precision != "auto":
        return
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        why = "the GPU computes bf16" if fast else "the GPU has no bf16: fp16, with a scaled loss"
        plan.choose("train.precision", "bf16" if fast else "fp16", why)
    elif device.type == "cpu":
        ratio = _bf16_speed()
        plan.choose(
            "train.precision", "bf16" if ratio >= 1.5 else "fp32",
            f"a bf16 matrix product runs {ratio:.1f} times as fast as fp32 here (measured); from 1.5 on it is taken",
        )  # fmt: skip
    else:
        plan.choose("train.precision", "fp32", "the safe choice on this device")


def choose_model(plan: Plan, device: torch.device, side: int) -> None:
    """Model, stem and picture size, from the device and the median short side of the pictures."""
    if device.type == "cuda":
        plan.choose("model.name", "convnext_tiny", "the paper's smallest model; a GPU trains it quickly")
    else:
        plan.choose("model.name", "convnext_atto", "the smallest model: on this device, time is short")
    known = outline(plan.recipe.model.name)  # an unknown name is the user's mistake; say so before any work
    patch = _choose_patch(plan, known, side)
    stride = known.stride * patch // known.stem_patch
    if known.fixed_size is not None:
        _choose_fixed_size(plan, known.fixed_size)
    most = 224 if device.type == "cuda" else 128
    wanted = min(most, max(side, stride))
    size = plan.choose(
        "data.size", max(stride, wanted // stride * stride),
        f"the pictures' median short side is {side} pixels" if side < most else "detail against time on this device",
    )  # fmt: skip
    plan.choose("data.eval_size", size, "as in training")
    plan.choose("data.start_size", size, "pictures do not grow during the run")
    if int(plan.recipe.data.start_size) > int(plan.recipe.data.size):
        plan.repair("data.start_size", plan.recipe.data.size, "pictures do not shrink during the run")
    if plan.recipe.data.eval_size != plan.recipe.data.size:
        plan.note("data.eval_size", f"judged at another size than trained, {plan.recipe.data.size}")
    for key in ("data.size", "data.start_size", "data.eval_size"):
        if int(get(plan.recipe, key)) < stride:
            raise RecipeError(
                f"{key} = {get(plan.recipe, key)}: with model.stem_patch = {patch} the network needs {stride} pixels "
                "or more; enlarge the pictures, or use a smaller model.stem_patch"
            )


def _choose_patch(plan: Plan, known: Outline, side: int) -> int:
    """The stem's patch: the model's own for ordinary pictures, a finer one for small pictures if the model has it."""
    size = plan.recipe.data.size
    finer = 1 if side >= 96 else 2 if side >= 48 else 4
    reason = (
        "pictures of ordinary size" if finer == 1 else f"the pictures are only {side} pixels: a finer stem keeps detail"
    )
    if size != "auto":
        finer = next(f for f in (1, 2, 4) if size >= 96 / f or f == 4)
        reason = f"fits training pictures of {size} pixels"
    patch = known.stem_patch // finer
    if patch not in known.stem_patches:
        patch, reason = known.stem_patch, "the only one that this network has"
    return int(plan.choose("model.stem_patch", patch, reason))


def _choose_fixed_size(plan: Plan, own: int) -> None:
    """One picture size for training and evaluation, for a network that has one."""
    size = plan.choose("data.size", own, "the size that this network is made for")
    for key in ("data.start_size", "data.eval_size"):
        if plan.choose(key, size, "this network takes one size only") != size:
            raise RecipeError(
                f"{key} = {get(plan.recipe, key)}: {plan.recipe.model.name} takes one size only, here {size}"
            )


def choose_batch(plan: Plan, device: torch.device, pictures: int, world: int = 1) -> None:
    """Effective batch and micro-batch; one that does not fit the data or the other is repaired."""
    if pictures < world:
        raise RecipeError(f"{world} processes cannot share {pictures} training pictures; start {pictures} at most")
    fitting = usual_batch(device, pictures, world)
    batch = int(plan.choose("train.batch", fitting, f"{pictures // fitting} steps an epoch with {pictures} pictures"))
    if batch > pictures:
        why = f"{pictures} training pictures do not fill one batch of {batch}: the epoch would have no step"
        batch = int(plan.repair("train.batch", fitting, why))
    each = batch // world or 1  # of one process
    whose = f"the batch of {batch}" if world == 1 else f"a process's share of the batch, {each}"
    if plan.recipe.train.micro_batch == "auto":
        plan.choose("train.micro_batch", _micro_batch(plan.recipe, each), "fits the memory")
    elif each % int(plan.recipe.train.micro_batch):
        parts = -(-each // int(plan.recipe.train.micro_batch))
        micro = next(each // p for p in range(parts, each + 1) if each % p == 0)
        plan.repair("train.micro_batch", micro, f"must divide {whose}")


def usual_batch(device: torch.device, pictures: int, world: int = 1) -> int:
    """The effective batch for so many pictures; each process takes as many of it."""
    limit = 256 if device.type == "cuda" else 32
    fitting = min(pictures, int(np.clip(2 ** int(np.log2(max(2, pictures // 20))), 8, limit)))
    return max(world, fitting // world * world)


def choose_optimisation(plan: Plan, pretrained: bool, epochs: int, per_epoch: int) -> None:
    """Learning rate, warm-up, moving average and regularisation for the length of the run."""
    batch = int(plan.recipe.train.batch)
    optimizer = plan.recipe.train.optimizer
    usual = OPTIMIZERS[optimizer]
    base = usual.tuning if pretrained else usual.scratch
    kind = "fine-tuning" if pretrained else "training from scratch"
    plan.choose(
        "train.lr", float(f"{base * (batch / 64) ** 0.5:.3g}"),
        f"{base:g} for {kind} with {optimizer} at batch 64, times the root of {batch}/64",
    )  # fmt: skip
    plan.choose("train.weight_decay", usual.weight_decay, f"usual with {optimizer}")
    peak = peak_rate(plan.recipe)
    least, asked = plan.recipe.train.min_lr, plan.recipe.train
    if least > peak and asked.lr_batch and least <= float(asked.lr):  # the batch, not the user, made the peak so low
        plan.repair("train.min_lr", float(f"{least * batch / asked.lr_batch:.3g}"), "scaled by the batch, as the peak")
    if plan.recipe.train.min_lr > peak:
        raise RecipeError(
            f"train.min_lr = {plan.recipe.train.min_lr:g}: the rate at the end must not be above the peak, {peak:g}"
        )
    warmup = min(5.0, round(epochs * 0.1, 2))
    given = plan.choose("train.warmup_epochs", warmup, "a tenth of the run, five epochs at most")
    if float(given) >= epochs:
        plan.repair("train.warmup_epochs", warmup, f"a warm-up of {given} epochs would outlast the run of {epochs}")
    why = "not used: no moving average" if plan.recipe.train.ema is False else "half-life of a fiftieth of the run"
    plan.choose("train.ema_decay", average_decay(epochs * per_epoch), why)
    choose_start(plan, pretrained)


def choose_start(plan: Plan, pretrained: bool) -> None:
    """How the network begins, and what of it is left out in training."""
    plan.choose("model.drop_path", 0.1 if pretrained else 0.0, "a short run" if not pretrained else "fine-tuning")
    known = outline(plan.recipe.model.name)
    init, why = "paper", "as pretrained" if pretrained else "a wide network, or one of timm's"
    if not known.published:
        why = "as the paper starts; convnext roadmap --train gives model.init=fan_in to all steps"
    elif not pretrained and known.width is not None and known.width < 96:
        init, why = "fan_in", "a narrow network from scratch learns in half the epochs (docs/results.md)"
    init = str(plan.choose("model.init", init, why))
    own, why = known.layer_scale, "this network has none" if known.layer_scale == 0 else "as pretrained"
    if own and not pretrained:
        own, why = (1.0 if init == "fan_in" else 0.1), "blocks take part at once; 1e-6 costs a short run many steps"
    plan.choose("model.layer_scale", own, why)


def choose_loading(plan: Plan, pictures: int, mean_pixels: float, device: torch.device, here: int = 1) -> None:
    """Loader processes of each of the `here` processes on this machine, and the memory for decoded pictures of all."""
    cores = max(1, usable_cores() // here)
    workers = min(8, cores - 1) if device.type == "cuda" else min(4, max(1, cores // 2))
    plan.choose("data.workers", workers, f"{counted(cores, 'core')}" + (" for each process" if here > 1 else ""))
    side = train_short_side(int(plan.recipe.data.size), plan.recipe.augment.crop_min)
    need = here * pictures * min(mean_pixels, 1.4 * side * side) * plan.recipe.model.in_chans / 1e9
    budget = available_memory() * 0.3 / 1e9
    why = "decoded pictures stay in memory"
    if 1.2 * need > budget:
        rest = "the rest goes to the disk" if plan.recipe.data.disk_cache_gb else "data.disk_cache_gb is for the rest"
        why = f"what 30 % of the free memory holds; {rest}"
    plan.choose("data.cache_gb", round(min(1.2 * need, budget) + 0.05, 2), why)


def picture_sizes(dataset: Dataset, limit: int = 200) -> tuple[int, float]:
    """Median short side, pixels, and mean number of pixels of an even sample of the training pictures."""
    samples = dataset.splits["train"]
    chosen = [samples[i] for i in glimpse(samples, limit)]
    sizes = [size for size in (read_size(sample.path) for sample in chosen) if size is not None]
    if not sizes:
        raise DataError(f"none of {len(chosen)} training pictures can be opened any more; is the disk still there?")
    return int(np.median([min(s) for s in sizes])), float(np.mean([w * h for w, h in sizes]))


def _micro_batch(recipe: Recipe, batch: int) -> int:
    """The largest divisor of the batch whose activations fit into half of the memory, by an estimate."""
    if torch.cuda.is_available() and str(recipe.train.device).startswith("cuda"):
        memory = torch.cuda.mem_get_info()[0]
    else:
        memory = available_memory()
    fits = max(1, int(memory * 0.5 / estimated_bytes(recipe))) if memory else batch  # not known: as asked for
    return next(batch // parts for parts in range(1, batch + 1) if batch % parts == 0 and batch // parts <= fits)


def estimated_bytes(recipe: Recipe) -> float:
    """Bytes of a picture's activations that are kept for the backward pass, by an estimate."""
    own = outline(recipe.model.name).stem_patch
    alike = int(recipe.data.size) * own // int(recipe.model.stem_patch)  # the size that gives as much with the own stem
    return 4 * 2.2 * count(recipe.model.name, alike).activations


def _bf16_speed() -> float:
    """How many times faster a bf16 matrix product is than an fp32 one; the best of several rounds each."""
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    operands = {dtype: torch.randn(512, 512).to(dtype) for dtype in best}
    for _ in range(30):  # most of them may meet other work on the same cores
        for dtype, matrix in operands.items():
            start = time.perf_counter()
            matrix @ matrix
            best[dtype] = min(best[dtype], time.perf_counter() - start)
    return best[torch.float32] / best[torch.bfloat16]
