"""A ConvNeXt for inference: fewer operations that give the same answer.

A block's LayerNorm leaves its affine part to the first linear layer, and layer scale goes into the second one; the
norm before a downsampling goes into its convolution (exactly: nothing is padded there); stochastic depth is gone. The
rest is computed by stock operators, or by our own kernels, which hold their weights in the order of reading.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnext.errors import UserError
from convnext.nn.convnext import Block, ConvNeXt, Downsample, Stem

EPS = 1e-6


def can_fold(model: nn.Module) -> bool:
    """Whether a network is a ConvNeXt as it was built, of the first version, in fp32."""
    blocks = [block for stage in getattr(model, "stages", ()) for block in getattr(stage, "blocks", ())]
    return (
        type(model) is ConvNeXt
        and bool(blocks)
        and all(type(block) is Block and block.is_plain() for block in blocks)
        and all(p.dtype == torch.float32 and p.device.type == "cpu" for p in model.parameters())
    )


def fold(model: ConvNeXt, *, native: bool, dtype: torch.dtype = torch.float32) -> ConvNeXt:
    """A copy of a network for which `can_fold` is true, in eval mode, with its layers folded.

    Args:
        model: is left as it is.
        native: use our own kernels (fp32 only), else stock operators.
        dtype: of the weights and maps; pictures may be fp32 and logits are fp32 in any case.
    """
    out = copy.copy(model)  # the tensors of what is replaced are not copied
    out._modules = dict(model._modules)
    with torch.no_grad():
        out.stem = _folded_stem(model.stem, native, dtype)
        out.stages = nn.ModuleList(_folded_stage(stage, native, dtype) for stage in model.stages)
        out.norm, out.head = _FloatNorm(model.norm), copy.deepcopy(model.head)
        out.output_norms = copy.deepcopy(model.output_norms)
    out.eval()
    return out.requires_grad_(False)


def _folded_stage(stage: nn.Module, native: bool, dtype: torch.dtype) -> nn.Module:
    layers: list[nn.Module] = []
    if isinstance(stage.downsample, Downsample):
        layers.append(_folded_downsample(stage.downsample, native, dtype))
    for block in stage.blocks:  # type: ignore[union-attr]
        layers.append((NativeBlock if native else FoldedBlock)(block, dtype))
    return nn.Sequential(*layers)


def _folded_stem(stem: nn.Module, native: bool, dtype: torch.dtype) -> nn.Module:
    assert isinstance(stem, Stem)
    assert stem.conv.bias is not None
    norm = getattr(stem, "norm", None)
    kind = NativePatches if native and _fits(stem.conv.out_channels) else FoldedPatches
    return kind(stem.conv.weight, stem.conv.bias, None if norm is None else (norm.weight, norm.bias), False, dtype)


def _folded_downsample(layer: Downsample, native: bool, dtype: torch.dtype) -> nn.Module:
    assert layer.conv.bias is not None
    weight = layer.conv.weight * layer.norm.weight[:, None, None]
    bias = torch.addmv(layer.conv.bias, layer.conv.weight.sum((2, 3)), layer.norm.bias)
    return (NativePatches if native else FoldedPatches)(weight, bias, None, True, dtype)


def _fits(channels: int) -> bool:
    return channels % 8 == 0


class _FloatNorm(nn.LayerNorm):
    """The last norm, in fp32 whatever the maps are."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__(norm.normalized_shape, eps=norm.eps)
        self.load_state_dict(norm.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())


class FoldedPatches(nn.Module):
    """A convolution whose kernel is its stride, by stock operators: the stem, or a downsampling.

    Args:
        weight: (n, C, p, p), with the norm before it folded in.
        bias: (n,)
        after: weight and bias of a LayerNorm after it, or None.
        before: whether positions are normalised before it.
        dtype: of the weights.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, after: tuple[Tensor, Tensor] | None, before: bool, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.patch, self.before, self.dtype = weight.shape[-1], before, dtype
        self.register_buffer("weight", weight.detach().to(dtype, memory_format=torch.channels_last))
        self.register_buffer("bias", bias.detach().to(dtype))
        self.gain = self.shift = None
        if after is not None:
            self.gain, self.shift = (nn.Parameter(t.detach().to(dtype)) for t in after)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype, memory_format=torch.channels_last)
        if self.before:
            x = F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), eps=EPS).permute(0, 3, 1, 2)
        x = F.conv2d(x, self.weight, self.bias, stride=self.patch)  # type: ignore[arg-type]
        if self.gain is None:
            return x
        x = F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), self.gain, self.shift, EPS)
        return x.permute(0, 3, 1, 2)


class FoldedBlock(nn.Module):
    """A block by stock operators: depthwise convolution, norm, linear, GELU, linear, residual."""

    kernel: Tensor
    shift: Tensor
    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor

    def __init__(self, block: Block, dtype: torch.dtype) -> None:
        super().__init__()
        w1, b1, w2, b2 = folded_linears(block)
        kernel = block.dwconv.weight.detach().to(dtype, memory_format=torch.channels_last)
        held = {"kernel": kernel, "shift": _bias_of(block), "w1": w1, "b1": b1, "w2": w2, "b2": b2}
        for name, value in held.items():
            self.register_buffer(name, value.detach().to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(x, self.kernel, self.shift, padding=3, groups=x.shape[1])
        y = F.layer_norm(y.permute(0, 2, 3, 1), (x.shape[1],), eps=EPS)  # (N, H, W, C)
        y = F.linear(F.gelu(F.linear(y, self.w1, self.b1)), self.w2, self.b2)
        return x + y.permute(0, 3, 1, 2)


class NativePatches(nn.Module):
    """`FoldedPatches` by our own kernel, in fp32."""

    weight: Tensor
    bias: Tensor

    def __init__(
        self, weight: Tensor, bias: Tensor, after: tuple[Tensor, Tensor] | None, before: bool, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.outputs, self.patch, self.before = weight.shape[0], weight.shape[-1], before
        rows = weight.detach().permute(0, 2, 3, 1).flatten(1).contiguous()  # as the pixels of a patch lie in memory
        self.register_buffer("weight", torch.ops.convnext.pack(rows, False, False))
        self.register_buffer("bias", _padded(bias, self.weight))
        self.after = (None, None) if after is None else tuple(t.detach().clone() for t in after)

    def forward(self, x: Tensor) -> Tensor:
        x = _taken(x)
        out: Tensor = torch.ops.convnext.patches(
            x, self.weight, self.bias, self.outputs, self.patch, self.before, *self.after, EPS
        )
        return out


class NativeBlock(nn.Module):
    """A block by our own kernel, in fp32."""

    kernel: Tensor
    shift: Tensor
    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor

    def __init__(self, block: Block, dtype: torch.dtype) -> None:
        super().__init__()
        w1, b1, w2, b2 = folded_linears(block)
        pack = torch.ops.convnext.pack
        self.register_buffer("kernel", block.dwconv.weight.detach().flatten(1).t().contiguous())
        self.register_buffer("shift", _bias_of(block).clone())
        self.register_buffer("w1", pack(w1.contiguous(), False, False))
        self.register_buffer("b1", _padded(b1, self.w1))
        self.register_buffer("w2", pack(w2.contiguous(), False, True))
        self.register_buffer("b2", _padded(b2, self.w2))

    def forward(self, x: Tensor) -> Tensor:
        x = _taken(x)
        out: Tensor = torch.ops.convnext.block(x, self.kernel, self.shift, self.w1, self.b1, self.w2, self.b2, EPS)
        return out


def folded_linears(block: Block) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights and biases of a block's two linear layers, with the norm's affine part and layer scale in them."""
    first = block.pwconv1.weight * block.norm.weight
    bias = torch.addmv(block.pwconv1.bias, block.pwconv1.weight, block.norm.bias)
    second: Tensor = block.pwconv2.weight
    last: Tensor = block.pwconv2.bias
    if block.gamma is not None:
        second, last = second * block.gamma[:, None], last * block.gamma
    return first.detach(), bias.detach(), second.detach(), last.detach()


def _bias_of(block: Block) -> Tensor:
    bias = block.dwconv.bias
    assert bias is not None
    return bias.detach()


def _padded(bias: Tensor, packed: Tensor) -> Tensor:
    """A bias, with zeros up to whole panels."""
    out = bias.new_zeros(packed.shape[0] * packed.shape[2])
    out[: len(bias)] = bias.detach()
    return out


def _taken(x: Tensor) -> Tensor:
    """An input as the kernels read it: fp32 on the processor, channels last.

    Raises:
        UserError: it is something else, or a gradient is asked for.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        raise UserError("an optimised network gives no gradients; ask the network that it was made from")
    if x.dtype != torch.float32 or x.device.type != "cpu":
        raise UserError(f"this network was optimised for fp32 on the cpu; the input is {x.dtype} on {x.device}")
    return x.contiguous(memory_format=torch.channels_last)
