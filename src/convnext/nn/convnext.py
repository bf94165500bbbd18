"""ConvNeXt, the one backbone that everything here uses.

Source: Liu et al., "A ConvNet for the 2020s", CVPR 2022 (arXiv 2201.03545): the block is Figure 4, the layout is
Table 9, the initialisation and stochastic depth are Table 5 and Appendix A.1. Stage by stage at 224 x 224, ConvNeXt-T:

    stem        4x4 conv, stride 4, LayerNorm           (N,   3, 224, 224) -> (N,  96, 56, 56)
    stage 1     3 blocks                                                      (N,  96, 56, 56)
    stage 2     LayerNorm, 2x2 conv stride 2, 3 blocks                     -> (N, 192, 28, 28)
    stage 3     LayerNorm, 2x2 conv stride 2, 9 blocks                     -> (N, 384, 14, 14)
    stage 4     LayerNorm, 2x2 conv stride 2, 3 blocks                     -> (N, 768,  7,  7)
    head        average over positions, LayerNorm, linear                  -> (N, classes)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from convnext.errors import UserError
from convnext.kernels.depthwise import DepthwiseConv2d
from convnext.nn.layers import DropPath, LayerNorm2d

if TYPE_CHECKING:
    from convnext.data.loader import Preprocessing


class Block(nn.Module):
    """One ConvNeXt block (paper, Figure 4).

    Depthwise 7x7, LayerNorm, 1x1 to 4 C, GELU, 1x1 to C, layer scale, residual: (N, C, H, W) -> (N, C, H, W).
    The 1x1 convolutions are linear layers on channels-last rows, which is the same thing.

    Args:
        dim: channels C.
        drop_path: probability that a sample skips the branch in training.
        layer_scale: initial value of `gamma` (C,); 0 leaves the parameter out.
    """

    def __init__(self, dim: int, drop_path: float = 0.0, layer_scale: float = 1e-6) -> None:
        super().__init__()
        self.dwconv = DepthwiseConv2d(dim, kernel_size=7)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), layer_scale)) if layer_scale > 0 else None
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        x = self.dwconv(x)
        x = x.permute(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
        x = self.norm(x)
        x = self.pwconv1(x)  # (N, H, W, 4C)
        x = self.act(x)
        x = self.pwconv2(x)  # (N, H, W, C)
        if self.gamma is not None:
            x = self.gamma * x
        x = x.permute(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)
        out: Tensor = shortcut + self.drop_path(x)
        return out


class Stem(nn.Sequential):
    """Non-overlapping patches: a convolution of kernel and stride `patch`, then LayerNorm (paper, section 2.2)."""

    def __init__(self, in_chans: int, dim: int, patch: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, dim, kernel_size=patch, stride=patch)
        self.norm = LayerNorm2d(dim)


class Downsample(nn.Sequential):
    """LayerNorm, then a 2x2 convolution of stride 2 that halves the map (paper, section 2.6)."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.norm = LayerNorm2d(in_dim)
        self.conv = nn.Conv2d(in_dim, dim, kernel_size=2, stride=2)


class Stage(nn.Module):
    """Blocks at one resolution, after the downsampling that leads there (none in the first stage, `in_dim` None)."""

    def __init__(self, in_dim: int | None, dim: int, drop_paths: list[float], layer_scale: float) -> None:
        super().__init__()
        self.downsample: nn.Module = nn.Identity() if in_dim is None else Downsample(in_dim, dim)
        self.blocks = nn.Sequential(*(Block(dim, p, layer_scale) for p in drop_paths))

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        out: Tensor = self.blocks(x)
        return out


class ConvNeXt(nn.Module):
    """A ConvNeXt classifier and feature extractor.

    `forward` maps pictures (N, in_chans, H, W) to logits (N, num_classes), or to pooled features (N, dims[-1]) when
    `num_classes` is 0. `features` gives the four maps that dense tasks use, of `channels` and `strides`.

    A model that comes from a run knows the names of its `classes`, whether a picture may have several (`multi_label`),
    and its `preprocessing`, whose `prepare(file)` gives what the model takes; a new one knows none of it.

    Args:
        depths: blocks in each stage.
        dims: channels of each stage.
        in_chans: channels of the picture.
        num_classes: size of the head; 0 leaves the head out.
        drop_path: stochastic depth of the last block; it grows linearly from 0 over the blocks (Appendix A.1).
        layer_scale: initial value of each block's `gamma`; 0 for none (Table 5: 1e-6).
        head_init_scale: factor on the head's initial weights and bias (Table 6: 0.001 for fine-tuning).
        stem_patch: patch size of the stem: 4 as in the paper, 1 or 2 for small pictures.
        output_norms: a LayerNorm on each map that `features` returns, as detection and segmentation use.
        checkpointing: recompute each stage's blocks in the backward pass: less memory, more time, the same gradients.
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
        head_init_scale: float = 1.0,
        stem_patch: int = 4,
        output_norms: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.depths, self.dims = depths, dims
        self.in_chans, self.num_classes, self.stem_patch = in_chans, num_classes, stem_patch
        self.channels = dims
        self.strides = tuple(stem_patch * 2**i for i in range(len(dims)))
        self.checkpointing = checkpointing
        self.classes: tuple[str, ...] = ()
        self.multi_label = False
        self.preprocessing: Preprocessing | None = None

        rates = torch.split(torch.linspace(0, drop_path, sum(depths), device="cpu"), list(depths))
        self.stem = Stem(in_chans, dims[0], stem_patch)
        self.stages = nn.ModuleList(
            Stage(in_dim, dim, drop_paths.tolist(), layer_scale)
            for in_dim, dim, drop_paths in zip((None, *dims[:-1]), dims, rates, strict=True)
        )
        self.output_norms = nn.ModuleList(LayerNorm2d(dim) for dim in dims) if output_norms else None
        self.norm = nn.LayerNorm(dims[-1], eps=1e-6)
        self.head: nn.Module = nn.Linear(dims[-1], num_classes) if num_classes > 0 else nn.Identity()

        self.apply(_init_weights)
        if isinstance(self.head, nn.Linear):
            self.head.weight.data.mul_(head_init_scale)
            self.head.bias.data.mul_(head_init_scale)

    def features(self, x: Tensor) -> list[Tensor]:
        """The maps after each stage, from fine to coarse: map i is (N, channels[i], H / strides[i], W / strides[i]).

        Raises:
            UserError: the picture is smaller than one position of the last map, or has the wrong number of channels.
        """
        self._check_input(x)
        maps = []
        x = self.stem(x)
        for stage in self.stages:
            x = self._run(stage, x)
            maps.append(x)
        if self.output_norms is not None:
            maps = [norm(m) for norm, m in zip(self.output_norms, maps, strict=True)]
        return maps

    def pooled(self, x: Tensor) -> Tensor:
        """What the head sees: the last map averaged over its positions and normalised, (N, dims[-1])."""
        self._check_input(x)
        x = self.stem(x)
        for stage in self.stages:
            x = self._run(stage, x)
        out: Tensor = self.norm(x.mean((2, 3)))  # (N, C, H, W) -> (N, C)
        return out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.pooled(x))
        return out

    def _run(self, stage: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = checkpoint(stage, x, use_reentrant=False) if self.checkpointing and self.training else stage(x)
        return out

    def _check_input(self, x: Tensor) -> None:
        smallest = self.strides[-1]
        if x.ndim != 4 or x.shape[1] != self.in_chans:
            raise UserError(f"the input has shape {tuple(x.shape)}; the model takes (N, {self.in_chans}, H, W)")
        if min(x.shape[2:]) < smallest:
            raise UserError(
                f"the picture is {x.shape[3]}x{x.shape[2]} pixels; with a stem of patch {self.stem_patch} both sides "
                f"must be at least {smallest}. Enlarge the pictures, or use a smaller model.stem_patch"
            )


def _init_weights(module: nn.Module) -> None:
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
