"""Reading a data set with a progress bar, and with what there is to say about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convnext.data.names import called
from convnext.data.sources.check import Progress
from convnext.data.sources.dataset import Broken, Dataset
from convnext.data.sources.open import open_data
from convnext.data.sources.reading import Reading
from convnext.data.sources.targets import Targets
from convnext.run.record import progress, say

TOLD = 10
"""Broken files that are named one by one."""


def read_data(root: Path, reading: Reading, targets: Targets, *, quiet: bool = False) -> Dataset:
    """The data set, with a progress bar, and unless `quiet` the reader's remarks.

    Raises:
        UserError: as `open_data`.
    """
    if not quiet:
        say(f"reading {called(root)}")
    dataset = open_data(root, reading, targets, _bar)
    if quiet:
        return dataset
    for note in dataset.notes:
        say(note)
    say_broken(dataset.broken)
    if len(dataset.broken) > TOLD:
        say(f"left out: {len(dataset.broken) - TOLD} more files; all are listed in data.json")
    return dataset


@contextmanager
def _bar(title: str, unit: str) -> Iterator[Progress]:
    with progress(title, 1, unit) as bar:
        yield bar.update


def say_broken(broken: tuple[Broken, ...]) -> None:
    """Names the first files that cannot be read."""
    for item in broken[:TOLD]:
        say(f"left out: {item.path}: {item.reason}")
