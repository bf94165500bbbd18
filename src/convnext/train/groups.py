"""Parameter groups: weight decay on matrices and kernels, none on vectors; a learning rate that falls with depth.

Layer-wise decay (paper, Table 6 and Appendix A): every three blocks that follow one another form a group, and each
group learns at `decay` times the rate of the next one. As in the authors' code the stem is a group of its own, a
downsampling layer belongs to the blocks after it, and the last norm and the head learn at the full rate. The code knows
12 groups of blocks (S to XL); here they follow from the depths, stage by stage: T has 6, and others have theirs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from convnext.errors import RecipeError
from convnext.nn.convnext.backbone import ConvNeXt
from convnext.nn.network import Network

BLOCKS = 3
"""Blocks in a group of layer-wise decay."""


@dataclass(frozen=True)
class Group:
    """Parameters that learn alike.

    Attributes:
        layer: the group's number from the stem (0) to the head.
        scale: its share of the learning rate.
        weight_decay: AdamW's, 0 for vectors.
        names: its parameters.
        parameters: how many numbers they hold.
    """

    layer: int
    scale: float
    weight_decay: float
    names: tuple[str, ...]
    parameters: int


def layer_of(name: str, depths: tuple[int, ...]) -> int:
    """The group of a ConvNeXt's parameter: 0 the stem, then three blocks each, then norm and head."""
    if name.startswith("stem."):
        return 0
    found = re.match(r"stages\.(\d+)\.(?:blocks\.(\d+)|downsample)\.", name)
    if found is None:
        return layers(depths) - 1
    stage, block = int(found[1]), int(found[2] or 0)
    return 1 + sum(_groups(depth) for depth in depths[:stage]) + block // BLOCKS


def layers(depths: tuple[int, ...]) -> int:
    """How many groups a ConvNeXt has, stem and head counted."""
    return 2 + sum(_groups(depth) for depth in depths)


def _groups(depth: int) -> int:
    return -(-depth // BLOCKS)


def parameter_groups(model: nn.Module, weight_decay: float, layer_decay: float = 1.0) -> list[Group]:
    """The groups of a network's trainable parameters, from the stem to the head, with decay before without.

    What a network itself spares, such as a transformer's position embedding, is without weight decay too.

    Raises:
        RecipeError: layer-wise decay for a network that is no ConvNeXt.
    """
    if layer_decay != 1.0 and not isinstance(model, ConvNeXt):
        raise RecipeError(
            f"train.layer_decay = {layer_decay:g} is for the ConvNeXts of our own table, whose blocks are known; "
            "set it to 1 for this network"
        )
    depths = model.depths if isinstance(model, ConvNeXt) and layer_decay != 1.0 else ()
    last = layers(depths) - 1 if depths else 0
    spared = model.no_weight_decay() if isinstance(model, Network) else set()
    found: dict[tuple[int, bool], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            layer = layer_of(name, depths) if depths else 0
            key = (layer, parameter.ndim <= 1 or name in spared)
            found.setdefault(key, []).append((name, parameter))
    return [
        Group(
            layer, layer_decay ** (last - layer), 0.0 if vectors else weight_decay,
            tuple(name for name, _ in members), sum(p.numel() for _, p in members),
        )
        for (layer, vectors), members in sorted(found.items(), key=lambda item: item[0])
    ]  # fmt: skip


def optimizer_groups(model: nn.Module, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """The same as torch's optimizers take them; `lr_scale` is for the loop, which sets the rate at every step."""
    named = dict(model.named_parameters())
    return [
        {
            "params": [named[name] for name in group.names], "weight_decay": group.weight_decay,
            "lr_scale": group.scale,
        }
        for group in parameter_groups(model, weight_decay, layer_decay)
    ]  # fmt: skip
