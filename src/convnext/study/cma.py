"""CMA-ES for a search, worked out anew from its trials.

Optuna's own sampler keeps its state in the study as a pickle, and opening a pickle runs whatever its maker wrote. A
study may come from somebody else, so nothing in it is ever unpickled: the steps of the evolution follow from the
trials' settings and values (Hansen, "The CMA Evolution Strategy: A Tutorial", 2016), which are numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from cmaes import CMA
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from convnext.study.space import Knob
from convnext.study.trials import GENERATION

_OF_OPTUNA = "cma:generation"
"""Where studies of before have a trial's generation, as Optuna's sampler noted it."""

Vector = NDArray[np.float64]


class CMASampler(optuna.samplers.BaseSampler):
    """Proposes the ranges of numbers among `knobs`; the rest, and the first trial, are drawn at random.

    Args:
        knobs: the space.
        seed: of this one trial's draws.

    Attributes:
        generation: of the last proposal, None where it was drawn at random.
    """

    def __init__(self, knobs: tuple[Knob, ...], seed: int) -> None:
        ranges = [knob for knob in knobs if not knob.choices and knob.low < knob.high]
        self.ranges = sorted(ranges, key=lambda knob: knob.key)
        self.seed = seed
        self.random = optuna.samplers.RandomSampler(seed=seed)
        self.generation: int | None = None

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The ranges, once a trial has ended."""
        return {knob.key: knob.distribution() for knob in self.ranges} if self._ended(study) else {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A proposal from the distribution that the trials so far have led to."""
        ended = self._ended(study)
        if not search_space:
            return {}
        rng = np.random.RandomState(self.seed)
        if not any(generation for _, _, generation in ended):
            rng.randint(1, 2**31 - 2)
        side = len(self.ranges)
        sign = 1 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1  # it looks for the lowest
        evolution = CMA(
            mean=np.full(side, 0.5), sigma=1 / 6, bounds=np.tile((0.0, 1.0), (side, 1)), n_max_resampling=10 * side,
            seed=1,
        )  # fmt: skip
        while True:
            born = [(point, sign * value) for point, value, generation in ended if generation == evolution.generation]
            if len(born) < evolution.population_size:
                break
            evolution.tell(born[: evolution.population_size])
        evolution.reseed_rng(int(rng.randint(1, 2**16)) + trial.number)
        self.generation = evolution.generation
        return {knob.key: value_of(knob, share) for knob, share in zip(self.ranges, evolution.ask(), strict=True)}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value."""
        return self.random.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Nothing is kept."""

    def _ended(self, study: optuna.Study) -> list[tuple[Vector, float, int | None]]:
        """Place, value and generation of the trials that ran to their end; those without numbers are left out."""
        found = []
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            generation = trial.user_attrs.get(GENERATION, trial.system_attrs.get(_OF_OPTUNA))
            try:
                place = np.array([share_of(knob, float(trial.params[knob.key])) for knob in self.ranges])
                value = float(trial.value if trial.value is not None else math.nan)
            except (KeyError, TypeError, ValueError, OverflowError):
                continue
            if np.isfinite(place).all() and math.isfinite(value):
                found.append((place, value, generation if type(generation) is int else None))
        return found


def _ends(knob: Knob) -> tuple[float, float]:
    """Of the range in which a knob is searched: logarithms where asked for, half a step more at either end."""
    half = 0.5 * (knob.step or (1 if knob.whole else 0))
    if knob.log:
        return math.log(knob.low - half), math.log(knob.high + half)
    return knob.low - half, knob.high + half


def share_of(knob: Knob, value: float) -> float:
    """Where a value lies in its range: 0 at the low end, 1 at the high one."""
    low, high = _ends(knob)
    return ((math.log(value) if knob.log else value) - low) / (high - low)


def value_of(knob: Knob, share: float) -> float | int:
    """The value at a place in the range: on its steps, below the high end where there are none."""
    low, high = _ends(knob)
    value = low + float(share) * (high - low)
    value = math.exp(value) if knob.log else value
    step = knob.step or (1 if knob.whole else None)
    if step is not None:
        value = round(value) if knob.log else math.floor((value - knob.low) / step + 0.5) * step + knob.low
        return (int if knob.whole else float)(min(max(value, knob.low), knob.high))
    return float(min(max(value, knob.low), np.nextafter(knob.high, knob.low)))
