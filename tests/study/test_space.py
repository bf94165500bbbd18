"""Search spaces: what may be varied, and that every mistake is told before the first trial."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from convnext.config import load_recipe
from convnext.errors import RecipeError
from convnext.study.space import find_space, load_space, without

SETTINGS = ["weights=none", "model.name=convnext_atto", "data.size=32", "model.stem_patch=4", "train.batch=8"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('["train.lrr"]\nlow = 1\nhigh = 2\n', 'did you mean "train.lr"'),
        ('["train.lr"]\nlow = 2.0\nhigh = 1.0\n', "low = 2.0 must be below high = 1.0"),
        ("[train.lr]\nlow = 2.0\nhigh = 1.0\n", "train.lr: low = 2.0 must be below"),
        ('["train.lr"]\nlow = 1e-3\nhigh = inf\n', "must be numbers"),
        ('["train.lr"]\nlow = 1e-3\nhigh = 1e-2\nlog = "yes"\n', "must be true or false"),
        ('["train.lr"]\nlow = 1e-3\nhigh = 1e-2\nstp = 1\n', 'did you mean "step"'),
        ('["augment.mixup"]\nlow = 0.0\nhigh = 1.0\nstep = 0.3\n', "a number of steps of 0.3"),
        ('["augment.mixup"]\nchoices = [0.2, 0.2]\n', "choices have 0.2 twice"),
        ('["train.betas"]\nchoices = [[0.9, 0.99]]\n', "must be numbers, words"),
        ('["train.batch"]\nlow = 8.0\nhigh = 32.0\n', "train.batch"),
        ('["model.stem_patch"]\nlow = 1\nhigh = 4\n', "model.stem_patch"),
        ('["data.val"]\nlow = 0.1\nhigh = 0.3\n', "decides on which pictures"),
        ('["train.lrr"]\nlow = 1\nhigh = 2\n["train.lr"]\nlow = 1\n', "has 2 mistakes"),
        ('["train.lr"]\nlow = 0.0\nhigh = 1.0\nlog = true\n', "low must be above 0"),
        ('["train.lr"]\nlow = 1.0\n', "give low and high"),
        ('["train.lr"]\nchoices = []\n', "choices must be a list"),
        ('["train.precision"]\nchoices = ["fp8"]\n', "train.precision"),
        ('["model.drop_path"]\nlow = 0.0\nhigh = 1.5\n', "model.drop_path"),
        ("", "it varies nothing"),
        ('["train.ema"]\nlow = 0\nhigh = 1\n', "train.ema: is on or off"),
        ('["model.name"]\nchoices = ["convnext_atto", "convnext_atom"]\n', "convnext_atom"),
        ('["train.epochs"]\nchoices = [true]\n', "train.epochs"),
        ("[[", "cannot be read"),
    ],
)
def test_a_space_with_mistakes_is_refused_before_the_first_trial(text: str, words: str, tmp_path: Path) -> None:
    """Each with its key and what is wrong."""
    file = tmp_path / "space.toml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=re.escape(words)):
        load_space(file, load_recipe(None, SETTINGS))


def test_whole_numbers_stay_whole_and_others_do_not(tmp_path: Path) -> None:
    """By the key, not by how the ends are written: a batch is whole, a mixup from 0 to 1 is not; steps are kept."""
    file, recipe = tmp_path / "space.toml", load_recipe(None, SETTINGS)
    file.write_text('[train.batch]\nlow = 8\nhigh = 32\nstep = 8\n["augment.mixup"]\nlow = 0\nhigh = 1\n')
    batch, mixup = load_space(file, recipe)
    assert (batch.key, batch.whole, batch.samples()) == ("train.batch", True, (8, 16, 24, 32))
    assert (mixup.key, mixup.whole) == ("augment.mixup", False)
    assert without((batch, mixup), ["train.batch=16"]) == (mixup,)
    with pytest.raises(RecipeError, match="nothing is left to vary"):
        without((mixup,), ["augment.mixup=0.1"])


def test_shipped_spaces_are_the_papers() -> None:
    """The light sweeps of Appendix A.3, and a general one."""
    recipe = load_recipe(None, SETTINGS)
    coco = {knob.key: knob.choices for knob in load_space(find_space("coco"), recipe)}
    assert coco == {
        "train.lr": (1e-4, 2e-4), "train.layer_decay": (0.7, 0.8, 0.9, 0.95),
        "model.drop_path": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    }  # fmt: skip
    ade = {knob.key: knob.choices for knob in load_space(find_space("ade20k"), recipe)}
    assert ade == {"train.lr": (8e-5, 1e-4), "train.layer_decay": (0.8, 0.9), "model.drop_path": (0.3, 0.4, 0.5)}
    assert len(load_space(find_space("general"), recipe)) >= 5
    with pytest.raises(RecipeError, match='did you mean "general"'):
        find_space("generl")
