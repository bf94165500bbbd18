"""Weights from one code's format to another's, in a file that the other code reads."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from convnext.errors import UserError, WeightsError
from convnext.nn.others.baselines import OWN
from convnext.nn.tables.baseline_specs import TIMM
from convnext.nn.tables.variants import ROADMAP
from convnext.nn.weights.description import describe
from convnext.nn.weights.load import (
    FORMATS,
    check_whole,
    from_native,
    model_of,
    read_model,
    recognise,
    save_model,
)
from convnext.nn.weights.places import split_part, weight_file
from convnext.run.folder import open_run, write_output
from convnext.run.load import weights_of
from convnext.run.other_codes import check_beside, files_of_transformers, how_to_load, refuse_unloadable

_FOUND_BY_TRANSFORMERS = ("model.safetensors", "pytorch_model.bin")
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
        source: a weight file, a run folder, or a folder that transformers saved; "FILE#NAME" for one of several sets of
            weights in a file.
        target: the file to write: .safetensors, or .pth, .pt, .bin for a file of torch.
        format: a name of `FORMATS`.
        overwrite: replace a file that is there. For transformers that is config.json too, which is written beside the
            target, and preprocessor_config.json where a run says what it was shown.

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
    place, part = split_part(source)
    path = _file_of(place)
    said: list[str] = []
    state, config = read_model(path.with_name(f"{path.name}#{part}") if part else path, said.append)
    name = _name_of(config)
    if config and name.startswith(TIMM) and format == "timm":
        written = {key.removeprefix(OWN): tensor for key, tensor in state.items()}
        write_output(target, _packed(written, target, format))
        outputs = len(config.get("classes", ())) or int(config["model"].get("num_classes", 0))
        return Conversion(path, target, "convnext", format, name, len(written), outputs, _LOST)
    if name.startswith((TIMM, ROADMAP)):
        other = "; --to timm writes it for timm" if name.startswith(TIMM) else ", which no other code has"
        raise WeightsError(f"{path} is a {name}{other}. The formats are those of ConvNeXt")
    found, native = recognise(state, str(path))
    check_whole(native, str(path))
    try:
        written = from_native(native, format)
        refuse_unloadable(native, format)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    lost = _write(native, written, config, path, target, format, overwrite=overwrite)
    head = native.get("head.weight")
    classes = 0 if head is None else int(head.shape[0])
    notes = "".join(f" {line}." for line in said)
    return Conversion(
        path, target, found, format, model_of(native), len(written), classes, lost + how_to_load(native, format) + notes
    )


def _name_of(config: dict[str, Any] | None) -> str:
    """The network's name in a description, "" for bare weights."""
    model = (config or {}).get("model")
    return str(model.get("name", "")) if isinstance(model, dict) else ""


def _write(
    native: Mapping[str, Tensor], written: Mapping[str, Tensor], config: dict[str, Any] | None, path: Path,
    target: Path, format: str, *, overwrite: bool,
) -> str:  # fmt: skip
    """Writes the file, and what belongs beside it; returns what is to be said of that."""
    if config and format == "convnext" and target.suffix == ".safetensors":
        save_model(target.resolve(), written, config)
        return ""
    if format != "transformers":
        write_output(target, _packed(written, target, format))
        return _LOST if config else ""
    described = describe(config, str(path)) if config else None
    beside = check_beside(target, files_of_transformers(native, described), overwrite=overwrite)
    write_output(target, _packed(written, target, format))
    for place, content in beside.items():
        write_output(place, content)
    names = " and ".join(str(place) for place in beside)
    said = f" Beside it: {names}, for from_pretrained({str(target.parent)!r})"
    if target.name not in _FOUND_BY_TRANSFORMERS:
        said += f", once the weights are called {' or '.join(_FOUND_BY_TRANSFORMERS)}"
    if described and len(beside) == 1:
        said += "; what the pictures must be shown as, its image processor cannot do, so that stays behind"
    return f"{said}."


def _file_of(source: Path) -> Path:
    """The weight file of a run, of a folder that transformers saved, or the file itself."""
    if source.is_dir() and (source / "recipe.toml").exists():
        return weights_of(open_run(source))
    return weight_file(source)


def _packed(state: Mapping[str, Tensor], target: Path, format: str) -> bytes:
    """The bytes of the file; the authors' code and MMPretrain look for the weights under a key of their own."""
    plain = {key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in state.items()}
    if target.suffix == ".safetensors":
        return safetensors.torch.save(plain, {"format": "pt"})
    wrapper = {"official": "model", "mmpretrain": "state_dict"}.get(format)
    buffer = io.BytesIO()
    torch.save({wrapper: plain} if wrapper else plain, buffer)
    return buffer.getvalue()
