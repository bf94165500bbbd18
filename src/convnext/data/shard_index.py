"""An index for tars that others wrote in webdataset's layout: KEY.jpg beside KEY.cls or KEY.json."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from convnext.data.decode import PICTURE_SUFFIXES
from convnext.data.listing import SPLIT_NAMES, SPLITS
from convnext.data.names import printable
from convnext.data.shards import INDEX, META, RECORD, VERSION, Shard, digest_of
from convnext.data.tarball import Member, member_path, members, open_member
from convnext.errors import DataError, UserError

Progress = Callable[[int, int], None]


def index_tars(folder: Path, progress: Progress | None = None) -> int:
    """Writes the index of a folder of tars beside them; gives the number of pictures.

    A tar belongs to the split that its name says (train, val, test between dashes, dots or underlines). Labels are
    numbers from 0, or names, which are then sorted.

    Raises:
        DataError: there are no tars, one is damaged, or pictures have no label.
        UserError: there is an index already, or it cannot be written.
    """
    if (folder / META).exists():
        raise UserError(f"{folder} has an index already; remove {META} to make it anew")
    tars = sorted(folder.glob("*.tar"), key=lambda tar: (SPLITS.index(_split_of(tar)), tar.name))
    if not tars:
        raise DataError(f"{printable(folder)}: no tars in it")
    labels: list[str] = []
    shards: list[Shard] = []
    rows: list[tuple[int, int, int, int]] = []
    numbers: dict[str, int] = {}
    for number, tar in enumerate(tars):
        before = len(rows)
        for label, member in _samples(tar):
            at = numbers.setdefault(label, len(labels))
            if at == len(labels):
                labels.append(label)
            rows.append((number, at, member.offset, member.length))
        shards.append(Shard(tar.name, _split_of(tar), len(rows) - before, tar.stat().st_size, ""))
        if progress:
            progress(number + 1, len(tars))
    records = np.array(rows, RECORD)
    classes, place = _order(labels)
    records["label"] = place[records["label"]]
    _write(folder, classes, shards, records)
    return len(records)


def _split_of(tar: Path) -> str:
    words = re.split(r"[-_.]", tar.name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "train")


def _order(labels: list[str]) -> tuple[list[str], np.ndarray]:
    """The classes in order, numbers by their value, and where each label as it was met goes."""
    whole = all(label.isdigit() for label in labels)
    classes = [str(n) for n in range(max(map(int, labels)) + 1)] if whole else sorted(labels)
    known = {name: n for n, name in enumerate(classes)}
    return classes, np.array([known[str(int(label)) if whole else label] for label in labels], np.uint32)


def _samples(tar: Path) -> Iterator[tuple[str, Member]]:
    """(label, picture) of each key; the files of a key follow one another."""
    key, picture, label = "", None, ""
    for member in [*members(tar), Member("", 0, 0)]:
        head, _, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        if (own := f"{head}/{stem}") != key:
            if picture is not None and not label:
                raise DataError(
                    f"{printable(tar)}: {printable(picture.name)} has no .cls or .json with a label beside it"
                )
            if picture is not None:
                yield label, picture
            key, picture, label = own, None, ""
        if f".{ending.lower()}" in PICTURE_SUFFIXES:
            picture = member
        elif ending in ("cls", "json"):
            label = _label(tar, member, ending) or label


def _label(tar: Path, member: Member, ending: str) -> str:
    """What a .cls says, or the label in a .json; "" where it says none."""
    file = open_member(member_path(tar, member.offset, member.length))
    text = "" if file is None else file.read().decode("utf-8", "replace").strip()
    if ending == "cls":
        return text
    try:
        found = json.loads(text)
    except ValueError:
        raise DataError(f"{printable(tar)}: {printable(member.name)} is no JSON") from None
    known = found if isinstance(found, dict) else {"label": found}
    return next((str(known[name]) for name in ("label", "cls", "class") if name in known), "")


def _write(folder: Path, classes: list[str], shards: list[Shard], records: np.ndarray) -> None:
    counts = {}
    for split in SPLITS:
        own = [number for number, shard in enumerate(shards) if shard.split == split]
        if own:
            chosen = records["label"][np.isin(records["shard"], own)]
            counts[split] = np.bincount(chosen, minlength=len(classes)).tolist()
    try:
        part = folder / f".{INDEX}.part"
        records.tofile(part)
        part.replace(folder / INDEX)
        meta = {
            "version": VERSION, "classes": classes, "counts": counts, "shards": [shard.__dict__ for shard in shards],
            "fingerprint": digest_of(classes, shards, folder / INDEX),
        }  # fmt: skip
        part = folder / f".{META}.part"
        part.write_text(json.dumps(meta, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(folder / META)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({(error.strerror or str(error)).lower()})") from None
