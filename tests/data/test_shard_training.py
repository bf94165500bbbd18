"""Training on shards: the same batches with any number of loader processes, exact resume, sources that go away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from convnext.config import load_recipe
from convnext.data.feed.augment import TrainTransform
from convnext.data.feed.loader import Collate, TrainPictures, train_loader
from convnext.data.shards.order import ShardSampler
from convnext.data.shards.read import read_sharded
from convnext.data.shards.writer import write_shards
from convnext.errors import SourceLost, Stopped
from convnext.nn.weights.load import read_model
from convnext.recipe import Recipe
from convnext.tasks.classify.meaning import Classes
from convnext.tasks.classify.targets import ClassTargets, read_dataset
from convnext.train.loop import Loop
from convnext.train.resume import resume_run
from convnext.train.train import train_run

SETTINGS = [
    "weights=none", "model.name=convnext_atto", "data.size=32", "model.stem_patch=4", "train.batch=8",
    "train.lr=1e-3", "train.precision=fp32", "train.epochs=2", "data.workers=0", "train.device=cpu",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")  # more than there are cores
@pytest.mark.parametrize("workers", [1, 3])
def test_batches_are_the_same_with_any_number_of_loader_processes(workers: int, stripes: Path, tmp_path: Path) -> None:
    """Pixels after augmentation, bit for bit, also from the middle of an epoch on."""
    write_shards(read_dataset(stripes), tmp_path / "shards", megabytes=0.03)
    samples = read_sharded(tmp_path / "shards", targets=ClassTargets()).splits["train"]
    recipe = Recipe()

    def batches(workers: int, first: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
        pictures = TrainPictures(samples, TrainTransform(recipe.data, recipe.augment, 32, 3), 40, "bicubic")
        sampler = ShardSampler(samples, 8, 5, 32)  # type: ignore[arg-type]
        sampler.epoch, sampler.first = 2, first
        return [
            (b.pictures, b.indices)
            for b in train_loader(pictures, sampler, Collate(Classes(("a", "b"))), workers, False)
        ]

    alone = batches(0)
    assert len(alone) == len(samples) // 8
    for first in (0, 3):
        found = batches(workers, first)
        assert len(found) == len(alone) - first
        for (a, i), (b, j) in zip(alone[first:], found, strict=True):
            assert torch.equal(i, j)
            assert torch.equal(a, b)


def test_a_run_stopped_within_an_epoch_goes_on_bit_for_bit(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After step 5 of the second epoch, without loader processes and then with one."""
    write_shards(read_dataset(stripes), tmp_path / "shards", megabytes=0.03)
    whole = train_run(tmp_path / "shards", load_recipe(None, SETTINGS), tmp_path / "whole")
    step = Loop._step

    def stopping(self: Loop, batch: Any, bar: Any) -> bool:
        return step(self, batch, bar) or self.state.progress.step == whole_steps + 5

    whole_steps = len(read_sharded(tmp_path / "shards", targets=ClassTargets()).splits["train"]) // 8
    assert whole_steps > 5
    monkeypatch.setattr(Loop, "_step", stopping)
    with pytest.raises(Stopped):
        train_run(tmp_path / "shards", load_recipe(None, SETTINGS), tmp_path / "run")
    monkeypatch.setattr(Loop, "_step", step)
    recipe = tmp_path / "run" / "recipe.toml"
    text = recipe.read_text()
    assert "workers = 0" in text
    recipe.write_text(text.replace("workers = 0", "workers = 1"))
    run = resume_run(tmp_path / "run")
    one, two = read_model(whole.last)[0], read_model(run.last)[0]
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_tar_that_goes_away_stops_the_reading(stripes: Path, tmp_path: Path) -> None:
    """As a disk does that is no longer there: no picture is left out for it."""
    write_shards(read_dataset(stripes), tmp_path / "shards")
    samples = read_sharded(tmp_path / "shards", targets=ClassTargets()).splits["train"]
    tar = tmp_path / "shards" / "train-000000.tar"
    pictures = TrainPictures(samples, TrainTransform(Recipe().data, Recipe().augment, 32, 3), 40, "bicubic")
    assert pictures[(0, 0, 32)][0] is not None
    whole = tar.read_bytes()
    tar.write_bytes(whole[:1000])
    with pytest.raises(SourceLost, match="the tar ends after"):
        pictures[(5, 0, 32)]
    tar.unlink()
    with pytest.raises(SourceLost, match="no such file or directory; is its disk still there"):
        pictures[(5, 0, 32)]
    (tmp_path / "shards" / "index.bin").unlink()
    with pytest.raises(SourceLost, match=r"index\.bin: cannot be read any more"):
        pictures[(5, 0, 32)]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_server_that_goes_away_stops_training_and_nothing_is_lost(
    workers: int, stripes: Path, serve: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No picture is replaced by another in silence: the run goes on later and ends as an undisturbed one."""
    import convnext.data.shards.remote as remote

    monkeypatch.setattr(remote.time, "sleep", lambda seconds: None)
    shards = tmp_path / "shards"
    write_shards(read_dataset(stripes), shards, megabytes=0.03)
    settings = [*SETTINGS, f"data.workers={workers}", "data.disk_cache_gb=1e-9"]
    whole = train_run(shards, load_recipe(None, SETTINGS), tmp_path / "whole")
    address, away = serve(shards), tmp_path / "away"
    epoch = Loop._epoch

    def broken(self: Loop, record: Any) -> None:
        if self.state.progress.epoch == 1:
            shards.rename(away)
        epoch(self, record)

    monkeypatch.setattr(Loop, "_epoch", broken)
    with pytest.raises(SourceLost, match=r"(?s)^http://[^\n]*the server answers 404[^\n]*goes on from the last saved"):
        train_run(address, load_recipe(None, settings), tmp_path / "run")
    monkeypatch.setattr(Loop, "_epoch", epoch)
    away.rename(shards)
    run = resume_run(tmp_path / "run")
    one, two = read_model(whole.last)[0], read_model(run.last)[0]
    assert all(torch.equal(one[key], two[key]) for key in one)
