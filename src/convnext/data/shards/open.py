"""What a user may give for shards: a folder, a pattern `train-{000000..000146}.tar`, an address, a single tar.

Tars that others wrote get an index of ours, made once and kept in `$CONVNEXT_CACHE/indexes` for as long as the tars
stay as they are.
"""

from __future__ import annotations

import contextlib
import csv
import glob
import gzip
import hashlib
import os
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from tempfile import mkdtemp
from typing import Any
from urllib.parse import unquote

from convnext.data.alone import alone
from convnext.data.aside import aside
from convnext.data.names import address_of, is_pattern, printable
from convnext.data.pictures.fetch import NotThere
from convnext.data.pictures.tarball import is_tars, member_name
from convnext.data.shards.meta import META, Shard
from convnext.data.shards.order import WINDOW
from convnext.data.shards.read import ShardedDataset, check_tars, is_sharded, list_shards, read_sharded
from convnext.data.shards.remote import index_remote, name_source, open_remote, place_of, stamps
from convnext.data.shards.scan import index_again, index_tars, is_webdataset, tars_in
from convnext.data.shards.writer import NAMES
from convnext.data.sources.check import Facts, check_files, stamp_of
from convnext.data.sources.dataset import Broken, Dataset
from convnext.data.sources.reading import Reading
from convnext.data.sources.targets import Targets
from convnext.errors import DataError
from convnext.places import cache_dir

REMOTE_BUDGET = 50_000_000_000
"""Bytes of tars from a server that are kept where nothing is said: all of them must pass through the disk."""
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST = 1_000_000  # names that a pattern may stand for
_LINE = 20_000  # bytes of a line of `NAMES`: two names and a path

Progress = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    """Shows nothing."""


def open_shards(
    root: Path, reading: Reading, targets: Targets, progress: Progress | None = None
) -> ShardedDataset | None:
    """The data set where it is in shards; None for any other.

    Args:
        root: a folder, a pattern with braces, a tar, or an address of these.
        reading: what is asked of it; `val` is the share of the training pictures for validation
            where the shards have no such split.
        targets: says what the labels of the index mean.
        progress: called with (tars listed, tars in all) where an index is made.

    Raises:
        DataError: index and tars do not fit each other, a tar is missing or damaged, or the tars hold a class each.
        UserError: an index cannot be written.
    """
    val, budget = 0.0 if reading.judging else reading.val, reading.tar_bytes or REMOTE_BUDGET
    progress = progress or _silent
    if address := address_of(root):
        folder, index = _open_address(address, val, budget, targets, progress)
        root = Path(address)
    else:
        root = root.expanduser().absolute()
        found = _open_local(root, val, targets, progress)
        if found is None:
            return None
        folder, index = found
        check_tars(folder, index)
    plain = read_sharded(root, folder, index, targets=targets, judging=True)
    if val and "val" not in plain.splits and "train" in plain.splits:
        before, key = index, (plain.digest, f"{val:g}")
        index = _kept(key, lambda into: index_again(plain, into, None, val, before))
    dataset = read_sharded(root, folder, index, targets=targets, classes=reading.classes, judging=reading.judging)
    note = _too_small(list_shards(index), budget) if address else ""
    return replace(dataset, notes=(note, *dataset.notes)) if note else dataset


def _too_small(shards: Sequence[Shard], budget: int) -> str:
    """A remark where pictures come from more tars at once than the disk may hold; "" where they do not."""
    need = sum(sorted((shard.bytes for shard in shards if shard.split == "train"), reverse=True)[:WINDOW])
    if need <= budget:
        return ""
    return (
        f"pictures of {WINDOW} tars are mixed, {need / 1e9:.3g} GB, but {budget / 1e9:.3g} GB may lie on the disk "
        "(data.disk_cache_gb): tars will be fetched again and again"
    )


def expand(pattern: str) -> list[str]:
    """The names that a pattern with braces stands for: `{000..146}` counts, `{train,val}` lists; braces may be nested.

    Raises:
        DataError: it stands for too many.
    """
    done: list[str] = []
    waiting = [pattern]
    while waiting:
        text = waiting.pop()
        found = _BRACES.search(text)
        if found is None:
            done.append(text)
            continue
        if (span := _RANGE.fullmatch(found[1])) is not None:
            first, last = int(span[1]), int(span[2])
            if abs(last - first) >= _MOST:
                raise DataError(f"{printable(pattern)}: {{{found[1]}}} stands for more than {_MOST:,} names")
            step = 1 if last >= first else -1
            words = [f"{n:0{len(span[1])}d}" for n in range(first, last + step, step)]
        else:
            words = found[1].split(",")
        waiting += [text[: found.start()] + word + text[found.end() :] for word in reversed(words)]
        if len(waiting) + len(done) > 2 * _MOST:
            raise DataError(f"{printable(pattern)} stands for more than {_MOST:,} names")
    return list(dict.fromkeys(done))


def matching(pattern: str) -> list[Path]:
    """The tars that a pattern stands for: braces name them, `*`, `?` and `[a-c]` take those that are there."""
    found: list[Path] = []
    for name in expand(pattern):
        path = Path(name)
        found += sorted(map(Path, glob.glob(name))) if is_pattern(path) else [path]  # noqa: PTH207 (may be absolute)
    return [path for path in dict.fromkeys(found) if path.suffix == ".tar"]


def _open_local(root: Path, val: float, targets: Targets, progress: Progress) -> tuple[Path, Path] | None:
    """The folders of tars and of index; None where there are no shards."""
    if is_pattern(root):
        tars = matching(root.as_posix())
        if not tars:
            return None
        folder = Path(os.path.commonpath([tar.parent for tar in tars]))
    elif is_sharded(root):
        return root, root
    elif root.is_dir():
        tars = tars_in(root)
        if not tars or _holds_other_folders(root):
            return None
        folder = root
    elif root.suffix == ".tar" and root.is_file():
        tars, folder = [root], root.parent
    else:
        return None
    for tar in tars:
        if not tar.is_file():
            raise DataError(
                f"{printable(tar)}: no such tar, but {printable(root.name)} names it; copy it, or give another"
            )
    if not is_webdataset(tars[0]):
        _refuse_foreign(root, tars[0])
        return None
    if is_sharded(folder):
        names = frozenset(tar.relative_to(folder).as_posix() for tar in tars)
        known = read_sharded(folder, targets=targets, judging=True)
        return folder, _kept((known.digest, *sorted(names)), lambda into: index_again(known, into, names, 0.0))
    stamps = [(tar.as_posix(), stamp_of(tar)) for tar in tars]
    made = lambda into: index_tars(folder, progress, tars=tars, into=into, val=val)  # noqa: E731
    return folder, _kept(("tars", stamps, f"{val:g}"), made)


def _holds_other_folders(root: Path) -> bool:
    """Whether there are folders without tars: then a tar is the archive that a data set was unpacked from."""
    folders = [item for item in root.iterdir() if item.is_dir() and not item.name.startswith(".")]
    return any(next(folder.glob("*.tar"), None) is None for folder in folders)


def _refuse_foreign(root: Path, tar: Path) -> None:
    """Tars without labels: each a class, or neither."""
    if is_tars(root):
        raise DataError(
            f"{printable(root)} holds a tar for each class; write it as shards first: convnext data shard "
            f"{quote(printable(root))} SHARDS, then convnext train SHARDS"
        )
    if is_pattern(root) or root.is_file():
        raise DataError(
            f"{printable(tar)}: its pictures have no .cls or .json with a label beside them, so these are no shards; "
            "unpack it and give the folder"
        )


def _open_address(address: str, val: float, budget: int, targets: Targets, progress: Progress) -> tuple[Path, Path]:
    """The folders of tars and of index, of shards on a server."""
    if not address.endswith(".tar"):
        folder = open_remote(address, budget)
        return folder, folder
    addresses = expand(address)
    homes = {text.rpartition("/")[0] for text in addresses}
    if len(homes) != 1:
        raise DataError(f"{address}: tars on a server must lie in one folder; give them names that differ instead")
    home, names = homes.pop(), [unquote(text.rpartition("/")[2]) for text in addresses]
    try:
        folder = open_remote(home, budget)
    except NotThere:
        pass
    else:
        known, wanted = read_sharded(Path(home), folder, targets=targets, judging=True), frozenset(names)
        return folder, _kept((known.digest, *sorted(names)), lambda into: index_again(known, into, wanted, 0.0))
    facts = stamps(addresses)  # another pattern lists other tars, and tars that were written anew are others
    folder = place_of(home) / hashlib.sha256(repr((address, facts)).encode()).hexdigest()[:12]
    key = ("remote", address, *facts, f"{val:g}")
    index = _kept(key, lambda into: index_remote(home, folder, names, budget, into, val, progress))
    folder.mkdir(parents=True, exist_ok=True)
    name_source(folder, home, budget, list_shards(index))
    return folder, index


def _kept(key: Sequence[Any], make: Callable[[Path], object]) -> Path:
    """The folder of an index that is made once: of several processes one makes it, and the others wait."""
    home = cache_dir() / "indexes"
    place = home / hashlib.sha256(repr(key).encode()).hexdigest()[:24]
    if (place / META).is_file():
        return place
    home.mkdir(parents=True, exist_ok=True)
    with alone(home / f"{place.name}.lock"):
        if (place / META).is_file():
            return place
        half = Path(mkdtemp(prefix=f"{place.name}.", suffix=".part", dir=home))
        try:
            half.chmod(0o777 & ~_umask())  # as any folder; mkdtemp's own are for one user alone
            make(half)
            _put_in_place(half, place)
        finally:
            shutil.rmtree(half, ignore_errors=True)
        _remove_old(home)
    return place


def _put_in_place(half: Path, place: Path) -> None:
    """Gives a whole index its name; where the disk has no locks another process may have been quicker."""
    if place.is_symlink() or (place.is_dir() and not (place / META).is_file()):
        place.rename(half.with_name(f"{half.name}.old.part"))  # of a version that was killed; or a link, not followed
    try:
        half.rename(place)
    except OSError:
        if not (place / META).is_file():
            raise


def _remove_old(home: Path) -> None:
    """Removes indices that processes left unfinished which were killed a day ago or earlier."""
    for item in home.glob("*.part"):
        with contextlib.suppress(OSError):
            if time.time() - item.lstat().st_mtime > 86_400:
                item.unlink() if item.is_symlink() else shutil.rmtree(item)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def shard_names(folder: Path) -> Callable[[Path], str]:
    """How pictures in shards are called: by tar and member, and by the file that each was, where `NAMES` says it.

    A list that is damaged is said to be so, and what it holds up to there is used.
    """
    once: dict[tuple[str, str], str] = {}
    if (folder / NAMES).exists():
        pictures = sum(shard.pictures for shard in list_shards(folder))
        try:
            once = dict(_old_names(folder / NAMES, pictures))
        except (OSError, EOFError, ValueError, zlib.error, csv.Error) as error:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            aside(f"{printable(folder / NAMES)} is damaged ({reason}): pictures are called by their tars alone")

    def called_now(path: Path) -> str:
        tar, name = path.parent, member_name(path)
        shown = f"{tar.relative_to(folder) if tar.is_relative_to(folder) else tar}/{name}"
        was = once.get((tar.name, name))
        return printable(f"{shown} (once {was})" if was else shown)

    return called_now


def _old_names(path: Path, pictures: int) -> Iterator[tuple[tuple[str, str], str]]:
    """((tar, name there), file that it was) of each picture. A packed file may unpack to any size: there is a line for
    each picture, and none is longer than a path."""

    def lines(file: gzip.GzipFile) -> Iterator[str]:
        while line := file.readline(_LINE + 1):
            if len(line) > _LINE:
                raise ValueError(f"it has a line of more than {_LINE:,} bytes")
            yield line.decode("utf-8")

    with gzip.open(path, "rb") as file:
        for number, row in enumerate(csv.reader(lines(file))):
            if len(row) != 3:
                raise ValueError(f"line {number + 1} has {len(row)} cells, not 3")
            if number > pictures:
                raise ValueError(f"it has more lines than the {pictures:,} pictures")
            yield (row[0], row[1]), row[2]


def survey_shards(dataset: ShardedDataset, progress: Progress | None) -> tuple[Dataset, dict[Path, Facts]]:
    """The shards as a data set in memory, every picture opened, and what was found in each; as `sources.survey`."""
    samples = {split: tuple(found) for split, found in dataset.splits.items()}
    paths = [sample.path for found in samples.values() for sample in found]
    facts = check_files(paths, root=dataset.root, progress=progress)
    broken = tuple(Broken(path, facts[path].reason) for path in paths if facts[path].reason)
    good = {split: tuple(s for s in found if not facts[s.path].reason) for split, found in samples.items()}
    plain = Dataset(
        dataset.root, dataset.layout, dataset.meaning,
        {split: found for split, found in good.items() if found}, broken, dataset.notes[:-1],
    )  # fmt: skip
    return plain, facts
