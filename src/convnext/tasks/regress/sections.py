"""The parts of a regression's page: errors, ranges and intervals of each target, and the worst answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from convnext.tasks.blocks import (
    Block,
    Card,
    Cell,
    Column,
    Gauge,
    Interval,
    Row,
    Section,
    Span,
    Table,
    Text,
)
from convnext.tasks.regress.charts import against_truth, residuals, shares_within
from convnext.tasks.regress.conformal import interval_text
from convnext.tasks.regress.gallery import worst
from convnext.tasks.regress.judged import Answered, Judged, answers_of, targets_of
from convnext.tasks.regress.scaling import Target
from convnext.tasks.regress.verdict import gain_text
from convnext.tasks.reporting import RunTables
from convnext.tasks.verdicts import split_word
from convnext.tasks.words import PERCENT, Unit, counted, number, percent

NAMES = {
    "mae": "Mean absolute error", "rmse": "Root mean square error", "median_error": "Median error", "bias": "Bias",
    "r2": "R\u00b2", "spearman": "Spearman correlation", "coverage": "Coverage", "width": "Interval width",
}  # fmt: skip
"""Scores in words, in the order of the page; shares within K stand before R squared."""


def sections(run: RunTables) -> list[Section]:
    """A part for each target, and the worst answers."""
    targets = targets_of(run.result, run.data) if run.result else []
    rows = run.predictions() if targets else []
    found = [_errors(run, each, at, len(targets), answers_of(rows, each.name)) for at, each in enumerate(targets)]
    gallery = worst(run, targets)
    return [*found, *([gallery] if gallery else [])]


def scores_of(judged: Judged) -> list[tuple[str, str]]:
    """(key, title) of the scores that a target has, in the order of the page."""
    before = [(key, NAMES[key]) for key in ("mae", "rmse", "median_error")]
    within = [(key, f"Within {judged.told(k)}") for k, key in judged.within]
    after = [(key, NAMES[key]) for key in ("r2", "spearman", "bias", "coverage", "width")]
    return [(key, title) for key, title in (*before, *within, *after) if judged.score(key) is not None]


def _errors(run: RunTables, judged: Judged, at: int, targets: int, answers: Sequence[Answered]) -> Section:
    """One target: all scores where there are several targets, its charts, ranges and intervals."""
    blocks: list[Block] = [_scores(judged)] if targets > 1 and judged.n else []
    if judged.n and len(answers) == judged.n:
        blocks.append(Row((against_truth(judged, answers), residuals(judged, answers)), "even"))
    elif judged.n:
        told = "The dots are missing: predictions.csv is not there, or has other pictures than result.json."
        blocks.append(Text(told, note=True))
    if table := _ranges(judged):
        blocks.append(table)
    close = shares_within(judged, answers) if len(answers) == judged.n else None
    trust = _intervals(run, judged, answers)
    side = [block for block in (close, trust) if block is not None]
    blocks += [Row(tuple(side), "even")] if len(side) == 2 else side
    if not judged.n:
        blocks.append(Text("None of these pictures has a known value of it.", note=True))
    name, intro = f"{judged.name}: how far off it is", _intro(run, judged)
    if targets == 1:
        return Section("errors", "How far off it is", intro, tuple(blocks), "Errors")
    return Section(f"errors-{at}", name, intro, tuple(blocks), judged.name)


def _intro(run: RunTables, judged: Judged) -> str:
    pictures = counted(judged.n, f"{split_word(run.result)} picture")
    missing = int(judged.score("missing") or 0)
    left = f" {counted(missing, 'picture')} without a known value {'is' if missing == 1 else 'are'} left out."
    text = f"Each dot is one of {pictures}." if judged.n != 1 else "The dot is the one picture."
    return text + (left if missing else "")


def _scores(judged: Judged) -> Table:
    """Every score beside the trivial answer, and the difference on the same pictures."""
    rows = []
    for key, title in scores_of(judged):
        unit, ends, gets = judged.unit_of(key), judged.interval(key), judged.baseline(key)
        value = judged.score(key)
        trivial = unit.text(gets) if gets is not None and key != "bias" else "\u2013"
        shown = unit.text(value) if key != "bias" else f"{unit.change(value or 0.0)}\u00a0{unit.of_change}".rstrip()
        rows.append(
            (
                Cell(title),
                Cell(shown, f"({_span(unit, key, ends)})" if ends else "", whole=True),
                Cell(trivial, whole=True),
                Cell(gain_text(judged, key), whole=True),
            )
        )
    titles = ("Score", "Model", "Trivial answer", "Gain on the same pictures")
    return Table(tuple(map(Column, titles)), tuple(rows), tall=len(rows))


def _span(unit: Unit, key: str, ends: Interval) -> str:
    return f"{unit.change(ends[0])} to {unit.change(ends[1])}" if key == "bias" else unit.span(ends)


def _ranges(judged: Judged) -> Card | None:
    """The errors by range of the target, from its smallest values to its largest."""
    rows = judged.ranges
    if len(rows) < 2:
        return None
    most = max([1e-300, *(value for row in rows for value in (row.score("mae"), row.baseline("mae")) if value)])
    off = max([1e-300, *(abs(end) for row in rows for end in row.interval("bias") or (row.score("bias") or 0.0,))])
    trusted = any(row.score("coverage") is not None for row in rows)
    unit = f", {judged.unit.name}" if judged.unit.name else ""
    titles = [Column(f"Range{unit}", "name", "ascending"), Column("Pictures", "count"), Column(f"MAE{unit}", "gauge")]
    titles += [Column(f"Bias{unit}", "gauge"), *([Column("Coverage", "gauge")] if trusted else [])]
    cells = []
    for row in rows:
        line = [Cell(row.name, sort=row.score("low") or 0.0), Cell(f"{row.n:,}", sort=row.n)]
        line += [_gauge(row, "mae", row.baseline("mae"), most), _bias(row, off)]
        cells.append((*line, _gauge(row, "coverage", judged.level, 1.0)) if trusted else tuple(line))
    told = (
        "Parts of about as many pictures each. Bias: above 0 answers are too large; too large at the low end and too "
        "small at the high end are answers that keep to the middle. Orange ticks: always saying the median, no bias"
    ) + (", what is promised." if trusted else ".")
    return Card("By range of the target", (Text(told, note=True), Table(tuple(titles), tuple(cells))))


def _gauge(row: Judged, key: str, tick: float | None, most: float) -> Cell:
    value, ends, unit = row.score(key), row.interval(key), row.unit_of(key)
    if value is None:
        return Cell("\u2013", sort=-1)
    shown = percent(value) if key == "coverage" else f"{value:.{unit.digits}f}"
    return Cell(shown, unit.span(ends) if ends else "", value, Gauge(value, ends, tick, 0.0, most))


def _bias(row: Judged, most: float) -> Cell:
    value, ends = row.score("bias"), row.interval("bias")
    if value is None:
        return Cell("\u2013", sort=0)
    span = f"{row.unit.change(ends[0])} to {row.unit.change(ends[1])}" if ends else ""
    return Cell(row.unit.change(value), span, value, Gauge(value, ends, 0.0, -most, most))


def _intervals(run: RunTables, judged: Judged, answers: Sequence[Answered]) -> Card | None:
    """What the intervals promise, what they keep, and what they stand on; None where none were wanted."""
    known, level = judged.calibration, number(judged.calibration.get("level"))
    if not known or level is None:
        return None
    title, shortage = "Can its intervals be trusted?", str(known.get("shortage") or "")
    if judged.level is None:
        why = shortage or "No interval was measured on these pictures."
        return Card(title, (Text("The answers have no intervals."), Text(why, note=True)))
    promised, value, ends = f"{100 * level:g}\u00a0%", judged.score("coverage"), judged.interval("coverage")
    span = f" ({PERCENT.span(ends)})" if ends else ""
    texts = [*_example(judged, answers, level)]
    told = f" hold the truth{judged.covered}; {promised} were promised."
    if run.result.get("split") == "val" and not judged.covered:
        told += " Some of these pictures made the intervals, so this flatters a little."
    texts.append(Text((Span(f"{percent(value)}{span}", "strong"), told)))
    width, trivial = judged.score("width"), judged.baseline("width")
    if width is not None:
        told = f"They are {judged.unit.text(width)} wide on average"
        one = f", where one interval for all pictures would be {judged.unit.text(trivial)} wide" if trivial else ""
        kind = {"absolute": ", all alike", "scaled": ", wider where the network is less sure"}
        texts.append(Text(told + kind.get(str(run.result.get("width_kind")), "") + one + "."))
    return Card(title, (*texts, Text(_stands_on(judged, level), note=True)))


def _example(judged: Judged, answers: Sequence[Answered], level: float) -> list[Text]:
    """The answer in the middle, as `convnext predict` writes it."""
    known = sorted((a for a in answers if a.interval is not None), key=lambda a: a.value)
    if not known:
        return []
    middle = known[len(known) // 2]
    low, high = middle.interval or (middle.value, middle.value)
    reads = interval_text(Target(judged.name, judged.unit.name), middle.value, low, high, level)
    return [Text(("An answer reads ", Span(reads, "strong"), "."))]


def _stands_on(judged: Judged, level: float) -> str:
    pictures = int(number(judged.calibration.get("pictures")) or 0)
    if not pictures:
        return ""
    varies = 100 * math.sqrt(level * (1 - level) / (pictures + 2))
    text = (
        f"Their width comes from {counted(pictures, 'validation picture')} that neither trained the network nor chose "
        f"its best epoch. Another {pictures:,} would move the true share by about {varies:.1f} points. "
    )
    return text + "The promise is for pictures like those, over all of them: not for each range, nor for other cameras."
