"""ConvNeXt on PyTorch: networks, training, honest evaluation and reports.

The names below are loaded when they are first used, so `import convnext` is quick and pulls in no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convnext.data.doctor import diagnose
    from convnext.data.sources import read_dataset
    from convnext.errors import UserError
    from convnext.evaluate.evaluate import evaluate_run
    from convnext.evaluate.predict import predict
    from convnext.nn.convnext import ConvNeXt
    from convnext.nn.create import create_model
    from convnext.nn.optimize import optimize
    from convnext.nn.variants import list_models
    from convnext.report.page import write_report
    from convnext.run.load import load
    from convnext.train.train import train_run

__version__ = "0.1.0"

_HOMES = {
    "ConvNeXt": "convnext.nn.convnext",
    "UserError": "convnext.errors",
    "create_model": "convnext.nn.create",
    "diagnose": "convnext.data.doctor",
    "evaluate_run": "convnext.evaluate.evaluate",
    "list_models": "convnext.nn.variants",
    "load": "convnext.run.load",
    "optimize": "convnext.nn.optimize",
    "predict": "convnext.evaluate.predict",
    "read_dataset": "convnext.data.sources",
    "train_run": "convnext.train.train",
    "write_report": "convnext.report.page",
}

__all__ = [
    "ConvNeXt",
    "UserError",
    "__version__",
    "create_model",
    "diagnose",
    "evaluate_run",
    "list_models",
    "load",
    "optimize",
    "predict",
    "read_dataset",
    "train_run",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'convnext' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
