"""From a name to a network.

Three kinds of names: a model of the table ("convnext_tiny"), one of timm's ("timm:resnet50"), and a step of the roadmap
("roadmap:resnet50:patchify-stem", shrunken as "roadmap:resnet50:patchify-stem:0.25").
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convnext.errors import UserError, WeightsError
from convnext.nn import roadmap
from convnext.nn.baseline_specs import TIMM
from convnext.nn.convnext import ConvNeXt, Form
from convnext.nn.download import find_weights
from convnext.nn.head_rows import Names, classes_of
from convnext.nn.initialize import init_fan_in
from convnext.nn.network import Network
from convnext.nn.places import tell
from convnext.nn.variants import ROADMAP, get_spec
from convnext.nn.weights import load_pretrained, read_model

INITS = ("paper", "fan_in")


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
        from convnext.nn.baselines import fixed_size

        return Outline((4,), 32, 0.0, None, fixed_size(name.removeprefix(TIMM)), blocks=False)
    if name.startswith(ROADMAP):
        _, design = roadmap.parse(name)
        last = design.separate_downsampling
        return Outline((4,), 32, 1e-6 if last else 0.0, None, published=False, blocks=last)
    spec = get_spec(name)
    return Outline(spec.stem_patches, spec.stem_patch * 2 ** (len(spec.dims) - 1), spec.layer_scale, spec.dims[0])


def create_model(
    name: str,
    *,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_path: float = 0.0,
    layer_scale: float | None = None,
    head_init_scale: float = 1.0,
    init: str = "paper",
    stem_patch: int | None = None,
    form: Form = "linear",
    output_norms: bool = False,
    checkpointing: bool = False,
    size: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    pretrained: bool = False,
    classes: Sequence[str] = (),
) -> Network:
    """Builds a network, with random or given weights.

    Args:
        name: a name of `list_models()`, "timm:NAME", or "roadmap:REGIME:STEP" with ":SCALE" if shrunken.
        num_classes: size of the head; 0 leaves it out.
        in_chans: channels of the pictures.
        drop_path: stochastic depth of the last block, from 0 up to below 1.
        layer_scale: initial value of each block's `gamma`; 0 leaves it out; None for the model's own.
        head_init_scale: factor on the head's initial weights.
        init: "paper" for a normal of deviation 0.02 (Table 5), "fan_in" for `initialize.init_fan_in`; not for
            timm's networks, which have their own.
        stem_patch: patch size of the stem; None for the model's own (4, isotropic 16), smaller for small pictures.
        form: "linear" or "conv", two ways to compute a ConvNeXt block's 1x1 convolutions with the same result.
        output_norms: a LayerNorm on each map that `features` returns.
        checkpointing: recompute the blocks in the backward pass, to save memory.
        size: side of the pictures, for those of timm's networks that have one size (ViT, Swin).
        weights: None or "none" for random weights, "auto", a file, a run folder, or an entry such as
            "timm:convnext_tiny.fb_in1k". "FILE#ema" and "FILE#model" choose where a file holds an average beside the
            raw weights; else the average is taken. A download, and what was loaded, are told on stderr.
        pretrained: timm's word; True is answered with ours.
        classes: names of the outputs, in order. Weights that name theirs, as those of a run do, give each class the row
            of its name; a class that they do not have gets a new row.

    Raises:
        UserError: an argument is out of range, or the name is not known.
        WeightsError: the weights cannot be had or do not fit.

    Examples:
        >>> import torch, convnext
        >>> network = convnext.create_model("convnext_atto", num_classes=10, stem_patch=2)
        >>> network(torch.randn(1, 3, 64, 64)).shape
        torch.Size([1, 10])
        >>> network.num_features, network.forward_features(torch.randn(1, 3, 64, 64)).shape
        (320, torch.Size([1, 320, 4, 4]))
    """
    _check("name", name, isinstance(name, str), "must be the name of a model")
    if pretrained:
        raise UserError(
            f'pretrained=True is written weights="auto" here: create_model("{name}", weights="auto") takes the first '
            'published weights within reach; weights="timm:NAME", "official:NAME" or a file takes those'
        )
    known = outline(name)
    patch = known.stem_patch if stem_patch is None else stem_patch
    scale = known.layer_scale if layer_scale is None else layer_scale
    _check("num_classes", num_classes, _whole(num_classes) and 0 <= num_classes < 10**7, "must be a number from 0 up")
    _check("in_chans", in_chans, _whole(in_chans) and 1 <= in_chans < 10**5, "must be a number from 1 up")
    _check("drop_path", drop_path, _real(drop_path) and 0.0 <= drop_path < 1.0, "must be at least 0 and below 1")
    _check("layer_scale", scale, _real(scale) and scale >= 0.0, "must be at least 0")
    _check("head_init_scale", head_init_scale, _real(head_init_scale) and head_init_scale >= 0.0, "must be at least 0")
    _check("stem_patch", patch, _whole(patch) and patch in known.stem_patches, f"must be one of {known.stem_patches}")
    _check("size", size, size is None or (_whole(size) and size >= 1), "must be a number of pixels")
    _check("form", form, form in ("linear", "conv"), 'must be "linear" or "conv"')
    _check("init", init, init in INITS, f"must be one of {INITS}")
    if not known.blocks:
        _check("layer_scale", scale, scale == 0, f"must be 0 or left out: {name} has none")
        _check("form", form, form == "linear", f'must be "linear" or left out: {name} has no ConvNeXt block')
        _check("output_norms", output_norms, not output_norms, f"must be left out: {name} has none")
    weights = str(weights) if isinstance(weights, os.PathLike) else weights
    _check("weights", weights, weights is None or isinstance(weights, str), "must be a file, an entry, or None")
    good = not isinstance(classes, str) and len(classes) in (0, num_classes)
    _check("classes", classes, good, f"must be as many names as there are outputs, {num_classes}")
    if name.startswith(TIMM):
        if init != "paper":
            raise UserError(f'init is "{init}"; {name} is initialised by timm: leave init out, or "paper"')
        peer = _baseline(
            name, weights, head_init_scale, tuple(classes), in_chans=in_chans, num_classes=num_classes,
            drop_path=drop_path, checkpointing=checkpointing, size=size,
        )  # fmt: skip
        peer.name, peer.classes = name, tuple(classes)
        return peer
    model = _build(
        name, in_chans=in_chans, num_classes=num_classes, drop_path=drop_path, layer_scale=scale, stem_patch=patch,
        form=form, output_norms=output_norms, checkpointing=checkpointing,
    )  # fmt: skip
    model.name, model.classes = name, tuple(classes)
    if init == "fan_in":
        init_fan_in(model)
    _scale_head(model, head_init_scale)
    if weights is not None:
        report = load_pretrained(model, name, weights, tell, tuple(classes))
        if report is not None:
            tell(str(report))
    return model


def _baseline(
    name: str, weights: str | None, head_init_scale: float, classes: tuple[str, ...], **settings: Any
) -> Network:
    """One of timm's networks; timm itself loads its weights."""
    from convnext.nn.baselines import Baseline

    found = None if weights is None else find_weights(name, weights, tell)
    state, config = (None, None) if found is None else read_model(found.path, tell)
    names = Names(classes_of(config, found.source if found else ""), classes)
    try:
        model = Baseline(name.removeprefix(TIMM), state=state, **settings)
    except WeightsError as error:
        raise WeightsError(f"{found.source}: {error}" if found else str(error)) from None
    if model.trained_classes in (None, 0) or model.trained_classes != model.num_classes:
        _scale_head(model, head_init_scale)
    if found is not None:
        tell(f"{found.source}: {model.loaded}")
        if state is not None and (said := model.follow_names(names, state, found.source, head_init_scale)):
            tell(f"{found.source}: {said}")
    return model


def _scale_head(model: Network, factor: float) -> None:
    if factor != 1:
        for parameter in model.classifier().parameters():
            parameter.data.mul_(factor)


def _build(name: str, **settings: Any) -> Network:
    """A ConvNeXt of the table, or a network of the roadmap."""
    if not name.startswith(ROADMAP):
        spec = get_spec(name)
        return ConvNeXt(spec.depths, spec.dims, stem_norm=spec.stem_norm, grn=spec.grn, **settings)
    design = roadmap.parse(name)[1]
    if design.separate_downsampling:
        return ConvNeXt(design.depths, design.dims, **settings)
    taken = ("in_chans", "num_classes", "drop_path", "checkpointing")
    return roadmap.RoadNet(design, **{key: settings[key] for key in taken})


def _check(key: str, value: object, good: bool, rule: str) -> None:
    if not good:
        raise UserError(f"{key} is {value!r}; it {rule}")


def _whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _real(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
