"""The fused block under autocast to bf16: at least as near to fp32 as stock operators, on every processor.

Where the processor has no dot products of bf16 the kernels emulate them. The block does not choose them there.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from convnext.kernels import block as module
from convnext.kernels import native
from convnext.kernels.block import fused_block, padded_bias, reference
from convnext.nn.convnext.backbone import ConvNeXt

pytestmark = pytest.mark.skipif(not native.available(), reason=f"no kernels here: {native.why_not()}")

DEPTHWISE = [(2, 96, 14, 14), (3, 40, 5, 9), (1, 32, 7, 7), (2, 64, 1, 1), (1, 24, 3, 33), (2, 32, 6, 12)]
Inputs = Callable[..., list[Tensor | None]]
SHAPES = [
    (3, 16, 9, 10),
    (2, 96, 14, 14),
    (1, 400, 7, 7),
    (2, 384, 3, 5),
    (1, 24, 1, 1),
    (5, 40, 2, 30),
    (3, 64, 1, 17),
]


def answers(function: object, given: list[Tensor | None], *, half: bool) -> list[Tensor]:
    """The output and all gradients."""
    grad = torch.randn(given[0].shape, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        out = function(*given)
    wanted = [t for t in given[:10] if t is not None]
    return [out, *torch.autograd.grad(out, wanted, grad.to(out.dtype))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gamma", [False, True])
@pytest.mark.parametrize("factor", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_outputs_and_gradients_are_nearer_to_fp32_than_those_of_stock_operators(
    inputs: Inputs, shape: tuple[int, int, int, int], gamma: bool, factor: bool, threads: int
) -> None:
    """In the norm of the difference, each of them, with one tenth to spare for chance."""
    torch.set_num_threads(threads)
    given = inputs(*shape, gamma=gamma, factor=factor)
    exact = answers(reference, given, half=False)
    stock, ours = answers(reference, given, half=True), answers(fused_block, given, half=True)
    assert ours[0].dtype == torch.float32
    for found, theirs, wanted in zip(ours, stock, exact, strict=True):
        assert found.dtype == wanted.dtype
        scale = wanted.norm()
        if shape[0] * shape[2] * shape[3] >= 30:  # of fewer values chance decides who is nearer
            assert (found - wanted).norm() <= 1.1 * (theirs.float() - wanted).norm() + 1e-3 * scale
        assert (found - wanted).norm() <= 1e-2 * scale


def test_without_gradients_it_computes_the_same(inputs: Inputs) -> None:
    """Nothing is kept then, and no bit changes; a map in bf16 counts as one in fp32."""
    given = [t if t is None else t.detach() for t in inputs(2, 96, 14, 14)]
    with torch.autocast("cpu", torch.bfloat16):
        kept = fused_block(given[0].clone().requires_grad_(), *given[1:])
        with torch.no_grad():
            assert torch.equal(fused_block(*given), kept)
            halves = given[0].bfloat16()
            assert torch.equal(fused_block(halves, *given[1:]), fused_block(halves.float(), *given[1:]))


def test_maps_and_factors_may_be_bf16(inputs: Inputs) -> None:
    """As behind a downsampling layer: gradients are those of the same values in fp32."""
    given = inputs(3, 40, 14, 14, factor=True)
    halves = [t if i not in (0, 10) or t is None else t.detach().bfloat16().requires_grad_(i == 0)
              for i, t in enumerate(given)]  # fmt: skip
    exact = [t if i not in (0, 10) or t is None else t.detach().float().requires_grad_(i == 0)
             for i, t in enumerate(halves)]  # fmt: skip
    found, wanted = answers(fused_block, halves, half=True), answers(fused_block, exact, half=True)
    assert found[1].dtype == torch.bfloat16
    assert all(torch.equal(a, b.to(a.dtype)) for a, b in zip(found, wanted, strict=True))


def test_a_network_with_stochastic_depth_trains_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages of blocks behind downsampling layers, as `finetune/small` has them: gradients as those of the layers."""
    torch.manual_seed(0)
    model = ConvNeXt((1, 2, 1, 1), (16, 32, 40, 64), num_classes=3, drop_path=0.3).train()
    pictures = torch.randn(8, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    found = []
    for ours in (True, False):
        if not ours:
            monkeypatch.setattr("convnext.nn.convnext.backbone.fits", lambda *given: False)
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(pictures), torch.arange(8) % 3)
        found.append(torch.autograd.grad(loss, list(model.parameters())))
    for a, b in zip(*found, strict=True):
        assert (a - b).norm() <= 0.05 * b.norm() + 1e-5


def test_it_is_deterministic_and_keeps_nan(inputs: Inputs) -> None:
    """Twice the same bits; a loss that is not a number must be seen."""
    given = inputs(2, 96, 14, 14)
    first, second = (answers(fused_block, given, half=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    spoiled = given[0].detach().clone()
    spoiled[1, 5, 3, 3] = float("nan")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        out = fused_block(spoiled, *given[1:])
    assert out[1].isnan().any()
    assert out[0].isfinite().all()


def test_the_gelu_is_exact_to_bf16() -> None:
    """Over the whole range: 2.1e-4, and half a unit of the last place of its result and of the hidden row."""
    c = 16
    rows = torch.zeros(1, c, 64, 64).contiguous(memory_format=torch.channels_last)
    second = torch.eye(c).repeat(1, 4)[:, : 4 * c]
    worst = 0.0
    for first in torch.linspace(-10, 10, 4 * c * 40).view(40, 4 * c):
        bias = torch.zeros(4 * c)
        bias[:c] = first[:c]
        packed = (
            torch.ops.convnext.pack_half(torch.zeros(4 * c, c), False, False), padded_bias(bias),
            torch.ops.convnext.pack_half(second, False, True), padded_bias(torch.zeros(c)),
        )  # fmt: skip
        kernels = torch.zeros(49, c), torch.zeros(c)
        groups, split = torch.ops.convnext.pack_depthwise(*kernels, False)
        out = torch.ops.convnext.train_half(
            rows, groups, kernels[0], split, *packed, None, 4 * c, 1e-6, True
        )[0]  # fmt: skip
        wanted = F.gelu(bias[:c].double())
        worst = max(worst, float(((out[0, :, 0, 0].double() - wanted).abs() - wanted.abs() / 256).max()))
    assert worst < 2.2e-4


@pytest.mark.parametrize("shape", DEPTHWISE)
def test_the_depthwise_gradients_are_exact(shape: tuple[int, int, int, int]) -> None:
    """With values that bf16 holds the sums are those of stock operators in double precision, to 1e-5."""
    c = shape[1]
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(shape, generator=generator).bfloat16().double() for _ in range(2))
    weight = torch.randn(c, 1, 7, 7, generator=generator).bfloat16().double()
    plus = torch.randn(shape, generator=generator).double()
    gx = torch.nn.grad.conv2d_input(shape, weight, grad, padding=3, groups=c) + plus
    gw = torch.nn.grad.conv2d_weight(x, weight.shape, grad, padding=3, groups=c)
    ours, kernels = torch.ops.convnext, weight.float().flatten(1).t().contiguous()
    last = {"memory_format": torch.channels_last}
    x, grad, plus = x.bfloat16().contiguous(**last), grad.bfloat16().contiguous(**last), plus.float().contiguous(**last)
    groups, none = ours.pack_depthwise(kernels, torch.zeros(c), True)
    found = ours.depthwise_input_half(grad, groups, kernels.flip(0).contiguous(), none, plus)
    torch.testing.assert_close(found.double(), gx, rtol=1e-5, atol=1e-5 * float(gx.abs().max()))
    found = ours.depthwise_weight_half(x, grad).t().reshape(c, 1, 7, 7)
    torch.testing.assert_close(found.double(), gw, rtol=1e-5, atol=1e-5 * float(gw.abs().max()))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_network_learns_with_it_as_with_stock_operators(checkpointing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten steps under autocast: losses within 2 % of those of stock operators."""
    losses = []
    for ours in (True, False):
        monkeypatch.setattr(module, "_in_half", lambda ours=ours: ours)
        torch.manual_seed(0)
        model = ConvNeXt((1, 1, 2, 1), (16, 32, 64, 128), num_classes=5, layer_scale=0.5, checkpointing=checkpointing)
        optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-3)
        x, y = torch.randn(8, 3, 64, 64), torch.arange(8) % 5
        losses.append([])
        for _ in range(10):
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses[-1].append(loss.item())
    assert losses[0][-1] < 0.9 * losses[0][0]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_a_second_derivative_is_refused(inputs: Inputs) -> None:
    """Torch says so; it must not be wrong silently."""
    given = inputs(1, 16, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        out = fused_block(*given)
    (gx,) = torch.autograd.grad(out.square().sum(), given[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gx.sum().backward()


def test_it_is_chosen_for_dot_products_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrix units are quicker still, through stock operators; fp16 and other processors are left to them too."""
    x = torch.zeros(1, 16, 8, 8)
    for dots, units, dtype, wanted in (
        (True, False, torch.bfloat16, True), (True, True, torch.bfloat16, False),
        (False, False, torch.bfloat16, False), (True, False, torch.float16, False),
    ):  # fmt: skip
        monkeypatch.setattr(native, "dot_products", lambda dots=dots: dots)
        monkeypatch.setattr(native, "matrix_units", lambda units=units: units)
        with torch.autocast("cpu", dtype):
            assert module.fits(x, 16) is wanted


def test_few_positions_are_left_to_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 positions a channel with gradients, 1 without; 2 in fp32 either way."""
    monkeypatch.setattr(native, "dot_products", lambda: True)
    monkeypatch.setattr(native, "matrix_units", lambda: False)

    def least(grad: bool, half: bool) -> int:
        with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16, enabled=half):
            return next(n for n in range(1, 200) if module.fits(torch.zeros(1, 16, 1, n), 16))

    assert [least(True, True), least(False, True), least(True, False), least(False, False)] == [64, 16, 32, 32]
