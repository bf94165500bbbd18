"""The table of models, and the table of published weights that suit them.

Sizes T to XL are those of the paper (section 3, Table 9 and 12); atto to nano are the smaller ones that timm added. A
test recomputes every parameter count.
"""

from __future__ import annotations

import difflib
import fnmatch
from dataclasses import dataclass

from convnext.errors import UserError


@dataclass(frozen=True)
class ModelSpec:
    """One model of the table.

    Attributes:
        name: what the user writes.
        depths: blocks in each stage.
        dims: channels of each stage.
        params: number of parameters with 1000 classes and 3 input channels.
        pretrained: keys of `PUBLISHED`, the best general-purpose start for fine-tuning first.
    """

    name: str
    depths: tuple[int, ...]
    dims: tuple[int, ...]
    params: int
    pretrained: tuple[str, ...]


@dataclass(frozen=True)
class PublishedWeights:
    """Weights that somebody published: the model, what they were trained on, the licence that the publisher gives.

    All of them were trained on pictures normalised with the ImageNet mean and deviation.
    """

    model: str
    trained_on: str
    licence: str


_IN1K = "ImageNet-1k"
_IN12K = "ImageNet-12k, then ImageNet-1k"
_IN22K = "ImageNet-22k, then ImageNet-1k"
_APACHE = "Apache-2.0"
_META = "MIT"
_META_TIMM = "Apache-2.0 as repackaged by timm (MIT from the paper's authors)"
_BSD = "BSD-3-Clause"

# In the order in which they are tried: more training data first. "official" files carry the licence of the paper's
# repository, "timm" ones what timm's own table states, "torchvision" ones the licence of torchvision.
PUBLISHED: dict[str, PublishedWeights] = {
    "timm:convnext_atto.d2_in1k": PublishedWeights("convnext_atto", _IN1K, _APACHE),
    "timm:convnext_femto.d1_in1k": PublishedWeights("convnext_femto", _IN1K, _APACHE),
    "timm:convnext_pico.d1_in1k": PublishedWeights("convnext_pico", _IN1K, _APACHE),
    "timm:convnext_nano.in12k_ft_in1k": PublishedWeights("convnext_nano", _IN12K, _APACHE),
    "timm:convnext_nano.d1h_in1k": PublishedWeights("convnext_nano", _IN1K, _APACHE),
    "timm:convnext_tiny.in12k_ft_in1k": PublishedWeights("convnext_tiny", _IN12K, _APACHE),
    "timm:convnext_tiny.fb_in22k_ft_in1k": PublishedWeights("convnext_tiny", _IN22K, _META_TIMM),
    "official:convnext_tiny_22k_1k_224": PublishedWeights("convnext_tiny", _IN22K, _META),
    "official:convnext_tiny_1k_224_ema": PublishedWeights("convnext_tiny", _IN1K, _META),
    "torchvision:convnext_tiny": PublishedWeights("convnext_tiny", _IN1K, _BSD),
    "timm:convnext_small.in12k_ft_in1k": PublishedWeights("convnext_small", _IN12K, _APACHE),
    "timm:convnext_small.fb_in22k_ft_in1k": PublishedWeights("convnext_small", _IN22K, _META_TIMM),
    "official:convnext_small_22k_1k_224": PublishedWeights("convnext_small", _IN22K, _META),
    "official:convnext_small_1k_224_ema": PublishedWeights("convnext_small", _IN1K, _META),
    "torchvision:convnext_small": PublishedWeights("convnext_small", _IN1K, _BSD),
    "timm:convnext_base.fb_in22k_ft_in1k": PublishedWeights("convnext_base", _IN22K, _META_TIMM),
    "official:convnext_base_22k_1k_224": PublishedWeights("convnext_base", _IN22K, _META),
    "official:convnext_base_1k_224_ema": PublishedWeights("convnext_base", _IN1K, _META),
    "torchvision:convnext_base": PublishedWeights("convnext_base", _IN1K, _BSD),
    "timm:convnext_large.fb_in22k_ft_in1k": PublishedWeights("convnext_large", _IN22K, _META_TIMM),
    "official:convnext_large_22k_1k_224": PublishedWeights("convnext_large", _IN22K, _META),
    "official:convnext_large_1k_224_ema": PublishedWeights("convnext_large", _IN1K, _META),
    "torchvision:convnext_large": PublishedWeights("convnext_large", _IN1K, _BSD),
    "timm:convnext_xlarge.fb_in22k_ft_in1k": PublishedWeights("convnext_xlarge", _IN22K, _META_TIMM),
    "official:convnext_xlarge_22k_1k_224_ema": PublishedWeights("convnext_xlarge", _IN22K, _META),
}


def _spec(name: str, depths: tuple[int, ...], width: int, params: int) -> ModelSpec:
    """A spec whose channels double from stage to stage, as in all sizes of the paper."""
    dims = tuple(width * 2**i for i in range(len(depths)))
    pretrained = tuple(entry for entry, published in PUBLISHED.items() if published.model == name)
    return ModelSpec(name, depths, dims, params, pretrained)


MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        _spec("convnext_atto", (2, 2, 6, 2), 40, 3_695_520),
        _spec("convnext_femto", (2, 2, 6, 2), 48, 5_217_784),
        _spec("convnext_pico", (2, 2, 6, 2), 64, 9_045_672),
        _spec("convnext_nano", (2, 2, 8, 2), 80, 15_593_560),
        _spec("convnext_tiny", (3, 3, 9, 3), 96, 28_589_128),
        _spec("convnext_small", (3, 3, 27, 3), 96, 50_223_688),
        _spec("convnext_base", (3, 3, 27, 3), 128, 88_591_464),
        _spec("convnext_large", (3, 3, 27, 3), 192, 197_767_336),
        _spec("convnext_xlarge", (3, 3, 27, 3), 256, 350_196_968),
    )
}


def list_models(pattern: str = "*") -> list[str]:
    """Names of the models that match a shell pattern such as "*tiny*", from small to large."""
    return [name for name in MODELS if fnmatch.fnmatchcase(name, pattern)]


def get_spec(name: str) -> ModelSpec:
    """The spec of a model.

    Raises:
        UserError: no model has this name.
    """
    if name in MODELS:
        return MODELS[name]
    short = {key.removeprefix("convnext_"): key for key in MODELS}
    close = difflib.get_close_matches(name.lower().replace("-", "_"), [*MODELS, *short], n=1)
    hint = f'Did you mean "{short.get(close[0], close[0])}"? ' if close else ""
    raise UserError(f'model "{name}" is not known. {hint}The models are: {", ".join(MODELS)}')
