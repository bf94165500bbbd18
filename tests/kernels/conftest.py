"""What a block is called with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


@pytest.fixture
def inputs() -> Callable[..., list[Tensor | None]]:
    """Gives the arguments of `fused_block` for a map of (n, c, h, w): all ask for gradients but the last one."""

    def make(n: int, c: int, h: int, w: int, *, gamma: bool = True, factor: bool = True) -> list[Tensor | None]:
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int, mean: float = 0.0, scale: float = 0.1) -> Tensor:
            return (mean + scale * torch.randn(shape, generator=generator)).requires_grad_()

        return [
            draw(n, c, h, w, scale=1.0), draw(c, 1, 7, 7, scale=1 / 7), draw(c), draw(c, mean=1.0), draw(c),
            draw(4 * c, c, scale=c**-0.5), draw(4 * c), draw(c, 4 * c, scale=(4 * c) ** -0.5), draw(c),
            draw(c, mean=0.5) if gamma else None, torch.rand(n, generator=generator) + 0.1 if factor else None,
        ]  # fmt: skip

    return make
