"""How a regression comes about: from a recipe and data, from a model file, or from a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from convnext.data.sources.dataset import Dataset
from convnext.errors import DataError, RecipeError, UserError
from convnext.nn.network import Network
from convnext.recipe import Recipe
from convnext.tasks.regress.aside import set_aside
from convnext.tasks.regress.bins import Bins
from convnext.tasks.regress.conformal import Calibration
from convnext.tasks.regress.declared import ALL
from convnext.tasks.regress.density import DensityWeights
from convnext.tasks.regress.losses import L1, MSE, GaussianNLL, Huber, LabelDistribution, Ordinal, RegressionLoss
from convnext.tasks.regress.meaning import asked_of, values_of
from convnext.tasks.regress.regressor import Regressor
from convnext.tasks.regress.scaling import Scaling
from convnext.tasks.regress.scores import usual_within
from convnext.tasks.regress.targets import NumberTargets

SCORES = ALL
"""Everything that a verdict may have but the shares within k units; the mean absolute error first."""
TARGETS = NumberTargets()

BINS = {"distribution": 100, "ordinal": 40}
"""Bins of the range that these losses take."""
MARGIN = 6.0
"""Bins that a distribution leaves free at either end: three deviations of its target."""


def for_training(recipe: Recipe, dataset: Dataset) -> Regressor:
    """Standardised by the training pictures alone; rare values weigh more where the recipe says so.

    Raises:
        RecipeError: classes shall be balanced, of which there are none.
        DataError: a target that cannot be learnt.
    """
    if recipe.train.class_balance:
        raise RecipeError(
            f"train.class_balance = {recipe.train.class_balance:g}: there are no classes in a regression; "
            f"task.balance={recipe.task.balance or recipe.train.class_balance:g} weighs rare values"
        )
    asked, task = asked_of(dataset), recipe.task
    values = values_of(dataset, "train")
    places = [str(sample.path) for sample in dataset.splits["train"]]
    scaling = Scaling.of(asked, values, places)
    standardised = scaling.standardise(values)
    bins = None
    if task.loss in BINS:
        bins = Bins.covering(standardised, BINS[task.loss], MARGIN if task.loss == "distribution" else 0.0)
    weights = tuple(DensityWeights.of(column, task.balance) for column in standardised.T) if task.balance else ()
    within = [usual_within(column) for column in values.T]
    if task.within:
        within[0] = tuple(sorted(set(task.within)))
    seen = tuple((float(np.nanmin(column)), float(np.nanmax(column))) for column in values.T)
    return Regressor(
        scaling, loss_of(task.loss, bins), task.loss, level=task.coverage, within=tuple(within), seen=seen,
        weights=weights, aside=set_aside(dataset, task.coverage), chosen_on=len(dataset.splits.get("val", ())),
    )  # fmt: skip


def loss_of(name: str, bins: Bins | None) -> RegressionLoss:
    """The loss of a name; `bins` for those that part the range.

    Raises:
        ValueError: there is no such loss, or it lacks its bins.
    """
    if name in BINS:
        if bins is None:
            raise ValueError(f"the loss {name} needs bins")
        return LabelDistribution(bins) if name == "distribution" else Ordinal(bins)
    plain: dict[str, RegressionLoss] = {"l1": L1(), "huber": Huber(), "mse": MSE(), "gaussian": GaussianNLL()}
    if name not in plain:
        raise ValueError(f'there is no loss "{name}"')
    return plain[name]


def of_meaning(meaning: Mapping[str, Any]) -> Regressor:
    """By what `Regressor.meaning` gave."""
    try:
        scaling = Scaling.from_json(meaning["scaling"])
        calibrations = tuple(Calibration.from_json(each) for each in meaning.get("calibration") or ())
    except DataError as error:
        raise ValueError(str(error)) from None
    parts, t = meaning.get("bins"), len(scaling.targets)
    bins = None if parts is None else Bins(tuple(parts["low"]), tuple(parts["high"]), int(parts["count"]))
    within = tuple(tuple(float(k) for k in each) for each in meaning["within"])
    seen = tuple((float(low), float(high)) for low, high in meaning["seen"])
    level = float(meaning["coverage"])
    if not 0 <= level < 1 or {len(within), len(seen), len(calibrations) or t} != {t}:
        raise ValueError(f"{t} targets need as many entries of within, seen and calibration, and a coverage below 1")
    return Regressor(
        scaling, loss_of(str(meaning["loss"]), bins), str(meaning["loss"]), level=level, within=within, seen=seen,
        calibrations=calibrations,
    )  # fmt: skip


def of_result(result: Mapping[str, Any]) -> Regressor:
    """By the meaning that stands in it."""
    return of_meaning(result["meaning"])


def of_network(network: Network, task: Regressor) -> Regressor:
    """As it was loaded.

    Raises:
        UserError: the network has another number of outputs now.
    """
    if network.num_classes != task.outputs:
        raise UserError(
            f"the network has {network.num_classes} outputs now, and {task.describe()} takes {task.outputs}: nobody "
            "said what they mean; call the network itself"
        )
    return task
