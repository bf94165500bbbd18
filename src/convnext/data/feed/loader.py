"""Batches of pictures: a cache of decoded pictures, worker processes, and a word about files that break."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from convnext.data.feed.augment import TrainTransform
from convnext.data.feed.disk_cache import DiskBudget, DiskCache
from convnext.data.feed.feed import (
    Loader,
    fits_shared_memory,
    in_main_thread,
    leave_signals_to_parent,
    may_have_processes,
)
from convnext.data.feed.preprocessing import Preprocessing
from convnext.data.pictures.decode import MODES, read_pixels
from convnext.data.pictures.levels import Range
from convnext.data.pictures.transforms import from_pixels, mix_seed, shrink
from convnext.data.sources.dataset import Sample
from convnext.data.sources.target import Meaning
from convnext.errors import PictureError, UserError


@dataclass
class Batch:
    """Pictures (N, C, S, S), uint8 or already normalised; targets (N, ...) as the meaning stacks them; positions (N,).

    `failed` says what could not be read, `reasons` the same of each position that has no picture for it.
    """

    pictures: Tensor
    targets: Tensor
    indices: Tensor
    failed: list[str]
    reasons: dict[int, str] = field(default_factory=dict)

    def pin_memory(self) -> Batch:
        """Called by torch's loader when the batch goes to a GPU."""
        return Batch(self.pictures.pin_memory(), self.targets.pin_memory(), self.indices, self.failed, self.reasons)


class PictureCache:
    """Decoded pictures in one block of memory, and the rest, where wanted, in a file.

    Worker processes that are forked read the same pages of both.

    Args:
        pictures: how many there will be.
        budget: bytes of memory at most.
        disk: takes pictures that do not fit into it; what it does not take either is decoded anew each time.

    Raises:
        UserError: the machine does not give so much memory.
    """

    def __init__(self, pictures: int, budget: int, disk: DiskCache | None = None) -> None:
        try:
            self.block = np.empty(budget, dtype=np.uint8)  # the system gives pages when they are first written
        except MemoryError:
            raise UserError(
                f"data.cache_gb asks for {budget / 1e9:.3g} GB, which this machine does not give; "
                "lower it, or set it to 0 to decode anew every epoch"
            ) from None
        self.place = np.full((pictures, 4), -1, dtype=np.int64)  # start, height, width, channels
        self.used, self.disk = 0, disk

    def fill(
        self, read: Callable[[int], Tensor | None], workers: int, progress: Callable[[int, int], None] | None
    ) -> None:
        """Decodes pictures in order until the budgets are used up; `read` gives None for a file that cannot be read.

        What the disk held before is not decoded, and only read where there is room for it in memory.
        """
        total, memory, room = len(self.place), len(self.block) > 0, True
        try:
            with ThreadPoolExecutor(workers) as pool:
                for first in range(0, total, 256):
                    chunk = range(first, min(first + 256, total))
                    wanted = [i for i in chunk if memory or self.disk is None or not self.disk.holds(i)]
                    for index, picture in zip(wanted, pool.map(partial(self._find, read), wanted), strict=True):
                        if picture is not None and not self._keep(index, picture):
                            memory = False
                            room = self._keep_on_disk(index, picture) and room
                    if progress is not None:
                        progress(chunk[-1] + 1, total)
                    if not (memory or room):
                        break
        finally:  # what was decoded before an interruption is there for the next run
            self.block = self.block[: self.used]
            if self.disk is not None:
                self.disk.finish()

    def get(self, index: int) -> Tensor | None:
        """The picture (C, H, W), channels last in memory, or None when it is not held."""
        start, h, w, c = self.place[index].tolist()
        if start >= 0:
            return from_pixels(self.block[start : start + c * h * w].reshape(h, w, c))
        pixels = self.disk.get(index) if self.disk is not None else None
        return None if pixels is None else from_pixels(pixels)

    def count(self) -> tuple[int, int]:
        """Pictures that are held: in memory, and on disk alone."""
        memory = self.place[:, 0] >= 0
        disk = self.disk.place[:, 0] >= 0 if self.disk is not None else np.zeros_like(memory)
        return int(memory.sum()), int((disk & ~memory).sum())

    def _find(self, read: Callable[[int], Tensor | None], index: int) -> Tensor | None:
        found = self.get(index)
        return read(index) if found is None else found

    def _keep(self, index: int, picture: Tensor) -> bool:
        """Puts a picture into memory; False when it does not fit."""
        end = self.used + picture.numel()
        if end > len(self.block):
            return False
        rows = picture.permute(1, 2, 0)
        self.place[index] = (self.used, *rows.shape)
        self.block[self.used : end] = rows.reshape(-1).numpy()
        self.used = end
        if self.disk is not None:
            self.disk.forget(index)
        return True

    def _keep_on_disk(self, index: int, picture: Tensor) -> bool:
        return self.disk is not None and self.disk.add(index, picture.permute(1, 2, 0).numpy())


class TrainPictures(Dataset[tuple[Tensor | None, Any, int, str]]):
    """Training pictures: item (index, seed, size) -> (augmented picture, labels, index, what failed or "")."""

    def __init__(
        self,
        samples: Sequence[Sample],
        transform: TrainTransform,
        short_side: int,
        filter_: str,
        value_range: Range | None = None,
    ) -> None:
        self.samples, self.transform, self.short_side, self.filter = samples, transform, short_side, filter_
        self.value_range = value_range
        self.cache: PictureCache | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def decode(self, index: int) -> Tensor:
        """The picture as it is cached: upright, 8 bits, short side at most `short_side`."""
        mode = MODES[self.transform.in_chans]
        pixels = read_pixels(
            self.samples[index].path, mode=mode, at_least=self.short_side, value_range=self.value_range
        )
        return shrink(from_pixels(pixels), self.short_side, self.filter)

    def fill_cache(
        self,
        budget: int,
        workers: int,
        progress: Callable[[int, int], None] | None = None,
        disk: DiskBudget | None = None,
    ) -> None:
        """Decodes as many pictures as fit into `budget` bytes of memory, and then on `disk`.

        Raises:
            UserError: the machine does not give so much memory.
        """
        kind = (self.short_side, self.filter, MODES[self.transform.in_chans], *(self.value_range or ()))
        kept = DiskCache([sample.path for sample in self.samples], kind, disk) if disk is not None else None
        cache = PictureCache(len(self), budget, kept)
        cache.fill(lambda index: _or_none(self.decode, index), workers, progress)
        self.cache = cache

    def __getitem__(self, item: tuple[int, int, int]) -> tuple[Tensor | None, Any, int, str]:
        index, seed, size = item
        failed = ""
        for attempt in range(100):
            at = (index + attempt) % len(self)
            try:
                held = self.cache.get(at) if self.cache is not None else None
                picture = self.decode(at) if held is None else held
            except PictureError as error:
                failed = failed or str(error)
                continue
            return self.transform(picture, seed, size), self.samples[at].target, at, failed
        return None, (), index, f"{failed}, and the 99 pictures after it; is the disk still there?"


class EvalPictures(Dataset[tuple[Tensor | None, Any, int, str]]):
    """Pictures in evaluation: item index -> (picture or None, labels, index, path that failed or "")."""

    def __init__(self, samples: Sequence[Sample], preprocessing: Preprocessing) -> None:
        self.samples, self.preprocessing = samples, preprocessing
        self.cache: PictureCache | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def fill_cache(self, budget: int, workers: int) -> None:
        """Keeps finished views, as many as fit into `budget` bytes."""
        cache = PictureCache(len(self), budget)
        cache.fill(
            lambda index: _or_none(lambda i: self.preprocessing.view(self.samples[i].path), index), workers, None
        )
        self.cache = cache

    def __getitem__(self, index: int) -> tuple[Tensor | None, Any, int, str]:
        sample = self.samples[index]
        held = self.cache.get(index) if self.cache is not None else None
        try:
            picture = self.preprocessing.view(sample.path) if held is None else held
        except PictureError as error:
            return None, sample.target, index, str(error)
        return picture, sample.target, index, ""


class EpochSampler(Sampler[list[tuple[int, int, int]]]):
    """Batches of (index, seed, size) in an order that (seed, epoch) decide alone; the last part batch is left out.

    With several processes each takes its part of every batch, in the order of their ranks.

    Set `epoch`, `size` (side of the pictures) and `first` (batches to skip, when an epoch goes on after a stop) before
    iterating.
    """

    def __init__(self, pictures: int, batch: int, seed: int, size: int, rank: int = 0, world: int = 1) -> None:
        self.pictures, self.batch, self.seed, self.size = pictures, batch, seed, size
        self.rank, self.world = rank, world
        self.epoch, self.first = 0, 0

    def __len__(self) -> int:
        return self.pictures // self.batch - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        order = np.random.default_rng(mix_seed(self.seed, self.epoch)).permutation(self.pictures)
        part = self.batch // self.world
        for step in range(self.first, self.pictures // self.batch):
            start = step * self.batch + self.rank * part
            indices = order[start : start + part].tolist()
            yield [(i, mix_seed(self.seed, self.epoch, i), self.size) for i in indices]


class Collate:
    """Stacks items into a `Batch`; `meaning`, of the data set or of a task, stacks the targets."""

    def __init__(self, meaning: Meaning) -> None:
        self.meaning = meaning

    def __call__(self, items: list[tuple[Tensor | None, Any, int, str]]) -> Batch:
        failed = [text for *_, text in items if text]
        reasons = {index: text for picture, _, index, text in items if picture is None}
        good = [(picture, target, index) for picture, target, index, _ in items if picture is not None]
        pictures = torch.empty(0, dtype=torch.uint8)
        if good:  # channels last in memory, as the pictures have them
            pictures = torch.stack([p.permute(1, 2, 0) for p, _, _ in good]).permute(0, 3, 1, 2)
        targets = self.meaning.collate([target for _, target, _ in good])
        return Batch(pictures, targets, torch.tensor([i for *_, i in good], dtype=torch.int64), failed, reasons)


class PackedBatch:
    """A batch of arrays, which go from process to process through a pipe; tensors would take shared memory."""

    def __init__(self, batch: Batch) -> None:
        self.values = {item.name: _packed(getattr(batch, item.name)) for item in fields(batch)}

    def unpack(self) -> Batch:
        """The batch, laid out in memory as it was."""
        return Batch(**{name: _unpacked(value) for name, value in self.values.items()})


def _packed(value: Any) -> Any:
    """A tensor as an array whose bytes are in its own order, pictures by (N, H, W, C); anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    return (value.permute(0, 2, 3, 1) if value.dim() == 4 else value).contiguous().numpy()


def _unpacked(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    tensor = torch.from_numpy(value)
    return tensor.permute(0, 3, 1, 2) if tensor.dim() == 4 else tensor


class _Packing:
    """A collate function whose batches are packed."""

    def __init__(self, collate: Collate) -> None:
        self.collate = collate

    def __call__(self, items: list[Any]) -> PackedBatch:
        return PackedBatch(self.collate(items))


def train_loader(
    dataset: TrainPictures, sampler: EpochSampler, collate: Collate, workers: int, pin: bool
) -> Loader[Batch]:
    """A loader that keeps its worker processes from epoch to epoch.

    Where processes are not forked each would get a copy of the pictures in memory, and where this process may have no
    others: then the training process loads by itself.
    """
    if dataset.cache is not None and dataset.cache.used and multiprocessing.get_start_method() != "fork":
        workers = 0
    if not may_have_processes(workers, "pictures are read by itself, between the steps, which costs time"):
        workers = 0
    picture = 4 * dataset.transform.in_chans * sampler.size**2  # bytes, where they are normalised already
    fits = not workers or fits_shared_memory(sampler.batch // sampler.world * picture * (4 * workers + 1))
    return Loader(
        cast("Dataset[Batch]", dataset),
        batch_sampler=sampler,
        collate_fn=collate if fits else _Packing(collate),
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=partial(leave_signals_to_parent, with_parent=in_main_thread()),
        prefetch_factor=4 if workers > 0 else None,
        pin_memory=pin,
        generator=torch.Generator(),  # a loader without one draws from the random state that the model uses
    )


def eval_loader(
    dataset: EvalPictures, collate: Collate, batch: int, workers: int, only: range | None = None
) -> Loader[Batch]:
    """A loader in file order that leaves nothing out, of all pictures or of those at `only`.

    Where this process may have no others (one of a pool's, or of Celery's) threads read the pictures.
    """
    threads = 0 if may_have_processes(workers, "pictures are read by threads of it, somewhat more slowly") else workers
    workers = 0 if threads else workers
    view = dataset.preprocessing
    fits = not workers or fits_shared_memory(batch * view.in_chans * view.size**2 * (2 * workers + 1))
    loader: Loader[Batch] = Loader(
        cast("Dataset[Batch]", dataset), batch_size=batch, sampler=only,
        collate_fn=collate if fits else _Packing(collate), num_workers=workers,
        generator=torch.Generator(), worker_init_fn=partial(leave_signals_to_parent, with_parent=in_main_thread()),
    )  # fmt: skip
    loader.threads = threads
    return loader


def _or_none(read: Callable[[int], Tensor], index: int) -> Tensor | None:
    try:
        return read(index)
    except PictureError:
        return None
