"""Weight files: reading those of others, writing and reading our own.

- `read_state`: a .safetensors or .pth file into names and tensors, never running code that the file may hold
- `save_model`: our model file: the tensors and everything needed to use them, written whole or not at all
- `read_model`: the same, back
"""

from __future__ import annotations

import argparse
import errno
import json
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from convnext.errors import WeightsError
from convnext.files import Part

_TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
_WRAPPERS = ("model", "state_dict", "model_ema", "state_dict_ema")  # keys under which training codes keep the weights
_PREFIXES = ("module.", "_orig_mod.")  # left by DistributedDataParallel and torch.compile


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file, on the CPU, without the wrappers that training codes put around them.

    Reads .safetensors, and .pth, .pt, .bin and .ckpt files of tensors; a file that wants to run code is refused.

    Raises:
        WeightsError: the file is missing, damaged, not a weight file, or holds more than tensors.
    """
    path = Path(path)
    _check_file(path)
    if path.suffix == ".safetensors":
        return _without_prefixes(_read_safetensors(path)[0])
    return _without_prefixes(_unwrap(_read_torch(path), path))


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without what DistributedDataParallel, torch.compile or both put in front of all of them."""
    while state and (prefix := next((p for p in _PREFIXES if all(key.startswith(p) for key in state)), "")):
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def _check_file(path: Path) -> None:
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.suffix in (".safetensors", *_TORCH_SUFFIXES))
        example = f", such as {path / inside[0]}" if inside else "; there is none in it"
        raise WeightsError(f"{path} is a folder; give the weight file itself{example}")
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file")
    if path.suffix not in (".safetensors", *_TORCH_SUFFIXES):
        known = ", ".join((".safetensors", *_TORCH_SUFFIXES))
        raise WeightsError(f'{path}: weight files of suffix "{path.suffix}" are not known; known are {known}')
    try:
        with path.open("rb") as file:
            head = file.read(200)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    if not head:
        raise WeightsError(f"{path} is empty (0 bytes); download or save it again")
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError(
            f"{path} is a web page, not a weight file; the download got an error page. Download it again"
        )
    if text.startswith(b"version https://git-lfs"):
        raise WeightsError(f'{path} is a Git LFS pointer, not the weights; run "git lfs pull" where it comes from')


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is damaged or not a safetensors file ({_first_line(error)}). Download or save it again"
        ) from error


def _read_torch(path: Path) -> object:
    """What a torch file holds, if that is only tensors, plain containers and the options of an argparse command."""
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted is None:
            raise WeightsError(f"{path} is damaged or not a torch file. Download or save it again") from error
        raise WeightsError(
            f"{path} holds a Python object ({wanted.group(1)}), which could run code when it is read; only files of "
            f"tensors are read. Save model.state_dict() instead of the model"
        ) from error
    except Exception as error:  # torch raises anything from EOFError to KeyError on a damaged file
        raise WeightsError(f"{path} is damaged or cut off ({_first_line(error)}). Download or save it again") from error


def _unwrap(found: object, path: Path) -> dict[str, Tensor]:
    """The table of tensors in what a torch file holds."""
    for _ in range(2):
        if isinstance(found, Mapping):
            found = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), Mapping)), found)
    if not isinstance(found, Mapping):
        raise WeightsError(f"{path} holds a {type(found).__name__}, not a table of tensors. Save model.state_dict()")
    state = {str(key): tensor for key, tensor in found.items() if isinstance(tensor, Tensor)}
    if any(tensor.is_meta for tensor in state.values()):
        raise WeightsError(
            f"{path} holds the shapes of weights, on the meta device, and no values; save them from a model"
        )
    if not state or len(state) < len(found):
        others = [str(key) for key in found if str(key) not in state]
        raise WeightsError(
            f"{path} is not a table of tensors; it holds {', '.join(others[:4]) or 'nothing'}. "
            f"The weights are looked for at the top and under {', '.join(_WRAPPERS)}"
        )
    return state


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:160]


def save_model(path: Path, state: Mapping[str, Tensor], config: dict[str, Any]) -> None:
    """Writes a model file: the tensors, and `config` as JSON in its header. Whole or not at all: the old file stays
    until the new one is on the disk.

    Raises:
        WeightsError: the file cannot be written.
    """
    path = Path(path)
    plain = torch.contiguous_format  # copies, because safetensors refuses tensors that share memory
    tensors = {key: tensor.detach().to("cpu", copy=True, memory_format=plain) for key, tensor in state.items()}
    metadata = {"format": "convnext", "config": json.dumps(config)}
    try:
        with Part(path) as part:
            part.file.write(_with_sorted_metadata(safetensors.torch.save(tensors, metadata)))
    except (OSError, safetensors.SafetensorError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise WeightsError(
                f"{path} could not be written: the disk is full. Free some space; what was saved before is intact"
            ) from error
        raise WeightsError(f"{path} cannot be written: {_first_line(error)}") from error


def _with_sorted_metadata(content: bytes) -> bytes:
    """A safetensors file with sorted metadata in its header, so that equal models are equal files: the library shuffles
    them.
    """
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return content[:8] + text.ljust(size) + content[8 + size :] if len(text) <= size else content


def read_model(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Tensors and config of a model file; the config is None for weights that `save_model` did not write.

    Raises:
        WeightsError: as `read_state`, or the config is damaged.
    """
    path = Path(path)
    _check_file(path)
    if path.suffix != ".safetensors":
        return read_state(path), None
    state, metadata = _read_safetensors(path)
    if metadata.get("format") != "convnext" or "config" not in metadata:
        return _without_prefixes(state), None
    try:
        config = json.loads(metadata["config"])
    except ValueError as error:
        raise WeightsError(f"{path}: the config in its header is not JSON ({error}). Save the model again") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path}: the config in its header is a {type(config).__name__}, it must be a table")
    return state, config
