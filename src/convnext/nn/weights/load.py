"""Weights of any of the known formats into a model, with a report of what was and was not taken over.

Everything about weights can be imported from here; `files` reads and writes the files, `formats` knows the names of
other codes, `download` finds published weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from convnext.errors import WeightsError
from convnext.nn.convnext.backbone import ConvNeXt, resample_stem
from convnext.nn.network import Network
from convnext.nn.tables.variants import MODELS
from convnext.nn.weights.download import find_weights, resolve_weights
from convnext.nn.weights.files import read_header, read_model, read_state, refuse_odd, save_model
from convnext.nn.weights.formats import FORMATS, detect_format, from_native, to_native
from convnext.nn.weights.head_rows import Names, classes_of, follow

__all__ = [
    "FORMATS",
    "LoadReport",
    "Names",
    "detect_format",
    "from_native",
    "load_pretrained",
    "load_state",
    "read_header",
    "read_model",
    "read_state",
    "recognise",
    "resolve_weights",
    "save_model",
    "to_native",
]

Shape = tuple[int, ...]

_OPTIONAL = ("head.", "output_norms.")  # layers that may be missing in a file, or be too many


@dataclass(frozen=True)
class LoadReport:
    """What `load_state` did. `str()` is one paragraph for the user.

    Attributes:
        source: where the weights are from.
        format: a name of `FORMATS`.
        loaded: our names of the tensors that were taken over.
        missing: tensors of the model that the file does not have; they stay as initialised.
        unexpected: tensors of the file that the model has no place for.
        replaced: (name, shape found, shape wanted) of tensors that differ. A head stays as initialised, a stem was
            resampled to the wanted shape.
        head: what became of the rows of the head, "" where there is nothing to say.
    """

    source: str
    format: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    replaced: tuple[tuple[str, Shape, Shape], ...]
    head: str = ""

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded from {self.source} ({self.format} format)."]
        for name, found, wanted in self.replaced:
            if name == "head.weight":
                parts.append(f"The head was for {found[0]} classes; a new one for {wanted[0]} is initialised.")
            elif name == "stem.conv.weight":
                parts.append(f"The stem was resampled from {_times(found[1:])} to {_times(wanted[1:])}.")
        if self.head:
            parts.append(self.head)
        if self.missing:
            parts.append(f"Not in the file, so left as initialised: {', '.join(self.missing)}.")
        if self.unexpected:
            parts.append(f"In the file, but without a place in the model: {', '.join(self.unexpected)}.")
        return " ".join(parts)


def _times(shape: Shape) -> str:
    """(3, 4, 4) -> "3 channels x 4x4"."""
    return f"{shape[0]} channel{'s' if shape[0] > 1 else ''} of {shape[1]}x{shape[2]}"


def load_state(model: Network, state: Mapping[str, Tensor], *, source: str, names: Names | None = None) -> LoadReport:
    """Loads weights into a network: those of any known format into a ConvNeXt, its own ones into another network.

    Where the classes of both are known, the rows of the head follow their names, and a class that the file does not
    have gets a new row. Else a head of another size stays as initialised. A stem of another patch size or number of
    channels is resampled. All of that is said in the report. All or nothing: when something else differs, the model is
    left untouched.

    Args:
        model: is changed in place.
        state: names and tensors, as `read_state` gives them.
        source: what to call the weights in messages.
        names: the classes of the file and of the model.

    Raises:
        WeightsError: weights of another model, or an incomplete file.
    """
    if not isinstance(model, ConvNeXt):
        refuse_odd(state, source)
        state, head = _with_rows(model, state, source, names)
        return replace(_load_same(model, state, source), head=head)
    format, native = recognise(state, source)
    native, head = _with_rows(model, native, source, names)
    wanted = model.state_dict()
    fitting, replaced = _fit(native, wanted)
    found = {name for name, _, _ in replaced} | fitting.keys()
    missing = tuple(name for name in wanted if name not in found)
    unexpected = tuple(name for name in native if name not in wanted)
    misfits = {name for name in fitting if name in wanted and fitting[name].shape != wanted[name].shape}
    if misfits or any(not name.startswith(_OPTIONAL) for name in missing + unexpected):
        raise WeightsError(f"{source}: {_what_differs(native, wanted, missing, unexpected, misfits)}")
    loaded = {name: tensor for name, tensor in fitting.items() if name in wanted}
    model.load_state_dict(loaded, strict=False)
    return LoadReport(source, format, tuple(loaded), missing, unexpected, replaced, head)


def _with_rows(
    model: Network, state: Mapping[str, Tensor], source: str, names: Names | None
) -> tuple[dict[str, Tensor], str]:
    """The tensors with the head's rows in the order of the model's classes, and what is to be said of that."""
    out, layer = dict(state), model.classifier()
    place = next((name for name, module in model.named_modules() if module is layer), "")
    keys, new = [f"{place}.weight", f"{place}.bias"], list(layer.parameters())
    if names is None or len(new) != len(keys) or not all(key in out for key in keys):
        return out, ""
    if any(out[key].shape[1:] != tensor.shape[1:] for key, tensor in zip(keys, new, strict=True)):
        return out, ""  # of another network, which is refused for that
    rows, said = follow(names, [out[key] for key in keys], new, source)
    return out | dict(zip(keys, rows, strict=True)), said


def recognise(state: Mapping[str, Tensor], source: str) -> tuple[str, dict[str, Tensor]]:
    """The format of a ConvNeXt's weights, and the same under our names and in our shapes.

    Raises:
        WeightsError: they are no weights, or those of another network.
    """
    refuse_odd(state, source)
    try:
        format = detect_format(state)
        native = to_native(state, format)
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from None
    _check_head(native, source)
    return format, native


"""Numbers that weights may be; those of 4 and 8 bits mean nothing without their scales."""


def _check_head(native: Mapping[str, Tensor], source: str) -> None:
    """The head's weight and bias come together, for one number of classes."""
    weight, bias = native.get("head.weight"), native.get("head.bias")
    if (weight is None) != (bias is None):
        raise WeightsError(
            f"{source}: the head's {'weight' if weight is None else 'bias'} is missing; save it again, or leave the "
            "head out altogether"
        )
    if weight is not None and bias is not None and (weight.ndim != 2 or bias.shape != weight.shape[:1]):
        raise WeightsError(
            f"{source}: the head's weight {tuple(weight.shape)} and bias {tuple(bias.shape)} do not belong together"
        )


def check_whole(native: Mapping[str, Tensor], source: str) -> None:
    """Refuses a state that `recognise` gave if it is not all of one ConvNeXt, of whichever sizes.

    Raises:
        WeightsError: a tensor is missing, or has another shape than its neighbours ask for.
    """
    sizes, stem, head = sizes_of(native), native.get("stem.conv.weight"), native.get("head.weight")
    if stem is None or stem.ndim != 4 or not sizes.depths or 0 in sizes.dims:
        raise WeightsError(f"{source} is incomplete: it has no stem (stem.conv.weight) or no blocks; save it again")
    with torch.device("meta"):
        model = ConvNeXt(
            sizes.depths, sizes.dims, in_chans=stem.shape[1], num_classes=0 if head is None else head.shape[0],
            layer_scale=float(any(name.endswith(".gamma") for name in native)), stem_patch=stem.shape[-1],
            stem_norm="stem.norm.weight" in native, grn=sizes.grn,
            output_norms=any(name.startswith("output_norms.") for name in native),
        )  # fmt: skip
    wanted = model.state_dict()
    missing = tuple(name for name in wanted if name not in native)
    unexpected = tuple(name for name in native if name not in wanted)
    misfits = {name for name in wanted if name in native and native[name].shape != wanted[name].shape}
    if missing or unexpected or misfits:
        raise WeightsError(f"{source}: {_what_differs(native, wanted, missing, unexpected, misfits)}")


def _load_same(model: Network, state: Mapping[str, Tensor], source: str) -> LoadReport:
    """Loads the tensors that a network of the same kind saved; all names and shapes must agree."""
    wanted = model.state_dict()
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    misfits = sorted(k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape)
    if missing or unexpected or misfits:
        some = ", ".join([*missing, *unexpected, *misfits][:4])
        raise WeightsError(
            f"{source}: the weights of another network: {len(missing)} tensors are missing, {len(unexpected)} are not "
            f"part of the model, {len(misfits)} have another shape, such as {some}"
        )
    model.load_state_dict(dict(state))
    return LoadReport(source, "convnext", tuple(wanted), (), (), ())


def _fit(
    native: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[tuple[str, Shape, Shape], ...]]:
    """The tensors with the stem resampled and a head of another size left out, and the list of these replacements."""
    fitting, replaced = dict(native), []
    for name, tensor in native.items():
        if name not in wanted or tensor.shape == wanted[name].shape:
            continue
        found, shape = tuple(tensor.shape), tuple(wanted[name].shape)
        if name == "stem.conv.weight" and len(found) == 4 and found[0] == shape[0] and found[2] == found[3]:
            fitting[name] = _fit_stem(tensor, shape)
        elif name in ("head.weight", "head.bias") and found[1:] == shape[1:]:
            del fitting[name]
        else:
            continue
        replaced.append((name, found, shape))
    return fitting, tuple(replaced)


def _fit_stem(weight: Tensor, shape: Shape) -> Tensor:
    """A stem kernel for other input channels and another patch: (C, k, p, p) -> (C, n, q, q).

    Fewer channels: each gets the sum over the colours, shared equally (so one channel gets the sum). More channels: the
    colours are repeated in turn, each divided by how often it occurs. Either way a picture whose channels are all equal
    gives the response that it gave before.
    """
    k, n = weight.shape[1], shape[1]
    if n < k:
        weight = weight.sum(1, keepdim=True).expand(-1, n, -1, -1) / n
    elif n > k:
        turn = torch.arange(n) % k
        weight = weight[:, turn] / torch.bincount(turn)[turn].view(1, n, 1, 1)
    return resample_stem(weight, shape[-1])


def _what_differs(
    native: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    missing: tuple[str, ...],
    unexpected: tuple[str, ...],
    misfits: set[str],
) -> str:
    found_sizes, wanted_sizes = sizes_of(native), sizes_of(wanted)
    if found_sizes != wanted_sizes and found_sizes.depths:
        return (
            f"weights of another model. The file holds {_describe(*found_sizes)}; the model is "
            f"{_describe(*wanted_sizes)}. Choose that model, or other weights"
        )
    if all(name.endswith(".gamma") for name in missing + unexpected) and not misfits:
        have, lack = ("has no", "has") if missing else ("has", "has none")
        value = "0" if missing else "1e-6"
        return f"the file {have} layer scale (gamma) and the model {lack}; set model.layer_scale = {value}"
    lines = [f"{name} is missing" for name in missing]
    lines += [f"{name} is not part of the model" for name in unexpected]
    lines += [
        f"{name} is {tuple(native[name].shape)}, it must be {tuple(wanted[name].shape)}" for name in sorted(misfits)
    ]
    more = f", and {len(lines) - 5} more" if len(lines) > 5 else ""
    return f"the file is incomplete or of an altered model: {'; '.join(lines[:5])}{more}"


class Sizes(NamedTuple):
    depths: Shape
    dims: Shape
    grn: bool


def sizes_of(native: Mapping[str, Tensor]) -> Sizes:
    """Depths, dims and kind, guessed from our names and the shapes."""
    depths: dict[int, int] = {}
    dims: dict[int, int] = {}
    for name, tensor in native.items():
        match = re.fullmatch(r"stages\.(\d+)\.blocks\.(\d+)\.dwconv\.weight", name)
        if match:
            stage, block = int(match.group(1)), int(match.group(2))
            depths[stage] = max(depths.get(stage, 0), block + 1)
            dims[stage] = tensor.shape[0] if tensor.dim() else 0
    grn = any(".grn." in name for name in native)
    return Sizes(tuple(depths[s] for s in sorted(depths)), tuple(dims[s] for s in sorted(dims)), grn)


def _describe(depths: Shape, dims: Shape, grn: bool) -> str:
    name = name_of_sizes(depths, dims, grn)
    return f"{name + ', ' if name else ''}depths {depths}, dims {dims}{', with response normalisation' if grn else ''}"


def name_of_sizes(depths: Shape, dims: Shape, grn: bool) -> str:
    """The model of the table that has these sizes, or ""."""
    fitting = [s.name for s in MODELS.values() if (s.depths, s.dims, s.grn) == (depths, dims, grn)]
    return fitting[0] if fitting else ""


def model_of(state: Mapping[str, Tensor]) -> str:
    """The model of the table that a state in our names is of, or "" for one of other sizes."""
    return name_of_sizes(*sizes_of(state))


def load_pretrained(
    model: Network, model_name: str, weights: str, say: Callable[[str], None], classes: tuple[str, ...] = ()
) -> LoadReport | None:
    """Loads the weights that the user asked for.

    Args:
        model: is changed in place.
        model_name: its name in the table of models.
        weights: "none", "auto", a path, "timm:NAME", "official:NAME" or "torchvision:NAME"; see `find_weights`.
        say: is given a line before a download, one when "auto" finds nothing, and one when a file holds several sets of
            weights.
        classes: names of the model's outputs, in order, where they are known.

    Returns:
        None when the model stays as initialised: "none", or "auto" with nothing within reach.

    Raises:
        WeightsError: the weights cannot be had or do not fit.
    """
    found = find_weights(model_name, weights, say)
    if found is None:
        return None
    state, config = read_model(found.path, say)
    names = Names(classes_of(config, found.source), classes)
    return load_state(model, state, source=found.source, names=names)
