"""How cost grows with the size of the pictures or of the batch: fitted exponents, and a plot, one line a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convnext.bench.benchmark import Report, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FROM = {"size": 224, "batch": 1}
"""Where the fit begins: below, what does not grow (starting an operator, the head) is most of the time."""

COLOURS = ("#7a4fb5", "#e08a1e", "#2a9d8f", "#1f2933", "#c2455a", "#7f8b99")


@dataclass(frozen=True)
class Line:
    """One side's costs: `at` the sizes or batches, seconds a call, bytes at most, and the exponents of the fits."""

    name: str
    at: tuple[int, ...]
    seconds: tuple[float, ...]
    peaks: tuple[int, ...]
    time_exponent: float
    memory_exponent: float


def lines(report: Report, axis: str) -> list[Line]:
    """A line for each network and side; `axis` is "size" or "batch"."""
    found = []
    for key in dict.fromkeys(_key(row) for row in report.rows):
        rows = sorted((row for row in report.rows if _key(row) == key), key=lambda row: int(getattr(row.case, axis)))
        at = tuple(int(getattr(row.case, axis)) for row in rows)
        seconds, peaks = tuple(row.median for row in rows), tuple(row.peak for row in rows)
        start = FROM[axis]
        found.append(Line(key, at, seconds, peaks, exponent(at, seconds, start), exponent(at, peaks, start)))
    return found


def exponent(at: Sequence[int], costs: Sequence[float], start: int = 0) -> float:
    """The e of cost = c at^e by least squares of the logarithms, from `start` on; NaN for fewer than two points."""
    points = [(math.log(a), math.log(cost)) for a, cost in zip(at, costs, strict=True) if a >= start and cost > 0]
    if len(points) < 2:
        return math.nan
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
    return float(slope)


def to_markdown(report: Report, axis: str) -> str:
    """A table: a row for each network, its time (and memory) at each size or batch, and the exponents."""
    found = lines(report, axis)
    at = sorted({a for line in found for a in line.at})
    head = f"| ms at {'a side of' if axis == 'size' else 'a batch of'} | " + " | ".join(map(str, at)) + " | exponent |"
    out = [f"{report.where}; {_rest(report, axis)}", "", head, "|" + "---|" * (len(at) + 2)]
    for line in found:
        cells = dict(zip(line.at, line.seconds, strict=True))
        row = " | ".join(f"{_three(1e3 * cells[a])}" if a in cells else "" for a in at)
        out.append(f"| {line.name} | {row} | {line.time_exponent:.2f} |")
    if any(peak for line in found for peak in line.peaks):
        out += ["", head.replace("ms at", "peak, MB, at"), "|" + "---|" * (len(at) + 2)]
        for line in found:
            peaks = dict(zip(line.at, line.peaks, strict=True))
            row = " | ".join(f"{peaks[a] / 1e6:.0f}" if a in peaks else "" for a in at)
            out.append(f"| {line.name} | {row} | {line.memory_exponent:.2f} |")
    return "\n".join(out)


def _rest(report: Report, axis: str) -> str:
    """What does not grow, and from where on the exponents are fitted."""
    case = report.rows[0].case
    other = f"batch {case.batch}" if axis == "size" else f"{case.size} pixels"
    return f"{case.precision}, {other}; exponents from {FROM[axis]} on"


def _three(value: float) -> str:
    """Three significant digits, never with an exponent."""
    return f"{value:.0f}" if value >= 999.5 else f"{value:.3g}"


def draw(report: Report, axis: str) -> Figure:
    """Time, beside it memory where that was measured, both logarithmic; a line for each network, with its exponent."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    formatter = FuncFormatter(lambda value, _: f"{value:g}")
    found = lines(report, axis)
    remembered = any(peak for line in found for peak in line.peaks)
    figure = Figure(figsize=(9.5 if remembered else 5.4, 3.9), dpi=160, layout="constrained", facecolor="white")
    panels = figure.subplots(1, 1 + remembered, squeeze=False)[0]
    for number, line in enumerate(found):
        style = {"marker": "o", "markersize": 4, "color": COLOURS[number % len(COLOURS)], "linewidth": 1.6}
        milliseconds = [1e3 * seconds for seconds in line.seconds]
        panels[0].plot(line.at, milliseconds, label=f"{line.name}: {line.time_exponent:.2f}", **style)
        if any(line.peaks):
            megabytes = [1e-6 * peak for peak in line.peaks]
            panels[1].plot(line.at, megabytes, label=f"{line.name}: {line.memory_exponent:.2f}", **style)
    what = "side of the picture, pixels" if axis == "size" else "pictures in a batch"
    for panel, label in zip(panels, ("milliseconds", "peak memory, MB"), strict=False):
        panel.set(xscale="log", yscale="log", xlabel=what, ylabel=label)
        ticks = sorted({a for line in found for a in line.at})
        panel.set_xticks(ticks, [str(a) for a in ticks], fontsize=7, rotation=45)
        panel.set_xticks([], minor=True)
        panel.yaxis.set_major_formatter(formatter)
        panel.yaxis.set_minor_formatter(formatter if label.startswith("peak") else NullFormatter())
        panel.tick_params(axis="y", which="both", labelsize=7)
        panel.grid(visible=True, which="major", color="#e4e7eb", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(title=f"exponent from {FROM[axis]} on", fontsize=7, title_fontsize=7, frameon=False)
    figure.supxlabel(f"{report.where}; {_rest(report, axis)}", fontsize=6)
    return figure


def _key(row: Row) -> str:
    task = "" if row.case.task == "infer" else ", a training step"
    engine = "" if row.contestant.engine == "eager" else f", {row.contestant.engine}"
    return f"{row.case.model}{engine}{task}"
