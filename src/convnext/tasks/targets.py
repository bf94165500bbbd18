"""Whose targets a recipe's pictures have."""

from __future__ import annotations

from convnext.data.targets import Targets
from convnext.recipe import Recipe
from convnext.tasks.class_targets import ClassTargets


def targets_of(recipe: Recipe) -> Targets:
    """How the targets of the recipe's task are found."""
    return ClassTargets()
