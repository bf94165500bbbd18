"""From a name, or a `NetworkSpec`, to a network with weights."""

from __future__ import annotations

import os
from collections.abc import Sequence

from convnext.errors import UserError, WeightsError
from convnext.nn.convnext.backbone import Form
from convnext.nn.network import Network
from convnext.nn.spec import NetworkSpec, scale_head
from convnext.nn.tables.baseline_specs import TIMM
from convnext.nn.weights.download import find_weights
from convnext.nn.weights.head_rows import Names, classes_of
from convnext.nn.weights.load import load_pretrained, read_model
from convnext.nn.weights.places import tell


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
    if pretrained:
        raise UserError(
            f'pretrained=True is written weights="auto" here: create_model("{name}", weights="auto") takes the first '
            'published weights within reach; weights="timm:NAME", "official:NAME" or a file takes those'
        )
    spec = NetworkSpec(
        name, num_classes, in_chans, stem_patch, layer_scale, drop_path, head_init_scale, init, form, output_norms,
        checkpointing, size,
    )  # fmt: skip
    return build_network(spec, weights, classes)


def build_network(
    spec: NetworkSpec, weights: str | os.PathLike[str] | None = None, classes: Sequence[str] = ()
) -> Network:
    """The network that a spec describes, with weights and names of its outputs; both as in `create_model`.

    Raises:
        UserError: the spec cannot be, or `weights` or `classes` are of another kind.
        WeightsError: the weights cannot be had or do not fit.
    """
    spec = spec.complete()
    weights = str(weights) if isinstance(weights, os.PathLike) else weights
    if weights is not None and not isinstance(weights, str):
        raise UserError(f"weights is {weights!r}; it must be a file, an entry, or None")
    if isinstance(classes, str) or len(classes) not in (0, spec.num_classes):
        raise UserError(f"classes is {classes!r}; it must be as many names as there are outputs, {spec.num_classes}")
    if spec.name.startswith(TIMM) and weights is not None:
        model = _baseline(spec, weights, tuple(classes))
    else:
        model = spec.build()
        if weights is not None and (report := load_pretrained(model, spec.name, weights, tell, tuple(classes))):
            tell(str(report))
    model.classes = tuple(classes)
    return model


def _baseline(spec: NetworkSpec, weights: str, classes: tuple[str, ...]) -> Network:
    """One of timm's networks; timm itself loads its weights."""
    from convnext.nn.others.baselines import Baseline

    found = find_weights(spec.name, weights, tell)
    state, config = (None, None) if found is None else read_model(found.path, tell)
    names = Names(classes_of(config, found.source if found else ""), classes)
    try:
        model = Baseline(spec.name.removeprefix(TIMM), state=state, **spec.for_timm())
    except WeightsError as error:
        raise WeightsError(f"{found.source}: {error}" if found else str(error)) from None
    if model.trained_classes in (None, 0) or model.trained_classes != model.num_classes:
        scale_head(model, spec.head_init_scale)
    if found is not None:
        tell(f"{found.source}: {model.loaded}")
        if state is not None and (said := model.follow_names(names, state, found.source, spec.head_init_scale)):
            tell(f"{found.source}: {said}")
    model.name = spec.name
    return model
