"""Depthwise convolution with a fast backward on the CPU.

The stock backward of a depthwise convolution is badly served on processors. Both of its gradients are themselves
convolutions that stock operators do quickly:

- the input's gradient is a depthwise convolution of the output's gradient with the kernel turned by 180 degrees;
- the kernel's gradient is a convolution of the input *by* the output's gradient, each of the N * C planes a group of
  its own, summed over the N pictures.

The forward pass is the stock operator's, so outputs are the same to the bit. `docs/speed.md` has measurements.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _DepthwiseConv2d(torch.autograd.Function):
    """Stride 1, dilation 1, odd square kernel k, padding k // 2."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(x, weight)

    @staticmethod
    def jvp(ctx: Any, x_t: Tensor | None, weight_t: Tensor | None, bias_t: Tensor | None) -> Tensor:
        x, weight = ctx.saved_tensors
        zero = torch.zeros_like(weight)
        out = F.conv2d(x, zero if weight_t is None else weight_t, bias_t, padding=zero.shape[-1] // 2, groups=len(zero))
        return out if x_t is None else out + F.conv2d(x_t, weight, padding=zero.shape[-1] // 2, groups=len(zero))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        grad_x = grad_weight = grad_bias = None
        with torch.autocast("cpu", enabled=False):  # autocast around `backward()` must not lower the precision
            if needs_x:
                grad_x = F.conv2d(grad, weight.flip(2, 3), padding=weight.shape[-1] // 2, groups=weight.shape[0])
            if needs_weight:
                grad_weight = _weight_gradient(x, grad, weight.shape[-1])
        if needs_bias:
            grad_bias = grad.sum((0, 2, 3))
        return grad_x, grad_weight, grad_bias


_SCHEMA = "(Tensor x, Tensor weight, Tensor? bias) -> Tensor"


@torch.library.custom_op("convnext_depthwise::forward", mutates_args=(), schema=_SCHEMA)
def _whole(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution as one operator to torch's compiler, which then neither breaks its graph nor looks inside."""
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])


@torch.library.custom_op(
    "convnext_depthwise::backward", mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor grad, bool input) -> (Tensor, Tensor, Tensor)",
)  # fmt: skip
def _whole_backward(x: Tensor, weight: Tensor, grad: Tensor, input: bool) -> tuple[Tensor, Tensor, Tensor]:
    with torch.autocast("cpu", enabled=False):
        k, c = weight.shape[-1], weight.shape[0]
        found = F.conv2d(grad, weight.flip(2, 3), padding=k // 2, groups=c) if input else grad.new_empty(0)
        return found, _weight_gradient(x, grad, k).contiguous(), grad.sum((0, 2, 3))


@_whole.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])


@_whole_backward.register_fake
def _(x: Tensor, weight: Tensor, grad: Tensor, input: bool) -> tuple[Tensor, Tensor, Tensor]:
    k, c = weight.shape[-1], weight.shape[0]
    found = F.conv2d(grad, weight.flip(2, 3), padding=k // 2, groups=c) if input else grad.new_empty(0)
    return found, x.new_empty(c, 1, k, k), grad.new_empty(c)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    x, weight = ctx.saved_tensors
    needed = ctx.needs_input_grad
    found = _whole_backward(x, weight, grad, needed[0])
    gx, gw, gb = (value if need else None for value, need in zip(found, needed, strict=True))
    return gx, gw, gb


_whole.register_autograd(_gradients, setup_context=_keep)


def _weight_gradient(x: Tensor, grad: Tensor, k: int) -> Tensor:
    """Gradient of the kernel, shape (C, 1, k, k), of a depthwise convolution with padding k // 2.

    Every plane of `x` is convolved by its own plane of `grad`: one grouped convolution with N * C groups.
    """
    n, c, h, w = x.shape
    if n == 0:
        return x.new_zeros(c, 1, k, k)
    short = (0, max(0, 4 - w), 0, max(0, 4 - h))  # below 4 positions a side torch takes a slow path
    if any(short):
        x, grad = F.pad(x, short), F.pad(grad, short)
        h, w = x.shape[2:]
    planes = x.reshape(1, n * c, h, w)
    kernels = grad.reshape(n * c, 1, h, w)
    per_picture = F.conv2d(planes, kernels, padding=k // 2, groups=n * c)  # (1, N * C, k, k)
    return per_picture.view(n, c, k, k).sum(0).unsqueeze(1)


def uses_fast_backward(x: Tensor, weight: Tensor) -> bool:
    """Whether the fast backward applies: batches on the CPU, square odd kernels, and a gradient that is asked for."""
    k_h, k_w = weight.shape[-2:]
    fits = x.ndim == 4 and k_h == k_w and k_h % 2 == 1 and weight.shape[1] == 1
    # an exported or traced graph holds stock operators only
    exporting = torch.compiler.is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined]
    return fits and x.device.type == "cpu" and torch.is_grad_enabled() and not exporting


def depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Depthwise convolution of stride 1 that keeps the size: (N, C, H, W) -> (N, C, H, W).

    Args:
        x: the maps, (N, C, H, W), in either memory format.
        weight: the kernels, (C, 1, k, k), k odd.
        bias: (C,) or none.
    """
    if not uses_fast_backward(x, weight):
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])
    if torch.is_autocast_enabled("cpu") and x.dtype != torch.float64:  # as autocast does, which leaves double alone
        dtype = torch.get_autocast_dtype("cpu")
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    if torch.compiler.is_compiling():
        whole: Tensor = _whole(x, weight, bias)
        return whole
    out: Tensor = _DepthwiseConv2d.apply(x, weight, bias)
    return out


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)` with the fast backward where it applies.

    Parameters and their names are those of `nn.Conv2d`.
    """

    def __init__(self, dim: int, kernel_size: int = 7, *, bias: bool = True) -> None:
        super().__init__(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return depthwise_conv2d(x, self.weight, self.bias)
