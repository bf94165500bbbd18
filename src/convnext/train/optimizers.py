"""The optimizers that a recipe may name, all of them torch's, with the rates and decays that are usual for each.

What `train.weight_decay` means differs, as in torch: for adamw, nadam and radam it shrinks the weights by themselves
(Loshchilov and Hutter, 2019); for sgd, adam and rmsprop it is added to the gradient, where much less of it is usual.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from convnext.recipe import Recipe
from convnext.train.groups import optimizer_groups


@dataclass(frozen=True)
class Kind:
    """What is known of an optimizer.

    Attributes:
        make: torch's class.
        scratch: the usual peak rate from scratch at a batch of 64.
        tuning: likewise from pretrained weights.
        weight_decay: the usual one.
        decoupled: whether decay shrinks the weights by themselves, not through the gradient.
        terms: which of train.betas and train.momentum it has.
        options: what else torch's class is given.
        fused: whether torch has it as one kernel for a processor and a GPU (its fused sgd fails where some weights have
            no momentum yet, as after `train.freeze_epochs`).
    """

    make: Callable[..., torch.optim.Optimizer]
    scratch: float
    tuning: float
    weight_decay: float
    decoupled: bool
    terms: tuple[str, ...]
    options: tuple[tuple[str, Any], ...] = ()
    fused: bool = False


DECOUPLED = (("decoupled_weight_decay", True),)
OPTIMIZERS: dict[str, Kind] = {
    "adamw": Kind(torch.optim.AdamW, 2e-3, 3e-4, 0.05, True, ("betas",), fused=True),
    "adam": Kind(torch.optim.Adam, 2e-3, 3e-4, 0.0, False, ("betas",), fused=True),
    "nadam": Kind(torch.optim.NAdam, 2e-3, 3e-4, 0.05, True, ("betas",), DECOUPLED),
    "radam": Kind(torch.optim.RAdam, 2e-3, 3e-4, 0.05, True, ("betas",), DECOUPLED),
    "rmsprop": Kind(torch.optim.RMSprop, 2e-4, 3e-5, 0.0, False, ("momentum",)),
    "sgd": Kind(torch.optim.SGD, 0.1, 0.01, 1e-4, False, ("momentum",)),
}
"""By the name that `train.optimizer` gives."""


def make_optimizer(model: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """The recipe's optimizer, fused where torch has that (CPU, CUDA; not for a network that is shared out on CPUs)."""
    train = recipe.train
    kind = OPTIMIZERS[train.optimizer]
    options: dict[str, Any] = dict(kind.options) | {term: getattr(train, term) for term in kind.terms}
    if kind.fused:
        options["fused"] = device.type == "cuda" or (device.type == "cpu" and train.sharding == "ddp")
    groups = optimizer_groups(model, decay_of(recipe), train.layer_decay)
    return kind.make(groups, lr=float(train.lr), **options)


def decay_of(recipe: Recipe) -> float:
    """The recipe's weight decay, or the optimizer's usual one where it is left open."""
    given = recipe.train.weight_decay
    return OPTIMIZERS[recipe.train.optimizer].weight_decay if isinstance(given, str) else given
