"""`convnext convert`: files of every format into files of every format, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from convnext.__main__ import main
from convnext.errors import RunError, UserError, WeightsError
from convnext.nn.convnext import ConvNeXt
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
