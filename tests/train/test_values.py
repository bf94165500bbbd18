"""The range of values of a data set: from the training pictures into the recipe, the readers and the model file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.config import override
from convnext.data.shards.open import open_shards
from convnext.data.shards.writer import write_shards
from convnext.data.sources.reading import Reading
from convnext.errors import DataError, RecipeError
from convnext.recipe import Recipe
from convnext.tasks.classify.targets import ClassTargets, read_dataset
from convnext.train.parts import make_parts, model_config
from convnext.train.plan import Plan
from convnext.train.values import choose_range

CHOSEN = {
    "data.size": 32, "data.eval_size": 32, "data.start_size": 32,
    "model.name": "convnext_atto", "model.stem_patch": 2, "model.drop_path": 0.0, "model.layer_scale": 0.0,
    "model.init": "paper", "train.device": "cpu", "weights": "none", "train.precision": "fp32", "train.ema_decay": 0.9,
    "data.value_range": "auto", "data.crop_ratio": 1.0, "data.normalization": "unit",
}  # fmt: skip


def folder(root: Path, high: float, kind: str = "f4") -> Path:
    """Two classes of 12 pictures of noise up to `high`; only the first has that value."""
    rng = np.random.default_rng(0)
    for name in "ab":
        (root / name).mkdir(parents=True)
        for number in range(12):
            values = (rng.random((32, 32)) * high * (0.9 if number else 1)).astype(kind)
            Image.fromarray(values).save(root / name / f"{number}.tif")
    return root


def planned(root: Path, **given: object) -> Plan:
    plan = Plan(override(Recipe(), CHOSEN | {f"data.{key}": value for key, value in given.items()}))
    choose_range(plan, read_dataset(root))
    return plan


@pytest.mark.parametrize(("high", "expected"), [(1.0, (0.0, 1.0)), (250.0, (0.0, 255.0)), (300.0, (0.0, 65535.0))])
def test_training_and_judging_see_one_scale(tmp_path: Path, high: float, expected: tuple[float, float]) -> None:
    """Chosen once, said with its reason, the same for training, validation and the model file."""
    root = folder(tmp_path / "d", high)
    plan, dataset = planned(root), read_dataset(root)
    assert plan.recipe.data.value_range == expected
    assert "32-bit float values of" in next(c["why"] for c in plan.choices if c["key"] == "data.value_range")
    parts = make_parts(plan.recipe, dataset)
    assert parts.preprocessing.value_range == parts.train_set.value_range == expected
    assert model_config(plan.recipe, parts, {})["preprocessing"]["value_range"] == list(expected)
    for samples, seen in (
        (dataset.splits["train"], parts.train_set.decode(0)),
        (dataset.splits["val"], parts.preprocessing.view(dataset.splits["val"][0].path)),
    ):
        with Image.open(samples[0].path) as picture:
            scaled = np.asarray(picture).astype(np.float64) * 255 / expected[1]
        np.testing.assert_allclose(seen[0].numpy(), scaled, atol=0.51)


def test_pictures_of_8_bits_need_no_word(tmp_path: Path) -> None:
    """The setting is filled in, and nothing is said."""
    plan = planned(folder(tmp_path / "d", 255.0, "u1"))
    assert plan.recipe.data.value_range == "bits"
    assert plan.choices == []
    assert make_parts(plan.recipe, read_dataset(tmp_path / "d")).preprocessing.value_range is None


def test_nearly_black_pictures_are_said_and_mended(tmp_path: Path) -> None:
    """12 bits in 16, without being asked; with the range given nothing is said."""
    root = folder(tmp_path / "d", 4095.0, "u2")
    said = " ".join(choice["why"] for choice in planned(root).choices)
    assert "nearly black; data.value_range=[0, 4095] mends that" in said
    assert planned(root, value_range=[0, 4095]).choices == []
    assert "cut to black and white" in planned(root, value_range=[0, 1023]).choices[0]["why"]


def test_what_cannot_be_chosen_is_refused(tmp_path: Path) -> None:
    """Two scales; floats by their format; floats in shards, with the range that those looked at lie in."""
    root = folder(tmp_path / "d", 250.0)
    with pytest.raises(RecipeError, match=r'"bits": there are 32-bit float values.*value_range=\[0, 255\] if all do'):
        planned(root, value_range="bits")
    write_shards(read_dataset(root), tmp_path / "shards")
    shards = open_shards(tmp_path / "shards", Reading(), ClassTargets())
    assert shards is not None
    plan = Plan(override(Recipe(), CHOSEN))
    with pytest.raises(RecipeError, match=r'"auto": .*in shards it is not chosen by itself.*value_range=\[0, 255\]'):
        choose_range(plan, shards)
    plan.recipe = override(plan.recipe, {"data.value_range": [0, 255]})
    choose_range(plan, shards)
    assert make_parts(plan.recipe, shards).train_set.decode(0).float().std() > 50
    for number in range(12):
        Image.fromarray(np.full((32, 32), 0.5 + number / 100, np.float32)).save(
            root / "ab"[number % 2] / f"s{number}.tif"
        )
    with pytest.raises(DataError, match="these are two scales"):
        planned(root)
