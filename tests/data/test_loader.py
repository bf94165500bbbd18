"""Feeding: the cache, the order, what happens to files that break."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode, v2

from convnext.data.feed.augment import TrainTransform
from convnext.data.feed.loader import (
    Collate,
    EpochSampler,
    EvalPictures,
    PictureCache,
    Preprocessing,
    TrainPictures,
    eval_loader,
    train_loader,
)
from convnext.recipe import AugmentRecipe, DataRecipe
from convnext.tasks.classify.meaning import Classes
from convnext.tasks.classify.targets import read_dataset

PREPROCESSING = Preprocessing(24, 0.75, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 3)


def pictures(root: Path) -> TrainPictures:
    """The training pictures of a folder."""
    transform = TrainTransform(DataRecipe(), AugmentRecipe(), 16, 3)
    return TrainPictures(read_dataset(root).splits["train"], transform, 30, "bicubic")


@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 5), st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_an_epoch_shows_each_picture_once(count: int, batch: int, seed: int, epoch: int) -> None:
    """Batches are full, no index comes twice, only a part batch is left out; a resumed epoch is the end of a whole."""
    sampler = EpochSampler(count, batch, seed, 16)
    sampler.epoch = epoch
    batches = list(sampler)
    indices = [i for b in batches for i, _, _ in b]
    assert len(set(indices)) == len(indices) == count // batch * batch
    assert len(sampler) == len(batches)
    sampler.first = len(batches) // 2
    assert list(sampler) == batches[sampler.first :]
    if count >= 20 and batch == 1:
        sampler.first, sampler.epoch = 0, epoch + 1
        assert [b[0][0] for b in sampler] != indices


def test_the_cache_gives_back_what_it_was_given_within_its_budget() -> None:
    """Exact pictures up to the budget, None for the rest and for files that cannot be read."""
    made = [torch.randint(0, 256, (3, 5 + i, 7), dtype=torch.uint8) for i in range(10)]
    budget = sum(p.numel() for i, p in enumerate(made) if i not in (2, 8, 9))
    cache = PictureCache(10, budget)
    cache.fill(lambda i: None if i == 2 else made[i], 2, None)
    assert len(cache.block) <= budget
    for i in range(10):
        found = cache.get(i)
        if i in (2, 8, 9):
            assert found is None, i
        else:
            assert found is not None
            assert torch.equal(found, made[i])


def test_cached_and_uncached_pictures_are_the_same(stripes: Path) -> None:
    """For training and for evaluation."""
    train = pictures(stripes)
    fresh = train[(3, 77, 16)]
    train.fill_cache(10**7, 2)
    assert torch.equal(train[(3, 77, 16)][0], fresh[0])
    held_out = EvalPictures(read_dataset(stripes).splits["val"], PREPROCESSING)
    before = held_out[1]
    held_out.fill_cache(10**7, 2)
    assert before[0] is not None
    assert torch.equal(held_out[1][0], before[0])  # type: ignore[arg-type]


def test_the_evaluation_view_of_a_file_is_torchvisions(stripes: Path) -> None:
    """Read, resized and cropped as torchvision does it with Pillow's pixels."""
    from PIL import Image

    sample = read_dataset(stripes).splits["val"][0]
    image = torch.from_numpy(np.array(Image.open(sample.path).convert("RGB"))).permute(2, 0, 1).contiguous()
    expected = v2.Compose([v2.Resize(32, InterpolationMode.BILINEAR, antialias=True), v2.CenterCrop(24)])(image)
    assert torch.equal(PREPROCESSING.view(sample.path), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_leaves_nothing_out_and_names_what_it_cannot_read(stripes: Path, workers: int) -> None:
    """Every readable picture once, in order; a broken one is missing and named."""
    samples = read_dataset(stripes).splits["train"]
    samples[4].path.write_bytes(b"broken")
    batches = list(eval_loader(EvalPictures(samples, PREPROCESSING), Collate(Classes(("a", "b"))), 7, workers))
    indices = [int(i) for b in batches for i in b.indices]
    assert indices == [i for i in range(len(samples)) if i != 4]
    assert next(t for b in batches for t in b.failed).startswith(str(samples[4].path))
    labels = [int(label) for b in batches for label in b.targets]
    assert labels == [samples[i].target[0] for i in indices]


def test_a_broken_training_picture_is_replaced_and_named(stripes: Path) -> None:
    """The batch stays full, the next picture takes the place; a whole set of broken files is an error."""
    train = pictures(stripes)
    train.samples[5].path.write_bytes(b"broken")
    sampler = EpochSampler(len(train), 8, 0, 16)
    seen: Counter[int] = Counter()
    failed = []
    for batch in train_loader(train, sampler, Collate(Classes(("a", "b"))), 0, False):
        assert batch.pictures.shape == (8, 3, 16, 16)
        seen.update(batch.indices.tolist())
        failed += batch.failed
    assert seen[5] == 0
    assert len(failed) == 1
    for sample in train.samples:
        sample.path.write_bytes(b"")
    picture, _, _, reason = train[(0, 0, 16)]
    assert picture is None
    assert "is the disk still there" in reason


def test_labels_become_indices_or_rows() -> None:
    """One label a picture: int64 indices. Several: a row of 0 and 1."""
    items = [(torch.zeros(3, 2, 2, dtype=torch.uint8), labels, i, "") for i, labels in enumerate([(2,), (0,)])]
    assert Collate(Classes(("a", "b", "c")))(items).targets.tolist() == [2, 0]
    many = [(torch.zeros(3, 2, 2, dtype=torch.uint8), labels, i, "") for i, labels in enumerate([(0, 2), ()])]
    assert Collate(Classes(("a", "b", "c"), True))(many).targets.tolist() == [[1, 0, 1], [0, 0, 0]]
