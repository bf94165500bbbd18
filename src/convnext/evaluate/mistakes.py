"""The mistakes that a run keeps for its report: of every confusion some, those first of which the model was surest."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.data.decode import read_picture
from convnext.data.levels import Range
from convnext.errors import PictureError
from convnext.evaluate.verdict import Judged
from convnext.run.folder import RunFolder, write_bytes
from convnext.run.sample import jpeg

KEPT = 60
"""Mistakes kept in all."""
OF_A_KIND = 12
"""Mistakes kept of one confusion."""
THUMBNAIL = 400
"""Longest side of a kept picture, pixels: large enough to be looked at, small enough for a page with all of them."""

Kind = tuple[Any, ...]


def keep_mistakes(run: RunFolder, judged: Judged, value_range: Range | None) -> None:
    """Saves mistakes.json, and small pictures of the mistakes, grouped by what was taken for what.

    `value_range` is the data set's, where its files hold other values than 0 to 255.
    """
    classes = [str(entry["name"]) for entry in judged.result["per_class"]]
    rows: list[dict[str, Any]] = []
    for position, row in _chosen(judged, classes):
        sample = judged.samples[int(judged.predictions.indices[position])]
        name = f"mistake-{len(rows):02d}.jpg"
        try:
            thumbnail = read_picture(sample.path, at_least=THUMBNAIL, value_range=value_range)
        except PictureError:
            continue
        thumbnail.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        write_bytes(run.folder("pictures") / name, jpeg(thumbnail))
        truth = " | ".join(classes[i] for i in sample.target)
        rows.append({"path": str(sample.path), "truth": truth, **row, "picture": f"pictures/{name}"})
    run.write_json("mistakes.json", rows)


def _chosen(judged: Judged, classes: list[str]) -> list[tuple[int, dict[str, Any]]]:
    """Positions of the mistakes to keep, with what was said: the commonest confusion first, the surest of it first.

    Confusions take turns, so that a rare one has its picture too.
    """
    find = _with_labels if judged.result["multi_label"] else _with_one_label
    kinds: dict[Kind, list[tuple[float, int, dict[str, Any]]]] = defaultdict(list)
    for kind, confidence, position, row in find(judged, classes):
        kinds[kind].append((-confidence, position, row))
    order = sorted(kinds, key=lambda kind: (-len(kinds[kind]), kind))
    turns = [(turn, kind) for turn in range(OF_A_KIND) for kind in order if turn < len(kinds[kind])][:KEPT]
    chosen = []
    for kind in order:
        surest = sorted(kinds[kind], key=lambda each: each[:2])
        chosen += [(position, row) for _, position, row in surest[: sum(of == kind for _, of in turns)]]
    return chosen


def _with_one_label(judged: Judged, classes: list[str]) -> list[tuple[Kind, float, int, dict[str, Any]]]:
    values, labels = judged.predictions.values, judged.predictions.labels
    named = values.argmax(1)
    out = []
    for position in np.flatnonzero(named != labels):
        sure = float(values[position].max())
        row = {"predicted": classes[int(named[position])], "confidence": sure}
        out.append(((int(labels[position]), int(named[position])), sure, int(position), row))
    return out


def _with_labels(judged: Judged, classes: list[str]) -> list[tuple[Kind, float, int, dict[str, Any]]]:
    """A picture belongs to the label of which the model was most wrongly sure: one it missed, or one it added."""
    values, truth = judged.predictions.values, judged.predictions.labels > 0.5
    bars = thresholds_of(judged.result)
    said = values >= bars
    # how far beyond the bar, as a share of the way to certainty
    sure = np.where(said, (values - bars) / np.maximum(1 - bars, 1e-6), (bars - values) / np.maximum(bars, 1e-6))
    wrong = np.where(said != truth, sure, -1.0)
    out = []
    for position in np.flatnonzero((said != truth).any(1)):
        label = int(wrong[position].argmax())
        kind = "added" if said[position, label] else "missed"
        confidence = float(values[position, label] if kind == "added" else 1 - values[position, label])
        named = " | ".join(np.array(classes, dtype=object)[said[position]]) or "none"
        row = {"predicted": named, "confidence": confidence, "label": classes[label], "kind": kind}
        out.append(((kind, label), confidence, int(position), row))
    return out


def thresholds_of(result: dict[str, Any]) -> NDArray[np.float64]:
    """(k,) the probabilities from which each label of a result counts as named."""
    return np.array([float(row.get("threshold", 0.5)) for row in result["per_class"]])
