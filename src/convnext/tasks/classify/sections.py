"""The parts of a classification's page: confusions, classes, thresholds, confidence and mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convnext.metrics.intervals import wilson
from convnext.tasks.blocks import (
    MATRIX_MOST,
    Axis,
    Block,
    Card,
    Cell,
    Column,
    Gauge,
    Matrix,
    Point,
    Ranked,
    Ranking,
    Row,
    Scatter,
    Section,
    Span,
    Table,
    Text,
    Words,
)  # fmt: skip
from convnext.tasks.classify.baseline import class_names, has_several, weakest_first
from convnext.tasks.classify.gallery import arrow, linked_cells, mistakes, square_of
from convnext.tasks.reporting import Json, RunTables
from convnext.tasks.verdicts import interval_of, split_word
from convnext.tasks.words import PERCENT, PLAIN, number, percent

_COLUMNS = (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1"), ("average_precision", "Avg. precision"))
_AT_THRESHOLDS = (
    ("micro_f1", "Micro-F1"), ("macro_f1", "Macro F1"), ("exact_match", "Exact match"),
    ("macro_precision", "Macro precision"), ("macro_recall", "Macro recall"),
)  # fmt: skip


def sections(run: RunTables) -> list[Section]:
    """The sections that the result has numbers for, in the order of the page."""
    groups = mistakes(run)
    found = [_confusions(run, groups), _classes(run), _thresholds(run.result), _confidence(run), groups]
    return [section for section in found if section is not None]


def _confusions(run: RunTables, groups: Section | None) -> Section | None:
    """What is taken for what, for one label a picture."""
    counts, names = square_of(run), class_names(run)
    if not counts:
        return None
    links = linked_cells(groups)
    drawn: Block
    if len(names) <= MATRIX_MOST:
        drawn = Matrix(tuple(tuple(row) for row in counts), tuple(names), links)
    else:
        large = f"With {len(names):,} classes the matrix is too large to draw (the limit is {MATRIX_MOST})"
        drawn = Text(f"{large}; all its counts are in result.json.", note=True)
    most = 8 if len(names) <= 25 else 16
    common = common_mistakes(counts, names, links, most)
    ranked: Block = Ranking(tuple(common)) if common else Text("None: every picture was recognised.", note=True)
    intro = (
        f"Each row holds the {split_word(run.result)} pictures of one class, each column what the network said; "
        "the numbers count pictures."
    )
    if groups is not None:
        intro += " Underlined ones lead to their pictures."
    beside = len(names) <= 12 or isinstance(drawn, Text)
    row = Row((drawn, Card("Most frequent confusions", (ranked,))), "fit" if beside else "stacked")
    return Section("confusion", "What is taken for what", intro, (row,), "Confusions")


def common_mistakes(
    matrix: Sequence[Sequence[int]], classes: Sequence[str], links: Mapping[tuple[int, int], str], most: int = 8
) -> list[Ranked]:
    """The commonest confusions: truth and prediction, their count and share, and the link to their pictures."""
    pairs = [
        (-count, truth, guess)
        for truth, row in enumerate(matrix)
        for guess, count in enumerate(row)
        if guess != truth and count > 0
    ]
    out = []
    for count, truth, guess in sorted(pairs)[:most]:
        total = sum(matrix[truth])
        note = f"{-count} of {total} ({percent(-count / total)})"
        out.append(Ranked(arrow(classes[truth], classes[guess]), note, links.get((truth, guess), "")))
    return out


def _classes(run: RunTables) -> Section | None:
    """Class by class, the weakest first."""
    rows = run.result.get("per_class")
    if not rows:
        return None
    columns = [pair for pair in _COLUMNS if any(pair[0] in row for row in rows)]
    titles = [Column("Class", "name"), Column("Pictures", "count")]
    titles += [Column(title, "gauge", "ascending" if key == "f1" else "") for key, title in columns]
    cells = [_class_row(row, [key for key, _ in columns]) for row in weakest_first(run.result)]
    intro = (
        "Precision: of the pictures called by this name, how many are. Recall: of the pictures of this class, how many "
        "were found. F1 combines both. The weakest class comes first."
    )
    if has_several(run):
        intro += " Average precision: how well its pictures are ranked above the others."
    return Section("classes", "Class by class", intro, (Table(tuple(titles), tuple(cells)),), "Classes")


def _class_row(row: Json, keys: Sequence[str]) -> tuple[Cell, ...]:
    """The cells of a class: name, pictures, and each metric with its interval."""
    name, n = row.get("name", ""), row.get("n", "")
    cells = [Cell(str(name), sort=name), Cell(str(n), sort=n)]
    for key in keys:
        value, ends = number(row.get(key)), interval_of(row, key)
        sort: float | int = -1 if value is None else row[key]
        if key == "precision" and row.get("named") == 0 and n:
            cells.append(Cell("never named", sort=sort, wrong=True))
        elif value is None:
            cells.append(Cell(percent(None), sort=sort))
        else:
            cells.append(Cell(percent(value), PERCENT.span(ends) if ends else "", sort, Gauge(value, ends)))
    return tuple(cells)


def _thresholds(result: Json) -> Section | None:
    """The metrics at one half beside those at each label's own threshold, and the thresholds, where they are kept."""
    kept, chosen = result.get("thresholds"), result.get("at_thresholds")
    if not isinstance(kept, dict) or not isinstance(chosen, dict):
        return None
    aim = str(kept.get("for", "")).replace("_", " ").replace("f1", "F1")
    intro = (
        f"Chosen on validation{f', for the best {aim}' if aim else ''}: above it a label is named by ",
        Span("convnext predict", "code"),
        f". Both columns are of the same {split_word(result)} pictures.",
    )
    rows = [
        (Cell(title), _share(result, key), _share(chosen, key))
        for key, title in _AT_THRESHOLDS
        if number(chosen.get(key)) is not None
    ]
    values: Json = kept.get("values") or {}
    new = {row.get("name"): row for row in chosen.get("per_class") or [] if isinstance(row, dict)}
    classes = []
    for row in weakest_first(result):
        name = str(row.get("name"))
        shares = (number(values.get(name)), row.get("f1"), new.get(name, {}).get("f1"))
        classes.append((Cell(name), *(Cell(percent(share), whole=True) for share in shares)))
    titles = ("Class", "Threshold", "F1 at 50\u00a0%", "F1 at it")
    tables = (
        Table(tuple(map(Column, ("Metric", "at 50\u00a0%", "at the thresholds"))), tuple(rows), tall=len(rows)),
        Table(tuple(map(Column, titles)), tuple(classes), tall=12),
    )
    return Section("thresholds", "A threshold for each label", intro, (Row(tables, "even"),), "Thresholds")


def _share(metrics: Mapping[str, Any], key: str) -> Cell:
    ends = interval_of(metrics, key)
    return Cell(percent(number(metrics.get(key))), PERCENT.span(ends) if ends else "")


def _confidence(run: RunTables) -> Section | None:
    """Whether the confidence can be trusted: the reliability diagram, and the same in numbers."""
    result, several = run.result, has_several(run)
    bins = result.get("reliability")
    if not bins:
        return None
    intro = (
        f"Dots on the dashed line mean yes: of the {'labels' if several else 'pictures'} it is 80 % sure of, 80 % are "
        f"{'there' if several else 'right'}. Below the line it is too sure, above it is too modest."
    )
    what = "Labels that are there" if several else "Pictures right"
    drawn = reliability(bins["confidence"], bins["accuracy"], bins["count"], f"{what}, by confidence")
    apart: Words = (
        "Confidence and truth are ", Span(percent(result.get("calibration_error")), "strong"), " apart on average",
        *_in_brackets(interval_of(result, "calibration_error"), PERCENT.span),
        f": the calibration error, over {len(bins['count'])} equal steps of confidence.",
    )  # fmt: skip
    texts = [Text(apart)]
    if told := sureness(result):
        texts.append(Text(told))
    if (nll := number(result.get("nll"))) is not None:
        brackets = _in_brackets(interval_of(result, "nll"), PLAIN.span)
        loss = ("The negative log-likelihood is ", Span(f"{nll:.3f}", "strong"), *brackets)
        texts.append(Text((*loss, "; it also punishes being sure and wrong, lower is better.")))
    counted = "pairs of picture and label" if several else "pictures"
    small = (
        f"Larger dots stand for more {counted}. The vertical lines are 95 % intervals: long ones rest on few pictures."
    )
    card = Card("In one number", (*texts, Text(small, note=True)))
    return Section("calibration", "Can its confidence be trusted?", intro, (Row((drawn, card), "even"),), "Confidence")


def _in_brackets(ends: tuple[float, float] | None, span: Any) -> tuple[str | Span, ...]:
    return (" ", Span(f"({span(ends)})", "kept")) if ends else ()


def reliability(
    confidence: Sequence[float], accuracy: Sequence[float], count: Sequence[int], title: str = ""
) -> Scatter:
    """Accuracy against confidence: a dot for each bin, larger for more pictures, with whiskers (Wilson, 95 %)."""
    points = [
        Point(
            sure, right, wilson(right, pictures), pictures,
            f"confidence {percent(sure)}, right {percent(right)}, pictures: {pictures}",
        )
        for sure, right, pictures in zip(confidence, accuracy, count, strict=True)
        if pictures
    ]  # fmt: skip
    axis = Axis("", PERCENT, 0.0, 1.0)
    told = "Accuracy against confidence"
    return Scatter(title, Axis("confidence", PERCENT, 0.0, 1.0), axis, tuple(points), told, equal=True)


def sureness(result: Json) -> str:
    """One sentence that compares the mean confidence with the share of right answers, if there are both."""
    bins, right = result.get("reliability") or {}, number(result.get("top1"))
    weights = [int(count) for count in bins.get("count") or []]
    if right is None or not sum(weights):
        return ""
    sure = sum(count * mean for count, mean in zip(weights, bins["confidence"], strict=True) if count) / sum(weights)
    text = f"On average it is {percent(sure)} sure and right for {percent(right)} of the pictures"
    points = f"{100 * abs(sure - right):.1f} points"
    if points == "0.0 points":
        return text + "."
    return f"{text}: too {'sure' if sure > right else 'modest'} by {points}."
