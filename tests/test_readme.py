"""What the README and the documentation say must be true."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from convnext.cli import app
from convnext.config import all_keys
from convnext.nn.variants import MODELS

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
