"""An index for tars that others wrote in webdataset's layout: KEY.jpg beside KEY.cls or KEY.json."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from convnext.data.decode import PICTURE_SUFFIXES
from convnext.data.index_writer import IndexWriter, draw
from convnext.data.listing import SPLIT_NAMES
from convnext.data.names import called, count, listed, printable
from convnext.data.shards import META, Records, ShardedDataset, ShardSamples, list_shards
from convnext.data.tarball import Member, member_path, members, open_member
from convnext.errors import DataError, UserError

Progress = Callable[[int, int], None]
MOST_CLASSES = 1_000_000
"""A number above it is no class, but something else that stands beside a picture."""
_DIGITS = 12
_KEYS = ("label", "labels", "cls", "class", "classes")
"""What the labels may be called in a .json."""


def index_tars(
    folder: Path,
    progress: Progress | None = None,
    *,
    tars: Sequence[Path] | None = None,
    into: Path | None = None,
    val: float = 0.0,
    hashes: Mapping[str, str] | None = None,
    fetch: Callable[[Path], Path] | None = None,
) -> int:
    """Writes the index of tars; gives the number of pictures.

    A tar belongs to the split that its name or its folder says (train, val, test between dashes, dots or underlines).
    Labels are numbers from 0, or names, which are then sorted; a .json may hold a list of several. Pictures without a
    label are left out, with a note.

    Args:
        folder: where the tars are.
        progress: called with (tars listed, tars in all).
        tars: those wanted; None takes all in the folder.
        into: where the index goes, when not beside the tars.
        val: share of the training pictures for validation where no tar's name says val or test.
        hashes: SHA-256 of tars by name, where known by the time the tar was read.
        fetch: called with a tar before it is read; gives it when it is there.

    Raises:
        DataError: there are no tars, one is damaged, or no picture has a label.
        UserError: there is an index already, or it cannot be written.
    """
    into = into or folder
    if (into / META).exists():
        raise UserError(f"{into} has an index already; remove {META} to make it anew")
    tars = tars_in(folder) if tars is None else tars
    if not tars:
        raise DataError(f"{printable(folder)}: no tars in it")
    names = {tar: tar.relative_to(folder).as_posix() for tar in tars}
    share = 0.0 if any(split_of(name) != "train" for name in names.values()) else val
    writer, nameless = IndexWriter(into), _Nameless()
    several = False
    try:
        for number, tar in enumerate(tars, 1):
            for labels, member in _samples(tar if fetch is None else fetch(tar)):
                if labels is None:
                    nameless.note(tar, member)
                    continue
                several = several or len(labels) != 1
                split = split_of(names[tar])
                if share and draw(f"{names[tar]}/{member.name}") < share:
                    split = "val"
                writer.add(split, labels, member.offset, member.length)
            writer.end_tar(names[tar], tar.stat().st_size, (hashes or {}).get(names[tar], ""))
            if progress:
                progress(number, len(tars))
        if not writer.pictures:
            raise DataError(nameless.refusal or f"{printable(tars[0])}: no pictures in it")
        classes, place = _classes([str(name) for labels in writer.sets for name in labels])
        notes = [*nameless.notes, *([f"no val split given: {share:.0%} of train were taken for it"] if share else [])]
        return writer.finish(classes, place, several, notes)
    except OSError as error:
        raise UserError(f"{into} cannot be written ({(error.strerror or str(error)).lower()})") from None
    finally:
        writer.drop()


def index_again(
    dataset: ShardedDataset, into: Path, wanted: frozenset[str] | None, val: float, index: Path | None = None
) -> int:
    """Writes another index for shards that have one: of the tars `wanted` alone, or with a val split of its own.

    Args:
        dataset: the shards, with their own classes.
        into: the folder for the index.
        wanted: names of tars; None takes all.
        val: share of the training pictures for validation, where there is no val split; 0 for none.
        index: where the present index lies, when not beside the tars.

    Raises:
        DataError: none of the tars is in the index, or one is not.
        UserError: it cannot be written.
    """
    known = {shard.name: shard for shard in list_shards(index or dataset.folder)}
    for name in wanted or ():
        if name not in known:
            raise DataError(
                f"{called(dataset.root)}/{printable(name)} is not in the index {META} beside it, which has "
                f"{count(len(known), 'tar')}: {listed(known, 3)}"
            )
    share = (
        0.0 if any(shard.split == "val" for shard in known.values() if wanted is None or shard.name in wanted) else val
    )
    writer = IndexWriter(into)
    try:
        for split, samples in dataset.splits.items():
            _copy(writer, split, samples, wanted, share if split == "train" else 0.0)  # type: ignore[arg-type]
        taken = [f"no val split given: {share:.0%} of train were taken for it"] if share else []
        return writer.finish(dataset.classes, None, dataset.multi_label, [*dataset.notes[:-1], *taken])
    except OSError as error:
        raise UserError(f"{into} cannot be written ({(error.strerror or str(error)).lower()})") from None
    finally:
        writer.drop()


def _copy(writer: IndexWriter, split: str, samples: ShardSamples, wanted: frozenset[str] | None, val: float) -> None:
    for number, shard in enumerate(samples.shards):
        if wanted is not None and shard.name not in wanted:
            continue
        for _, label, offset, length in _rows(
            samples.records, samples.which.start + int(samples.starts[number]), shard.pictures
        ):
            labels = (label,) if samples.sets is None else samples.sets[label]
            into = "val" if val and draw(f"{shard.name}/{offset}") < val else split
            writer.add(into, labels, offset, length)
        writer.end_tar(shard.name, shard.bytes, shard.sha256)


def _rows(records: Records, first: int, pictures: int) -> Iterator[tuple[int, int, int, int]]:
    for start in range(0, pictures, 1 << 14):
        yield from records.chunk(first + start, min(1 << 14, pictures - start)).tolist()


class _Nameless:
    """Pictures without a label: how many, and which was the first."""

    def __init__(self) -> None:
        self.number, self.first = 0, ""

    def note(self, tar: Path, member: Member) -> None:
        self.first = self.first or f"{printable(tar)}: {printable(member.name)}"
        self.number += 1

    @property
    def refusal(self) -> str:
        return f"{self.first} has no .cls or .json with a label beside it, nor has any other" if self.number else ""

    @property
    def notes(self) -> list[str]:
        if not self.number:
            return []
        return [
            f"left out: {count(self.number, 'picture')} without a .cls or .json with a label, the first {self.first}"
        ]


def tars_in(folder: Path) -> list[Path]:
    """The tars in a folder and in the folders in it, by name."""
    return sorted([*folder.glob("*.tar"), *folder.glob("*/*.tar")])


def split_of(name: str) -> str:
    """The split that a tar's name, or its folder's, says; train where they say none."""
    words = re.split(r"[-_./]", name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "train")


def _classes(labels: list[str]) -> tuple[list[str], dict[str, int]]:
    """The classes in order, numbers by their value, and the number of each label."""
    names = set(labels)
    if names and all(label.isdecimal() for label in names):
        if len(longest := max(names, key=len)) > _DIGITS:
            raise DataError(f"label {longest[:_DIGITS]}... has {len(longest):,} digits; write names instead")
        most = max(map(int, names))
        if most >= MOST_CLASSES:
            raise DataError(
                f"label {most} would be the last of {most + 1:,} classes, numbered from 0; write names instead"
            )
        return [str(n) for n in range(most + 1)], {label: int(label) for label in names}
    classes = sorted(names)
    return classes, {name: number for number, name in enumerate(classes)}


def is_webdataset(tar: Path) -> bool:
    """Whether a label lies beside one of the first pictures of a tar.

    Raises:
        DataError: it is no tar.
    """
    for number, member in enumerate(members(tar)):
        if member.name.endswith((".cls", ".json")):
            return True
        if number == 20:
            break
    return False


def _samples(tar: Path) -> Iterator[tuple[tuple[str, ...] | None, Member]]:
    """(labels, picture) of each key; the files of a key follow one another. None where there is no label."""
    key: str | None = None
    picture: Member | None = None
    labels: tuple[str, ...] | None = None
    for member in members(tar):
        head, _, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        if (own := f"{head}/{stem}") != key:
            if picture is not None:
                yield labels, picture
            key, picture, labels = own, None, None
        if f".{ending.lower()}" in PICTURE_SUFFIXES:
            if picture is not None and picture.name == member.name:
                raise DataError(f"{printable(tar)} holds {printable(member.name)} twice, with one label for both")
            picture = member
        elif ending.lower() in ("cls", "json"):
            found = _labels(tar, member, ending.lower())
            labels = labels if found is None else found
    if picture is not None:
        yield labels, picture


def _labels(tar: Path, member: Member, ending: str) -> tuple[str, ...] | None:
    """What a .cls says, or the labels in a .json; None where it says nothing."""
    file = open_member(member_path(tar, member.offset, member.length))
    text = "" if file is None else file.read().decode("utf-8", "replace").strip()
    if ending == "cls":
        return _sound(tar, member, [text]) if text else None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError(f"{printable(tar)}: {printable(member.name)} is no JSON") from None
    if isinstance(found, dict):
        found = next((found[name] for name in _KEYS if found.get(name) is not None), None)
    if found is None or isinstance(found, dict):
        return None
    labels = found if isinstance(found, list) else [found]
    for label in labels:
        if not isinstance(label, str | int) or isinstance(label, bool):
            raise DataError(
                f"{printable(tar)}: {printable(member.name)}: {printable(str(label)[:40])} is no label; they are names "
                "or whole numbers"
            )
    return _sound(tar, member, [str(label) for label in labels])


def _sound(tar: Path, member: Member, labels: list[str]) -> tuple[str, ...]:
    for label in labels:
        if label.startswith("-") and label[1:].isdecimal():
            raise DataError(
                f"{printable(tar)}: {printable(member.name)}: label {printable(label[:40])}, but classes are numbered "
                "from 0; leave the label out where there is none, or write names"
            )
    return tuple(dict.fromkeys(labels))
