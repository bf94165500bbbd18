"""The table of models.

Sizes T to XL are those of the paper (section 3, Tables 9 and 12), the isotropic ones of its section 3.3 (Table 2); atto
to nano are the smaller ones that timm added; ConvNeXt V2 is of Woo et al., CVPR 2023 (Appendix A.1). A test recomputes
every number.
"""

from __future__ import annotations

import difflib
import fnmatch
from dataclasses import dataclass

from convnext.errors import UserError
from convnext.nn.tables.baseline_specs import BASELINES
from convnext.nn.tables.published import PUBLISHED, starts_for

ROADMAP = "roadmap:"
"""What the names of steps of the roadmap begin with."""


@dataclass(frozen=True)
class ModelSpec:
    """One model of the table.

    Attributes:
        name: what the user writes.
        depths: blocks in each stage.
        dims: channels of each stage.
        params: number of parameters with 1000 classes and 3 input channels.
        gmacs: billions of multiply-accumulates of convolutions and linear layers for one picture of 224 x 224.
        stem_patch: patch size of the stem.
        layer_scale: initial layer scale; 0 for none.
        stem_norm: LayerNorm after the stem.
        grn: global response normalisation in every block.
    """

    name: str
    depths: tuple[int, ...]
    dims: tuple[int, ...]
    params: int
    gmacs: float
    stem_patch: int = 4
    layer_scale: float = 1e-6
    stem_norm: bool = True
    grn: bool = False

    @property
    def pretrained(self) -> tuple[str, ...]:
        """Keys of `PUBLISHED`, the best general-purpose start for fine-tuning first."""
        return starts_for(self.name)

    @property
    def stem_patches(self) -> tuple[int, ...]:
        """Patch sizes that the stem may have: the model's own, and smaller ones for small pictures."""
        return tuple(p for p in (1, 2, 4, 8, 16) if p <= self.stem_patch)


def _v1(size: str, depths: tuple[int, ...], width: int, params: int, gmacs: float) -> ModelSpec:
    return ModelSpec(f"convnext_{size}", depths, _doubling(width), params, gmacs)


def _v2(size: str, depths: tuple[int, ...], width: int, params: int, gmacs: float) -> ModelSpec:
    return ModelSpec(f"convnextv2_{size}", depths, _doubling(width), params, gmacs, layer_scale=0.0, grn=True)


def _isotropic(size: str, depth: int, dim: int, params: int, gmacs: float, layer_scale: float) -> ModelSpec:
    name = f"convnext_isotropic_{size}"
    return ModelSpec(name, (depth,), (dim,), params, gmacs, 16, layer_scale, stem_norm=False)


def _doubling(width: int) -> tuple[int, ...]:
    """Channels that double from stage to stage, as in all hierarchical networks here."""
    return (width, 2 * width, 4 * width, 8 * width)


MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        _v1("atto", (2, 2, 6, 2), 40, 3_695_520, 0.55),
        _v1("femto", (2, 2, 6, 2), 48, 5_217_784, 0.78),
        _v1("pico", (2, 2, 6, 2), 64, 9_045_672, 1.37),
        _v1("nano", (2, 2, 8, 2), 80, 15_593_560, 2.45),
        _v1("tiny", (3, 3, 9, 3), 96, 28_589_128, 4.46),
        _v1("small", (3, 3, 27, 3), 96, 50_223_688, 8.68),
        _v1("base", (3, 3, 27, 3), 128, 88_591_464, 15.35),
        _v1("large", (3, 3, 27, 3), 192, 197_767_336, 34.36),
        _v1("xlarge", (3, 3, 27, 3), 256, 350_196_968, 60.92),
        _isotropic("small", 18, 384, 22_308_712, 4.29, 0.0),
        _isotropic("base", 18, 768, 87_083_752, 16.90, 0.0),
        _isotropic("large", 36, 1024, 305_942_504, 59.70, 1e-6),
        _v2("atto", (2, 2, 6, 2), 40, 3_708_400, 0.55),
        _v2("femto", (2, 2, 6, 2), 48, 5_233_240, 0.78),
        _v2("pico", (2, 2, 6, 2), 64, 9_066_280, 1.37),
        _v2("nano", (2, 2, 8, 2), 80, 15_623_800, 2.45),
        _v2("tiny", (3, 3, 9, 3), 96, 28_635_496, 4.46),
        _v2("base", (3, 3, 27, 3), 128, 88_717_800, 15.35),
        _v2("large", (3, 3, 27, 3), 192, 197_956_840, 34.36),
        _v2("huge", (3, 3, 27, 3), 352, 660_289_640, 114.92),
    )
}


def list_models(pattern: str = "*") -> list[str]:
    """Names of the models that match a shell pattern such as "*tiny*", from small to large within each family.

    Examples:
        >>> import convnext
        >>> convnext.list_models("convnext_t*")
        ['convnext_tiny']
    """
    return [name for name in MODELS if fnmatch.fnmatchcase(name, pattern)]


def get_spec(name: str) -> ModelSpec:
    """The spec of a model.

    Raises:
        UserError: no model has this name.
    """
    if name in MODELS:
        return MODELS[name]
    close = closest(name)
    hint = f'Did you mean "{close}"? ' if close else ""
    if f"timm:{name}" in PUBLISHED:
        hint = f'Did you mean "{PUBLISHED[f"timm:{name}"].model}" with the weights "timm:{name}"? '
    elif f"timm:{name}" in BASELINES:
        hint = f'Did you mean "timm:{name}"? '
    raise UserError(
        f'model "{name}" is not known. {hint}The models are: {", ".join(MODELS)}; beside them any of timm\'s as '
        '"timm:NAME", and "roadmap:REGIME:STEP"'
    )


def closest(name: str) -> str:
    """The model of the table that a mistyped or shortened name probably means, or ""."""
    short = {key.removeprefix("convnext_"): key for key in MODELS}
    close = difflib.get_close_matches(name.lower().replace("-", "_"), [*MODELS, *short], n=1)
    return short.get(close[0], close[0]) if close else ""
