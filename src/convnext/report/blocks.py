"""Draws declared blocks as HTML: a macro of blocks.html.j2 for each kind, charts and pictures from here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from jinja2 import Environment, FunctionLoader
from markupsafe import Markup, escape

from convnext.report import figures
from convnext.report.matrix import matrix
from convnext.report.pictures import picture_uri
from convnext.tasks.blocks import Bars, Block, Curves, Section, Span, Words

_TAGS = {
    "code": Markup("<code>{}</code>"), "strong": Markup("<b>{}</b>"), "wrong": Markup('<span class="wrong">{}</span>'),
    "note": Markup('<span class="note">{}</span>'), "kept": Markup('<span class="nb">{}</span>'),
    "arrow": Markup('<span class="arrow" aria-label="{1}">{0}</span>'),
}  # fmt: skip


def environment() -> Environment:
    """The templates of this folder; values are escaped."""
    return Environment(loader=FunctionLoader(_template), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def _template(name: str) -> str:
    return resources.files("convnext.report").joinpath(name).read_text(encoding="utf-8")


class Drawer:
    """Draws the blocks of one page, whose pictures lie in a run folder.

    Args:
        folder: the run folder; pictures outside it are shown as missing.
    """

    def __init__(self, folder: Path) -> None:
        numbers: Iterator[int] = itertools.count()
        made = environment()
        made.globals.update(
            draw=self.draw, words=words, matrix=matrix, curves=figures.curves, scatter=figures.scatter,
            histogram=figures.histogram, interval_bar=figures.interval_bar, legend=legend, bars_of=bars_of,
            picture=lambda name: picture_uri(folder, name), next_number=lambda: next(numbers),
        )  # fmt: skip
        self._macros = made.get_template("blocks.html.j2").module

    def draw(self, block: Block, inside: bool = False) -> Markup:
        """One block; `inside` says that it stands in a card already."""
        return Markup(getattr(self._macros, type(block).__name__)(block, inside))

    def section(self, section: Section) -> Markup:
        """A section with all its blocks."""
        return Markup(self._macros.section(section))  # type: ignore[attr-defined]


def words(text: Words) -> Markup:
    """A sentence as HTML, its parts that stand out marked."""
    parts = (text,) if isinstance(text, str) else text
    return Markup("").join(_TAGS[p.kind].format(p.text, p.told) if isinstance(p, Span) else escape(p) for p in parts)


def legend(chart: Curves) -> list[tuple[str, str, str]]:
    """The lines that have points: kind, name and last value."""
    known = [(line, points[-1][1]) for line in chart.lines if (points := figures.known_points(line))]
    return [(line.kind, line.name, chart.unit.text(last)) for line, last in known]


def bars_of(block: Bars) -> list[dict[str, object]]:
    """One row a name: its sum, its parts as kind and length in per cent of the longest, and the same in words."""
    columns = list(zip(*(series.counts for series in block.series), strict=True))
    longest = max(map(sum, columns), default=0) or 1
    rows: list[dict[str, object]] = []
    for name, counts in zip(block.names, columns, strict=True):
        told = ", ".join(f"{series.name} {count}" for series, count in zip(block.series, counts, strict=True))
        parts = [
            (series.kind, round(100 * count / longest, 3))
            for series, count in zip(block.series, counts, strict=True)
            if count
        ]
        rows.append({"name": name, "total": sum(counts), "told": told, "parts": parts})
    return rows
