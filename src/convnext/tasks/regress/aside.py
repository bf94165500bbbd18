"""Validation pictures that are set aside for the intervals: they choose no epoch, and err as on new pictures.

An epoch that was chosen on a picture suits it a little better than others, and intervals that are made of its error are
a little too narrow. So half of the validation pictures calibrate alone, and the others choose.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict

from convnext.data.sources.dataset import Dataset
from convnext.data.sources.split import join_groups
from convnext.tasks.regress.conformal import needed

SHARE = 0.5
"""Of the validation pictures that calibrate."""


def set_aside(dataset: Dataset, level: float) -> frozenset[int]:
    """Positions in the validation split of the pictures that calibrate; none where they would be too few.

    Pictures of one content or one group stay together. Which ones it is depends on contents (or groups) alone, as the
    split does, never on targets: both halves come as new pictures do.

    Args:
        dataset: with its splits.
        level: the wanted coverage; 0 for no intervals.
    """
    samples = dataset.splits.get("val", ())
    if level == 0 or dataset.in_shards or int(len(samples) * SHARE) < needed(level):
        return frozenset()
    keys = [(sample.content.hex() or sample.path.as_posix(), dataset.groups.get(sample.path, "")) for sample in samples]
    units: dict[str, list[int]] = defaultdict(list)
    for at, unit in enumerate(join_groups(keys)):
        units[hashlib.sha256(f"calibration {unit}".encode("utf-8", "surrogateescape")).hexdigest()].append(at)
    chosen: set[int] = set()
    for _, positions in sorted(units.items()):
        if len(chosen) + len(positions) <= len(samples) * SHARE:
            chosen.update(positions)
    return frozenset(chosen)
