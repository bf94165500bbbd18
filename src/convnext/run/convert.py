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
from convnext.nn.weights import FORMATS, detect_format, from_native, model_of, read_model, save_model, to_native
from convnext.run.folder import open_run, write_bytes
from convnext.run.load import weights_of

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
        source: a weight file or a run folder.
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
    if target.exists() and not overwrite:
        raise UserError(f"{target} is there already; choose another name, or say --overwrite")
    path = weights_of(open_run(source)) if source.is_dir() else source
    state, config = read_model(path)
    found = detect_format(state)
    try:
        native = to_native(state, found)
        written = from_native(native, format)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    lost = ""
    if config and format == "convnext" and target.suffix == ".safetensors":
        save_model(target, written, config)
    else:
        lost = " Classes and preprocessing stay behind: such a file holds weights alone." if config else ""
        write_bytes(target, _packed(written, target, format))
    head = native.get("head.weight")
    classes = 0 if head is None else int(head.shape[0])
    return Conversion(path, target, found, format, model_of(native), len(written), classes, lost)


def _packed(state: Mapping[str, Tensor], target: Path, format: str) -> bytes:
    """The bytes of the file; the authors' code and MMPretrain look for the weights under a key of their own."""
    plain = {key: tensor.contiguous() for key, tensor in state.items()}
    if target.suffix == ".safetensors":
        return safetensors.torch.save({key: tensor.clone() for key, tensor in plain.items()}, {"format": "pt"})
    wrapper = {"official": "model", "mmpretrain": "state_dict"}.get(format)
    buffer = io.BytesIO()
    torch.save({wrapper: plain} if wrapper else plain, buffer)
    return buffer.getvalue()
