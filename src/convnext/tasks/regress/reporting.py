"""All that is said of a regression to people: what `Reporting` asks for."""

from __future__ import annotations

from convnext.tasks.blocks import Block
from convnext.tasks.regress.advice import advise
from convnext.tasks.regress.charts import target_histogram, target_table
from convnext.tasks.regress.judged import Judged, targets_of
from convnext.tasks.regress.sections import sections
from convnext.tasks.regress.text import against_trivial, describe
from convnext.tasks.regress.tiles import tiles
from convnext.tasks.regress.verdict import followed, verdict
from convnext.tasks.reporting import Batch, Declared, RunTables
from convnext.tasks.text import told_pictures
from convnext.tasks.words import number, show

__all__ = ["SHOWN", "advise", "against_trivial", "declare", "describe", "followed", "verdict"]

SHOWN = ("model", "n", "split", "weights", "intervals", "targets")
"""Keys of result.json that its words need."""

_LOSSES = {
    "l1": "absolute error", "huber": "Huber", "mse": "squared error",
    "gaussian": "normal distribution, with a variance",
    "distribution": "distribution over bins", "ordinal": "ordinal, over bins",
}  # fmt: skip
_FILES = {
    "best.safetensors": "the model of the best epoch on validation, with its targets, their scale, its intervals and "
    "preprocessing; every command of convnext and convnext.load take it, and it needs nothing else from here: the file "
    "to hand on",
    "predictions.csv": "what the model said of every judged picture, with the truth and the ends of its interval: for "
    "a spreadsheet, to find the worst, and for convnext compare",
    "mistakes.json": "the worst answers, which this page shows, with their whole paths",
}


def declare(run: RunTables) -> Declared:
    """What the page says of a run."""
    return Declared(
        verdict=verdict(run),
        followed=followed(run),
        batch=Batch(
            "If you cannot guess the values here, at least roughly, the network can hardly learn them.",
            "Their values, row by row",
            tuple(show(value) for value in run.batch.get("labels") or []),
        ),
        tiles=tuple(tiles(run.result, run.data)),
        facts=_facts(run),
        sections=tuple(sections(run)),
        data=_data(run),
        files=_FILES,
    )


def _facts(run: RunTables) -> tuple[tuple[str, str], ...]:
    """What is asked, by which loss, and the pictures of each split."""
    targets = targets_of(run.result, run.data)
    loss = str(run.result.get("loss") or (run.recipe.get("task") or {}).get("loss") or "")
    return (
        ("Targets" if len(targets) > 1 else "Target", "; ".join(_asked(each) for each in targets)),
        ("Loss", _LOSSES.get(loss, loss)),
        ("Intervals", _intervals(run)),
        ("Pictures", told_pictures(run.data.get("pictures") or {})),
    )


def _asked(each: Judged) -> str:
    """A target with its unit, its range and its scale."""
    parts, ends = [f"{each.name} in {each.unit.name}" if each.unit.name else each.name], each.table.get("range")
    if isinstance(ends, list) and len(ends) == 2:
        low, high = map(number, ends)
        if low is not None and high is not None:
            parts.append(f"{each.told(low)} to {each.told(high)}")
        elif low is not None or high is not None:
            parts.append(f"from {each.told(low)} on" if low is not None else f"up to {each.told(high or 0.0)}")
    return ", ".join([*parts, *(["log scale"] if each.table.get("log") else [])])


def _intervals(run: RunTables) -> str:
    """What they promise, and on how many pictures they stand."""
    found = []
    for each in targets_of(run.result):
        known, level = each.calibration, number(each.calibration.get("level"))
        if level is not None:
            pictures = int(number(known.get("pictures")) or 0)
            short = "none: " if number(known.get("absolute")) is None and number(known.get("scaled")) is None else ""
            found.append(f"{short}{100 * level:g}\u00a0%, {pictures:,} calibration pictures")
    return "; ".join(dict.fromkeys(found))


def _data(run: RunTables) -> tuple[Block, ...]:
    """How each target is spread over the splits."""
    targets = targets_of(run.result, run.data)
    blocks: list[Block] = []
    for each in targets:
        if (drawn := target_histogram(run.data, each, len(targets) > 1)) is not None:
            blocks.append(drawn)
        if (table := target_table(run.data, each)) is not None:
            blocks.append(table)
    return tuple(blocks)
