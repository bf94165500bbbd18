"""The parameter names of other ConvNeXt codes, each as one table that is read in both directions.

A table has a row per layer: our name and theirs, without ".weight" and ".bias"; `{b}` stands for the number of a block.
A few shapes differ as well: torchvision keeps `gamma` as (C, 1, 1), the V2 authors and transformers keep the response
normalisation as (1, 1, 1, 4C), and timm's smallest models hold the linear layers as 1x1 convolutions. Everything
else is the same tensor under another name.

Sources: the authors' repositories ("official"), timm and torchvision `models/convnext.py`, transformers
`models/convnext` and `models/convnextv2`, MMPretrain `models/backbones/convnext.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from convnext.errors import WeightsError

Rows = tuple[tuple[str, str], ...]

_STAGES = range(4)
_LAYERS = ("dwconv", "norm", "pwconv1", "pwconv2")
_ALONE = ("gamma", "grn.weight", "grn.bias")  # parameters of a block that are no layers


@dataclass(frozen=True)
class Block:
    """What a code calls the layers and the lone parameters of a block, in the order of `_LAYERS` and `_ALONE`."""

    layers: tuple[str, ...]
    alone: tuple[str, ...]

    def rows(self, ours: str, theirs: str) -> Rows:
        """Rows of parameters, for blocks that are at `ours` and `theirs`."""
        names = [*_leaves(zip(_LAYERS, self.layers, strict=True)), *zip(_ALONE, self.alone, strict=True)]
        return tuple((f"{ours}.{{b}}.{a}", f"{theirs}.{{b}}.{b}") for a, b in names)


def _leaves(layers: Iterable[tuple[str, str]]) -> Rows:
    return tuple((a + leaf, b + leaf) for a, b in layers for leaf in (".weight", ".bias"))


@dataclass(frozen=True)
class Format:
    """How one code names and shapes the parameters.

    Attributes:
        rows: (our name, their name) of every parameter.
        isotropic: the same for isotropic networks, where the code has them under other names.
        gamma_dims: dimensions of layer scale: 1 for (C,), 3 for (C, 1, 1).
        grn_dims: dimensions of the response normalisation: 1 for (4C,), 4 for (1, 1, 1, 4C).
        conv_widths: stem widths of the models whose linear layers are 1x1 convolutions.
        prefix: what all names begin with, or may.
        prefix_v2: the same for networks with response normalisation.
    """

    rows: Rows
    isotropic: Rows = ()
    gamma_dims: int = 1
    grn_dims: int = 1
    conv_widths: frozenset[int] = frozenset()
    prefix: str = ""
    prefix_v2: str = ""


def _format_rows(
    stem: tuple[str, str], downsample: dict[int, tuple[str, str]], block: Block, blocks: str, ends: tuple[str, str]
) -> Rows:
    """Rows of a network of four stages.

    Args:
        stem: their stem convolution and norm.
        downsample: stage to their norm and convolution.
        block: their names in a block.
        blocks: where the blocks of stage `{s}` are; `{t}` is 2 s + 1.
        ends: their last norm and head.
    """
    layers = [("stem.conv", stem[0]), ("stem.norm", stem[1]), ("norm", ends[0]), ("head", ends[1])]
    for s, names in downsample.items():
        layers += zip((f"stages.{s}.downsample.norm", f"stages.{s}.downsample.conv"), names, strict=True)
    inner = [
        row
        for s in _STAGES
        for row in block.rows(f"stages.{s}.blocks", blocks.replace("{s}", str(s)).replace("{t}", str(2 * s + 1)))
    ]
    return (*_leaves(layers), *inner)


def _numbered(pattern: str, ends: tuple[str, str]) -> dict[int, tuple[str, str]]:
    """Names of the downsampling layers of stages 1 to 3: `{s}` is the stage, `{t}` is 2 s."""
    where = {s: pattern.replace("{s}", str(s)).replace("{t}", str(2 * s)) for s in (1, 2, 3)}
    return {s: (name + ends[0], name + ends[1]) for s, name in where.items()}


_OURS = Block(_LAYERS, _ALONE)
_OFFICIAL = Block(_LAYERS, ("gamma", "grn.gamma", "grn.beta"))
_TIMM = Block(("conv_dw", "norm", "mlp.fc1", "mlp.fc2"), ("gamma", "mlp.grn.weight", "mlp.grn.bias"))
_TORCHVISION = Block(("block.0", "block.2", "block.3", "block.5"), ("layer_scale", "grn.weight", "grn.bias"))
_TRANSFORMERS = Block(
    ("dwconv", "layernorm", "pwconv1", "pwconv2"), ("layer_scale_parameter", "grn.weight", "grn.bias")
)
_MMPRETRAIN = Block(
    ("depthwise_conv", "norm", "pointwise_conv1", "pointwise_conv2"), ("gamma", "grn.gamma", "grn.beta")
)

_TABLE: dict[str, Format] = {
    "convnext": Format(
        _format_rows(
            ("stem.conv", "stem.norm"), _numbered("stages.{s}.downsample", (".norm", ".conv")), _OURS,
            "stages.{s}.blocks", ("norm", "head"),
        )
        + _leaves((f"output_norms.{s}", f"output_norms.{s}") for s in _STAGES)
    ),
    "official": Format(
        _format_rows(
            ("downsample_layers.0.0", "downsample_layers.0.1"), _numbered("downsample_layers.{s}", (".0", ".1")),
            _OFFICIAL, "stages.{s}", ("norm", "head"),
        )
        + _leaves((f"output_norms.{s}", f"norm{s}") for s in _STAGES),
        isotropic=_leaves((("stem.conv", "stem"), ("norm", "norm"), ("head", "head")))
        + _OFFICIAL.rows("stages.0.blocks", "blocks"),
        grn_dims=4,
    ),
    "timm": Format(
        _format_rows(
            ("stem.0", "stem.1"), _numbered("stages.{s}.downsample", (".0", ".1")), _TIMM, "stages.{s}.blocks",
            ("head.norm", "head.fc"),
        ),
        conv_widths=frozenset({40, 48, 64, 80}),  # atto, femto, pico, nano
    ),
    "torchvision": Format(
        _format_rows(
            ("features.0.0", "features.0.1"), _numbered("features.{t}", (".0", ".1")), _TORCHVISION, "features.{t}",
            ("classifier.0", "classifier.2"),
        ),
        gamma_dims=3,
    ),
    "transformers": Format(
        _format_rows(
            ("embeddings.patch_embeddings", "embeddings.layernorm"),
            _numbered("encoder.stages.{s}.downsampling_layer", (".0", ".1")), _TRANSFORMERS,
            "encoder.stages.{s}.layers", ("layernorm", "classifier"),
        )
        + _leaves((f"output_norms.{s}", f"hidden_states_norms.stage{s + 1}") for s in _STAGES),
        grn_dims=4,
        prefix="convnext.",
        prefix_v2="convnextv2.",
    ),
    "mmpretrain": Format(
        _format_rows(
            ("downsample_layers.0.0", "downsample_layers.0.1"), _numbered("downsample_layers.{s}", (".0", ".1")),
            _MMPRETRAIN, "stages.{s}", ("norm3", "head.fc"),
        ),
        prefix="backbone.",
        prefix_v2="backbone.",
    ),
}  # fmt: skip

FORMATS = tuple(_TABLE)

_UNPREFIXED = ("classifier.", "head.fc.")  # layers that stand beside the prefixed backbone


def detect_format(keys: Iterable[str]) -> str:
    """The format that most of the names belong to; ours where several know them equally well.

    Raises:
        WeightsError: fewer than half of the names belong to any one format.
    """
    keys = list(keys)
    known = {name: sum(_to_ours(key, name) is not None for key in keys) for name in FORMATS}
    best = max(FORMATS, key=lambda name: known[name])
    if not keys or known[best] < len(keys) / 2:
        some = ", ".join(keys[:4]) or "none at all"
        raise WeightsError(
            f"these are not the weights of a ConvNeXt in a known format ({', '.join(FORMATS)}); "
            f"the {len(keys)} names begin with: {some}"
        )
    return best


def to_native(state: Mapping[str, Tensor], format: str) -> dict[str, Tensor]:
    """A state under our names and in our shapes.

    Raises:
        WeightsError: a name is not of the format (the weights of a network that is something else than this ConvNeXt),
            or two names mean the same tensor.
    """
    _known(format)
    native: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    strange = []
    for key, tensor in state.items():
        ours = _to_ours(key, format)
        if ours is None:
            strange.append(key)
        elif ours in names:
            raise WeightsError(
                f'"{names[ours]}" and "{key}" are the same tensor under two names; keep the one that counts'
            )
        else:
            native[ours], names[ours] = _native_shape(ours, tensor), key
    if strange:
        raise WeightsError(
            f"{len(strange)} of {len(state)} names are not those of a ConvNeXt in the {format} format, such as "
            f"{', '.join(strange[:4])}: these are the weights of another network"
            + (' (one of timm\'s own goes by the model name "timm:NAME")' if format == "timm" else "")
        )
    return native


def from_native(state: Mapping[str, Tensor], format: str) -> dict[str, Tensor]:
    """Our state under the names and in the shapes of another code.

    Raises:
        WeightsError: a tensor has no place there (output norms in timm, an isotropic network in torchvision).
    """
    table = _known(format)
    v2 = any(".grn." in key for key in state)
    isotropic = "stem.norm.weight" not in state and not any(key.startswith("stages.1.") for key in state)
    if v2 and format == "torchvision":
        raise WeightsError("torchvision has no ConvNeXt V2; choose another format")
    if isotropic and format not in ("convnext", "official"):
        raise WeightsError(f'the {format} format has no isotropic networks; choose "official" or "convnext"')
    rows = _patterns(table.isotropic if isotropic and table.isotropic else table.rows, 0)
    stem = state.get("stem.conv.weight")
    as_conv = stem is not None and stem.shape[0] in table.conv_widths
    backbone = format == "transformers" and any(key.startswith("output_norms.") for key in state)  # has no prefix
    out = {}
    for key, tensor in state.items():
        theirs = _rename(key, rows)
        if theirs is None:
            raise WeightsError(f'"{key}" has no place in the {format} format; leave it out, or choose another format')
        if not theirs.startswith(_UNPREFIXED) and not backbone:
            theirs = (table.prefix_v2 if v2 else table.prefix) + theirs
        out[theirs] = _foreign_shape(key, tensor, table, as_conv)
    return out


def _foreign_shape(key: str, tensor: Tensor, table: Format, as_conv: bool) -> Tensor:
    if key.endswith(".gamma"):
        return tensor.view(-1, 1, 1) if table.gamma_dims == 3 else tensor
    if ".grn." in key:
        return tensor.view(1, 1, 1, -1) if table.grn_dims == 4 else tensor
    return tensor[:, :, None, None] if as_conv and _is_pointwise(key) else tensor


def _known(format: str) -> Format:
    if format not in _TABLE:
        raise WeightsError(f'format "{format}" is not known; it must be one of {", ".join(FORMATS)}')
    return _TABLE[format]


def _native_shape(key: str, tensor: Tensor) -> Tensor:
    if key.endswith(".gamma") or ".grn." in key:
        return tensor.flatten()  # (C, 1, 1) -> (C,), (1, 1, 1, 4C) -> (4C,)
    if _is_pointwise(key) and tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
        return tensor.flatten(1)  # (4C, C, 1, 1) -> (4C, C)
    return tensor


def _is_pointwise(key: str) -> bool:
    return key.endswith((".pwconv1.weight", ".pwconv2.weight"))


def _to_ours(key: str, format: str) -> str | None:
    """Our name of a parameter, or None when the format does not know it."""
    table = _TABLE[format]
    for prefix in (table.prefix, table.prefix_v2):
        if prefix and key.startswith(prefix):
            key = key.removeprefix(prefix)
            break
    return _rename(key, _patterns(table.rows, 1)) or _rename(key, _patterns(table.isotropic, 1))


@cache
def _patterns(rows: Rows, side: int) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Rows as patterns of one side (0 ours, 1 theirs) and the template of the other."""
    return tuple(
        (re.compile(re.escape(row[side]).replace(r"\{b\}", r"(?P<b>0|[1-9][0-9]*)")), row[1 - side]) for row in rows
    )


def _rename(key: str, rows: tuple[tuple[re.Pattern[str], str], ...]) -> str | None:
    """The other name of a parameter, or None when no row has it."""
    for pattern, other in rows:
        match = pattern.fullmatch(key)
        if match:
            return other.format(**match.groupdict())
    return None
