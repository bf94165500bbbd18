"""ConvNeXt, the one backbone that everything here uses.

Source: Liu et al., "A ConvNet for the 2020s", CVPR 2022 (arXiv 2201.03545): the block is Figure 4, the layout is
Table 9, the initialisation and stochastic depth are Table 5 and Appendix A.1. Stage by stage at 224 x 224, ConvNeXt-T:

    stem        4x4 conv, stride 4, LayerNorm           (N,   3, 224, 224) -> (N,  96, 56, 56)
    stage 1     3 blocks                                                      (N,  96, 56, 56)
    stage 2     LayerNorm, 2x2 conv stride 2, 3 blocks                     -> (N, 192, 28, 28)
    stage 3     LayerNorm, 2x2 conv stride 2, 9 blocks                     -> (N, 384, 14, 14)
    stage 4     LayerNorm, 2x2 conv stride 2, 3 blocks                     -> (N, 768,  7,  7)
    head        average over positions, LayerNorm, linear                  -> (N, classes)

Two relatives are settings of the same code. The isotropic networks (section 3.3, Table 2) have one stage behind a stem
of patch 16 without LayerNorm. ConvNeXt V2 (Woo et al., "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked
Autoencoders", CVPR 2023, arXiv 2301.00808) puts global response normalisation after the GELU, and has no layer scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnext.kernels.block import fits, fused_block
from convnext.kernels.depthwise import DepthwiseConv2d
from convnext.nn.convnext.layers import DropPath, GlobalResponseNorm, LayerNorm2d, drop_rates
from convnext.nn.network import Network

Form = Literal["linear", "conv"]


@dataclass(frozen=True)
class BlockSettings:
    """What all blocks of a network have in common.

    Attributes:
        layer_scale: initial value of `gamma` (C,); 0 leaves the parameter out (Table 5: 1e-6).
        grn: global response normalisation after the GELU (ConvNeXt V2).
        form: "linear" computes the 1x1 convolutions as linear layers on channels-last rows, "conv" as convolutions on
            channels-first maps. Parameters and results are the same; "linear" is the faster.
    """

    layer_scale: float = 1e-6
    grn: bool = False
    form: Form = "linear"


class Block(nn.Module):
    """One ConvNeXt block (paper, Figure 4).

    Depthwise 7x7, LayerNorm, 1x1 to 4 C, GELU, 1x1 to C, layer scale, residual: (N, C, H, W) -> (N, C, H, W).

    Args:
        dim: channels C.
        drop_path: probability that a sample skips the branch in training.
        settings: layer scale, response normalisation, form.
    """

    def __init__(self, dim: int, drop_path: float = 0.0, settings: BlockSettings | None = None) -> None:
        super().__init__()
        settings = settings or BlockSettings()
        self.form = settings.form
        self.dwconv = DepthwiseConv2d(dim, kernel_size=7)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.grn = GlobalResponseNorm(4 * dim) if settings.grn else None
        self.pwconv2 = nn.Linear(4 * dim, dim)
        scale = settings.layer_scale
        self.gamma = nn.Parameter(torch.full((dim,), scale)) if scale > 0 else None
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        if self.is_plain() and fits(x, self.dwconv.in_channels):
            return self._fused(x)
        branch = self.dwconv(x)
        branch = self._rows(branch) if self.form == "linear" else self._maps(branch)
        out: Tensor = x + self.drop_path(branch)
        return out

    def is_plain(self) -> bool:
        """Whether the block is exactly what the fused kernel stands for.

        So nothing was added, replaced, wrapped or set otherwise, and nobody watches its layers: a part that the kernel
        does not know is never left out in silence.
        """
        layers = {name: layer for name, layer in self._modules.items() if layer is not None}
        return (
            type(self) is Block
            and self.form == "linear"
            and {name: type(layer) for name, layer in layers.items()} == _PLAIN
            and self._parameters.keys() <= {"gamma"}
            and not self._buffers
            and self.norm.eps == EPS
            and self.act.approximate == "none"
            and not any(_is_watched(layer) for layer in layers.values())
        )

    def _fused(self, x: Tensor) -> Tensor:
        """All at once, by a kernel of our own; see `kernels.block`."""
        dropping = self.training and self.drop_path.p > 0
        return fused_block(
            x, self.dwconv.weight, self.dwconv.bias, self.norm.weight, self.norm.bias, self.pwconv1.weight,
            self.pwconv1.bias, self.pwconv2.weight, self.pwconv2.bias, self.gamma,
            self.drop_path.factors(x) if dropping else None,
        )  # fmt: skip

    def _rows(self, x: Tensor) -> Tensor:
        """All after the depthwise convolution, with channels last."""
        x = x.permute(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
        x = self.norm(x)
        x = self.pwconv1(x)  # (N, H, W, 4C)
        x = self.act(x)
        if self.grn is not None:
            x = self.grn(x)
        x = self.pwconv2(x)  # (N, H, W, C)
        if self.gamma is not None:
            x = self.gamma * x
        return x.permute(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)

    def _maps(self, x: Tensor) -> Tensor:
        """The same with channels first: the linear layers as 1x1 convolutions."""
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = F.conv2d(x, self.pwconv1.weight[:, :, None, None], self.pwconv1.bias)  # (N, 4C, H, W)
        x = self.act(x)
        if self.grn is not None:
            x = self.grn(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = F.conv2d(x, self.pwconv2.weight[:, :, None, None], self.pwconv2.bias)  # (N, C, H, W)
        if self.gamma is not None:
            x = self.gamma[:, None, None] * x
        return x


EPS = 1e-6
"""Of every LayerNorm."""
_PLAIN = {
    "dwconv": DepthwiseConv2d, "norm": nn.LayerNorm, "pwconv1": nn.Linear, "act": nn.GELU, "pwconv2": nn.Linear,
    "drop_path": DropPath,
}  # fmt: skip
"""All layers of a block that the fused kernel stands for, and their classes."""


def _is_watched(layer: nn.Module) -> bool:
    """Whether something else runs when a layer is called."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return any(hooks) or "forward" in vars(layer)


class Stem(nn.Sequential):
    """Non-overlapping patches: a convolution of kernel and stride `patch` (paper, section 2.2), then LayerNorm.

    The isotropic networks have no LayerNorm here.
    """

    def __init__(self, in_chans: int, dim: int, patch: int, *, normed: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, dim, kernel_size=patch, stride=patch)
        if normed:
            self.norm = LayerNorm2d(dim)


class Downsample(nn.Sequential):
    """LayerNorm, then a 2x2 convolution of stride 2 that halves the map (paper, section 2.6)."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.norm = LayerNorm2d(in_dim)
        self.conv = nn.Conv2d(in_dim, dim, kernel_size=2, stride=2)


class Stage(nn.Module):
    """Blocks at one resolution, after the downsampling that leads there (none in the first stage, `in_dim` None)."""

    def __init__(self, in_dim: int | None, dim: int, drop_paths: list[float], settings: BlockSettings) -> None:
        super().__init__()
        self.downsample: nn.Module = nn.Identity() if in_dim is None else Downsample(in_dim, dim)
        self.blocks = nn.Sequential(*(Block(dim, p, settings) for p in drop_paths))

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        out: Tensor = self.blocks(x)
        return out


class ConvNeXt(Network):
    """A ConvNeXt classifier and feature extractor.

    `features` gives the maps after each stage, of `channels` dims and `strides` stem_patch * 2^i.

    Args:
        depths: blocks in each stage; one stage makes an isotropic network.
        dims: channels of each stage.
        in_chans: channels of the picture.
        num_classes: size of the head; 0 leaves the head out.
        drop_path: stochastic depth of the last block; it grows linearly from 0 over the blocks (Appendix A.1).
        layer_scale: initial value of each block's `gamma`; 0 for none (Table 5: 1e-6).
        stem_patch: patch size of the stem: 4 as in the paper (isotropic: 16), smaller for small pictures.
        stem_norm: LayerNorm after the stem; not in the isotropic networks.
        grn: global response normalisation in every block (ConvNeXt V2).
        form: how the 1x1 convolutions are computed, see `BlockSettings`.
        output_norms: a LayerNorm on each map that `features` returns, as detection and segmentation use.
        checkpointing: recompute each stage's blocks in the backward pass: less memory, more time, the same gradients.

    Examples:
        >>> import torch, convnext
        >>> network = convnext.ConvNeXt((1, 1, 2, 1), (8, 16, 32, 64), num_classes=5)
        >>> network(torch.randn(2, 3, 64, 64)).shape
        torch.Size([2, 5])
        >>> [tuple(m.shape[1:]) for m in network.features(torch.randn(1, 3, 64, 64))]
        [(8, 16, 16), (16, 8, 8), (32, 4, 4), (64, 2, 2)]
    """

    def __init__(
        self,
        depths: tuple[int, ...],
        dims: tuple[int, ...],
        *,
        in_chans: int = 3,
        num_classes: int = 1000,
        drop_path: float = 0.0,
        layer_scale: float = 1e-6,
        stem_patch: int = 4,
        stem_norm: bool = True,
        grn: bool = False,
        form: Form = "linear",
        output_norms: bool = False,
        checkpointing: bool = False,
    ) -> None:
        strides = tuple(stem_patch * 2**i for i in range(len(dims)))
        super().__init__(in_chans, num_classes, dims, strides, checkpointing=checkpointing)
        self.depths, self.dims, self.stem_patch = depths, dims, stem_patch

        rates = drop_rates(depths, drop_path)
        settings = BlockSettings(layer_scale, grn, form)
        self.stem = Stem(in_chans, dims[0], stem_patch, normed=stem_norm)
        self.stages = nn.ModuleList(
            Stage(in_dim, dim, drop_paths, settings)
            for in_dim, dim, drop_paths in zip((None, *dims[:-1]), dims, rates, strict=True)
        )
        self.output_norms = nn.ModuleList(LayerNorm2d(dim) for dim in dims) if output_norms else None
        self.norm = nn.LayerNorm(dims[-1], eps=EPS)
        self.head = nn.Linear(dims[-1], num_classes) if num_classes > 0 else nn.Identity()

        self.apply(init_weights)

    def features(self, x: Tensor) -> list[Tensor]:
        """The maps after each stage, normalised where the network has output norms; see `Network.features`."""
        maps = self.stage_maps(x)
        if self.output_norms is not None:
            maps = [norm(m) for norm, m in zip(self.output_norms, maps, strict=True)]
        return maps

    def pooled(self, x: Tensor) -> Tensor:
        """What the head sees: the last map averaged over its positions and normalised, (N, dims[-1])."""
        return self.pool(self.stage_maps(x)[-1])

    def pool(self, x: Tensor) -> Tensor:
        """The last map averaged over its positions and normalised, (N, dims[-1])."""
        out: Tensor = self.norm(x.mean((2, 3)))  # (N, C, H, W) -> (N, C)
        return out


def init_weights(module: nn.Module) -> None:
    """Truncated normal of deviation 0.02 for convolutions and linear layers, biases 0.

    The paper's Table 5 prints 0.2; the authors' released code uses 0.02, and so do we.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def resample_stem(weight: Tensor, patch: int) -> Tensor:
    """A stem kernel (C, in_chans, p, p) resampled to another patch size, (C, in_chans, patch, patch).

    Area-averaged or bicubic, with the mean of each kernel kept, and scaled by p^2 / patch^2, so that a picture of one
    colour gives the same response: what the stem learned at a stride of p is kept for pictures read at a finer stride.
    """
    p = weight.shape[-1]
    if p == patch:
        return weight
    mode = "area" if patch < p else "bicubic"
    resampled = F.interpolate(weight, size=(patch, patch), mode=mode)
    resampled = resampled + (weight.mean((2, 3)) - resampled.mean((2, 3)))[:, :, None, None]
    return resampled * (p / patch) ** 2
