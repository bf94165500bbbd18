"""From a name to a network."""

from __future__ import annotations

from convnext.errors import UserError
from convnext.nn.convnext import ConvNeXt
from convnext.nn.download import tell
from convnext.nn.initialize import init_fan_in
from convnext.nn.variants import get_spec
from convnext.nn.weights import load_pretrained

STEM_PATCHES = (1, 2, 4)
INITS = ("paper", "fan_in")


def create_model(
    name: str,
    *,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_path: float = 0.0,
    layer_scale: float = 1e-6,
    head_init_scale: float = 1.0,
    init: str = "paper",
    stem_patch: int = 4,
    output_norms: bool = False,
    checkpointing: bool = False,
    weights: str | None = None,
) -> ConvNeXt:
    """Builds a model of the table, with random or given weights.

    Args:
        name: a name of `list_models()`.
        num_classes: size of the head; 0 leaves it out.
        in_chans: channels of the pictures.
        drop_path: stochastic depth of the last block, from 0 up to below 1.
        layer_scale: initial value of each block's `gamma`; 0 leaves it out.
        head_init_scale: factor on the head's initial weights.
        init: "paper" for a normal of deviation 0.02 (Table 5), "fan_in" for `initialize.init_fan_in`.
        stem_patch: patch size of the stem: 4 as in the paper, 1 or 2 for small pictures.
        output_norms: a LayerNorm on each map that `features` returns.
        checkpointing: recompute the blocks in the backward pass, to save memory.
        weights: None or "none" for random weights, "auto", a file, or an entry such as "timm:convnext_tiny.fb_in1k".
            A download, and what was loaded, are told on stderr.

    Raises:
        UserError: an argument is out of range, or the name is not known.
        WeightsError: the weights cannot be had or do not fit.
    """
    spec = get_spec(name)
    _check("num_classes", num_classes, num_classes >= 0, "must be at least 0")
    _check("in_chans", in_chans, in_chans >= 1, "must be at least 1")
    _check("drop_path", drop_path, 0.0 <= drop_path < 1.0, "must be at least 0 and below 1")
    _check("layer_scale", layer_scale, layer_scale >= 0.0, "must be at least 0")
    _check("stem_patch", stem_patch, stem_patch in STEM_PATCHES, f"must be one of {STEM_PATCHES}")
    _check("init", init, init in INITS, f"must be one of {INITS}")
    model = ConvNeXt(
        spec.depths,
        spec.dims,
        in_chans=in_chans,
        num_classes=num_classes,
        drop_path=drop_path,
        layer_scale=layer_scale,
        head_init_scale=head_init_scale,
        stem_patch=stem_patch,
        output_norms=output_norms,
        checkpointing=checkpointing,
    )
    if init == "fan_in":
        init_fan_in(model)
    if weights is not None:
        report = load_pretrained(model, name, weights, tell)
        if report is not None:
            tell(str(report))
    return model


def _check(key: str, value: float | str, good: bool, rule: str) -> None:
    if not good:
        raise UserError(f"{key} is {value}; it {rule}")
