"""`convnext evaluate`: judges a run on its own test pictures, or on others, with exact counts and intervals."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convnext.config import load_complete, nearest
from convnext.data.columns import foreign_columns, said_columns, with_columns
from convnext.data.dataset import Dataset, Sample
from convnext.data.loader import Collate, EvalPictures, eval_loader
from convnext.data.names import called, csv_cell, csv_path, listed
from convnext.data.reading import Reading
from convnext.data.scales import range_of_recipe
from convnext.data.sources import OWN_SPLIT
from convnext.errors import DataError, UserError, WeightsError
from convnext.evaluate.mistakes import keep_mistakes
from convnext.evaluate.verdict import Judged
from convnext.nn.optimize import for_pictures
from convnext.recipe import NORMALIZATIONS, DataRecipe, Recipe
from convnext.run.contents import count_known, is_file_of_run
from convnext.run.cores import CORES
from convnext.run.environment import find_device, usable_cores
from convnext.run.folder import RunFolder, locked, open_run, write_text
from convnext.run.load import Loaded, load_all, load_file
from convnext.run.loggers import log_result
from convnext.run.reading import read_data, say_broken
from convnext.run.record import progress, say
from convnext.tasks.class_meaning import Classes, counts
from convnext.tasks.class_targets import ClassTargets
from convnext.tasks.classify import task_for
from convnext.tasks.collect import EVAL_BATCH, Predictions, collect, decimals
from convnext.tasks.targets import targets_of


def judge_run(path: Path) -> dict[str, Any]:
    """Judges a finished run and writes result.json, mistakes.json and the pictures of the mistakes.

    With a test split the best epoch is judged on it. Without one the last epoch is judged on validation, since the best
    epoch was chosen there and its number would flatter.
    """
    return judge_and_keep(path).result


def judge_and_keep(path: Path) -> Judged:
    """The same, with the predictions that the verdict stands on."""
    run = open_run(path)
    judged = evaluate_run(path)
    with locked(run):
        keep_mistakes(run, judged, range_of_recipe(load_complete(run.recipe).data.value_range))
        write_text(run.path / "predictions.csv", list_predictions(judged))
        run.write_json("result.json", judged.result)
        log_result(run, load_complete(run.recipe), judged.result, say)
    return judged


def evaluate_run(
    path: str | Path,
    data: str | Path | None = None,
    *,
    split: str | None = None,
    which: str = "auto",
    settings: Sequence[str] = (),
) -> Judged:
    """Judges a run on its own data (its test split, or validation) or on another data set with the same classes.

    Args:
        path: a run folder.
        data: other data; all of its pictures count when it has no split of its own.
        split: train, val or test instead of the default.
        which: "best" or "last" weights; "auto" follows `judge_run`.
        settings: `key=value`, what the columns of a table of other data are called.

    Raises:
        UserError: the run, the data or the split cannot be used.

    Examples:
        >>> import convnext
        >>> judged = convnext.evaluate_run("runs/photos")
        >>> len(judged.samples) == judged.result["n"]
        True
    """
    path = Path(path)
    run = open_run(path)
    recipe = load_complete(run.recipe)
    known = run.read_table("data.json") or {}
    otherwise = with_columns(recipe.data, settings) != recipe.data  # the same table by other columns is other data
    dataset = None if otherwise and data else _own_data(recipe, known, None if data is None else Path(data))
    other = dataset is None  # of the run's own data nobody knows which split a broken picture would be in
    if dataset is not None:
        chosen = split or ("test" if "test" in dataset.splits else "val")
        if which == "auto":
            which = "best" if chosen == "test" else "last"
    loaded = load_all(path, which=which)
    if dataset is None:
        columns = with_columns(foreign_columns(recipe.data), settings)
        dataset = _foreign(Path(data or ""), loaded, columns)
        chosen = split or _default_split(dataset)
    samples = _samples(dataset, chosen)
    workers = int(recipe.data.workers)
    predictions = _run_over(samples, loaded, recipe.train.precision, recipe.train.device, workers)
    result = _verdict(loaded, predictions, tuple(known.get("majority", ())))
    log = run.read_log()
    planned = int(log[-1].get("epochs", recipe.train.epochs)) if log else int(recipe.train.epochs)
    if len(log) < planned and recipe.train.patience == 0:
        say(f"{path} is not finished: {len(log)} of {planned} epochs are trained")
    result |= {
        "model": loaded.config["model"]["name"], "params": sum(p.numel() for p in loaded.model.parameters()),
        "split": chosen, "weights": "best" if loaded.path == run.best else "last", "source": loaded.config["source"],
        "epoch": loaded.config["epoch"], "epochs": len(log),
        "train_seconds": log[-1].get("seconds", 0.0) if log else 0.0,
        "task": "classify", "multi_label": loaded.multi_label, "seed": recipe.train.seed,
        "data_root": called(dataset.root), "test_split": "test" in dataset.splits,
        "unreadable": len(predictions.failed) + (len(dataset.broken) if other else 0),
        "last_val": {k: v for k, v in log[-1].items() if "val_" in k} if log else {},
    } | _overlap(run, samples, predictions)  # fmt: skip
    if other:
        result["columns"] = said_columns(columns)
    return Judged(result, samples, predictions)


def _overlap(run: RunFolder, samples: Sequence[Sample], predictions: Predictions) -> dict[str, int]:
    """How many of the judged pictures the run had for training and for validation, where that is known."""
    known = count_known(run, (samples[int(index)] for index in predictions.indices))
    return {
        f"in_{name}": known[split] for split, name in (("train", "training"), ("val", "validation")) if split in known
    }


def _own_data(recipe: Recipe, known: dict[str, Any], data: Path | None) -> Dataset | None:
    """The run's own data, also where it has moved; None when `data` is another data set.

    Raises:
        DataError: the run's data is not where it was, and no other place is given.
    """
    home, before = Path(recipe.data.root), known.get("fingerprint")
    if data is not None and data.resolve() != home.resolve():
        try:
            dataset = read_data(data, Reading.of(recipe.data, settled=True), targets_of(recipe), quiet=True)
        except DataError:
            return None
        if dataset.fingerprint() != before:
            return None
        _say_changed(dataset, known)
        return dataset
    try:
        dataset = read_data(home, Reading.of(recipe.data, settled=True), targets_of(recipe), quiet=True)
    except DataError as error:
        raise DataError(
            f"{error}. It is the data that the run was trained on (data.root in its recipe.toml); if it has moved, "
            "name the new place as DATA"
        ) from None
    _say_changed(dataset, known)
    return dataset


def _say_changed(dataset: Dataset, known: dict[str, Any]) -> None:
    """A line where the run's data are not what they were: other names, labels or splits, or other contents."""
    contents = known.get("contents") or None, dataset.digest_of_contents() or None
    replaced = None not in contents and contents[0] != contents[1]
    if replaced or known.get("fingerprint") not in (None, dataset.fingerprint()):
        say(f"{called(dataset.root)} has changed since the run was trained: the numbers are for what is there now")


def evaluate_weights(
    path: Path,
    model: str | None,
    data: Path,
    *,
    size: int | None,
    normalization: str | None,
    split: str | None,
    settings: Sequence[str] = (),
) -> Judged:
    """Judges a weight file: one of a run, or a bare one of the network `model`.

    The classes of the data, sorted, must be in the order of a bare file's outputs. None for `size` and `normalization`
    is what the weights were published with (see `nn.shown`); the file of a run has its own.

    Raises:
        UserError: the file, the model, the normalisation or the data cannot be used.
    """
    if normalization is not None and normalization not in NORMALIZATIONS:
        hint = nearest(normalization, NORMALIZATIONS)
        raise UserError(f'--normalization "{normalization}": it is one of {", ".join(NORMALIZATIONS)}{hint}')
    columns = with_columns(DataRecipe(), settings)
    dataset = read_data(data, Reading.of(columns).to_judge(), ClassTargets(), quiet=True)
    loaded = load_file(path, model, dataset.classes, size, normalization)
    if loaded.classes != dataset.classes or dataset.multi_label:
        dataset = _foreign(data, loaded, columns)
    dataset = dataset.as_a_whole()
    split = split or _default_split(dataset)
    samples = _samples(dataset, split)
    predictions = _run_over(samples, loaded, "fp32", "cpu", min(4, usable_cores() - 1))
    seen = counts(dataset, split)
    result = _verdict(loaded, predictions, (int(np.argmax(seen)),) if sum(seen) else ())
    result |= {
        "model": loaded.config["model"]["name"], "params": sum(p.numel() for p in loaded.model.parameters()),
        "split": split, "weights": str(path), "task": "classify", "multi_label": loaded.multi_label,
        "data_root": str(data), "unreadable": len(predictions.failed) + len(dataset.broken),
    }  # fmt: skip
    result["columns"] = said_columns(columns)
    if is_file_of_run(path):
        result |= _overlap(RunFolder(path.parent), samples, predictions)
    return Judged(result, samples, predictions)


def _verdict(loaded: Loaded, predictions: Predictions, majority: tuple[int, ...]) -> dict[str, Any]:
    if len(predictions.labels) == 0:
        raise DataError(
            "none of the pictures can be read, so there is nothing to judge; run `convnext doctor` on the data"
        )
    task = task_for(loaded.classes, loaded.multi_label, thresholds=loaded.thresholds)
    result = task.judge(predictions.values, predictions.labels, majority)
    if loaded.thresholds:
        values = dict(zip(loaded.classes, loaded.thresholds, strict=True))
        chosen_for = loaded.config.get("thresholds_for", "")
        few = [loaded.classes[i] for i in _numbers(loaded.config.get("thresholds_few"), len(loaded.classes))]
        result["thresholds"] = {"for": chosen_for, "chosen_on": "val", "values": values, "too_few_pictures": few}
    return result


def _numbers(value: Any, below: int) -> list[int]:
    """The numbers of classes in a list that a file holds; nothing else that it may hold."""
    return [i for i in value if 0 <= i < below] if isinstance(value, list | tuple) else []


def _run_over(samples: Sequence[Sample], loaded: Loaded, precision: str, device: str, workers: int) -> Predictions:
    try:
        usable = find_device(device)
    except UserError as error:
        say(f"{error}: judging on the cpu")
        usable, precision = torch.device("cpu"), "fp32"
    task = task_for(loaded.classes, loaded.multi_label)
    pictures = EvalPictures(samples, loaded.preprocessing)
    batches = eval_loader(pictures, Collate(Classes(loaded.classes, loaded.multi_label)), EVAL_BATCH, workers)
    if usable.type == "cpu" and precision == "fp32":
        model = for_pictures(loaded.model, len(samples), loaded.preprocessing.size)
    else:
        model = loaded.model.to(usable, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with progress("judging", len(samples)) as bar, CORES.watched():
        found = collect(
            model, batches, task, loaded.preprocessing, device=usable, precision=precision,
            advance=CORES.ticking(bar.advance),
        )  # fmt: skip
    for text in found.failed[:10]:
        say(f"left out: {text}")
    if not np.isfinite(found.values).all():
        raise WeightsError(
            f"{loaded.path}: the model's answers are no numbers (NaN or infinite); its weights are damaged"
        )
    return found


def _samples(dataset: Dataset, split: str) -> tuple[Sample, ...]:
    if split not in dataset.splits:
        there = ", ".join(dataset.splits)
        raise DataError(f'{called(dataset.root)} has no split "{split}"; it has {there}')
    return dataset.splits[split]


def _foreign(data: Path, loaded: Loaded, columns: DataRecipe) -> Dataset:
    """Another data set, its labels in the order of the model's classes; all of it is judged where it has no split."""
    dataset = read_data(data, Reading.of(columns).to_judge(loaded.classes), ClassTargets(), quiet=True)
    for note in () if dataset.in_shards else dataset.notes:
        if not note.startswith(OWN_SPLIT):
            say(note)
    if dataset.multi_label and not loaded.multi_label:
        raise DataError(f"{data} has pictures with several labels or none; {loaded.path} names one class a picture")
    say_broken(dataset.broken)
    if list(dataset.splits) == ["train"]:
        say(f"{data} has no split: all of it is judged. If the model learned from some of it, the numbers flatter")
    lacking = set(range(len(loaded.classes)))
    for split in dataset.splits:
        lacking -= {at for at, n in enumerate(counts(dataset, split)) if n}
    if lacking:
        names = listed((loaded.classes[at] for at in sorted(lacking)), 6)
        say(f"{data} has no picture of {names}: where the model names one of them it counts as wrong")
    if loaded.multi_label and not dataset.multi_label:
        say(f"{data} has one label a picture, and the model names any number of them: others count as wrong")
    return replace(dataset.as_a_whole(), meaning=Classes(loaded.classes, loaded.multi_label))


def _default_split(dataset: Dataset) -> str:
    return next(split for split in ("test", "val", "train", "all") if split in dataset.splits)


def list_predictions(judged: Judged) -> str:
    """What the model said of every judged picture, as CSV: path below the data, truth, named, each probability."""
    names = [entry["name"] for entry in judged.result["per_class"]]
    home = Path(judged.result["data_root"])
    base = home if home.is_dir() else home.parent
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    chosen = list(judged.result["thresholds"]["values"].values()) if "thresholds" in judged.result else None
    extra = [] if chosen is None else ["named_at_thresholds"]
    writer.writerow(["path", "truth", "named", *(f"p_{name}" for name in names), *extra])
    for index, values in zip(judged.predictions.indices, judged.predictions.values, strict=True):
        sample = judged.samples[int(index)]
        named = np.flatnonzero(values >= 0.5) if judged.result["multi_label"] else [int(values.argmax())]
        answers = [sample.target, named]
        if chosen is not None:
            answers.append(np.flatnonzero(values.astype(np.float64) >= chosen))
        cells = [csv_cell("|".join(names[int(i)] for i in answer) or "|") for answer in answers]
        numbers = decimals(values, exact=judged.result["multi_label"])
        writer.writerow([csv_path(os.path.relpath(sample.path, base)), *cells[:2], *numbers, *cells[2:]])
    return text.getvalue()
