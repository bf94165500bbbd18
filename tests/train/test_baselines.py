"""timm's networks and the roadmap's through the whole loop, and timm's weights from files of every kind."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from convnext.__main__ import main
from convnext.config import load_recipe
from convnext.errors import RecipeError, UserError, WeightsError
from convnext.evaluate.evaluate import evaluate_run, evaluate_weights, judge_run
from convnext.nn.create import create_model
from convnext.nn.others.baselines import Baseline
from convnext.run.load import load
from convnext.train.groups import optimizer_groups
from convnext.train.train import train_run

QUICK = ["weights=none", "train.batch=8", "data.workers=0", "train.precision=fp32", "train.epochs=1", "train.lr=1e-3"]
NAMES = [
    "timm:resnet18", "timm:test_vit", "roadmap:resnet50:kernel-9:0.125",
    "roadmap:resnet200:separate-downsampling:0.125", "convnextv2_atto", "convnext_isotropic_small",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_network_trains_judges_loads_and_predicts(
    name: str, stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the one loop; the saved run judged again gives the same numbers; predictions are those of the model."""
    settings = [*QUICK, f"model.name={name}", "data.size=64"]
    if "isotropic" in name:
        settings += ["model.stem_patch=16"]
    run = train_run(stripes, load_recipe(None, settings), tmp_path / "run").path
    result = judge_run(run)
    again = evaluate_run(run).result
    assert (again["top1"], again["confusion"], again["calibration_error"]) == (
        result["top1"],
        result["confusion"],
        result["calibration_error"],
    )
    model = load(run)
    assert model.classes == ("narrow", "wide")
    picture = next(stripes.rglob("*.png"))
    assert main(["predict", str(run), str(picture)]) == 0
    row = next(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert model.preprocessing is not None
    seen = model.preprocessing.view(picture).float() / 255
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (model.preprocessing.mean, model.preprocessing.std))
    with torch.no_grad():
        probability = model(((seen - mean) / std).unsqueeze(0)).softmax(1).max()
    assert float(row["probability"]) == pytest.approx(float(probability), abs=2e-4)


def test_a_network_of_one_size_keeps_it(stripes: Path, tmp_path: Path) -> None:
    """A ViT trains and is judged at one size; pictures that grow are refused."""
    recipe = load_recipe(None, [*QUICK, "model.name=timm:test_vit", "data.size=64", "data.start_size=32"])
    with pytest.raises(RecipeError, match=r"data.start_size = 32: timm:test_vit takes one size only, here 64"):
        train_run(stripes, recipe, tmp_path / "run")
    with pytest.raises(UserError, match="this network takes 64 x 64 only"):
        create_model("timm:test_vit", size=64)(torch.zeros(1, 3, 96, 96))


def file_of(net: torch.nn.Module, path: Path) -> Path:
    safetensors.torch.save_file(net.state_dict(), path)
    return path


def test_timm_weights_of_a_file_are_all_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many classes: every tensor, the head too, so the logits are timm's; another number: a new head, said so."""
    theirs = timm.create_model("resnet18", num_classes=5).eval()
    path = file_of(theirs, tmp_path / "r18.safetensors")
    x = torch.randn(2, 3, 64, 64)
    same = create_model("timm:resnet18", num_classes=5, weights=str(path)).eval()
    with torch.no_grad():
        assert torch.equal(same(x), theirs(x))
    assert "all tensors loaded (timm format)" in capsys.readouterr().err
    other = create_model("timm:resnet18", num_classes=3, weights=str(path)).eval()
    assert "the head was for 5 classes, a new one for 3 is initialised" in capsys.readouterr().err
    with torch.no_grad():
        torch.testing.assert_close(other.pooled(x), theirs.forward_head(theirs.forward_features(x), pre_logits=True))
    gray = create_model("timm:resnet18", num_classes=5, in_chans=1, weights=str(path)).eval()
    with torch.no_grad():
        plain = x[:, :1]
        torch.testing.assert_close(gray(plain), theirs(plain.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def test_what_timm_adapts_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Position embeddings for another size, a stem for other channels: named in the message, without timm's own."""
    vit = file_of(timm.create_model("test_vit", num_classes=5), tmp_path / "vit.safetensors")
    create_model("timm:test_vit", num_classes=5, size=64, weights=vit)
    assert "all tensors loaded (timm format), pos_embed adapted to this size" in capsys.readouterr().err
    r18 = file_of(timm.create_model("resnet18", num_classes=5), tmp_path / "r18.safetensors")
    create_model("timm:resnet18", num_classes=5, in_chans=1, weights=r18)
    said = capsys.readouterr().err
    assert "conv1.weight adapted" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [("nan", "layer1.0.conv1.weight holds values that are not finite"),
     ("int", "layer1.0.conv1.weight holds torch.int"),
     ("missing", r'another network than timm:resnet18: Missing key\(s\) in state_dict: "layer1.0.conv1.weight"')],
)  # fmt: skip
def test_damaged_tensors_of_a_baseline_are_named(damage: str, message: str, tmp_path: Path) -> None:
    """As for our own networks."""
    state = timm.create_model("resnet18").state_dict()
    weight = state.pop("layer1.0.conv1.weight")
    if damage != "missing":
        state["layer1.0.conv1.weight"] = weight.int() if damage == "int" else weight * torch.nan
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=message):
        create_model("timm:resnet18", weights=str(tmp_path / "w.pth"))


@pytest.mark.parametrize("name", ["resnet18", "test_efficientnet"])
def test_recomputing_counts_every_picture_once(name: str) -> None:
    """timm's own checkpointing updates the statistics of batch norms twice; here it does not."""
    statistics, gradients = [], []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = create_model(f"timm:{name}", num_classes=3, checkpointing=checkpointing).train()
        model(torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))).square().sum().backward()
        statistics.append({key: value.clone() for key, value in model.named_buffers()})
        gradients.append([p.grad for p in model.parameters()])
    for key, value in statistics[0].items():
        assert torch.equal(statistics[1][key], value), key
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


def test_a_run_of_a_baseline_can_start_another(stripes: Path, tmp_path: Path) -> None:
    """Our own model file of a timm network: its tensors are found, not ignored."""
    first = train_run(stripes, load_recipe(None, [*QUICK, "model.name=timm:resnet18", "data.size=32"]), tmp_path / "a")
    model = create_model("timm:resnet18", num_classes=2, weights=str(first.last))
    assert isinstance(model, Baseline)
    assert model.trained_classes == 2
    saved = safetensors.torch.load_file(first.last)
    assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("kind", ["other network", "folder", "web page", "pickle"])
def test_files_that_are_not_its_weights_are_refused(kind: str, tmp_path: Path) -> None:
    """A clear message each, and no network with random weights."""
    path = tmp_path / "w.pth"
    if kind == "folder":
        path.mkdir()
    elif kind == "web page":
        path.write_text("<!doctype html><title>404</title>")
    elif kind == "pickle":
        torch.save(timm.create_model("resnet18"), path)
    else:
        torch.save(timm.create_model("resnet34").state_dict(), path)
    message = {
        "other network": "another network than timm:resnet18", "folder": "is a folder", "web page": "is a web page",
        "pickle": "holds a Python object",
    }[kind]  # fmt: skip
    with pytest.raises(WeightsError, match=message):
        create_model("timm:resnet18", weights=str(path))


def test_a_bare_file_is_judged_only_with_its_own_number_of_classes(stripes: Path, tmp_path: Path) -> None:
    """A head that was not in the file would judge noise."""
    path = file_of(timm.create_model("resnet18", num_classes=5), tmp_path / "five.safetensors")
    options = {"size": 64, "normalization": "imagenet", "split": None}
    with pytest.raises(WeightsError, match="has 5 outputs, the data has 2 classes"):
        evaluate_weights(path, "timm:resnet18", stripes, **options)
    two = file_of(timm.create_model("resnet18", num_classes=2), tmp_path / "two.safetensors")
    assert evaluate_weights(two, "timm:resnet18", stripes, **options).result["n"] == 80


def test_position_embeddings_take_no_weight_decay() -> None:
    """As timm trains its transformers."""
    model = create_model("timm:test_vit", num_classes=2)
    decayed = {id(p) for p in optimizer_groups(model, 0.05)[0]["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in decayed}
    assert "net.pos_embed" not in names
    assert any(name.endswith("attn.qkv.weight") for name in names)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet_50", "timm has no such model. Did you mean timm:resnet50"),
        ("timm:resnet50.typo", "Invalid pretrained tag"),
        ("convnext_teeny", 'Did you mean "convnext_tiny"'),
    ],
)
def test_unknown_networks_are_refused(name: str, message: str) -> None:
    """Before anything is built or looked for."""
    for options in ({}, {"weights": "auto"}):
        with pytest.raises(UserError, match=message):
            create_model(name, **options)
