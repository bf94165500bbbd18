"""Data sets as folders: `DATA/<class>/...`, `DATA/{train,val,test}/<class>/...`, and what else people have.

Which folders are splits or folds is told by `layouts`. Pictures are found at any depth inside a class folder, as `walk`
finds them; other files are counted in a note.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from convnext.data.names import count, did_you_mean, in_order, is_text, listed, printable
from convnext.data.sources.columns import Columns
from convnext.data.sources.given_split import split_by_folds
from convnext.data.sources.layouts import fold_folders, inner_names_note, split_folders, splits_in_classes
from convnext.data.sources.listing import SPLIT_NAMES, SPLITS, Entry, Listing, split_meant
from convnext.data.sources.walk import Found, top, walk
from convnext.errors import DataError
from convnext.tasks.classify.flat_val import label_flat

EXPECTED = "DATA/<class>/picture.jpg, DATA/{train,val,test}/<class>/picture.jpg, or a CSV file"

KAGGLE_FOLDER = Path("ILSVRC", "Data", "CLS-LOC")
"""Where ImageNet lies in what Kaggle gives."""


def list_folder(
    root: Path, spec: Columns | None = None, *, judging: bool = False, known: Collection[str] = ()
) -> Listing:
    """The pictures of a data set in folders.

    Args:
        root: the data set.
        spec: which fold validates, where the folders are folds.
        judging: nothing is to be learnt from the data.
        known: the classes of a model, or those that the user names.

    Raises:
        DataError: the folders are not laid out as they should be.
    """
    spec = spec or Columns()
    if (root / KAGGLE_FOLDER / "train").is_dir():
        return list_folder(root / KAGGLE_FOLDER, spec, judging=judging, known=known)
    folders, found = top(root)
    if spec.group and not judging:
        raise DataError(
            f"{printable(root)}: data.group_column = {spec.group}, but folders have no columns: give a CSV table with "
            "the columns path, label and that one"
        )
    if folds := fold_folders(folders, known):
        return _fold_folders(root, folders, folds, found, spec, judging)
    if spec.val_fold and not judging:
        raise DataError(
            f"{printable(root)}: data.val_fold = {spec.val_fold}, but there are no folders fold0/, fold1/ ..."
        )
    splits = split_folders(root, folders, known)
    if splits:
        listing = _split_folders(root, splits, found, judging)
        extra = [folder.name for folder in folders if all(folder not in (s, *s.parents) for s in splits.values())]
        if extra:
            listing.notes.append(f"folders beside the splits were ignored: {listed(extra)}")
        unusual = [f"{folder.relative_to(root)}/ is {split}" for split, folder in splits.items() if _is_unusual(folder)]
        if unusual:
            listing.notes.append(f"splits: {listed(unusual)}")
        return listing
    if inner := splits_in_classes(root, folders, known, judging=judging):
        return _splits_in_classes(root, inner, found, judging)
    return _class_folders(root, folders, found)


def _is_unusual(folder: Path) -> bool:
    return folder.name.lower() not in SPLIT_NAMES


def _fold_folders(
    root: Path, folders: list[Path], folds: dict[str, Path], found: Found, spec: Columns, judging: bool
) -> Listing:
    """`DATA/fold0/<class>/...`"""
    if not (spec.val_fold or judging):
        raise DataError(
            f"{printable(root)}: {listed(f'{folder.name}/' for folder in folds.values())} look like folds: say which "
            f"one validates, as data.val_fold={next(iter(folds))}, and data.test_fold likewise if one is to test"
        )
    splits: dict[str, str | None] = dict.fromkeys(folds)
    listing = Listing("split folders")
    if not judging:
        numbers = {folder.name: number for number, folder in folds.items()}
        spec = replace(
            spec,
            val_fold=numbers.get(spec.val_fold, spec.val_fold),
            test_fold=numbers.get(spec.test_fold, spec.test_fold),
        )
        meant, note = split_by_folds(printable(root), "the folders", list(folds), spec)
        splits = dict(zip(folds, meant, strict=True))
        listing.notes.append(note)
    aside = [folder for folder in folders if folder not in folds.values() and split_meant(folder.name) == "test"]
    if len(aside) == 1 and not (judging or spec.test_fold):
        folds, splits = folds | {"": aside[0]}, splits | {"": "test"}
        listing.notes.append(f"{aside[0].name}/ beside the folds is test")
    extra = [folder.name for folder in folders if folder not in folds.values()]
    if extra:
        listing.notes.append(f"folders beside the folds were ignored: {listed(extra)}")
    for number, folder in folds.items():
        classes, inside = top(folder)
        found.add(inside)
        _collect(listing, classes, splits[number], found, may_be_empty=True)
    _finish(listing, root, found)
    return listing


def _splits_in_classes(root: Path, classes: dict[Path, dict[str, Path]], found: Found, judging: bool) -> Listing:
    """`DATA/<class>/{train,val,test}/...`"""
    listing = Listing("split folders")
    for folder, splits in classes.items():
        if "train" not in splits and not judging:
            raise DataError(
                f"{printable(folder)}: has no train/, as other classes have: every class needs pictures to learn from"
            )
        for split, place in splits.items():
            _collect_one(listing, place, _class_name(folder), split, found)
    listing.notes.append("each class folder is split into the folders in it")
    lower = {_class_name(item) for splits in classes.values() for place in splits.values() for item in top(place)[0]}
    if lower:
        listing.notes.append(
            f"their splits hold further folders ({listed(in_order(lower), 5)}): the classes are the upper ones "
            f"({listed((folder.name for folder in classes), 5)})"
        )
    _finish(listing, root, found)
    return listing


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
    listing.notes.extend(inner_names_note(folders))
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
    names: dict[str, Path] = {}
    for folder in folders:
        name = _class_name(folder)
        if names.setdefault(name, folder) is not folder:
            listing.notes.append(
                f"two folders in {printable(folder.parent)} are called {printable(name)}, one in each Unicode form "
                "(NFC, NFD): taken for one class"
            )
        inside = _collect_one(listing, folder, name, split, found)
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


def _collect_one(listing: Listing, folder: Path, name: str, split: str | None, found: Found) -> Found:
    """Adds the pictures of one folder as those of a class; returns what was found there."""
    inside = walk(folder)
    listing.entries.extend(Entry(path, (name,), split) for path in inside.pictures)
    listing.unreadable.extend(inside.unreadable)
    found.others.update(inside.others)
    return inside


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
