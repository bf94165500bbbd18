"""`python -m convnext.bench.forms`: the two forms of the block beside each other, inference and training.

Both forms take turns in one process on random data, with the same weights; each figure is the median over the rounds.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from convnext.bench.measure import in_turn, machine, options
from convnext.nn.convnext.backbone import Block, BlockSettings, Form
from convnext.nn.tables.variants import get_spec

FORMS: tuple[Form, ...] = ("linear", "conv")


def compare(dim: int, side: int, batch: int, rounds: int, *, channels_last: bool, training: bool) -> dict[str, float]:
    """Seconds that a block of each form takes for a batch of maps (batch, dim, side, side)."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(batch, dim, side, side).contiguous(memory_format=layout)
    sides: dict[str, Callable[[], object]] = {}
    for form in FORMS:
        torch.manual_seed(0)
        block = Block(dim, settings=BlockSettings(layer_scale=0.1, form=form)).to(memory_format=layout)
        sides[form] = _train(block, x) if training else _infer(block.eval(), x)
    return in_turn(sides, rounds)


def _infer(block: Block, x: Tensor) -> Callable[[], object]:
    def work() -> Tensor:
        with torch.inference_mode():
            out: Tensor = block(x)
        return out

    return work


def _train(block: Block, x: Tensor) -> Callable[[], object]:
    def work() -> None:
        block(x).sum().backward()
        block.zero_grad()

    return work


def main() -> None:
    """Prints a Markdown table, with the machine."""
    given = options(__doc__, model="convnext_tiny", batch=8, size=224, rounds=5).parse_args()
    print(f"{machine()}, batch {given.batch}, {given.rounds} rounds\n")
    print("| channels, side | layout | linear, ms | conv, ms | ratio | linear, training | conv, training | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for i, dim in enumerate(get_spec(given.model).dims):
        side = given.size // 4 // 2**i
        for channels_last in (True, False):
            cells = [f"{dim}, {side}", "channels last" if channels_last else "channels first"]
            for training in (False, True):
                found = compare(dim, side, given.batch, given.rounds, channels_last=channels_last, training=training)
                linear, conv = (1e3 * found[form] for form in FORMS)
                cells += [f"{linear:.1f}", f"{conv:.1f}", f"{conv / linear:.2f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
