"""Charts as inline SVG, drawn for the report page.

Colours and fonts come from CSS classes of the page, so one drawing serves light, dark and print. Line charts are 360
units wide: about the width of a phone and a third of a desktop page. Their text of 13.5 units is never below 11 pixels
on the narrowest place they get, 300 pixels. All text goes through markupsafe, so a name such as "<b>" stays text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from convnext.tasks.blocks import Axis, Curves, Gauge, Histogram, Line, Point, Scatter
from convnext.tasks.words import PLAIN, Unit

MARKED = 40
"""Epochs up to which each has its own dot."""


@dataclass(frozen=True)
class Frame:
    """Maps data to drawing units, with room at the left and below for the numbers of the axes."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    width: float = 360
    height: float = 220
    left: float = 50
    right: float = 12
    top: float = 24
    bottom: float = 42

    def x(self, value: float) -> float:
        """Horizontal position of a data value."""
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return round(self.left + share * (self.width - self.left - self.right), 2)

    def y(self, value: float) -> float:
        """Vertical position of a data value; SVG counts downwards."""
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(self.height - self.bottom - share * (self.height - self.top - self.bottom), 2)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers in steps of 1, 2, 2.5 or 5 times a power of ten that cover [low, high] in about `count` steps."""
    if not high > low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def known_points(line: Line) -> list[tuple[float, float]]:
    """The points that can be drawn."""
    return [(x, y) for x, y in line.points if y is not None and math.isfinite(y)]


def curves(chart: Curves) -> Markup:
    """A line chart; empty when no line has a point. Few epochs stand apart, each with a dot of its own.

    The drawing carries its values (`data-lines`), so that the page can show those under a finger.
    """
    lines = [line for line in chart.lines if known_points(line)]
    if not lines:
        return Markup("")
    known = [point for line in lines for point in known_points(line)]
    values = [y for _, y in known] + ([chart.baseline] if chart.baseline is not None else []) + [0.0] * chart.zero
    places = [x for x, _ in known]
    y_ticks = nice_ticks(min(values), max(values))
    first, last = min(places), max(places)
    if whole := chart.x == "epoch":
        apart = 0.5 if last - first < 8 else 0.0
        frame = Frame(first - apart, last + apart, y_ticks[0], y_ticks[-1])
        x_axis = _epoch_axis(frame, first, last)
    else:
        x_ticks = nice_ticks(first, last)
        frame = Frame(x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1])
        x_axis = _x_axis(frame, x_ticks, Axis(chart.x))
    parts = [_y_axis(frame, y_ticks, chart.unit), x_axis]
    if chart.baseline is not None:
        y = frame.y(chart.baseline)
        parts.append(Markup('<path class="base" d="M{} {}H{}"/>').format(frame.left, y, frame.width - frame.right))
    if chart.best is not None and first <= chart.best <= last:
        parts.append(_best_mark(frame, chart.best))
    marked = len(set(places)) <= MARKED
    parts += [_polyline(frame, line, chart, marked=marked) for line in lines]
    values_of = [
        [line.name, line.kind, [[x, frame.x(x), frame.y(y), chart.unit.text(y)] for x, y in known_points(line)]]
        for line in lines
    ]
    told = json.dumps(values_of, ensure_ascii=False, separators=(",", ":"))
    return _svg(frame, chart.told, parts, told, "" if whole else chart.x)


def _svg(frame: Frame, title: str, parts: Iterable[Markup], lines: str = "", x: str = "", kind: str = "") -> Markup:
    head = Markup('<svg class="chart{}" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}"{}{}>')
    kind = " square" if frame.height >= frame.width else kind
    told = Markup(' data-lines="{}"').format(lines) if lines else ""
    called = Markup(' data-x="{}"').format(x) if x else ""
    return head.format(kind, frame.width, frame.height, title, told, called) + Markup("").join(parts) + Markup("</svg>")


def _y_axis(frame: Frame, ticks: Sequence[float], unit: Unit, title: str = "") -> Markup:
    parts = []
    for tick in ticks:
        y = frame.y(tick)
        parts.append(Markup('<path class="grid" d="M{:g} {}H{:g}"/>').format(frame.left, y, frame.width - frame.right))
        parts.append(Markup('<text class="y" x="{:g}" y="{}">{}</text>').format(frame.left - 6, y, unit.tick(tick)))
    if title:
        named = Markup('<text class="best start" x="{:g}" y="{:g}">{}</text>')
        parts.append(named.format(frame.left, frame.top - 11, _axis_title(Axis(title, unit))))
    return Markup("").join(parts)


def _x_axis(frame: Frame, ticks: Sequence[float], axis: Axis) -> Markup:
    """Round numbers below the drawing, and what they are."""
    row, parts = frame.height - frame.bottom, []
    for tick in ticks:
        written = Markup('<text class="x" x="{}" y="{:g}">{}</text>')
        parts.append(written.format(frame.x(tick), row + 17, axis.unit.bare_tick(tick)))
    middle = (frame.left + frame.width - frame.right) / 2
    named = Markup('<text class="x name" x="{:g}" y="{:g}">{}</text>')
    parts.append(named.format(middle, row + 34, _axis_title(axis)))
    return Markup("").join(parts)


def _axis_title(axis: Axis) -> str:
    return f"{axis.title}, {axis.unit.name}" if axis.unit.name else axis.title


def _epoch_axis(frame: Frame, first: float, last: float) -> Markup:
    ticks = sorted({first} | {t for t in nice_ticks(0, last, 6) if first < t <= last and t == int(t)})
    if last - first < 8:
        ticks = [first + step for step in range(int(last - first) + 1)]
    elif len(ticks) > 2 and ticks[1] - first < (ticks[2] - ticks[1]) / 2:
        del ticks[1]
    row = frame.height - frame.bottom
    parts = [Markup('<text class="x" x="{}" y="{:g}">{:g}</text>').format(frame.x(t), row + 17, t) for t in ticks]
    middle = (frame.left + frame.width - frame.right) / 2
    parts.append(Markup('<text class="x name" x="{:g}" y="{:g}">epoch</text>').format(middle, row + 34))
    return Markup("").join(parts)


def _best_mark(frame: Frame, value: float, name: str = "best") -> Markup:
    x = frame.x(value)
    left_side = x > frame.width / 2
    return Markup('<path class="best" d="M{} {:g}V{:g}"/><text class="best {}" x="{}" y="{:g}">{}</text>').format(
        x,
        frame.top - 16,
        frame.height - frame.bottom,
        "end" if left_side else "start",
        x + (-4 if left_side else 4),
        frame.top - 8,
        name,
    )


def _polyline(frame: Frame, line: Line, chart: Curves, *, marked: bool) -> Markup:
    path, pen_down = [], False
    for x, y in line.points:
        drawable = y is not None and math.isfinite(y)
        if drawable and y is not None:
            path.append(f"{'L' if pen_down else 'M'}{frame.x(x)} {frame.y(y)}")
        pen_down = drawable
    dots, known = [], known_points(line)
    for x, y_known in known if marked else known[-1:]:
        told = f"{chart.x} {x:g}, {line.name}: {chart.unit.text(y_known)}"
        dot = Markup('<circle class="dot {}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>')
        dots.append(dot.format(line.kind, frame.x(x), frame.y(y_known), 3.5 if len(known) < 9 else 2.6, told))
    return Markup('<path class="line {}" d="{}"/>').format(line.kind, "".join(path)) + Markup("").join(dots)


def interval_bar(gauge: Gauge) -> Markup:
    """A thin scale of any width: the value as a dot, its interval as a band, the baseline as a tick."""
    width = gauge.high - gauge.low
    ends = gauge.interval or (gauge.value, gauge.value)
    at = [100 * min(1.0, max(0.0, (v - gauge.low) / width)) for v in (gauge.value, *ends)]
    tick = Markup("")
    if gauge.baseline is not None:
        share = min(1.0, max(0.0, (gauge.baseline - gauge.low) / width))
        tick = Markup('<path class="tick" d="M{0:.2f} 0V12"/>').format(100 * share)
    return (
        Markup('<svg class="bar" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">')
        + Markup('<path class="track" d="M0 6H100"/><path class="band" d="M{:.2f} 6H{:.2f}"/>').format(at[1], at[2])
        + tick
        + Markup('<path class="value" d="M{:.2f} 6h0"/></svg>').format(at[0])
    )


def scatter(chart: Scatter) -> Markup:
    """Dots by two values, on square ground; larger ones stand for more, whiskers are intervals along y."""
    x_ticks, y_ticks = _ticks_of(chart)
    frame = Frame(x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1], height=360, right=12)
    parts = [_y_axis(frame, y_ticks, chart.y.unit, chart.y.title), _x_axis(frame, x_ticks, chart.x)]
    if chart.equal:
        ends = (frame.x(x_ticks[0]), frame.y(x_ticks[0]), frame.x(x_ticks[-1]), frame.y(x_ticks[-1]))
        parts.append(Markup('<path class="base" d="M{} {}L{} {}"/>').format(*ends))
    if chart.level is not None:
        level = Markup('<path class="base" d="M{} {}H{}"/>')
        parts.append(level.format(frame.left, frame.y(chart.level), frame.width - frame.right))
    silent = [p for p in chart.points if not (p.told or p.interval or p.weight is not None)]
    if silent:  # in one path: thousands of dots stay small
        dots = "".join(f"M{frame.x(p.x):g} {frame.y(p.y):g}h0" for p in silent)
        parts.append(Markup('<path class="points" d="{}"/>').format(dots))
    most = max((p.weight for p in chart.points if p.weight is not None), default=1.0)
    parts += [_dot(frame, p, most) for p in chart.points if p.told or p.interval or p.weight is not None]
    return _svg(frame, chart.told, parts)


def _ticks_of(chart: Scatter) -> tuple[list[float], list[float]]:
    """Round numbers along both axes, which cover all points; the same along both where equal values are marked."""
    xs = [p.x for p in chart.points] + [end for end in (chart.x.low, chart.x.high) if end is not None]
    ys = [p.y for p in chart.points] + [end for end in (chart.y.low, chart.y.high) if end is not None]
    ys += [end for p in chart.points for end in p.interval or ()] + ([] if chart.level is None else [chart.level])
    if chart.equal:
        xs = ys = xs + ys
    return nice_ticks(min(xs, default=0.0), max(xs, default=1.0)), nice_ticks(
        min(ys, default=0.0), max(ys, default=1.0)
    )


def _dot(frame: Frame, point: Point, most: float) -> Markup:
    whisker = Markup("")
    if point.interval is not None:
        low, high = point.interval
        path = Markup('<path class="whisker" d="M{} {}V{}"/>')
        whisker = path.format(frame.x(point.x), frame.y(low), frame.y(high))
    radius = 4.0 if point.weight is None else 3 + 6 * math.sqrt(point.weight / most)
    dot = Markup('<circle class="bin" cx="{}" cy="{}" r="{:.1f}"><title>{}</title></circle>')
    return whisker + dot.format(frame.x(point.x), frame.y(point.y), radius, point.told)


def histogram(chart: Histogram) -> Markup:
    """Columns between edges, the series stacked; marks are lines with names above."""
    sums = [sum(counts) for counts in zip(*(series.counts for series in chart.series), strict=True)]
    y_ticks = [tick for tick in nice_ticks(0, max(sums, default=0) or 1) if tick == int(tick)]
    x_ticks = nice_ticks(chart.edges[0], chart.edges[-1], 6)
    frame = Frame(x_ticks[0], x_ticks[-1], y_ticks[0], max(y_ticks[-1], max(sums, default=0)))
    parts = [_y_axis(frame, y_ticks, PLAIN), _x_axis(frame, x_ticks, Axis(chart.x, chart.unit))]
    for column, (low, high) in enumerate(zip(chart.edges, chart.edges[1:], strict=False)):
        floor = 0
        for series in chart.series:
            if not (count := series.counts[column]):
                continue
            told = f"{chart.unit.bare_tick(low)} to {chart.unit.text(high)}: {count:,} {series.name}".rstrip()
            box = Markup(
                '<rect class="column {}" x="{}" y="{}" width="{:.2f}" height="{:.2f}"><title>{}</title></rect>'
            )
            left, top, wide = frame.x(low), frame.y(floor + count), frame.x(high) - frame.x(low)
            parts.append(box.format(series.kind, left, top, max(wide - 1, 0.5), frame.y(floor) - top, told))
            floor += count
    for mark in chart.marks:
        parts.append(_best_mark(frame, mark.value, mark.name))
    return _svg(frame, chart.title, parts, kind=" columns")
