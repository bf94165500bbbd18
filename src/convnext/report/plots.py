"""Figures drawn with matplotlib into a file: the paper's Figure 1 and Figure 2, from its published tables.

The suffix of the file decides the format (.png, .svg, .pdf). Colours are apart for the colour-blind as well.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext import paper
from convnext.errors import UserError
from convnext.nn.others.roadmap import REGIMES, get_regime
from convnext.run.folder import write_output
from convnext.study.roadmap import Road, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")

_INK, _MUTED, _GRID = "#1f2933", "#6b7785", "#e3e7ec"
_AREA = 6.0
"""Points^2 of a bubble for each billion of multiply-accumulates."""
_LINE = 0.17
"""Percentage points that a name in Figure 1 is high."""
_CONVNET, _TRANSFORMER, _OURS = "#7a4fb5", "#3b8f6b", "#d9822b"


def check_suffix(path: Path) -> Path:
    """Refuses a file that cannot be drawn into, before any work.

    Raises:
        UserError: another suffix than `SUFFIXES`, or a folder that does not exist.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f'{path}: a figure is written as {", ".join(SUFFIXES)}; "{path.suffix}" is not one of them')
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist; make it first")
    return path


def _figure(
    width: float, height: float, panels: int = 1, ratios: list[float] | None = None
) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=160, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(1, panels, squeeze=False, gridspec_kw={"width_ratios": ratios or [1.0] * panels})
    axes = list(grid[0])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(_MUTED)
        axis.tick_params(colors=_INK, labelsize=9)
        axis.set_axisbelow(True)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    import matplotlib

    kind, drawn = path.suffix.lower().removeprefix("."), io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "convnext"}):  # text stays text
        figure.savefig(drawn, format=kind, metadata={"Date": None} if kind == "svg" else None)
    write_output(path, drawn.getvalue())
    return path


def draw_roadmap(road: Road, path: Path) -> Path:
    """The paper's Figure 2: accuracy and multiply-accumulates of every step; measured accuracies beside them.

    Hatched bars are steps that were tried and not adopted; grey bars behind are the other regime's, dashed lines the
    transformers that the roads are compared with. A shrunken road has measured bars only, for the steps that were
    trained.

    Raises:
        UserError: the file's suffix or folder, or a shrunken road without measurements.
    """
    check_suffix(path)
    rows = road.steps if road.scale == 1 else [row for row in road.steps if row.measured]
    panels = [_published_panel] if road.scale == 1 else []
    panels += [_measured_panel] if any(row.measured for row in rows) else []
    if not panels:
        raise UserError("a shrunken road has no published accuracies; train some steps first, then draw it")
    figure, axes = _figure(12.5 if len(panels) == 2 else 9.0, 0.36 * len(rows) + 1.7, len(panels))
    names = [row.step if road.scale == 1 else row.step.split(" (")[0] for row in rows]
    for i, (axis, draw) in enumerate(zip(axes, panels, strict=True)):
        draw(axis, road, rows)
        axis.set_yticks(range(len(rows)), names if i == 0 else [""] * len(rows))
        axis.set_ylim(len(rows) - 0.4, -0.6)
    _notes(figure, road, rows)
    start, end = road.steps[0].step.split(" (")[0], road.steps[-1].step.partition("(")[2].rstrip(")")
    shrunken = "" if road.scale == 1 else f" (widths x {road.scale!r}, a third of the blocks)"
    title = f"From {start} to {end}, one change at a time{shrunken}"
    figure.suptitle(title, fontsize=12, color=_INK, x=0.01, ha="left")
    return _save(figure, path)


def _notes(figure: Figure, road: Road, rows: list[Row]) -> None:
    """What the marks mean, below the panels."""
    hatched = "; hatched: tried, not adopted" if any(not row.adopted for row in rows) else ""
    notes = ["GMACs: counted" + ("" if road.scale == 1 else ", at 224 pixels with 1,000 classes") + hatched]
    notes += [
        f"* {row.step.split(' (')[0]}: counted {row.gmacs:.2f}, the paper prints {row.published_gmacs:.2f}"
        for row in rows
        if row.agrees is False
    ]
    figure.supxlabel("\n".join(notes), fontsize=8.5, color=_MUTED, x=0.01, ha="left")


def _published_panel(axis: Axes, road: Road, rows: list[Row]) -> None:
    """Accuracies of the tables: this regime's in front, the other's behind."""
    other_name = next(name for name in REGIMES if name != road.regime)
    own, other = (paper.rows(get_regime(name).table) for name in (road.regime, other_name))
    values = [row.published_top1 for row in rows]
    behind = [row["top1"] for row in other[: len(rows)]]
    _bars(axis, rows, values, [row.published_deviation for row in rows], _CONVNET, behind, decimals=2)
    for rival in (own[-1], other[-1]):
        axis.axvline(rival["top1"], color=_TRANSFORMER, linestyle="--", linewidth=1)
        axis.text(rival["top1"], 0, f" {rival['step']}", zorder=4, fontsize=8.5, color=_TRANSFORMER, va="center")
    title = f"ImageNet-1k top-1, % (published; grey: the road from {other[0]['step'].split(' (')[0]})"
    axis.set_title(title, fontsize=10, color=_INK, loc="left")


def _measured_panel(axis: Axes, road: Road, rows: list[Row]) -> None:
    values, errors = [_percent(row.mean) for row in rows], [_percent(row.deviation) for row in rows]
    _bars(axis, rows, values, errors, _OURS)
    seeds = max(len(row.measured) for row in rows)
    title = f"measured here, top-1, %, mean and deviation of {seeds} seeds" if seeds > 1 else "measured here, top-1, %"
    axis.set_title("\n".join(filter(None, [title, road.experiment])), fontsize=10, color=_INK, loc="left")


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _bars(
    axis: Axes,
    rows: list[Row],
    values: list[float | None],
    errors: list[float | None],
    colour: str,
    behind: list[float] | None = None,
    decimals: int = 1,
) -> None:
    """A bar for each row that has a value, its number and multiply-accumulates in a column at the right."""
    known = [value for value in values if value is not None] + (behind or [])
    reach = [value + (error or 0) for value, error in zip(values, errors, strict=True) if value is not None]
    top = max(known + reach)
    span = max(top - min(known), 2.0)
    low, high = min(known) - 0.3 * span, top + 0.08 * span
    for at, (row, value, error) in enumerate(zip(rows, values, errors, strict=True)):
        if behind is not None and value is not None:
            front = behind[at] < value  # a shorter bar would not be seen behind this one
            axis.barh(
                at, behind[at] - low, left=low, height=0.3 if front else 0.82, color=_GRID, zorder=3 if front else 1
            )
        if value is None:
            continue
        axis.barh(
            at, value - low, left=low, height=0.58, color=colour if row.adopted else "white", edgecolor=colour,
            hatch=None if row.adopted else "////", linewidth=0.8, xerr=error, ecolor=_INK, capsize=2,
        )  # fmt: skip
        mark = "*" if row.agrees is False else ""
        for x, text, ink in ((0.16, f"{value:.{decimals}f}", _INK), (0.36, f"{row.gmacs:.2f}{mark}", _MUTED)):
            axis.text(high + x * span, at, text, va="center", ha="right", fontsize=8.5, color=ink)
    for x, text in ((0.16, "top-1, %"), (0.36, "GMACs")):
        axis.text(high + x * span, -0.75, text, va="bottom", ha="right", fontsize=8.5, color=_MUTED)
    axis.set_xlim(low, high + 0.38 * span)
    axis.set_xticks([tick for tick in axis.get_xticks() if low <= tick <= high])
    axis.xaxis.grid(True, color=_GRID)


def draw_figure1(path: Path) -> Path:
    """The paper's Figure 1: ImageNet-1k accuracy of ConvNeXt beside the networks of its time, as published (Table 1).

    The area of a bubble is proportional to the multiply-accumulates of one picture.

    Raises:
        UserError: the file's suffix or folder.
    """
    check_suffix(path)
    groups = [("trained on ImageNet-1k", "1k"), ("pre-trained on ImageNet-22k", "22k")]
    figure, axes = _figure(11.5, 5.6, 2, [1.15, 1.0])
    for axis, (title, pretraining) in zip(axes, groups, strict=True):
        found = [row for row in paper.rows("table1") if row["pretraining"] == pretraining]
        families = list(dict.fromkeys(_family(row["model"]) for row in found))
        families.sort(key=lambda name: (name == "ConvNeXt", name == "Swin"))
        for at, family in enumerate(families):
            _bubbles(axis, at, [row for row in found if _family(row["model"]) == family])
        axis.set_xticks(range(len(families)), families)
        axis.set_xlim(-0.7, len(families) - 0.2)
        axis.margins(y=0.1)
        axis.yaxis.grid(True, color=_GRID)
        axis.set_title(title, fontsize=10, color=_INK, loc="left")
    axes[0].set_ylabel("ImageNet-1k top-1, %", color=_INK)
    _legend(axes[0])
    title = "ImageNet-1k accuracy as published (Table 1); area: multiply-accumulates"
    figure.suptitle(title, fontsize=12, color=_INK, x=0.01, ha="left")
    return _save(figure, path)


def _bubbles(axis: Axes, at: int, rows: list[dict[str, Any]]) -> None:
    """One family: a bubble each, the names to the right of it, the upper of two close ones moved up."""
    level = -1.0
    for row in sorted(rows, key=lambda row: (row["top1"], row["flops"])):
        colour = _CONVNET if row["family"] == "convnet" else _TRANSFORMER
        area = _AREA * row["flops"]
        axis.scatter(at, row["top1"], s=area, color=colour, alpha=0.45, edgecolor=colour, linewidth=1)
        level = max(row["top1"], level + _LINE)
        name = row["model"].removeprefix(_family(row["model"])).strip("-") or row["model"]
        axis.annotate(
            f"{name} {row['size']}", (at, level), xytext=(area**0.5 / 2 + 3, 0), textcoords="offset points",
            fontsize=7.5, color=_INK, va="center",
        )  # fmt: skip


def _family(model: str) -> str:
    return {"RegNetY": "RegNetY", "EffNet": "EffNet", "EffNetV2": "EffNet", "R": "BiT"}.get(
        model.split("-")[0], model.split("-")[0]
    )


def _legend(axis: Axes) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], marker="o", linestyle="", color=_CONVNET, alpha=0.6, markersize=8, label="ConvNet"),
        Line2D([], [], marker="o", linestyle="", color=_TRANSFORMER, alpha=0.6, markersize=8, label="transformer"),
    ]
    for macs in (5, 50):
        size = (_AREA * macs) ** 0.5
        grey = {"color": _GRID, "markeredgecolor": _MUTED, "markersize": size}
        marks.append(Line2D([], [], marker="o", linestyle="", label=f"{macs} GMACs", **grey))
    axis.legend(handles=marks, loc="lower right", fontsize=8, frameon=False, labelspacing=1.2)
