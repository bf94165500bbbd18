"""Writes a data set as tar shards in webdataset's layout, with an index."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from convnext.data.decode import open_regular
from convnext.data.listing import SPLITS
from convnext.data.shards import INDEX, META, RECORD, VERSION, Shard, digest_of
from convnext.data.sources import Dataset, Sample
from convnext.errors import PictureError, UserError

Progress = Callable[[int, int], None]
BLOCK = tarfile.BLOCKSIZE


class _Tar:
    """A tar that grows picture by picture, hashed on the way, and gets its name when it is whole."""

    def __init__(self, path: Path) -> None:
        self.path, self.part = path, path.with_name(f".{path.name}.part")
        self.file = self.part.open("wb")
        self.hash, self.size, self.pictures = hashlib.sha256(), 0, 0

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.hash.update(data)
        self.size += len(data)

    def add(self, name: str, data: bytes) -> int:
        """Adds a file; gives where its bytes begin."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self.write(info.tobuf(tarfile.USTAR_FORMAT))
        start = self.size
        self.write(data + b"\0" * (-len(data) % BLOCK))
        return start

    def finish(self) -> tuple[int, str]:
        """Ends the tar and gives it its name; its bytes and hash."""
        self.write(b"\0" * 2 * BLOCK)
        self.file.close()
        self.part.replace(self.path)
        return self.size, self.hash.hexdigest()

    def drop(self) -> None:
        self.file.close()
        self.part.unlink(missing_ok=True)


def write_shards(
    dataset: Dataset, out: Path, *, megabytes: int = 500, seed: int = 0, progress: Progress | None = None
) -> int:
    """Writes every picture of a data set into tars of about so many megabytes, in an order that is shuffled once.

    The pictures' files are taken as they are, byte for byte. `shards.json` is written last: without it nothing counts.

    Args:
        dataset: one label a picture.
        out: a new or empty folder, or one in which writing was stopped.
        megabytes: of a tar, at most about.
        seed: of the order.
        progress: called with (pictures written, pictures in all).

    Returns:
        The number of tars.

    Raises:
        UserError: the folder holds other files, the disk is full, or a picture has several labels.
    """
    if dataset.multi_label:
        raise UserError(f"{dataset.root}: shards keep one label a picture; this data set has several")
    _make_room(out, dataset)
    total = sum(len(samples) for samples in dataset.splits.values())
    shards: list[Shard] = []
    counts: dict[str, list[int]] = {}
    done = 0
    try:
        with (out / f".{INDEX}.part").open("wb") as index:
            for split in SPLITS:
                samples = dataset.splits.get(split, ())
                if not len(samples):
                    continue
                counts[split] = [0] * len(dataset.classes)
                order = np.random.default_rng(seed).permutation(len(samples))
                ordered = (samples[int(i)] for i in order)
                for shard, rows in _write_split(split, ordered, out, megabytes * 1_000_000, len(shards)):
                    shards.append(shard)
                    index.write(rows.tobytes())
                    for label in rows["label"]:
                        counts[split][int(label)] += 1
                    done += shard.pictures
                    if progress:
                        progress(done, total)
        (out / f".{INDEX}.part").replace(out / INDEX)
    except OSError as error:
        raise UserError(
            f"{out} could not be written ({(error.strerror or str(error)).lower()}); free some space, then start again"
        ) from None
    meta = {
        "version": VERSION, "classes": list(dataset.classes), "counts": counts,
        "shards": [shard.__dict__ for shard in shards],
        "fingerprint": digest_of(dataset.classes, shards, out / INDEX),
    }  # fmt: skip
    part = out / f".{META}.part"
    part.write_text(json.dumps(meta, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(out / META)
    return len(shards)


def _make_room(out: Path, dataset: Dataset) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give the name of a folder")
    if (out / META).exists():
        raise UserError(f"{out} holds shards already; give another folder, or remove it")
    inside = [item.name for item in out.iterdir()] if out.is_dir() else []
    foreign = [name for name in inside if not (name.endswith((".tar", ".part")) or name == INDEX)]
    if foreign:
        raise UserError(f"{out} holds other files ({foreign[0]}); give a new or an empty folder")
    if out.resolve().is_relative_to(dataset.root.resolve()):
        raise UserError(f"{out} lies inside the data {dataset.root}; give a place outside")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be made ({(error.strerror or str(error)).lower()})") from None
    need = sum(_size_of(sample.path) for samples in dataset.splits.values() for sample in samples[:1000])
    seen = sum(min(1000, len(samples)) for samples in dataset.splits.values())
    total = sum(len(samples) for samples in dataset.splits.values())
    free = shutil.disk_usage(out).free
    if seen and need / seen * total > free:
        raise UserError(
            f"{out}: about {need / seen * total / 1e9:.1f} GB are needed, its disk has {free / 1e9:.1f} GB left"
        )


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _write_split(
    split: str, samples: Iterator[Sample], out: Path, most: int, first: int
) -> Iterator[tuple[Shard, np.ndarray]]:
    """Tar after tar with its records; a picture that cannot be read any more is left out."""
    tar: _Tar | None = None
    rows: list[tuple[int, int, int, int]] = []
    number, key = 0, 0
    try:
        for sample in samples:
            try:
                with open_regular(sample.path) as file:
                    data = file.read()
            except (OSError, PictureError):
                continue
            if tar is not None and tar.size + len(data) > most:
                yield _finished(tar, split, rows)
                tar, rows, number = None, [], number + 1
            if tar is None:
                tar = _Tar(out / f"{split}-{number:06d}.tar")
            name = f"{key:08d}"
            offset = tar.add(name + _suffix(data, sample.path), data)
            tar.add(f"{name}.cls", str(sample.labels[0]).encode())
            rows.append((first + number, sample.labels[0], offset, len(data)))
            key += 1
        if tar is not None:
            yield _finished(tar, split, rows)
            tar = None
    finally:
        if tar is not None:
            tar.drop()


def _finished(tar: _Tar, split: str, rows: list[tuple[int, int, int, int]]) -> tuple[Shard, np.ndarray]:
    size, digest = tar.finish()
    return Shard(tar.path.name, split, len(rows), size, digest), np.array(rows, dtype=RECORD)


def _suffix(data: bytes, path: Path) -> str:
    """What a picture's name ends with: by its first bytes, else by its file's name."""
    known = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"GIF8": ".gif"}
    return next((end for start, end in known.items() if data.startswith(start)), path.suffix.lower() or ".jpg")


def verify(folder: Path, shards: Sequence[Shard], progress: Progress | None = None) -> list[str]:
    """The tars whose content is not what was written, each with what is wrong."""
    wrong = []
    for number, shard in enumerate(shards, 1):
        found = hashlib.sha256()
        try:
            with (folder / shard.name).open("rb") as file:
                while block := file.read(1 << 22):
                    found.update(block)
            if shard.sha256 and found.hexdigest() != shard.sha256:
                wrong.append(f"{shard.name}: its content has changed")
        except OSError as error:
            wrong.append(f"{shard.name}: {(error.strerror or str(error)).lower()}")
        if progress:
            progress(number, len(shards))
    return wrong
