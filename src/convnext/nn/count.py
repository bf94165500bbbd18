"""Parameters, multiply-accumulates and activations of a network, counted on shapes alone.

Multiply-accumulates (MACs) are those of convolutions and matrix products, as in the paper's column "FLOPs". In our
networks all of them are in layers, and are summed there. Some of timm's have attention: for those torch's own counter
is asked, which takes longer. A test compares both. Nothing is computed: the network lives on the meta device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convnext.errors import UserError
from convnext.nn.network import Network
from convnext.nn.spec import NetworkSpec, outline
from convnext.nn.tables.baseline_specs import BASELINES, TIMM

_SHAPELESS = (nn.BatchNorm2d, nn.GELU, nn.ReLU)
"""Layers whose output has the shape of their input; on shapes alone torch takes milliseconds for each."""


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

    def to_json(self) -> dict[str, Any]:
        """As `convnext summary --json` prints it."""
        return asdict(self)


def default_size(name: str) -> int:
    """Side of the pictures that a model is meant for, pixels."""
    if name in BASELINES:
        return BASELINES[name].size
    return outline(name).fixed_size or 224


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
    model = NetworkSpec(name, num_classes, size=size).on_meta().eval().requires_grad_(False)
    total, layers = Layer("", ""), []
    attention = FlopCounterMode(display=False) if name.startswith(TIMM) else None
    with ExitStack() as stack, torch.no_grad():
        if attention is not None:
            stack.enter_context(attention)
        for part in model.modules():
            if type(part) in _SHAPELESS:
                part.forward = _unchanged
            if isinstance(part, nn.Conv2d | nn.Linear):
                stack.callback(part.register_forward_hook(_add_to(total)).remove)
        for part_name, part in _parts(model) if rows else ():
            layer = Layer(part_name, type(part).__name__, params=_parameters(part))
            layers.append(layer)
            before, after = _bracket(layer, total, attention)
            stack.callback(part.register_forward_pre_hook(before).remove)
            stack.callback(part.register_forward_hook(after).remove)
        _run(model, name, size)
    total.params, total.macs = _parameters(model), _macs_so_far(total, attention)
    shown = [layer for layer in layers if layer.params or layer.macs]
    return Summary(name, size, shown + _rest(total, shown) if rows else [], total.params, total.macs, total.activations)


def _run(model: Network, name: str, size: int) -> None:
    picture = torch.empty(1, model.in_chans, size, size, device="meta")
    try:
        model(picture)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        if not name.startswith(TIMM):
            raise
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{name} cannot be counted with a picture of {size} x {size}: {first}") from error


def _rest(total: Layer, shown: list[Layer]) -> list[Layer]:
    """What is in no row, such as a position embedding or a product between layers: one more row, if there is any."""
    left = [getattr(total, key) - sum(getattr(x, key) for x in shown) for key in ("params", "macs", "activations")]
    return [Layer("(other)", "", (), *left)] if any(left) else []


def summary_text(found: Summary) -> str:
    """The layer table as aligned lines."""
    lines = [f"{found.model}, one picture of {found.size} x {found.size}"]
    lines.append(f"{'layer':<28}{'kind':<22}{'output':<18}{'params':>12}{'M MACs':>11}{'k activations':>15}")
    for layer in found.layers:
        shape = " x ".join(map(str, layer.output))
        lines.append(
            f"{layer.name:<28}{layer.kind[:21]:<22}{shape:<18}{layer.params:>12,}{layer.macs / 1e6:>11.1f}"
            f"{layer.activations / 1e3:>15.1f}"
        )
    lines.append(
        f"{'all':<68}{found.params:>12,}{found.macs / 1e6:>11.1f}{found.activations / 1e3:>15.1f}   "
        f"({found.params / 1e6:.1f} M parameters, {found.macs / 1e9:.2f} GMACs)"
    )
    return "\n".join(lines)


def _parameters(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())


def _parts(model: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The rows of a summary, which share no layer: containers and stages are opened, blocks and layers are rows."""
    for child_name, child in model.named_children():
        where = f"{name}.{child_name}" if name else child_name
        container = type(child) in (nn.Sequential, nn.ModuleList, nn.ModuleDict)
        if (container and where != "stem") or type(child).__name__.endswith(("Stage", "Layer")) or where == "net":
            yield from _parts(child, where)
        elif child_name != "output_norms":
            yield where, child


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
