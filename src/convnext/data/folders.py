"""Data sets as folders: `DATA/<class>/...` or `DATA/{train,val,test}/<class>/...`.

Pictures are found at any depth inside a class folder. Links to folders are followed. Hidden files and folders (names
that begin with a dot, such as `.DS_Store`, `._x.jpg` and `.ipynb_checkpoints`) and the leavings of other programs
(`__MACOSX`, `Thumbs.db`, `@eaDir`) are passed over in silence; other files that are not pictures are counted in a note.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from convnext.data.decode import PICTURE_SUFFIXES
from convnext.data.flat_val import label_flat
from convnext.data.listing import SPLIT_NAMES, SPLITS, Entry, Listing
from convnext.data.names import count, did_you_mean, is_text, listed, printable
from convnext.errors import DataError

EXPECTED = "DATA/<class>/picture.jpg, DATA/{train,val,test}/<class>/picture.jpg, or a CSV file"

KAGGLE_FOLDER = Path("ILSVRC", "Data", "CLS-LOC")
"""Where ImageNet lies in what Kaggle gives."""
_LEAVINGS = frozenset(["__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin"])


@dataclass
class _Found:
    """What a walk through folders came across."""

    pictures: list[Path] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)  # files that are not pictures, by suffix


def list_folder(root: Path, *, judging: bool = False) -> Listing:
    """The pictures of a data set in folders; raises DataError when they are not laid out as they should be."""
    if (root / KAGGLE_FOLDER / "train").is_dir():
        return list_folder(root / KAGGLE_FOLDER, judging=judging)
    folders, found = _top(root)
    splits: dict[str, Path] = {}
    for folder in folders:
        split = SPLIT_NAMES.get(folder.name.lower())
        if split and split in splits:
            raise DataError(
                f"{printable(root)}: both {printable(splits[split].name)}/ and {printable(folder.name)}/ mean the "
                f"{split} split, which must be one folder: merge them or rename one"
            )
        if split:
            splits[split] = folder
    if splits and not _is_a_class(splits, folders):
        listing = _split_folders(root, splits, found, judging)
        extra = [folder.name for folder in folders if folder not in splits.values()]
        if extra:
            listing.notes.append(f"folders beside the splits were ignored: {listed(extra)}")
        return listing
    return _class_folders(root, folders, found)


def _is_a_class(splits: dict[str, Path], folders: list[Path]) -> bool:
    """Whether `train` is a class beside others, the railway kind: no other split, and its pictures lie right in it."""
    if set(splits) != {"train"} or len(folders) == 1:
        return False
    inner, inside = _top(splits["train"])
    return bool(inside.pictures) and not inner


def _split_folders(root: Path, splits: dict[str, Path], found: _Found, judging: bool) -> Listing:
    """`DATA/{train,val,test}/<class>/...`"""
    if "train" not in splits and not judging:
        names = listed(f"{folder.name}/" for folder in splits.values())
        raise DataError(
            f"{printable(root)}: has {names} but no train/: splits need a folder train/ to learn from "
            f"(a class that is called so must be renamed)"
        )
    if len(splits) == 1 and not judging:
        raise DataError(
            f"{printable(root)}: has {splits['train'].name}/ but neither val/ nor test/: add one of them, or give "
            f"{printable(splits['train'])} itself as the data to have it split automatically"
        )
    listing = Listing("split folders")
    known: set[str] = set()
    for split in SPLITS:
        if split not in splits:
            continue
        folder = splits[split]
        classes, inside = _top(folder)
        if split != "train" and inside.pictures and not classes:
            labelled = label_flat(root, folder, inside.pictures, known, split)
            if labelled is not None:
                listing.entries.extend(labelled)
                continue
        _merge(found, inside)
        named = {_class_name(item) for item in classes}
        if split == "train":
            known = named
            _require_classes(folder, classes, inside)
        for name in sorted(named - known) if "train" in splits else ():
            raise DataError(
                f"{printable(folder / name)}: the class is not in {splits['train'].name}/{did_you_mean(name, known)}: "
                f"every class needs pictures to learn from; rename the folder, add the class there, or remove it here"
            )
        _collect(listing, classes, split, found, may_be_empty=split != "train")
    _finish(listing, root, found)
    return listing


def _class_folders(root: Path, folders: list[Path], found: _Found) -> Listing:
    """`DATA/<class>/...`"""
    listing = Listing("class folders")
    _require_classes(root, folders, found)
    _collect(listing, folders, None, found, may_be_empty=False)
    _finish(listing, root, found)
    return listing


def _require_classes(root: Path, folders: list[Path], found: _Found) -> None:
    if folders:
        return
    if found.pictures:
        raise DataError(
            f"{printable(root)}: holds {count(len(found.pictures), 'picture')} but no class folders: move each picture "
            f"into a folder named after its class, or give a CSV file with the columns path and label"
        )
    raise DataError(f"{printable(root)}: no pictures and no class folders in it{_others(found)}: expected {EXPECTED}")


def _collect(listing: Listing, folders: list[Path], split: str | None, found: _Found, *, may_be_empty: bool) -> None:
    """Adds the pictures of every class folder to the listing."""
    empty: list[tuple[Path, str]] = []
    for folder in folders:
        inside = _Found()
        _walk(folder, inside, frozenset())
        label = (_class_name(folder),)
        listing.entries.extend(Entry(path, label, split) for path in inside.pictures)
        listing.unreadable.extend(inside.unreadable)
        found.others.update(inside.others)
        if inside.pictures:
            continue
        if may_be_empty:
            listing.notes.append(f"no pictures in {printable(folder)}")
        else:
            empty.append((folder, f" ({inside.unreadable[0][1]})" if inside.unreadable else _others(inside)))
    if empty:
        folder, why = empty[0]
        more = f"; nor in {listed(other.name for other, _ in empty[1:])}" if len(empty) > 1 else ""
        raise DataError(
            f"{printable(folder)}: no pictures in this class folder{why}{more}: "
            f"every class needs some; add pictures or move the folder out of the data set"
        )


def _finish(listing: Listing, root: Path, found: _Found) -> None:
    """The remarks that every folder layout has in common."""
    listing.unreadable.extend(found.unreadable)
    if found.pictures:
        loose = count(len(found.pictures), "picture lies", "pictures lie")
        were = "was" if len(found.pictures) == 1 else "were"
        first = printable(found.pictures[0].relative_to(root))
        listing.notes.append(f"{loose} outside the class folders and {were} ignored, such as {first}")
    if found.others:
        others = count(found.others.total(), "file is not a picture and was", "files are not pictures and were")
        listing.notes.append(f"{others} ignored{_others(found)}")


def _others(found: _Found) -> str:
    """` (.txt 3, .xml 2)`: the most frequent suffixes of files that are not pictures."""
    most = listed(f"{suffix} {number:,}" for suffix, number in found.others.most_common(4))
    return f" ({most})" if most else ""


def _merge(into: _Found, found: _Found) -> None:
    into.pictures.extend(found.pictures)
    into.unreadable.extend(found.unreadable)
    into.others.update(found.others)


def _class_name(folder: Path) -> str:
    """The class's name: composed Unicode, so that a folder copied from a Mac means the same class."""
    if not is_text(folder.name):
        raise DataError(
            f"{printable(folder)}: the folder's name is not valid UTF-8, so it cannot name a class: rename it"
        )
    return unicodedata.normalize("NFC", folder.name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LEAVINGS


def _top(folder: Path) -> tuple[list[Path], _Found]:
    """The folders directly inside one, by name, and what files lie beside them."""
    folders: list[Path] = []
    found = _Found()
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names, not paths
    except OSError as error:
        raise DataError(f"{printable(folder)}: the folder cannot be opened: {_lower(error)}") from error
    for name in names:
        path = folder / name
        if _is_hidden(name):
            continue
        if _is_folder(path):
            folders.append(path)
        elif _leads_nowhere(path) and path.suffix.lower() not in PICTURE_SUFFIXES:
            found.unreadable.append((path, "a link to a folder or file that does not exist"))
        else:
            _sort_file(path, found)
    return folders, found


def _walk(folder: Path, found: _Found, above: frozenset[tuple[int, int]]) -> None:
    """Finds the pictures at any depth, in a fixed order. `above` identifies the parents, against links in a ring."""
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        found.unreadable.append((folder, f"the folder cannot be opened: {_lower(error)}"))
        return
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    for entry in ordered:
        if _is_hidden(entry.name):
            continue
        path = Path(entry.path)
        if not _is_folder(path):
            _sort_file(path, found)
            continue
        before = len(found.pictures)
        _walk(path, found, above | {identity})
        if len(found.pictures) == before and path.suffix.lower() in PICTURE_SUFFIXES:
            found.unreadable.append((path, "a folder, not a picture"))


def _is_folder(path: Path) -> bool:
    """Also through a link; False for what cannot be looked at, such as a link to itself."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _leads_nowhere(path: Path) -> bool:
    try:
        return path.is_symlink() and not path.exists()
    except OSError:
        return True


def _sort_file(path: Path, found: _Found) -> None:
    suffix = path.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        found.pictures.append(path)
    else:
        found.others[suffix or "without suffix"] += 1


def _lower(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
