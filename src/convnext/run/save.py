"""A network that was trained in one's own loop as a model file, which every command takes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from convnext.data.feed.preprocessing import Preprocessing
from convnext.errors import UserError
from convnext.nn.convnext.backbone import ConvNeXt
from convnext.nn.network import Network
from convnext.nn.others.baselines import Baseline
from convnext.nn.spec import NetworkSpec
from convnext.nn.tables.baseline_specs import TIMM
from convnext.nn.weights.description import fault_of
from convnext.nn.weights.files import refuse_odd, save_model
from convnext.nn.weights.load import model_of


def save(
    network: nn.Module,
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    multi_label: bool | None = None,
) -> Path:
    """Writes a network of ours as a model file, with all that is needed to use it; returns the file's path.

    `convnext predict FILE`, `evaluate FILE DATA`, `convert FILE`, `train weights=FILE` and `convnext.load(FILE)` take
    it as they take those of a run.

    Args:
        network: as `create_model` or `load` gives it; on any device.
        path: the file, ending in .safetensors; one that is there is replaced.
        classes: names in the order of the outputs; None for those that the network knows.
        preprocessing: what it must be shown; None for its own.
        multi_label: whether a picture may have several of the classes, so that each has a probability of its own; None
            for what the network knows, else False.

    Raises:
        UserError: the network is none of ours, or the classes or the preprocessing do not fit it.
        WeightsError: the weights are not finite, or the file cannot be written.

    Examples:
        >>> import convnext
        >>> network = convnext.create_model("convnext_atto", num_classes=2)
        >>> file = convnext.save(
        ...     network, "mine.safetensors", classes=["cat", "dog"], preprocessing=convnext.Preprocessing(size=64)
        ... )
        >>> convnext.load(file).classes
        ('cat', 'dog')
    """
    network = getattr(network, "network", network)
    if not isinstance(network, Network):
        raise UserError(
            f"a {type(network).__name__} is no network of ours, so nobody could build it from the file again; make it "
            "by convnext.create_model(...) (a wrapped one is inside: .module of DDP, ._orig_mod of torch.compile)"
        )
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: a model file ends in .safetensors; call it {path.with_suffix('.safetensors').name}")
    seen = preprocessing or network.preprocessing
    if seen is None:
        raise UserError(
            "the network knows no preprocessing; say what it was trained on, as preprocessing=convnext.Preprocessing("
            "size=224): square pictures of that side, ImageNet's mean and deviation"
        )
    if seen.in_chans != network.in_chans:
        raise UserError(
            f"the network takes {network.in_chans} channels, the preprocessing gives {seen.in_chans}; set its in_chans"
        )
    meaning = dict(network.meaning) if classes is None else {}
    names = () if meaning else _checked(network.classes if classes is None else classes, network)
    state = network.state_dict()
    refuse_odd(state, "the network")
    several = network.multi_label if multi_label is None else multi_label
    if not meaning:
        meaning = {"classes": list(names), "multi_label": bool(several)}
        meaning |= {"thresholds": list(network.thresholds)} if several and network.thresholds else {}
    config = {
        "model": describe(network, seen.size), **meaning, "preprocessing": seen.to_json(), "epoch": 0,
        "source": "model",
    }  # fmt: skip
    if fault := fault_of(config, {key: tuple(tensor.shape) for key, tensor in state.items()}):
        raise UserError(
            f"the network could not be built from the file again, so it is not written: {fault}. Where a part was "
            "replaced by another one, make it by create_model(...) or reset_classifier(N), and load the weights into it"
        )
    save_model(path, state, config)
    return path


def describe(network: Network, size: int) -> dict[str, Any]:
    """How to build a network again, as it stands in a model file.

    Raises:
        UserError: it is not one that a name stands for.
    """
    name, stem_patch, layer_scale = network.name, 4, 0.0
    if isinstance(network, ConvNeXt):
        state = network.state_dict()
        name = name or model_of(state)
        stem_patch = network.stem_patch
        layer_scale = 1e-6 if any(key.endswith(".gamma") for key in state) else 0.0
        if network.output_norms is not None:
            raise UserError("a network with output_norms is part of a larger one; save that one's state_dict instead")
    elif isinstance(network, Baseline):
        size = network.fixed_size or size
    if not name or network.num_classes < 1:
        what = "has no head" if name else "has sizes of its own"
        raise UserError(
            f"the network {what}; a model file is of a model that `convnext models` lists, of a roadmap step, or "
            f"of one of timm's ({TIMM}NAME), with a head for its classes"
        )
    return NetworkSpec(
        name, int(network.num_classes), int(network.in_chans), int(stem_patch), layer_scale, size=size
    ).kept()


def _checked(classes: Sequence[str], network: Network) -> tuple[str, ...]:
    if not isinstance(classes, str):
        with contextlib.suppress(TypeError):
            classes = [str(name) if isinstance(name, str) else name for name in classes]
    if not isinstance(classes, list) or not all(isinstance(name, str) and name for name in classes):
        raise UserError(f"classes is {classes!r}; it must be a list of names")
    if len(classes) != network.num_classes or len(set(classes)) < len(classes):
        raise UserError(
            f"the network has {network.num_classes} outputs, classes names {len(set(classes))} different ones; give "
            "one name for each output, in their order"
        )
    return tuple(classes)
