"""ConvNeXt on PyTorch: networks, training, honest evaluation and reports.

The names below are loaded when they are first used, so `import convnext` is quick and pulls in no torch.

Two of them, `train` and `evaluate`, are folders of modules too: as functions they do what the commands of that name do.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convnext.api import Run, doctor, evaluate, train
    from convnext.data.feed.preprocessing import Preprocessing
    from convnext.errors import UserError
    from convnext.evaluate.compare import compare
    from convnext.evaluate.evaluate import evaluate_run
    from convnext.evaluate.model import Model, load
    from convnext.evaluate.predict import predict
    from convnext.nn.convnext.backbone import ConvNeXt
    from convnext.nn.create import create_model
    from convnext.nn.inference.optimize import optimize
    from convnext.nn.tables.variants import list_models
    from convnext.recipe import Recipe
    from convnext.report.page import write_report
    from convnext.run.save import save
    from convnext.tasks.classify.targets import diagnose, read_dataset
    from convnext.train.train import train_run

__version__ = "0.1.0"

_HOMES = {
    "ConvNeXt": "convnext.nn.convnext.backbone",
    "Model": "convnext.evaluate.model",
    "Prediction": "convnext.tasks.classify.answers",
    "Preprocessing": "convnext.data.feed.preprocessing",
    "Recipe": "convnext.recipe",
    "Run": "convnext.api",
    "UserError": "convnext.errors",
    "compare": "convnext.evaluate.compare",
    "create_model": "convnext.nn.create",
    "diagnose": "convnext.tasks.classify.targets",
    "doctor": "convnext.api",
    "evaluate_run": "convnext.evaluate.evaluate",
    "list_models": "convnext.nn.tables.variants",
    "load": "convnext.evaluate.model",
    "optimize": "convnext.nn.inference.optimize",
    "predict": "convnext.evaluate.predict",
    "read_dataset": "convnext.tasks.classify.targets",
    "save": "convnext.run.save",
    "train_run": "convnext.train.train",
    "write_report": "convnext.report.page",
}
_FOLDERS = ("evaluate", "train")

__all__ = [
    "ConvNeXt",
    "Model",
    "Prediction",
    "Preprocessing",
    "Recipe",
    "Run",
    "UserError",
    "__version__",
    "compare",
    "create_model",
    "diagnose",
    "doctor",
    "evaluate",
    "evaluate_run",
    "list_models",
    "load",
    "optimize",
    "predict",
    "read_dataset",
    "save",
    "train",
    "train_run",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _FOLDERS:
        return import_module(f"convnext.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'convnext' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Callable(ModuleType):
    """A folder of modules that is called as the function of its name in `api`."""

    @property
    def __wrapped__(self) -> Any:
        return getattr(import_module("convnext.api"), self.__name__.rpartition(".")[2])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)


def _make_callable(folder: str) -> None:
    """Python gives one name to a folder and to a function beside it, and the folder wins; so it takes calls itself."""
    sys.modules[folder].__class__ = _Callable
