"""Weights that name no classes: predicted with, judged, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convnext.__main__ import main
from convnext.errors import UserError
from convnext.nn.convnext.backbone import ConvNeXt
from convnext.nn.create import create_model
from convnext.nn.weights.load import save_model
from convnext.run.class_names import read_classes


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Weights of a ConvNeXt-Atto for 3 classes, the average for its second one, the raw for its third."""
    model = create_model("convnext_atto", num_classes=3)
    assert isinstance(model, ConvNeXt)
    states = []
    for favourite in (2, 1):
        model.head.bias.data.zero_()[favourite] = 5.0
        states.append({key: tensor.clone() for key, tensor in model.state_dict().items()})
    torch.save({"model": states[0], "model_ema": states[1]}, tmp_path / "bare.pth.tar")
    return tmp_path / "bare.pth.tar"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(path)
    return path


def label(arguments: list[object], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What `predict` names, and what it says."""
    assert main(["predict", *map(str, arguments), "--model", "convnext_atto", "--size", "32", "--json"]) == 0
    said = capsys.readouterr()
    return json.loads(said.out)["predictions"][0]["label"], said.err


def test_bare_weights_predict_with_their_name(
    bare: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By number, or by the names of a file, in order; which output is which is said, and which weights were taken."""
    named, said = label([bare, picture], capsys)
    assert named == "1"
    assert "names no classes; its 3 outputs are called by their numbers" in said
    assert '"model_ema", the moving average, is taken' in said
    (tmp_path / "names.txt").write_text("cat\ndog\nelk\n")
    named, said = label([bare, picture, "--classes", tmp_path / "names.txt"], capsys)
    assert named == "dog"
    assert "its outputs are taken for 0 cat, 1 dog, 2 elk" in said
    named, _ = label([f"{bare}#model", picture, "--classes", tmp_path / "names.txt"], capsys)
    assert named == "elk"


def test_what_does_not_fit_is_refused(
    bare: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message without options names those that there are; a wrong number of names, a model file, a run."""
    (tmp_path / "two.txt").write_text("cat\ndog\n")
    config = {"model": {"name": "convnext_atto"}, "classes": ["a", "b"]}
    save_model(tmp_path / "own.safetensors", {"a.b": torch.ones(1)}, config)
    (tmp_path / "folder").mkdir()
    for words, message in (
        ([bare, picture], "name its network with --model"),
        ([bare, picture, "--size", "32"], "--model NAME"),
        ([bare, picture, "--model", "convnext_atto", "--classes", tmp_path / "two.txt"], "has 3 outputs"),
        ([bare, picture, "--model", "convnext_tiny"], "convnext_atto"),
        ([bare, picture, "--model", "convnext_atto", "--normalization", "x"], "it is one of imagenet, unit, symmetric"),
        ([tmp_path / "own.safetensors", picture, "--classes", tmp_path / "two.txt"], "leave --classes out"),
        ([tmp_path / "folder", picture, "--model", "convnext_atto"], "are for bare weight files"),
        ([f"{bare}#x", picture, "--model", "convnext_atto"], 'no one set of weights "x"'),
    ):
        assert main(["predict", *map(str, words)]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert "Traceback" not in said


def test_evaluate_says_which_output_is_which_folder(
    bare: Path, tmp_path: Path, write_stripes: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders that are numbers count by value, and the mapping is printed: so a wrong order can be seen."""
    data = write_stripes(tmp_path / "data", {"0": 3, "10": 3, "9": 3})
    words = ["evaluate", f"{bare}#model", str(data), "--model", "convnext_atto", "--size", "32", "--json"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "its outputs are taken for 0 0, 1 9, 2 10" in said.err
    recalls = {row["name"]: row["recall"] for row in json.loads(said.out)["per_class"]}
    assert recalls == {"0": 0.0, "9": 0.0, "10": 1.0}


def test_lists_of_classes_are_read(tmp_path: Path) -> None:
    """A text, JSON of three kinds, a folder, a model file; each gives the names in the order of the outputs."""
    (tmp_path / "a.txt").write_text("\ufeffb\n\na\n", encoding="utf-8")
    (tmp_path / "list.json").write_text('["b", "a"]')
    (tmp_path / "index.json").write_text('{"1": ["n2", "a"], "0": ["n1", "b"]}')
    (tmp_path / "id2label").write_text('{"0": "b", "1": "a"}')
    (tmp_path / "label2id").write_text('{"a": 1, "b": 0}')
    save_model(tmp_path / "m.safetensors", {"x.y": torch.ones(1)}, {"classes": ["b", "a"]})
    for name in ("a.txt", "list.json", "index.json", "id2label", "label2id", "m.safetensors"):
        assert read_classes(tmp_path / name) == ("b", "a"), name
    for name in ("10", "9", ".hidden", "__MACOSX"):
        (tmp_path / "folder" / name).mkdir(parents=True)
    assert read_classes(tmp_path / "folder") == ("9", "10")


@pytest.mark.parametrize(
    "text", ["", "a\na\n", "[1, 2]", '{"0": "a", "2": "b"}', '{"a": {}}', "[" * 10**5, "\udcff", "[]"]
)
def test_lists_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    """No names, one twice, numbers with a gap, JSON of another kind or without end, bytes that are no text."""
    (tmp_path / "x").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"--classes .*x"):
        read_classes(tmp_path / "x")
    with pytest.raises(UserError, match="cannot be read"):
        read_classes(tmp_path / "absent")
