"""Generated run folders of regressions: their files as a run writes them, with numbers of `judge_records`."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.tasks.regress.conformal import interval_text, needed
from convnext.tasks.regress.scaling import Target
from convnext.tasks.regress.scores import Record, judge_records
from tests.report.test_page import save_picture


@dataclass(frozen=True)
class Made:
    """A target that is made up: skewed, with noisy answers of which those to large values are too small."""

    name: str = "age"
    unit: str = "months"
    scale: float = 40.0
    noise: float = 0.2
    half: float | None = 14.0
    missing: int = 0
    slip: float = 0.0

    def values(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Whole numbers above 0, (n,)."""
        return np.ceil(rng.gamma(1.6, self.scale / 1.6, n))


AGE = Made()


def make_run(
    path: Path,
    targets: tuple[Made, ...] = (AGE,),
    *,
    n: int = 80,
    pictures: int = 80,
    calibration: int = 40,
    **more: Any,
) -> Path:
    """A finished run folder with `n` test pictures; `more` changes keys of result.json."""
    path.mkdir(parents=True)
    rng = np.random.default_rng(0)
    truth, values, low, high = (np.full((n, len(targets)), math.nan) for _ in range(4))
    for t, target in enumerate(targets):
        truth[:, t] = target.values(rng, n)
        shrunk = truth[:, t] - 0.25 * np.maximum(truth[:, t] - 2 * target.scale, 0)
        values[:, t] = shrunk + rng.normal(0, target.noise * target.scale, n)
        if target.half is not None:
            low[:, t], high[:, t] = values[:, t] - target.half, values[:, t] + target.half
        truth[: target.missing, t] = math.nan
    result = _result(targets, truth, values, low, high, calibration)
    result |= {
        "task": "regress", "model": "convnext_atto", "params": 3_374_000, "n": n, "split": "test", "weights": "best",
        "source": "ema", "epoch": 8, "epochs": 8, "train_seconds": 83.0, "seed": 1, "data_root": "pets/table.csv",
    } | more  # fmt: skip
    worst = np.argsort(-np.nan_to_num(np.abs(values - truth)[:, 0], nan=-1.0))[: min(pictures, 12)]
    files: dict[str, Any] = {
        "result.json": result,
        "data.json": {
            "root": "pets/table.csv", "layout": "CSV table", "pictures": {"train": 400, "val": 80, "test": n},
            "targets": {target.name: _described(target, truth[:, t]) for t, target in enumerate(targets)},
        },
        "batch.json": {"labels": [f"{v:.0f} months" for v in truth[:8, 0]]},
        "mistakes.json": [_mistake(targets[0], truth[i, 0], values[i, 0], at) for at, i in enumerate(worst)],
        "plan.json": [{"key": "weights", "value": "none", "why": "nothing could be reached"}],
    }  # fmt: skip
    for name, value in files.items():
        (path / name).write_text(json.dumps(value))
    (path / "log.jsonl").write_text("".join(json.dumps(_epoch(e, result)) + "\n" for e in range(1, 9)))
    (path / "recipe.toml").write_text('weights = "none"\n[task]\nkind = "regress"\n[data]\nroot = "pets/table.csv"\n')
    _predictions(path / "predictions.csv", targets, truth, values, low, high)
    for at in range(len(worst)):
        save_picture(path / f"pictures/mistake-{at:02d}.jpg", 90, 60)
    save_picture(path / "pictures/batch.jpg", 400, 130)
    return path


def _result(targets: tuple[Made, ...], *arrays: Any) -> dict[str, Any]:
    """What judging writes: of one target at top level too, of several the mean error in deviations."""
    truth, values, low, high, calibration = arrays
    records = [Record(*(tuple(part[i]) for part in (truth, values, low, high))) for i in range(len(truth))]
    judged = judge_records([target.name for target in targets], records, bootstrap=200)
    for t, target in enumerate(targets):
        table, enough = judged[target.name], target.half is not None
        known = truth[~np.isnan(truth[:, t]), t]
        table |= {
            "unit": target.unit, "log": False, "range": [0, 192 if target.name == "age" else None],
            "training": {"n": 400, "missing": 0, "median": 35.0, "deviation": target.scale},
            "training_median": {"mae": float(np.abs(known - 35).mean())} if len(known) else None,
            "coverage_n": table["n"],
            "calibration": {
                "level": 0.9, "pictures": calibration if enough else 5, "needed": needed(0.9),
                "absolute": 0.4 if enough else None, "scaled": None, "shortage": "" if enough else "5 are too few",
            },
        }  # fmt: skip
    common = {"targets": judged, "loss": "huber", "level": 0.9, "width_kind": "absolute"}
    if len(targets) == 1:
        return judged[targets[0].name] | common
    errors = [judged[target.name]["mae"] / target.scale for target in targets if judged[target.name]["n"]]
    gain = {"value": 0.4, "interval": [0.3, 0.5]}
    whole = {"error": float(np.mean(errors)), "baselines": {"error": float(np.mean(errors)) + 0.4}}
    return common | whole | {"gains": {"error": gain}, "intervals": {"error": [0.1, 0.3]}}


def _described(target: Made, test: NDArray[np.float64]) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    parts = {"train": target.values(rng, 400), "val": target.values(rng, 80), "test": test[~np.isnan(test)]}
    if target.slip:
        parts["train"][0] = target.slip
    edges = np.linspace(0, max(part.max() for part in parts.values() if len(part)), 17)
    return {
        "unit": target.unit, "column": target.name, "log": False, "range": [0, None],
        "splits": {name: _spread(part, edges) for name, part in parts.items()},
    }  # fmt: skip


def _spread(values: NDArray[np.float64], edges: NDArray[np.float64]) -> dict[str, Any]:
    if not len(values):
        return {"n": 0, "missing": 80}
    return {
        "n": len(values), "missing": 0, "min": values.min(), "max": values.max(), "mean": values.mean(),
        "deviation": values.std(), "median": float(np.median(values)),
        "quantiles": {f"{q:g}": float(np.quantile(values, q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95)},
        "histogram": {"edges": edges.tolist(), "counts": np.histogram(values, edges)[0].tolist()},
    }  # fmt: skip


def _mistake(target: Made, truth: float, value: float, at: int) -> dict[str, Any]:
    half, unit = target.half, f" {target.unit}" if target.unit else ""
    ends = (None, None) if half is None else (value - half, value + half)
    said = f"{value:.0f}{unit}"
    if half is not None:
        said = interval_text(Target(target.name, target.unit), value, value - half, value + half, 0.9)
    return {
        "path": f"pets/a <{at}>.jpg", "picture": f"pictures/mistake-{at:02d}.jpg", "truth": f"{truth:.0f}{unit}",
        "answer": said, "target": target.name, "truth_value": truth, "value": value, "low": ends[0], "high": ends[1],
        "error": value - truth, "outside": None if half is None else bool(abs(value - truth) > half),
    }  # fmt: skip


def _epoch(epoch: int, result: dict[str, Any]) -> dict[str, Any]:
    key = "mae" if "mae" in result else "error"
    score = (result[key] or 1.0) * (1 + 0.5 / epoch**2)
    return {
        "epoch": epoch, "epochs": 8, "step": 400 * epoch, "seconds": 9.0 * epoch, "lr": 0.001, "train_loss": 1 / epoch,
        "val_loss": 1.1 / epoch, f"train_{key}": score * 0.9, f"val_{key}": score, f"ema_val_{key}": score * 1.01,
        "best": True, "images_per_second": 100.0, "data_wait": 0.02,
    }  # fmt: skip


def _predictions(path: Path, targets: tuple[Made, ...], *arrays: NDArray[np.float64]) -> None:
    parts = ("truth", "value", "low", "high")
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", *(f"{part}_{target.name}" for target in targets for part in parts)])
        for i in range(len(arrays[0])):
            cells = [array[i, t] for t in range(len(targets)) for array in arrays]
            writer.writerow([f"a <{i}>.jpg", *("" if math.isnan(cell) else repr(float(cell)) for cell in cells)])
