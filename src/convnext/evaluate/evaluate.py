"""`convnext evaluate`: judges a run on its own test pictures, or on others, with exact counts and intervals."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convnext.config import load_complete, nearest
from convnext.data.feed.loader import Collate, EvalPictures, eval_loader
from convnext.data.names import called, csv_path
from convnext.data.pictures.scales import range_of_recipe
from convnext.data.sources.columns import foreign_columns, said_columns, with_columns
from convnext.data.sources.dataset import Dataset, Sample
from convnext.data.sources.read import OWN_SPLIT
from convnext.data.sources.reading import Reading
from convnext.errors import DataError, UserError, WeightsError
from convnext.evaluate.mistakes import keep_mistakes
from convnext.evaluate.verdict import Judged
from convnext.nn.inference.optimize import for_pictures
from convnext.recipe import NORMALIZATIONS, DataRecipe, Recipe
from convnext.run.contents import count_known, is_file_of_run
from convnext.run.cores import CORES
from convnext.run.environment import find_device, usable_cores
from convnext.run.folder import RunFolder, locked, open_run, write_text
from convnext.run.load import Loaded, kind_of_file, load_all, load_file
from convnext.run.loggers import log_result
from convnext.run.reading import read_data, say_broken
from convnext.run.record import progress, say
from convnext.tasks.collect import EVAL_BATCH, Predictions, collect
from convnext.tasks.records import SETTLED, Records
from convnext.tasks.table import FIRST, kind_of, targets_of, task_of
from convnext.tasks.task import Task


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
    aside = task_of(recipe, dataset).aside if not other and chosen == "val" else ()
    result = _verdict(loaded.task, predictions, known, aside)
    log = run.read_log()
    planned = int(log[-1].get("epochs", recipe.train.epochs)) if log else int(recipe.train.epochs)
    if len(log) < planned and recipe.train.patience == 0:
        say(f"{path} is not finished: {len(log)} of {planned} epochs are trained")
    result |= {
        "model": loaded.config["model"]["name"], "params": sum(p.numel() for p in loaded.model.parameters()),
        "split": chosen, "weights": "best" if loaded.path == run.best else "last", "source": loaded.config["source"],
        "epoch": loaded.config["epoch"], "epochs": len(log),
        "train_seconds": log[-1].get("seconds", 0.0) if log else 0.0,
        "task": loaded.task.name, **loaded.task.told(), "seed": recipe.train.seed,
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
    kind, dataset, names = kind_of_file(path), None, None
    if kind is kind_of(FIRST):  # a bare file is of it, and has its names from the data
        dataset = read_data(data, Reading.of(columns).to_judge(), kind.TARGETS, quiet=True)
        names = dataset.meaning.output_names
    loaded = load_file(path, model, names, size, normalization)
    if dataset is None or loaded.task.encoding != dataset.meaning:
        dataset = _foreign(data, loaded, columns)
    dataset = dataset.as_a_whole()
    split = split or _default_split(dataset)
    samples = _samples(dataset, split)
    predictions = _run_over(samples, loaded, "fp32", "cpu", min(4, usable_cores() - 1))
    result = _verdict(loaded.task, predictions, loaded.task.trivial(dataset, split))
    result |= {
        "model": loaded.config["model"]["name"], "params": sum(p.numel() for p in loaded.model.parameters()),
        "split": split, "weights": str(path), "task": loaded.task.name, **loaded.task.told(),
        "data_root": str(data), "unreadable": len(predictions.failed) + len(dataset.broken),
    }  # fmt: skip
    result["columns"] = said_columns(columns)
    if is_file_of_run(path):
        result |= _overlap(RunFolder(path.parent), samples, predictions)
    return Judged(result, samples, predictions)


def _verdict(
    task: Task, predictions: Predictions, training: Mapping[str, Any], aside: Collection[int] = ()
) -> dict[str, Any]:
    """What the task says; `aside` are positions of pictures by which it settled what belongs to the model."""
    if not len(predictions):
        raise DataError(
            "none of the pictures can be read, so there is nothing to judge; run `convnext doctor` on the data"
        )
    records = predictions.records
    if aside:
        settled = np.isin(predictions.indices, sorted(aside))
        records = Records({**records.columns, SETTLED: settled})
    return task.judge(records, training)


def _run_over(samples: Sequence[Sample], loaded: Loaded, precision: str, device: str, workers: int) -> Predictions:
    try:
        usable = find_device(device)
    except UserError as error:
        say(f"{error}: judging on the cpu")
        usable, precision = torch.device("cpu"), "fp32"
    pictures = EvalPictures(samples, loaded.preprocessing)
    batches = eval_loader(pictures, Collate(loaded.task.encoding), EVAL_BATCH, workers)
    if usable.type == "cpu" and precision == "fp32":
        model = for_pictures(loaded.model, len(samples), loaded.preprocessing.size)
    else:
        model = loaded.model.to(usable, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with progress("judging", len(samples)) as bar, CORES.watched():
        found = collect(
            model, batches, loaded.task, loaded.preprocessing, device=usable, precision=precision,
            advance=CORES.ticking(bar.advance),
        )  # fmt: skip
    for text in found.failed[:10]:
        say(f"left out: {text}")
    if not found.records.finite:
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
    """Another data set, its targets as the model means them; all of it is judged where it has no split."""
    task = loaded.task
    reading = Reading.of(columns).to_judge(task.output_names)
    dataset = read_data(data, reading, kind_of(task.name).TARGETS.for_model(task.encoding), quiet=True)
    for note in () if dataset.in_shards else dataset.notes:
        if not note.startswith(OWN_SPLIT):
            say(note)
    remarks = task.take(dataset, data, loaded.path)
    say_broken(dataset.broken)
    if list(dataset.splits) == ["train"]:
        say(f"{data} has no split: all of it is judged. If the model learned from some of it, the numbers flatter")
    for remark in remarks:
        say(remark)
    return replace(dataset.as_a_whole(), meaning=task.encoding)


def _default_split(dataset: Dataset) -> str:
    return next(split for split in ("test", "val", "train", "all") if split in dataset.splits)


def list_predictions(judged: Judged) -> str:
    """What the model said of every judged picture, as CSV: path below the data, and the task's columns."""
    home, task, found = Path(judged.result["data_root"]), judged.task, judged.predictions
    base = home if home.is_dir() else home.parent
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", *task.columns()])
    for at, index in enumerate(found.indices):
        path = csv_path(os.path.relpath(judged.samples[int(index)].path, base))
        writer.writerow([path, *task.row(found.records, at)])
    return text.getvalue()
