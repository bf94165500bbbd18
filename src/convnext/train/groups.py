"""Parameter groups: weight decay on matrices and kernels, none on vectors (norms, biases, layer scale)."""

from __future__ import annotations

from typing import Any

from torch import nn

from convnext.nn.network import Network


def weight_decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups of the trainable parameters, for an optimizer: with decay (2 dimensions or more) and without.

    What a network itself spares, such as a transformer's position embedding, is without decay too.
    """
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    spared = model.no_weight_decay() if isinstance(model, Network) else set()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (matrices if parameter.ndim > 1 and name not in spared else vectors).append(parameter)
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
