"""The report of a search: history, importance of the keys, each key against the result, and all trials."""

from __future__ import annotations

import base64
import io
import math
import statistics
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FunctionLoader

from convnext.data.names import harmless
from convnext.report.commands import quoted
from convnext.report.plots import _figure
from convnext.run.folder import write_text
from convnext.study.trials import Row, best_of, importance_of
from convnext.study.tune import load_study
from convnext.study.tune_result import in_doubt, read_result
from convnext.tasks.score import SHARE, Score
from convnext.tasks.table import score_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATES = ("complete", "pruned", "fail", "running")
_OURS, _GRAY, _BEST = "#7a4fb5", "#b8bfc9", "#d9822b"


def write_tune_report(folder: Path) -> Path:
    """Writes FOLDER/report.html, one file that opens anywhere, and returns its path.

    Raises:
        RunError: there is no search in the folder.
    """
    known = read_result(folder)
    rows: list[Row] = known["trials"]
    score = score_of(known.get("score"))
    best = best_of(rows, score)
    repeats = known.get("repeats", {"values": []})["values"]
    environment = Environment(loader=FunctionLoader(_template), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.get_template("tune.html.j2").render(
        known=known, score=score, rows=sorted(rows, key=lambda row: _place(row, score)),
        best=best, keys=keys_of(rows), history=_image(draw_history(rows, score)),
        command=" ".join(["convnext train", quoted(str(known["data"])), quoted(folder / "best.toml")]),
        importance=importance_of(load_study(folder)), slices=_image(draw_slices(rows, score)) if done(rows) else "",
        repeats=repeats, doubt=in_doubt(best, known) if best is not None else [],
        mean=statistics.mean(repeats) if repeats else None,
        deviation=statistics.stdev(repeats) if len(repeats) > 1 else None,
        counts={state: sum(row["state"] == state and row["counts"] for row in rows) for state in STATES},
        stopped=sum(not row["counts"] for row in rows),
    )  # fmt: skip
    target = folder / "report.html"
    write_text(target, harmless(page))
    return target


def _place(row: Row, score: Score) -> float:
    """The better, the lower; trials without a value come last."""
    return math.inf if row["value"] is None else -score.gain(row["value"])


def _shown(value: float, score: Score) -> float:
    """A value as it is drawn: shares in per cent."""
    return 100 * value if score.unit == SHARE else value


def _axis(score: Score) -> str:
    return f"validation, {score.unit}" if score.unit else "validation"


def _template(name: str) -> str:
    return resources.files("convnext.report").joinpath(name).read_text(encoding="utf-8")


def done(rows: list[Row]) -> list[Row]:
    """The trials that ended with a value."""
    return [row for row in rows if row["state"] == "complete"]


def keys_of(rows: list[Row]) -> list[str]:
    """What was varied."""
    return sorted({key for row in rows for key in row["params"]})


def draw_history(rows: list[Row], score: Score) -> Figure:
    """Each trial's value in the order of the trials, and the best so far."""
    figure, (axis,) = _figure(8.0, 3.2)
    ended = done(rows)
    numbers, values = [row["number"] for row in ended], [_shown(row["value"], score) for row in ended]
    axis.scatter(numbers, values, s=18, color=_OURS, label="a trial, after its last epoch", zorder=3)
    pruned = [row for row in rows if row["state"] == "pruned" and row["epochs"]]
    last = [_shown(row["epochs"][max(row["epochs"], key=int)], score) for row in pruned]
    axis.scatter(
        [row["number"] for row in pruned], last, s=18, marker="x", color=_GRAY, label="stopped early", zorder=2
    )
    best, running = score.worst, []
    for value in values:
        best = value if score.better(value, best) else best
        running.append(best)
    axis.step(numbers, running, where="post", color=_BEST, linewidth=1.4, label="the best so far")
    axis.set(xlabel="trial", ylabel=_axis(score))
    axis.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    axis.locator_params(axis="x", integer=True)
    return figure


def draw_slices(rows: list[Row], score: Score) -> Figure:
    """A panel for each key: its value against the result."""
    keys, ended = keys_of(rows), done(rows)
    figure, axes = _figure(max(4.0, 2.1 * len(keys)), 2.6, max(1, len(keys)))
    for axis, key in zip(axes, keys, strict=False):
        xs = [row["params"][key] for row in ended if key in row["params"]]
        ys = [_shown(row["value"], score) for row in ended if key in row["params"]]
        numeric = all(isinstance(x, int | float) and not isinstance(x, bool) for x in xs)
        axis.scatter(xs if numeric else [str(x) for x in xs], ys, s=14, color=_OURS)
        if numeric and min(xs) > 0 and max(xs) / min(xs) > 10:
            axis.set_xscale("log")
        elif numeric:
            axis.locator_params(axis="x", nbins=3)
        axis.set_title(key, fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0].set_ylabel(_axis(score), fontsize=8)
    return figure


def _image(figure: Figure) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=150)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")
