"""What is known of a recipe before it has any data: its groups, its schedule, whether it can work at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convnext.config import find_recipe, load_recipe, override, shipped_names, to_toml
from convnext.data.sources.dataset import Dataset
from convnext.data.sources.reading import Reading
from convnext.errors import UserError
from convnext.nn.network import Network
from convnext.nn.spec import spec_of
from convnext.recipe import Recipe
from convnext.run.reading import read_data
from convnext.tasks.table import decided, targets_of
from convnext.train.distributed import Ranks
from convnext.train.groups import parameter_groups
from convnext.train.optimizers import decay_of
from convnext.train.plan import Plan, Steps, count_steps, peak_rate, rate_at
from convnext.train.prepare import fill_up, found_in


@dataclass(frozen=True)
class Checked:
    """A recipe's verdict: its name, whether it can run, and what was said about it."""

    name: str
    good: bool
    said: tuple[str, ...]


def list_shipped() -> list[dict[str, str]]:
    """Name and first line of every shipped recipe."""
    rows = []
    for name in shipped_names():
        with find_recipe(name).open(encoding="utf-8") as file:
            rows.append({"name": name, "title": file.readline().lstrip("# ").strip()})
    return rows


def bare_model(recipe: Recipe) -> Network:
    """The recipe's network without memory for its weights."""
    named = override(recipe, {"model.name": "convnext_atto"}) if recipe.model.name == "auto" else recipe
    return spec_of(named).on_meta()


def groups_of(recipe: Recipe) -> list[dict[str, Any]]:
    """The parameter groups from the stem to the head: share of the rate, weight decay, names, numbers."""
    train = recipe.train
    return [asdict(group) for group in parameter_groups(bare_model(recipe), decay_of(recipe), train.layer_decay)]


def describe(recipe: Recipe, pictures: int) -> str:
    """The recipe, the table of its groups, and its schedule over so many pictures."""
    lines = [to_toml(recipe).rstrip(), "", "parameter groups (the rate of each is the schedule's times its share):"]
    lines.append("  group  of the rate  weight decay   parameters  first ... last")
    for group in groups_of(recipe):
        names = group["names"]
        span = names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]}"
        share, decay = f"{group['scale']:.4g}", f"{group['weight_decay']:.3g}"
        lines.append(f"  {group['layer']:>5}  {share:>11}  {decay:>12}  {group['parameters']:>11,}  {span}")
    return "\n".join([*lines, "", *_schedule(recipe, pictures)])


def _schedule(recipe: Recipe, pictures: int) -> list[str]:
    """Some moments of the run; what is "auto" has no schedule yet."""
    train = recipe.train
    if "auto" in (train.epochs, train.batch, train.lr, train.warmup_epochs):
        return ["schedule: left to the data and the machine (`convnext train DATA --dry-run` shows it)"]
    steps: Steps = count_steps(recipe, pictures)
    if not steps.per_epoch:
        return [f"schedule: none, {pictures:,} pictures do not fill one batch of {train.batch}"]
    lines = [
        f"schedule over {pictures:,} pictures: {steps.total:,} steps, {steps.per_epoch:,} an epoch; warm-up of "
        f"{steps.warmup:,} steps to {peak_rate(recipe):.4g}, then a cosine to {train.min_lr:.4g}"
    ]
    if float(train.warmup_epochs) >= int(train.epochs):
        lines.append(
            f"  a warm-up of {train.warmup_epochs:g} epochs would outlast the run of {train.epochs}: train shortens it"
        )
    marks = sorted({0, max(0, steps.warmup - 1), *(round((steps.total - 1) * i / 5) for i in range(6))})
    return lines + [f"  step {step + 1:>10,}: {rate_at(recipe, steps, step):.4g}" for step in marks]


def check_all(names: list[str], data: Path | None, settings: Sequence[str] = ()) -> list[Checked]:
    """Every named recipe, or every shipped one, with `key=value` settings; also against data and this machine."""
    dataset: Dataset | None = None
    found = []
    for name in names or shipped_names():
        try:
            recipe = load_recipe(find_recipe(name), settings)
            if data is not None and dataset is None:
                recipe = decided(recipe, data)
                dataset = read_data(data, Reading.of(recipe.data), targets_of(recipe), quiet=True)
            found.append(Checked(name, True, tuple(_check(recipe, dataset))))
        except UserError as error:
            found.append(Checked(name, False, tuple(str(error).splitlines())))
    return found


def _check(recipe: Recipe, dataset: Dataset | None) -> list[str]:
    """Raises what is wrong; gives what would be chosen and repaired for the data."""
    groups = groups_of(recipe)
    total, millions = sum(group["parameters"] for group in groups), 1e6
    said = [f"{recipe.model.name}, {total / millions:.1f} M parameters, {len(groups)} groups"]
    if dataset is not None:
        recipe = override(recipe, found_in(dataset))
        plan = fill_up(dataset, Plan(override(recipe, {"weights": "none"})), Ranks())
        said += [f"{choice['key']} = {choice['value']}: {choice['why']}" for choice in plan.choices]
    return said
