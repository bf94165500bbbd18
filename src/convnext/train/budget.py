"""What a time budget is spent on: network, stem, picture size and epochs, weighed by what the minutes allow.

From scratch a network must see the pictures many times before finer detail pays. So the cheapest setting comes first,
and a dearer one is taken as long as it still leaves enough epochs; each is timed on this machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from convnext.config import load_complete, override, to_toml
from convnext.data.names import count as counted
from convnext.nn.spec import outline
from convnext.recipe import Recipe
from convnext.run.folder import RunFolder, write_text
from convnext.run.record import clock
from convnext.run.state import Progress
from convnext.train.course import Changes
from convnext.train.distributed import Ranks
from convnext.train.plan import DEFAULT_MINUTES, MAX_EPOCHS_FINE_TUNING, MAX_EPOCHS_FROM_SCRATCH, Plan, Steps
from convnext.train.trial import JUDGING, Trial

ENOUGH_FROM_SCRATCH = 30
"""Epochs from which on more detail is worth more than more epochs (docs/results.md)."""
ENOUGH_FINE_TUNING = 5
"""The same with pretrained weights."""
FEW_STEPS = 600
"""From scratch, fewer optimizer steps than this teach little."""
SHARE = 0.97
"""Share of the budget that is planned; the rest is for what no measurement foresees."""
JUDGED = 0.1
"""Share of the budget that is kept for judging, at most."""
SIZES = (64, 96)
"""Picture sizes, pixels, that are cheaper than the usual one."""
LARGER = ("convnext_femto", "convnext_pico", "convnext_nano")
"""Networks for budgets in which the smallest one would see the pictures over and over."""
MANY_PICTURES, MANY_EPOCHS = 5_000, 100
"""A larger network is taken for so many pictures or more, where it still has so many epochs."""


@dataclass(frozen=True)
class Rung:
    """One setting: the network, the patch of its stem, and the side of the pictures."""

    name: str
    patch: int
    size: int

    @property
    def settings(self) -> dict[str, object]:
        """As keys of a recipe."""
        sides = dict.fromkeys(("data.size", "data.start_size", "data.eval_size"), self.size)
        return {"model.name": self.name, "model.stem_patch": self.patch, **sides}

    def __str__(self) -> str:
        return f"{self.name}, {self.size} pixels, a stem of {self.patch}"


def minutes_of(plan: Plan) -> float | None:
    """The budget of a plan, minutes; None where its length is given in epochs, or is not a matter of time."""
    train = plan.recipe.train
    if train.epochs != "auto" or (train.minutes == "auto" and train.device != "cpu"):
        return None
    return DEFAULT_MINUTES if train.minutes == "auto" else float(train.minutes)


def ladder(recipe: Recipe, usual: Rung, pictures: int, *, pretrained: bool) -> list[Rung]:
    """Settings from the cheapest to the dearest, among them the usual one; what the recipe names is the same in all.

    Args:
        recipe: as given, with "auto" where there is something to choose.
        usual: what would be chosen without a look at the clock.
        pictures: to train on.
        pretrained: whether there are weights, which belong to one network.
    """
    own = outline(usual.name)
    stride = own.stride * usual.patch // own.stem_patch
    rungs: list[Rung] = []
    if usual.patch < own.stem_patch and recipe.model.stem_patch == "auto" and recipe.data.size == "auto":
        finer = [patch for patch in reversed(own.stem_patches) if patch > usual.patch]
        fitting = [patch for patch in finer if own.stride * patch // own.stem_patch <= usual.size]
        rungs += [Rung(usual.name, patch, usual.size) for patch in fitting]
    elif recipe.data.size == "auto" and recipe.data.eval_size == "auto" and recipe.data.start_size == "auto":
        sizes = [size for size in SIZES if size < usual.size and size % stride == 0]
        rungs += [Rung(usual.name, usual.patch, size) for size in sizes]
    rungs.append(usual)
    if recipe.model.name == "auto" and not pretrained and pictures >= MANY_PICTURES and own.fixed_size is None:
        rungs += [Rung(name, usual.patch, usual.size) for name in LARGER if usual.name != name]
    return rungs


def climb(
    rungs: list[Rung], usual: Rung, seconds: float, seconds_per_epoch: Callable[[Rung], float], *, pretrained: bool
) -> tuple[Rung, float]:
    """The dearest setting that leaves enough epochs within `seconds`, and how long an epoch of it takes.

    Args:
        rungs: from the cheapest on; the first one is taken where none leaves enough.
        usual: from the one after it on, more epochs are asked for.
        seconds: the budget.
        seconds_per_epoch: measures one.
        pretrained: whether training starts from weights.
    """
    enough = ENOUGH_FINE_TUNING if pretrained else ENOUGH_FROM_SCRATCH
    above = rungs.index(usual) + 1
    taken = rungs[0], seconds_per_epoch(rungs[0])
    for number, rung in enumerate(rungs[1:], 1):
        each = seconds_per_epoch(rung)
        wanted = enough if number < above else MANY_EPOCHS
        if seconds / each < wanted:
            break
        taken = rung, each
    return taken


def choose_within(
    plan: Plan, usual: Rung, pictures: int, seconds_per_epoch: Callable[[Recipe], float], *, pretrained: bool
) -> None:
    """Fills up network, stem and size of a plan with a budget, by short measurements of what they would cost."""
    minutes = minutes_of(plan)
    rungs = ladder(plan.recipe, usual, pictures, pretrained=pretrained)
    if minutes is None or len(rungs) == 1:
        return
    seconds = minutes * 60 - (time.monotonic() - plan.began)
    rung, each = climb(
        rungs, usual, max(seconds, 1.0), lambda r: seconds_per_epoch(override(plan.recipe, r.settings)),
        pretrained=pretrained,
    )  # fmt: skip
    epochs = max(seconds, 1.0) / each
    if rung == usual:
        return
    at, why = rungs.index(rung), f"about {epochs:.0f} epochs in {minutes:g} min (measured)"
    if at > rungs.index(usual):
        why += f": time enough for more than {usual.name}"
    else:
        why += f"; {rungs[at + 1]} would leave too few"
    for key, value in rung.settings.items():
        plan.choose(key, value, why)


def choose_epochs(plan: Plan, measure: Callable[[], Trial], pictures: int, *, pretrained: bool, device: str) -> int:
    """Epochs: as given, or as many as the time budget holds by a measurement on this machine.

    Args:
        plan: is filled up.
        measure: times some steps.
        pictures: to train on.
        pretrained: whether training starts from weights.
        device: the kind of device.
    """
    if plan.recipe.train.epochs != "auto":
        return int(plan.recipe.train.epochs)
    most = MAX_EPOCHS_FINE_TUNING if pretrained else MAX_EPOCHS_FROM_SCRATCH
    if plan.recipe.train.minutes == "auto" and device != "cpu":
        return int(plan.choose("train.epochs", most // 3 if not pretrained else most, "a usual length"))
    minutes = float(plan.choose("train.minutes", DEFAULT_MINUTES, "a budget without a GPU; or set train.epochs"))
    found = measure()
    seconds = found.seconds_per_epoch
    after = min(found.after, JUDGED * 60 * minutes)
    left = minutes * 60 * SHARE - (time.monotonic() - plan.began) - found.before - after
    why = f"an epoch takes about {seconds:.2g} s here (measured), the budget is {minutes:g} min"
    plan.most_epochs, plan.after = most, after
    epochs = int(plan.choose("train.epochs", max(1, min(int(left / seconds), most)), why))
    if epochs == 1 and left < seconds:
        plan.note("train.minutes", f"warning: one epoch alone takes {clock(seconds)}; it will be cut short")
    _warn_of_few(plan, epochs * (pictures // int(plan.recipe.train.batch)), minutes, pretrained)
    return epochs


def of_run(recipe: Recipe, choices: object) -> Plan:
    """The plan of a run that begins again because it had saved nothing: its budget counts from now on."""
    plan = Plan(recipe)
    keys = [row.get("key") for row in choices if isinstance(row, dict)] if isinstance(choices, list) else []
    if recipe.train.minutes != "auto" and "train.epochs" in keys:
        plan.most_epochs = MAX_EPOCHS_FROM_SCRATCH if recipe.weights == "none" else MAX_EPOCHS_FINE_TUNING
        plan.after = min(JUDGING, JUDGED * 60 * float(recipe.train.minutes))
    return plan


def seconds_left(plan: Plan) -> float:
    """What is left of a plan's budget for the steps, now that the first one comes; 0 where there is no budget."""
    if not plan.most_epochs:
        return 0.0
    return max(1.0, float(plan.recipe.train.minutes) * 60 - (time.monotonic() - plan.began) - plan.after)


def set_length(done: Progress, plan: Plan, steps: Steps, ranks: Ranks) -> None:
    """The budget of a run that begins, or the changes of length that its recipe repeats."""
    done.replanned = [list(change) for change in plan.recipe.train.replanned]
    if not done.replanned:
        done.budget = ranks.together(lambda: seconds_left(plan))
        done.most_steps = plan.most_epochs * steps.per_epoch


def record_changes(run: RunFolder, changes: Changes) -> None:
    """Puts the changes of a run's length into its recipe, which a repetition then keeps to."""
    text = run.recipe.read_text(encoding="utf-8")
    header = [line.removeprefix("# ") for line in text.partition("\n\n")[0].splitlines() if line.startswith("#")]
    recipe = override(load_complete(run.recipe), {"train.replanned": changes})
    write_text(run.recipe, to_toml(recipe, "\n".join(header)))


def _warn_of_few(plan: Plan, steps: int, minutes: float, pretrained: bool) -> None:
    """Says so when too little can be learnt in the time."""
    if steps >= FEW_STEPS or pretrained:
        return
    longer = minutes * FEW_STEPS / max(1, steps)
    plan.note(
        "train.minutes",
        f"warning: {counted(steps, 'step')} from scratch will teach little; try train.minutes={longer:.2g}, "
        "pretrained weights (`convnext weights list`), or more pictures",
    )
