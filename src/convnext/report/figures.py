"""Charts as inline SVG, drawn for the report page.

Colours and fonts come from CSS classes of the page, so one drawing serves light, dark and print. Line charts are 360
units wide: about the width of a phone and a third of a desktop page. Their text of 13.5 units is never below 11 pixels
on the narrowest place they get, 300 pixels. All text goes through markupsafe, so a class named "<b>" stays text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from convnext.metrics.intervals import wilson
from convnext.report.words import percent

MARKED = 40
"""Epochs up to which each has its own dot."""


@dataclass(frozen=True)
class Line:
    """One curve. `kind` is its CSS class ("train", "val" or "ema"); a point whose y is None or not finite is a gap."""

    name: str
    kind: str
    points: tuple[tuple[float, float | None], ...]

    @property
    def known(self) -> list[tuple[float, float]]:
        """The points that can be drawn."""
        return [(x, y) for x, y in self.points if y is not None and math.isfinite(y)]


@dataclass(frozen=True)
class Frame:
    """Maps data to drawing units, with room at the left and below for tick labels."""

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


def curves(
    lines: Sequence[Line],
    *,
    title: str,
    share: bool = False,
    zero: bool = False,
    best: int | None = None,
    baseline: float | None = None,
) -> Markup:
    """A line chart over epochs; empty when no line has a point. Few epochs stand apart, each with a dot of its own.

    The drawing carries its values (`data-lines`), so that the page can show those under a finger.

    Args:
        lines: what to draw; lines without a point are left out.
        title: said to screen readers.
        share: values are fractions, ticks are percentages.
        zero: the scale begins at 0.
        best: epoch to mark.
        baseline: a level to mark with a dashed line.
    """
    lines = [line for line in lines if line.known]
    if not lines:
        return Markup("")
    values = [y for line in lines for _, y in line.known] + ([baseline] if baseline is not None else [])
    values += [0.0] * zero
    epochs = [x for line in lines for x, _ in line.known]
    y_ticks = nice_ticks(min(values), max(values))
    first, last = min(epochs), max(epochs)
    apart = 0.5 if last - first < 8 else 0.0
    frame = Frame(first - apart, last + apart, y_ticks[0], y_ticks[-1])
    parts = [_y_axis(frame, y_ticks, share), _epoch_axis(frame, first, last)]
    if baseline is not None:
        y = frame.y(baseline)
        parts.append(Markup('<path class="base" d="M{} {}H{}"/>').format(frame.left, y, frame.width - frame.right))
    if best is not None and first <= best <= last:
        parts.append(_best_mark(frame, best))
    parts += [_polyline(frame, line, share, marked=len(set(epochs)) <= MARKED) for line in lines]
    values_of = [
        [line.name, line.kind, [[x, frame.x(x), frame.y(y), value_text(y, share)] for x, y in line.known]]
        for line in lines
    ]
    return _svg(frame, title, parts, json.dumps(values_of, ensure_ascii=False, separators=(",", ":")))


def value_text(value: float, share: bool) -> str:
    """A value of a curve in words: a percentage, or three figures that count."""
    if share:
        return percent(value)
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2e}"


def _svg(frame: Frame, title: str, parts: Iterable[Markup], lines: str = "") -> Markup:
    head = Markup('<svg class="chart{}" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}"{}>')
    square = " square" if frame.height >= frame.width else ""
    told = Markup(' data-lines="{}"').format(lines) if lines else ""
    return head.format(square, frame.width, frame.height, title, told) + Markup("").join(parts) + Markup("</svg>")


def _y_axis(frame: Frame, ticks: Sequence[float], share: bool) -> Markup:
    parts = []
    for tick in ticks:
        label = f"{100 * tick:g}\u202f%" if share else f"{tick:g}"
        y = frame.y(tick)
        parts.append(Markup('<path class="grid" d="M{:g} {}H{:g}"/>').format(frame.left, y, frame.width - frame.right))
        parts.append(Markup('<text class="y" x="{:g}" y="{}">{}</text>').format(frame.left - 6, y, label))
    return Markup("").join(parts)


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


def _best_mark(frame: Frame, epoch: int) -> Markup:
    x = frame.x(epoch)
    left_side = x > frame.width / 2
    return Markup('<path class="best" d="M{} {:g}V{:g}"/><text class="best {}" x="{}" y="{:g}">best</text>').format(
        x,
        frame.top - 16,
        frame.height - frame.bottom,
        "end" if left_side else "start",
        x + (-4 if left_side else 4),
        frame.top - 8,
    )


def _polyline(frame: Frame, line: Line, share: bool, *, marked: bool) -> Markup:
    path, pen_down = [], False
    for x, y in line.points:
        drawable = y is not None and math.isfinite(y)
        if drawable and y is not None:
            path.append(f"{'L' if pen_down else 'M'}{frame.x(x)} {frame.y(y)}")
        pen_down = drawable
    dots = []
    for x, y_known in line.known if marked else line.known[-1:]:
        told = f"epoch {x:g}, {line.name}: {value_text(y_known, share)}"
        dot = Markup('<circle class="dot {}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>')
        dots.append(dot.format(line.kind, frame.x(x), frame.y(y_known), 3.5 if len(line.known) < 9 else 2.6, told))
    return Markup('<path class="line {}" d="{}"/>').format(line.kind, "".join(path)) + Markup("").join(dots)


def interval_bar(value: float, interval: Sequence[float] | None, baseline: float | None = None) -> Markup:
    """A thin 0 to 100 % scale of any width: the value as a dot, its interval as a band, the baseline as a tick."""
    at = [100 * min(1.0, max(0.0, v)) for v in (value, *(interval or (value, value)))]
    tick = Markup("")
    if baseline is not None:
        tick = Markup('<path class="tick" d="M{0:.2f} 0V12"/>').format(100 * baseline)
    return (
        Markup('<svg class="bar" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">')
        + Markup('<path class="track" d="M0 6H100"/><path class="band" d="M{:.2f} 6H{:.2f}"/>').format(at[1], at[2])
        + tick
        + Markup('<path class="value" d="M{:.2f} 6h0"/></svg>').format(at[0])
    )


def reliability(confidence: Sequence[float], accuracy: Sequence[float], count: Sequence[int]) -> Markup:
    """Accuracy against confidence: a dot for each bin, larger for more pictures, with whiskers (Wilson, 95 %)."""
    frame = Frame(0, 1, 0, 1, height=360, right=12)
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    row, parts = frame.height - frame.bottom, [_y_axis(frame, ticks, share=True)]
    for tick in ticks:
        label = Markup('<text class="x" x="{}" y="{:g}">{:g}</text>')
        parts.append(label.format(frame.x(tick), row + 17, round(100 * tick)))
    middle = (frame.left + frame.width - frame.right) / 2
    parts.append(Markup('<text class="x name" x="{:g}" y="{:g}">confidence, %</text>').format(middle, row + 34))
    ends = (frame.x(0), frame.y(0), frame.x(1), frame.y(1))
    parts.append(Markup('<path class="base" d="M{} {}L{} {}"/>').format(*ends))
    most = max(count, default=0)
    for sure, right, pictures in zip(confidence, accuracy, count, strict=True):
        if not pictures:
            continue
        low, high = wilson(right, pictures)
        x, radius = frame.x(sure), 3 + 6 * math.sqrt(pictures / most)
        told = f"confidence {percent(sure)}, right {percent(right)}, pictures: {pictures}"
        parts.append(Markup('<path class="whisker" d="M{} {}V{}"/>').format(x, frame.y(low), frame.y(high)))
        dot = Markup('<circle class="bin" cx="{}" cy="{}" r="{:.1f}"><title>{}</title></circle>')
        parts.append(dot.format(x, frame.y(right), radius, told))
    return _svg(frame, "Accuracy against confidence", parts)
