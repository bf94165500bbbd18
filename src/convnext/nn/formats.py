"""The parameter names of other ConvNeXt codes, each as one table that is read in both directions.

A table has a row per layer: our name and theirs, without ".weight" and ".bias"; `{b}` stands for the number of a block.
Two shapes differ as well: torchvision keeps `gamma` as (C, 1, 1), and timm's smallest models hold the linear layers as
1x1 convolutions. Everything else is the same tensor under another name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from convnext.errors import WeightsError

Rows = tuple[tuple[str, str], ...]

_STAGES = range(4)
_BLOCK_LAYERS = ("dwconv", "norm", "pwconv1", "pwconv2", "gamma")


@dataclass(frozen=True)
class Format:
    """How one code names and shapes the parameters.

    Attributes:
        rows: (our name, their name) of every layer.
        gamma_dims: dimensions of layer scale: 1 for (C,), 3 for (C, 1, 1).
        conv_widths: stem widths of the models whose linear layers are 1x1 convolutions.
    """

    rows: Rows
    gamma_dims: int = 1
    conv_widths: frozenset[int] = frozenset()


def _block_rows(blocks: dict[int, str], layers: tuple[str, ...]) -> Rows:
    """Rows of all blocks: where the blocks of each stage are, and what their layers are called, as `_BLOCK_LAYERS`."""
    return tuple(
        (f"stages.{s}.blocks.{{b}}.{ours}", f"{where}.{{b}}.{theirs}")
        for s, where in blocks.items()
        for ours, theirs in zip(_BLOCK_LAYERS, layers, strict=True)
    )


def _downsample_rows(where: dict[int, tuple[str, str]]) -> Rows:
    """Rows of the downsampling layers: stage -> (norm, conv)."""
    return tuple(
        (f"stages.{s}.downsample.{ours}", theirs)
        for s, names in where.items()
        for ours, theirs in zip(("norm", "conv"), names, strict=True)
    )


_TABLE: dict[str, Format] = {
    "convnext": Format(
        (
            ("stem.conv", "stem.conv"),
            ("stem.norm", "stem.norm"),
            *_downsample_rows({s: (f"stages.{s}.downsample.norm", f"stages.{s}.downsample.conv") for s in (1, 2, 3)}),
            *_block_rows({s: f"stages.{s}.blocks" for s in _STAGES}, _BLOCK_LAYERS),
            *((f"output_norms.{s}", f"output_norms.{s}") for s in _STAGES),
            ("norm", "norm"),
            ("head", "head"),
        )
    ),
    "official": Format(
        (
            ("stem.conv", "downsample_layers.0.0"),
            ("stem.norm", "downsample_layers.0.1"),
            *_downsample_rows({s: (f"downsample_layers.{s}.0", f"downsample_layers.{s}.1") for s in (1, 2, 3)}),
            *_block_rows({s: f"stages.{s}" for s in _STAGES}, _BLOCK_LAYERS),
            *((f"output_norms.{s}", f"norm{s}") for s in _STAGES),
            ("norm", "norm"),
            ("head", "head"),
        )
    ),
    "timm": Format(
        (
            ("stem.conv", "stem.0"),
            ("stem.norm", "stem.1"),
            *_downsample_rows({s: (f"stages.{s}.downsample.0", f"stages.{s}.downsample.1") for s in (1, 2, 3)}),
            *_block_rows(
                {s: f"stages.{s}.blocks" for s in _STAGES}, ("conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma")
            ),
            ("norm", "head.norm"),
            ("head", "head.fc"),
        ),
        conv_widths=frozenset({40, 48, 64, 80}),  # atto, femto, pico, nano
    ),
    "torchvision": Format(
        (
            ("stem.conv", "features.0.0"),
            ("stem.norm", "features.0.1"),
            *_downsample_rows({s: (f"features.{2 * s}.0", f"features.{2 * s}.1") for s in (1, 2, 3)}),
            *_block_rows(
                {s: f"features.{2 * s + 1}" for s in _STAGES},
                ("block.0", "block.2", "block.3", "block.5", "layer_scale"),
            ),
            ("norm", "classifier.0"),
            ("head", "classifier.2"),
        ),
        gamma_dims=3,
    ),
}

FORMATS = tuple(_TABLE)


def detect_format(keys: Iterable[str]) -> str:
    """The format that most of the names belong to.

    Raises:
        WeightsError: fewer than half of the names belong to any one format.
    """
    keys = list(keys)
    known = {name: sum(_rename(key, _to_ours(name)) is not None for key in keys) for name in FORMATS}
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
        WeightsError: a name is not of the format: the weights of a network that is something else than this ConvNeXt.
    """
    rows = _to_ours(_known(format))
    native: dict[str, Tensor] = {}
    strange = []
    for key, tensor in state.items():
        ours = _rename(key, rows)
        if ours is None:
            strange.append(key)
        else:
            native[ours] = _native_shape(ours, tensor)
    if strange:
        raise WeightsError(
            f"{len(strange)} of {len(state)} names are not those of a ConvNeXt in the {format} format, such as "
            f"{', '.join(strange[:4])}: these are the weights of another network"
        )
    return native


def from_native(state: Mapping[str, Tensor], format: str) -> dict[str, Tensor]:
    """Our state under the names and in the shapes of another code.

    Raises:
        WeightsError: a tensor has no place there (the output norms in timm and torchvision).
    """
    table = _TABLE[_known(format)]
    rows = tuple((_pattern(ours), theirs) for ours, theirs in table.rows)
    stem = state.get("stem.conv.weight")
    as_conv = stem is not None and stem.shape[0] in table.conv_widths
    out = {}
    for key, tensor in state.items():
        theirs = _rename(key, rows)
        if theirs is None:
            raise WeightsError(f'"{key}" has no place in the {format} format; leave it out, or choose another format')
        if key.endswith(".gamma") and table.gamma_dims == 3:
            tensor = tensor.view(-1, 1, 1)
        elif as_conv and _is_pointwise(key):
            tensor = tensor[:, :, None, None]
        out[theirs] = tensor
    return out


def _known(format: str) -> str:
    if format not in _TABLE:
        raise WeightsError(f'format "{format}" is not known; it must be one of {", ".join(FORMATS)}')
    return format


def _native_shape(key: str, tensor: Tensor) -> Tensor:
    if key.endswith(".gamma"):
        return tensor.flatten()  # (C, 1, 1) -> (C,)
    if _is_pointwise(key) and tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
        return tensor.flatten(1)  # (4C, C, 1, 1) -> (4C, C)
    return tensor


def _is_pointwise(key: str) -> bool:
    return key.endswith((".pwconv1.weight", ".pwconv2.weight"))


def _to_ours(format: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((_pattern(theirs), ours) for ours, theirs in _TABLE[format].rows)


def _pattern(name: str) -> re.Pattern[str]:
    leaf = r"()" if name.endswith(("gamma", "layer_scale")) else r"(\.weight|\.bias)"
    return re.compile(re.escape(name).replace(r"\{b\}", r"(?P<b>\d+)") + leaf)


def _rename(key: str, rows: tuple[tuple[re.Pattern[str], str], ...]) -> str | None:
    """The other name of a parameter, or None when no row has it."""
    for pattern, other in rows:
        match = pattern.fullmatch(key)
        if match:
            return other.format(**match.groupdict()) + (match.groups()[-1] or "")
    return None
