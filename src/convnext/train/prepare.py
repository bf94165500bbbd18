"""What happens before the first step: the data is read, the recipe filled up, the model built, pictures decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from convnext.config import override
from convnext.data.feed.disk_cache import DiskBudget
from convnext.data.names import called, is_pattern
from convnext.data.shards.read import ShardSamples
from convnext.data.sources.dataset import Dataset
from convnext.errors import RecipeError, RunError
from convnext.nn.network import Network
from convnext.nn.weights.download import find_weights
from convnext.nn.weights.places import split_part
from convnext.recipe import Recipe
from convnext.run.environment import usable_cores
from convnext.run.loggers import refuse_missing
from convnext.run.record import progress, say
from convnext.tasks.table import task_of
from convnext.train import budget
from convnext.train import plan as planning
from convnext.train.course import Course
from convnext.train.distributed import Ranks, part_of
from convnext.train.doctor import examine
from convnext.train.freeze import examine_freezing
from convnext.train.numerics import refuse_impossible
from convnext.train.parts import Parts, build_model, make_parts
from convnext.train.plan import Plan
from convnext.train.statistics import choose_statistics
from convnext.train.trial import glance, try_steps
from convnext.train.values import choose_range


def refuse_own_weights(weights: str, out: Path) -> None:
    """Weights that lie in the run to be replaced would be gone before the new one has saved anything."""
    file = split_part(Path(weights))[0]
    if weights and file.exists() and file.resolve().is_relative_to(out.expanduser().resolve()):
        raise RunError(f'weights "{weights}" lie in --out {out}, which is to be replaced; give another --out')


def refuse_nesting(root: Path, out: Path) -> None:
    """A run inside the data would become a class of it; data inside a run could be overwritten with it."""
    data, run = root.expanduser().resolve(), out.expanduser().resolve()
    if not is_pattern(data) and data.is_dir() and run.is_relative_to(data):
        raise RunError(f"--out {out} lies inside the data {root}; give a place outside, as --out ../runs/{data.name}")
    if data.is_relative_to(run) and run.exists() and any(run.iterdir()):
        raise RunError(f"the data {root} lies inside --out {out}; give --out a folder of its own")


def found_in(dataset: Dataset) -> dict[str, Any]:
    """What a recipe is to say about the data, once they are read: where, what to learn, by which column split."""
    found: dict[str, Any] = {"data.root": called(dataset.root), **dataset.meaning.settings()}
    if dataset.split_column:
        found["data.split_column"] = dataset.split_column
    return found


def fill_up(dataset: Dataset, plan: Plan, ranks: Ranks) -> Plan:
    """The recipe with nothing left open, for this data, this machine and so many processes.

    Raises:
        UserError: something asked for is not there, or cannot work.
    """
    pictures = len(dataset.splits["train"])
    side, mean_pixels = planning.picture_sizes(dataset)
    device = planning.choose_device(plan)
    if ranks.world > 1 and device.index is not None:
        raise RecipeError(
            f'train.device = "{plan.recipe.train.device}": with {ranks.world} processes each takes a device of its '
            f'own; write "{device.type}"'
        )
    refuse_missing(plan.recipe.train.logger)
    planning.choose_precision(plan, device)
    refuse_impossible(plan.recipe, device, ranks.world)
    usual = Plan(plan.recipe)
    planning.choose_model(usual, device, side)
    found = find_weights(usual.recipe.model.name, plan.recipe.weights, say)
    if device.type == "cpu":
        model, size = usual.recipe.model, int(usual.recipe.data.size)
        budget.choose_within(
            plan, budget.Rung(model.name, int(model.stem_patch), size), pictures,
            lambda recipe: glance(recipe, dataset, device, ranks.world), pretrained=found is not None,
        )  # fmt: skip
    planning.choose_model(plan, device, side)
    if found is not None and found.given:
        plan.recipe = override(plan.recipe, {"weights": str(found.path.absolute())})
    if plan.recipe.weights == "auto":
        source = "none" if found is None else found.source
        plan.repair("weights", source, "within reach" if found else "no pretrained weights cached or reachable")
    examine_freezing(plan)
    choose_range(plan, dataset)
    choose_statistics(plan, found)
    planning.choose_batch(plan, device, pictures, ranks.world)
    part_of(int(plan.recipe.train.batch), ranks)
    if dataset.in_shards:
        plan.choose("data.cache_gb", 0.0, "pictures in shards are read as they are needed")
    planning.choose_loading(plan, pictures, mean_pixels, device, ranks.here)
    per_epoch = pictures // int(plan.recipe.train.batch)

    epochs = budget.choose_epochs(
        plan, lambda: try_steps(dataset, plan.recipe, device, ranks.world), pictures, pretrained=found is not None,
        device=device.type,
    )  # fmt: skip
    planning.choose_optimisation(plan, found is not None, epochs, per_epoch)
    examine(plan, pictures, device, ranks.world, ranks.here)
    Course(planning.count_steps(plan.recipe, pictures), plan.recipe.train.replanned)  # refuses what cannot be repeated
    return plan


def prepare(dataset: Dataset, plan: Plan, ranks: Ranks | None = None) -> tuple[Plan, Network, Parts]:
    """Fills up the recipe, by rank 0 for all; the model it gives has its weights."""
    ranks = ranks or Ranks()
    plan = ranks.together(lambda: fill_up(dataset, plan, ranks))
    return plan, build_model(plan.recipe, dataset), make_parts(plan.recipe, dataset)


def fill_caches(parts: Parts, recipe: Recipe, ranks: Ranks) -> None:
    """Decodes pictures into memory, the validation pictures first, and onto the disk, within the recipe's budgets.

    The processes of a machine have an equal share of the memory each, and the disk together: the first of them writes
    there, while the others wait.
    """
    memory, on_disk = (int(float(gigabytes) * 1e9) for gigabytes in (recipe.data.cache_gb, recipe.data.disk_cache_gb))
    if isinstance(parts.train_set.samples, ShardSamples) or (memory <= 0 and on_disk <= 0):
        return
    if on_disk > 0 and ranks.local > 0:
        ranks.wait()
    _fill(parts, recipe.data.root, memory // ranks.here, on_disk, max(1, usable_cores() // ranks.here))
    if on_disk > 0 and ranks.local == 0:
        ranks.wait()


def _fill(parts: Parts, root: str, budget: int, on_disk: int, workers: int) -> None:
    pictures = len(parts.train_set)
    view = parts.preprocessing.in_chans * parts.preprocessing.size**2
    if len(parts.val_set) * view <= budget // 4:
        parts.val_set.fill_cache(budget // 4, workers)
    disk = DiskBudget(root, on_disk, say) if on_disk > 0 else None
    with progress("decoding", pictures) as bar:
        parts.train_set.fill_cache(budget, workers, bar.update, disk)
    if disk is not None and parts.train_set.cache is not None:
        held, kept = parts.train_set.cache.count()
        anew = f", {pictures - held - kept:,} decoded every epoch" if pictures > held + kept else ""
        say(f"decoded pictures: {held:,} in memory, {kept:,} on disk{anew}")


def introduce(dataset: Dataset, plan: Plan, model: nn.Module) -> None:
    """Says what is about to happen, and every choice with its reason."""
    sizes = ", ".join(f"{len(samples)} {split}" for split, samples in dataset.splits.items())
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    say(f"{called(dataset.root)}: {task_of(plan.recipe, dataset).describe()}; pictures: {sizes}")
    say(f"{plan.recipe.model.name}, {millions:.1f} M parameters; chosen for this data and machine:")
    for choice in plan.choices:
        say(f"  {choice['key'] + ' = ' + str(choice['value']):<34} {choice['why']}")
