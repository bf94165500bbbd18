"""What a network is, said once: recipe, model file, `create_model`, timing and counting speak it.

Three kinds of names: a model of the table ("convnext_tiny"), one of timm's ("timm:resnet50"), and a step of the roadmap
("roadmap:resnet50:patchify-stem", shrunken as "roadmap:resnet50:patchify-stem:0.25").
"""

from __future__ import annotations

import math
import numbers
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from convnext.errors import UserError
from convnext.nn.convnext.backbone import ConvNeXt, Form
from convnext.nn.convnext.initialize import init_fan_in
from convnext.nn.network import Network
from convnext.nn.others import roadmap
from convnext.nn.tables.baseline_specs import TIMM
from convnext.nn.tables.variants import ROADMAP, get_spec
from convnext.recipe import Recipe

INITS = ("paper", "fan_in")
KEPT = ("name", "num_classes", "in_chans", "stem_patch", "layer_scale", "size")
"""What a model file says of its network; the rest has a bearing on training alone."""


@dataclass(frozen=True)
class Outline:
    """What must be known of a model before it is built.

    Attributes:
        stem_patches: patch sizes that the stem may have; the last one is the model's own.
        stride: pixels to one position of the last map, with the model's own stem.
        layer_scale: initial layer scale; 0 where the model has none.
        width: channels of its first stage; None for timm's networks and the roadmap's, whose steps must start alike.
        fixed_size: the one picture size of a network that has one, pixels.
        published: whether pretrained weights may exist.
        blocks: whether it is made of ConvNeXt blocks.
    """

    stem_patches: tuple[int, ...]
    stride: int
    layer_scale: float
    width: int | None
    fixed_size: int | None = None
    published: bool = True
    blocks: bool = True

    @property
    def stem_patch(self) -> int:
        """The model's own patch size."""
        return self.stem_patches[-1]


def outline(name: str) -> Outline:
    """What must be known of a model before it is built.

    Raises:
        UserError: no model has this name.
    """
    if name.startswith(TIMM):
        from convnext.nn.others.baselines import fixed_size

        return Outline((4,), 32, 0.0, None, fixed_size(name.removeprefix(TIMM)), blocks=False)
    if name.startswith(ROADMAP):
        _, design = roadmap.parse(name)
        last = design.separate_downsampling
        return Outline((4,), 32, 1e-6 if last else 0.0, None, published=False, blocks=last)
    spec = get_spec(name)
    return Outline(spec.stem_patches, spec.stem_patch * 2 ** (len(spec.dims) - 1), spec.layer_scale, spec.dims[0])


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that a network is, but for its weights and what its outputs are called.

    Attributes:
        name: a name of `list_models()`, "timm:NAME", or "roadmap:REGIME:STEP" with ":SCALE" if shrunken.
        num_classes: outputs of the head; 0 leaves it out.
        in_chans: channels of the pictures.
        stem_patch: patch size of the stem, pixels; None for the model's own.
        layer_scale: initial value of each block's `gamma`; 0 leaves it out; None for the model's own.
        drop_path: stochastic depth of the last block, from 0 up to below 1.
        head_init_scale: factor on the head's initial weights.
        init: one of `INITS`.
        form: "linear" or "conv", how a ConvNeXt block's 1x1 convolutions are computed.
        output_norms: a LayerNorm on each map that `features` returns.
        checkpointing: recompute the blocks in the backward pass.
        size: side of the pictures, pixels, for those of timm's networks that have one size.

    Examples:
        >>> from convnext.nn.spec import NetworkSpec
        >>> NetworkSpec("convnext_atto", num_classes=10).complete().stem_patch
        4
    """

    name: str
    num_classes: int = 1000
    in_chans: int = 3
    stem_patch: int | None = None
    layer_scale: float | None = None
    drop_path: float = 0.0
    head_init_scale: float = 1.0
    init: str = "paper"
    form: Form = "linear"
    output_norms: bool = False
    checkpointing: bool = False
    size: int | None = None

    def complete(self) -> NetworkSpec:
        """The same with the model's own stem and layer scale where they are left open, once all of it is checked.

        Raises:
            UserError: a field is out of range, is not for this network, or the name is not known.
        """
        _check("name", self.name, isinstance(self.name, str), "must be the name of a model")
        known = outline(self.name)
        patch = known.stem_patch if self.stem_patch is None else self.stem_patch
        scale = known.layer_scale if self.layer_scale is None else self.layer_scale
        whole = _whole(self.num_classes) and 0 <= self.num_classes < 10**7
        _check("num_classes", self.num_classes, whole, "must be a number from 0 up")
        _check(
            "in_chans",
            self.in_chans,
            _whole(self.in_chans) and 1 <= self.in_chans < 10**5,
            "must be a number from 1 up",
        )
        dropped = _real(self.drop_path) and 0.0 <= self.drop_path < 1.0
        _check("drop_path", self.drop_path, dropped, "must be at least 0 and below 1")
        _check("layer_scale", scale, _real(scale) and scale >= 0.0, "must be at least 0")
        head = self.head_init_scale
        _check("head_init_scale", head, _real(head) and head >= 0.0, "must be at least 0")
        fits = _whole(patch) and patch in known.stem_patches
        _check("stem_patch", patch, fits, f"must be one of {known.stem_patches}")
        _check(
            "size", self.size, self.size is None or (_whole(self.size) and self.size >= 1), "must be a number of pixels"
        )
        _check("form", self.form, self.form in ("linear", "conv"), 'must be "linear" or "conv"')
        _check("init", self.init, self.init in INITS, f"must be one of {INITS}")
        if not known.blocks:
            self._check_blockless(scale)
        return replace(self, stem_patch=patch, layer_scale=scale)

    def _check_blockless(self, scale: float) -> None:
        """A network that is not made of ConvNeXt blocks has none of their settings."""
        name = self.name
        _check("layer_scale", scale, scale == 0, f"must be 0 or left out: {name} has none")
        _check("form", self.form, self.form == "linear", f'must be "linear" or left out: {name} has no ConvNeXt block')
        _check("output_norms", self.output_norms, not self.output_norms, f"must be left out: {name} has none")
        if name.startswith(TIMM) and self.init != "paper":
            raise UserError(f'init is "{self.init}"; {name} is initialised by timm: leave init out, or "paper"')

    def build(self) -> Network:
        """The network with random weights, drawn from torch's generator. Raises as `complete`."""
        spec = self.complete()
        if spec.name.startswith(TIMM):
            from convnext.nn.others.baselines import Baseline

            model: Network = Baseline(spec.name.removeprefix(TIMM), **spec.for_timm())
        else:
            model = _build(spec)
            if spec.init == "fan_in":
                init_fan_in(model)
        scale_head(model, spec.head_init_scale)
        model.name = spec.name
        return model

    def on_meta(self) -> Network:
        """The network without memory for its weights: names and shapes alone. Raises as `complete`."""
        with torch.device("meta"):
            return self.build()

    def for_timm(self) -> dict[str, Any]:
        """What one of timm's networks is told."""
        keys = ("in_chans", "num_classes", "drop_path", "checkpointing", "size")
        return {key: getattr(self, key) for key in keys}

    def kept(self) -> dict[str, Any]:
        """What a model file says of the network."""
        found = asdict(self)
        return {key: found[key] for key in KEPT}


def spec_of(recipe: Recipe, outputs: int = 1000) -> NetworkSpec:
    """The network of a recipe, for so many outputs. What is still "auto" is as the model has it by itself."""
    model = recipe.model

    def settled(value: Any, kind: type, otherwise: Any = None) -> Any:
        return otherwise if value == "auto" else kind(value)

    return NetworkSpec(
        str(model.name), outputs, model.in_chans, settled(model.stem_patch, int), settled(model.layer_scale, float),
        settled(model.drop_path, float, 0.0), model.head_init_scale, settled(model.init, str, "paper"),
        checkpointing=model.checkpointing, size=settled(recipe.data.size, int),
    )  # fmt: skip


def scale_head(model: Network, factor: float) -> None:
    """Multiplies the head's weights."""
    if factor != 1:
        for parameter in model.classifier().parameters():
            parameter.data.mul_(factor)


def _build(spec: NetworkSpec) -> Network:
    """A ConvNeXt of the table, or a network of the roadmap."""
    settings = {key: getattr(spec, key) for key in ("in_chans", "num_classes", "drop_path", "checkpointing")}
    blocks = settings | {key: getattr(spec, key) for key in ("layer_scale", "stem_patch", "form", "output_norms")}
    if not spec.name.startswith(ROADMAP):
        row = get_spec(spec.name)
        return ConvNeXt(row.depths, row.dims, stem_norm=row.stem_norm, grn=row.grn, **blocks)
    design = roadmap.parse(spec.name)[1]
    if design.separate_downsampling:
        return ConvNeXt(design.depths, design.dims, **blocks)
    return roadmap.RoadNet(design, **settings)


def _check(key: str, value: object, good: bool, rule: str) -> None:
    if not good:
        raise UserError(f"{key} is {value!r}; it {rule}")


def _whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _real(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
