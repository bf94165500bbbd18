"""Loggers are told the recipe, every epoch and the verdict; one that fails or stands still never ends a run."""

from __future__ import annotations

import importlib.machinery
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convnext.config import load_recipe, override
from convnext.errors import UserError
from convnext.evaluate.evaluate import judge_run
from convnext.recipe import Recipe
from convnext.run import loggers
from convnext.run.folder import RunFolder
from convnext.train.train import train_run

QUICK = [
    "weights=none", "model.name=convnext_atto", "data.size=32", "model.stem_patch=4", "train.batch=8", "train.epochs=2",
    "data.workers=0", "train.lr=1e-3", "train.precision=fp32",
]  # fmt: skip


@pytest.fixture
def stripes(write_stripes: Callable[..., Path], tmp_path: Path) -> Path:
    """Two classes of 12 pictures each: two steps an epoch."""
    return write_stripes(tmp_path / "few", {"narrow": 12, "wide": 12}, side=32)


class Fake(types.ModuleType):
    """A package that can be found, and keeps what it is told."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.told: list[tuple[Any, ...]] = []


def fake_wandb(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake("wandb")

    class Run:
        def __init__(self, **given: Any) -> None:
            fake.told.append(("init", given))
            self.summary = self

        def log(self, values: dict[str, float], step: int) -> None:
            fake.told.append(("log", step, values))

        def update(self, values: dict[str, float]) -> None:
            fake.told.append(("summary", values))

        def finish(self, exit_code: int) -> None:
            fake.told.append(("finish", exit_code))

    fake.init, fake.Settings = Run, dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def fake_mlflow(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake("mlflow")
    runs: dict[str, str] = {}

    class Client:
        def get_experiment_by_name(self, name: str) -> None:
            fake.told.append(("experiment", name))

        def create_experiment(self, name: str) -> str:
            return "7"

        def search_runs(self, places: list[str], text: str, max_results: int) -> list[Any]:
            found = [run for run, tag in runs.items() if f"'{tag}'" in text]
            return [types.SimpleNamespace(info=types.SimpleNamespace(run_id=run)) for run in found]

        def create_run(self, place: str, run_name: str, tags: dict[str, str]) -> Any:
            runs["r1"] = tags["convnext_run"]
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1"))

        def __getattr__(self, name: str) -> Any:
            return lambda *given, **named: fake.told.append((name, *given, *named.values()))

    fake.MlflowClient = Client  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    return fake


def test_wandb_is_told_everything_under_one_name(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every key of the recipe, each epoch at its step, then the verdict in a run of the same id."""
    fake = fake_wandb(monkeypatch)
    run = train_run(stripes, load_recipe(None, [*QUICK, "train.logger=wandb"]), tmp_path / "photos")
    result = judge_run(run.path)
    begun = [told[1] for told in fake.told if told[0] == "init"]
    assert [b["id"] for b in begun] == [run.identity] * 2
    assert begun[0]["name"] == "photos"
    assert begun[0]["config"]["train.lr"] == 1e-3
    logged = {told[1]: told[2] for told in fake.told if told[0] == "log"}
    assert list(logged) == [1, 2]
    row = run.read_log()[1]
    assert logged[2]["train/train_loss"] == row["train_loss"]
    assert logged[2]["val/val_top1"] == row["val_top1"]
    (summary,) = [told[1] for told in fake.told if told[0] == "summary"]
    assert summary["result/top1"] == result["top1"]
    assert [told[1] for told in fake.told if told[0] == "finish"] == [0, 0]
    assert not (run.path / "tensorboard").exists()


def test_mlflow_is_told_everything_in_one_run(stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters once, metrics with the epoch as step, and the verdict in the run that has this run's tag."""
    fake = fake_mlflow(monkeypatch)
    run = train_run(stripes, load_recipe(None, [*QUICK, "train.logger=mlflow"]), tmp_path / "photos")
    result = judge_run(run.path)
    params = {told[2]: told[3] for told in fake.told if told[0] == "log_param"}
    assert params["train.epochs"] == 2
    assert len([told for told in fake.told if told[0] == "log_param"]) == len(params)
    metrics = {(told[2], told[4]): told[3] for told in fake.told if told[0] == "log_metric"}
    assert metrics["train/train_loss", 1] == run.read_log()[0]["train_loss"]
    assert metrics["result/top1", 2] == result["top1"]
    assert ("update_run", "r1", "RUNNING") in fake.told
    assert fake.told[-1] == ("set_terminated", "r1", "FINISHED")


def test_tensorboard_has_curves_recipe_and_verdict(stripes: Path, tmp_path: Path) -> None:
    """As TensorBoard's own reader gives them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train_run(stripes, load_recipe(None, QUICK), tmp_path / "run")
    result = judge_run(run.path)
    board = EventAccumulator(str(run.path / "tensorboard"))
    board.Reload()
    assert [(e.step, pytest.approx(e.value)) for e in board.Scalars("train/train_loss")] == [
        (row["epoch"], row["train_loss"]) for row in run.read_log()
    ]
    assert board.Scalars("result/top1")[-1].value == pytest.approx(result["top1"])
    assert b"convnext_atto" in board.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0]


@pytest.mark.parametrize("place", ["init", "log", "finish"])
def test_a_logger_that_fails_ends_no_run(
    place: str, stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At its beginning, at an epoch, at the end: one line, and the run and its log are whole."""
    fake = fake_wandb(monkeypatch)

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("the server is away")

    monkeypatch.setattr(fake if place == "init" else fake.init, place, fail)  # type: ignore[attr-defined]
    run = train_run(stripes, load_recipe(None, [*QUICK, "train.logger=wandb"]), tmp_path / "run")
    assert len(run.read_log()) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "wandb is told nothing any more" in line]
    assert said == ["wandb is told nothing any more (the server is away); log.jsonl and the run go on"]


def test_a_logger_that_stands_still_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After the patience of one call, and for good."""
    monkeypatch.setattr(loggers, "PATIENCE", 0.2)
    fake, said = fake_wandb(monkeypatch), []
    monkeypatch.setattr(fake.init, "log", lambda *_, **__: time.sleep(3))  # type: ignore[attr-defined]
    recipe = override(Recipe(), {"train.logger": "wandb"})
    logger = loggers.open_logger(RunFolder(tmp_path), recipe, 0, said.append)
    assert logger is not None
    start = time.monotonic()
    logger.epoch({"epoch": 1, "train_loss": 0.5})
    logger.epoch({"epoch": 2, "train_loss": 0.5})
    logger.close()
    assert time.monotonic() - start < 2
    assert len(said) == 1
    assert "no answer" in said[0]
    assert [told[0] for told in fake.told] == ["init"]


def test_a_missing_package_is_said_before_anything_is_done(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to install; nothing is left behind."""
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "convnext\[mlflow\]"'):
        train_run(stripes, load_recipe(None, [*QUICK, "train.logger=mlflow"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_the_real_packages_take_it(
    name: str, stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a network: MLflow's database holds each epoch's loss and the verdict; wandb writes an offline run."""
    pytest.importorskip(name, reason=f"the extra convnext[{name}] is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = train_run(stripes, load_recipe(None, [*QUICK, f"train.logger={name}"]), tmp_path / "photos")
    result = judge_run(run.path)
    assert "is told nothing any more" not in capsys.readouterr().err
    if name == "wandb":
        assert list((tmp_path / "wandb").glob(f"offline-run-*-{run.identity}/run-*.wandb"))
        return
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("convnext")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.params["train.optimizer"] == "adamw"
    losses = client.get_metric_history(found.info.run_id, "train/train_loss")
    assert [m.value for m in losses] == [row["train_loss"] for row in run.read_log()]
    assert found.data.metrics["result/top1"] == result["top1"]
    assert found.info.status == "FINISHED"
