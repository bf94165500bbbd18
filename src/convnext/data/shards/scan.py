"""An index for tars that others wrote in webdataset's layout: KEY.jpg beside KEY.cls or KEY.json."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from convnext.data.names import called, count, listed, printable
from convnext.data.pictures.decode import PICTURE_SUFFIXES
from convnext.data.pictures.tar_headers import Member
from convnext.data.pictures.tarball import member_path, members, open_member
from convnext.data.shards.index_writer import IndexWriter, draw
from convnext.data.shards.meta import ALWAYS, META
from convnext.data.shards.read import Records, ShardedDataset, ShardSamples, list_shards
from convnext.data.sources.listing import SPLIT_NAMES
from convnext.errors import DataError, UserError

Progress = Callable[[int, int], None]
_CLASSES_PER_PICTURE = 10
"""A number above so many times the pictures (and above `ALWAYS`) is no class, but something else beside a picture."""
_DIGITS = 12
_SIZES = {"cls": 1_000_000, "json": 16_000_000}
"""Bytes that a file of labels may have; a .json may hold other things too."""
_LABELS, _LETTERS = 10_000, 1000
"""Labels that a picture may have, and letters of one."""
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
    writer, nameless, dotted = IndexWriter(into), _Nameless(), _Dotted()
    several = False
    try:
        for number, tar in enumerate(tars, 1):
            for labels, member in _samples(tar if fetch is None else fetch(tar), dotted):
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
            raise DataError(nameless.refusal or dotted.refusal or f"{printable(tars[0])}: no pictures in it")
        classes, place, remarks = _classes([str(name) for labels in writer.sets for name in labels], writer.pictures)
        notes = [
            *nameless.notes,
            *dotted.notes,
            *remarks,
            *([f"no val split given: {share:.0%} of train were taken for it"] if share else []),
        ]
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


class _Dotted:
    """Pictures that belong to no key, because their names have more than one dot: how many, and the first."""

    def __init__(self) -> None:
        self.number, self.first, self.name = 0, "", ""

    def note(self, tar: Path, found: Sequence[Member]) -> None:
        if found and not self.number:
            self.name = found[0].name.rpartition("/")[2]
            self.first = f"{printable(tar)}: {printable(found[0].name)}"
        self.number += len(found)

    @property
    def refusal(self) -> str:
        return f"{self.first} {self._why}" if self.number else ""

    @property
    def notes(self) -> list[str]:
        if not self.number:
            return []
        return [f"left out: {count(self.number, 'picture')}, the first {self.first} {self._why}"]

    @property
    def _why(self) -> str:
        key, _, ending = self.name.partition(".")
        better = f"{key}-{ending.rpartition('.')[0].replace('.', '-')}.{ending.rpartition('.')[2]}"
        return (
            "has more than one dot in its name. In webdataset's layout a key ends at the first dot: this one would be "
            f'"{printable(key)}", with ".{printable(ending)}" beside it and no picture of its own. Write the tars '
            f"anew with names as {printable(better)}"
        )


def tars_in(folder: Path) -> list[Path]:
    """The tars in a folder and in the folders in it, by name."""
    return sorted([*folder.glob("*.tar"), *folder.glob("*/*.tar")])


def split_of(name: str) -> str:
    """The split that a tar's name, or its folder's, says; train where they say none."""
    words = re.split(r"[-_./]", name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "train")


def _classes(labels: list[str], pictures: int) -> tuple[list[str], dict[str, int], list[str]]:
    """The classes in order, numbers by their value; the number of each label; and remarks."""
    names = set(labels)
    most_classes = max(ALWAYS, _CLASSES_PER_PICTURE * pictures)
    if names and all(label.isdecimal() for label in names):
        if len(longest := max(names, key=len)) > _DIGITS:
            raise DataError(f"label {longest[:_DIGITS]}... has {len(longest):,} digits; write names instead")
        most = max(map(int, names))
        if most >= most_classes:
            raise DataError(
                f"label {most} would be the last of {most + 1:,} classes, numbered from 0, for "
                f"{count(pictures, 'picture')}; write names instead, or leave the label out where there is none"
            )
        return [str(n) for n in range(most + 1)], {label: int(label) for label in names}, _remarks(names, most + 1)
    if len(names) > most_classes:
        raise DataError(
            f"{len(names):,} classes for {count(pictures, 'picture')}; is what stands beside the pictures their class?"
        )
    classes = sorted(names)
    return classes, {name: number for number, name in enumerate(classes)}, []


def _remarks(numbers: set[str], classes: int) -> list[str]:
    """What may surprise in labels that are numbers: leading zeros, and classes that nothing has."""
    notes = []
    if led := sorted(label for label in numbers if len(label) > 1 and label.startswith("0")):
        twin = next((label for label in led if str(int(label)) in numbers), "")
        same = f'; "{twin}" and "{int(twin)}" are the same class' if twin else ""
        notes.append(f'labels are read as numbers: "{led[0]}" is class {int(led[0])}{same}')
    empty = classes - len(set(map(int, numbers)))
    if 2 * empty > classes or (empty and led):
        first = next(n for n in range(classes) if n not in set(map(int, numbers)))
        notes.append(
            f"labels are numbers up to {classes - 1}, so there are {classes:,} classes, but "
            f"{count(empty, 'of them has', 'of them have')} no picture, the first {first}"
        )
    return notes


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


def _samples(tar: Path, dotted: _Dotted) -> Iterator[tuple[tuple[str, ...] | None, Member]]:
    """(labels, picture) of each key; the files of a key follow one another. None where there is no label."""
    key: str | None = None
    picture: Member | None = None
    labels: tuple[str, ...] | None = None
    others: list[Member] = []
    for member in members(tar):
        head, _, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        if (own := f"{head}/{stem}") != key:
            if picture is not None:
                yield labels, picture
            else:
                dotted.note(tar, others)
            key, picture, labels, others = own, None, None, []
        if f".{ending.lower()}" in PICTURE_SUFFIXES:
            if picture is not None and picture.name == member.name:
                raise DataError(f"{printable(tar)} holds {printable(member.name)} twice, with one label for both")
            picture = member
        elif ending.lower() in ("cls", "json"):
            found = _labels(tar, member, ending.lower())
            labels = labels if found is None else found
        elif Path(name).suffix.lower() in PICTURE_SUFFIXES:
            others.append(member)
    if picture is not None:
        yield labels, picture
    else:
        dotted.note(tar, others)


def _labels(tar: Path, member: Member, ending: str) -> tuple[str, ...] | None:
    """What a .cls says, or the labels in a .json; None where it says nothing."""
    where = f"{printable(tar)}: {printable(member.name)}"
    if member.length > _SIZES[ending]:
        raise DataError(f"{where} has {member.length:,} bytes; labels may take {_SIZES[ending]:,}")
    file = open_member(member_path(tar, member.offset, member.length))
    try:
        text = "" if file is None else file.read().decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise DataError(f"{where} is no text in UTF-8; write it anew so") from None
    if ending == "cls":
        return _sound(tar, member, [text]) if text else None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError(f"{where} is no JSON") from None
    if isinstance(found, dict):
        found = next((found[name] for name in _KEYS if found.get(name) is not None), None)
    if found is None or isinstance(found, dict):
        return None
    labels = found if isinstance(found, list) else [found]
    if len(labels) > _LABELS:
        raise DataError(f"{where} has {len(labels):,} labels; a picture may have {_LABELS:,}")
    for label in labels:
        if not isinstance(label, str | int) or isinstance(label, bool):
            raise DataError(f"{where}: {printable(_short(label))} is no label; they are names or whole numbers")
    return _sound(tar, member, [_short(label) if isinstance(label, int) else label.strip() for label in labels])


def _short(value: object) -> str:
    """A value as text; a whole number without end is cut, since Python writes out 4,300 digits at most."""
    if isinstance(value, int) and abs(value) >= 10**40:
        return ("-" if value < 0 else "") + "9" * 40
    return str(value)[:40] if not isinstance(value, int) else str(value)


def _sound(tar: Path, member: Member, labels: list[str]) -> tuple[str, ...]:
    for label in labels:
        if label.startswith("-") and label[1:].isdecimal():
            raise DataError(
                f"{printable(tar)}: {printable(member.name)}: label {printable(label[:40])}, but classes are numbered "
                "from 0; leave the label out where there is none, or write names"
            )
        odd = any(sign < " " or sign == "\x7f" or "\ud800" <= sign <= "\udfff" for sign in label)
        if not label or odd or (len(label) > _LETTERS and not label.isdecimal()):
            raise DataError(
                f'{printable(tar)}: {printable(member.name)}: "{printable(label[:40])}" is no label; it is a name of '
                f"one line, of {_LETTERS:,} letters at most"
            )
    return tuple(dict.fromkeys(labels))
