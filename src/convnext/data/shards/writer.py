"""Writes a data set as tar shards in webdataset's layout, with an index."""

from __future__ import annotations

import contextlib
import csv
import errno
import gzip
import hashlib
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO, TextIOWrapper
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from convnext.data.alone import alone
from convnext.data.names import count, printable
from convnext.data.pictures.decode import decode, numbers_in
from convnext.data.pictures.levels import Numbers
from convnext.data.pictures.opened import open_regular
from convnext.data.pictures.reasons import reason_of
from convnext.data.pictures.tarball import parse
from convnext.data.shards.index_writer import IndexWriter
from convnext.data.shards.meta import INDEX, LABELS, META, Shard
from convnext.data.sources.dataset import Dataset, Sample
from convnext.data.sources.listing import SPLITS
from convnext.errors import PictureError, UserError
from convnext.files import Part

Progress = Callable[[int, int], None]
BLOCK = tarfile.BLOCKSIZE
QUALITY = 92
"""Of JPEG files that are written at a reduced size."""
NAMES = "names.csv.gz"
"""Says which file each picture of the tars was."""
MARK = ".writing"
"""Is in a folder for as long as shards are being written into it: what else is there may be thrown away."""
_OURS = re.compile(
    rf"(train|val|test)-\d{{6}}\.tar|\..+\.part|{re.escape(INDEX)}|{re.escape(LABELS)}|{re.escape(NAMES)}"
)
_AHEAD = 64  # pictures that are read ahead


@dataclass
class Written:
    """How many tars and pictures were written, and what could not be read, each with the reason."""

    tars: int = 0
    pictures: int = 0
    left_out: list[str] = field(default_factory=list)


class _Tar:
    """A tar that grows picture by picture, hashed on the way, and gets its name when it is whole."""

    def __init__(self, path: Path) -> None:
        self.path, self.part = path, Part(path)
        self.hash, self.size = hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self.part.file.write(data)
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
        self.part.commit()
        return self.size, self.hash.hexdigest()

    def drop(self) -> None:
        self.part.drop()


class _Names:
    """The list of what each picture was called before, tar by tar; it grows on the disk."""

    def __init__(self, path: Path, root: Path) -> None:
        self.part, self.root = Part(path), root
        self.packed = gzip.GzipFile(filename="", mode="wb", fileobj=self.part.file, mtime=0)  # equal data, equal bytes
        self.file = TextIOWrapper(self.packed, "utf-8", "backslashreplace", "")
        self.rows = csv.writer(self.file, lineterminator="\n")
        self.rows.writerow(["tar", "name", "path"])

    def add(self, tar: str, name: str, path: Path) -> None:
        self.rows.writerow([tar, name, path.relative_to(self.root) if path.is_relative_to(self.root) else path])

    def finish(self) -> None:
        self.file.close()
        self.packed.close()
        self.part.commit()

    def drop(self) -> None:
        if not self.part.file.closed:
            with contextlib.suppress(OSError):  # a full disk; it goes all the same
                self.file.close()
            with contextlib.suppress(OSError):
                self.packed.close()
        self.part.drop()


def write_shards(
    dataset: Dataset,
    out: Path,
    *,
    megabytes: float = 500,
    seed: int = 0,
    side: int = 0,
    progress: Progress | None = None,
) -> Written:
    """Writes every picture of a data set into tars of about so many megabytes, in an order that is shuffled once.

    The pictures' files are taken as they are, byte for byte. `shards.json` is written last: without it nothing counts,
    and writing that was stopped begins again.

    Args:
        dataset: pictures and labels.
        out: a new or empty folder, or one in which writing was stopped.
        megabytes: of a tar, at most about.
        seed: of the order.
        side: pixels of the short side to which larger pictures are reduced; 0 leaves all as they are.
        progress: called with (pictures written, pictures in all).

    Raises:
        UserError: the folder holds other files, or the disk is full.
    """
    _refuse_place(out, dataset)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with alone(out / MARK, wait=False):
            _make_room(out, dataset, side)
            done = _write(dataset, out, int(megabytes * 1e6), seed, side, progress)
            (out / MARK).unlink()
    except BlockingIOError:
        raise UserError(f"another process is writing shards into {out}; give another folder") from None
    except OSError as error:
        remedy = "; free some space, then start again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        where = error.filename if error.errno == errno.ELOOP and isinstance(error.filename, str) else out
        raise UserError(
            f"{printable(where)} could not be written ({(error.strerror or str(error)).lower()}){remedy}"
        ) from None
    return done


def _write(
    dataset: Dataset, out: Path, most: int, seed: int, side: int, progress: Progress | None
) -> Written:  # fmt: skip
    total = sum(len(samples) for samples in dataset.splits.values())
    done, index, names = Written(), IndexWriter(out), _Names(out / NAMES, dataset.root)

    def advance() -> None:
        if progress and (done.pictures + len(done.left_out)) % _AHEAD == 0:
            progress(done.pictures + len(done.left_out), total)

    try:
        for split in SPLITS:
            samples = dataset.splits.get(split, ())
            order = np.random.default_rng(seed).permutation(len(samples))
            ordered = (samples[int(i)] for i in order)
            pictures = _contents(ordered, side)
            _write_split(split, pictures, dataset, out, most, index, names, done, advance)
        if not done.pictures:
            raise UserError(f"{dataset.root}: none of its pictures can be read; the first: {done.left_out[0]}")
        names.finish()
        index.finish(dataset.classes, None, dataset.multi_label, _notes(done, side))
    finally:
        names.drop()
        index.drop()
    return done


def _notes(done: Written, side: int) -> list[str]:
    notes = [f"larger pictures were reduced to a short side of {side} pixels"] if side else []
    if done.left_out:
        notes.append(f"left out: {count(len(done.left_out), 'picture')}, the first {done.left_out[0]}")
    return notes


def _refuse_place(out: Path, dataset: Dataset) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give the name of a folder")
    if (out / META).exists():
        raise UserError(f"{out} holds shards already; give another folder, or remove it")
    inside = list(out.iterdir()) if out.is_dir() else []
    if inside and not (out / MARK).is_file():
        raise UserError(f"{out} holds other files ({inside[0].name}); give a new or an empty folder")
    if out.resolve().is_relative_to(dataset.root.resolve()):
        raise UserError(f"{out} lies inside the data {dataset.root}; give a place outside")


def _make_room(out: Path, dataset: Dataset, side: int) -> None:
    for item in out.iterdir():  # of an attempt that was stopped
        if _OURS.fullmatch(item.name):
            item.unlink()
    if side:
        return  # how small they become is not known
    need = sum(_size_of(sample.path) for samples in dataset.splits.values() for sample in samples[:1000])
    seen = sum(min(1000, len(samples)) for samples in dataset.splits.values())
    total = sum(len(samples) for samples in dataset.splits.values())
    free = shutil.disk_usage(out).free
    if seen and need / seen * total > free:
        raise UserError(
            f"{out}: about {need / seen * total / 1e9:.1f} GB are needed, its disk has {free / 1e9:.1f} GB left"
        )


def _size_of(path: Path) -> int:
    if (member := parse(path)) is not None:
        return member[2]
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _contents(samples: Iterator[Sample], side: int) -> Iterator[tuple[Sample, bytes, str]]:
    """(sample, content, why it cannot be read or ""), in order; a few are read at a time."""
    with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        while chunk := list(islice(samples, _AHEAD)):
            for sample, (data, reason) in zip(chunk, pool.map(partial(_content, side), chunk), strict=True):
                yield sample, data, reason


def _content(side: int, sample: Sample) -> tuple[bytes, str]:
    try:
        with open_regular(sample.path) as file:
            data = file.read()
        return (reduced(data, sample.path, side) if side else data), ""
    except (OSError, PictureError) as error:
        return b"", f"{printable(sample.path)}: {reason_of(error, sample.path)}"


def reduced(data: bytes, path: Path, side: int) -> bytes:
    """A picture's file with its short side reduced to `side` pixels: a JPEG again, or a PNG for any other format.

    A file that is small enough stays as it is. Values of more than 8 bits are kept: gray ones in a PNG of 16 bits or a
    TIFF; those in colour or with alpha stay at their size.

    Raises:
        PictureError: it cannot be read.
    """
    jpeg = data.startswith(b"\xff\xd8\xff")
    if not jpeg and (numbers := numbers_in(data, path)) is not None:
        return _reduced_numbers(data, numbers, side)
    picture, (width, height) = decode(BytesIO(data), path, mode="RGB" if jpeg else "RGBA", at_least=side)
    short = min(width, height)
    if short <= side:
        return data
    if picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255):
        picture = picture.convert("RGB")
    small = picture.resize((round(width * side / short), round(height * side / short)), Image.Resampling.LANCZOS)
    out = BytesIO()
    if jpeg:
        small.save(out, "JPEG", quality=QUALITY)
    else:
        small.save(out, "PNG")
    return out.getvalue()


def _reduced_numbers(data: bytes, numbers: Numbers, side: int) -> bytes:
    """The same for values of more than 8 bits."""
    values = numbers.values
    short = min(values.shape[:2])
    if values.dtype == np.uint16 and numbers.full != 65535:
        return data  # of fewer bits, which a PNG does not have
    if short <= side or values.ndim != 2 or numbers.alpha is not None or numbers.inverted or values.itemsize > 4:
        return data
    height, width = (round(n * side / short) for n in values.shape)
    small = np.asarray(Image.fromarray(values.astype(np.float32)).resize((width, height), Image.Resampling.LANCZOS))
    known = numbers.summary()
    small = np.clip(small, known.low, known.high)  # the filter goes beyond them at edges
    out = BytesIO()
    if values.dtype == np.uint16:
        Image.fromarray(np.rint(small).astype(np.uint16)).save(out, "PNG")
    else:
        Image.fromarray(small).save(out, "TIFF")
    return out.getvalue()


def _write_split(
    split: str, pictures: Iterator[tuple[Sample, bytes, str]], dataset: Dataset, out: Path, most: int,
    index: IndexWriter, names: _Names, done: Written, advance: Callable[[], None],
) -> None:  # fmt: skip
    """Tar after tar; a picture that cannot be read any more is left out."""
    tar: _Tar | None = None
    number, key = 0, 0
    try:
        for sample, data, reason in pictures:
            advance()
            if reason:
                done.left_out.append(reason)
                continue
            if tar is not None and tar.size + len(data) > most:
                index.end_tar(tar.path.name, *tar.finish())
                tar, number = None, number + 1
            if tar is None:
                tar = _Tar(out / f"{split}-{number:06d}.tar")
                done.tars += 1
            name = f"{key:08d}"
            file = name + _suffix(data, sample.path)
            index.add(split, sample.target, tar.add(file, data), len(data))
            tar.add(*_labels(name, sample, dataset))
            names.add(tar.path.name, file, sample.path)
            key, done.pictures = key + 1, done.pictures + 1
        if tar is not None:
            index.end_tar(tar.path.name, *tar.finish())
            tar = None
    finally:
        if tar is not None:
            tar.drop()


def _labels(name: str, sample: Sample, dataset: Dataset) -> tuple[str, bytes]:
    """The file of a picture's labels: the number of its class, or JSON with the names of several."""
    if not dataset.multi_label:
        return f"{name}.cls", str(sample.target[0]).encode()
    names = [dataset.classes[i] for i in sample.target]
    return f"{name}.json", json.dumps({"labels": names}, ensure_ascii=False).encode()


def _suffix(data: bytes, path: Path) -> str:
    """What a picture's name ends with: by its first bytes, else by its file's name."""
    known = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"GIF8": ".gif"}
    return next((end for start, end in known.items() if data.startswith(start)), path.suffix.lower() or ".jpg")


def verify(folder: Path, shards: Sequence[Shard], progress: Progress | None = None) -> list[str]:
    """The tars whose content is not what was written, each with what is wrong."""
    wrong = []
    for number, shard in enumerate(shards, 1):
        try:
            with (folder / shard.name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if shard.sha256 and found != shard.sha256:
                wrong.append(f"{shard.name}: its content has changed")
        except OSError as error:
            wrong.append(f"{shard.name}: {(error.strerror or str(error)).lower()}")
        if progress:
            progress(number, len(shards))
    return wrong
