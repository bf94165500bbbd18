"""The house's rules: who may import whom, what the public names are, what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import convnext

SOURCE = Path(convnext.__file__).parent
# a module imports from its own folder and from folders to its left
ORDER = ["data", "kernels", "nn", "heads", "metrics", "tasks", "run", "train"]
ORDER += ["evaluate", "study", "report", "deploy", "bench"]
ROOT = {"recipe", "config", "dotted", "errors", "files", "memory", "paper", "places", "key_names", "toml_file"}


def imported(path: Path) -> set[str]:
    """Folders and root modules of this package that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        modules += [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names |= {m.split(".")[1] for m in modules if m.startswith("convnext.")}
    return names


def test_modules_import_only_from_the_left() -> None:
    """Data flows one way: no module imports from a folder to its right, and nothing imports the command line."""
    offences = []
    for path in sorted(SOURCE.rglob("*.py")):
        where = path.relative_to(SOURCE).parts
        if len(where) == 1 or where[0] == "cli":
            continue
        allowed = set(ORDER[: ORDER.index(where[0]) + 1]) | ROOT
        offences += [f"{'/'.join(where)} imports {name}" for name in imported(path) - allowed]
    assert offences == []


def modules_imported(path: Path) -> set[str]:
    """Modules of this package that a file imports, anywhere in it, for type checkers too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.startswith("convnext.")}


def test_no_imports_go_round_in_a_circle() -> None:
    """Modules can be put in an order in which each imports only those before it, lazy imports counted."""
    files = {".".join(("convnext", *p.relative_to(SOURCE).with_suffix("").parts)): p for p in SOURCE.rglob("*.py")}
    files = {name.removesuffix(".__init__"): path for name, path in files.items() if name != "convnext.__init__"}
    left = {name: modules_imported(path) & files.keys() - {name} for name, path in files.items()}
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in free}
    assert {name: sorted(needs & left.keys()) for name, needs in left.items()} == {}


def test_headers_of_the_kernels_stand_alone() -> None:
    """No header includes another that includes it, directly or through others."""
    headers = {path.name: path.read_text(encoding="utf-8") for path in (SOURCE / "kernels" / "csrc").glob("*.h")}
    left = {name: {other for other in headers if f'#include "{other}"' in text} for name, text in headers.items()}
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in free}
    assert left == {}


def test_root_modules_import_no_folder() -> None:
    """recipe, config, errors and the published figures stand below everything else."""
    for name in ROOT:
        assert imported(SOURCE / f"{name}.py") <= ROOT, name


def test_public_names_are_what_is_documented() -> None:
    """Every public name can be had, has a docstring, and an unknown name is an AttributeError."""
    for name in convnext.__all__:
        value = getattr(convnext, name)
        assert isinstance(value, str) or value.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        convnext.nothing  # noqa: B018


def test_import_and_help_load_no_torch() -> None:
    """`import convnext` and `convnext --help` pull in neither torch nor numpy."""
    code = (
        "import sys, convnext\n"
        "from convnext.__main__ import main\n"
        "assert main(['--help']) == 0\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'pydantic'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip().endswith("[]")
    assert "train" in out.stdout


@pytest.mark.parametrize("command", [["models"], ["weights", "list"]])
def test_lists_load_no_torch(command: list[str]) -> None:
    """Tables that are asked for at a prompt come at once: torch and timm alone take seconds to import."""
    code = (
        "import sys\n"
        "from convnext.__main__ import main\n"
        f"assert main({command}) == 0\n"
        "print(sorted({'torch', 'torchvision', 'timm'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip().endswith("[]")
    assert "convnext_tiny" in out.stdout


def test_no_file_is_long_and_no_path_of_a_machine_is_left() -> None:
    """A file reads in one go (400 lines at most), and nothing names a folder of somebody's machine."""
    for path in SOURCE.rglob("*"):
        if path.suffix in (".py", ".toml", ".j2", ".css", ".js"):
            text = path.read_text(encoding="utf-8")
            assert len(text.splitlines()) <= 400, path
            assert "/home/" not in text, path
            assert "/root/" not in text, path
