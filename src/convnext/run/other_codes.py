"""What another code must be told to load a converted file: the call, printed, and the files that transformers needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from convnext.errors import UserError, WeightsError
from convnext.nn.weights.description import Description
from convnext.nn.weights.download import TORCHVISION_FILES
from convnext.nn.weights.load import model_of, sizes_of

_NARROW = frozenset({40, 48, 64, 80})  # widths whose linear layers timm computes as convolutions
_RESAMPLE = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers


def refuse_unloadable(native: Mapping[str, Tensor], format: str) -> None:
    """Raises a WeightsError for weights that the other code has no network for, whatever it is told."""
    stem, gamma = native["stem.conv.weight"], any(key.endswith(".gamma") for key in native)
    if format == "timm" and stem.shape[-1] == 2:
        raise WeightsError(
            "the network has patches of 2 in its stem; there timm puts another downsampling behind the stem, so no "
            'call builds this network. Choose "transformers", "mmpretrain" or "convnext"'
        )
    if format == "torchvision" and (tuple(stem.shape[1:]) != (3, 4, 4) or not gamma):
        what = f"a stem of {stem.shape[1]} channels and patches of {stem.shape[-1]}" if gamma else "no layer scale"
        raise WeightsError(
            f"the network has {what}; torchvision has only stems of 3 channels and patches of 4, and layer scale. "
            "Choose timm or transformers"
        )


def how_to_load(native: Mapping[str, Tensor], format: str) -> str:
    """The sentence that says how the other code builds the network that the file is of; "" where it is known."""
    depths, dims, grn = sizes_of(native)
    model, stem, classes = model_of(native), native["stem.conv.weight"], _classes(native)
    channels, patch = stem.shape[1], stem.shape[-1]
    if format == "transformers":
        kind = "ConvNextV2" if grn else "ConvNext"
        return f" In transformers: {kind}Config({_in_python(_settings(native))})."
    if format == "timm":
        said: dict[str, Any] = {"num_classes": classes}
        bare = not grn and not any(key.endswith(".gamma") for key in native)
        if bare:  # create_model of timm drops ls_init_value=None, but V2 has no layer scale
            said["use_grn"] = False
        if bare or not model:
            grn = grn or bare
            model = "convnextv2_tiny" if grn else "convnext_tiny"
            said |= {"depths": depths, "dims": dims, "conv_mlp": dims[0] in _NARROW}
        said |= {"patch_size": patch} if patch != 4 else {}
        said |= {"in_chans": channels} if channels != 3 else {}
        return f' In timm: create_model("{model}", {_in_python(said)}).'
    if format == "torchvision":
        known = model in TORCHVISION_FILES
        return (
            f' In torchvision: get_model("{model}", num_classes={classes}).'
            if known
            else " torchvision has no such size."
        )
    if format == "official" and len(dims) > 1 and patch != 4:
        return f" The authors' code has patches of 4 in its stem: there, write kernel_size={patch}, stride={patch}."
    if format == "mmpretrain" and patch != 4:
        return f" In MMPretrain: ConvNeXt(stem_patch_size={patch}, ...)."
    return ""


def _classes(native: Mapping[str, Tensor]) -> int:
    head = native.get("head.weight")
    return 0 if head is None else int(head.shape[0])


def _in_python(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={'1e-6' if value == 1e-6 else repr(value)}" for key, value in settings.items())


def _settings(native: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a configuration of transformers must say, where its defaults are others."""
    depths, dims, grn = sizes_of(native)
    stem = native["stem.conv.weight"]
    said: dict[str, Any] = {"depths": list(depths), "hidden_sizes": list(dims), "num_labels": _classes(native)}
    said["layer_norm_eps"] = 1e-6
    said |= {"num_channels": stem.shape[1]} if stem.shape[1] != 3 else {}
    said |= {"patch_size": stem.shape[-1]} if stem.shape[-1] != 4 else {}
    if not grn and not any(key.endswith(".gamma") for key in native):
        said["layer_scale_init_value"] = 0.0
    return said


def files_of_transformers(native: Mapping[str, Tensor], described: Description | None) -> dict[str, dict[str, Any]]:
    """What must stand beside the weights for transformers' from_pretrained: file name to content.

    `config.json` builds the network and names the classes; `preprocessor_config.json` says what it must be shown, where
    its image processor can do that: crops below 384 pixels, squashes from there on, three channels.
    """
    settings = _settings(native)
    classes = settings.pop("num_labels")
    grn, norms = sizes_of(native).grn, any(key.startswith("output_norms.") for key in native)
    code = "ConvNextV2" if grn else "ConvNext"
    kind = "Backbone" if norms else "ForImageClassification" if classes else "Model"
    names = (described.classes if described else ()) or tuple(f"LABEL_{i}" for i in range(classes))
    config: dict[str, Any] = {
        "architectures": [code + kind], "model_type": code.lower(), "num_channels": 3, "patch_size": 4,
        **settings, "num_stages": len(settings["depths"]), "hidden_act": "gelu",
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }  # fmt: skip
    if norms:
        config["out_features"] = [f"stage{i + 1}" for i in range(len(settings["depths"]))]
    files = {"config.json": config}
    if described is None:
        return files
    seen = described.preprocessing
    config["image_size"] = seen.size
    if described.classes:
        config["problem_type"] = f"{'multi' if described.multi_label else 'single'}_label_classification"
    if seen.in_chans == 3 and seen.value_range is None and seen.fit == ("crop" if seen.size < 384 else "squash"):
        files["preprocessor_config.json"] = {
            "image_processor_type": "ConvNextImageProcessor", "do_resize": True, "size": {"shortest_edge": seen.size},
            "crop_pct": seen.crop_ratio, "resample": _RESAMPLE[seen.interpolation], "do_rescale": True,
            "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": list(seen.mean), "image_std": list(seen.std),
        }  # fmt: skip
    return files


def check_beside(target: Path, files: Mapping[str, dict[str, Any]], *, overwrite: bool) -> dict[Path, bytes]:
    """Place and bytes of each file beside the target.

    Raises:
        UserError: another one is there, and may not be replaced.
    """
    out = {}
    for name, content in files.items():
        place, text = target.with_name(name), (json.dumps(content, indent=2) + "\n").encode()
        there = place.exists() or place.is_symlink()
        if there and not overwrite and not (place.is_file() and place.read_bytes() == text):
            raise UserError(
                f"{place}, which transformers would read, is there already and says something else; write into a "
                f"folder of its own, as {target.parent / 'hf' / target.name}, or say --overwrite"
            )
        out[place] = text
    return out
