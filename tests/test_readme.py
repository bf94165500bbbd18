"""What the README and the documentation say must be true."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convnext
from convnext.cli.app import app
from convnext.config import all_keys
from convnext.nn.tables.variants import MODELS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(text: str) -> list[list[str]]:
    """Every line that starts with `convnext `, in a block or between backticks."""
    lines = re.findall(r"^ {4}(convnext .+)$|`(convnext [^`]+)`", text, flags=re.M)
    return [shlex.split((a or b).partition(" #")[0], comments=False) for a, b in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_use_subcommands_options_and_keys_that_exist(page: Path) -> None:
    """Each command of a page names a real subcommand, its options, and keys of the recipe."""
    import typer

    group = typer.main.get_command(app)
    for words in commands(page.read_text(encoding="utf-8")):
        name = words[1].strip(",;:")
        if name.startswith("-"):
            continue
        assert name in group.commands, words  # type: ignore[attr-defined]
        command = group.commands[name]  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            assert words[2] in command.commands, words
            command = command.commands[words[2]]
        options = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)}
        for word in words[2:]:
            if word.startswith("--"):
                assert word in options, (page.name, words)
            elif re.match(r"^(train|data|model|augment)\.\w+=", word):
                assert word.partition("=")[0] in all_keys(), (page.name, words)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_pictures_exist(page: Path) -> None:
    """Every relative link leads to a file."""
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", text):
        link = target[0] or target[1]
        if not link.startswith("http"):
            assert (page.parent / link).exists(), (page.name, link)


@pytest.mark.filterwarnings("ignore:Exception ignored in")  # one line leaves a file for Python to close
def test_the_readmes_lines_of_python_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They run in their order as they stand, but for the network, the weights and the length."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"^## In Python\n```python\n(.*?)^```", text, flags=re.M | re.S)
    small = {
        "model": {"name": "convnext_atto"}, "weights": "none", "data": {"size": 32, "workers": 0},
        "train": {"batch": 8, "precision": "fp32"},
    }  # fmt: skip
    for given, instead in (
        ('"finetune/small"', "small"), ("minutes=20", "epochs=1"), ('weights="auto"', 'weights="none"'),
        ('"convnext_tiny"', '"convnext_atto"'),
    ):  # fmt: skip
        assert lines.count(given) == 1
        lines = lines.replace(given, instead)
    rng = np.random.default_rng(0)
    for number in range(30):
        place = tmp_path / "photos" / ("a", "b", "c")[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(place / f"{number}.png")
    (tmp_path / "new").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "new" / name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"small": small}
    exec(compile(lines, "README.md", "exec"), names)
    assert (tmp_path / "runs/photos/report.html").exists()
    told = capsys.readouterr().out.splitlines()
    assert told[0].split()[1] == "runs/photos/report.html"
    assert [line.split()[0] in "abc" for line in told[1:]] == [True, True]
    assert names["vectors"].shape == (2, 320)
    assert convnext.load("own.safetensors").classes == ("a", "b", "c", "d", "e")


def test_the_readmes_table_of_models_is_the_table_of_models() -> None:
    """Names, depths, dims and parameters."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, spec in MODELS.items():
        depths, dims = (", ".join(map(str, values)) for values in (spec.depths, spec.dims))
        assert f"| `{name}` | {depths} | {dims} | {spec.params / 1e6:.1f} M |" in text


def test_documented_files_of_a_run_are_those_that_exist() -> None:
    """The tour's table of the run folder names files that the code writes."""
    from convnext.run import folder

    table = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8").split("## The run folder")[1]
    named = set(re.findall(r"`([\w.]+\.(?:toml|json|jsonl|csv|safetensors|pt|html))`", table))
    assert named == {
        name for name in (*folder._REST, *folder._MARKS, *folder._BEGUN) if "/" not in name and "*" not in name
    }
