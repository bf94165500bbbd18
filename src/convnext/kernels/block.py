"""A ConvNeXt block as one function with a backward pass of its own: fp32 on the processor, channels last.

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
        gx = kernels.depthwise(gy, dw.flatten(1).flip(1).t().contiguous(), None, grad)
        g_dw, g_db = kernels.depthwise_backward(x, gy)
        g_w1 = torch.addr(d_first * lw, d_b1, lb)
        g_lw, g_lb = (w1 * d_first).sum(0), w1.t() @ d_b1
        g_gamma = None if gamma is None else (w2 * d_second).sum(1) + b2 * total
        g_w2, g_b2 = (d_second, total) if gamma is None else (d_second * gamma[:, None], gamma * total)
        return gx, g_dw.t().reshape(dw.shape), g_db, g_lw, g_lb, g_w1, d_b1, g_w2, g_b2, g_gamma, None


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


def fits(x: Tensor, channels: int) -> bool:
    """Whether the fused block may take this input: fp32 maps on the processor, plain eager mode, gradients or not."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.ndim == 4
        and x.numel() > 0
        and channels % 8 == 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
        and type(x) in (Tensor, torch.nn.Parameter)
        and _get_current_dispatch_mode() is None
        and native.available()
    )


def fused_block(x: Tensor, *weights: Any) -> Tensor:
    """A whole block, (N, C, H, W) -> (N, C, H, W) in channels last; arguments as those of `reference`."""
    x = x.contiguous(memory_format=torch.channels_last)
    if not torch.is_grad_enabled():
        return _without_gradients(x, *weights)
    apply: Callable[..., Tensor] = _Block.apply
    return apply(x, *weights)
