"""Data sets as folders: `DATA/<class>/...` or `DATA/{train,val,test}/<class>/...`.

Pictures are found at any depth inside a class folder, as `walk` finds them; other files are counted in a note.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

from convnext.data.flat_val import label_flat
from convnext.data.listing import SPLIT_NAMES, SPLITS, Entry, Listing
from convnext.data.names import count, did_you_mean, is_text, listed, printable
from convnext.data.walk import Found, top, walk
from convnext.errors import DataError

EXPECTED = "DATA/<class>/picture.jpg, DATA/{train,val,test}/<class>/picture.jpg, or a CSV file"

KAGGLE_FOLDER = Path("ILSVRC", "Data", "CLS-LOC")
"""Where ImageNet lies in what Kaggle gives."""


def list_folder(root: Path, *, judging: bool = False) -> Listing:
    """The pictures of a data set in folders; raises DataError when they are not laid out as they should be."""
    if (root / KAGGLE_FOLDER / "train").is_dir():
        return list_folder(root / KAGGLE_FOLDER, judging=judging)
    folders, found = top(root)
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
    inner, inside = top(splits["train"])
    return bool(inside.pictures) and not inner


def _split_folders(root: Path, splits: dict[str, Path], found: Found, judging: bool) -> Listing:
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
        classes, inside = top(folder)
        if split != "train" and inside.pictures and not classes:
            labelled = label_flat(root, folder, inside.pictures, known, split)
            if labelled is not None:
                listing.entries.extend(labelled)
                continue
        found.add(inside)
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


def _class_folders(root: Path, folders: list[Path], found: Found) -> Listing:
    """`DATA/<class>/...`"""
    listing = Listing("class folders")
    _require_classes(root, folders, found)
    _collect(listing, folders, None, found, may_be_empty=False)
    _finish(listing, root, found)
    return listing


def _require_classes(root: Path, folders: list[Path], found: Found) -> None:
    if folders:
        return
    if found.pictures:
        raise DataError(
            f"{printable(root)}: holds {count(len(found.pictures), 'picture')} but no class folders: move each picture "
            f"into a folder named after its class, or give a CSV file with the columns path and label"
        )
    raise DataError(f"{printable(root)}: no pictures and no class folders in it{_others(found)}: expected {EXPECTED}")


def _collect(listing: Listing, folders: list[Path], split: str | None, found: Found, *, may_be_empty: bool) -> None:
    """Adds the pictures of every class folder to the listing."""
    empty: list[tuple[Path, str]] = []
    for folder in folders:
        inside = walk(folder)
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


def _finish(listing: Listing, root: Path, found: Found) -> None:
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


def _others(found: Found) -> str:
    """` (.txt 3, .xml 2)`: the most frequent suffixes of files that are not pictures."""
    most = listed(f"{suffix} {number:,}" for suffix, number in found.others.most_common(4))
    return f" ({most})" if most else ""


def _class_name(folder: Path) -> str:
    """The class's name: composed Unicode, so that a folder copied from a Mac means the same class."""
    if not is_text(folder.name):
        raise DataError(
            f"{printable(folder)}: the folder's name is not valid UTF-8, so it cannot name a class: rename it"
        )
    return unicodedata.normalize("NFC", folder.name)
