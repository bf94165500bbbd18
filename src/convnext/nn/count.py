"""Parameters, multiply-accumulates and activations of a network, counted on shapes alone.

Multiply-accumulates (MACs) are those of convolutions and matrix products, as in the paper's column "FLOPs". In our
networks all of them are in layers, and are summed there. Some of timm's have attention: for those torch's own counter
is asked, which takes longer. A test compares both. Nothing is computed: the network lives on the meta device.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convnext.nn.baseline_specs import BASELINES, PREFIX
from convnext.nn.create import create_model, outline
from convnext.nn.network import Network


@dataclass
class Layer:
    """One row of a summary.

    Attributes:
        name: where it is in the network.
        kind: its class.
        output: shape of its output, without the batch.
        params: number of its parameters.
        macs: multiply-accumulates for one picture.
        activations: values that its convolutions and linear layers give for one picture.
    """

    name: str
    kind: str
    output: tuple[int, ...] = ()
    params: int = 0
    macs: int = 0
    activations: int = 0


@dataclass(frozen=True)
class Summary:
    """All layers of a network, and their sums."""

    model: str
    size: int
    layers: list[Layer] = field(default_factory=list)
    params: int = 0
    macs: int = 0
    activations: int = 0


def default_size(name: str) -> int:
    """Side of the pictures that a model is meant for, pixels."""
    if name in BASELINES:
        return BASELINES[name].size
    return outline(name).fixed_size or 224


def build_on_meta(name: str, size: int | None = None, **settings: Any) -> Network:
    """A network without values: only names and shapes."""
    with torch.device("meta"):
        return create_model(name, size=size, **settings)


@cache
def count(name: str, size: int | None = None) -> Summary:
    """Parameters, MACs and activations of a model, for one picture of `size` pixels; no rows.

    Raises:
        UserError: no model has this name, or the size does not fit it.
    """
    return summarize(name, size, rows=False)


def summarize(name: str, size: int | None = None, *, rows: bool = True, num_classes: int = 1000) -> Summary:
    """The layer table of a model.

    Args:
        name: of any kind that `create_model` takes.
        size: side of the pictures, pixels; None for the one that the model is meant for.
        rows: a row for each stage's downsampling and blocks; False gives the sums alone.
        num_classes: size of the head.
    """
    size = size or default_size(name)
    model = build_on_meta(name, size, num_classes=num_classes).eval()
    layers: list[Layer] = []
    total = Layer("", "")
    attention = FlopCounterMode(display=False) if name.startswith(PREFIX) else None
    with ExitStack() as stack, torch.no_grad():
        if attention is not None:
            stack.enter_context(attention)
        for part_name, part in model.named_modules():
            if type(part) is nn.BatchNorm2d:
                part.forward = _unchanged  # type: ignore[method-assign, assignment]  # or torch takes milliseconds each
            if isinstance(part, nn.Conv2d | nn.Linear):
                stack.callback(part.register_forward_hook(_add_to(total)).remove)
            if rows and _is_row(part_name, part):
                layer = Layer(part_name, type(part).__name__, params=_parameters(part))
                layers.append(layer)
                before, after = _bracket(layer, total, attention)
                stack.callback(part.register_forward_pre_hook(before).remove)
                stack.callback(part.register_forward_hook(after).remove)
        model(torch.empty(1, model.in_chans, size, size, device="meta"))
    macs = _macs_so_far(total, attention)
    return Summary(name, size, [x for x in layers if x.output], _parameters(model), macs, total.activations)


def summary_json(found: Summary) -> dict[str, Any]:
    """As `convnext summary --json` prints it."""
    return asdict(found)


def summary_text(found: Summary) -> str:
    """The layer table as aligned lines."""
    lines = [f"{found.model}, one picture of {found.size} x {found.size}"]
    lines.append(f"{'layer':<28}{'kind':<22}{'output':<18}{'params':>12}{'M MACs':>11}{'k activations':>15}")
    for layer in found.layers:
        shape = " x ".join(map(str, layer.output))
        lines.append(
            f"{layer.name:<28}{layer.kind:<22}{shape:<18}{layer.params:>12,}{layer.macs / 1e6:>11.1f}"
            f"{layer.activations / 1e3:>15.1f}"
        )
    lines.append(
        f"{'all':<68}{found.params:>12,}{found.macs / 1e6:>11.1f}{found.activations / 1e3:>15.1f}   "
        f"({found.params / 1e6:.1f} M parameters, {found.macs / 1e9:.2f} GMACs)"
    )
    return "\n".join(lines)


def _parameters(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())


def _is_row(name: str, part: nn.Module) -> bool:
    """Stems, downsamplings, blocks, last norm and head: what a reader wants to see one row of."""
    if not name or isinstance(part, nn.Identity | nn.Dropout):
        return False
    path = name.removeprefix("net.").split(".")
    holders = ("stages", "layers", "blocks", "layer1", "layer2", "layer3", "layer4")
    if path[0] not in holders:
        return len(path) == 1 and path[0] not in ("net", "output_norms")
    kind = type(part).__name__
    if any(word in kind for word in ("Block", "Bottleneck", "InvertedResidual", "EdgeResidual", "DepthwiseSeparable")):
        return not any("attn" in step or "mlp" in step for step in path)
    return path[-1] == "downsample" and len(path) == 3 and path[0] in ("stages", "layers")


def _unchanged(x: Tensor) -> Tensor:
    return x


def _add_to(total: Layer) -> Callable[..., None]:
    """A hook that counts a convolution or linear layer: each output value takes as many products as it has weights."""

    def add(module: nn.Conv2d | nn.Linear, _inputs: Any, output: Tensor) -> None:
        total.activations += output.numel()
        total.macs += output.numel() * module.weight[0].numel()

    return add


def _macs_so_far(total: Layer, attention: FlopCounterMode | None) -> int:
    """Where products of attention are part of it, torch's counter has them; it is too slow for where they are not."""
    return total.macs if attention is None else attention.get_total_flops() // 2


def _bracket(layer: Layer, total: Layer, attention: FlopCounterMode | None) -> tuple[Callable[..., None], ...]:
    """Hooks that note what was counted between them."""

    def before(_module: nn.Module, _inputs: Any) -> None:
        layer.macs -= _macs_so_far(total, attention)
        layer.activations -= total.activations

    def after(_module: nn.Module, _inputs: Any, output: Any) -> None:
        layer.macs += _macs_so_far(total, attention)
        layer.activations += total.activations
        layer.output = tuple(output.shape[1:]) if isinstance(output, Tensor) else ()

    return before, after
