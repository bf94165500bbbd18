"""`convnext predict`: names and probabilities for files, folders and patterns."""

from __future__ import annotations

import csv
import glob
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convnext.data.decode import PICTURE_SUFFIXES
from convnext.data.loader import Collate, EvalPictures, eval_loader
from convnext.data.sources import Sample
from convnext.errors import DataError
from convnext.metrics.thresholds import DEFAULT
from convnext.nn.optimize import for_pictures
from convnext.run.cores import CORES
from convnext.run.environment import find_device, usable_cores
from convnext.run.load import load_all
from convnext.run.record import progress
from convnext.tasks.classify import task_for
from convnext.tasks.collect import EVAL_BATCH, collect


@dataclass(frozen=True)
class Prediction:
    """What the model says of one file: names with probabilities, the most probable first, or why it cannot be read."""

    path: Path
    top: tuple[tuple[str, float], ...]
    labels: tuple[str, ...] | None = None
    """For a model with several labels a picture: those that reach their threshold, as chosen on validation."""
    error: str = ""

    @property
    def label(self) -> str | None:
        """The most probable class, None for a file that cannot be read."""
        return self.top[0][0] if self.top else None

    @property
    def probability(self) -> float | None:
        """The probability of `label`."""
        return self.top[0][1] if self.top else None


def predict(
    source: str | Path, files: str | Path | Sequence[str | Path], *, top: int = 5, device: str = "cpu"
) -> list[Prediction]:
    """Predictions for pictures, in the order of `find_pictures`.

    Args:
        source: a run folder or one of its model files.
        files: a file, a folder (searched through) or a pattern such as `new/*.jpg`, or several.
        top: how many names to give for each picture.
        device: where to compute.

    Raises:
        UserError: the model cannot be loaded, or no file is found.
    """
    loaded = load_all(Path(source))
    paths = find_pictures([files] if isinstance(files, str | Path) else files)
    samples = [Sample(path, ()) for path in paths]
    workers = 0 if len(paths) <= EVAL_BATCH else min(4, max(1, usable_cores() - 1))
    batches = eval_loader(
        EvalPictures(samples, loaded.preprocessing),
        Collate(len(loaded.classes), loaded.multi_label),
        EVAL_BATCH,
        workers,
    )
    place = find_device(device)
    if place.type == "cpu":
        model = for_pictures(loaded.model, len(paths), loaded.preprocessing.size)
    else:
        model = loaded.model.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    task = task_for(loaded.classes, loaded.multi_label)
    with progress("predicting", len(paths)) as bar, CORES.watched():
        found = collect(model, batches, task, loaded.preprocessing, device=place, advance=CORES.ticking(bar.advance))
    values = {int(i): row for i, row in zip(found.indices, found.values, strict=True)}
    reasons = dict(zip((i for i in range(len(paths)) if i not in values), found.failed, strict=True))
    return [
        _name(path, values[i], loaded.classes, loaded.thresholds if loaded.multi_label else None, top)
        if i in values
        else Prediction(path, (), None, reasons[i])
        for i, path in enumerate(paths)
    ]


def find_pictures(patterns: Sequence[str | Path]) -> list[Path]:
    """Files as given; pictures below folders, sorted; matches of patterns, sorted. Each file once.

    Raises:
        DataError: a name matches nothing, or a folder holds no pictures.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES and not _hidden(p, path))
            if not inside:
                raise DataError(f"{path} holds no pictures; give files or folders of JPEG, PNG, WebP, TIFF or BMP")
        elif path.exists():
            inside = [path]
        else:
            inside = sorted(Path(p) for p in glob.glob(str(pattern), recursive=True) if Path(p).is_file())  # noqa: PTH207
            if not inside:
                raise DataError(f"{pattern} is no file and matches none; give files, folders or patterns")
        found |= dict.fromkeys(inside)
    return list(found)


def to_csv(predictions: Sequence[Prediction]) -> str:
    """A table: path, label, probability, the next names with their probabilities, and why a file was not read."""
    width = max((len(p.top) for p in predictions), default=1) or 1
    header = ["path", "label", "probability"]
    header += [name for i in range(2, width + 1) for name in (f"label_{i}", f"probability_{i}")]
    multi = any(p.labels is not None for p in predictions)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*header, *(["labels"] if multi else []), "error"])
    for p in predictions:
        cells = [str(p.path)] + [cell for name, value in p.top for cell in (name, f"{value:.4f}")]
        cells += [""] * (2 * width + 1 - len(cells))
        writer.writerow([*cells, *(["|".join(p.labels or ())] if multi else []), p.error])
    return text.getvalue()


def to_json(predictions: Sequence[Prediction]) -> str:
    """One object: `predictions`, and `unreadable` with reasons."""
    good: list[dict[str, Any]] = []
    for p in predictions:
        if not p.error:
            entry: dict[str, Any] = {"path": str(p.path), "label": p.top[0][0], "probability": p.top[0][1]}
            entry["top"] = [{"label": name, "probability": value} for name, value in p.top]
            good.append(entry | ({} if p.labels is None else {"labels": list(p.labels)}))
    bad = [{"path": str(p.path), "reason": p.error} for p in predictions if p.error]
    return json.dumps({"predictions": good, "unreadable": bad}, indent=1, ensure_ascii=False)


def _name(
    path: Path, values: NDArray[np.float32], classes: tuple[str, ...], thresholds: tuple[float, ...] | None, top: int
) -> Prediction:
    """`thresholds` is None for one label a picture, and () where nothing was chosen."""
    order = np.argsort(-values, kind="stable")[: max(1, top)]
    named = tuple((classes[i], float(values[i])) for i in order)
    if thresholds is None:
        return Prediction(path, named)
    limits = thresholds or (DEFAULT,) * len(classes)
    return Prediction(path, named, tuple(c for c, v, t in zip(classes, values, limits, strict=True) if float(v) >= t))


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
