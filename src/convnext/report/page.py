"""The report of a run: one HTML file that needs nothing else, offline, on any screen and on paper."""

from __future__ import annotations

import base64
import io
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader
from PIL import Image

from convnext.data.decode import read_picture
from convnext.data.names import harmless
from convnext.errors import PictureError
from convnext.report import figures, matrix, tables, words
from convnext.report.advice import advise
from convnext.report.commands import commands, folder_files
from convnext.report.files import Json, RunFiles, read_run
from convnext.report.verdict import metric_key
from convnext.run.folder import write_text

THUMBNAIL = 400
"""Longest side of a mistake's picture, in pixels; larger ones are reduced."""
BATCH = 1280
"""Longest side of the picture of a training batch."""
MAX_BYTES = 64_000
"""A picture within its side and this size goes into the page as it is, without a second JPEG compression."""


def write_report(run: str | Path) -> Path:
    """Write RUN/report.html and return its path.

    The page holds what the folder holds: an unfinished run gives a page without the final numbers. The same folder
    gives the same bytes.

    Args:
        run: the run folder, as `convnext train --out` wrote it. Commands on the page name it as given here.

    Raises:
        RunError: not a run folder, a damaged file in it, or the page cannot be written.

    Examples:
        >>> import convnext
        >>> convnext.write_report("runs/photos").name
        'report.html'
    """
    target = Path(run) / "report.html"
    write_text(target, render(read_run(Path(run))))
    return target


def render(run: RunFiles) -> str:
    """The page's HTML."""
    environment = Environment(loader=FunctionLoader(_template), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=words.percent, span=words.span, show=words.show, labels=tables.labels_text)
    environment.filters["unbroken"] = words.unbroken
    environment.globals.update(counted=words.counted, interval_of=tables.interval_of, interval_bar=figures.interval_bar)
    environment.tests["finite"] = lambda value: words.number(value) is not None
    page = environment.get_template("page.html.j2").render(
        run=run,
        result=run.result,
        title=tables.title(run),
        verdict=tables.verdict(run),
        advice=advise(run),
        tiles=tables.tiles(run.result),
        facts=tables.facts(run),
        charts=training_charts(run),
        split_words=tables.SPLIT_WORDS,
        split=tables.SPLIT_WORDS.get(str(run.result.get("split")), "evaluation"),
        columns=tables.class_columns(run.result),
        histogram=tables.class_histogram(run),
        splits=tables.splits(run),
        commands=commands(run),
        files=folder_files(run),
        classes=tables.weakest_first(run.result),
        thresholds=tables.thresholds(run.result),
        groups=_with_pictures(run),
        epochs_table=epochs_table(run),
        batch=picture_uri(run.folder, "pictures/batch.jpg", side=BATCH),
        **_judged_figures(run),
    )
    return harmless(page)


def _template(name: str) -> str:
    return resources.files("convnext.report").joinpath(name).read_text(encoding="utf-8")


def _judged_figures(run: RunFiles) -> dict[str, Any]:
    counts, bins, classes = run.result.get("confusion"), run.result.get("reliability"), run.classes
    square = counts if counts and len(counts) == len(classes) else []
    linked = {group["cell"] for group in tables.mistake_groups(run) if group["cell"]}
    most = 8 if len(classes) <= 25 else 16
    return {
        "confusion": matrix.confusion(square, classes, linked) if square else "",
        "no_matrix_above": matrix.NO_MATRIX_ABOVE,
        "matrix": square,
        "common": tables.common_mistakes(square, classes, linked, most) if square else [],
        "sureness": tables.sureness(run.result),
        "reliability": figures.reliability(bins["confidence"], bins["accuracy"], bins["count"]) if bins else "",
    }


def _with_pictures(run: RunFiles) -> list[Json]:
    """The groups of mistakes, each row with its picture, its whole name and its number on the page."""
    groups, number = [], 0
    for group in tables.mistake_groups(run):
        rows = []
        for row in group["rows"]:
            image = picture_uri(run.folder, row.get("picture"))
            rows.append(row | {"image": image, "name": tables.place_of(run, row.get("path")), "number": number})
            number += 1
        groups.append(group | {"rows": rows})
    return groups


def epochs_table(run: RunFiles) -> Json:
    """The values of the curves as a table: titles, and a row of texts for each epoch."""
    key = metric_key(run)
    name = "micro-F1" if key == "micro_f1" else "top-1"
    columns = [
        ("training loss", "train_loss", False),
        ("validation loss", "val_loss", False),
        ("EMA loss", "ema_val_loss", False),
        (f"validation {name}", f"val_{key}", True),
        (f"EMA {name}", f"ema_val_{key}", True),
        ("learning rate", "lr", False),
    ]
    known = [column for column in columns if any(words.number(row.get(column[1])) is not None for row in run.log)]
    rows = []
    for row in run.log:
        values = [(words.number(row.get(key)), share) for _, key, share in known]
        texts = [words.NO_VALUE if value is None else figures.value_text(value, share) for value, share in values]
        rows.append([str(row["epoch"]), *texts])
    return {"titles": ["epoch", *(title for title, _, _ in known)], "rows": rows}


def _largest_share(run: RunFiles) -> float | None:
    """The validation accuracy of always naming its largest class."""
    counts = (run.data.get("counts") or {}).get("val")
    return max(counts) / sum(counts) if isinstance(counts, list) and counts and sum(counts) else None


def training_charts(run: RunFiles) -> list[Json]:
    """The charts over epochs: title, sentence for the reader, legend of (kind, name, last value) and drawing."""
    key = metric_key(run)
    accuracy = "Micro-F1" if key == "micro_f1" else "Accuracy"
    best = next((int(row["epoch"]) for row in reversed(run.log) if row.get("best")), None)
    baseline = _largest_share(run) if key == "top1" else None
    below = "the dashed line always names validation's largest class" if baseline is not None else "higher is better"
    loss, score, rate = _lines(run, "loss"), _lines(run, key), [_line(run, "lr", "learning rate", "val")]
    why = "How wrong the network is, by its own measure; lower is better."
    if _training_is_harder(run):
        why += " Training lies higher because it is made harder on purpose: varied pictures, softened labels."
    charts = [
        ("Loss", why, loss, figures.curves(loss, title="Loss over epochs", best=best), False),
        (
            accuracy,
            f"The share of right answers after each epoch; {below}."
            if key == "top1"
            else f"F1 over all labels after each epoch; {below}.",
            score,
            figures.curves(score, title=f"{accuracy} over epochs", share=True, best=best, baseline=baseline),
            True,
        ),
        ("Learning rate", "How far each step of learning goes; it usually rises briefly, then shrinks.", rate,
         figures.curves(rate, title="Learning rate over epochs", zero=True), False),
    ]  # fmt: skip
    return [
        {"title": title, "why": why, "legend": _legend(lines, share), "drawing": drawing}
        for title, why, lines, drawing, share in charts
        if drawing
    ]


def _lines(run: RunFiles, key: str) -> list[figures.Line]:
    return [
        _line(run, f"train_{key}", "training", "train"),
        _line(run, f"val_{key}", "validation", "val"),
        _line(run, f"ema_val_{key}", "averaged weights (EMA)", "ema"),
    ]


def _line(run: RunFiles, key: str, name: str, kind: str) -> figures.Line:
    return figures.Line(name, kind, tuple((float(row["epoch"]), words.number(row.get(key))) for row in run.log))


def _legend(lines: list[figures.Line], share: bool) -> list[tuple[str, str, str]]:
    known = [(line, line.known[-1][1]) for line in lines if line.known]
    return [(line.kind, line.name, figures.value_text(last, share)) for line, last in known]


def _training_is_harder(run: RunFiles) -> bool:
    last = run.log[-1] if run.log else {}
    train, val = words.number(last.get("train_loss")), words.number(last.get("val_loss"))
    return train is not None and val is not None and train > val


def picture_uri(folder: Path, name: Any, *, side: int = THUMBNAIL) -> str:
    """A picture of the run folder as a data: URI, reduced to `side`; "" when missing, damaged or outside."""
    if not isinstance(name, str) or not name:
        return ""
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            return ""
        picture, content = read_picture(path), path.read_bytes()
    except (PictureError, OSError, ValueError):  # ValueError: a null character in the name
        return ""
    fits = max(picture.size) <= side and len(content) <= MAX_BYTES * (side / THUMBNAIL) ** 2
    if not (fits and content.startswith(b"\xff\xd8")):
        content = _as_jpeg(picture, side)
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")


def _as_jpeg(picture: Image.Image, side: int) -> bytes:
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85, optimize=True)
    return out.getvalue()
