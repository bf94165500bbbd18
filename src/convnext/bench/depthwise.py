"""`python -m convnext.bench.depthwise`: the depthwise backward and a training step, ours beside the stock operator.

Both sides take turns in one process on random data; each figure is the median over the rounds. The stock side is the
same network with torch's own convolution.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from convnext.bench.measure import in_turn, machine, options, train_step
from convnext.kernels.depthwise import DepthwiseConv2d, depthwise_conv2d
from convnext.nn.create import create_model
from convnext.nn.tables.variants import get_spec


def compare_backward(batch: int, dim: int, side: int, rounds: int) -> dict[str, float]:
    """Seconds of forward and backward of one depthwise 7x7 convolution, channels last."""
    x = torch.randn(batch, dim, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, bias = torch.randn(dim, 1, 7, 7, requires_grad=True), torch.zeros(dim, requires_grad=True)
    grad = torch.randn_like(x)

    def stock() -> None:
        torch.autograd.grad(F.conv2d(x, weight, bias, padding=3, groups=dim), (x, weight, bias), grad)

    def ours() -> None:
        torch.autograd.grad(depthwise_conv2d(x, weight, bias), (x, weight, bias), grad)

    return in_turn({"stock": stock, "ours": ours}, rounds)


def compare_step(name: str, batch: int, size: int, rounds: int) -> dict[str, float]:
    """Seconds of a training step (forward, backward, fused AdamW) of a whole network in fp32."""
    x = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,))
    sides: dict[str, Callable[[], object]] = {}
    for side in ("stock", "ours"):
        model = create_model(name, num_classes=10, layer_scale=0.1)
        if side == "stock":
            _use_stock(model)
        model = model.to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        sides[side] = train_step(model, optimizer, x, labels)
    return in_turn(sides, rounds)


def _use_stock(model: nn.Module) -> None:
    """Gives every depthwise convolution torch's own forward and backward."""
    for module in model.modules():
        if isinstance(module, DepthwiseConv2d):
            module.__class__ = nn.Conv2d  # type: ignore[assignment]


def main() -> None:
    """Prints both tables as Markdown, with the machine."""
    given = options(__doc__, model="convnext_atto", batch=32, size=128, rounds=9).parse_args()
    print(f"{machine()}, batch {given.batch}, {given.rounds} rounds\n")
    print("| channels, side | stock, ms | ours, ms | ratio |\n|---|---|---|---|")
    for i, dim in enumerate(get_spec(given.model).dims):
        found = compare_backward(given.batch, dim, given.size // 4 // 2**i, given.rounds)
        print(_row(f"{dim}, {given.size // 4 // 2**i}", found))
    found = compare_step(given.model, given.batch, given.size, given.rounds)
    print(_row(f"a step of {given.model} at {given.size}", found))


def _row(name: str, found: dict[str, float]) -> str:
    stock, ours = 1e3 * found["stock"], 1e3 * found["ours"]
    return f"| {name} | {stock:.1f} | {ours:.1f} | {stock / ours:.1f} |"


if __name__ == "__main__":
    main()
