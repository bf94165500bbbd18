"""`python -m convnext.bench.block`: a block at once, layer by layer, and by stock operators, at each stage and batch.

All sides take turns in one process on random data with the same weights; each figure is the median over the rounds. At
once: `kernels.block`, whatever the number of positions; layer by layer: the same module while somebody watches its
layers; stock: the formula in torch's own operators. `kernels.block.enough` chooses between the first two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convnext.bench.measure import in_turn, machine, options
from convnext.kernels import native
from convnext.kernels.block import enough, fused_block, reference
from convnext.nn.convnext.backbone import Block, BlockSettings
from convnext.nn.tables.variants import get_spec


def compare(dim: int, side: int, batch: int, rounds: int, *, half: bool, training: bool) -> dict[str, float]:
    """Seconds for a batch of maps (batch, dim, side, side): forward, in training backward too."""
    torch.manual_seed(0)
    block = Block(dim, settings=BlockSettings(layer_scale=0.1)).to(memory_format=torch.channels_last)
    layers = Block(dim, settings=BlockSettings(layer_scale=0.1))
    layers.load_state_dict(
        block.state_dict(), assign=True
    )  # the same memory: whoever comes second finds it in the cache
    layers.act.register_forward_hook(lambda *_: None)
    weights: list[Any] = [
        block.dwconv.weight, block.dwconv.bias, block.norm.weight, block.norm.bias, block.pwconv1.weight,
        block.pwconv1.bias, block.pwconv2.weight, block.pwconv2.bias, block.gamma, None,
    ]  # fmt: skip
    x = torch.randn(batch, dim, side, side).contiguous(memory_format=torch.channels_last).requires_grad_(training)
    forwards: dict[str, Callable[[], Tensor]] = {
        "at once": lambda: fused_block(x, *weights),
        "layers": lambda: layers(x),
        "stock": lambda: reference(x, *weights),
    }

    def run(forward: Callable[[], Tensor]) -> Callable[[], None]:
        def work() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=half), torch.set_grad_enabled(training):
                out = forward()
            if training:
                out.float().sum().backward()

        return work

    return in_turn({name: run(forward) for name, forward in forwards.items()}, rounds)


def main() -> None:
    """Prints a Markdown table, with the machine."""
    parser = options(__doc__, model="convnext_tiny", size=224, rounds=7)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16], help="default: 1 4 16")
    given = parser.parse_args()
    if native.why_not():
        raise SystemExit(f"our kernels are not there: {native.why_not()}")
    precisions = [False, True] if native.dot_products() and not native.matrix_units() else [False]
    print(f"{machine()}, {given.rounds} rounds\n")
    print("| channels, side, batch | | positions a channel | at once, ms | layers, ms | stock, ms | chosen |")
    print("|---|---|---|---|---|---|---|")
    for i, dim in enumerate(get_spec(given.model).dims):
        side = given.size // 4 // 2**i
        for batch in given.batches:
            for half in precisions:
                for training in (False, True):
                    found = compare(dim, side, batch, given.rounds, half=half, training=training)
                    rows = batch * side**2
                    with torch.set_grad_enabled(training):
                        chosen = "at once" if enough(rows, dim, half=half) else "layers"
                    what = f"{'bf16' if half else 'fp32'}{', training' if training else ''}"
                    times = " | ".join(f"{1e3 * found[name]:.1f}" for name in ("at once", "layers", "stock"))
                    print(f"| {dim}, {side}, {batch} | {what} | {rows / dim:.1f} | {times} | {chosen} |", flush=True)


if __name__ == "__main__":
    main()
