"""`convnext convert`: files of every format into files of every format, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch

from convnext.__main__ import main
from convnext.errors import RunError, UserError, WeightsError
from convnext.nn.convnext.backbone import ConvNeXt
from convnext.nn.create import create_model
from convnext.nn.weights.load import FORMATS, read_state, save_model
from convnext.run.convert import convert


def micro(**options: object) -> ConvNeXt:
    return ConvNeXt((1, 1, 2, 1), (8, 16, 24, 32), **{"num_classes": 3, **options})


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("v2", [False, True])
def test_a_tour_through_all_formats_changes_no_bit(suffix: str, v2: bool, tmp_path: Path) -> None:
    """From file to file through every format and back to ours: the same tensors."""
    model = micro(grn=True, layer_scale=0.0) if v2 else micro()
    torch.save(model.state_dict(), tmp_path / "start.pth")
    at = tmp_path / "start.pth"
    formats = [name for name in FORMATS if not (v2 and name == "torchvision")]
    for number, format in enumerate([*formats, "convnext"]):
        to = tmp_path / f"{number}{suffix}"
        done = convert(at, to, format)
        assert done.written == format
        at = to
    end = read_state(at)
    assert end.keys() == model.state_dict().keys()
    assert all(torch.equal(end[key], value) for key, value in model.state_dict().items())


def test_isotropic_weights_go_where_they_have_names(tmp_path: Path) -> None:
    """Official and ours; the others have no such network, and that is said."""
    model = ConvNeXt((2,), (16,), num_classes=3, stem_patch=16, stem_norm=False)
    torch.save(model.state_dict(), tmp_path / "iso.pth")
    convert(tmp_path / "iso.pth", tmp_path / "official.pth", "official")
    assert "blocks.1.gamma" in read_state(tmp_path / "official.pth")
    for format in ("timm", "torchvision", "transformers", "mmpretrain"):
        with pytest.raises(WeightsError, match=f"the {format} format has no isotropic networks"):
            convert(tmp_path / "iso.pth", tmp_path / "no.pth", format)
    assert not (tmp_path / "no.pth").exists()


def test_a_run_loses_its_classes_and_says_so(tmp_path: Path) -> None:
    """Other codes keep no classes in their weights."""
    config = {"model": {"name": "x"}, "classes": ["a", "b", "c"]}
    save_model(tmp_path / "best.safetensors", micro().state_dict(), config)
    said = str(convert(tmp_path / "best.safetensors", tmp_path / "out.pth", "timm"))
    assert "Classes and preprocessing stay behind" in said


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "stages.1.blocks.0.norm.weight is missing"),
        ("shape", r"stages.1.blocks.0.norm.weight is \(3,\), it must be \(16,\)"),
        ("nan", "stages.1.blocks.0.norm.weight holds values that are not finite"),
        ("zero", "such as stages.2.blocks.01.gamma"),
        ("digit", "such as stages.2.blocks.\u0661.gamma"),
        ("sparse", "is not a plain tensor of numbers"),
        ("scalar", "is incomplete: it has no stem"),
        ("half a head", "the head's bias is missing"),
        ("no names", "these are not the weights of a ConvNeXt in a known format"),
    ],
)
def test_what_is_not_whole_is_not_converted(damage: str, message: str, tmp_path: Path) -> None:
    """A file that no network could load is refused by name, and nothing is written."""
    state = micro().state_dict()
    key, gamma = "stages.1.blocks.0.norm.weight", state["stages.2.blocks.1.gamma"]
    changed = {
        "missing": {k: v for k, v in state.items() if k != key},
        "shape": state | {key: torch.ones(3)},
        "nan": state | {key: torch.full((16,), torch.nan)},
        "zero": state | {"stages.2.blocks.01.gamma": gamma},
        "digit": state | {"stages.2.blocks.\u0661.gamma": gamma},
        "sparse": state | {key: torch.ones(16).to_sparse()},
        "scalar": {k: torch.ones(()) if k.endswith("dwconv.weight") else v for k, v in state.items()},
        "half a head": {k: v for k, v in state.items() if k != "head.bias"},
        "no names": {"a.weight": gamma},
    }[damage]
    torch.save(changed, tmp_path / "in.pth")
    with pytest.raises(WeightsError, match=rf"in.pth.*{message}"):
        convert(tmp_path / "in.pth", tmp_path / "out.pth", "timm")
    assert not (tmp_path / "out.pth").exists()


def test_networks_with_other_norms_are_not_taken_for_ours(tmp_path: Path) -> None:
    """timm's RMSNorm variants have our names without the biases."""
    torch.save(timm.create_model("convnext_zepto_rms").state_dict(), tmp_path / "rms.pth")
    with pytest.raises(WeightsError, match=r"stem.norm.bias is missing"):
        convert(tmp_path / "rms.pth", tmp_path / "out.pth", "transformers")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """A link counts as being there, even to nothing; with overwrite it is written through."""
    torch.save(micro().state_dict(), tmp_path / "a.pth")
    (tmp_path / "link.pth").symlink_to(tmp_path / "real.pth")
    with pytest.raises(UserError, match="is there already"):
        convert(tmp_path / "a.pth", tmp_path / "link.pth", "timm")
    convert(tmp_path / "a.pth", tmp_path / "link.pth", "timm", overwrite=True)
    assert (tmp_path / "link.pth").is_symlink()
    assert "stem.0.weight" in read_state(tmp_path / "real.pth")


def test_a_folder_of_transformers_is_read_and_the_message_says_how_to_load(tmp_path: Path) -> None:
    """`save_pretrained` makes a folder; what the other code must be told is printed, and enough to load."""
    import transformers

    settings = {"depths": [1, 1, 2, 1], "hidden_sizes": [8, 16, 24, 32], "num_labels": 3}
    theirs = transformers.ConvNextForImageClassification(transformers.ConvNextConfig(**settings))
    theirs.save_pretrained(tmp_path / "hf")
    done = convert(tmp_path / "hf", tmp_path / "out.safetensors", "transformers")
    assert done.found == "transformers"
    assert (
        "ConvNextConfig(depths=[1, 1, 2, 1], hidden_sizes=[8, 16, 24, 32], num_labels=3, layer_norm_eps=1e-6)"
        in str(done)
    )
    theirs.load_state_dict(read_state(tmp_path / "out.safetensors"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="Neither is it a run"):
        convert(tmp_path / "empty", tmp_path / "no.pth", "timm")


def test_other_networks_runs_go_back_to_timm_only(tmp_path: Path) -> None:
    """A run of one of timm's networks under timm's own names; a step of the roadmap has no other code."""
    for name, model in (("timm:resnet18", "timm:resnet18"), ("step", "roadmap:resnet50:patchify-stem:0.125")):
        file = tmp_path / f"{name.replace(':', '_')}.safetensors"
        config = {"model": {"name": model}, "classes": ["a", "b"]}
        save_model(file, create_model(model, num_classes=2).state_dict(), config)
    done = convert(tmp_path / "timm_resnet18.safetensors", tmp_path / "r18.pth", "timm")
    assert done.model == "timm:resnet18"
    timm.create_model("resnet18", num_classes=2).load_state_dict(read_state(tmp_path / "r18.pth"))
    with pytest.raises(WeightsError, match="is a timm:resnet18; --to timm writes it for timm"):
        convert(tmp_path / "timm_resnet18.safetensors", tmp_path / "no.pth", "official")
    with pytest.raises(WeightsError, match="which no other code has"):
        convert(tmp_path / "step.safetensors", tmp_path / "no.pth", "timm")


def test_bad_requests_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with the value, the rule and the remedy; nothing is written, exit code 2."""
    torch.save(micro().state_dict(), tmp_path / "a.pth")
    (tmp_path / "there.pth").write_bytes(b"kept")
    with pytest.raises(WeightsError, match='format "keras" is not known; it must be one of'):
        convert(tmp_path / "a.pth", tmp_path / "b.pth", "keras")
    with pytest.raises(UserError, match=r'weights are written as .safetensors, .pth, .pt, .bin; ".onnx" is not'):
        convert(tmp_path / "a.pth", tmp_path / "b.onnx", "timm")
    with pytest.raises(UserError, match="is there already"):
        convert(tmp_path / "a.pth", tmp_path / "there.pth", "timm")
    assert (tmp_path / "there.pth").read_bytes() == b"kept"
    with pytest.raises(WeightsError, match="there is no such file"):
        convert(tmp_path / "none.pth", tmp_path / "b.pth", "timm")
    with pytest.raises(RunError, match="nowhere"):
        convert(tmp_path / "a.pth", tmp_path / "nowhere" / "b.pth", "timm")
    assert main(["convert", str(tmp_path / "a.pth"), str(tmp_path / "there.pth"), "--to", "timm"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "a.pth"), str(tmp_path / "there.pth"), "--to", "timm", "--overwrite"]) == 0
    assert "convnext format" in capsys.readouterr().out


def printed_call(done: object, code: str) -> str:
    """The call that the message of a conversion prints for a code."""
    return str(done).split(f" In {code}: ")[1].rpartition(").")[0] + ")"


@pytest.mark.parametrize("v2", [False, True])
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize(("stem", "channels"), [(1, 3), (1, 1), (4, 3), (4, 4)])
def test_the_printed_call_of_timm_loads_the_file(
    stem: int, channels: int, classes: int, v2: bool, tmp_path: Path
) -> None:
    """Run as printed, the network takes the tensors, all of them, and gives our logits: any stem, channels, head."""
    options = {"stem_patch": stem, "in_chans": channels, "num_classes": classes}
    nets = (
        [micro(grn=True, layer_scale=0.0, **options)] if v2 else [micro(**options), micro(layer_scale=0.0, **options)]
    )
    if (stem, classes, channels) == (1, 3, 3):
        nets.append(create_model(f"convnext{'v2' * v2}_atto", **options))
    for number, model in enumerate(nets):
        torch.save(model.eval().state_dict(), tmp_path / "in.pth")
        done = convert(tmp_path / "in.pth", tmp_path / f"{number}.pth", "timm")
        theirs = eval(printed_call(done, "timm"), {"create_model": timm.create_model}).eval()
        theirs.load_state_dict(read_state(tmp_path / f"{number}.pth"))
        x = torch.randn(2, channels, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            torch.testing.assert_close(theirs(x), model(x), rtol=1e-4, atol=1e-4)


def test_what_another_code_does_not_have_is_not_written(tmp_path: Path) -> None:
    """A stem of 2 in timm; in torchvision also another number of channels, no layer scale: no call could load it."""
    torch.save(micro(stem_patch=2).state_dict(), tmp_path / "two.pth")
    with pytest.raises(WeightsError, match=r"patches of 2 in its stem; there timm puts another downsampling"):
        convert(tmp_path / "two.pth", tmp_path / "out.pth", "timm")
    for number, options in enumerate(({"stem_patch": 2}, {"in_chans": 1}, {"layer_scale": 0.0})):
        torch.save(micro(**options).state_dict(), tmp_path / f"{number}.pth")
        with pytest.raises(WeightsError, match=r"torchvision has only stems of 3 channels and patches of 4, and layer"):
            convert(tmp_path / f"{number}.pth", tmp_path / "out.pth", "torchvision")
        assert not (tmp_path / "out.pth").exists()


KINDS = ("ConvNextConfig", "ConvNextV2Config")
DESCRIBED = {
    "classes": ["cat", "dog", "elk"], "multi_label": False, "epoch": 1, "source": "model",
    "preprocessing": {
        "size": 64, "crop_ratio": 0.875, "interpolation": "bicubic", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4],
        "in_chans": 3,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ["convnext_atto", "convnextv2_atto"])
@pytest.mark.parametrize("stem", [2, 4])
def test_transformers_loads_the_folder_and_answers_alike(name: str, stem: int, tmp_path: Path) -> None:
    """`from_pretrained` of the folder: the same logits, the classes' names, and what it must be shown."""
    import transformers

    torch.manual_seed(0)
    model = create_model(name, num_classes=3, stem_patch=stem).eval()
    scale = 1e-6 if name == "convnext_atto" else 0.0
    built = {"name": name, "num_classes": 3, "in_chans": 3, "stem_patch": stem, "layer_scale": scale, "size": 64}
    save_model(tmp_path / "best.safetensors", model.state_dict(), {"model": built, **DESCRIBED})
    (tmp_path / "hf").mkdir()
    done = convert(tmp_path / "best.safetensors", tmp_path / "hf" / "model.safetensors", "transformers")
    assert f"from_pretrained({str(tmp_path / 'hf')!r})" in str(done)
    theirs, report = transformers.AutoModelForImageClassification.from_pretrained(
        tmp_path / "hf", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(x).logits, model(x), rtol=1e-4, atol=1e-4)
    assert theirs.config.id2label == {0: "cat", 1: "dog", 2: "elk"}
    processor = json.loads((tmp_path / "hf" / "preprocessor_config.json").read_text())
    assert (processor["size"], processor["crop_pct"], processor["image_std"]) == (
        {"shortest_edge": 64},
        0.875,
        [0.2, 0.3, 0.4],
    )
    built_as_said = eval(printed_call(done, "transformers"), {n: getattr(transformers, n) for n in KINDS})
    assert built_as_said.to_dict()["patch_size"] == stem
    before = (tmp_path / "hf" / "config.json").read_bytes()
    assert str(convert(tmp_path / "hf", tmp_path / "back.safetensors", "convnext")).startswith(str(tmp_path / "hf"))
    assert (tmp_path / "hf" / "config.json").read_bytes() == before


def test_the_config_of_another_model_is_not_replaced(tmp_path: Path) -> None:
    """Somebody else's config.json beside the target: nothing is written, but with overwrite."""
    torch.save(micro().state_dict(), tmp_path / "in.pth")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config.json, which transformers would read, is there already"):
        convert(tmp_path / "in.pth", tmp_path / "model.safetensors", "transformers")
    assert not (tmp_path / "model.safetensors").exists()
    convert(tmp_path / "in.pth", tmp_path / "model.safetensors", "transformers", overwrite=True)
    assert json.loads((tmp_path / "config.json").read_text())["num_stages"] == 4
    said = str(convert(tmp_path / "in.pth", tmp_path / "other.bin", "transformers"))
    assert "once the weights are called model.safetensors or pytorch_model.bin" in said


def test_one_of_two_sets_of_weights_is_converted(tmp_path: Path) -> None:
    """`FILE#model` as everywhere; without it the average, and it is said."""
    raw = micro().state_dict()
    torch.save({"model": raw, "model_ema": {k: v + 1 for k, v in raw.items()}}, tmp_path / "c.pth")
    said = str(convert(tmp_path / "c.pth", tmp_path / "mean.pth", "convnext"))
    assert 'holds two sets of weights: "model_ema", the moving average, is taken' in said
    convert(tmp_path / "c.pth#model", tmp_path / "raw.pth", "convnext")
    for name, plus in (("mean", 1), ("raw", 0)):
        assert all(torch.equal(v, raw[k] + plus) for k, v in read_state(tmp_path / f"{name}.pth").items())
