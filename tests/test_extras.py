"""Each optional library that pyproject.toml offers is used by some code."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

import convnext

HERE = Path(__file__).parents[1]
MODULES = {
    "pillow-heif": {"pillow_heif"}, "elpv-dataset": {"elpv_dataset"}, "mlflow-skinny": {"mlflow"},
    "sqlalchemy": {"mlflow"}, "alembic": {"mlflow"}, "cmaes": {"optuna"}, "onnx": {"onnxruntime"},
    "onnxscript": {"onnxruntime"}, "webdataset": {"webdataset"},
}  # fmt: skip
"""Where a library is called otherwise than its distribution, or comes with another: MLflow keeps runs in a database,
optuna has a sampler that needs cmaes, torch's export to ONNX needs two.
"""


def imports(folder: Path) -> set[str]:
    """The first part of every module that is imported, or found by name, below a folder."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
            elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if called in ("import_module", "find_spec", "importorskip", "version"):
                    found.add(str(node.args[0].value).split(".")[0])
    return found


def test_no_extra_is_offered_for_nothing() -> None:
    """A library that is installed and never imported is a promise that nobody keeps."""
    project = HERE / "pyproject.toml"
    if not project.is_file():
        pytest.skip("the tests do not lie in a checkout, so pyproject.toml is not there")
    extras = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    ours, tests = imports(Path(convnext.__file__).parent), imports(HERE / "tests")
    unused = []
    for extra, needs in extras.items():
        for need in needs if extra != "dev" else ():
            name = need.split(">")[0].split("[")[0]
            known = MODULES.get(name, {name.replace("-", "_"), "sklearn" if name == "scikit-learn" else name})
            by_pytest = extra == "test" and name.startswith(("pytest", "convnext"))
            if not by_pytest and not known & (ours | tests if extra in ("test", "scale") else ours):
                unused.append(f"{extra}: {need}")
    assert unused == []
