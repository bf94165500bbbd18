"""A toy task's reporting: numbers in months, of which less error is better. It stands for any task that is to come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convnext.tasks.advice import in_order
from convnext.tasks.blocks import (
    Axis,
    Card,
    Cell,
    Column,
    Curves,
    Exhibit,
    Gallery,
    Gauge,
    Group,
    Histogram,
    Line,
    Mark,
    Point,
    Ranked,
    Ranking,
    Row,
    Scatter,
    Section,
    Series,
    Span,
    Step,
    Steps,
    Table,
    Text,
)  # fmt: skip
from convnext.tasks.reporting import Advice, Batch, Declared, Followed, RunTables, Verdict
from convnext.tasks.score import Score
from convnext.tasks.scored import followed_of, headline_of, settled, tile_of
from convnext.tasks.text import opening, told_pictures
from convnext.tasks.verdicts import unfinished, verdict_of
from convnext.tasks.words import PERCENT, number

MAE = Score("mae", "MAE", "months", higher_is_better=False, note="mean absolute error")
WITHIN = Score("within_12", "within 12 months", note="share of the pictures")
MONTHS = MAE.written
SHOWN = ("model", "n", "split", "weights", "intervals", "mae")


def declare(run: RunTables) -> Declared:
    """All blocks that numbers take."""
    return Declared(
        verdict=_verdict(run),
        followed=followed(run),
        batch=Batch("If you cannot guess the age here, the network can hardly learn it.", "Their ages", ("4", "60")),
        tiles=tuple(tile for score in (MAE, WITHIN) if (tile := tile_of(score, run.result))),
        facts=(("Target", "age in months"), ("Pictures", told_pictures(run.data.get("pictures") or {}))),
        sections=(_errors(run), _worst(run)) if run.result else (),
        data=(_targets(run),),
    )


def followed(run: RunTables) -> Followed:
    """The mean absolute error of the log."""
    return followed_of(MAE, "Mean absolute error", "Lower is better.", 41.2)


def advise(run: RunTables, own: bool) -> list[Advice]:
    """What is the same for all tasks."""
    return in_order(run, followed(run), own, settled(MAE, run.result), ("Look at the data.", "Look at these."), ())


def describe(result: Mapping[str, Any]) -> str:
    """A line with the error."""
    return "\n".join([*opening(result), f"  MAE {MONTHS.text(result['mae'])}", *against_trivial(result)])


def against_trivial(result: Mapping[str, Any]) -> list[str]:
    """What always saying the median gets."""
    return [f"  always 47 months {MONTHS.text(result['baselines']['mae'])}"]


def _verdict(run: RunTables) -> Verdict:
    return verdict_of(run, headline_of(MAE, run.result, "47 months")) if run.result else unfinished(run, followed(run))


def _errors(run: RunTables) -> Section:
    pairs = [(float(true), float(said)) for true, said in run.result["pairs"]]
    against = Scatter(
        "Predicted against true", Axis("true", MONTHS), Axis("predicted", MONTHS),
        tuple(Point(true, said) for true, said in pairs), "Predicted against true age", equal=True,
    )  # fmt: skip
    residuals = Scatter(
        "Residuals", Axis("true", MONTHS), Axis("predicted less true", MONTHS),
        tuple(Point(true, said - true, (said - true - 9, said - true + 9), told=f"{true:g}") for true, said in pairs),
        "Residuals by true age", note="Whiskers are 90 % intervals.", level=0.0,
    )  # fmt: skip
    rows = tuple(
        (Cell(name, sort=name), Cell("30", sort=30), Cell(MONTHS.text(mae), "1\u201319", mae, Gauge(mae, high=20.0)))
        for name, mae in (("0 to 24", 3.1), ("24 to 192", 11.9))
    )
    table = Table((Column("Range", "name"), Column("Pictures", "count"), Column("MAE", "gauge", "ascending")), rows)
    shares = Curves(
        "Share within", (Line("test", "val", ((0.0, 0.0), (10.0, 0.6), (20.0, 0.9))),), "Share within k months",
        "How many errors are below.", PERCENT, x="months",
    )  # fmt: skip
    ranking = Ranking((Ranked(("a ", Span("<b>", "wrong")), "31.0 months", "w-0"), Ranked("b", "2.0 months")))
    steps = Steps((Step("Look at <these>.", "convnext doctor x"), Step("Then go on.")))
    card = Card("In words", (Text(("An answer reads ", Span("34 \u00b1 9 months", "strong"))), ranking, steps))
    blocks = (Row((against, residuals)), table, Row((shares, card), "fit"), Text("A note <of> its own.", note=True))
    return Section("errors", "How far off it is", "Each dot is a picture.", blocks, "Errors")


def _worst(run: RunTables) -> Section:
    exhibits = tuple(
        Exhibit(
            row.get("picture"), f"{row['truth']} taken for {row['predicted']}",
            (("truth", row["truth"], False), ("said", f"{row['predicted']} \u00b1 9", True)), row["path"],
            run.place_of(row["path"]), None if (off := number(row.get("share"))) is None else (off, "far off"),
        )
        for row in run.mistakes
    )  # fmt: skip
    return Section(
        "worst", "The worst errors", "", (Gallery((Group("w-0", "Too old", exhibits, "2 of 90"),)),), "Worst"
    )


def _targets(run: RunTables) -> Histogram:
    counts = tuple(Series(name, (3, 9, 0, 4), kind) for name, kind in (("training", "train"), ("test", "test")))
    marks = (Mark(47.0, "median"),)
    return Histogram("Ages", (0.0, 48.0, 96.0, 144.0, 192.0), counts, "age", MONTHS, "Few are old.", marks)
