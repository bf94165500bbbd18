"""`convnext convert`: files of every format into files of every format, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from convnext.__main__ import main
from convnext.errors import RunError, UserError, WeightsError
from convnext.nn.convnext import ConvNeXt
from convnext.nn.create import create_model
from convnext.nn.weights import FORMATS, read_state, save_model
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
    with pytest.raises(WeightsError, match="is neither a run"):
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
