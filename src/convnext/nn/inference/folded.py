"""A ConvNeXt for inference: fewer operations that give the same answer.

A block's LayerNorm leaves its affine part to the first linear layer, and layer scale goes into the second one; the
norm before a downsampling goes into its convolution (exactly: nothing is padded there); stochastic depth is gone. The
rest is computed by stock operators, or by our own kernels, which hold their weights in the order of reading.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnext.kernels.block import padded_bias
from convnext.nn.convnext.backbone import Block, ConvNeXt, Downsample, Stage, Stem
from convnext.nn.convnext.layers import LayerNorm2d
from convnext.nn.network import Network

EPS = 1e-6


def can_fold(model: nn.Module) -> bool:
    """Whether a network is a ConvNeXt as it was built, of the first version, in fp32."""
    return (
        type(model) is ConvNeXt
        and _is_plain(model)
        and not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        and all(p.dtype == torch.float32 and p.device.type == "cpu" for p in model.parameters())
    )


_WHOLE = {"stem", "stages", "norm", "head"}
_STAGE = {"downsample", "blocks"}
"""Children that the folded network stands for."""


def _is_plain(model: ConvNeXt) -> bool:
    """Whether the network has exactly the parts that were built, each that is folded of its kind, with its bias."""
    stages = list(model.stages)
    if not stages or not all(type(stage) is Stage and stage._modules.keys() == _STAGE for stage in stages):
        return False
    if model._modules.keys() - {"output_norms"} != _WHOLE:
        return False
    downs = [stage.downsample for stage in stages if type(stage.downsample) is not nn.Identity]
    layers = [getattr(part, name) for part in (model.stem, *downs) for name in ("conv", "norm") if hasattr(part, name)]
    blocks = [block for stage in stages for block in stage.blocks]  # type: ignore[union-attr]
    folded = (model.stem, *stages, model.norm)
    return (
        type(model.stem) is Stem
        and all(type(down) is Downsample for down in downs)
        and all(type(layer) in (nn.Conv2d, LayerNorm2d) for layer in layers)
        and type(model.norm) is nn.LayerNorm
        and all(type(block) is Block and block.is_plain() for block in blocks)
        and all(layer.bias is not None for part in folded for layer in part.modules() if hasattr(layer, "bias"))
    )


def fold(model: ConvNeXt, *, native: bool, dtype: torch.dtype = torch.float32) -> ConvNeXt:
    """A network like one for which `can_fold` is true, in eval mode, with its layers folded.

    Args:
        model: is left as it is; some of its tensors are in both afterwards.
        native: use our own kernels, else stock operators.
        dtype: of the weights and maps, fp32 or bf16; pictures may be fp32 and logits are fp32 in any case.
    """
    patches, block = _kinds(native, dtype)
    out = ConvNeXt.__new__(ConvNeXt)  # without the weights that its own constructor would draw
    Network.__init__(out, model.in_chans, model.num_classes, model.channels, model.strides)
    out.depths, out.dims, out.stem_patch = model.depths, model.dims, model.stem_patch
    out.classes, out.multi_label, out.preprocessing = model.classes, model.multi_label, model.preprocessing
    out.output_norms = None
    with torch.no_grad():
        out.stem = _folded_stem(model.stem, patches)
        out.stages = nn.ModuleList(_folded_stage(stage, patches, block) for stage in model.stages)
        out.norm, out.head = _FloatNorm(model.norm), copy.deepcopy(model.head)
        if model.output_norms is not None:
            out.output_norms = copy.deepcopy(model.output_norms).to(dtype)
    out.eval()
    return out.requires_grad_(False)


Patches = Callable[[Tensor, Tensor, tuple[Tensor, Tensor] | None, bool], nn.Module]
"""Makes a module from a weight (n, C, p, p), a bias, the LayerNorm after it or None, and whether one is before it."""


def _kinds(native: bool, dtype: torch.dtype) -> tuple[Patches, Callable[[Block], nn.Module]]:
    if not native:
        return partial(FoldedPatches, dtype), partial(FoldedBlock, dtype)
    return (HalfPatches, HalfBlock) if dtype == torch.bfloat16 else (NativePatches, NativeBlock)


def _folded_stage(stage: nn.Module, patches: Patches, block: Callable[[Block], nn.Module]) -> nn.Module:
    layers: list[nn.Module] = []
    if isinstance(stage.downsample, Downsample):
        conv, norm = stage.downsample.conv, stage.downsample.norm
        assert conv.bias is not None
        bias = torch.addmv(conv.bias, conv.weight.sum((2, 3)), norm.bias)
        layers.append(patches(conv.weight * norm.weight[:, None, None], bias, None, True))
    return nn.Sequential(*layers, *(block(each) for each in stage.blocks))  # type: ignore[union-attr]


def _folded_stem(stem: nn.Module, patches: Patches) -> nn.Module:
    assert isinstance(stem, Stem)
    assert stem.conv.bias is not None
    norm = getattr(stem, "norm", None)
    return patches(stem.conv.weight, stem.conv.bias, None if norm is None else (norm.weight, norm.bias), False)


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
        dtype: of the weights.
        weight: (n, C, p, p), with the norm before it folded in.
        bias: (n,)
        after: weight and bias of a LayerNorm after it, or None.
        before: whether positions are normalised before it.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self, dtype: torch.dtype, weight: Tensor, bias: Tensor, after: tuple[Tensor, Tensor] | None, before: bool
    ) -> None:
        super().__init__()
        self.patch, self.before = weight.shape[-1], before
        self.register_buffer("weight", weight.detach().to(dtype, memory_format=torch.channels_last))
        self.register_buffer("bias", bias.detach().to(dtype))
        self.after = None if after is None else (after[0].detach().to(dtype), after[1].detach().to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.weight.dtype, memory_format=torch.channels_last)
        if self.before:
            x = F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), eps=EPS).permute(0, 3, 1, 2)
        x = F.conv2d(x, self.weight, self.bias, stride=self.patch)
        if self.after is None:
            return x
        gain, shift = self.after
        return F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), gain, shift, EPS).permute(0, 3, 1, 2)


class FoldedBlock(nn.Module):
    """A block by stock operators: depthwise convolution, norm, linear, GELU, linear, residual."""

    kernel: Tensor
    shift: Tensor
    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor

    def __init__(self, dtype: torch.dtype, block: Block) -> None:
        super().__init__()
        kernel = block.dwconv.weight.detach().to(dtype, memory_format=torch.channels_last)
        held = zip(("kernel", "shift", "w1", "b1", "w2", "b2"), (kernel, *_rest_of(block)), strict=True)
        for name, value in held:
            self.register_buffer(name, value.to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(x, self.kernel, self.shift, padding=3, groups=x.shape[1])
        y = F.layer_norm(y.permute(0, 2, 3, 1), (x.shape[1],), eps=EPS)  # (N, H, W, C)
        y = F.linear(F.gelu(F.linear(y, self.w1, self.b1)), self.w2, self.b2)
        return x + y.permute(0, 3, 1, 2)


class NativePatches(nn.Module):
    """`FoldedPatches` by our own kernel, in fp32."""

    bf16 = False

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, after: tuple[Tensor, Tensor] | None, before: bool) -> None:
        super().__init__()
        kernels = torch.ops.convnext
        self.outputs, self.patch, self.before = weight.shape[0], weight.shape[-1], before
        rows = weight.detach().permute(0, 2, 3, 1).flatten(1).contiguous()  # as the pixels of a patch lie in memory
        packed = kernels.pack_half(rows, False, False) if self.bf16 else kernels.pack(rows, False, False)
        self.register_buffer("weight", packed)
        self.register_buffer("bias", padded_bias(bias))
        self.after = (None, None) if after is None else tuple(t.detach().clone() for t in after)

    def forward(self, x: Tensor) -> Tensor:
        run = torch.ops.convnext.patches_half if self.bf16 else torch.ops.convnext.patches
        out: Tensor = run(x, self.weight, self.bias, self.outputs, self.patch, self.before, *self.after, EPS)
        return out


class HalfPatches(NativePatches):
    """The same in bf16; the picture may be fp32."""

    bf16 = True


class NativeBlock(nn.Module):
    """A block by our own kernel, in fp32."""

    kernel: Tensor
    shift: Tensor
    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor

    def __init__(self, block: Block) -> None:
        super().__init__()
        shift, w1, b1, w2, b2 = _rest_of(block)
        self.hidden = len(b1)
        self.register_buffer("kernel", block.dwconv.weight.detach().flatten(1).t().contiguous())
        self.register_buffer("shift", shift.clone())
        self.register_buffer("w1", self.pack(w1.contiguous(), False))
        self.register_buffer("b1", padded_bias(b1))
        self.register_buffer("w2", self.pack(w2.contiguous(), True))
        self.register_buffer("b2", padded_bias(b2))

    @staticmethod
    def pack(weight: Tensor, chunked: bool) -> Tensor:
        """A linear layer's weight in the order in which the kernel reads it."""
        out: Tensor = torch.ops.convnext.pack(weight, False, chunked)
        return out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.convnext.block(x, self.kernel, self.shift, self.w1, self.b1, self.w2, self.b2, EPS)
        return out


class HalfBlock(NativeBlock):
    """The same in bf16, with sums in fp32."""

    groups: Tensor

    def __init__(self, block: Block) -> None:
        super().__init__(block)
        groups, shift = torch.ops.convnext.pack_depthwise(self.kernel, self.shift, False)
        self.register_buffer("groups", groups)
        self.register_buffer("shift", shift)

    @staticmethod
    def pack(weight: Tensor, chunked: bool) -> Tensor:
        out: Tensor = torch.ops.convnext.pack_half(weight, False, chunked)
        return out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.convnext.block_half(
            x, self.groups, self.kernel, self.shift, self.w1, self.b1, self.w2, self.b2, self.hidden, EPS
        )
        return out


def _rest_of(block: Block) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The depthwise bias, and `folded_linears`."""
    assert block.dwconv.bias is not None
    return block.dwconv.bias.detach(), *folded_linears(block)


def folded_linears(block: Block) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights and biases of a block's two linear layers, with the norm's affine part and layer scale in them."""
    first = block.pwconv1.weight * block.norm.weight
    bias = torch.addmv(block.pwconv1.bias, block.pwconv1.weight, block.norm.bias)
    second: Tensor = block.pwconv2.weight
    last: Tensor = block.pwconv2.bias
    if block.gamma is not None:
        second, last = second * block.gamma[:, None], last * block.gamma
    return first.detach(), bias.detach(), second.detach(), last.detach()
