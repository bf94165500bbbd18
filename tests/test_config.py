"""Recipes: reading, overriding, explaining every mistake, and writing back."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convnext import key_names
from convnext.config import all_keys, check_recipe, get, load_recipe, override, recipe_of, split_settings, to_toml
from convnext.errors import RecipeError
from convnext.recipe import Recipe

FOLDER = Path(__file__).resolve().parents[1] / "recipes"
RECIPES = sorted(file for file in FOLDER.rglob("*.toml") if file.parent.name != "spaces")


def test_a_recipe_survives_the_way_through_toml() -> None:
    """Written and read again, a recipe is the same; every key of the schema stands in the file with its meaning."""
    recipe = load_recipe(
        None, ["train.epochs=7", "data.classes=['a \"b\"', 'c\\\\d']", "train.lr=3e-4", "weights=none"]
    )
    text = to_toml(recipe, "a header\nof two lines")
    assert check_recipe(tomllib.loads(text)) == recipe
    assert text.startswith("# a header\n# of two lines\n")
    for key in all_keys():
        name = key.rpartition(".")[2]
        line = next(line for line in text.splitlines() if line.startswith(f"{name} = "))
        assert len(line.split(" # ")[1]) > 10, key


@settings(deadline=None)
@given(st.text(max_size=20), st.floats(1e-6, 10), st.integers(1, 10**6))
def test_any_value_survives_the_way_through_toml(name: str, lr: float, epochs: int) -> None:
    """Strings with quotes, newlines and control characters too."""
    recipe = override(Recipe(), {"data.path_column": name, "train.lr": lr, "train.epochs": epochs})
    assert check_recipe(tomllib.loads(to_toml(recipe))) == recipe


def test_all_mistakes_are_told_at_once_with_hints() -> None:
    """Each with its key, its value, the rule, and the nearest name."""
    settings = ["train.epoch=5", "train.lr=-3", "data.normalization=imagnet", "wieghts=none", "model.stem_patch=3"]
    with pytest.raises(RecipeError) as caught:
        load_recipe(None, [*settings, "epochs=3", "train.batch=many"])
    text = str(caught.value)
    assert "7 mistakes" in text
    assert 'train.epoch: there is no such key; did you mean "train.epochs"?' in text
    assert 'epochs: there is no such key; did you mean "train.epochs"?' in text
    assert 'wieghts: there is no such key; did you mean "weights"?' in text
    assert "train.lr = -3: must be greater than 0" in text
    assert 'data.normalization = "imagnet"' in text
    assert 'did you mean "imagenet"?' in text
    assert "model.stem_patch = 3" in text
    assert 'train.batch = "many"' in text


@pytest.mark.parametrize(
    ("given_name", "name"),
    [("[0, 1]", "unit"), ("[-1,1]", "symmetric"), ("ImageNet", "imagenet"), ("unit", "unit")],
)
def test_normalization_has_three_names(given_name: str, name: str) -> None:
    """By name or as a range, in any spacing."""
    assert load_recipe(None, [f"data.normalization={given_name}"]).data.normalization == name


def test_a_new_budget_replaces_the_epochs_of_a_recipe(tmp_path: Path) -> None:
    """`train.minutes` on the command line counts although the file names epochs; both given, epochs win."""
    file = tmp_path / "r.toml"
    file.write_text("[train]\nepochs = 90\n")
    assert load_recipe(file, ["train.minutes=5"]).train.epochs == "auto"
    assert load_recipe(file, ["train.minutes=5", "train.epochs=3"]).train.epochs == 3
    assert load_recipe(file).train.epochs == 90


@pytest.mark.parametrize(
    ("content", "match"),
    [("[train\n", "not valid TOML"), (b"\xff\xfe", "cannot be read"), (None, "there is no recipe")],
)
def test_unreadable_recipes_are_explained(tmp_path: Path, content: str | bytes | None, match: str) -> None:
    """A missing file, a file that is not TOML, a file that is not text."""
    file = tmp_path / "r.toml"
    if isinstance(content, str):
        file.write_text(content)
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(RecipeError, match=match):
        load_recipe(file)


def test_words_after_data_are_sorted_into_file_and_settings() -> None:
    """One recipe at most; a setting without a value is refused."""
    assert split_settings(["a.toml", "train.lr=1"]) == (Path("a.toml"), ["train.lr=1"])
    assert split_settings([]) == (None, [])
    with pytest.raises(RecipeError, match="one recipe at most"):
        split_settings(["a.toml", "b.toml"])
    with pytest.raises(RecipeError, match="is not a setting"):
        load_recipe(None, ["=3"])


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_shipped_recipes_are_complete_and_say_what_they_cost(path: Path) -> None:
    """Each names every key, so that no default of a later version changes it, and its header tells command and cost."""
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    recipe = check_recipe(raw)
    for key in all_keys():
        table, _, name = key.rpartition(".")
        assert name in (raw[table] if table else raw), key
        assert get(recipe, key) is not None
    header = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert "convnext train" in " ".join(header.replace("#", "").split())
    assert "# Cost: " in header


def test_true_is_no_number_and_no_word() -> None:
    """Not even 1, which it would be in Python; where a switch belongs, it is one."""
    with pytest.raises(RecipeError) as told:
        load_recipe(None, ["train.epochs=true", "train.betas=[false,0.9]", "weights=none", "train.ema=false"])
    text = str(told.value)
    assert "2 mistakes" in text
    assert "train.epochs = true: true and false are for switches" in text
    assert "train.betas = [false, 0.9]" in text
    assert load_recipe(None, ["train.ema=false"]).train.ema is False


def test_a_setting_may_mend_a_recipe(tmp_path: Path) -> None:
    """What replaces a mistake is enough; else the file's own mistakes are told before those of the command line."""
    file = tmp_path / "mine.toml"
    file.write_text("[train]\nepochs = -3\n")
    assert load_recipe(file, ["train.epochs=3"]).train.epochs == 3
    with pytest.raises(RecipeError, match=r"mine\.toml has 1 mistake"):
        load_recipe(file, ["train.batch=-1"])
    with pytest.raises(RecipeError, match="with these settings has 1 mistake"):
        load_recipe(file, ["train.epochs=3", "train.batch=-1"])


def test_a_recipe_may_begin_with_a_mark(tmp_path: Path) -> None:
    """Windows' editors write one; the recipe is that without it."""
    text = '[train]\nepochs = 3\n\n[data]\nlabel_column = "été"\n'
    for name, mark in (("plain.toml", b""), ("mark.toml", b"\xef\xbb\xbf")):
        (tmp_path / name).write_bytes(mark + text.encode())
    assert load_recipe(tmp_path / "mark.toml") == load_recipe(tmp_path / "plain.toml")
    assert load_recipe(tmp_path / "mark.toml").data.label_column == "été"
    (tmp_path / "utf16.toml").write_bytes(text.encode("utf-16"))
    with pytest.raises(RecipeError, match="give a TOML file in UTF-8"):
        load_recipe(tmp_path / "utf16.toml")


def test_a_recipe_may_have_an_equals_sign_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word with one is a setting where it begins with a key, else a file, in any folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=1").mkdir()
    for name in ("a=b.toml", "lr=1/plain.toml", "lr=1/x"):
        (tmp_path / name).write_text("[train]\nepochs = 7\n")
        file, overrides = split_settings([name, "train.lr=0.5", "data.label_column=x.toml"])
        assert (file, overrides) == (Path(name), ["train.lr=0.5", "data.label_column=x.toml"])
        recipe = load_recipe(file, overrides)
        assert (recipe.train.epochs, recipe.train.lr, recipe.data.label_column) == (7, 0.5, "x.toml")
    with pytest.raises(RecipeError, match=r"there is no recipe no=where\.toml"):
        load_recipe(*split_settings(["no=where.toml"]))
    with pytest.raises(RecipeError, match=r"train\.lrr: there is no such key"):
        load_recipe(*split_settings(["train.lrr=0.5"]))


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        ("train.learning_rate", "train.lr"), ("train.batch_size", "train.batch"), ("lr0", "train.lr"),
        ("train.dropout", "model.drop_path"), ("model.drop_path_rate", "model.drop_path"),
        ("data.image_size", "data.size"), ("train.img_size", "data.size"), ("data.num_workers", "data.workers"),
        ("train.loss", "task.loss"), ("train.class_weights", "train.class_balance"),
        ("train.early_stopping", "train.patience"), ("train.amp", "train.precision"), ("train.gpu", "train.device"),
        ("train.random_state", "train.seed"), ("augment.hflip", "augment.flip"), ("model.arch", "model.name"),
        ("model.pretrained", "weights"), ("train.scheduler", "train.min_lr"), ("train.wd", "train.weight_decay"),
        ("train.gradient_accumulation_steps", "train.micro_batch"), ("data.target_column", "data.label_column"),
        ("train.gradient-clip-val", "train.clip_grad"), ("data.Val_Split", "data.val"), ("train.size", "data.size"),
        ("data.dir", "data.root"), ("data.group_by", "data.group_column"), ("train.Epochs", "train.epochs"),
    ],
)  # fmt: skip
def test_a_key_by_another_name_leads_to_the_one_that_does_the_job(asked: str, key: str) -> None:
    """Not to the nearest letters."""
    with pytest.raises(RecipeError, match=f'{asked}: there is no such key; did you mean "{key}"'):
        load_recipe(None, [f"{asked}=1"])


def test_no_name_is_claimed_by_two_keys() -> None:
    """Else the order of the table would decide."""
    words = [word for names in key_names._NAMES.values() for word in names.split()]
    assert sorted(words) == sorted(set(words))


def test_a_wrong_word_is_answered_with_the_nearest_that_the_key_takes() -> None:
    """A near miss is named; a word that resembles none of the choices gets no advice from another key."""
    with pytest.raises(RecipeError, match=r'train\.logger = "mlflw".*did you mean "mlflow"\?'):
        check_recipe({"train": {"logger": "mlflw"}})
    with pytest.raises(RecipeError) as error:
        check_recipe({"train": {"logger": "neptune"}})
    assert "did you mean" not in str(error.value)


@pytest.mark.parametrize("chosen", [{"minutes": 3}, {"train.minutes": 3}, {"train": {"minutes": 3}}])
def test_a_budget_from_python_replaces_the_length_however_it_is_named(chosen: dict[str, Any]) -> None:
    """As on the command line: a recipe's epochs do not outlast the minutes that were asked for."""
    assert load_recipe(Path("finetune/small")).train.epochs != "auto"
    recipe = recipe_of("finetune/small", chosen)
    assert recipe == load_recipe(Path("finetune/small"), ["train.minutes=3"])
    assert (recipe.train.minutes, recipe.train.epochs) == (3, "auto")


def test_numbers_of_numpy_are_settings() -> None:
    """As they come from a loop over np.arange or from a table."""
    mean = np.array([0.5, 0.25, 0.5])
    chosen: dict[str, Any] = {"epochs": np.int64(3), "lr": np.float64(0.25), "mean": mean, "std": [1, 1, 1]}
    recipe = recipe_of(None, chosen)
    assert (recipe.train.epochs, recipe.train.lr, recipe.data.mean) == (3, 0.25, (0.5, 0.25, 0.5))
    assert type(recipe.train.epochs) is int


@pytest.mark.parametrize("wrong", ["0.5", "a", "a,b", "0.5,0.5"])
def test_every_list_is_explained_by_an_example_of_its_own_that_is_right(wrong: str) -> None:
    """The example in the message, read as a shell reads it, is a setting that the recipe takes; no word in it is taken
    for what was meant."""
    lists = [key for key in all_keys() if isinstance(get(Recipe(), key), tuple)] + ["data.value_range"]
    assert {"data.mean", "data.std", "data.classes", "data.ignore_columns", "train.betas"} <= set(lists)
    for key in lists:
        with pytest.raises(RecipeError, match="a list, as ") as error:
            load_recipe(None, [f"{key}={wrong}"])
        example = shlex.split(str(error.value).partition(", as ")[2])[0]
        assert example.startswith(f"{key}=[")
        assert "did you mean" not in str(error.value)
        other = {"data.mean": "data.std=[1,1,1]", "data.std": "data.mean=[0,0,0]"}.get(key)
        assert len(get(load_recipe(None, [example, *([other] if other else [])]), key)) > 0
