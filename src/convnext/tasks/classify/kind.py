"""How a classification comes about: from a recipe and data, from a model file, or from a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convnext.data.sources.dataset import Dataset
from convnext.errors import UserError
from convnext.nn.network import Network
from convnext.recipe import Recipe
from convnext.tasks.classify.classifier import Classifier
from convnext.tasks.classify.meaning import counts
from convnext.tasks.classify.multi import MultiLabel
from convnext.tasks.classify.scores import ALL
from convnext.tasks.classify.single import SingleLabel
from convnext.tasks.classify.targets import ClassTargets
from convnext.tasks.classify.weights import class_weights, label_weights

SCORES = ALL
"""Everything that a verdict may have; top-1 first."""
TARGETS = ClassTargets()


def for_training(recipe: Recipe, dataset: Dataset) -> Classifier:
    """One class a picture, or several, as the data have them; rare ones weigh more where the recipe says so."""
    seen, balance = counts(dataset, "train"), recipe.train.class_balance
    if dataset.multi_label:
        weights = label_weights(seen, len(dataset.splits["train"]), balance)
    else:
        weights = class_weights(seen, balance)
    smoothing, rule = recipe.augment.label_smoothing, recipe.train.thresholds
    return task_for(dataset.classes, dataset.multi_label, smoothing, weights, rule=rule)


def of_meaning(meaning: Mapping[str, Any]) -> Classifier:
    """By the fields of a model file: classes, multi_label and, where they were chosen, thresholds."""
    classes, several = tuple(meaning["classes"]), bool(meaning["multi_label"])
    thresholds = tuple(meaning.get("thresholds") or ()) if several else ()
    few = meaning.get("thresholds_few")
    chosen = (str(meaning.get("thresholds_for", "")), tuple(few) if isinstance(few, list | tuple) else ())
    return MultiLabel(classes, thresholds=thresholds, chosen=chosen) if several else SingleLabel(classes)


def of_result(result: Mapping[str, Any]) -> Classifier:
    """By its rows of the classes and their thresholds."""
    rows = result["per_class"]
    classes = tuple(str(row["name"]) for row in rows)
    if not result.get("multi_label", False):
        return SingleLabel(classes)
    chosen = tuple(result["thresholds"]["values"].values()) if "thresholds" in result else ()
    bars = tuple(float(row.get("threshold", 0.5)) for row in rows)
    return MultiLabel(classes, thresholds=chosen, bars=bars)


def of_network(network: Network, task: Classifier) -> Classifier:
    """The classes, and thresholds, that the network says it has now; it may have a new head.

    Raises:
        UserError: its outputs have no names, or another number of them.
    """
    names = tuple(network.classes)
    if not names or len(names) != network.num_classes:
        raise UserError(
            f"the network has {network.num_classes} outputs and knows the names of {len(names)}; set "
            "model.network.classes to their names, in order"
        )
    return task_for(names, network.multi_label, thresholds=network.thresholds)


def task_for(
    classes: tuple[str, ...],
    multi_label: bool,
    label_smoothing: float = 0.0,
    weights: tuple[float, ...] = (),
    *,
    thresholds: tuple[float, ...] = (),
    rule: str = "f1",
) -> Classifier:
    """The classification that fits the labels; `thresholds` and `rule` are for several labels a picture."""
    if multi_label:
        return MultiLabel(classes, label_smoothing, weights, thresholds, rule)
    return SingleLabel(classes, label_smoothing, weights)
