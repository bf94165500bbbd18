"""The Python interface: what it gives, what it takes, and that its documentation runs."""

from __future__ import annotations

import doctest
import importlib
import inspect
import json
import os
import pydoc
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import convnext
from convnext import api, reference
from convnext.__main__ import main
from convnext.config import as_dict, load_recipe, recipe_of
from convnext.errors import PictureError, RecipeError, UserError, WeightsError
from convnext.evaluate.evaluate import judge_run
from convnext.recipe import Recipe, TrainRecipe
from convnext.run.load import load_all
from convnext.train.train import train_run

ROOT = Path(__file__).resolve().parents[1]
QUICK = {"weights": "none", "name": "convnext_atto", "size": 32, "batch": 16, "epochs": 1, "workers": 0,
         "precision": "fp32", "init": "fan_in", "cache_gb": 0.01}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/ and a judged run on them, runs/photos, as the documentation's examples have them."""
    place = tmp_path_factory.mktemp("api")
    rng = np.random.default_rng(0)
    for period, name in ((4, "narrow"), (8, "wide")):
        (place / "photos" / name).mkdir(parents=True)
        for number in range(40):
            pixels = rng.integers(0, 60, (40, 40, 3))
            pixels[(np.arange(40) + rng.integers(period)) % period < period // 2] += 150
            picture = Image.fromarray(pixels.astype(np.uint8))
            picture.save(place / "photos" / name / f"{name}-{number:03d}.png")
    train_run(place / "photos", recipe_of(None, QUICK), place / "runs" / "photos")
    judge_run(place / "runs" / "photos")
    return place


@pytest.mark.parametrize("name", [name for name in convnext.__all__ if name != "__version__"])
def test_the_help_of_every_public_name_has_an_example_that_runs(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each example gives what it says it gives."""
    monkeypatch.chdir(place)
    for run in ("mine", "other"):
        shutil.rmtree(place / "runs" / run, ignore_errors=True)
    text = inspect.getdoc(reference.named(name)) or ""
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    assert test.examples
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=told.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(told)


def test_the_page_is_made_from_the_docstrings() -> None:
    """docs/python.md is what `python -m convnext.reference` prints, and has every public name once."""
    assert (ROOT / "docs" / "python.md").read_text(encoding="utf-8") == reference.render()
    names = [name for group in reference.GROUPS.values() for name in group]
    assert sorted(names) == sorted(set(convnext.__all__) - {"__version__"})


def test_train_and_evaluate_are_functions_and_folders(place: Path) -> None:
    """Whatever is imported first: called they do what the command does, and their modules are still there."""
    import convnext.train.plan

    assert convnext.train.plan.Plan.__name__ == "Plan"
    assert inspect.signature(convnext.train) == inspect.signature(api.train)
    assert inspect.signature(convnext.evaluate) == inspect.signature(api.evaluate)
    assert "evaluate(" in pydoc.render_doc(api.evaluate)
    code = (
        "import sys, convnext\n"
        "assert 'torch' not in sys.modules\n"
        "from convnext import train, evaluate\n"
        "assert callable(train) and callable(convnext.evaluate) and 'torch' not in sys.modules\n"
        f"print(evaluate({str(place / 'runs' / 'photos')!r}).result['n'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    judged = convnext.evaluate(place / "runs" / "photos")
    assert int(done.stdout) == judged.result["n"] == convnext.Run(place / "runs" / "photos").result["n"]


def test_training_from_python_is_training_by_the_command(place: Path) -> None:
    """The same weights bit for bit, judged and reported; a Run goes where a path goes."""
    run = convnext.train(place / "photos", {"train": {"seed": 3}}, out=place / "runs" / "python", **QUICK)
    words = [f"{key}={value}" for key, value in {
        "weights": "none", "model.name": "convnext_atto", "model.init": "fan_in", "data.size": 32, "data.workers": 0,
        "data.cache_gb": 0.01, "train.batch": 16, "train.epochs": 1, "train.precision": "fp32", "train.seed": 3,
    }.items()]  # fmt: skip
    assert main(["train", str(place / "photos"), *words, "--out", str(place / "runs" / "command")]) == 0
    files = [place / "runs" / name / "last.safetensors" for name in ("python", "command")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert run.result == json.loads((run.path / "result.json").read_text())
    assert run.report() == run.path / "report.html"
    assert (run.recipe.train.seed, run.log[0]["epoch"]) == (3, 1)
    assert convnext.evaluate(run).result["top1"] == run.result["top1"]
    picture = next((place / "photos").rglob("*.png"))
    assert run.predict(picture) == convnext.predict(run, picture) == convnext.load(run).predict(picture)


def test_settings_are_named_by_their_last_word() -> None:
    """By whole keys, by tables, over a file, dictionaries or a Recipe; what is not known is explained."""
    assert recipe_of(None, {"epochs": 5, "weights": "none"}).train.epochs == 5
    assert recipe_of({"train": {"epochs": 5}}, {"train.epochs": 7, "size": 64}).train.epochs == 7
    assert recipe_of(Recipe(train=TrainRecipe(epochs=9)), {"train": {"batch": 8}}).train == TrainRecipe(
        epochs=9, batch=8
    )
    assert recipe_of("finetune/small", {}) == load_recipe(Path("finetune/small"))
    assert recipe_of("finetune/small", {"minutes": 3}).train.epochs == "auto"
    assert as_dict(recipe_of(None, {"weights": Path("a.pth")}))["weights"] == "a.pth"
    assert recipe_of(None, {"classes": ["b", "a"]}).data.classes == ("b", "a")
    for settings, word in (({"epoch": 3}, "epoch"), ({"train.epochz": 3}, "epochz"), ({"epochs": "many"}, "epochs"),
                           ({"model": "convnext_tiny"}, "model")):  # fmt: skip
        with pytest.raises(RecipeError, match=word):
            recipe_of(None, settings)
    with pytest.raises(RecipeError, match="there is no recipe"):
        recipe_of("finetune/smal", {})


def test_one_object_has_all_of_a_model(place: Path, tmp_path: Path) -> None:
    """Classes, predictions, embeddings and the network; what it lacks itself is the network's."""
    model = convnext.load(place / "runs" / "photos")
    pictures = sorted((place / "photos").rglob("*.png"))[:3]
    assert model.classes == ("narrow", "wide")
    assert isinstance(model.network, convnext.ConvNeXt)
    rows = model.embed(pictures)
    with torch.no_grad():
        assert torch.equal(rows, model.network.pooled(model.preprocessing.prepare(pictures)))
        assert torch.equal(model(pictures), model.head(rows))
        assert torch.equal(model(model.preprocessing.prepare(pictures)), model(pictures))
    assert model.embed(pictures[0]).shape == (1, model.num_features)
    assert set(model.state_dict()) == set(model.network.state_dict())
    assert len(list(model.parameters())) == len(list(model.network.parameters()))
    assert convnext.optimize(model, engine="layers", size=32).classes == model.classes
    with pytest.raises(UserError, match=r"set \.network\.head"):
        model.head = nn.Identity()
    with pytest.raises(AttributeError):
        model.nothing  # noqa: B018
    with pytest.raises(PictureError, match="is no file"):
        model.embed([pictures[0], tmp_path / "gone.png"])
    copy = convnext.load(model.save(tmp_path / "copy.safetensors"))
    assert copy.predict(pictures) == model.predict(pictures)
    assert "2 classes, 32 pixels" in repr(copy)


def test_a_network_of_ones_own_loop_goes_into_every_command(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """predict, evaluate, convert, train from it, load: without a word about its network."""
    torch.manual_seed(0)
    network = convnext.create_model("convnext_atto", num_classes=2, stem_patch=2, layer_scale=0.5)
    seen = convnext.Preprocessing(size=32, fit="pad", mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    file = convnext.save(network, tmp_path / "own.safetensors", classes=["narrow", "wide"], preprocessing=seen)
    back = load_all(file)
    assert back.preprocessing == seen
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), back.model.state_dict().values(),
                                                 strict=True))  # fmt: skip
    picture = str(next((place / "photos").rglob("*.png")))
    assert main(["predict", str(file), picture, "--top", "1"]) == 0
    assert main(["evaluate", str(file), str(place / "photos"), "--json"]) == 0
    assert main(["convert", str(file), str(tmp_path / "timm.safetensors"), "--to", "mmpretrain"]) == 0
    run = convnext.train(place / "photos", out=tmp_path / "run", **QUICK | {"weights": file, "stem_patch": 2,
                                                                          "layer_scale": 0.5})  # fmt: skip
    assert run.log[0]["epoch"] == 1
    assert convnext.evaluate(file, place / "photos").result["n"] == 80
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["timm:resnet10t", "roadmap:resnet50:patchify-stem:0.125", "convnextv2_atto"])
def test_networks_of_every_kind_are_saved_and_loaded(name: str, tmp_path: Path) -> None:
    """The network that comes back gives the same logits."""
    torch.manual_seed(0)
    network = convnext.create_model(name, num_classes=3).eval()
    seen = convnext.Preprocessing(64)
    file = convnext.save(network, tmp_path / "a.safetensors", classes=["a", "b", "c"], preprocessing=seen)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(convnext.load(file).network(x), network(x))


def test_what_cannot_be_saved_is_explained(tmp_path: Path) -> None:
    """Nothing is written that could not be read again."""
    network = convnext.create_model("convnext_atto", num_classes=2)
    file, seen = tmp_path / "a.safetensors", convnext.Preprocessing(32)
    ok: dict[str, Any] = {"classes": ["a", "b"], "preprocessing": seen}
    cases: list[tuple[nn.Module, Path, dict[str, Any], str]] = [
        (nn.Linear(3, 2), file, ok, "no network of ours"),
        (network, tmp_path / "a.pth", ok, "ends in .safetensors"),
        (network, file, ok | {"classes": ["a"]}, "has 2 outputs"),
        (network, file, ok | {"classes": ["a", "a"]}, "one name for each output"),
        (network, file, ok | {"classes": "ab"}, "list of names"),
        (network, file, {"preprocessing": seen}, "has 2 outputs"),
        (network, file, {"classes": ["a", "b"]}, "knows no preprocessing"),
        (network, file, ok | {"preprocessing": convnext.Preprocessing(32, in_chans=1)}, "takes 3 channels"),
        (convnext.ConvNeXt((1, 1, 1, 1), (8, 8, 8, 8), num_classes=2), file, ok, "sizes of its own"),
    ]
    for thing, path, settings, rule in cases:
        with pytest.raises(UserError, match=rule):
            convnext.save(thing, path, **settings)
    nn.init.constant_(network.head.weight, float("nan"))
    with pytest.raises(WeightsError, match="not finite"):
        convnext.save(network, file, **ok)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["convnext_atto", "timm:resnet10t"])
def test_the_usual_names_of_timm_give_what_timms_networks_give(name: str) -> None:
    """forward_head after forward_features is the network; a reset head has its size, and knows no classes."""
    network = convnext.create_model(name, num_classes=4).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps = network.forward_features(x)
        torch.testing.assert_close(network.forward_head(maps), network(x))
        assert torch.equal(network.forward_head(maps, pre_logits=True), network.pooled(x))
        assert network.pooled(x).shape == (2, network.num_features)
        network.classes = ("a", "b", "c", "d")
        network.reset_classifier(7)
        assert network(x).shape == (2, 7)
        assert (network.num_classes, network.classes) == (7, ())
        assert network.get_classifier().out_features == 7
        network.reset_classifier(0)
        assert torch.equal(network(x), network.pooled(x))


def test_pretrained_is_answered_with_the_right_way() -> None:
    """timm's word is understood; False is what it says."""
    with pytest.raises(UserError, match=r'create_model\("convnext_atto", weights="auto"\)'):
        convnext.create_model("convnext_atto", pretrained=True)
    convnext.create_model("convnext_atto", num_classes=2, pretrained=False)


def test_a_new_network_says_what_it_lacks() -> None:
    """Pictures without a preprocessing are refused with the remedy; with one they are taken, in any network."""
    network = convnext.create_model("convnext_atto", num_classes=2)
    pictures = np.zeros((2, 40, 50, 3), np.uint8)
    for given in (pictures, "a.png", b"x"):
        with pytest.raises(UserError, match="preprocessing"):
            network(given)
    network.preprocessing = convnext.Preprocessing(32)
    assert network(pictures).shape == (2, 2)
    assert network(torch.from_numpy(pictures)).shape == (2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network.eval(), torch.randn(1, 3, 32, 32))
    assert traced(torch.randn(1, 3, 32, 32)).shape == (1, 2)


def test_shells_complete_the_command(tmp_path: Path) -> None:
    """Commands and options, in less time than a key press takes to be noticed; the script for a shell is printed."""

    def answer(*words: str, **variables: str) -> str:
        code = "import sys; from convnext.__main__ import main; sys.argv[0] = 'convnext'; main(sys.argv[1:])"
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, env={**os.environ, **variables}
        )
        return done.stdout + done.stderr

    assert "train" in answer(_CONVNEXT_COMPLETE="complete_bash", COMP_WORDS="convnext tr", COMP_CWORD="1").split()
    assert "--resume" in answer(_CONVNEXT_COMPLETE="complete_bash", COMP_WORDS="convnext train --re", COMP_CWORD="2")
    assert "_CONVNEXT_COMPLETE=complete_bash" in answer(_CONVNEXT_COMPLETE="source_bash")
    by_name = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # the shell that started this may be any
    assert "_CONVNEXT_COMPLETE=complete_bash" in answer("--show-completion", "bash", **by_name)


@pytest.mark.full
def test_a_consumer_of_the_wheel_is_checked_by_mypy(tmp_path: Path) -> None:
    """The wheel says that it is typed, and a program against it passes mypy --strict; a wrong one does not."""
    wheel, site = tmp_path / "wheel", tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(wheel), str(ROOT)], check=True)
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(next(wheel.glob("*.whl")))], check=True)
    assert (site / "convnext" / "py.typed").is_file()
    consumer = tmp_path / "consumer.py"
    consumer.write_text(
        "import numpy as np\nimport convnext\n\n"
        "run = convnext.train('photos', {'train': {'epochs': 2}}, out='runs/a', weights='none')\n"
        "top1: float = run.result['top1']\n"
        "model: convnext.Model = convnext.load(run)\n"
        "found: list[convnext.Prediction] = model.predict([np.zeros((9, 9, 3), np.uint8), b'x', 'a.png'])\n"
        "label: str | None = found[0].label\n"
        "rows = model.embed('a.png').numpy()\n"
        "convnext.save(model.network, 'a.safetensors', preprocessing=convnext.Preprocessing(size=224))\n"
        "n: int = convnext.evaluate(run, 'other').result['n']\n"
        "ok: bool = convnext.doctor('photos').ok\n"
        "convnext.create_model('convnext_tiny', weights='auto').reset_classifier(3)\n"
    )
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import convnext\n\nconvnext.load('a').predict(3.5)\nconvnext.train()\n")
    env = {**os.environ, "MYPYPATH": str(site), "PYTHONPATH": ""}
    check = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"),
             "--follow-imports", "silent"]  # fmt: skip
    good = subprocess.run([*check, str(consumer)], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert good.returncode == 0, good.stdout
    bad = subprocess.run([*check, str(wrong)], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert bad.stdout.count("error:") == 2, bad.stdout


def test_every_module_still_loads() -> None:
    """The package as a whole, through its lazy names."""
    for name in convnext.__all__:
        assert getattr(convnext, name) is not None
    assert importlib.import_module("convnext.train").__name__ == "convnext.train"
