"""What the commands do, as functions of `import convnext`: each calls what its command calls, and gives objects.

Like the command line it stands above all folders, and nothing imports it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convnext.config import load_recipe, recipe_of
from convnext.data.doctor.diagnosis import Diagnosis
from convnext.data.feed.given import Pictures
from convnext.data.names import DATA, name_of, named
from convnext.errors import UserError
from convnext.evaluate.evaluate import evaluate_run, evaluate_weights
from convnext.evaluate.model import Model, load
from convnext.evaluate.verdict import Judged
from convnext.recipe import Recipe
from convnext.report.finish import finish_run
from convnext.report.page import write_report
from convnext.run.folder import RunFolder, open_run
from convnext.tasks.classify.answers import Prediction
from convnext.tasks.classify.targets import diagnose
from convnext.train.train import train_run

__all__ = ["Model", "Run", "doctor", "evaluate", "load", "train"]


class Run:
    """A run folder: what `convnext.train` leaves, and what every function and command takes.

    Args:
        path: the folder.

    Raises:
        RunError: it holds no run.

    Examples:
        >>> import convnext
        >>> run = convnext.Run("runs/photos")
        >>> 0 <= run.result["top1"] <= 1
        True
        >>> run.predict("photos/wide/wide-000.png")[0].label in run.model.classes
        True
        >>> run.report().name
        'report.html'
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.folder: RunFolder = open_run(named(path))
        self._model: Model | None = None

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    @property
    def result(self) -> dict[str, Any]:
        """The verdict, as in result.json; empty where the run was not judged."""
        return self.folder.read_table("result.json") or {}

    @property
    def log(self) -> list[dict[str, Any]]:
        """The epochs, as in log.jsonl."""
        return self.folder.read_log()

    @property
    def recipe(self) -> Recipe:
        """The complete recipe, as it was run."""
        return load_recipe(self.folder.recipe)

    @property
    def model(self) -> Model:
        """The model that the result judged, loaded when it is first asked for."""
        if self._model is None:
            self._model = load(self.path)
        return self._model

    def predict(self, pictures: Pictures, *, top: int = 5) -> list[Prediction]:
        """Names with probabilities, one for each picture that is given, in order; see `convnext.predict`."""
        return self.model.predict(pictures, top=top)

    def evaluate(self, data: str | os.PathLike[str] | None = None, *, split: str | None = None) -> Judged:
        """The verdict on the run's own data or on other data; see `convnext.evaluate`."""
        return evaluate(self.path, data, split=split)

    def report(self) -> Path:
        """Writes report.html anew and returns its path."""
        return write_report(self.path)

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __repr__(self) -> str:
        return f"<Run {self.path}>"


def train(
    data: str | os.PathLike[str],
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Run:
    """Trains a model, judges it and writes its report, as `convnext train` does.

    Args:
        data: an image folder or a CSV table.
        recipe: a TOML file, the name of a shipped recipe, nested dictionaries, or a `Recipe`; None for the defaults.
        out: the run folder; by default runs/NAME-OF-DATA.
        overwrite: replace the run in `out`.
        settings: keys of the recipe by their last word, as `epochs=20`, `size=128` or `weights="none"`; or whole, as
            `**{"train.epochs": 20}`.

    Raises:
        UserError: the data, the recipe, the weights or the folder cannot be used; nothing was overwritten then.
        KeyboardInterrupt: Ctrl-C; the state is saved, and `convnext train --resume --out RUN` goes on.

    Examples:
        >>> import convnext
        >>> run = convnext.train(
        ...     "photos", {"model": {"name": "convnext_atto"}}, out="runs/mine", weights="none", epochs=1, size=32
        ... )
        >>> run.log[-1]["epoch"]
        1
        >>> 0 <= run.result["top1"] <= 1
        True
    """
    root = named(data, "data", DATA)
    place = Path("runs") / name_of(root) if out is None else named(out, "run folder", "a new or empty folder")
    run = train_run(os.fspath(data), recipe_of(recipe, settings), place, overwrite=overwrite)
    finish_run(run.path)
    return Run(run.path)


def evaluate(
    run: str | os.PathLike[str] | Model,
    data: str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    weights: str = "auto",
    model: str | None = None,
    size: int | None = None,
) -> Judged:
    """Judges a run, or a model file, as `convnext evaluate` does: `.result` has the numbers of result.json.

    Args:
        run: a run folder, a model file, a bare weight file together with `model`, or what `convnext.load` gave.
        data: other data with the same classes; None for the run's own.
        split: train, val or test; by default the test split, else validation; all of other data.
        weights: of a run: best or last; auto takes the best on the run's test split, the last on its train and val.
        model: the network of a bare weight file.
        size: the pictures' side for a bare weight file, pixels; None as published.

    Raises:
        UserError: the run, the data or the split cannot be used, or the model in memory is not the one in its file.

    Examples:
        >>> import convnext
        >>> judged = convnext.evaluate("runs/photos")
        >>> judged.result["split"], judged.result["n"] > 0
        ('test', True)
    """
    place = run.path if isinstance(run, Model) else named(run)
    if isinstance(run, Model) and run.changed():
        raise UserError(
            f"the model is another one than in {place}, which would be judged in its place; save it by "
            "model.save(PATH) and give that file"
        )
    if not place.is_file():
        if model or size:
            raise UserError("model and size are for bare weight files; a run knows its own")
        return evaluate_run(place, None if data is None else named(data, "data", DATA), split=split, which=weights)
    if data is None:
        raise UserError(f"{place} is a model file: give the data to judge it on")
    return evaluate_weights(place, model, named(data, "data", DATA), size=size, normalization=None, split=split)


def doctor(data: str | os.PathLike[str], **settings: Any) -> Diagnosis:
    """Checks a data set before anyone trains on it, as `convnext doctor` does.

    Args:
        data: an image folder or a CSV table.
        settings: as for `diagnose`, such as `label_column="species"`.

    Examples:
        >>> import convnext
        >>> found = convnext.doctor("photos")
        >>> found.ok, found.pictures
        (True, 80)
    """
    return diagnose(named(data, "data", DATA), **settings)
