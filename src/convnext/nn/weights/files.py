"""Weight files: reading those of others, writing and reading our own.

- `read_state`: a weight file into names and tensors, never running code that the file may hold
- `save_model`: our model file: the tensors and everything needed to use them, written whole or not at all
- `read_header`, `read_model`: the same, back: without its tensors, and with them
- `refuse_odd`: what no weights can be

Wherever a file of others is given, `FILE#NAME` says which of its sets of weights is meant; see `checkpoints`.
"""

from __future__ import annotations

import argparse
import errno
import json
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from convnext.errors import WeightsError
from convnext.files import Part
from convnext.nn.weights.checkpoints import choose
from convnext.nn.weights.containers import check_zip, kind_of, read_index, refuse_more_than_memory
from convnext.nn.weights.places import split_part, tell, weight_file

Shape = tuple[int, ...]
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_state(path: Path, say: Callable[[str], None] = tell) -> dict[str, Tensor]:
    """The tensors of a weight file, on the CPU, without the wrappers that training codes put around them.

    What a file is, is told by its content: safetensors in one or several files (give their index, or the folder), or
    what `torch.save` writes of tensors; a file that wants to run code is refused.

    Args:
        path: the file; `FILE#NAME` for one of several sets of weights in it.
        say: is given a line where there are several, or something was left out.

    Raises:
        WeightsError: the file is missing, damaged, not a weight file, or holds more than tensors.
    """
    return read_model(path, say)[0]


def read_model(path: Path, say: Callable[[str], None] = tell) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Tensors and config of a model file; the config is None for weights that `save_model` did not write.

    Raises:
        WeightsError: as `read_state`, or the config is damaged.
    """
    file, part = _settled(path)
    kind = kind_of(file)
    found: object
    if kind == "safetensors":
        found, config = _read_safetensors(file), _config_of(_header(file)[1], file)
        if config is not None:
            if part:
                raise WeightsError(f'{file} is a model file with one set of weights; leave "#{part}" out')
            return _read_safetensors(file), config
    elif kind == "index":
        found = _read_sharded(file)
    else:
        found = _read_torch(file, kind)
    state, note = choose(found, part, str(file))
    _refuse_meta(state, file)
    if note:
        say(note)
    return state, None


def read_header(path: Path) -> tuple[dict[str, Shape], dict[str, Any] | None]:
    """Shape of every tensor, and the config, of a model file, without reading its tensors; the config is None, and
    there are no shapes, for any other weight file.

    Raises:
        WeightsError: as `read_model`.
    """
    file, _ = _settled(path)
    if kind_of(file) != "safetensors":
        return {}, None
    shapes, metadata = _header(file)
    config = _config_of(metadata, file)
    return (shapes if config is not None else {}), config


def _settled(path: Path) -> tuple[Path, str]:
    """The file itself, and the part of it that is meant."""
    place, part = split_part(Path(path))
    return weight_file(place), part


def _header(path: Path) -> tuple[dict[str, Shape], dict[str, str]]:
    """Shapes and metadata of a safetensors file; the library checks that they fit the file's size."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            return shapes, dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _read_safetensors(path: Path, only: set[str] | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file, all or those in `only`."""
    refuse_more_than_memory(path, path.stat().st_size)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys() if only is None or key in only}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"{path} is damaged or not a safetensors file ({_first_line(error)}). Download or save it again"
    )


def _config_of(metadata: Mapping[str, str], path: Path) -> dict[str, Any] | None:
    """What `save_model` wrote beside the tensors, None in a file of others."""
    if metadata.get("format") != "convnext" or "config" not in metadata:
        return None
    try:
        config = json.loads(metadata["config"])
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: the config in its header is not JSON ({error}). Save the model again") from None
    if not isinstance(config, dict):
        raise WeightsError(f"{path}: the config in its header is a {type(config).__name__}, it must be a table")
    return config


def _read_sharded(path: Path) -> dict[str, Tensor]:
    """The tensors of several files, as an index says where each is."""
    places = read_index(path)
    files = sorted(set(places.values()))
    refuse_more_than_memory(path, sum(file.stat().st_size for file in files))
    state: dict[str, Tensor] = {}
    for file in files:
        wanted = {key for key, place in places.items() if place == file}
        if (kind := kind_of(file)) == "safetensors":
            found = _read_safetensors(file, wanted)
        elif kind == "index":
            raise WeightsError(f"{path} names {file.name}, which is an index itself; it must name weight files")
        else:
            table = _read_torch(file, kind)
            tables = table if isinstance(table, Mapping) else {}
            found = {key: tables[key] for key in wanted if isinstance(tables.get(key), Tensor)}
        if lost := sorted(wanted - found.keys()):
            raise WeightsError(f"{file} lacks {lost[0]}, which {path.name} says is in it; download all files again")
        state |= found
    return state


def _read_torch(path: Path, kind: str) -> object:
    """What a torch file holds, if that is only tensors, plain containers and the options of an argparse command."""
    if kind == "zip":
        check_zip(path)
    else:
        refuse_more_than_memory(path, path.stat().st_size)
    try:
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals([argparse.Namespace]),
            path.open("rb") as file,  # of a path torch looks at the suffix
        ):
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _not_only_tensors(path, str(error)) from error
    except Exception as error:  # torch raises anything from EOFError to KeyError on a damaged file
        raise WeightsError(f"{path} is damaged or cut off ({_first_line(error)}). Download or save it again") from error


def _not_only_tensors(path: Path, said: str) -> WeightsError:
    """Why torch did not unpickle a file, in our words."""
    wanted = re.search(r"GLOBAL ([\w.]+)|(?:function|class|instance of|but got) <?(?:class )?'?([\w.]+)", said)
    if wanted is not None:
        return WeightsError(
            f"{path} holds a Python object ({wanted.group(1) or wanted.group(2)}), which could run code when it is "
            "read; only files of tensors are read. Where the file can be trusted, load it with the program that wrote "
            "it, and save model.state_dict() instead of the model"
        )
    if "operand" in said.lower():
        return WeightsError(
            f"{path} holds Python objects in a form that torch.save does not write by itself; they could run code "
            "when they are read. Where it can be trusted, save the weights again with torch.save and no pickle_protocol"
        )
    return WeightsError(f"{path} is damaged or not a torch file. Download or save it again")


def _refuse_meta(state: Mapping[str, Tensor], path: Path) -> None:
    """Shapes without values, and a few bytes that are repeated to any size, are no weights."""
    if any(tensor.is_meta for tensor in state.values()):
        raise WeightsError(
            f"{path} holds the shapes of weights, on the meta device, and no values; save them from a model"
        )
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            continue  # refused by name where weights are judged
        held, said = tensor.untyped_storage().nbytes(), tensor.numel() * tensor.element_size()
        if said > held:
            raise WeightsError(
                f"{path}: {name} says that it has {said} bytes and holds {held}; save the weights as ordinary tensors"
            )


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
        content = _with_sorted_metadata(safetensors.torch.save(tensors, metadata))
        with Part(path) as part:
            for piece in content:
                part.file.write(piece)
    except (OSError, safetensors.SafetensorError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise WeightsError(
                f"{path} could not be written: the disk is full. Free some space; what was saved before is intact"
            ) from error
        raise WeightsError(f"{path} cannot be written: {_first_line(error)}") from error


def _with_sorted_metadata(content: bytes) -> tuple[bytes, memoryview]:
    """A safetensors file in two pieces, the metadata in its header sorted: the library shuffles them, and equal models
    should be equal files.
    """
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    if len(text) > size:
        text = content[8 : 8 + size]
    return content[:8] + text.ljust(size), memoryview(content)[8 + size :]


def refuse_odd(state: Mapping[str, Tensor], source: str) -> None:
    """Tensors that are no plain finite numbers are no weights.

    Raises:
        WeightsError: there is such a tensor; the message names it.
    """
    for name, tensor in state.items():
        plain = tensor.layout == torch.strided and not (tensor.is_quantized or tensor.is_complex())
        plain = plain and (not tensor.is_floating_point() or tensor.dtype in _FLOATS)
        if not plain or tensor.numel() == 0:
            raise WeightsError(
                f"{source}: {name} is not a plain tensor of numbers; save the weights as ordinary tensors"
            )
        if not tensor.is_floating_point() and name.endswith((".weight", ".bias", ".gamma")):
            raise WeightsError(f"{source}: {name} holds {tensor.dtype}; weights must be floating-point numbers")
        if tensor.is_floating_point() and not tensor.is_meta and not tensor.isfinite().all():
            raise WeightsError(
                f"{source}: {name} holds values that are not finite; training went wrong or it is damaged"
            )
