"""What proposes a trial's settings, and what stops a hopeless one: Optuna's samplers and pruners by name."""

from __future__ import annotations

import math
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from convnext.data.names import did_you_mean
from convnext.errors import UserError
from convnext.study.space import Knob

if TYPE_CHECKING:
    import optuna

SAMPLERS = ("tpe", "cmaes", "nsga2", "random", "grid")
PRUNERS = ("median", "hyperband", "none")
POPULATION = 10
"""Trials in a generation of NSGA-II."""
_SEEDS = 1_000_003


def refuse_unfit(sampler: str, pruner: str, knobs: tuple[Knob, ...]) -> None:
    """Raises a UserError for a name that is not known, and for a sampler that cannot search this space."""
    for name, known, option in ((sampler, SAMPLERS, "sampler"), (pruner, PRUNERS, "pruner")):
        if name not in known:
            raise UserError(
                f'--{option} "{name}" is not known; there are {", ".join(known)}{did_you_mean(name, list(known))}'
            )
    ranges = [knob for knob in knobs if not knob.choices]
    if sampler == "grid" and (endless := [knob.key for knob in knobs if not knob.grid]):
        raise UserError(
            f"--sampler grid tries every value, but {', '.join(endless)} has no end of them; write choices or a step, "
            "or use tpe"
        )
    if sampler == "cmaes":
        if len(ranges) < 2:
            raise UserError(
                f"--sampler cmaes follows two ranges of numbers or more, and the space has {len(ranges)}; use tpe"
            )
        if find_spec("cmaes") is None:
            raise UserError("--sampler cmaes needs the package cmaes: pip install cmaes")


def grid_size(knobs: tuple[Knob, ...]) -> int:
    """How many combinations the values have."""
    return math.prod(len(knob.grid) for knob in knobs)


def grid_point(knobs: tuple[Knob, ...], slot: int) -> dict[str, Any]:
    """The combination with number `slot`; the last key varies fastest."""
    point = {}
    for knob in reversed(knobs):
        slot, index = divmod(slot, len(knob.grid))
        point[knob.key] = knob.grid[index]
    return point


def make_sampler(name: str, knobs: tuple[Knob, ...], seed: int, slot: int) -> optuna.samplers.BaseSampler:
    """The sampler for the trial in place `slot`, seeded by it, so that a search that was stopped goes on as it would
    have."""
    from optuna import samplers as s

    own = seed * _SEEDS + slot
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls two of these experimental
        if name == "grid":
            return s.PartialFixedSampler(grid_point(knobs, slot), s.RandomSampler(seed=own))
        if name == "random":
            return s.RandomSampler(seed=own)
        if name == "cmaes":
            from convnext.study.cma import CMASampler

            return CMASampler(knobs, own)
        if name == "nsga2":
            return s.NSGAIISampler(seed=own, population_size=POPULATION)
        return s.TPESampler(seed=own, n_startup_trials=8, constant_liar=True)


def make_pruner(name: str, epochs: int | str) -> optuna.pruners.BasePruner:
    """The pruner; `epochs` of a whole trial, where they are known. The first epoch decides nothing."""
    from optuna import pruners as p

    if name == "none":
        return p.NopPruner()
    if name == "hyperband":
        return p.HyperbandPruner(min_resource=1, max_resource=epochs if isinstance(epochs, int) else "auto")
    return p.MedianPruner(n_startup_trials=4, n_warmup_steps=2)
