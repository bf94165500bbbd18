"""How training went: the curves over the epochs, and their values as a table."""

from __future__ import annotations

from dataclasses import dataclass

from convnext.report.figures import known_points
from convnext.report.files import RunFiles
from convnext.tasks.blocks import Curves, Kind, Line
from convnext.tasks.reporting import Followed
from convnext.tasks.words import NO_VALUE, PLAIN, number


@dataclass(frozen=True)
class EpochsTable:
    """The values of the curves: titles, and a row of texts for each epoch."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def epochs_table(run: RunFiles, followed: Followed) -> EpochsTable:
    """The values that the log has."""
    columns = [
        ("training loss", "train_loss", PLAIN),
        ("validation loss", "val_loss", PLAIN),
        ("EMA loss", "ema_val_loss", PLAIN),
        (f"validation {followed.name}", f"val_{followed.key}", followed.unit),
        (f"EMA {followed.name}", f"ema_val_{followed.key}", followed.unit),
        ("learning rate", "lr", PLAIN),
    ]
    known = [column for column in columns if any(number(row.get(column[1])) is not None for row in run.log)]
    rows = []
    for row in run.log:
        values = [(number(row.get(key)), unit) for _, key, unit in known]
        texts = [NO_VALUE if value is None else unit.text(value) for value, unit in values]
        rows.append((str(row["epoch"]), *texts))
    return EpochsTable(("epoch", *(title for title, _, _ in known)), tuple(rows))


def training_charts(run: RunFiles, followed: Followed) -> list[Curves]:
    """The charts over epochs that have anything to show."""
    best = next((int(row["epoch"]) for row in reversed(run.log) if row.get("best")), None)
    why = "How wrong the network is, by its own measure; lower is better."
    if _training_is_harder(run):
        why += f" Training lies higher because it is made harder on purpose: {followed.harder}."
    charts = [
        Curves("Loss", _lines(run, "loss"), "Loss over epochs", why, best=best),
        Curves(
            followed.title, _lines(run, followed.key), f"{followed.title} over epochs", followed.why, followed.unit,
            best=best, baseline=followed.baseline,
        ),
        Curves(
            "Learning rate", (_line(run, "lr", "learning rate", "val"),), "Learning rate over epochs",
            "How far each step of learning goes; it usually rises briefly, then shrinks.", zero=True,
        ),
    ]  # fmt: skip
    return [chart for chart in charts if any(known_points(line) for line in chart.lines)]


def _lines(run: RunFiles, key: str) -> tuple[Line, ...]:
    return (
        _line(run, f"train_{key}", "training", "train"),
        _line(run, f"val_{key}", "validation", "val"),
        _line(run, f"ema_val_{key}", "averaged weights (EMA)", "ema"),
    )


def _line(run: RunFiles, key: str, name: str, kind: Kind) -> Line:
    return Line(name, kind, tuple((float(row["epoch"]), number(row.get(key))) for row in run.log))


def _training_is_harder(run: RunFiles) -> bool:
    last = run.log[-1] if run.log else {}
    train, val = number(last.get("train_loss")), number(last.get("val_loss"))
    return train is not None and val is not None and train > val
