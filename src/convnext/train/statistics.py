"""Mean and deviation of the channels: those that the weights learned with, where the recipe leaves them open."""

from __future__ import annotations

from convnext.config import override
from convnext.data.pictures.transforms import per_channel
from convnext.nn.weights.download import Found
from convnext.nn.weights.shown import shown_as, shown_by_entry
from convnext.recipe import NORMALIZATIONS
from convnext.train.plan import Plan


def choose_statistics(plan: Plan, found: Found | None) -> None:
    """Fills in `data.normalization`, or `data.mean` and `data.std` where no name stands for those of the weights.

    Only what is not ImageNet's is said. Weights whose publisher is not known learned with ImageNet's, as most did.
    """
    data, model = plan.recipe.data, plan.recipe.model
    if data.normalization == "auto" and not data.mean and found is not None:
        shown = shown_by_entry(found.source) or shown_as(found.path, model.name)
        named = next((n for n, values in NORMALIZATIONS.items() if values == (shown.mean, shown.std)), "")
        if named and named != "imagenet":
            plan.choose("data.normalization", named, f"the weights learned with it ({shown.source})")
        elif not named:
            mean, std = per_channel(shown.mean, shown.std, model.in_chans)
            plan.recipe = override(plan.recipe, {"data.mean": mean, "data.std": std})
            plan.note("data.mean", f"the weights learned with it, and with data.std = {list(std)} ({shown.source})")
    plan.choose_quietly("data.normalization", "imagenet")
