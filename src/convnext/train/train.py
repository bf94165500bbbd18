"""`convnext train`: from data and a recipe to a trained run folder. The loop itself is in `loop.py`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from convnext.config import load_complete, override, to_toml
from convnext.data.disk_cache import DiskBudget
from convnext.data.loader import EpochSampler, eval_loader, train_loader
from convnext.data.mixing import Mixing
from convnext.data.names import did_you_mean
from convnext.data.sources import Dataset, read_dataset
from convnext.errors import DataError, RunError, Stopped
from convnext.nn.download import find_weights
from convnext.nn.network import Network
from convnext.nn.weights import save_model
from convnext.recipe import Recipe
from convnext.run.environment import describe_environment, find_device, usable_cores
from convnext.run.folder import RunFolder, locked, new_run, open_run, refuse_small_disk, refuse_taken, write_text
from convnext.run.record import clock, progress, say
from convnext.run.sample import save_batch
from convnext.run.state import EMA, Progress, TrainState, read_state_file
from convnext.tasks.collect import EVAL_BATCH
from convnext.train import plan as planning
from convnext.train.loop import Loop
from convnext.train.parts import (
    Parts,
    build_model,
    describe_data,
    fingerprint,
    list_splits,
    make_optimizer,
    make_parts,
    model_config,
)
from convnext.train.plan import Plan, count_steps
from convnext.train.trial import seconds_per_epoch


def train_run(root: str | Path, recipe: Recipe, out: str | Path, *, overwrite: bool = False) -> RunFolder:
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
    root, out = Path(root), Path(out)
    _refuse_nesting(root, out)
    refuse_taken(out, overwrite=overwrite)
    _refuse_own_weights(recipe.weights, out)
    dataset = read_data(root, recipe)
    _refuse_absent(dataset, recipe.data.classes)
    recipe = override(recipe, {"data.root": str(dataset.root), "data.classes": dataset.classes})
    plan, model, parts = prepare(dataset, Plan(recipe))
    refuse_small_disk(out, 44 * sum(p.numel() for p in model.parameters()))  # state, two models, and each once more
    with new_run(out, overwrite=overwrite) as run:
        _introduce(dataset, plan, model)
        write_text(run.recipe, to_toml(plan.recipe, _header(run, dataset.root)))
        run.write_json("plan.json", plan.choices)
        run.write_json("environment.json", describe_environment(shlex.join(sys.argv)))
        run.write_json("data.json", describe_data(dataset))
        write_text(run.path / "splits.csv", list_splits(dataset))
        save_batch(run, parts.train_set, parts.preprocessing, plan.recipe, dataset)
        return _train(run, lambda: _loop(run, plan.recipe, dataset, model, parts))


def resume_run(out: Path, root: Path | None = None) -> RunFolder:
    """Goes on with a run that was stopped, from the last state that it saved, or from its beginning if it saved none.

    A run that is trained but was stopped before it was judged is given back as it is. `root`, where given, must be the
    data that the run is of.

    Raises:
        RunError: there is no run in `out`, it is of other data than `root`, its state is damaged, its data has changed,
            or it is already finished.
    """
    run = open_run(out)
    recipe = load_complete(run.recipe)
    if root is not None and root.expanduser().resolve() != Path(recipe.data.root).resolve():
        raise RunError(f"{out} is a run on {recipe.data.root}, not on {root}; leave DATA out to go on with it")
    saved = read_state_file(run.state)["progress"] if run.state.exists() else None
    if saved is not None and (saved["epoch"] >= int(recipe.train.epochs) or saved.get("stopped_early")):
        result = run.read_table("result.json") or {}
        if result.get("epochs") == saved["epoch"]:
            raise RunError(
                f"{out} is finished ({saved['epoch']} epochs); `convnext evaluate {out}` judges it again, "
                f"`convnext report {out}` writes its report again"
            )
        say(f"{out} is trained ({saved['epoch']} epochs), but was not judged")
        return run
    dataset = _same_data(run, recipe)
    device = find_device(str(recipe.train.device))
    with locked(run):
        model = build_model(recipe if saved is None else override(recipe, {"weights": "none"}), dataset)
        parts = make_parts(recipe, dataset)

        def make() -> Loop:
            loop = _loop(run, recipe, dataset, model, parts)
            if saved is not None:
                loop.state.load(run.state)
                at = loop.state.progress
                steps = f" and {at.step_in_epoch} steps of the next" if at.step_in_epoch else ""
                say(f"going on with {out} on {device} after epoch {at.epoch}{steps}")
            else:
                say(f"{out} was stopped before it saved anything: it starts again")
            return loop

        return _train(run, make)


def _same_data(run: RunFolder, recipe: Recipe) -> Dataset:
    """The data of a run that goes on; it must be what the run started with."""
    try:
        dataset = read_data(Path(recipe.data.root), recipe)
    except DataError as error:
        raise DataError(f"{error}. The run's data is data.root in {run.recipe}: if it moved, change it there") from None
    known = run.read_table("data.json")
    if known is not None and known.get("fingerprint") != fingerprint(dataset):
        counts = known.get("pictures")
        before = sum(counts.values()) if isinstance(counts, dict) else "an unknown number"
        now = sum(len(s) for s in dataset.splits.values())
        raise RunError(
            f"the pictures in {recipe.data.root} are not those that the run started with ({before} then, {now} now; "
            "names, labels or splits differ). Put them back, or start a new run"
        )
    return dataset


def _refuse_absent(dataset: Dataset, asked: tuple[str, ...]) -> None:
    """Every class that the user asks for, once, must have pictures to learn from."""
    for name, pictures in zip(dataset.classes, dataset.counts("train"), strict=True):
        if asked.count(name) > 1:
            raise DataError(f'data.classes names "{name}" {asked.count(name)} times; once is enough')
        if asked and not pictures:
            there = [c for c, n in zip(dataset.classes, dataset.counts("train"), strict=True) if n]
            raise DataError(
                f'{dataset.root}: class "{name}" of data.classes has no training pictures'
                f"{did_you_mean(name, there)}; take it out, or give it some"
            )
    if len(dataset.classes) < 2 and not dataset.multi_label:
        raise DataError(f"{dataset.root}: a single class; a classifier needs two or more to tell apart")


def _refuse_own_weights(weights: str, out: Path) -> None:
    """Weights that lie in the run to be replaced would be gone before the new one has saved anything."""
    file = Path(weights).expanduser()
    if weights and file.is_file() and file.resolve().is_relative_to(out.expanduser().resolve()):
        raise RunError(f'weights "{weights}" lie in --out {out}, which is to be replaced; give another --out')


def _refuse_nesting(root: Path, out: Path) -> None:
    """A run inside the data would become a class of it; data inside a run could be overwritten with it."""
    data, run = root.expanduser().resolve(), out.expanduser().resolve()
    if data.is_dir() and run.is_relative_to(data):
        raise RunError(f"--out {out} lies inside the data {root}; give a place outside, as --out ../runs/{data.name}")
    if data.is_relative_to(run) and run.exists() and any(run.iterdir()):
        raise RunError(f"the data {root} lies inside --out {out}; give --out a folder of its own")


def read_data(root: Path, recipe: Recipe, *, quiet: bool = False) -> Dataset:
    """The data set of a recipe, with every file checked, a progress bar, and unless `quiet` the loader's remarks."""
    data = recipe.data
    if not quiet:
        say(f"reading {root}")
    with progress("checking pictures", 1) as bar:
        dataset = read_dataset(
            root, val=data.val, test=data.test, classes=data.classes, path_column=data.path_column,
            label_column=data.label_column, split_column=data.split_column, progress=bar.update,
        )  # fmt: skip
    if quiet:
        return dataset
    for note in dataset.notes:
        say(note)
    for broken in dataset.broken[:10]:
        say(f"left out: {broken.path}: {broken.reason}")
    if len(dataset.broken) > 10:
        say(f"left out: {len(dataset.broken) - 10} more files; all are listed in data.json")
    return dataset


def prepare(dataset: Dataset, plan: Plan) -> tuple[Plan, Network, Parts]:
    """Fills up the recipe for this data and machine; the model it gives has its weights."""
    pictures = len(dataset.splits["train"])
    side, mean_pixels = planning.picture_sizes(dataset)
    device = planning.choose_device(plan)
    planning.choose_precision(plan, device)
    planning.choose_model(plan, device, side)
    found = find_weights(plan.recipe.model.name, plan.recipe.weights, say)
    if found is not None and Path(found.source).exists():
        plan.recipe = override(plan.recipe, {"weights": str(found.path.absolute())})
    if plan.recipe.weights == "auto":
        source = "none" if found is None else found.source
        plan.repair("weights", source, "within reach" if found else "no pretrained weights cached or reachable")
    planning.choose_batch(plan, device, pictures)
    planning.choose_loading(plan, pictures, mean_pixels, device)
    per_epoch = pictures // int(plan.recipe.train.batch)

    def measure() -> float:
        return seconds_per_epoch(dataset, plan.recipe, device)

    epochs = planning.choose_epochs(plan, measure, found is not None, device)
    planning.choose_optimisation(plan, found is not None, epochs, per_epoch)
    return plan, build_model(plan.recipe, dataset), make_parts(plan.recipe, dataset)


def _loop(run: RunFolder, recipe: Recipe, dataset: Dataset, model: Network, parts: Parts) -> Loop:
    device = find_device(str(recipe.train.device))
    network: nn.Module = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = count_steps(recipe, len(parts.train_set))
    optimizer = make_optimizer(network, recipe, device)
    ema = EMA(network, float(recipe.train.ema_decay)) if recipe.train.ema else None
    sampler = EpochSampler(len(parts.train_set), int(recipe.train.batch), recipe.train.seed, int(recipe.data.size))
    _fill_caches(parts, recipe)
    config = model_config(recipe, dataset, parts.preprocessing)

    def save(name: str, weights: dict[str, Tensor], epoch: int, source: str) -> None:
        save_model(run.path / name, weights, config | {"epoch": epoch, "source": source})

    workers = int(recipe.data.workers)
    return Loop(
        run, recipe, steps, parts.task, TrainState(network, optimizer, ema, Progress()), device, parts.preprocessing,
        Mixing(recipe.augment.mixup, recipe.augment.cutmix, recipe.augment.mix_probability, recipe.train.seed,
               recipe.augment.mix_switch),
        sampler, train_loader(parts.train_set, sampler, parts.collate, workers, device.type == "cuda"),
        eval_loader(parts.val_set, parts.collate, EVAL_BATCH, 0 if parts.val_set.cache is not None else workers), save,
    )  # fmt: skip


def _train(run: RunFolder, make: Callable[[], Loop]) -> RunFolder:
    """Makes the loop and runs it to its end."""
    try:
        loop = make()
        loop.run_all()
    except KeyboardInterrupt:
        raise Stopped(str(run.path)) from None
    except RuntimeError as error:
        explained = _explained(error, run)
        if explained is error:
            raise
        raise explained from error
    done = loop.state.progress
    say(
        f"trained {done.epoch} epochs in {clock(done.seconds)}; best epoch on validation: {done.best_epoch} "
        f"({loop.task.title} {100 * done.best:.1f} %, {'moving average' if done.best_source == 'ema' else 'model'})"
    )
    return run


def _explained(error: Exception, run: RunFolder) -> Exception:
    """What the user can do about a failure that is the machine's; another error comes back as it is."""
    first = (str(error) or type(error).__name__).splitlines()[0]
    go_on = f"then go on with: convnext train --resume --out {shlex.quote(str(run.path))}"
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in first:
        return RunError(
            f"the memory is full ({first}); set train.micro_batch or model.checkpointing = true in {run.recipe}, "
            f"{go_on}"
        )
    if first.startswith("DataLoader worker"):
        return RunError(
            f"a process that loads pictures was ended from outside ({first}); set data.workers = 0 in {run.recipe} or "
            f"give more shared memory (docker: --shm-size), {go_on}"
        )
    return error


def _fill_caches(parts: Parts, recipe: Recipe) -> None:
    """Decodes pictures into memory, the validation pictures first, and onto the disk, within the recipe's budgets."""
    budget, on_disk = (int(float(gigabytes) * 1e9) for gigabytes in (recipe.data.cache_gb, recipe.data.disk_cache_gb))
    if budget <= 0 and on_disk <= 0:
        return
    workers, pictures = usable_cores(), len(parts.train_set)
    view = parts.preprocessing.in_chans * parts.preprocessing.size**2
    if len(parts.val_set) * view <= budget // 4:
        parts.val_set.fill_cache(budget // 4, workers)
    disk = DiskBudget(recipe.data.root, on_disk, say) if on_disk > 0 else None
    with progress("decoding", pictures) as bar:
        parts.train_set.fill_cache(budget, workers, bar.update, disk)
    if disk is not None and parts.train_set.cache is not None:
        held, kept = parts.train_set.cache.count()
        anew = f", {pictures - held - kept:,} decoded every epoch" if pictures > held + kept else ""
        say(f"decoded pictures: {held:,} in memory, {kept:,} on disk{anew}")


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
