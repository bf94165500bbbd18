"""`convnext predict`: what a model says of files, folders and patterns."""

from __future__ import annotations

import contextlib
import csv
import glob
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from convnext.data.feed.given import Picture, Pictures, one_by_one, title_of
from convnext.data.feed.loader import Collate, EvalPictures, eval_loader
from convnext.data.feed.preprocessing import Preprocessing
from convnext.data.names import csv_cell, csv_path, named, printable
from convnext.data.sources.walk import walk
from convnext.errors import DataError, PictureError, UserError, WeightsError
from convnext.nn.inference.optimize import for_pictures
from convnext.nn.weights.load import read_header
from convnext.nn.weights.places import is_weight_file
from convnext.recipe import NORMALIZATIONS
from convnext.run.cores import CORES
from convnext.run.environment import find_device, usable_cores
from convnext.run.load import Loaded, load_all, load_file
from convnext.run.record import progress
from convnext.tasks.classify.answers import Prediction
from convnext.tasks.collect import EVAL_BATCH, collect
from convnext.tasks.task import Answer

FEW = 8
"""Pictures up to which the network is asked as it is: to make it faster would take longer."""


@runtime_checkable
class HasPredict(Protocol):
    """A model that is loaded already."""

    def predict(self, pictures: Pictures, *, top: int = 5) -> list[Prediction]: ...


def predict(
    source: str | os.PathLike[str] | HasPredict,
    pictures: Pictures,
    *,
    top: int = 5,
    device: str = "cpu",
    bare: Bare | None = None,
) -> list[Prediction]:
    """Predictions for pictures: one for each that is given, in order; for a folder or pattern, one for each in it.

    Args:
        source: a run folder or a model file, or what `convnext.load` or `convnext.train` gave.
        pictures: one or several. A file, a folder (searched through as in training) or a pattern such as `new/*.jpg`;
            or the bytes of a file, an open file, a PIL picture, an array or a tensor of uint8, red first (OpenCV's blue
            first: give `array[..., ::-1]`). What cannot be read, or is not there, has a prediction with its `error`.
        top: how many names to give for each picture.
        device: where to compute, for a model that is not loaded yet.
        bare: what must be known of a weight file that is no model file of ours.

    Raises:
        UserError: the model cannot be loaded, something is no picture, or nothing that is named is there.

    Examples:
        >>> import convnext
        >>> picture = "photos/wide/wide-000.png"
        >>> with open(picture, "rb") as file:
        ...     found = convnext.predict("runs/photos", [picture, "photos/gone.png", file.read()])
        >>> found[0].top == found[2].top
        True
        >>> found[1].label, found[1].error
        (None, 'photos/gone.png is no file and matches none; give files, folders or patterns')
    """
    if isinstance(source, HasPredict):
        if device != "cpu":
            raise UserError(
                f'the model is loaded already; its device is chosen by convnext.load(..., device="{device}")'
            )
        return source.predict(pictures, top=top)
    place = named(source)
    loaded = load_all(place) if bare is None else bare.load(place)
    return predictions_of(loaded, find_pictures(pictures), top=top, device=device)


@dataclass(frozen=True)
class Bare:
    """What must be known of bare weights: their network, the names of the outputs in order (None: their numbers), and
    what pictures are shown as, where that is not as published.
    """

    model: str | None = None
    classes: tuple[str, ...] | None = None
    size: int | None = None
    normalization: str | None = None

    def load(self, path: Path) -> Loaded:
        """The network and what belongs to it.

        Raises:
            UserError: it is no bare weight file, or does not fit.
        """
        if not is_weight_file(path):
            raise UserError(
                "--model, --classes, --size and --normalization are for bare weight files; a run knows its own"
            )
        if self.normalization not in (None, *NORMALIZATIONS):
            raise UserError(f'--normalization "{self.normalization}": it is one of {", ".join(NORMALIZATIONS)}')
        if self.classes is not None and read_header(path)[1] is not None:
            raise UserError(f"{path} is a model file and names its own classes; leave --classes out")
        return load_file(path, self.model, self.classes, self.size, self.normalization)


def predictions_of(loaded: Loaded, asked: Sequence[Asked], *, top: int, device: str) -> list[Prediction]:
    """The same of a loaded model and of what `find_pictures` gave."""
    if not isinstance(top, int) or isinstance(top, bool) or top < 1:
        raise UserError(f"top is {top!r}; it must be a whole number of names, from 1 up")
    if not asked:
        return []
    batches = eval_loader(
        AskedPictures(asked, loaded.preprocessing), Collate(loaded.task.encoding), EVAL_BATCH,
        _workers(asked),
    )  # fmt: skip
    place = find_device(device)
    if place.type == "cpu" and len(asked) > FEW:
        model = for_pictures(loaded.model, len(asked), loaded.preprocessing.size)
    else:
        model = loaded.model.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    task = loaded.task
    watched = CORES.watched() if len(asked) > EVAL_BATCH else contextlib.nullcontext()  # a look takes a moment
    with progress("predicting", len(asked)) as bar, watched:
        found = collect(model, batches, task, loaded.preprocessing, device=place, advance=CORES.ticking(bar.advance))
    if not found.records.finite:
        raise WeightsError(
            f"{loaded.path}: the model's answers are no numbers (NaN or infinite); its weights are damaged"
        )
    rows = {int(index): row for row, index in enumerate(found.indices)}
    answers = [
        task.answer(found.records, rows[i], one.path, top)
        if i in rows
        else task.no_answer(one.path, found.reasons[i], one.missing)
        for i, one in enumerate(asked)
    ]
    return cast("list[Prediction]", answers)


def _workers(asked: Sequence[Asked]) -> int:
    """Processes that read: none for a few pictures, or for what is in memory already."""
    if len(asked) <= EVAL_BATCH or any(one.path is None for one in asked):
        return 0
    return min(4, max(1, usable_cores() - 1))


@dataclass(frozen=True)
class Asked:
    """A picture to be named: what it is, what it is called, and its file where it is one.

    `error` says of something that is not there (`missing`) what is wrong.
    """

    picture: Picture
    name: str
    path: Path | None = None
    error: str = ""

    @property
    def missing(self) -> bool:
        """Whether nothing of this name is there."""
        return bool(self.error)


class AskedPictures(EvalPictures):
    """As `EvalPictures`, of pictures of any kind: item index -> (picture or None, no labels, index, what failed)."""

    def __init__(self, asked: Sequence[Asked], preprocessing: Preprocessing) -> None:
        super().__init__((), preprocessing)
        self.asked = asked

    def __len__(self) -> int:
        return len(self.asked)

    def __getitem__(self, index: int) -> tuple[Tensor | None, tuple[int, ...], int, str]:
        one = self.asked[index]
        try:
            if not one.error:
                return self.preprocessing.view(one.picture, one.name), (), index, ""
        except PictureError as error:
            return None, (), index, str(error)
        return None, (), index, one.error


def find_pictures(pictures: Pictures) -> list[Asked]:
    """One entry for each picture that is given, in order; for folders those below them, for patterns their matches.

    What is not there, a folder without pictures, and a pattern without a match are entries with an error.

    Raises:
        DataError: nothing at all is there, or a name is empty.
        UserError: something is no picture.
    """
    asked: list[Asked] = []
    for index, picture in enumerate(one_by_one(pictures)):
        if isinstance(picture, str | os.PathLike):
            asked += _named(os.fspath(picture))
        else:
            asked.append(Asked(picture, title_of(picture, index)))
    if asked and all(one.missing for one in asked):
        raise DataError(asked[0].error)
    return asked


def _named(name: str) -> list[Asked]:
    """The pictures that a name means: a file, a folder, or a pattern."""
    path = Path(name)
    try:
        if path.is_dir():
            walked = walk(path)
            inside = [Asked(p, str(p), p) for p in walked.pictures]
            inside += [Asked(p, str(p), p, f"{printable(p)}: {why}") for p, why in walked.unreadable]
            none = "holds no pictures; give files or folders of JPEG, PNG, WebP, TIFF or BMP"
        elif path.exists() or path.is_symlink():
            return [Asked(path, name, path)]
        else:
            matches = sorted(Path(p) for p in glob.glob(name, recursive=True) if Path(p).is_file())  # noqa: PTH207
            inside = [Asked(p, str(p), p) for p in matches]
            none = "is no file and matches none; give files, folders or patterns"
    except (OSError, ValueError) as error:  # a name that the system refuses
        inside, none = [], f"cannot be looked for ({getattr(error, 'strerror', None) or error})"
    return inside or [Asked(path, name, path, f"{printable(name)} {none}")]


def to_csv(answers: Sequence[Answer]) -> str:
    """A table: path, what the task has to say, and why a file was not read."""
    cells = [answer.cells() for answer in answers]
    names = max((list(row) for row in cells), key=len, default=[])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", *names, "error"])
    for answer, row in zip(answers, cells, strict=True):
        path = "" if answer.path is None else csv_path(answer.path)
        writer.writerow([path, *(row.get(name, "") for name in names), csv_cell(answer.error)])
    return text.getvalue()


def to_json(answers: Sequence[Answer]) -> str:
    """One object: `predictions`, and `unreadable` with reasons."""
    good = [{"path": _text(answer.path)} | answer.fields() for answer in answers if not answer.error]
    bad = [{"path": _text(answer.path), "reason": answer.error} for answer in answers if answer.error]
    return json.dumps({"predictions": good, "unreadable": bad}, indent=1, ensure_ascii=False)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
