"""What was trained on what, as names and values."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from convnext.report.files import RunFiles
from convnext.report.words import duration
from convnext.tasks.reporting import Json
from convnext.tasks.text import weights_judged
from convnext.tasks.words import counted, number, show


def facts(run: RunFiles, told: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The facts of a run, with what its task tells of the data; what is not known is left out."""
    size = (run.recipe.get("data") or {}).get("size")
    params = number(run.result.get("params"))
    rows = [
        ("Data", "/".join(Path(run.data_root).parts[-2:]).lstrip("/")),
        *told,
        ("Model", model_name(run) + (f", {params / 1e6:.1f} million parameters" if params else "")),
        ("Starting point", starting_point(run)),
        ("Picture size", f"{size} \u00d7 {size} pixels" if isinstance(size, int) else show(size) if size else ""),
        *_training_facts(run),
        ("Weights judged", weights_judged(run.result) if run.result else ""),
        ("Seed", show(run.result["seed"]) if "seed" in run.result else ""),
        ("Machine", _machine(run.environment)),
    ]
    return [(name, value) for name, value in rows if value]


def _training_facts(run: RunFiles) -> list[tuple[str, str]]:
    if not run.log:
        return []
    last = run.log[-1]
    seconds = number(run.result.get("train_seconds")) or number(last.get("seconds"))
    done, planned = run.epochs
    speeds = [speed for row in run.log if (speed := number(row.get("images_per_second"))) is not None]
    waits = [wait for row in run.log if (wait := number(row.get("data_wait"))) is not None]
    pace = f"{statistics.median(speeds):,.0f} pictures/s" if speeds else ""
    if pace and waits:
        pace += f", {100 * statistics.fmean(waits):.0f} % of the time spent waiting for data"
    return [
        ("Epochs", f"{done} of {planned}" if done < planned else str(done)),
        ("Training time", duration(seconds) if seconds is not None else ""),
        ("Speed", pace),
    ]


def _machine(environment: Json) -> str:
    gpu, cpu = environment.get("gpu"), environment.get("cpu")
    cores = environment.get("cores")
    words = [show(gpu)] if gpu and gpu != "none" else []
    if cpu:
        words.append(show(cpu) + (f", {counted(cores, 'core')}" if isinstance(cores, int) else ""))
    return " \u00b7 ".join(words)


def model_name(run: RunFiles) -> str:
    """The model's name from the result, or from the recipe while there is none."""
    return str(run.result.get("model") or (run.recipe.get("model") or {}).get("name") or "model")


def starting_point(run: RunFiles) -> str:
    """Pretrained or from scratch: the plan knows what was reached, the recipe only what was asked for."""
    planned = [row.get("value") for row in run.plan if row.get("key") == "weights"]
    weights = str(planned[-1] if planned else run.recipe.get("weights", ""))
    if weights == "none":
        return "from scratch, random weights"
    if weights == "auto":
        return "pretrained weights if they could be reached"
    return f"pretrained: {weights}" if weights else ""


def title(run: RunFiles) -> str:
    """Model and data in a few words."""
    data = Path(run.data_root).name if run.data_root else ""
    return f"{model_name(run)} on {data}" if data else model_name(run)
