"""All that is said of a classification to people: what `Reporting` asks for."""

from __future__ import annotations

from convnext.tasks.blocks import Bars, Block, Kind, Series, Tile
from convnext.tasks.classify.advice import advise
from convnext.tasks.classify.baseline import baseline_of, class_names, gain_of, has_several, settled
from convnext.tasks.classify.sections import sections
from convnext.tasks.classify.text import against_trivial, describe
from convnext.tasks.classify.verdict import followed, verdict
from convnext.tasks.reporting import Batch, Declared, Json, RunTables
from convnext.tasks.scored import against
from convnext.tasks.text import told_pictures
from convnext.tasks.verdicts import SPLIT_WORDS, interval_of
from convnext.tasks.words import PERCENT, counted, number, percent, show

__all__ = ["SHOWN", "advise", "against_trivial", "declare", "describe", "followed", "tiles", "verdict"]

SHOWN = ("model", "n", "split", "weights", "intervals", "per_class")
"""Keys of result.json that its words need."""

_SPLITS: tuple[Kind, ...] = ("train", "val", "test")
_FILES = {
    "best.safetensors": "the model of the best epoch on validation, with its classes and preprocessing; every command "
    "of convnext and convnext.load take it, and it needs nothing else from here: the file to hand on",
    "predictions.csv": "what the model said of every judged picture, with the truth and each probability: for a "
    "spreadsheet, to find the mistakes, and for convnext compare",
    "mistakes.json": "the mistakes that this page shows, with their whole paths",
}


def declare(run: RunTables) -> Declared:
    """What the page says of a run."""
    return Declared(
        verdict=verdict(run),
        followed=followed(run),
        batch=Batch(
            "If you cannot recognise the classes here, the network can hardly learn them.",
            "Their labels, row by row",
            tuple(show(names) for names in run.batch.get("labels") or []),
        ),
        tiles=tuple(tiles(run.result)),
        facts=_facts(run),
        sections=tuple(sections(run)),
        data=_data(run),
        files=_FILES,
    )


def tiles(result: Json) -> list[Tile]:
    """The headline numbers that the result has, the main one first."""
    n, correct = result.get("n"), result.get("correct")
    right = f"{correct:,} of {n:,} pictures right" if isinstance(correct, int) and isinstance(n, int) else ""
    wanted = [
        ("top1", "Top-1 accuracy", right),
        ("micro_f1", "Micro-F1", "F1 over all labels together"),
        ("mean_average_precision", "Mean average precision", "how well each class is ranked"),
        ("exact_match", "Exact match", "every label of the picture right"),
        ("balanced_accuracy", "Balanced accuracy", "every class counts the same"),
        ("macro_f1", "Macro F1", "precision and recall, mean over classes"),
        ("top5", "Top-5 accuracy", "the truth is among five guesses"),
        ("calibration_error", "Calibration error", "confidence against truth; lower is better"),
    ]
    out = []
    for key, title, note in wanted:
        if key == "calibration_error" and "micro_f1" in result:
            continue  # over all pairs of picture and label; its section says more
        if (value := number(result.get(key))) is not None:
            baseline = baseline_of(result, key)
            against = _against(result, key, baseline)
            out.append(Tile(key, title, value, interval_of(result, key), baseline, note, against))
    return out


def _against(result: Json, key: str, baseline: float | None) -> str:
    """The level of the tick, and whether the number is beyond it."""
    if baseline is None:
        return ""
    if key == "calibration_error":
        return f"orange tick: naming each class by its share, {percent(baseline)}"
    return against(PERCENT, baseline, gain_of(result, key), settled(result, key))


def _facts(run: RunTables) -> tuple[tuple[str, str], ...]:
    """The classes, and the pictures of each split."""
    names = class_names(run)
    kind = "several labels a picture" if has_several(run) else "one label a picture"
    totals = run.data.get("pictures") or {split: sum(counts) for split, counts in _splits(run)}
    return (
        ("Classes", f"{counted(len(names), 'class')}, {kind}" if names else ""),
        ("Pictures", told_pictures(totals)),
    )


def _splits(run: RunTables) -> list[tuple[Kind, list[int]]]:
    """Pictures per class of each split that has any; a picture with two labels counts in both classes."""
    counts = run.data.get("counts") or {}
    return [(split, [int(c) for c in counts[split]]) for split in _SPLITS if sum(counts.get(split) or []) > 0]


def _data(run: RunTables) -> tuple[Block, ...]:
    """The pictures of each class in each split, in the order of the model's outputs."""
    parts, names = _splits(run), class_names(run)
    rows = min((len(counts) for _, counts in parts), default=0)
    if not rows:
        return ()
    return (
        Bars(
            title="Pictures per class",
            names=tuple(names[at] if at < len(names) else str(at) for at in range(rows)),
            series=tuple(Series(SPLIT_WORDS[split], tuple(counts), split) for split, counts in parts),
            note="Classes with few pictures are learned less well, and their numbers above are less certain.",
        ),
    )
