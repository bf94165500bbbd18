"""Which pictures a run has learned from, by their contents: so that a score on them is called what it is.

contents.json holds the first 48 bits of the SHA-256 of each training and each validation picture, sorted, 8 letters a
picture. Who has a picture can see from it whether the run had the same file; a picture cannot be made from it. Runs of
before, and those on shards, whose pictures are not read one by one, have none: of them it is not known.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convnext.data.sources.dataset import CONTENT_BYTES, Dataset, Sample, contents_are_known
from convnext.errors import RunError
from convnext.run.folder import CONTENTS, RunFolder

_BYTES = CONTENT_BYTES
"""Of each hash: among a million pictures each, two that differ are taken for one less than once in 250 comparisons."""
_KEPT = ("train", "val")


def write_contents(run: RunFolder, dataset: Dataset) -> None:
    """Writes contents.json, or nothing where contents are not known."""
    there = {split: dataset.splits[split] for split in _KEPT if split in dataset.splits}
    if all(contents_are_known(samples) for samples in there.values()):
        run.write_json(CONTENTS, {split: _packed(samples) for split, samples in there.items()})


def count_known(run: RunFolder, samples: Iterable[Sample]) -> dict[str, int]:
    """How many of these pictures the run had for training and for validation; empty where that is not known.

    Raises:
        RunError: contents.json is damaged.
    """
    found = run.read_table(CONTENTS)
    asked = list(samples)
    if not found or not contents_are_known(asked):
        return {}
    mine = _numbers(b"".join(sample.content for sample in asked))
    return {split: int(np.isin(mine, _unpacked(run, found, split)).sum()) for split in _KEPT if split in found}


def is_file_of_run(path: Path) -> bool:
    """Whether a file is a model of a run, where the run left it."""
    run = RunFolder(path.parent)
    return path.name in (run.best.name, run.last.name) and run.recipe.is_file()


def _packed(samples: Sequence[Sample]) -> str:
    return base64.b64encode(b"".join(sorted({sample.content for sample in samples}))).decode("ascii")


def _unpacked(run: RunFolder, found: dict[str, str], split: str) -> NDArray[np.uint64]:
    try:
        content = base64.b64decode(found[split], validate=True)
    except ValueError:
        content = b"?"
    if len(content) % _BYTES:
        raise RunError(
            f"{run.path / CONTENTS} is damaged: {split} is no list of hashes. Remove it: the run can do without"
        )
    return _numbers(content)


def _numbers(content: bytes) -> NDArray[np.uint64]:
    """Hashes as whole numbers, (n,), from their bytes one after the other."""
    whole = np.zeros((len(content) // _BYTES, 8), np.uint8)
    whole[:, :_BYTES] = np.frombuffer(content, np.uint8).reshape(-1, _BYTES)
    return whole.view(np.uint64)[:, 0]
