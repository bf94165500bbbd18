"""Checking a data set before anyone trains on it: `examine` finds what is wrong and says what to do about it.

Errors spoil training or its judgement: the data set cannot be used, one picture lies under two labels, equal pictures
are in two splits. Warnings may do so: unreadable files, copies, look-alikes across splits or labels, small and uneven
classes, blank and tiny pictures, giveaways. Notes are good to know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from convnext.data.doctor.appearance import looks, sizes, unreadable, values
from convnext.data.doctor.copies import copies, near_copies
from convnext.data.doctor.diagnosis import Diagnosis
from convnext.data.doctor.findings import LEVELS, Finding, Picture
from convnext.data.names import printable
from convnext.data.pictures.scales import remarks, scales_of
from convnext.data.shards.open import open_shards, shard_names, survey_shards
from convnext.data.sources.check import Facts, Progress
from convnext.data.sources.dataset import Dataset
from convnext.data.sources.read import LEAKING, OWN_SPLIT, survey
from convnext.data.sources.reading import Reading
from convnext.data.sources.targets import Targets
from convnext.errors import DataError


def examine(
    root: Path, reading: Reading, targets: Targets, progress: Progress | None = None, workers: int | None = None
) -> Diagnosis:
    """Checks a data set as it would be read. One that cannot be used is a finding too.

    Args:
        root: the data set.
        reading: what is asked of it.
        targets: finds what the pictures are paired with.
        progress: called with (pictures opened, pictures in all).
        workers: threads; None means one a core.
    """
    try:
        sharded = open_shards(Path(root), reading, targets)
        if sharded is not None:
            data, facts = survey_shards(sharded, progress)
            called = shard_names(sharded.folder)
        else:
            called = None
            data, facts = survey(root, reading, targets, progress, workers)
    except DataError as error:
        finding = Finding("error", "unusable", str(error), "put this right, then run the check again")
        return Diagnosis(Path(root), (finding,))
    return _examine(data, facts, targets, called)


def _examine(
    data: Dataset, facts: Mapping[Path, Facts], targets: Targets, called: Callable[[Path], str] | None
) -> Diagnosis:
    """All examinations of a data set that can be used; `called` gives the names to show, else they are paths."""
    base = _base(data)
    name = called or (lambda path: _name(path, base))
    pictures = [
        Picture(name(sample.path), sample.target, split, facts[sample.path])
        for split, samples in data.splits.items()
        for sample in samples
    ]
    own_split = any(note.startswith(OWN_SPLIT) for note in data.notes)
    findings = [
        *copies(pictures, targets.noun),
        *unreadable(data.broken, len(pictures), lambda item: name(item.path)),
        *near_copies(pictures, own_split, targets.noun),
        *targets.check(data, pictures),
        *looks(pictures),
        *values(pictures, scales_of((sample.path, facts[sample.path]) for sample in data.splits.get("train", ()))),
    ]
    found_too = {  # by the reader, for those who do not ask a doctor
        *remarks([picture.facts for picture in pictures]),
        *(f.message for f in findings),
    }
    notes = tuple(n for n in data.notes if n not in found_too and LEAKING not in n)
    return Diagnosis(
        root=data.root,
        findings=tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level))),
        layout=data.layout,
        overview=targets.overview(data),
        splits=tuple(data.splits),
        pictures=len(pictures),
        broken=len(data.broken),
        short_sides=sizes(pictures),
        notes=notes if base in (data.root, data.root.parent) else (*notes, f"files are in {printable(base)}"),
    )


def _base(data: Dataset) -> Path:
    """Where names of files begin: at the data set or, when a table's pictures lie elsewhere, at their common folder."""
    base = data.root if data.root.is_dir() else data.root.parent
    paths = [sample.path for samples in data.splits.values() for sample in samples]
    if all(path.is_relative_to(base) for path in paths):
        return base
    try:
        return Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError:  # on several drives
        return base


def _name(path: Path, base: Path) -> str:
    """A path as shown: relative to `base` where it lies in it."""
    return printable(path.relative_to(base) if path.is_relative_to(base) else path)
