"""What a cache believes of a file ends when another takes its place, under the same name, size and time."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convnext.data.feed.augment import TrainTransform
from convnext.data.feed.disk_cache import DiskBudget
from convnext.data.feed.loader import TrainPictures
from convnext.data.shards.open import open_shards
from convnext.data.sources import check as checked
from convnext.data.sources.dataset import Sample
from convnext.data.sources.reading import Reading
from convnext.recipe import AugmentRecipe, DataRecipe
from convnext.tasks.classify.targets import ClassTargets

Replace = Callable[[Path, bytes], None]


def _unpacked_over(path: Path, content: bytes) -> None:
    """As unzip and `cp -p` do: the same file gets other bytes, and then the time that the archive has."""
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _moved_over(path: Path, content: bytes) -> None:
    """As rsync -a does: a new file with the old time is renamed to the old name."""
    other = path.with_name("coming")
    other.write_bytes(content)
    shutil.copystat(path, other)
    other.replace(path)


def _unlinked_first(path: Path, content: bytes) -> None:
    """As tar does: the old file goes, a new one with the old time comes."""
    times = path.stat()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


WAYS = pytest.mark.parametrize("replace", [_unpacked_over, _moved_over, _unlinked_first])


def flat(shade: int, suffix: str) -> bytes:
    """A picture of one shade in a format without compression: each has the same size."""
    out = io.BytesIO()
    pixels = np.full((24, 24, 3), shade, np.uint8)
    Image.fromarray(pixels).save(out, {".bmp": "BMP", ".ppm": "PPM", ".tif": "TIFF"}[suffix])
    return out.getvalue()


@WAYS
@pytest.mark.parametrize("suffix", [".bmp", ".ppm", ".tif"])
def test_facts_are_found_anew(tmp_path: Path, suffix: str, replace: Replace) -> None:
    """The hash, which decides the split, is that of the file that is there."""
    path = tmp_path / f"x{suffix}"
    path.write_bytes(flat(10, suffix))
    first = checked.check_files([path], root=tmp_path)[path]
    before = path.stat()
    replace(path, flat(200, suffix))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    found = checked.check_files([path], root=tmp_path)[path]
    assert found.sha256 == checked.check_file(path).sha256 != first.sha256


@WAYS
def test_pixels_on_disk_are_decoded_anew(tmp_path: Path, replace: Replace) -> None:
    """What a later run trains on is the picture that is there."""
    paths = [tmp_path / f"{shade}.bmp" for shade in (10, 20)]
    for path in paths:
        path.write_bytes(flat(int(path.stem), ".bmp"))

    def filled() -> TrainPictures:
        samples = [Sample(path, (0,)) for path in paths]
        transform = TrainTransform(DataRecipe(), AugmentRecipe(), 24, 3)
        made = TrainPictures(samples, transform, 24, "bicubic")
        made.fill_cache(0, 1, disk=DiskBudget(str(tmp_path), 10**9))
        return made

    assert filled().cache is not None
    replace(paths[0], flat(200, ".bmp"))
    cache = filled().cache
    assert cache is not None
    shades = [torch.unique(picture).tolist() for index in (0, 1) if (picture := cache.get(index)) is not None]
    assert shades == [[200], [20]]


@WAYS
def test_the_index_of_tars_is_made_anew(tmp_path: Path, replace: Replace) -> None:
    """Labels that another tar under the same name, size and time has are read."""

    def tar(labels: str) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for number, label in enumerate(labels):
                for suffix, data in (("bmp", flat(number, ".bmp")), ("cls", label.encode())):
                    info = tarfile.TarInfo(f"{number}.{suffix}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
        return out.getvalue()

    path = tmp_path / "tars" / "train-0.tar"
    path.parent.mkdir()
    path.write_bytes(tar("ababab"))
    first = open_shards(path.parent, Reading(val=0.0), ClassTargets())
    replace(path, tar("bbbaaa"))
    second = open_shards(path.parent, Reading(val=0.0), ClassTargets())
    assert first is not None
    assert second is not None
    assert [sample.target for sample in first.splits["train"]] == [(0,), (1,)] * 3
    assert [sample.target for sample in second.splits["train"]] == [(1,)] * 3 + [(0,)] * 3
