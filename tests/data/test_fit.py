"""How a picture becomes a square, against the authors' own transform and timm's; in training as in evaluation."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from convnext.__main__ import main
from convnext.config import check_recipe, find_recipe, load_recipe, shipped_names
from convnext.data.feed import augment as A
from convnext.data.feed.framing import central_view, padded_frame
from convnext.data.feed.preprocessing import Preprocessing
from convnext.data.pictures import transforms as T
from convnext.errors import RecipeError, UserError, WeightsError
from convnext.nn.create import create_model
from convnext.nn.tables.published import PUBLISHED
from convnext.nn.weights.download import Found
from convnext.nn.weights.formats import from_native
from convnext.nn.weights.shown import authors_way, shown_as, shown_by_entry
from convnext.recipe import AugmentRecipe, DataRecipe, Recipe
from convnext.run.load import load_all, load_file
from convnext.run.save import save
from convnext.tasks.classify.targets import diagnose
from convnext.train.plan import Plan
from convnext.train.statistics import choose_statistics
from convnext.train.train import train_run

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth one, so that two ways to resize agree to a level or two."""
    rng = np.random.default_rng(seed)
    rough = Image.fromarray(rng.integers(0, 256, (max(2, height // 12), max(2, width // 12), 3), dtype=np.uint8))
    return rough.resize((width, height), Image.Resampling.BICUBIC)


def theirs(size: int) -> Any:
    """`build_transform` of the authors' datasets.py, for evaluation (MIT licence; written anew from its description):
    from 384 pixels on the picture is warped to the square, below the middle of size x 256 / 224 is cropped.
    """
    if size >= 384:
        steps: list[Any] = [transforms.Resize((size, size), interpolation=InterpolationMode.BICUBIC)]
    else:
        side = int(size / (224 / 256))
        steps = [transforms.Resize(side, interpolation=InterpolationMode.BICUBIC), transforms.CenterCrop(size)]
    return transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(*IMAGENET)])


def alike(ours: Tensor, other: Tensor, std: tuple[float, ...] = IMAGENET[1]) -> None:
    """To two levels of 255 everywhere, and to a third of one on average: Pillow and torch round at other places."""
    levels = (ours - other).abs() * 255 * torch.tensor(std).view(-1, 1, 1)
    assert ours.shape == other.shape
    assert float(levels.max()) <= 2.01
    assert float(levels.mean()) < 0.34


@pytest.mark.parametrize("size", [32, 100, 224, 288, 384, 400])
@pytest.mark.parametrize("shape", [(500, 333), (210, 640), (97, 96)])
def test_bare_weights_are_shown_what_the_authors_showed(size: int, shape: tuple[int, int]) -> None:
    """At every size, those whose side is rounded down too: tensors as their transform gives them."""
    image = picture(*shape)
    alike(authors_way(size).preprocessing(3)(image), theirs(size)(image))


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("crop", [0.875, 0.95, 1.0])
@pytest.mark.parametrize("shape", [(333, 250), (100, 290), (301, 60)])
def test_timms_configurations_give_timms_tensors(
    mode: str, crop: float, shape: tuple[int, int], tmp_path: Path
) -> None:
    """All words of a config.json beside the weights, against create_transform."""
    from timm.data import create_transform

    mean, std = (0.5, 0.4, 0.3), (0.25, 0.5, 0.2)
    config = {
        "input_size": [3, 96, 96], "crop_pct": crop, "crop_mode": mode, "interpolation": "bilinear", "mean": mean,
        "std": std,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "convnext_atto", "pretrained_cfg": config}))
    ours = shown_as(tmp_path / "model.safetensors", "convnext_atto").preprocessing(3)
    settings = {key: value for key, value in config.items() if key != "input_size"}
    image = picture(*shape)
    alike(ours(image), create_transform((3, 96, 96), **settings)(image), std)


@pytest.mark.parametrize("entry", [e for e in PUBLISHED if e.startswith("timm:")][::7])
def test_published_entries_are_shown_as_timm_judges_them(entry: str) -> None:
    """A sample of the table, through timm's own resolution of their configurations."""
    import timm
    from timm.data import create_transform, resolve_data_config

    config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(entry.removeprefix("timm:")).to_dict())
    shown = shown_by_entry(entry)
    assert shown is not None
    image = picture(410, 300)
    alike(shown.preprocessing(3)(image), create_transform(**config)(image))


def test_timms_own_networks_bring_their_statistics(tmp_path: Path) -> None:
    """A ViT of timm's was trained on pictures in [-1, 1], and is judged on 90 % of them."""
    shown = shown_as(tmp_path / "vit.safetensors", "timm:vit_small_patch16_224.augreg_in21k_ft_in1k")
    assert (shown.mean, shown.std, shown.crop) == ((0.5,) * 3, (0.5,) * 3, 0.9)


@pytest.mark.parametrize(
    ("change", "rule"),
    [({"crop_mode": "zoom"}, "zoom"), ({"std": [0.2, 0.2, 0.0]}, "std"), ({"mean": [0.1]}, "mean"),
     ({"crop_pct": 7}, "crop_pct"), ({"input_size": []}, "not in words that are known")],
)  # fmt: skip
def test_a_configuration_that_cannot_be_is_refused(change: dict[str, Any], rule: str, tmp_path: Path) -> None:
    """It names the file; a config.json of something else is no configuration of timm's and is passed over."""
    config = {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.5] * 3} | change
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": config}))
    with pytest.raises(WeightsError, match=rule):
        shown_as(tmp_path / "a.pth", "convnext_atto")
    for text in ("{", "[1]", '{"model_type": "convnext"}'):
        (tmp_path / "config.json").write_text(text)
        assert shown_as(tmp_path / "a.pth", "convnext_atto") == authors_way(224)


def test_evaluate_at_384_warps_and_says_so(stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bare file judged at 384 is shown whole pictures; the line on stderr names the way."""
    network = create_model("convnext_atto", num_classes=2)
    torch.save(from_native(network.state_dict(), "timm"), tmp_path / "bare.pth")
    loaded = load_file(tmp_path / "bare.pth", "convnext_atto", ("a", "b"), 384, None)
    assert (loaded.preprocessing.fit, loaded.preprocessing.size) == ("squash", 384)
    assert "384 pixels, squashed to the square, bicubic, imagenet" in capsys.readouterr().err
    small = load_file(tmp_path / "bare.pth", "convnext_atto", ("a", "b"), 64, "symmetric").preprocessing
    assert (small.fit, small.mean, T.eval_resize(small.size, small.crop_ratio)) == ("crop", (0.5,) * 3, 73)


def test_the_recipes_at_384_squash_and_no_other_does() -> None:
    """As the authors judge; the shipped recipes below 384 crop."""
    for name in shipped_names():
        data = load_recipe(find_recipe(name)).data
        large = data.eval_size != "auto" and int(data.eval_size) >= 384
        assert data.fit == ("squash" if large else "crop"), name
    assert all(weights.squash == (weights.size >= 384) for weights in PUBLISHED.values())


@pytest.mark.parametrize(
    ("settings", "mean", "std", "expected"),
    [
        ([], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], ("symmetric", (), ())),
        ([], [0.4, 0.3, 0.2], [0.3, 0.2, 0.1], ("imagenet", (0.4, 0.3, 0.2), (0.3, 0.2, 0.1))),
        (["model.in_chans=1"], [0.4, 0.3, 0.2], [0.3, 0.2, 0.1], ("imagenet", (0.3,), (0.2,))),
        (["data.normalization=unit"], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], ("unit", (), ())),
        ([], list(IMAGENET[0]), list(IMAGENET[1]), ("imagenet", (), ())),
    ],
)
def test_training_goes_on_with_the_statistics_of_its_weights(
    settings: list[str], mean: list[float], std: list[float], expected: tuple[Any, ...], tmp_path: Path
) -> None:
    """Where the recipe leaves them open; what is not ImageNet's is said."""
    config = {"input_size": [3, 64, 64], "mean": mean, "std": std}
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": config}))
    plan = Plan(load_recipe(None, ["model.name=convnext_atto", *settings]))
    choose_statistics(plan, Found(tmp_path / "model.safetensors", str(tmp_path / "model.safetensors")))
    data = plan.recipe.data
    assert (data.normalization, data.mean) == expected[:2]
    assert data.std == pytest.approx(expected[2])
    assert len(plan.choices) == (not settings or "in_chans" in settings[0]) * (mean != list(IMAGENET[0]))


@pytest.mark.parametrize("fit", T.FITS)
def test_a_run_keeps_its_fit_and_judges_by_it(fit: str, stripes: Path, tmp_path: Path) -> None:
    """In validation, in the model file and from the model file; one without the word crops, as all did before."""
    settings = ["weights=none", "model.name=convnext_atto", "data.size=32", "train.batch=16", "train.epochs=1",
                "data.workers=0", "train.precision=fp32", f"data.fit={fit}", "data.mean=[0.5,0.4,0.3]",
                "data.std=[0.2,0.2,0.25]", "model.init=fan_in"]  # fmt: skip
    run = train_run(stripes, load_recipe(None, settings), tmp_path / "run")
    seen = load_all(run.path, which="last").preprocessing
    assert (seen.fit, seen.mean, seen.std) == (fit, (0.5, 0.4, 0.3), (0.2, 0.2, 0.25))
    assert seen.crop_ratio == (0.875 if fit == "crop" else 1.0)
    wide = picture(90, 30)
    expected = {
        "crop": transforms.Compose([transforms.Resize(37, InterpolationMode.BICUBIC), transforms.CenterCrop(32)]),
        "squash": transforms.Resize((32, 32), InterpolationMode.BICUBIC),
        "pad": lambda image: _padded(image, seen.mean),
    }[fit](wide)
    alike(seen(wide), transforms.Normalize(seen.mean, seen.std)(transforms.ToTensor()(expected)), seen.std)
    network = load_all(run.path, which="last").model
    file = save(network, tmp_path / "old.safetensors", classes=["a", "b"], preprocessing=seen)
    from convnext.nn.weights.load import read_model, save_model

    state, config = read_model(file)
    assert config is not None
    del config["preprocessing"]["fit"]
    save_model(file, state, config)
    assert load_all(file).preprocessing.fit == "crop"


def _padded(image: Image.Image, mean: tuple[float, ...]) -> Image.Image:
    """The whole picture on a square of the mean colour, by Pillow."""
    width, height = (round(32 * n / max(image.size)) for n in image.size)
    square = Image.new("RGB", (32, 32), tuple(round(255 * m) for m in mean))
    square.paste(image.resize((width, height), Image.Resampling.BICUBIC), ((32 - width) // 2, (32 - height) // 2))
    return square


@pytest.mark.parametrize("shape", [(1, 400), (400, 1), (3, 5), (31, 33)])
@pytest.mark.parametrize("fit", T.FITS)
def test_pictures_of_any_shape_become_squares(fit: str, shape: tuple[int, int]) -> None:
    """A line of pixels too, in evaluation and in training."""
    image = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    assert central_view(*shape, 32, 0.875, fit, IMAGENET[0]).picture(image, "bicubic").shape == (3, 32, 32)
    for rotation in (0.0, 20.0):
        transform = A.TrainTransform(DataRecipe(fit=fit), AugmentRecipe(rotation=rotation), 32, 3)  # type: ignore[arg-type]
        for seed in range(5):
            assert transform(image, seed).shape == (3, 32, 32)


def test_padding_trains_on_the_whole_picture_and_its_border() -> None:
    """Where nothing is cut the view is that of evaluation; smaller boxes show at least half of what they could."""
    image = T.to_tensor(picture(90, 30))
    whole = central_view(30, 90, 36, 1.0, "pad", IMAGENET[0])
    assert padded_frame((0, 0, 90, 90), 30, 90, 36) == (whole.box, whole.place)
    plain = AugmentRecipe(crop_min=0.1, flip=0.0, color_jitter=0.0)
    transform = A.TrainTransform(DataRecipe(fit="pad"), plain, 36, 3)
    fill = T.filled(1, 1, IMAGENET[0])
    for seed in range(60):
        shown = (transform(image, seed) != fill).any(0).float().mean()
        assert shown >= 0.16  # half of a third, or of a box inside of it


def test_squashing_trains_as_the_authors_do_on_ordinary_pictures() -> None:
    """Up to twice as long as wide the draws are those of cropping; beyond, crops may be as long as the picture."""
    plain = AugmentRecipe(flip=0.0, color_jitter=0.0)
    crop, squash = (A.TrainTransform(DataRecipe(fit=fit), plain, 24, 3) for fit in ("crop", "squash"))
    ordinary, wide = T.to_tensor(picture(90, 50)), T.to_tensor(picture(200, 40))
    assert all(torch.equal(crop(ordinary, seed), squash(ordinary, seed)) for seed in range(10))
    assert not all(torch.equal(crop(wide, seed), squash(wide, seed)) for seed in range(10))
    draw = random.Random(0)
    boxes = [A.random_box(draw, 40, 200, 0.35, A.squash_aspects(40, 200)) for _ in range(300)]
    widest = max(width / height for _, _, height, width in boxes)
    assert 3.5 < widest <= 5.1
    assert max(width for *_, width in boxes) > 150


@pytest.mark.parametrize(
    ("data", "rule"),
    [({"mean": [0.5, float("nan"), 0.5], "std": [1, 1, 1]}, "data.mean"), ({"mean": [0.5]}, "as many numbers"),
     ({"std": [0.5]}, "as many numbers"), ({"mean": [0.5], "std": [0.0]}, "data.std"),
     ({"mean": [123.7] * 3, "std": [58.4] * 3}, "data.mean"), ({"mean": [0.5], "std": [float("inf")]}, "data.std"),
     ({"fit": "stretch"}, "data.fit")],
)  # fmt: skip
def test_statistics_that_cannot_be_are_refused(data: dict[str, Any], rule: str) -> None:
    """Finite, in [0, 1], deviations above 0, one of each for a channel."""
    with pytest.raises(RecipeError, match=rule):
        check_recipe({"data": data})


def test_statistics_are_one_for_each_channel() -> None:
    """Too few or too many for model.in_chans is the user's mistake; the right number takes the place of the name."""
    data = check_recipe({"data": {"mean": [0.1], "std": [0.5]}}).data
    assert T.channel_statistics(data, 1) == ((0.1,), (0.5,))
    with pytest.raises(RecipeError, match=r"has 1 values; the pictures have 3 channels"):
        T.channel_statistics(data, 3)
    assert T.channel_statistics(Recipe().data, 3) == IMAGENET


@pytest.mark.parametrize(
    "change", [{"size": 0}, {"std": (0.0, 1.0, 1.0)}, {"mean": (float("nan"),) * 3}, {"fit": "zoom"}, {"in_chans": 2},
               {"crop_ratio": 0.0}, {"interpolation": "nearest"}, {"mean": (0.1, 0.2)}],
)  # fmt: skip
def test_a_preprocessing_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    """From Python as from a file."""
    with pytest.raises(UserError, match="preprocessing: "):
        Preprocessing(**({"size": 32} | change))


def test_the_doctor_says_when_pictures_are_far_from_square(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A note for a few, a warning where they are many; it names the settings."""
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(10):
            picture(120 if i % 2 else 60, 50, seed=i + 10 * (name == "b")).save(tmp_path / "data" / name / f"{i}.png")
    found = next(f for f in diagnose(tmp_path / "data").findings if f.kind == "elongated")
    assert (found.level, len(found.cases)) == ("warning", 10)
    assert "data.fit=pad" in found.advice
    assert main(["doctor", str(tmp_path / "data")]) in (0, 2)
    assert "far from square" in capsys.readouterr().out
