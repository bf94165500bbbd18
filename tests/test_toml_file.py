"""TOML of a stranger's is read, or refused in words and at once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from convnext.config import as_dict, load_complete, load_recipe
from convnext.errors import RecipeError
from convnext.recipe import Recipe
from convnext.study.space import load_space
from convnext.toml_file import LEVELS, MOST, parse_toml

BOMBS = {
    "a key of many parts": "train." + ".".join(["a"] * 20_000) + " = 1",
    "with blanks": "train." + " . ".join(["a"] * 20_000) + " = 1",
    "with quotes": ".".join(['"a b"'] * 20_000) + " = 1",
    "of a table": "[" + ".".join(["'a'"] * 20_000) + "]",
    "in a table in a line": "train = {" + ".".join(["a"] * 20_000) + " = 1}",
    "behind strings": "train = {x = '''\n#''', " + ".".join(["a"] * 20_000) + " = 'z'}",
    "between comments": '# """\n' + ".".join(["a"] * 20_000) + ' = 1\n# """\n',
    "strings without end": 'x = """' + ' \\"""' * 200_000,
    "a string without end": 'x = "' + '\\"' * 500_000,
    "lists in lists": "train.betas = [true, " + "[" * 200 + "]" * 200 + "]",
    "lists without end": "train.betas = " + "[" * 20_000,
    "tables in tables": "\n".join("[" + ".".join(f"t{i}" for i in range(n)) + "]" for n in range(1, 40)),
    "many unknown keys": "[train]\n" + "\n".join(f"k{i} = 1" for i in range(20_000)),
    "a long key": f'[train]\n"{"x" * 1_000_000}" = 1',
    "a long value": f'model.init = "{"x" * 1_000_000}"',
    "digits": f"train.epochs = {'9' * 5000}",
    "more digits": f"train.epochs = 0x{'f' * 40_000}\n[data]\nsize = 0x{'f' * 40_000}",
    "a file without end": "#" * (MOST + 1),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    """As a recipe and as a search space: a message of a few lines, in a second of computing."""
    path = tmp_path / "recipe.toml"
    path.write_text(BOMBS[kind])
    start = time.process_time()
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, ["train.lr=0.1"])
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 25_000
    with pytest.raises(RecipeError):
        load_space(path, Recipe())
    assert time.process_time() - start < 5


def test_a_pipe_is_no_recipe(tmp_path: Path) -> None:
    """A run folder that was unpacked may hold one in the place of its recipe: it is not waited for."""
    os.mkfifo(tmp_path / "recipe.toml")
    for read in (load_recipe, load_complete):
        with pytest.raises(RecipeError, match="no plain file"):
            read(tmp_path / "recipe.toml")


def test_honest_files_are_read_as_they_were() -> None:
    """Dots in names, numbers, paths and comments are no parts of keys, and a long list of classes is a list."""
    names = [f"n{i:08d}.x.y" for i in range(20_000)]
    dots = ".".join("abcdefghijklmnopqrstuvwxyz")
    text = f"# {dots} = 1\ndata.root = '/data/{dots}/x' # {'.' * 40}\ndata.classes = {names!r}\n"
    text += f'train.lr = 0.5\nx = """\n{".".join("abcdefg")} = "a"\n"""\n'
    found = parse_toml(text.encode())
    assert found["data"] == {"root": f"/data/{dots}/x", "classes": names}
    assert found["train"] == {"lr": 0.5}
    assert parse_toml((".".join("a" * (LEVELS - 1)) + " = 1").encode())


def test_a_number_of_any_length_is_told(tmp_path: Path) -> None:
    """More digits than Python writes out are shown in part."""
    path = tmp_path / "recipe.toml"
    path.write_text(f"train.epochs = 0x{'f' * 8000}")
    with pytest.raises(RecipeError, match=r"train.epochs = 0xf{398}\.\.\.: must be"):
        load_recipe(path)
    with pytest.raises(RecipeError, match=r"train\.epochs"):
        load_recipe(None, [f"train.epochs={'9' * 5000}"])
    assert as_dict(load_recipe(None, [])) == as_dict(Recipe())
