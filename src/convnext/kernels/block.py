"""A ConvNeXt block as one function with a backward pass of its own on the processor, channels last: fp32, or autocast.

It computes what `nn.convnext.Block` computes (tested against stock operators), keeps less for the backward pass, and
goes through memory less often: docs/speed.md. The norm's affine part and layer scale are folded into the linear layers
before the products, and their gradients are taken out again afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import _get_current_dispatch_mode

from convnext.kernels import native

EPS = 1e-6


def reference(
    x: Tensor, dw: Tensor, db: Tensor, lw: Tensor, lb: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor,
    gamma: Tensor | None, factor: Tensor | None,
) -> Tensor:  # fmt: skip
    """The same by stock operators: x + factor gamma (w2 gelu(w1 norm(dwconv(x)) + b1) + b2), (N, C, H, W)."""
    y = F.conv2d(x, dw, db, padding=3, groups=len(dw)).permute(0, 2, 3, 1)
    z = F.linear(F.gelu(F.linear(F.layer_norm(y, lw.shape, lw, lb, EPS), w1, b1)), w2, b2)
    z = z if gamma is None else gamma * z
    z = z if factor is None else factor.view(-1, 1, 1, 1) * z
    return x + z.permute(0, 3, 1, 2)


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Any) -> Tensor:
        dw, db, lw, lb, w1, b1, w2, b2, gamma, factor = weights
        kernels = torch.ops.convnext
        y = kernels.depthwise(x, dw.flatten(1).t().contiguous(), db, None)
        first, bias = w1 * lw, torch.addmv(b1, w1, lb)
        second, last = (w2, b2) if gamma is None else (w2 * gamma[:, None], b2 * gamma)
        out, hidden, stats = kernels.mlp(y, x, first, bias, second, last, factor, EPS, True)
        ctx.save_for_backward(x, *weights, y, hidden, stats, first, second)
        result: Tensor = out
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: checkpointing computes them anew for every look
        x, *weights = saved[:11]
        if torch.is_grad_enabled():  # a gradient of the gradient is asked for
            return _differentiable(x, weights, grad)
        dw, _, lw, lb, w1, _, w2, b2, gamma, factor = weights
        y, hidden, stats, first, second = saved[11:]
        kernels = torch.ops.convnext
        grad = grad.contiguous(memory_format=torch.channels_last)
        gy, d_first, d_b1, d_second, total = kernels.mlp_backward(grad, y, hidden, stats, first, second, factor)
        # the first block after frozen ones passes no gradient on
        gx = None
        if ctx.needs_input_grad[0]:
            gx = kernels.depthwise(gy, dw.flatten(1).flip(1).t().contiguous(), None, grad)
        g_dw, g_db = kernels.depthwise_backward(x, gy)
        rest = _unfolded(d_first, d_b1, d_second, total, lw, lb, w1, w2, b2, gamma)
        return gx, g_dw.t().reshape(dw.shape), g_db, *rest, None


def _without_gradients(
    x: Tensor, dw: Tensor, db: Tensor, lw: Tensor, lb: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor,
    gamma: Tensor | None, factor: Tensor | None,
) -> Tensor:  # fmt: skip
    kernels = torch.ops.convnext
    y = kernels.depthwise(x, dw.flatten(1).t().contiguous(), db, None)
    second, last = (w2, b2) if gamma is None else (w2 * gamma[:, None], b2 * gamma)
    out: Tensor = kernels.mlp(y, x, w1 * lw, torch.addmv(b1, w1, lb), second, last, factor, EPS, False)[0]
    return out


def _differentiable(x: Tensor, weights: list[Any], grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients as functions of everything, by stock operators."""
    given: list[Any] = [x, *weights[:9]]
    wanted = [t for t in given if t is not None and t.requires_grad]
    found = iter(torch.autograd.grad(reference(*[*given, weights[9]]), wanted, grad, create_graph=True))
    return (*(next(found) if t is not None and t.requires_grad else None for t in given), None)


class _HalfBlock(torch.autograd.Function):
    """The block under autocast to bf16: what is multiplied is bf16, the maps between blocks and all sums are fp32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Any) -> Tensor:
        out, *kept = _half_forward(x, *weights, keep=True)
        ctx.save_for_backward(*weights, *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: checkpointing computes them anew for every look
        dw, db, lw, lb, w1, _, w2, b2, gamma, factor = saved[:10]
        xh, rows, inverse, hidden = saved[10:]
        kernels = torch.ops.convnext
        grad = grad.float().contiguous(memory_format=torch.channels_last)
        first, second = w1 * lw, w2 if gamma is None else w2 * gamma[:, None]
        packed = kernels.pack_half(first, True, False), kernels.pack_half(second, True, False)
        gy, d_first, d_second, d_b1, total, g_db = kernels.train_half_backward(
            grad, rows, inverse, hidden, *packed, None if factor is None else factor.float()
        )
        plain = dw.flatten(1).t().contiguous()
        none = torch.zeros_like(db)
        groups, _ = kernels.pack_depthwise(plain, none, True)
        gx = kernels.depthwise_input_half(gy, groups, plain.flip(0), none, grad) if ctx.needs_input_grad[0] else None
        g_dw = kernels.depthwise_weight_half(xh, gy)
        rest = _unfolded(d_first.t(), d_b1, d_second, total, lw, lb, w1, w2, b2, gamma)
        return gx, g_dw.t().reshape(dw.shape), g_db, *rest, None


def _unfolded(
    d_first: Tensor, d_b1: Tensor, d_second: Tensor, total: Tensor, lw: Tensor, lb: Tensor, w1: Tensor, w2: Tensor,
    b2: Tensor, gamma: Tensor | None,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """Gradients of norm, linear layers and layer scale (lw, lb, w1, b1, w2, b2, gamma) from those of the folded layers.

    Args:
        d_first: of the first layer with the norm's weight in it, (D, C).
        d_b1: of its bias, (D,).
        d_second: of the second layer before layer scale, (C, D).
        total: of its bias before layer scale, (C,).
    """
    g_w1 = torch.addr(d_first * lw, d_b1, lb)
    g_lw, g_lb = (w1 * d_first).sum(0), w1.t() @ d_b1
    if gamma is None:
        return g_lw, g_lb, g_w1, d_b1, d_second, total, None
    g_gamma = (w2 * d_second).sum(1) + b2 * total
    return g_lw, g_lb, g_w1, d_b1, d_second * gamma[:, None], gamma * total, g_gamma


def _half_forward(
    x: Tensor, dw: Tensor, db: Tensor, lw: Tensor, lb: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor,
    gamma: Tensor | None, factor: Tensor | None, *, keep: bool,
) -> list[Tensor]:  # fmt: skip
    """The output in fp32, and if asked for what the backward pass needs: input, normalised rows, deviations, hidden."""
    kernels = torch.ops.convnext
    plain = dw.flatten(1).t().contiguous()
    groups, split = kernels.pack_depthwise(plain, db, False)
    bias = padded_bias(torch.addmv(b1, w1, lb))
    second, last = (w2, b2) if gamma is None else (w2 * gamma[:, None], b2 * gamma)
    packed = kernels.pack_half(w1 * lw, False, False), bias, kernels.pack_half(second, False, True), padded_bias(last)
    factor = None if factor is None else factor.float()
    out: list[Tensor] = kernels.train_half(x.float(), groups, plain, split, *packed, factor, len(b1), EPS, keep)
    return out


def padded_bias(bias: Tensor) -> Tensor:
    """A bias with zeros up to a multiple of 64, as far as any kernel reads."""
    out = bias.new_zeros(-(-len(bias) // 64) * 64)
    out[: len(bias)] = bias.detach()
    return out


def _in_half() -> bool:
    """Whether autocast asks for bf16 where our own products in bf16 are the quickest: with dot products alone.

    Matrix units are several times as quick as these; torch's own operators use them.
    """
    return torch.get_autocast_dtype("cpu") == torch.bfloat16 and native.dot_products() and not native.matrix_units()


def enough(rows: int, channels: int, *, half: bool) -> bool:
    """Whether a block of so many channels has positions enough (N H W) to be quicker at once than layer by layer.

    The fused block scales or packs its weights in every call, which few positions do not make up for. The bounds are
    rounded from `python -m convnext.bench.block`.
    """
    needed = (4 if torch.is_grad_enabled() else 1) if half else 2
    return rows >= needed * channels


def fits(x: Tensor, channels: int) -> bool:
    """Whether the fused block should take this input: maps on the processor, plain eager mode, gradients or not.

    fp32, or under autocast to bf16 either, where the kernels in bf16 are quick; and positions enough.
    """
    autocast = torch.is_autocast_enabled("cpu")
    return (
        x.device.type == "cpu"
        and (x.dtype == torch.float32 or (autocast and x.dtype == torch.bfloat16))
        and x.ndim == 4
        and x.numel() > 0
        and channels % 8 == 0
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
        and type(x) in (Tensor, torch.nn.Parameter)
        and _get_current_dispatch_mode() is None
        and enough(x.numel() // x.shape[1], channels, half=autocast)
        and native.available(build=torch.is_grad_enabled())  # a forward pass alone is no reason to compile them
        and (not autocast or _in_half())
    )


def fused_block(x: Tensor, *weights: Any) -> Tensor:
    """A whole block, (N, C, H, W) -> (N, C, H, W) in channels last; arguments as those of `reference`."""
    x = x.contiguous(memory_format=torch.channels_last)
    half = torch.is_autocast_enabled("cpu")
    with torch.autocast("cpu", enabled=False):
        learning = any(t is not None and t.requires_grad for t in (x, *weights))
        if not (torch.is_grad_enabled() and learning):  # frozen blocks keep nothing for a backward pass
            return _half_forward(x, *weights, keep=False)[0] if half else _without_gradients(x, *weights)
        apply: Callable[..., Tensor] = _HalfBlock.apply if half else _Block.apply
        return apply(x, *weights)
