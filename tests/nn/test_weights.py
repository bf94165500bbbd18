"""Weight files: round trips between codes, loading into other heads and stems, and everything that is refused."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from safetensors import safe_open
from torch import Tensor, nn

from convnext.errors import WeightsError
from convnext.nn.convnext.backbone import ConvNeXt
from convnext.nn.create import create_model
from convnext.nn.tables.variants import MODELS
from convnext.nn.weights.load import (
    FORMATS,
    detect_format,
    from_native,
    load_pretrained,
    load_state,
    read_model,
    read_state,
    save_model,
    to_native,
)

Randomise = Callable[..., None]
State = dict[str, Tensor]

IN_TIMM = [name for name in MODELS if timm.is_model(name)]
IN_TORCHVISION = [name for name in MODELS if name in torchvision.models.list_models()]
DEPTHS, DIMS = (1, 1, 2, 1), (8, 16, 24, 32)
CONFIG = {
    "model": {"name": "convnext_tiny", "num_classes": 5, "in_chans": 3, "stem_patch": 4, "layer_scale": 1e-6},
    "classes": ["daisy", "dandelion", "rose", "sunflower", "tulipán"],
    "multi_label": False,
    "preprocessing": {"size": 224, "crop_ratio": 0.875, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "source": "ema",
    "epoch": 3,
}


def micro(**options: object) -> ConvNeXt:
    return ConvNeXt(DEPTHS, DIMS, **{"num_classes": 5, **options})


@pytest.fixture
def state(randomise: Randomise) -> State:
    """The state of a micro net with realistic values."""
    model = micro()
    randomise(model)
    return model.state_dict()


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def on_meta(name: str, **options: object) -> ConvNeXt:
    with torch.device("meta"):
        return create_model(name, **options)


def zeros(name: str) -> State:
    """A state of a model of the table, all zeros."""
    return {key: torch.zeros(tensor.shape) for key, tensor in on_meta(name).state_dict().items()}


# --- formats


@pytest.mark.parametrize(
    ("code", "name"), [("timm", name) for name in IN_TIMM] + [("torchvision", name) for name in IN_TORCHVISION]
)
def test_names_and_shapes_are_those_of_the_peer(
    code: str, name: str, peer_on_meta: Callable[[str, str], nn.Module]
) -> None:
    """For every model, our state under a peer's names has exactly the peer's names and shapes, and back gives ours."""
    ours, peer = on_meta(name).state_dict(), peer_on_meta(code, name)
    expected = {key: tuple(tensor.shape) for key, tensor in peer.state_dict().items()}
    assert {key: tuple(tensor.shape) for key, tensor in from_native(ours, code).items()} == expected
    assert detect_format(expected) == code
    back = to_native(peer.state_dict(), code)
    assert {key: tensor.shape for key, tensor in back.items()} == {key: tensor.shape for key, tensor in ours.items()}


def test_official_names_are_those_of_the_released_files() -> None:
    """Names and shapes of `convnext_tiny_1k_224_ema.pth`, as its authors' code spells them."""
    official = from_native(on_meta("convnext_tiny").state_dict(), "official")
    expected = {
        "downsample_layers.0.0.weight": (96, 3, 4, 4),
        "downsample_layers.0.1.bias": (96,),
        "downsample_layers.3.0.weight": (384,),
        "downsample_layers.3.1.weight": (768, 384, 2, 2),
        "stages.2.8.dwconv.weight": (384, 1, 7, 7),
        "stages.2.8.norm.weight": (384,),
        "stages.2.8.pwconv1.weight": (1536, 384),
        "stages.2.8.pwconv2.bias": (384,),
        "stages.2.8.gamma": (384,),
        "norm.weight": (768,),
        "head.weight": (1000, 768),
    }
    assert {key: tuple(official[key].shape) for key in expected} == expected
    assert len(official) == 182
    assert detect_format(official) == "official"


def test_official_names_are_read_by_timms_converter(state: State, randomise: Randomise) -> None:
    """timm's own reader of official files reads ours, and gives what our timm format gives."""
    from timm.models.convnext import checkpoint_filter_fn

    model = timm.create_model("convnext_tiny", depths=DEPTHS, dims=DIMS, num_classes=5)
    converted = checkpoint_filter_fn({"model": from_native(state, "official")}, model)
    assert equal(dict(sorted(converted.items())), dict(sorted(from_native(state, "timm").items())))


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_round_trips(format: str, state: State) -> None:
    """There and back gives the same tensors to the bit, and the format is recognised by its names."""
    theirs = from_native(state, format)
    assert detect_format(theirs) == format
    assert equal(to_native(theirs, format), state)


def test_output_norms_only_go_where_they_have_a_name() -> None:
    """The official format has names for output norms; timm and torchvision have none, and that is said."""
    state = micro(output_norms=True).state_dict()
    assert "norm3.weight" in from_native(state, "official")
    assert equal(to_native(from_native(state, "official"), "official"), state)
    for format in ("timm", "torchvision"):
        with pytest.raises(WeightsError, match=f'"output_norms.0.weight" has no place in the {format} format'):
            from_native(state, format)


def test_unknown_formats_are_refused(state: State) -> None:
    """The error gives the format asked for and those that there are."""
    for convert in (from_native, to_native):
        with pytest.raises(WeightsError, match='"keras" is not known; it must be one of convnext, official'):
            convert(state, "keras")


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "swin_t", "vit_b_16"])
def test_other_networks_are_no_format(name: str) -> None:
    """The names of other networks fit no format; the error shows some of them."""
    with torch.device("meta"):
        keys = list(torchvision.models.get_model(name, weights=None).state_dict())
    with pytest.raises(WeightsError, match=f"not the weights of a ConvNeXt.*{keys[0]}"):
        detect_format(keys)
    with pytest.raises(WeightsError, match="none at all"):
        detect_format([])


@pytest.mark.parametrize("name", ["convnext_tiny_hnf", "convnext_atto_ols", "convnext_large_mlp"])
def test_relatives_are_refused(name: str) -> None:
    """Nets that differ from ConvNeXt by a few layers are not loaded as if they were one; what is strange is named."""
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    with pytest.raises(WeightsError, match="another network"):
        load_state(on_meta("convnext_atto"), state, source="file.pth")


def test_v2_weights_are_not_loaded_as_v1() -> None:
    """Both have the same layers but for the response normalisation; the error names both models."""
    with torch.device("meta"):
        state = timm.create_model("convnextv2_atto").state_dict()
    with pytest.raises(WeightsError, match=r"holds convnextv2_atto, .*response norm.*; the model is convnext_atto, "):
        load_state(on_meta("convnext_atto"), state, source="file.pth")


# --- loading


@pytest.mark.parametrize("format", FORMATS)
def test_a_state_of_any_format_loads(format: str, state: State) -> None:
    """All tensors arrive, and the report says from where and in which format."""
    model = micro()
    report = load_state(model, from_native(state, format), source="some file")
    assert equal(model.state_dict(), state)
    assert (report.source, report.format, len(report.loaded)) == ("some file", format, len(state))
    assert report.missing == report.unexpected == report.replaced == ()
    assert str(report) == f"{len(state)} tensors loaded from some file ({format} format)."


def test_a_head_of_another_size_is_replaced_and_said(state: State) -> None:
    """The new head keeps its initial values, everything else is loaded, and the report names both sizes."""
    model = micro(num_classes=3)
    head = model.head.weight.clone()
    report = load_state(model, state, source="file")
    assert torch.equal(model.head.weight, head)
    assert torch.equal(model.stages[2].blocks[1].gamma, state["stages.2.blocks.1.gamma"])
    assert report.replaced == (("head.weight", (5, 32), (3, 32)), ("head.bias", (5,), (3,)))
    assert "The head was for 5 classes; a new one for 3 is initialised." in str(report)


def test_a_missing_head_and_a_superfluous_head_are_said(state: State) -> None:
    """Weights without a head leave the head as it is; a model without a head leaves the file's out."""
    headless = {key: tensor for key, tensor in state.items() if not key.startswith("head.")}
    report = load_state(micro(), headless, source="file")
    assert report.missing == ("head.weight", "head.bias")
    assert "left as initialised: head.weight, head.bias" in str(report)
    report = load_state(micro(num_classes=0), state, source="file")
    assert report.unexpected == ("head.weight", "head.bias")
    assert "without a place in the model: head.weight, head.bias" in str(report)


def test_output_norms_may_be_missing(state: State) -> None:
    """A detector starts from classification weights: its output norms stay as initialised, and it is said."""
    model = micro(output_norms=True)
    report = load_state(model, state, source="file")
    assert all(name.startswith("output_norms.") for name in report.missing)
    assert len(report.missing) == 8
    assert (model.output_norms[0].weight == 1).all()


@pytest.mark.parametrize("in_chans", [1, 2, 4, 6])
@pytest.mark.parametrize("stem_patch", [1, 2, 4])
def test_the_stem_is_resampled_and_keeps_its_response(in_chans: int, stem_patch: int, state: State) -> None:
    """A picture of one grey value gives the stem's old response, whatever the channels and the patch; it is said."""
    before, after = micro(), micro(in_chans=in_chans, stem_patch=stem_patch)
    load_state(before, state, source="file")
    report = load_state(after, state, source="file")
    grey = 0.7 * torch.ones(1, 1, 32, 32)
    old = before.stem(grey.expand(1, 3, 32, 32))[0, :, 0, 0]
    new = after.stem(grey.expand(1, in_chans, 32, 32))[0, :, 0, 0]
    torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-5)
    shapes = ((8, 3, 4, 4), (8, in_chans, stem_patch, stem_patch))
    assert report.replaced == (("stem.conv.weight", *shapes),)
    assert f"from 3 channels of 4x4 to {in_chans} channel" in str(report)


def test_one_channel_is_the_sum_over_the_colours(state: State) -> None:
    """The usual rule for grey pictures, as in timm."""
    model = micro(in_chans=1)
    load_state(model, state, source="file")
    expected = timm.models.adapt_input_conv(1, state["stem.conv.weight"])
    torch.testing.assert_close(model.stem.conv.weight.data, expected)


def test_a_stem_of_patch_2_goes_back_to_4(state: State) -> None:
    """Weights of a small-picture model load into the usual stem too."""
    small, usual = micro(stem_patch=2), micro()
    load_state(small, state, source="file")
    report = load_state(usual, small.state_dict(), source="file")
    assert report.replaced == (("stem.conv.weight", (8, 3, 2, 2), (8, 3, 4, 4)),)


def test_half_precision_weights_load_as_fp32(state: State) -> None:
    """A file in bf16 gives fp32 parameters of the rounded values."""
    model = micro()
    load_state(model, {key: tensor.bfloat16() for key, tensor in state.items()}, source="file")
    assert equal(model.state_dict(), {key: tensor.bfloat16().float() for key, tensor in state.items()})


def test_weights_of_another_size_are_refused_by_name() -> None:
    """Small into Tiny: the error names both models with their depths and dims, and the remedy."""
    with pytest.raises(WeightsError, match="another model") as caught:
        load_state(on_meta("convnext_tiny"), from_native(zeros("convnext_small"), "official"), source="small.pth")
    message = str(caught.value)
    assert message.startswith("small.pth: ")
    assert "holds convnext_small, depths (3, 3, 27, 3), dims (96, 192, 384, 768)" in message
    assert "model is convnext_tiny, depths (3, 3, 9, 3), dims (96, 192, 384, 768)" in message


def test_missing_and_misshapen_tensors_are_refused(state: State) -> None:
    """The error names each tensor and both shapes, and the model is left untouched."""
    model = micro()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    del state["stages.1.downsample.conv.weight"]
    state["norm.bias"] = torch.zeros(31)
    with pytest.raises(WeightsError, match="incomplete or of an altered model") as caught:
        load_state(model, state, source="file")
    assert "stages.1.downsample.conv.weight is missing" in str(caught.value)
    assert "norm.bias is (31,), it must be (32,)" in str(caught.value)
    assert equal(model.state_dict(), before)


def test_a_missing_block_is_refused(state: State) -> None:
    """A file that lacks one block is of another depth."""
    cut = {key: tensor for key, tensor in state.items() if not key.startswith("stages.2.blocks.1.")}
    with pytest.raises(WeightsError, match=r"depths \(1, 1, 1, 1\).*depths \(1, 1, 2, 1\)"):
        load_state(micro(), cut, source="file")


def test_layer_scale_on_one_side_only_is_refused_with_the_remedy(state: State) -> None:
    """Weights with gamma need a model with gamma, and the other way round."""
    with pytest.raises(WeightsError, match=r"file has layer scale .* model has none; set model.layer_scale = 1e-6"):
        load_state(micro(layer_scale=0.0), state, source="file")
    without = {key: tensor for key, tensor in state.items() if not key.endswith("gamma")}
    with pytest.raises(WeightsError, match=r"file has no layer scale .* model has; set model.layer_scale = 0"):
        load_state(micro(), without, source="file")


# --- files


@pytest.mark.parametrize(
    "wrap", ["plain", "model", "state_dict", "model_ema", "module", "compiled", "both ways", "training"]
)
@pytest.mark.parametrize("legacy", [False, True])
def test_wrapped_torch_files_are_unwrapped(wrap: str, legacy: bool, state: State, tmp_path: Path) -> None:
    """What training codes put around the weights is taken off: keys, prefixes, an argparse Namespace, an optimizer."""
    wrapped: object = {
        "plain": state,
        "model": {"model": state},
        "state_dict": {"state_dict": state, "epoch": 3, "arch": "convnext_tiny"},
        "model_ema": {"model_ema": state, "epoch": 3},
        "module": {"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}},
        "compiled": {f"module._orig_mod.{key}": tensor for key, tensor in state.items()},
        "both ways": {f"_orig_mod.module.{key}": tensor for key, tensor in state.items()},
        "training": {"model": state, "optimizer": {"state": {}}, "args": argparse.Namespace(lr=4e-3, model="tiny")},
    }[wrap]
    path = tmp_path / "file.pth"
    torch.save(wrapped, path, _use_new_zipfile_serialization=not legacy)
    assert equal(read_state(path), state)


def test_safetensors_files_are_read(state: State, tmp_path: Path) -> None:
    """A file of timm's kind: safetensors with metadata of its own, and no config of ours."""
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(from_native(state, "timm"), path, {"format": "pt"})
    assert equal(to_native(read_state(path), "timm"), state)
    assert read_model(path)[1] is None
    safetensors.torch.save_file({f"module.{key}": tensor for key, tensor in state.items()}, path)
    assert equal(read_state(path), state)
    assert equal(read_model(path)[0], state)


@pytest.mark.parametrize(("format", "twin"), [("mmpretrain", "norm3.weight"), ("transformers", "layernorm.weight")])
def test_one_tensor_under_two_names_is_refused(format: str, twin: str, state: State) -> None:
    """With and without its prefix: neither silently wins."""
    theirs = from_native(state, format) | {twin: torch.zeros(state["norm.weight"].shape)}
    with pytest.raises(WeightsError, match=rf'norm3?.weight" and "{twin}" are the same tensor under two names'):
        to_native(theirs, format)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"head.bias": None}, "the head's bias is missing"),
        ({"head.weight": None}, "the head's weight is missing"),
        ({"head.bias": (9,)}, r"the head's weight \(\d+, \d+\) and bias \(9,\) do not belong together"),
        ({"head.bias": ()}, "do not belong together"),
        ({"norm.weight": torch.int64}, r"norm.weight holds torch.int64; weights must be floating-point"),
    ],
)
def test_halves_of_a_head_and_whole_numbers_are_refused(damage: dict[str, object], message: str, state: State) -> None:
    """Nothing stays random or is cut off without a word."""
    for key, what in damage.items():
        if what is None:
            state = {name: tensor for name, tensor in state.items() if name != key}
        elif isinstance(what, tuple):
            state = state | {key: torch.ones(what)}
        else:
            state = state | {key: state[key].to(what)}
    with pytest.raises(WeightsError, match=message):
        load_state(micro(), state, source="file")


class Payload:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def broken(kind: str, folder: Path) -> Path:
    """Makes a file (or folder) that no weights can be read from."""
    state = micro().state_dict()
    path = folder / ("bad.safetensors" if "safetensors" in kind else "bad.pth")
    if kind == "pickled model":
        torch.save(micro(), path)
    elif kind == "payload":
        torch.save({"model": Payload(folder / "ran")}, path)
    elif kind == "plain pickle":
        path.write_bytes(pickle.dumps({"weights": Payload(folder / "ran")}))
    elif kind.startswith("truncated"):
        if "safetensors" in kind:
            safetensors.torch.save_file(state, path)
        else:
            torch.save(state, path, _use_new_zipfile_serialization="legacy" not in kind)
        keep = 3 if "header" in kind else path.stat().st_size // 2
        path.write_bytes(path.read_bytes()[:keep])
    elif kind.startswith("web page"):
        path.write_text("\n<!DOCTYPE html>\n<html><body>404 Not Found</body></html>")
    elif kind.startswith("empty"):
        path.touch()
    elif kind.startswith("noise"):
        path.write_bytes(bytes(range(256)) * 40)
    elif kind == "lfs pointer":
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    elif kind == "folder":
        path.mkdir()
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind == "no tensors":
        torch.save({"epoch": 3, "lr": 0.1}, path)
    elif kind == "no table":
        torch.save({}, path)
    elif kind == "suffix":
        path = folder / "weights.h5"
        path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pickled model", r"holds a Python object \(convnext.nn.convnext.backbone.ConvNeXt\).*state_dict"),
        ("payload", r"holds a Python object \(posix.mkdir\)"),
        ("plain pickle", "holds Python objects in a form that torch.save does not write"),
        ("truncated .pth", "damaged or cut off"),
        ("truncated legacy .pth", "damaged"),
        ("truncated header .pth", "damaged"),
        ("truncated safetensors", "damaged or not a safetensors file"),
        ("truncated header safetensors", "damaged or not a safetensors file"),
        ("web page .pth", "is a web page, not a weight file"),
        ("web page safetensors", "is a web page, not a weight file"),
        ("empty .pth", r"is empty \(0 bytes\)"),
        ("empty safetensors", r"is empty \(0 bytes\)"),
        ("noise .pth", "damaged"),
        ("noise safetensors", "damaged or not a safetensors file"),
        ("lfs pointer", "Git LFS pointer"),
        ("folder", "is a folder; give the weight file itself"),
        ("list", "holds a list, not a table of tensors"),
        ("no tensors", "not a table of tensors; it holds epoch, lr"),
        ("no table", "not a table of tensors; it holds nothing"),
        ("suffix", "is an HDF5 file, as Keras writes them, no weight file"),
        ("missing", "there is no such file"),
    ],
)
def test_bad_files_are_refused(kind: str, message: str, tmp_path: Path) -> None:
    """Each bad file is a WeightsError with its path and what is wrong, by every way in; and no code in it runs."""
    path = broken(kind, tmp_path)
    for read in (read_state, read_model):
        with pytest.raises(WeightsError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)
    with pytest.raises(WeightsError, match="no such file" if kind == "missing" else message):
        load_pretrained(micro(), "convnext_tiny", str(path), pytest.fail)
    assert not (tmp_path / "ran").exists()


def test_a_resnet_file_is_refused(tmp_path: Path) -> None:
    """A sound file of another network: the error has the file's name and the network's names."""
    path = tmp_path / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), path)
    with pytest.raises(WeightsError, match=r"resnet18.pth: these are not the weights of a ConvNeXt.*conv1.weight"):
        load_pretrained(micro(), "convnext_tiny", str(path), pytest.fail)


def test_a_file_loads_by_its_path(state: State, tmp_path: Path) -> None:
    """`load_pretrained` with a path loads it, silently, and the report names the path."""
    path, model = tmp_path / "mine.pth", micro()
    torch.save({"model": from_native(state, "official")}, path)
    report = load_pretrained(model, "convnext_tiny", str(path), pytest.fail)
    assert equal(model.state_dict(), state)
    assert report is not None
    assert (report.source, report.format) == (str(path), "official")


def test_none_loads_nothing() -> None:
    """With "none" the model is untouched and there is no report."""
    assert load_pretrained(micro(), "convnext_tiny", "none", pytest.fail) is None


# --- our own model files


def test_model_files_round_trip(state: State, tmp_path: Path) -> None:
    """Tensors and config come back as they went in, channels-last tensors and unicode class names included."""
    path = tmp_path / "best.safetensors"
    given = {k: v.to(memory_format=torch.channels_last) if v.ndim == 4 else v for k, v in state.items()}
    save_model(path, given, CONFIG)
    read, config = read_model(path)
    assert equal(read, state)
    assert config == CONFIG
    assert equal(read_state(path), state)
    assert [file.name for file in tmp_path.iterdir()] == ["best.safetensors"]


def test_saving_twice_gives_the_same_file(state: State, tmp_path: Path) -> None:
    """A model file is a function of its content: the same header (safetensors shuffles its two fields) and data."""
    files = []
    for name in ("a.safetensors", "b.safetensors"):
        save_model(tmp_path / name, state, CONFIG)
        content = (tmp_path / name).read_bytes()
        start = 8 + struct.unpack("<Q", content[:8])[0]
        files.append((json.loads(content[8:start]), content[start:]))
    assert files[0] == files[1]


def test_views_of_one_buffer_can_be_saved(tmp_path: Path) -> None:
    """Tensors that share memory are saved each with its own values."""
    flat = torch.arange(10.0)
    path = tmp_path / "m.safetensors"
    save_model(path, {"a": flat[:4], "b": flat[2:8], "c": flat}, {})
    assert equal(read_state(path), {"a": flat[:4], "b": flat[2:8], "c": flat})


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_failed_save_keeps_the_old_file(
    fails: str, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk is full in the middle, the old file is whole, nothing is left over, and the error has the path."""
    path = tmp_path / "last.safetensors"
    save_model(path, state, CONFIG)

    def disk_full(*_: object) -> None:
        assert len(list(tmp_path.iterdir())) == 2, "half a file beside it"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if fails == "fsync" else Path, fails, disk_full)
    with pytest.raises(WeightsError, match=r"last.safetensors could not be written: the disk is full"):
        save_model(path, {"other": torch.zeros(1)}, {})
    assert equal(read_model(path)[0], state)
    assert [file.name for file in tmp_path.iterdir()] == ["last.safetensors"]


def test_saving_into_a_missing_folder_is_an_error_of_ours(state: State, tmp_path: Path) -> None:
    """The error has the path."""
    with pytest.raises(WeightsError, match=r"best.safetensors cannot be written"):
        save_model(tmp_path / "nowhere" / "best.safetensors", state, CONFIG)


@pytest.mark.parametrize(("config", "message"), [("{not json", "is not JSON"), (json.dumps([1]), "is a list")])
def test_a_damaged_config_is_refused(config: str, message: str, tmp_path: Path) -> None:
    """A config that is not a table of JSON is an error, not a surprise later."""
    path = tmp_path / "m.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, {"format": "convnext", "config": config})
    with pytest.raises(WeightsError, match=message):
        read_model(path)


def test_the_config_is_readable_without_us(state: State, tmp_path: Path) -> None:
    """The header of a model file is plain safetensors: eight bytes of length, JSON, our config under __metadata__."""
    path = tmp_path / "m.safetensors"
    save_model(path, state, CONFIG)
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    assert header["__metadata__"]["format"] == "convnext"
    assert json.loads(header["__metadata__"]["config"]) == CONFIG


def test_create_model_loads_a_file_and_says_so(
    tmp_path: Path, randomise: Randomise, capsys: pytest.CaptureFixture[str]
) -> None:
    """`create_model(weights=PATH)` gives the saved model's outputs, and tells on stderr what was loaded."""
    saved = create_model("convnext_atto", num_classes=5).eval()
    randomise(saved)
    path = tmp_path / "m.safetensors"
    save_model(path, saved.state_dict(), CONFIG)
    loaded = create_model("convnext_atto", num_classes=5, weights=str(path)).eval()
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(saved(x), loaded(x))
    assert "tensors loaded from" in capsys.readouterr().err


def test_equal_models_are_equal_files(tmp_path: Path) -> None:
    """Byte for byte, whatever order the library gives to the metadata; and it reads them."""
    state = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(3, dtype=torch.int64)}
    files = [tmp_path / f"{i}.safetensors" for i in range(8)]
    for file in files:
        save_model(file, state, {"name": "x", "classes": ["ä", "b"]})
    assert len({file.read_bytes() for file in files}) == 1
    raw = files[0].read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert list(header["__metadata__"]) == ["config", "format"]
    with safe_open(files[0], "pt") as read:
        assert read.metadata() == header["__metadata__"]  # the library's own order is another each time
        assert all(torch.equal(read.get_tensor(key), value) for key, value in state.items())


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_numbers_of_eight_bits_are_no_weights(dtype: torch.dtype, tmp_path: Path) -> None:
    """Without their scales they mean nothing, and torch itself cannot say whether they are finite."""
    network = create_model("convnext_atto", num_classes=2, weights="none")
    safetensors.torch.save_file({k: t.to(dtype) for k, t in network.state_dict().items()}, tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match="is not a plain tensor of numbers"):
        create_model("convnext_atto", num_classes=2, weights=str(tmp_path / "m.safetensors"))
