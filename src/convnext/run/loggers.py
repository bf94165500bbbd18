"""Where else a run tells its numbers: TensorBoard, MLflow or Weights & Biases, by `train.logger`.

Each is given the recipe as hyperparameters, every epoch's numbers, and in the end the verdict. MLflow and wandb are
told where to send it by their own settings (MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME; WANDB_MODE, WANDB_PROJECT,
...); a run that is resumed goes on under its own name there. What fails, or stands still, is said once and left out
from then on: no logger ends a run.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Protocol

from convnext.config import all_keys, get, to_toml
from convnext.errors import UserError
from convnext.recipe import Recipe
from convnext.run.folder import RunFolder

PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
"""What `train.logger` may name, beside "" for none, and the package that it needs."""
PATIENCE = 60.0
"""Seconds that a logger may take for one thing before it is given up."""
LONGEST = 500
"""Characters of a hyperparameter that are kept; a list of a thousand classes says no more than its beginning."""
Say = Callable[[str], None]


class Backend(Protocol):
    """One of the three."""

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch's line of the log."""
        ...

    def result(self, result: dict[str, Any]) -> None:
        """The verdict."""
        ...

    def close(self, *, finished: bool) -> None:
        """No more is to come for now."""
        ...


class Logger:
    """A logger that cannot do harm: it is given up, with one line, when it raises or stands still."""

    def __init__(self, name: str, make: Callable[[], Backend], say: Say) -> None:
        self.name, self.say, self.backend = name, say, None
        self.backend = self._bounded(make)

    def epoch(self, row: dict[str, Any]) -> None:
        """As `Backend.epoch`; likewise the next two."""
        self._tell(lambda backend: backend.epoch(row))

    def result(self, result: dict[str, Any]) -> None:
        self._tell(lambda backend: backend.result(result))

    def close(self, *, finished: bool = True) -> None:
        self._tell(lambda backend: backend.close(finished=finished))
        self.backend = None

    def _tell(self, what: Callable[[Backend], None]) -> None:
        backend: Backend | None = self.backend
        if backend is not None:
            self._bounded(lambda: what(backend))

    def _bounded(self, work: Callable[[], Any]) -> Any:
        """What `work` gives; in a thread that is waited for so long and no longer."""
        found: list[Any] = [None, None]

        def run() -> None:
            try:
                found[0] = work()
            except Exception as error:
                found[1] = error

        thread = threading.Thread(target=run, name=f"convnext-{self.name}", daemon=True)
        thread.start()
        thread.join(PATIENCE)
        if thread.is_alive() or found[1] is not None:
            self.backend = None
            error = found[1]
            first = (str(error).strip() or type(error).__name__).splitlines()[0] if error else ""
            why = first[:200] or f"no answer for {PATIENCE:.0f} s"
            self.say(f"{self.name} is told nothing any more ({why}); log.jsonl and the run go on")
        return found[0]


def refuse_missing(name: str) -> None:
    """Raises a UserError where the package of a logger is not installed."""
    if name and find_spec(PACKAGES[name]) is None:
        raise UserError(
            f'train.logger = "{name}": its package is not installed; pip install "convnext[{name}]", or set '
            "train.logger=tensorboard"
        )


def open_logger(run: RunFolder, recipe: Recipe, epoch: int, say: Say) -> Logger | None:
    """The recipe's logger for a run that stands after `epoch`; None for none."""
    name = recipe.train.logger
    if not name:
        return None
    kinds: dict[str, Callable[[RunFolder, Recipe, int], Backend]]
    kinds = {"tensorboard": _TensorBoard, "mlflow": _MLflow, "wandb": _Wandb}
    make = kinds[name]
    return Logger(name, lambda: make(run, recipe, epoch), say)


def log_result(run: RunFolder, recipe: Recipe, result: dict[str, Any], say: Say) -> None:
    """Tells the recipe's logger the verdict on a run that is trained."""
    logger = open_logger(run, recipe, int(result.get("epochs", 0)), say)
    if logger is not None:
        logger.result(result)
        logger.close()


def numbers(row: dict[str, Any]) -> dict[str, float]:
    """The numbers of an epoch by the name under which they are shown: train/..., val/..., run/...."""
    found = {}
    for key, value in row.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and key != "epoch":
            group = "train" if key.startswith("train") else "val" if "val_" in key else "run"
            found[f"{group}/{key}"] = float(value)
    return found


def verdict(result: dict[str, Any]) -> dict[str, float]:
    """The numbers of a verdict: result/..., and of a second verdict within it, as result/at_thresholds/..."""
    found = {}
    second = {key: value for key, value in result.items() if isinstance(value, dict) and "intervals" in value}
    for prefix, values in (("result", result), *((f"result/{key}", value) for key, value in second.items())):
        for key, value in values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                found[f"{prefix}/{key}"] = float(value)
    return found


def hyperparameters(recipe: Recipe) -> dict[str, Any]:
    """Every key of the recipe, lists as text."""
    found = {key: get(recipe, key) for key in all_keys()}
    return {key: str(v)[:LONGEST] if isinstance(v, tuple | str) else v for key, v in found.items()}


class _TensorBoard:
    """Files in `tensorboard` in the run folder: curves, the recipe, and its keys beside the verdict (HPARAMS)."""

    def __init__(self, run: RunFolder, recipe: Recipe, epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.recipe, self.at = recipe, epoch
        self.board = SummaryWriter(str(run.folder("tensorboard")), purge_step=epoch + 1)
        if epoch == 0:
            self.board.add_text("recipe", "".join(f"    {line}\n" for line in to_toml(recipe).splitlines()))

    def epoch(self, row: dict[str, Any]) -> None:
        for name, value in numbers(row).items():
            self.board.add_scalar(name, value, row["epoch"])
        self.board.flush()

    def result(self, result: dict[str, Any]) -> None:
        from torch.utils.tensorboard.summary import hparams

        found = verdict(result)
        writer: Any = self.board._get_file_writer()
        for part in hparams(hyperparameters(self.recipe), found):
            writer.add_summary(part)
        for name, value in found.items():
            self.board.add_scalar(name, value, self.at)

    def close(self, *, finished: bool) -> None:
        with contextlib.suppress(OSError):
            self.board.close()


class _MLflow:
    """A run of an MLflow experiment, found again by the name that no other run has."""

    def __init__(self, run: RunFolder, recipe: Recipe, epoch: int) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # its own patience is minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
        from mlflow import MlflowClient

        self.client, self.at = MlflowClient(), epoch
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "convnext")
        experiment = self.client.get_experiment_by_name(name)
        place = experiment.experiment_id if experiment is not None else self.client.create_experiment(name)
        known = self.client.search_runs([place], f"tags.convnext_run = '{run.identity}'", max_results=1)
        if known:
            self.id = known[0].info.run_id
            self.client.update_run(self.id, status="RUNNING")
            return
        tags = {"convnext_run": run.identity, "folder": str(run.path)}
        self.id = self.client.create_run(place, run_name=run.path.resolve().name, tags=tags).info.run_id
        for key, value in hyperparameters(recipe).items():
            self.client.log_param(self.id, key, value)

    def epoch(self, row: dict[str, Any]) -> None:
        self._log(numbers(row), row["epoch"])

    def result(self, result: dict[str, Any]) -> None:
        self._log(verdict(result), self.at)

    def close(self, *, finished: bool) -> None:
        self.client.set_terminated(self.id, "FINISHED" if finished else "KILLED")

    def _log(self, found: dict[str, float], step: int) -> None:
        for name, value in found.items():
            self.client.log_metric(self.id, name, value, step=step)


class _Wandb:
    """A run of a Weights & Biases project, under the name that no other run has."""

    def __init__(self, run: RunFolder, recipe: Recipe, epoch: int) -> None:
        import wandb

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "convnext"), name=run.path.resolve().name, id=run.identity,
            resume="allow", config=hyperparameters(recipe), settings=wandb.Settings(console="off"),
        )  # fmt: skip

    def epoch(self, row: dict[str, Any]) -> None:
        self.run.log(numbers(row), step=row["epoch"])

    def result(self, result: dict[str, Any]) -> None:
        self.run.summary.update(verdict(result))

    def close(self, *, finished: bool) -> None:
        self.run.finish(exit_code=0 if finished else 1)
