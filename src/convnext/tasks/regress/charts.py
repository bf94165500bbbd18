"""Charts of a regression's page: answers against the truth, their errors, shares within a distance, the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from convnext.data.names import figure
from convnext.tasks.blocks import Axis, Cell, Column, Curves, Histogram, Line, Mark, Point, Scatter, Series, Table
from convnext.tasks.regress.judged import Answered, Judged, splits_of
from convnext.tasks.reporting import Json
from convnext.tasks.verdicts import SPLIT_WORDS
from convnext.tasks.words import PERCENT, counted, number, percent

NAMED = 400
"""Pictures up to which a dot says under the pointer what it is."""
WHISKERS = 120
"""Pictures up to which each has its interval drawn."""
DRAWN = 4000
"""Dots at most: of more pictures every so many-th is drawn."""
_STEPS = 60
_KINDS = {"train": "train", "val": "val", "test": "test"}


def against_truth(judged: Judged, answers: Sequence[Answered]) -> Scatter:
    """A dot for each picture: the truth across, the answer upwards; few have their intervals as whiskers."""
    drawn = _some(answers)
    whiskers = len(answers) <= WHISKERS
    points = tuple(
        Point(a.truth, a.value, a.interval if whiskers else None, told=_told(judged, a, len(drawn))) for a in drawn
    )
    note = "On the dashed line both are equal."
    if judged.level is not None:
        note += f" {_share(judged)}"
        note += " The vertical lines are the intervals." if whiskers else ""
    told = f"Predicted against true values, {counted(len(drawn), 'picture')}"
    x, y = Axis("true", judged.unit), Axis("predicted", judged.unit)
    return Scatter("Predicted against true", x, y, points, told, note + _left_out(answers, drawn), equal=True)


def residuals(judged: Judged, answers: Sequence[Answered]) -> Scatter:
    """How much each answer is above or below the truth."""
    drawn = _some(answers)
    points = tuple(Point(a.truth, a.value - a.truth, told=_told(judged, a, len(drawn))) for a in drawn)
    note = f"Above the dashed line answers are too large.{_bias(judged)}{_left_out(answers, drawn)}"
    told = f"Errors by true value, {counted(len(drawn), 'picture')}"
    x, y = Axis("true", judged.unit), Axis("predicted less true", judged.unit)
    return Scatter("Residuals", x, y, points, told, note, level=0.0)


def shares_within(judged: Judged, answers: Sequence[Answered]) -> Curves | None:
    """The share of answers that are at most k from the truth, for every k: the model and always saying the median."""
    if not answers:
        return None
    truth = np.array([a.truth for a in answers])
    errors = np.abs(np.array([a.value for a in answers]) - truth)
    trivial = np.abs(truth - np.median(truth))
    most = float(np.quantile(trivial, 0.9))
    if most <= 0:
        return None
    ks = np.linspace(0, most, _STEPS + 1)
    model, always = (tuple((float(k), float((apart <= k).mean())) for k in ks) for apart in (errors, trivial))
    unit = judged.unit.name
    return Curves(
        "How many are how close",
        (Line("the model", "val", model), Line("always the median", "train", always)),
        "Share of answers that are at most k from the truth",
        "The share of answers that are at most so far from the truth. The numbers are those at the right end.",
        PERCENT,
        f"distance, {unit}" if unit else "distance",
    )


def target_histogram(data: Mapping[str, Any], judged: Judged, several: bool) -> Histogram | None:
    """How the target is spread in each split, with the median of the training pictures; None where it is not known."""
    series: list[Series] = []
    edges: list[float] = []
    for split, table in splits_of(data, judged.name).items():
        found = table.get("histogram")
        if isinstance(found, dict) and len(found.get("edges") or []) == len(found.get("counts") or []) + 1 > 1:
            edges = edges or [float(edge) for edge in found["edges"]]
            if len(found["counts"]) == len(edges) - 1:
                counts = tuple(int(count) for count in found["counts"])
                series.append(Series(SPLIT_WORDS[split], counts, _KINDS[split]))  # type: ignore[arg-type]
    if not series:
        return None
    median = number(splits_of(data, judged.name).get("train", {}).get("median"))
    marks = () if median is None else (Mark(median, f"median {judged.told(median)}"),)
    title = (
        f"How \u201c{judged.name}\u201d is spread" if several else f"How the target \u201c{judged.name}\u201d is spread"
    )
    note = "Where few pictures are the model learns less, and its numbers are less certain."
    return Histogram(title, tuple(edges), tuple(series), judged.name, judged.unit, note, marks)


def target_table(data: Mapping[str, Any], judged: Judged) -> Table | None:
    """Count, range and middle of the target in each split."""
    rows = []
    for split, table in splits_of(data, judged.name).items():
        if not number(table.get("n")):
            continue
        shown = [_value(judged, table, key) for key in ("min", "median", "mean", "max", "deviation")]
        missing = number(table.get("missing")) or 0
        note = f"{int(missing):,} without a value" if missing else ""
        rows.append((Cell(SPLIT_WORDS[split]), Cell(f"{int(table['n']):,}", note), *shown))
    unit = f"{judged.name}, {judged.unit.name}" if judged.unit.name else judged.name
    titles = (unit, "Pictures", "Smallest", "Median", "Mean", "Largest", "Deviation")
    return Table(tuple(map(Column, titles)), tuple(rows)) if rows else None


def _value(judged: Judged, table: Json, key: str) -> Cell:
    found = number(table.get(key))
    if found is None or key in ("mean", "deviation"):
        return Cell(replace(judged.unit, name="").text(found), whole=True)
    return Cell(figure(found), whole=True)


def _some(answers: Sequence[Answered]) -> Sequence[Answered]:
    """All of them, or evenly spread ones of very many, which always are the same."""
    return answers[:: -(-len(answers) // DRAWN) or 1]


def _left_out(answers: Sequence[Answered], drawn: Sequence[Answered]) -> str:
    return "" if len(drawn) == len(answers) else f" Drawn are {len(drawn):,} of {counted(len(answers), 'picture')}."


def _told(judged: Judged, answer: Answered, drawn: int) -> str:
    if drawn > NAMED:
        return ""
    ends = f" ({judged.unit.span(answer.interval)})" if answer.interval else ""
    said = f"said {judged.unit.text(answer.value)}{ends}, true {judged.told(answer.truth)}"
    return f"{answer.path}: {said}" if answer.path else said


def _share(judged: Judged) -> str:
    """How many intervals hold the truth."""
    ends = judged.interval("coverage")
    span = f" ({PERCENT.span(ends)})" if ends else ""
    promised = f"{100 * (judged.level or 0):g}\u00a0%"
    return f"{percent(judged.score('coverage'))}{span} of the {promised} intervals hold the truth."


def _bias(judged: Judged) -> str:
    """Whether answers are too large or too small on average."""
    bias, ends = judged.score("bias"), judged.interval("bias")
    if bias is None:
        return ""
    way = "large" if bias > 0 else "small"
    span = f" ({judged.unit.change(ends[0])} to {judged.unit.change(ends[1])})" if ends else ""
    if ends and ends[0] <= 0 <= ends[1]:
        return f" On average they are neither: {judged.unit.text(bias)}{span}."
    return f" On average they are too {way} by {judged.unit.text(abs(bias))}{span}."
