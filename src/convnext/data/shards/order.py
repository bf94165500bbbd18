"""The order of a sharded data set in an epoch: shards shuffled, then their pictures within a window of a few shards.

It follows from (seed, epoch) alone and is made window by window, so that it takes the same memory for any number of
pictures; every picture comes once an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from convnext.data.feed.loader import EpochSampler
from convnext.data.pictures.transforms import mix_seed
from convnext.data.shards.read import ShardSamples

WINDOW = 16
"""Shards whose pictures are mixed; with 500 MB a shard, 8 GB of pictures."""


class ShardSampler(EpochSampler):
    """As `EpochSampler`, for the pictures of a sharded split."""

    def __init__(self, samples: ShardSamples, batch: int, seed: int, size: int, rank: int = 0, world: int = 1) -> None:
        super().__init__(len(samples), batch, seed, size, rank, world)
        self.starts = samples.starts

    def windows(self) -> Iterator[NDArray[np.int64]]:
        """The pictures of the epoch, window after window, in their order."""
        rng = np.random.default_rng(mix_seed(self.seed, self.epoch))
        order = rng.permutation(len(self.starts) - 1)
        for first in range(0, len(order), WINDOW):
            spans = [np.arange(self.starts[i], self.starts[i + 1]) for i in order[first : first + WINDOW]]
            yield np.random.default_rng(mix_seed(self.seed, self.epoch, first)).permutation(np.concatenate(spans))

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        part, skip = self.batch // self.world, self.first * self.batch
        left = (self.pictures // self.batch - self.first) * self.batch
        held = np.zeros(0, np.int64)
        for window in self.windows():
            if skip >= len(window):
                skip -= len(window)
                continue
            held, skip = np.concatenate([held, window[skip:]]), 0
            while len(held) >= self.batch and left > 0:
                own = held[self.rank * part : (self.rank + 1) * part].tolist()
                yield [(i, mix_seed(self.seed, self.epoch, i), self.size) for i in own]
                held, left = held[self.batch :], left - self.batch
