"""`convnext train`: from data and a recipe to a trained run folder. The loop itself is in `loop.py`."""

from __future__ import annotations

import contextlib
import shlex
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convnext.config import override, to_toml
from convnext.data.feed.loader import eval_loader, train_loader
from convnext.data.feed.mixing import Mixing
from convnext.data.names import called
from convnext.data.pictures.transforms import mix_seed
from convnext.data.sources.dataset import Dataset
from convnext.data.sources.reading import Reading
from convnext.errors import LoaderLost, MemoryFull, RunError, SourceLost, Stopped
from convnext.nn.network import Network
from convnext.nn.weights.load import save_model
from convnext.recipe import Recipe
from convnext.run.contents import write_contents
from convnext.run.cores import CORES
from convnext.run.environment import command_line, describe_environment, find_device
from convnext.run.folder import (
    RunFolder,
    new_run,
    refuse_small_disk,
    refuse_taken,
    resuming,
    write_text,
)
from convnext.run.reading import read_data
from convnext.run.record import clock, say, silenced
from convnext.run.sample import save_batch
from convnext.run.state import EMA, Progress, TrainState
from convnext.tasks.collect import EVAL_BATCH
from convnext.tasks.table import decided, targets_of
from convnext.train import budget
from convnext.train.distributed import Ranks, joined, planned
from convnext.train.freeze import Freezing
from convnext.train.judging import Judge, build_twin
from convnext.train.loop import Loop
from convnext.train.numerics import make_scaler, refuse_impossible, set_up
from convnext.train.optimizers import make_optimizer
from convnext.train.parts import (
    Parts,
    build_model,
    make_sampler,
    model_config,
)
from convnext.train.plan import Plan, count_steps
from convnext.train.prepare import (
    fill_caches,
    fill_up,
    found_in,
    introduce,
    prepare,
    refuse_nesting,
    refuse_own_weights,
)
from convnext.train.preview import describe_plan
from convnext.train.sharded import ShardedState, shard


def train_run(
    root: str | Path,
    recipe: Recipe,
    out: str | Path,
    *,
    overwrite: bool = False,
    after_epoch: Callable[[dict[str, Any]], None] | None = None,
    known: Dataset | None = None,
) -> RunFolder:
    """Trains a model on `root` as the recipe says and leaves everything in the run folder `out`.

    Args:
        root: image folder or CSV table.
        recipe: may hold "auto"; what was chosen is written to `out/recipe.toml` before the first step.
        out: a new or empty folder.
        overwrite: replace a run that is in `out`.
        after_epoch: is given each epoch's line of the log; what it raises ends the run.
        known: what `read_data` gave for `root`, from a caller that trains on it again and again: it is not read
            anew, and nothing is said of it and of what is chosen.

    Raises:
        UserError: the data, the recipe, the weights or the folder cannot be used; nothing was overwritten then.
        NonFiniteLoss: the loss is not a number; the last good state is kept.
        KeyboardInterrupt: Ctrl-C; the state is saved.

    Examples:
        >>> import convnext
        >>> from convnext.config import recipe_of
        >>> recipe = recipe_of(None, {"weights": "none", "name": "convnext_atto", "size": 32, "epochs": 1})
        >>> convnext.train_run("photos", recipe, "runs/other").read_log()[0]["epoch"]
        1
    """
    root, out, began = Path(root), Path(out), time.monotonic()
    with joined(recipe.train.device) as ranks, silenced(not ranks.first), watched(ranks):
        ranks.together(lambda: _refuse_places(root, recipe, out, overwrite=overwrite))
        recipe = ranks.agree(lambda: decided(recipe, root))
        reading, targets = Reading.of(recipe.data), targets_of(recipe)
        dataset = known or ranks.agree(lambda: read_data(root, reading, targets))
        if ranks.world > 1:
            ranks.refuse_different(
                dataset.fingerprint() + dataset.digest_of_contents(),
                f"{called(dataset.root)} must hold the same pictures for every process",
            )
        ranks.agree(lambda: targets.refuse_unlearnable(dataset, reading))
        recipe = override(recipe, found_in(dataset))
        plan, model, parts = prepare(dataset, Plan(recipe, began=began), ranks)
        with contextlib.ExitStack() as stack:
            ranks.together(lambda: _open_new(stack, out, model, overwrite=overwrite))
            run = RunFolder(out)
            if ranks.first:
                if known is None:
                    introduce(dataset, plan, model)
                write_text(run.recipe, to_toml(plan.recipe, _header(run, called(dataset.root))))
                run.write_json("plan.json", plan.choices)
                describe(run, dataset, plan.recipe, parts)

            def make() -> Loop:
                loop = make_loop(run, plan.recipe, dataset, model, parts, ranks)
                loop.after_epoch = after_epoch
                budget.set_length(loop.state.progress, plan, loop.steps, ranks)
                return loop

            return run_loop(run, make)


def watched(ranks: Ranks) -> contextlib.AbstractContextManager[None]:
    """Others on the same cores are noticed by a process that has the machine for itself; several share it out."""
    return CORES.watched() if ranks.world == 1 else contextlib.nullcontext()


def describe(run: RunFolder, dataset: Dataset, recipe: Recipe, parts: Parts) -> None:
    """Writes down the machine and a name that no other run has, the data, and a batch as the network sees it."""
    run.write_json("environment.json", describe_environment(command_line()) | {"run": uuid.uuid4().hex})
    run.write_json("data.json", dataset.describe() | {"task": parts.task.name})
    write_contents(run, dataset)
    write_text(run.path / "splits.csv", dataset.list_splits())
    save_batch(run, parts.train_set, parts.preprocessing, recipe, dataset)


def _refuse_places(root: Path, recipe: Recipe, out: Path, *, overwrite: bool) -> None:
    refuse_nesting(root, out)
    refuse_taken(out, overwrite=overwrite)
    refuse_own_weights(recipe.weights, out)


def _open_new(stack: contextlib.ExitStack, out: Path, model: nn.Module, *, overwrite: bool) -> None:
    refuse_small_disk(out, 60 * sum(p.numel() for p in model.parameters()))  # two states, two models, and one more
    stack.enter_context(new_run(out, overwrite=overwrite))


def preview_run(root: str | Path, recipe: Recipe, *, gpus: int = 1, nodes: int = 1) -> str:
    """What `train_run` would do, in words: choices, steps, schedule, memory and time from three timed steps.

    It is found by one process; what `nodes` machines with `gpus` processes each would do is planned, and the steps that
    are timed are those of one process's share.

    Raises:
        UserError: as `train_run`.
    """
    recipe = decided(recipe, root)
    reading, targets = Reading.of(recipe.data), targets_of(recipe)
    dataset = read_data(Path(root), reading, targets)
    targets.refuse_unlearnable(dataset, reading)
    recipe = override(recipe, found_in(dataset))
    ranks = planned(gpus, nodes)
    plan = fill_up(dataset, Plan(recipe), ranks)
    introduce(dataset, plan, build_model(plan.recipe, dataset))
    try:
        return describe_plan(dataset, plan.recipe, ranks.world)
    except RuntimeError as error:
        if (what := _memory(error)) is None:
            raise
        raise MemoryFull(f"{what}; set {_LESS}") from None


def make_loop(run: RunFolder, recipe: Recipe, dataset: Dataset, model: Network, parts: Parts, ranks: Ranks) -> Loop:
    """A run at its beginning, ready to go; where it shall go on, the state is loaded afterwards."""
    device = find_device(str(recipe.train.device))
    layout = torch.channels_last if recipe.train.channels_last else torch.contiguous_format
    network: nn.Module = model.to(device, memory_format=layout)  # type: ignore[call-overload]
    fill_caches(parts, recipe, ranks)
    workers = int(recipe.data.workers)
    twin = build_twin(network)
    state = _shared_out(network, recipe, ranks, device)
    state.progress.best = parts.task.scores[0].worst
    freezing = Freezing(state.model, recipe)  # after the optimizer, which has the weights that learn later too
    freezing.begin(state.model, 0)
    set_up(state.model, recipe, device)
    sampler = make_sampler(
        parts.train_set, int(recipe.train.batch), recipe.train.seed, int(recipe.data.size), ranks.rank, ranks.world
    )
    judge = _judge(twin, parts, recipe, ranks, device)

    def save(name: str, weights: dict[str, Tensor], epoch: int, source: str) -> None:
        config = model_config(recipe, parts, judge.settled.get(source, {}))
        save_model(run.path / name, weights, config | {"epoch": epoch, "source": source})

    loop = Loop(
        run, recipe, count_steps(recipe, len(parts.train_set)), parts.task, state, device, parts.preprocessing,
        _mixing(recipe, ranks), sampler,
        train_loader(parts.train_set, sampler, parts.collate, workers, device.type == "cuda"),
        judge, save, ranks, freezing,
    )  # fmt: skip
    if ranks.first:
        loop.after_change = partial(budget.record_changes, run)
    return loop


def _shared_out(network: nn.Module, recipe: Recipe, ranks: Ranks, device: torch.device) -> TrainState:
    """The state of this process; what it draws, as for drop path, is its own."""
    refuse_impossible(recipe, device, ranks.world)
    if ranks.rank:
        torch.manual_seed(mix_seed(recipe.train.seed, ranks.rank))
    sharded = recipe.train.sharding == "fsdp2"
    if sharded:
        network = shard(network, ranks, device)
    optimizer = make_optimizer(network, recipe, device)
    train = recipe.train
    ema = EMA(network, float(train.ema_decay), warmup=train.ema_warmup) if train.ema else None
    kind = ShardedState if sharded else TrainState
    return kind(network, optimizer, ema, Progress(), make_scaler(recipe, device))


def _mixing(recipe: Recipe, ranks: Ranks) -> Mixing:
    """Each process mixes its own pictures, by draws of its own."""
    augment = recipe.augment
    seed = mix_seed(recipe.train.seed, ranks.rank) if ranks.rank else recipe.train.seed
    return Mixing(augment.mixup, augment.cutmix, augment.mix_probability, seed, augment.mix_switch)


def _judge(twin: nn.Module, parts: Parts, recipe: Recipe, ranks: Ranks, device: torch.device) -> Judge:
    """Each process has one validation picture in `world`."""
    batches = eval_loader(
        parts.val_set, parts.collate, EVAL_BATCH, 0 if parts.val_set.cache is not None else int(recipe.data.workers),
        range(ranks.rank, len(parts.val_set), ranks.world),
    )  # fmt: skip
    return Judge(twin, batches, parts.task, parts.preprocessing, device, recipe.train.precision, ranks)


def run_loop(run: RunFolder, make: Callable[[], Loop]) -> RunFolder:
    """Makes the loop and runs it to its end."""
    try:
        loop = make()
        loop.run_all()
    except KeyboardInterrupt:
        raise Stopped(str(run.path)) from None
    except SourceLost as error:
        again = resuming(run.path)
        raise SourceLost(f"{error}; training stopped, and goes on from the last saved state by: {again}") from None
    except LoaderLost as error:
        raise _without_loaders(error.cause, run) from None
    except RuntimeError as error:
        explained = _explained(error, run)
        if explained is error:
            raise
        raise explained from error
    done, score = loop.state.progress, loop.task.scores[0]
    say(
        f"trained {done.epoch} epochs in {clock(done.seconds)}; best epoch on validation: {done.best_epoch} "
        f"({score.title} {score.text(done.best)}, {'moving average' if done.best_source == 'ema' else 'model'})"
    )
    return run


def _explained(error: Exception, run: RunFolder) -> Exception:
    """What the user can do about a failure that is the machine's; another error comes back as it is."""
    first = (str(error) or type(error).__name__).splitlines()[0]
    go_on = f"then go on with: {resuming(run.path)}"
    if (what := _memory(error)) is not None:
        return MemoryFull(f"{what}; set {_LESS} in {run.recipe}, {go_on}")
    if first.startswith("DataLoader worker"):
        return _without_loaders(f"a process that loads pictures was ended from outside ({first})", run)
    return error


def _without_loaders(cause: str, run: RunFolder) -> RunError:
    return RunError(
        f"{cause}; set data.workers = 0 in {run.recipe} or give more shared memory (docker: --shm-size), then go on "
        f"with: {resuming(run.path)}"
    )


_LESS = "a smaller train.micro_batch or model.checkpointing = true, or a smaller data.eval_size for validation"


def _memory(error: Exception) -> str | None:
    """That the memory is full, where an error says so."""
    first = (str(error) or type(error).__name__).splitlines()[0]
    full = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in first
    return f"the memory is full ({first})" if full else None


def _header(run: RunFolder, root: str) -> str:
    again = shlex.join(["convnext", "train", root, str(run.recipe), "--out", f"{run.path}-again"])
    return f"The complete recipe of this run, as it was run.\nAgain: {again}"
