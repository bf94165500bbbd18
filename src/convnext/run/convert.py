"""Weights from one code's format to another's, in a file that the other code reads."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from convnext.errors import UserError, WeightsError
from convnext.nn.baseline_specs import TIMM
from convnext.nn.baselines import OWN
from convnext.nn.download import TORCHVISION_FILES
from convnext.nn.variants import ROADMAP
from convnext.nn.weights import (
    FORMATS,
    check_whole,
    from_native,
    model_of,
    read_model,
    recognise,
    save_model,
    sizes_of,
)
from convnext.run.folder import open_run, write_output
from convnext.run.load import weights_of

_LOST = " Classes and preprocessing stay behind: such a file holds weights alone."

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


@dataclass(frozen=True)
class Conversion:
    """What `convert` did. `str()` is one paragraph for the user."""

    source: Path
    target: Path
    found: str
    written: str
    model: str
    tensors: int
    classes: int
    lost: str

    def __str__(self) -> str:
        head = f"a head for {self.classes} classes" if self.classes else "no head"
        what = self.model or "a ConvNeXt of sizes that are not in the table"
        return (
            f"{self.source} ({self.found} format, {what}, {head}) -> {self.target} ({self.written} format): "
            f"{self.tensors} tensors, values unchanged.{self.lost}"
        )


def convert(source: Path, target: Path, format: str, *, overwrite: bool = False) -> Conversion:
    """Reads weights of any known format, or those of a run, and writes them as another code names and shapes them.

    Args:
        source: a weight file, a run folder, or a folder that transformers saved.
        target: the file to write: .safetensors, or .pth, .pt, .bin for a file of torch.
        format: a name of `FORMATS`.
        overwrite: replace a file that is there.

    Raises:
        WeightsError: the source cannot be read, or the format has no place for a tensor.
        UserError: the target's suffix, or it exists.
        RunError: the target cannot be written.
    """
    target = Path(target).expanduser()
    if format not in FORMATS:
        raise WeightsError(f'format "{format}" is not known; it must be one of {", ".join(FORMATS)}')
    if target.suffix not in SUFFIXES:
        raise UserError(f'{target}: weights are written as {", ".join(SUFFIXES)}; "{target.suffix}" is not one of them')
    if (target.exists() or target.is_symlink()) and not overwrite:
        raise UserError(f"{target} is there already; choose another name, or say --overwrite")
    path = _file_of(source)
    state, config = read_model(path)
    name = str((config or {}).get("model", {}).get("name", ""))
    if config and name.startswith(TIMM) and format == "timm":
        written = {key.removeprefix(OWN): tensor for key, tensor in state.items()}
        write_output(target, _packed(written, target, format))
        return Conversion(path, target, "convnext", format, name, len(written), len(config["classes"]), _LOST)
    if name.startswith((TIMM, ROADMAP)):
        other = "; --to timm writes it for timm" if name.startswith(TIMM) else ", which no other code has"
        raise WeightsError(f"{path} is a {name}{other}. The formats are those of ConvNeXt")
    found, native = recognise(state, str(path))
    check_whole(native, str(path))
    try:
        written = from_native(native, format)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    lost = ""
    if config and format == "convnext" and target.suffix == ".safetensors":
        save_model(target.resolve(), written, config)
    else:
        lost = _LOST if config else ""
        write_output(target, _packed(written, target, format))
    head = native.get("head.weight")
    classes = 0 if head is None else int(head.shape[0])
    model = model_of(native)
    return Conversion(
        path, target, found, format, model, len(written), classes, lost + _how_to_load(native, model, format)
    )


def _file_of(source: Path) -> Path:
    """The weight file of a run, of a folder that transformers saved, or the file itself."""
    if not source.is_dir() or (source / "recipe.toml").exists():
        return weights_of(open_run(source)) if source.is_dir() else source
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (source / name).is_file():
            return source / name
    raise WeightsError(
        f"{source} is neither a run (no recipe.toml) nor a folder of transformers (no model.safetensors)"
    )


def _how_to_load(native: Mapping[str, Tensor], model: str, format: str) -> str:
    """What the other code must be told to build the network that the file is of."""
    head = native.get("head.weight")
    classes = 0 if head is None else head.shape[0]
    if format == "transformers":
        depths, dims, grn = sizes_of(native)
        kind = "ConvNextV2" if grn else "ConvNext"
        return (
            f" In transformers: {kind}Config(depths={list(depths)}, hidden_sizes={list(dims)}, num_labels={classes}, "
            "layer_norm_eps=1e-6)."
        )
    if format == "timm" and model:
        return f' In timm: create_model("{model}", num_classes={classes}).'
    if format == "torchvision":
        known = model in TORCHVISION_FILES
        return (
            f' In torchvision: get_model("{model}", num_classes={classes}).'
            if known
            else " torchvision has no such size."
        )
    return ""


def _packed(state: Mapping[str, Tensor], target: Path, format: str) -> bytes:
    """The bytes of the file; the authors' code and MMPretrain look for the weights under a key of their own."""
    plain = {key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in state.items()}
    if target.suffix == ".safetensors":
        return safetensors.torch.save(plain, {"format": "pt"})
    wrapper = {"official": "model", "mmpretrain": "state_dict"}.get(format)
    buffer = io.BytesIO()
    torch.save({wrapper: plain} if wrapper else plain, buffer)
    return buffer.getvalue()
