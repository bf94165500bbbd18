"""The road from a ResNet to a ConvNeXt, step by step.

Source: Liu et al., "A ConvNet for the 2020s", CVPR 2022, section 2 and Appendix C. Table 10 goes from ResNet-50 to
ConvNeXt-T, Table 11 from ResNet-200 to ConvNeXt-B. A `Design` says everything about one network on the road; a step is
a name, one line of explanation, and the settings of the design that it changes. The last step is `ConvNeXt` itself.

What the paper leaves open, and how it is settled here:

- The patchify stem is the bare 4x4 convolution, as section 2.2 says; LayerNorm joins it in the last step, as section
  2.6 says, and so does the one before the head. Neither has a bearing on the multiply-accumulates.
- "Fewer norms" leaves one normalisation in each block, after the depthwise convolution; the shortcut's goes too.
- A convolution has a bias unless a BatchNorm follows it.
- Layer scale is part of the recipe (Table 5) and of `ConvNeXt`; the steps before the last have none. `layer_scale=0`
  leaves it out of the last step too.
- All steps start from the same initialisation, truncated normal of deviation 0.02.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal

from torch import Tensor, nn

from convnext.errors import UserError
from convnext.kernels.depthwise import DepthwiseConv2d
from convnext.nn.convnext.backbone import init_weights
from convnext.nn.convnext.layers import DropPath, LayerNorm2d, count_pictures_once, drop_rates
from convnext.nn.network import Network

SHORT = 3
"""What depths are divided by in a shrunken regime: (3, 3, 9, 3) becomes (1, 1, 3, 1), the same ratio."""


@dataclass(frozen=True)
class Design:
    """One network on the road; the defaults are those of a ResNet with bottleneck blocks (He et al., 2016).

    Attributes:
        depths: blocks in each stage.
        width: channels of the first stage, inside the bottleneck or, once the block is inverted, of the stage itself.
        stem: 7x7 convolution and pooling, or a 4x4 convolution on patches.
        block: order of the convolutions: 1x1, k x k, 1x1 around narrow channels ("bottleneck") or around wide ones
            ("inverted"), or k x k before both 1x1 ("moved-up").
        depthwise: the k x k convolution has a group for every channel.
        kernel_size: k.
        activation: ReLU or GELU.
        few_activations: only one a block, between the 1x1 convolutions.
        few_norms: only one a block, after the k x k convolution.
        norm: BatchNorm or LayerNorm.
        separate_downsampling: LayerNorm and a 2x2 convolution between the stages; with the rest, `ConvNeXt`.
    """

    depths: tuple[int, ...]
    width: int
    stem: Literal["conv-pool", "patchify"] = "conv-pool"
    block: Literal["bottleneck", "inverted", "moved-up"] = "bottleneck"
    depthwise: bool = False
    kernel_size: int = 3
    activation: Literal["relu", "gelu"] = "relu"
    few_activations: bool = False
    few_norms: bool = False
    norm: Literal["batch", "layer"] = "batch"
    separate_downsampling: bool = False

    @property
    def dims(self) -> tuple[int, ...]:
        """Channels of the four maps."""
        expansion = 4 if self.block == "bottleneck" else 1
        return tuple(expansion * self.width * 2**i for i in range(len(self.depths)))


@dataclass(frozen=True)
class Step:
    """One row of Table 10 or 11.

    Attributes:
        name: what the user writes, such as "patchify-stem".
        row: the step in the paper's table.
        change: the change in one line; `{depths}` and `{width}` stand for numbers.
        settings: fields of `Design` that differ from the adopted step before.
        adopted: whether the steps after it build on it.
    """

    name: str
    row: str
    change: str
    settings: dict[str, Any] = field(default_factory=dict)
    adopted: bool = True

    def told(self, design: Design) -> str:
        """The change in one line, with the numbers of the design that it leads to."""
        return self.change.format(depths=", ".join(map(str, design.depths)), width=design.width)


def _steps(size: int, ratio: Step, width: int, last: str) -> tuple[Step, ...]:
    """The steps that both regimes share, after the stage ratio."""
    kernels = tuple(
        Step(f"kernel-{k}", f"kernel size {k}", f"depthwise {k}x{k}", {"kernel_size": k}, adopted=k == 7)
        for k in (5, 7, 9, 11)
    )
    original = "ResNet-50 (PyTorch)" if size == 50 else f"ResNet-{size}"
    return (
        Step(f"resnet{size}", original, "torchvision's network, its recipe of old"),
        Step("recipe", f"ResNet-{size} (enhanced recipe)", "the same network, trained by Table 5"),
        ratio,
        Step("patchify-stem", "patchify stem", "4x4 convolution of stride 4 for 7x7 and pooling", {"stem": "patchify"}),
        Step("depthwise-conv", "depthwise conv", "the 3x3 convolution becomes depthwise", {"depthwise": True}),
        Step("increase-width", "increase width", "width to {width}", {"width": width}),
        Step("inverting-dimensions", "inverting dimensions", "wide inside, narrow outside", {"block": "inverted"}),
        Step("move-up-depthwise", "move up depthwise conv", "the depthwise one comes first", {"block": "moved-up"}),
        *kernels,
        Step("relu-to-gelu", "ReLU to GELU", "GELU in place of ReLU", {"activation": "gelu"}),
        Step("fewer-activations", "fewer activations", "one, between the 1x1 ones", {"few_activations": True}),
        Step("fewer-norms", "fewer norms", "one, after the depthwise one", {"few_norms": True}),
        Step("bn-to-ln", "BN to LN", "LayerNorm in place of BatchNorm", {"norm": "layer"}),
        Step(
            "separate-downsampling", f"separate d.s. conv ({last})", "LayerNorm and 2x2 convolutions between stages",
            {"separate_downsampling": True},
        ),
    )  # fmt: skip


@dataclass(frozen=True)
class Regime:
    """A road: where it starts, its steps, the published table, and the model of the table that it ends in."""

    start: Design
    steps: tuple[Step, ...]
    table: str
    end: str


REGIMES: dict[str, Regime] = {
    "resnet50": Regime(
        Design((3, 4, 6, 3), 64),
        _steps(
            50, Step("stage-ratio", "stage ratio", "depths to {depths}", {"depths": (3, 3, 9, 3)}), 96, "ConvNeXt-T",
        ),
        "table10",
        "convnext_tiny",
    ),
    "resnet200": Regime(
        Design((3, 24, 36, 3), 64),
        _steps(
            200,
            Step(
                "stage-ratio", "stage ratio and increase width", "depths to {depths}, width to {width}",
                {"depths": (3, 3, 27, 3), "width": 84},
            ),
            128,
            "ConvNeXt-B",
        ),
        "table11",
        "convnext_base",
    ),
}  # fmt: skip


def get_regime(name: str) -> Regime:
    """A road by its name.

    Raises:
        UserError: there is no such road.
    """
    if name not in REGIMES:
        raise UserError(f'regime "{name}" is not known; it must be one of {", ".join(REGIMES)}')
    return REGIMES[name]


def designs(regime: str, scale: float = 1.0) -> list[tuple[Step, Design]]:
    """Every step of a road with its design: the adopted steps before it, and its own change.

    Args:
        regime: a key of `REGIMES`.
        scale: below 1, a shrunken road: widths times `scale` (to multiples of 4), depths divided by `SHORT`.

    Raises:
        UserError: no such regime, or a scale outside (0, 1].
    """
    if not 0 < scale <= 1:
        raise UserError(f"scale is {scale:.10g}; it must be above 0 and at most 1")
    road = get_regime(regime)
    design, rows = road.start, []
    for step in road.steps:
        changed = replace(design, **step.settings)
        rows.append((step, _shrink(changed, scale)))
        if step.adopted:
            design = changed
    return rows


def _shrink(design: Design, scale: float) -> Design:
    if scale == 1:
        return design
    width = max(4, 4 * round(design.width * scale / 4))
    return replace(design, width=width, depths=tuple(max(1, round(Fraction(d, SHORT))) for d in design.depths))


def find_step(regime: str, name: str, scale: float = 1.0) -> tuple[Step, Design]:
    """A step by its name, or by its row in the paper's table.

    Raises:
        UserError: the road has no such step.
    """
    rows = designs(regime, scale)
    for step, design in rows:
        if name.strip().lower() in (step.name, step.row.lower()):
            return step, design
    names = [step.name for step, _ in rows]
    close = difflib.get_close_matches(name.strip().lower(), names, n=1)
    hint = f'Did you mean "{close[0]}"? ' if close else ""
    raise UserError(f'step "{name}" is not on the road {regime}. {hint}Its steps are: {", ".join(names)}')


def parse(name: str) -> tuple[Step, Design]:
    """Step and design of a model's name, "roadmap:REGIME:STEP" or "roadmap:REGIME:STEP:SCALE".

    Raises:
        UserError: the name is not of this form, or a part of it is not known.
    """
    parts = name.split(":")
    try:
        scale = float(parts[3].replace("_", "?")) if len(parts) == 4 else 1.0
        _, regime, step = parts[:3]
    except ValueError:
        scale, regime, step = 0.0, "", ""
    if not step or len(parts) > 4:
        raise UserError(
            f'model "{name}": a step of the roadmap is written roadmap:REGIME:STEP or roadmap:REGIME:STEP:SCALE'
        )
    return find_step(regime, step, scale)


def name_of(regime: str, step: Step, scale: float = 1.0) -> str:
    """What `parse` reads."""
    return f"roadmap:{regime}:{step.name}" + (f":{scale!r}" if scale != 1 else "")


class RoadBlock(nn.Module):
    """One residual block on the road: (N, in_dim, H, W) -> (N, dim, H / stride, W / stride).

    Three convolutions, two of them 1x1, and a shortcut, in the order and with the norms and activations that the design
    asks for (paper, Figures 3 and 4).
    """

    def __init__(self, in_dim: int, dim: int, stride: int, design: Design, drop_path: float) -> None:
        super().__init__()
        hidden = dim // 4 if design.block == "bottleneck" else 4 * dim
        k, wide = design.kernel_size, (in_dim if design.block == "moved-up" else hidden)
        spatial = (wide, wide, k, stride, wide if design.depthwise else 1)
        if design.block == "moved-up":
            shapes = [spatial, (in_dim, hidden, 1, 1, 1), (hidden, dim, 1, 1, 1)]
        else:
            shapes = [(in_dim, hidden, 1, 1, 1), spatial, (hidden, dim, 1, 1, 1)]
        normed = {0} if design.few_norms else {0, 1, 2}
        active = {1} if design.few_activations else {0, 1}
        branch: list[nn.Module] = []
        for i, shape in enumerate(shapes):
            branch.append(_conv(*shape, bias=i not in normed or design.norm == "layer"))
            branch += [_norm(shape[1], design)] if i in normed else []
            branch += [_activation(design)] if i in active else []
        self.branch = nn.Sequential(*branch)
        self.drop_path = DropPath(drop_path)
        self.shortcut = self._make_shortcut(in_dim, dim, stride, design)
        self.act = nn.Identity() if design.few_activations else _activation(design)

    @staticmethod
    def _make_shortcut(in_dim: int, dim: int, stride: int, design: Design) -> nn.Module:
        if stride == 1 and in_dim == dim:
            return nn.Identity()
        if design.few_norms:
            return _conv(in_dim, dim, 1, stride, 1, bias=True)
        return nn.Sequential(_conv(in_dim, dim, 1, stride, 1, bias=False), _norm(dim, design))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.shortcut(x) + self.drop_path(self.branch(x)))
        return out


def _conv(in_dim: int, dim: int, k: int, stride: int, groups: int, *, bias: bool) -> nn.Conv2d:
    if groups == dim and stride == 1 and k > 1:
        return DepthwiseConv2d(dim, k, bias=bias)
    return nn.Conv2d(in_dim, dim, k, stride, k // 2, groups=groups, bias=bias)


def _norm(dim: int, design: Design) -> nn.Module:
    return nn.BatchNorm2d(dim) if design.norm == "batch" else LayerNorm2d(dim)


def _activation(design: Design) -> nn.Module:
    return nn.ReLU(inplace=True) if design.activation == "relu" else nn.GELU()


class RoadNet(Network):
    """A network on the road before its end, with the features contract of `ConvNeXt`.

    Args:
        design: any design without separate downsampling.
        in_chans: channels of the picture.
        num_classes: size of the head; 0 leaves it out.
        drop_path: stochastic depth of the last block, growing linearly from 0.
        checkpointing: recompute each stage in the backward pass.
    """

    def __init__(
        self,
        design: Design,
        *,
        in_chans: int = 3,
        num_classes: int = 1000,
        drop_path: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        strides = tuple(4 * 2**i for i in range(len(design.dims)))
        super().__init__(in_chans, num_classes, design.dims, strides, checkpointing=checkpointing)
        self.design = design
        self.stem = _stem(design, in_chans)
        entry = design.width  # channels that the first stage gets
        rates = drop_rates(design.depths, drop_path)
        self.stages = nn.ModuleList()
        for i, (dim, drop_paths) in enumerate(zip(design.dims, rates, strict=True)):
            stage = [
                RoadBlock(dim if b else entry, dim, 2 if i and not b else 1, design, p)
                for b, p in enumerate(drop_paths)
            ]
            self.stages.append(nn.Sequential(*stage))
            entry = dim
        self.head = nn.Linear(entry, num_classes) if num_classes > 0 else nn.Identity()
        self.apply(init_weights)
        if checkpointing:
            count_pictures_once(self)

    def features(self, x: Tensor) -> list[Tensor]:
        """The maps after each stage, from fine to coarse, of `channels` and `strides`."""
        return self.stage_maps(x)

    def pooled(self, x: Tensor) -> Tensor:
        """What the head sees: the last map averaged over its positions, (N, channels[-1])."""
        return self.stage_maps(x)[-1].mean((2, 3))


def _stem(design: Design, in_chans: int) -> nn.Module:
    if design.stem == "patchify":
        return nn.Conv2d(in_chans, design.width, kernel_size=4, stride=4)
    return nn.Sequential(
        nn.Conv2d(in_chans, design.width, kernel_size=7, stride=2, padding=3, bias=False),
        _norm(design.width, design),
        _activation(design),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )
