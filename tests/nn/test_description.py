"""What a model file says of itself is checked, whole, before anything is built, allocated or computed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import convnext
from convnext.errors import UserError, WeightsError
from convnext.nn.create import create_model
from convnext.nn.spec import NetworkSpec
from convnext.nn.weights.description import describe
from convnext.nn.weights.files import save_model

INF, NAN = float("inf"), float("nan")
GOOD: dict[str, Any] = {
    "model": {
        "name": "convnext_atto", "num_classes": 3, "in_chans": 3, "stem_patch": 4, "layer_scale": 1e-6, "size": 64
    },
    "classes": ["cat", "dog", "elk"], "multi_label": False,
    "preprocessing": {
        "size": 64, "crop_ratio": 0.875, "interpolation": "bicubic", "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225], "in_chans": 3,
    },
    "source": "ema", "epoch": 3,
}  # fmt: skip

ODD = (None, True, "", "x", -1, 0, 10**12, 10**400, 0.5, NAN, INF, -INF, [], {}, [[]], [NAN], "\ud800", "a" * 10**6)
"""What no field but a few may be; those few are in `ALLOWED`."""
ALLOWED = {
    ("model", "layer_scale"): (0, 0.5), ("model", "size"): (None,), ("preprocessing", "crop_ratio"): (0.5,),
    ("multi_label",): (True,), ("source",): ("x", "\ud800"), ("epoch",): (0,), ("model", "name"): ("x", "\ud800"),
}  # fmt: skip
PLACES = [("model", key) for key in GOOD["model"]] + [("preprocessing", key) for key in GOOD["preprocessing"]]
PLACES += [(key,) for key in GOOD]


def changed(place: tuple[str, ...], value: Any) -> dict[str, Any]:
    config = copy.deepcopy(GOOD)
    table = config
    for key in place[:-1]:
        table = table[key]
    table[place[-1]] = value
    return config


def same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and value == other


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_no_field_is_believed(place: tuple[str, ...]) -> None:
    """Each field takes none of eighteen odd values, but for those that it may have; the message names the field."""
    for value in ODD:
        if any(same(value, allowed) for allowed in ALLOWED.get(place, ())):
            describe(changed(place, value), "m.safetensors")
            continue
        with pytest.raises(WeightsError, match=place[-1]) as caught:
            describe(changed(place, value), "m.safetensors")
        assert str(caught.value).startswith("m.safetensors: its description ")
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_a_field_that_is_missing_is_refused_or_means_what_it_meant(place: tuple[str, ...]) -> None:
    """Files of older versions lack the size of the training pictures, or the epoch; nothing else may be missing."""
    config = copy.deepcopy(GOOD)
    table = config[place[0]] if len(place) == 2 else config
    del table[place[-1]]
    if place in (("model", "size"), ("source",), ("epoch",)):
        meant = describe(config, "m").config
        assert (meant["model"]["size"], meant["source"], meant["epoch"]) in (
            (None, "ema", 3),
            (64, "model", 3),
            (64, "ema", 0),
        )
    else:
        with pytest.raises(WeightsError, match=f"lacks {'.'.join(place)}"):
            describe(config, "m")


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("preprocessing", "std"), [0.2, 0.0, 0.2], "finite number from 1e-06"),
        (("preprocessing", "std"), [0.2, -0.1, 0.2], "finite number from 1e-06"),
        (("preprocessing", "mean"), [NAN, 0.4, 0.4], "finite number"),
        (("preprocessing", "mean"), [1e300, 0.4, 0.4], "finite number"),
        (("preprocessing", "mean"), [0.4], "1 values of preprocessing.mean for 3 channels"),
        (("preprocessing", "std"), [0.4] * 4, "4 values of preprocessing.std for 3 channels"),
        (("preprocessing", "in_chans"), 1, "shows 1 channels to a network of 3"),
        (("preprocessing", "interpolation"), "nearest", "one of bicubic, bilinear"),
        (("preprocessing", "size"), 4097, "whole number from 1 to 4096"),
        (("preprocessing", "value_range"), [5, 5], "the smaller one first"),
        (("preprocessing", "fit"), "stretch", "one of crop, squash, pad"),
        (("preprocessing", "blur"), 2, "has a field that is not known here: preprocessing.'blur'"),
        (("model", "num_classes"), 10**7, "whole number from 1 to 1000000"),
        (("model", "num_classes"), 4, "says 4 outputs and names 3 classes"),
        (("model", "stem_patch"), 3, "one of 1, 2, 4, 8, 16"),
        (("classes",), ["a", "b", "a"], 'names the class "a" twice'),
        (("classes",), ["a", "b", ""], "1 to 10000 characters"),
        (("classes",), ["a", "b", 3], "must be a list of names"),
        (("classes",), "cat", "must be a list of"),
        (("thresholds",), [0.5, 0.5], "2 thresholds for 3 classes"),
        (("thresholds",), [0.5, 0.5, NAN], "finite number from 0 to 1"),
        (("thresholds",), [0.5, 0.5, 1.5], "finite number from 0 to 1"),
        (("more",), 1, "not known here"),
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused(place: tuple[str, ...], value: Any, words: str) -> None:
    """The value found, the rule, and what to make of it."""
    with pytest.raises(WeightsError, match="m: its description") as caught:
        describe(changed(place, value), "m")
    assert words in str(caught.value)


def test_a_good_description_is_taken_as_it_is() -> None:
    """What was written comes back, and older files' gaps are filled."""
    found = describe(json.loads(json.dumps(GOOD)), "m")
    assert found.classes == ("cat", "dog", "elk")
    assert found.preprocessing.mean == (0.485, 0.456, 0.406)
    assert found.preprocessing.value_range is None
    assert found.config["model"] == GOOD["model"]
    assert (found.config["epoch"], found.config["source"], found.multi_label) == (3, "ema", False)
    assert describe(changed(("preprocessing", "value_range"), [0, 4095]), "m").preprocessing.value_range == (
        0.0,
        4095.0,
    )


def written(path: Path, config: object, edit: Callable[[dict[str, torch.Tensor]], object] = lambda _: None) -> Path:
    """A model file of ConvNeXt-Atto with any description."""
    torch.manual_seed(0)
    state = dict(create_model("convnext_atto", num_classes=3).state_dict())
    edit(state)
    text = config if isinstance(config, str) else json.dumps(config)
    safetensors.torch.save_file(state, path, {"format": "convnext", "config": text})
    return path


def test_a_description_is_compared_with_the_tensors_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million outputs, a larger network, another stem: refused by the shapes alone."""
    many = changed(("model", "num_classes"), 1_000_000)
    many["classes"] = [str(i) for i in range(1_000_000)]
    cases = [
        (many, r"head.bias is \(3,\), not \(1000000,\)"),
        (changed(("model", "name"), "convnextv2_huge"), "does not fit its own description"),
        (changed(("model", "stem_patch"), 2), r"stem.conv.weight is \(40, 3, 4, 4\), not \(40, 3, 2, 2\)"),
        (changed(("model", "stem_patch"), 16), r"asks for a network that cannot be: stem_patch is 16"),
        (changed(("model", "name"), "x"), "asks for a network that cannot be"),
        (changed(("model", "layer_scale"), 0), "12 are not part of the network"),
    ]
    real = NetworkSpec.build

    def refuse(spec: NetworkSpec) -> Any:
        model = real(spec)
        assert next(model.parameters()).is_meta, "memory was taken"
        return model

    for config, words in cases:
        file = written(tmp_path / "m.safetensors", config)
        with monkeypatch.context() as patch:
            patch.setattr(NetworkSpec, "build", refuse)
            with pytest.raises(WeightsError, match=words):
                convnext.load(file)
    config = changed(("model", "num_classes"), 4) | {"classes": list("abcd")}
    config["model"]["name"] = "timm:resnet50"
    written(tmp_path / "m.safetensors", config)
    monkeypatch.setattr(NetworkSpec, "build", lambda _: pytest.fail("timm's network was built"))
    with pytest.raises(WeightsError, match="no tensor is for 4 classes"):
        convnext.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    """One number among millions is enough."""

    def edit(state: dict[str, torch.Tensor]) -> None:
        state["stages.2.blocks.1.pwconv1.bias"][7] = value

    with pytest.raises(WeightsError, match=r"stages.2.blocks.1.pwconv1.bias holds values that are not finite"):
        convnext.load(written(tmp_path / "m.safetensors", GOOD, edit))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{", "[]", "3", "null", '{"a": ' * 20_000, "NaN", "1" * 5000, '"x"', "{}"]
)
def test_headers_that_are_no_tables_are_refused(text: str, tmp_path: Path) -> None:
    """Nested without end, cut off, of another kind: an error of ours each time."""
    with pytest.raises(WeightsError, match=r"m.safetensors"):
        convnext.load(written(tmp_path / "m.safetensors", text))


def test_one_good_file_loads(tmp_path: Path) -> None:
    """The same file with its own description gives a network that answers."""
    save_model(tmp_path / "m.safetensors", create_model("convnext_atto", num_classes=3).state_dict(), GOOD)
    model = convnext.load(tmp_path / "m.safetensors")
    assert model.classes == ("cat", "dog", "elk")
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64)).isfinite().all()
    assert issubclass(WeightsError, UserError)
