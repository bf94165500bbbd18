"""The one way to read data: whatever it is, a folder, a table, tars or an address, by one call."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from convnext.data.names import called
from convnext.data.shards.open import open_shards
from convnext.data.sources.check import Progress
from convnext.data.sources.dataset import Dataset
from convnext.data.sources.folds import in_fold
from convnext.data.sources.read import survey
from convnext.data.sources.reading import Reading
from convnext.data.sources.targets import Targets
from convnext.errors import DataError, RecipeError

Show = Callable[[str, str], AbstractContextManager[Progress]]
"""From a title and what is counted to a function that is called with (done, in all), while that is shown."""


def _silently(title: str, unit: str) -> AbstractContextManager[Progress]:
    return nullcontext(lambda done, total: None)


def open_data(root: Path, reading: Reading, targets: Targets, show: Show = _silently) -> Dataset:
    """Lists the pictures of a data set, opens each once but for those in shards, and puts them into splits.

    Args:
        root: a folder, a CSV table, shards, a pattern or an address of tars.
        reading: what is asked of it.
        targets: finds what the pictures are paired with.
        show: shows how far the listing of tars, and the opening of pictures, has come.

    Raises:
        DataError: the data cannot be used; the message says what to do.
        RecipeError: there is no such fold.
    """
    with show("listing", "tars") as progress:
        sharded = open_shards(root, reading, targets, progress)
    if sharded is not None:
        if reading.folds:
            raise DataError(f"{called(root)}: folds are for pictures in files, not for shards; use them unpacked")
        return sharded
    with show("checking pictures", "pictures") as progress:
        dataset = survey(root, reading, targets, progress)[0]
    return _in_fold(dataset, reading) if reading.folds or reading.fold else dataset


def _in_fold(dataset: Dataset, reading: Reading) -> Dataset:
    if not 1 <= reading.fold <= reading.folds or reading.folds == 1:
        raise RecipeError(
            f"data.fold = {reading.fold}, data.folds = {reading.folds}: the fold that is held out is from 1 to "
            "data.folds, of which there are two or more; `convnext train DATA --folds 5` trains all of them"
        )
    return in_fold(dataset, reading.folds, reading.fold, reading.val)
