"""Charts as inline SVG, drawn for the report page.

Colours and fonts come from CSS classes of the page, so one drawing serves light, dark and print. Line charts are 360
units wide: about the width of a phone and a third of a desktop page, so their text keeps its size on both. All text
goes through markupsafe, so a class named "<b>" stays text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from convnext.metrics.intervals import wilson
from convnext.report.words import percent

NO_MATRIX_ABOVE = 200
"""Classes above which the confusion matrix is not drawn: it would be wider than any screen and megabytes large."""


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
    left: float = 42
    right: float = 10
    top: float = 12
    bottom: float = 34

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
    """A line chart over epochs; empty when no line has a point.

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
    lonely = first == last
    frame = Frame(first - 0.5 * lonely, last + 0.5 * lonely, y_ticks[0], y_ticks[-1])
    parts = [_y_axis(frame, y_ticks, share), _epoch_axis(frame, first, last)]
    if baseline is not None:
        y = frame.y(baseline)
        parts.append(Markup('<path class="base" d="M{} {}H{}"/>').format(frame.left, y, frame.width - frame.right))
    if best is not None and first <= best <= last:
        parts.append(_best_mark(frame, best))
    parts += [_polyline(frame, line) for line in lines]
    return _svg(frame, title, parts)


def _svg(frame: Frame, title: str, parts: Iterable[Markup]) -> Markup:
    head = Markup('<svg class="chart{}" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">')
    square = " square" if frame.height >= frame.width else ""
    return head.format(square, frame.width, frame.height, title) + Markup("").join(parts) + Markup("</svg>")


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
    if len(ticks) > 2 and ticks[1] - first < (ticks[2] - ticks[1]) / 2:
        del ticks[1]
    row = frame.height - frame.bottom
    parts = [Markup('<text class="x" x="{}" y="{:g}">{:g}</text>').format(frame.x(t), row + 14, t) for t in ticks]
    middle = (frame.left + frame.width - frame.right) / 2
    parts.append(Markup('<text class="x name" x="{:g}" y="{:g}">epoch</text>').format(middle, row + 29))
    return Markup("").join(parts)


def _best_mark(frame: Frame, epoch: int) -> Markup:
    x = frame.x(epoch)
    left_side = x > frame.width / 2
    return Markup('<path class="best" d="M{} {:g}V{:g}"/><text class="best {}" x="{}" y="{:g}">best</text>').format(
        x,
        frame.top,
        frame.height - frame.bottom,
        "end" if left_side else "start",
        x + (-4 if left_side else 4),
        frame.top + 4,
    )


def _polyline(frame: Frame, line: Line) -> Markup:
    path, pen_down = [], False
    for x, y in line.points:
        drawable = y is not None and math.isfinite(y)
        if drawable and y is not None:
            path.append(f"{'L' if pen_down else 'M'}{frame.x(x)} {frame.y(y)}")
        pen_down = drawable
    x, y_last = line.known[-1]
    dot = Markup('<circle class="dot {}" cx="{}" cy="{}" r="3"/>').format(line.kind, frame.x(x), frame.y(y_last))
    return Markup('<path class="line {}" d="{}"/>').format(line.kind, "".join(path)) + dot


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
        parts.append(label.format(frame.x(tick), row + 14, round(100 * tick)))
    middle = (frame.left + frame.width - frame.right) / 2
    parts.append(Markup('<text class="x name" x="{:g}" y="{:g}">confidence, %</text>').format(middle, row + 29))
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


@dataclass(frozen=True)
class _Matrix:
    """Sizes of a confusion matrix drawing, from the number of classes and the longest name."""

    count: int
    longest: int

    @property
    def cell(self) -> int:
        """Side of a cell, in pixels."""
        return next((cell for most, cell in ((3, 96), (6, 68), (12, 44), (25, 30), (60, 19)) if self.count <= most), 11)

    @property
    def least(self) -> float:
        """How far a narrow screen may shrink the drawing before it scrolls: small matrices have large text."""
        return 0.62 if self.count <= 6 else 0.78

    @property
    def font(self) -> float:
        """Size of the names; the counts are the same or smaller."""
        return (
            14
            if self.count <= 6
            else 12.5
            if self.count <= 12
            else 11
            if self.count <= 25
            else 10
            if self.count <= 60
            else 9
        )

    @property
    def label(self) -> float:
        """Width of the column of names."""
        return max(78.0, self.longest * self.font * 0.58 + 10)

    @property
    def flat(self) -> bool:
        """Whether names fit above the columns without turning them."""
        return self.longest * self.font * 0.58 <= self.cell - 4

    @property
    def top(self) -> float:
        """Height of the names above the columns."""
        if self.flat:
            return 40.0
        return self.label * (0.72 if self.count <= 12 else 1.0) + 18

    @property
    def width(self) -> float:
        """Width of the drawing: turned names of the last columns lean out to the right."""
        lean = 0.0 if self.flat or self.count > 12 else self.label * 0.62
        return self.label + self.count * self.cell + lean + 2


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Markup:
    """Counts of truth (rows) against prediction (columns), shaded by their share of the row.

    Right answers and mistakes have a colour each. Cells without pictures are not drawn, so that a hundred classes stay
    small. Empty above `NO_MATRIX_ABOVE` classes.
    """
    if not classes or len(classes) > NO_MATRIX_ABOVE:
        return Markup("")
    names = [_short(name) for name in classes]
    size = _Matrix(len(classes), max(len(name) for name in names))
    side = size.count * size.cell
    parts = [
        Markup('<rect class="floor" x="{:g}" y="{:g}" width="{}" height="{}"/>').format(
            size.label, size.top, side, side
        )
    ]
    for index, name in enumerate(names):
        parts.append(_matrix_names(size, index, name, classes[index]))
    for truth, row in enumerate(matrix):
        total = sum(row)
        for guess, pictures in enumerate(row):
            if pictures or size.count <= 12:
                told = (
                    f"{classes[truth]} taken for {classes[guess]}" if truth != guess else f"{classes[truth]} recognised"
                )
                parts.append(_matrix_cell(size, truth, guess, pictures, total, told))
    head = Markup(
        '<svg class="matrix" viewBox="0 0 {0:.0f} {1:.0f}" role="img" aria-label="Confusion matrix" '
        'style="width:{0:.0f}px;min-width:{2:.0f}px;font-size:{3:g}px">'
        '<text class="name end" x="{4:.1f}" y="{5:.1f}">predicted \u2192</text>'
        '<text class="name end" x="{4:.1f}" y="{6:.1f}">truth \u2193</text>'
    )
    corner = (size.label - 6, size.top - 22, size.top - 7)
    opening = head.format(size.width, size.top + side + 2, size.least * size.width, size.font, *corner)
    return opening + Markup("").join(parts) + Markup("</svg>")


def _matrix_names(size: _Matrix, index: int, name: str, full: str) -> Markup:
    along = (index + 0.5) * size.cell
    x, y = size.label + along, size.top - 7
    turn = 0 if size.flat else -45 if size.count <= 12 else -90
    row = Markup('<text class="end" x="{:.1f}" y="{:.1f}" dy=".35em"><title>{}</title>{}</text>')
    column = Markup('<text class="{}" transform="translate({:.1f} {:.1f}) rotate({})"{}><title>{}</title>{}</text>')
    drop = Markup(' dy=".35em"') if turn == -90 else Markup("")
    place = "mid" if size.flat else "start"
    return row.format(size.label - 6, size.top + along, full, name) + column.format(place, x, y, turn, drop, full, name)


def _matrix_cell(size: _Matrix, truth: int, guess: int, pictures: int, total: int, told: str) -> Markup:
    part = pictures / total if total else 0.0
    x, y = size.label + guess * size.cell, size.top + truth * size.cell
    kind = "right" if truth == guess else "wrong"
    strength = part ** (0.6 if size.count <= 25 else 0.45)  # a confusion of a few per cent must still be seen
    gap = 1 if size.cell > 12 else 0.5
    box = Markup('<g class="{}"><title>{}: {} of {} ({})</title><rect x="{:g}" y="{:g}" width="{:g}" height="{:g}" ')
    out = box.format(
        kind, told, pictures, total, percent(part), x + gap, y + gap, size.cell - 2 * gap, size.cell - 2 * gap
    )
    out += Markup('rx="{}" fill-opacity="{:.2f}"/>').format(4 if size.cell > 25 else 1, strength)
    if size.cell >= 19:
        middle = size.cell / 2
        ink = "strong" if strength > 0.62 else "none" if not pictures else "weak"
        font = min(size.font + 1, 1.55 * size.cell / max(len(str(pictures)), 2))
        text = Markup('<text class="mid {}" x="{:g}" y="{:g}" dy=".35em" style="font-size:{:.1f}px">{}</text>')
        out += text.format(ink, x + middle, y + middle, font, pictures)
    return out + Markup("</g>")


def _short(name: str, most: int = 18) -> str:
    return name if len(name) <= most else name[: most - 1] + "\u2026"
