"""The fused block: against stock operators, finite differences, and itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from convnext.kernels import native
from convnext.kernels.block import fused_block, reference
from convnext.nn.convnext.backbone import Block, BlockSettings, ConvNeXt

pytestmark = pytest.mark.skipif(not native.available(), reason=f"no kernels here: {native.why_not()}")

Inputs = Callable[..., list[Tensor | None]]
SHAPES = [(3, 16, 9, 10), (2, 96, 14, 14), (1, 400, 7, 7), (2, 384, 3, 5), (1, 24, 1, 1), (5, 40, 2, 30)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gamma", [False, True])
@pytest.mark.parametrize("factor", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_outputs_and_gradients_are_those_of_stock_operators(
    inputs: Inputs, shape: tuple[int, int, int, int], gamma: bool, factor: bool, layout: torch.memory_format
) -> None:
    """Relative to the largest value, in fp32; with and without gradients the same output."""
    given = inputs(*shape, gamma=gamma, factor=factor)
    given[0] = given[0].detach().contiguous(memory_format=layout).requires_grad_()
    wanted = [t for t in given[:10] if t is not None]
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = fused_block(*given)
    expected = reference(*given)
    pairs = zip(
        [found, *torch.autograd.grad(found, wanted, grad)], [expected, *torch.autograd.grad(expected, wanted, grad)],
        strict=True,
    )  # fmt: skip
    for ours, stock in pairs:
        assert (ours - stock).abs().max() <= 5e-6 * stock.abs().max()
    with torch.no_grad():
        torch.testing.assert_close(fused_block(*given), found, rtol=1e-5, atol=1e-5)


def test_second_derivatives_are_those_of_stock_operators(inputs: Inputs) -> None:
    """A gradient penalty gives the same gradients."""
    results = []
    for function in (fused_block, reference):
        given = inputs(2, 16, 8, 8)
        (gx,) = torch.autograd.grad(function(*given).square().sum(), given[0], create_graph=True)
        gx.square().sum().backward()
        results.append([t.grad for t in given[1:9]])
    for ours, stock in zip(*results, strict=True):
        torch.testing.assert_close(ours, stock, rtol=1e-3, atol=1e-3 * float(stock.abs().max()))


def test_gelu_is_exact_to_single_precision() -> None:
    """Over the whole range, through a block whose layers are identities: error below 1e-6 of the value or of 1."""
    c = 16
    x = torch.linspace(-12, 12, 16 * 4096).view(1, 4096, 16).permute(0, 2, 1).reshape(1, c, 64, 64)
    rows = x.contiguous(memory_format=torch.channels_last)
    first, second = torch.zeros(4 * c, c), torch.zeros(c, 4 * c)
    bias = torch.linspace(-9, 9, 4 * c)
    second[:, :c] = torch.eye(c)
    out, hidden, _ = torch.ops.convnext.mlp(
        rows, torch.zeros_like(rows), first, bias, second, torch.zeros(c), None, 1e-6, True
    )
    wanted = torch.nn.functional.gelu(hidden.double())[:, :c].view(1, 64, 64, c).permute(0, 3, 1, 2)
    assert (out.double() - wanted).abs().max() < 1e-6


def test_a_network_uses_it_and_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole networks in training with stochastic depth: same random numbers, same logits, same gradients."""
    found = []
    for fused in (True, False):
        if not fused:
            monkeypatch.setattr("convnext.nn.convnext.backbone.fits", lambda *_: False)
        torch.manual_seed(0)
        model = ConvNeXt((1, 1, 2, 1), (16, 32, 64, 128), num_classes=5, drop_path=0.5, layer_scale=0.5).train()
        out = model(torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
        out.square().sum().backward()
        found.append((out.detach(), [p.grad for p in model.parameters()], torch.get_rng_state()))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-5)
    assert torch.equal(found[0][2], found[1][2])
    for ours, stock in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(ours, stock, rtol=1e-3, atol=1e-4 * float(stock.abs().max()))


def test_it_steps_aside_for_what_it_does_not_know() -> None:
    """Hooks on a layer, replaced layers, autocast, double precision: the layers themselves are called."""
    block = Block(16, settings=BlockSettings(layer_scale=0.5))
    x, seen = torch.randn(1, 16, 8, 8), []
    plain = block(x)
    handle = block.act.register_forward_hook(lambda *_: seen.append(1))
    torch.testing.assert_close(block(x), plain, rtol=1e-5, atol=1e-5)
    assert seen == [1]
    handle.remove()
    block.pwconv1 = torch.nn.Sequential(block.pwconv1)
    torch.testing.assert_close(block(x), plain, rtol=1e-5, atol=1e-5)
    assert Block(16).double()(x.double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(Block(16)(x)).all()


def test_it_is_deterministic(inputs: Inputs) -> None:
    """Twice the same input, twice the same bits, gradients included."""
    given = inputs(2, 96, 14, 14)
    runs = []
    for _ in range(2):
        out = fused_block(*given)
        runs.append([out, *torch.autograd.grad(out.sum(), [t for t in given[:10] if t is not None])])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
