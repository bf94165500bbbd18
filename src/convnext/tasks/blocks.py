"""What a page is made of: sections of blocks, words and numbers only, which a task declares and report/ draws.

A block says what is shown and what a reader may press or copy, never how it looks. All text is plain and is escaped
where it is drawn; `Span` marks the few words that stand out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from convnext.tasks.words import PERCENT, PLAIN, Unit

MATRIX_MOST = 200
"""Rows above which a matrix is not drawn: it would be wider than any screen and megabytes large."""

Interval = tuple[float, float]
Kind = Literal["train", "val", "test", "ema", ""]
"""What a line, bar or column stands for: it decides the colour."""


@dataclass(frozen=True)
class Span:
    """Words that stand out in a sentence.

    Attributes:
        text: the words.
        kind: "code", "strong", "wrong" (a fault), "note" (an aside), "kept" (no line ends inside) or "arrow".
        told: what a screen reader says in its place; "" for the words themselves.
    """

    text: str
    kind: Literal["code", "strong", "wrong", "note", "kept", "arrow"]
    told: str = ""


Words = str | tuple[str | Span, ...]
"""A sentence: plain text, or parts of which some stand out."""


@dataclass(frozen=True)
class Text:
    """A paragraph; `note` is smaller. Outside a card it has one of its own."""

    words: Words
    note: bool = False


@dataclass(frozen=True)
class Gauge:
    """A value on a scale from `low` to `high`, with its interval as a band and the trivial answer as a tick."""

    value: float
    interval: Interval | None = None
    baseline: float | None = None
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True)
class Tile:
    """A headline number.

    Attributes:
        key: its name in result.json.
        title: what it is called.
        value: the number, in whatever direction is better.
        unit: how it is written.
        interval: 95 % interval, where there is one.
        baseline: what the trivial answer gets, where there is one: a tick.
        note: what it means, in a few words.
        against: the trivial answer and the difference to it, in words.
        low, high: ends of its scale, in the number's own measure.
    """

    key: str
    title: str
    value: float
    interval: Interval | None = None
    baseline: float | None = None
    note: str = ""
    against: str = ""
    unit: Unit = PERCENT
    low: float = 0.0
    high: float = 1.0

    @property
    def gauge(self) -> Gauge:
        """The same as a place on its scale."""
        return Gauge(self.value, self.interval, self.baseline, self.low, self.high)


@dataclass(frozen=True)
class Tiles:
    """Headline numbers side by side, the main one first."""

    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Column:
    """A column of a table: `count` for whole numbers, `gauge` for values with a scale; the first column names rows."""

    title: str
    kind: Literal["name", "count", "gauge", "figure"] = "figure"
    order: Literal["", "ascending", "descending"] = ""
    """How the rows are ordered by this column as they are given."""


@dataclass(frozen=True)
class Cell:
    """What a cell of a table shows.

    Attributes:
        text: its text.
        note: an aside, such as an interval.
        sort: what the column is ordered by when its title is pressed; "" where it is not.
        gauge: a scale below the text.
        wrong: the text names a fault.
        whole: no line ends inside the text, on narrow screens either.
    """

    text: str
    note: str = ""
    sort: float | int | str = ""
    gauge: Gauge | None = None
    wrong: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells. A table with gauges can be ordered by its columns' titles; above `tall` rows it scrolls."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    tall: int = 25


@dataclass(frozen=True)
class Matrix:
    """Counts of truth (rows) against prediction (columns), K x K, K up to `MATRIX_MOST`.

    Attributes:
        counts: K rows of K counts.
        names: of rows and columns alike.
        links: cell (row, column) -> the `link` of what belongs to it on the page.
        right, wrong: what a cell on the diagonal, and another one, says of the two names.
    """

    counts: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]
    links: Mapping[tuple[int, int], str] = field(default_factory=dict)
    title: str = "Confusion matrix"
    right: str = "recognised"
    wrong: str = "taken for"


@dataclass(frozen=True)
class Ranked:
    """An entry of a ranking: its words, its number, and what it leads to on the page ("" for nothing)."""

    words: Words
    note: str
    link: str = ""


@dataclass(frozen=True)
class Ranking:
    """Entries from the first to the last, each with its number."""

    entries: tuple[Ranked, ...]


@dataclass(frozen=True)
class Step:
    """One thing to do: words, and a command to copy ("" where there is none); `kind` tells steps apart."""

    text: str
    command: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Steps:
    """What to do, one thing after the other."""

    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Series:
    """Counts of one kind, one for each bar or column."""

    name: str
    counts: tuple[int, ...]
    kind: Kind = ""


@dataclass(frozen=True)
class Bars:
    """A bar for each name, its parts one after the other."""

    title: str
    names: tuple[str, ...]
    series: tuple[Series, ...]
    note: str = ""


@dataclass(frozen=True)
class Mark:
    """A value on an axis that has a name, such as the median."""

    value: float
    name: str


@dataclass(frozen=True)
class Histogram:
    """How often values lie between edges: n + 1 edges, n counts a series, stacked.

    Attributes:
        x: what the values are called.
        unit: how they are written.
        marks: values with a line of their own.
    """

    title: str
    edges: tuple[float, ...]
    series: tuple[Series, ...]
    x: str
    unit: Unit = PLAIN
    note: str = ""
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Axis:
    """An axis: its title, its unit, and ends that it has even where no value lies there."""

    title: str = ""
    unit: Unit = PLAIN
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Point:
    """A dot of a scatter.

    Attributes:
        x, y: where it lies.
        interval: ends of a whisker along y.
        weight: how much it stands for, seen as its size among the others; None: all are alike.
        told: what it says under the pointer.
    """

    x: float
    y: float
    interval: Interval | None = None
    weight: float | None = None
    told: str = ""


@dataclass(frozen=True)
class Scatter:
    """Dots by two values.

    Attributes:
        told: what a screen reader says.
        equal: a dashed line where both values are the same; both axes then have one range.
        level: a dashed line at a value of y.
    """

    title: str
    x: Axis
    y: Axis
    points: tuple[Point, ...]
    told: str
    note: str = ""
    equal: bool = False
    level: float | None = None


@dataclass(frozen=True)
class Line:
    """One curve; a point whose y is None or not finite is a gap."""

    name: str
    kind: Kind
    points: tuple[tuple[float, float | None], ...]


@dataclass(frozen=True)
class Curves:
    """Lines over epochs, or over what `x` says; their values are shown under the pointer.

    Attributes:
        told: what a screen reader says.
        unit: how values of y are written.
        x: what values of x are called.
        best: value of x that is marked as the best.
        baseline: a dashed level.
        zero: the scale begins at 0.
    """

    title: str
    lines: tuple[Line, ...]
    told: str
    note: str = ""
    unit: Unit = PLAIN
    x: str = "epoch"
    best: float | None = None
    baseline: float | None = None
    zero: bool = False


@dataclass(frozen=True)
class Exhibit:
    """A picture with what is said of it.

    Attributes:
        picture: its file below the run folder; anything else is shown as missing.
        alt: the picture in words.
        lines: (what, text, whether it names a fault).
        path: its whole name, which can be copied.
        name: the name that is shown.
        meter: a share from 0 to 1 drawn as a bar, with its text.
    """

    picture: object
    alt: str
    lines: tuple[tuple[str, str, bool], ...]
    path: str
    name: str
    meter: tuple[float, str] | None = None


@dataclass(frozen=True)
class Group:
    """Pictures that belong together; others lead to `link`, which is unlike all other names on the page."""

    link: str
    title: Words
    exhibits: tuple[Exhibit, ...]
    note: str = ""


@dataclass(frozen=True)
class Gallery:
    """Groups of pictures, each of which opens when it is pressed."""

    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Card:
    """Blocks in a frame of their own, below a title."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Row:
    """Blocks side by side where there is room: "even", "fit" for a wide one first, "stacked" for one below another."""

    blocks: tuple[Block, ...]
    shape: Literal["even", "fit", "stacked"] = "even"


Block = (
    Text | Tiles | Table | Matrix | Ranking | Steps | Bars | Histogram | Scatter | Curves | Gallery | Card | Row
)  # fmt: skip


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: its name on the page, unlike all others there.
        title: its heading.
        intro: what the reader should know first; "" for nothing.
        blocks: what it shows.
        link: its title in the list of sections.
    """

    key: str
    title: str
    intro: Words
    blocks: tuple[Block, ...]
    link: str
