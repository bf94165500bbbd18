"""A split whose pictures lie in one folder, with a list of labels nearby: ImageNet's val as people have it.

Classes are called by their WordNet id (`n01440764`), sorted, as everybody numbers them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from convnext.data.names import count, in_order, printable
from convnext.data.sources.listing import Entry
from convnext.errors import DataError
from convnext.files import open_text

TRUTH = ("ILSVRC2012_validation_ground_truth.txt", "ILSVRC2015_clsloc_validation_ground_truth.txt")
META, MAP, KAGGLE = "meta.mat", "map_clsloc.txt", "LOC_val_solution.csv"
_NUMBER = re.compile(r"(\d+)$")
_LISTS = {True: ("val.txt", "val_map.txt", "labels.txt"), False: ()}


def label_flat(root: Path, folder: Path, pictures: Sequence[Path], classes: set[str], split: str) -> list[Entry] | None:
    """Entries for the pictures of a split that lie in one folder, by a list of labels nearby; None without a list.

    Known lists: Kaggle's LOC_val_solution.csv; a text file val.txt, or called like the folder, with lines of a file
    name and a class or its number in the sorted order; the devkit's ground truth, whose numbers need its meta.mat or
    map_clsloc.txt. Kaggle's and the devkit's files may lie up to three folders above the data.

    Raises:
        DataError: a list is there and does not fit the pictures or the classes.
    """
    names = in_order(classes)
    found: dict[str, str]
    if split == "val" and (file := _nearby(root, folder, (KAGGLE,), above=3)):
        found = _kaggle(file)
    elif file := _nearby(root, folder, _LISTS[split == "val"] + (f"{folder.name}.txt",)):
        found = _pairs(file, names, {path.name for path in pictures})
    elif split == "val" and (file := _nearby(root, folder, TRUTH, above=3)):
        found = _devkit(file, _meanings(file, root, folder), pictures)
    else:
        return None
    entries = []
    for path in sorted(pictures):
        label = found.get(path.name) or found.get(path.stem)
        if label is None:
            raise DataError(f"{printable(file)} has no label for {printable(path.name)} in {printable(folder)}")
        if classes and label not in classes:
            raise DataError(
                f"{printable(file)}: {printable(path.name)} is of class {label}, which is not in train; every class "
                "needs pictures to learn from"
            )
        entries.append(Entry(path, (label,), split))
    return entries


def _nearby(root: Path, folder: Path, names: Sequence[str], above: int = 0) -> Path | None:
    """The first of these files in the folder, beside it, up to two folders below the data set's own, or above it."""
    places = [folder, folder.parent, root, *root.glob("*/"), *root.glob("*/*/"), *root.parents[:above]]
    return next((place / name for name in names for place in places if (place / name).is_file()), None)


def _lines(file: Path) -> list[str]:
    try:
        with open_text(file, "utf-8-sig") as text:
            return [line.strip() for line in text.read().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{printable(file)}: cannot be read ({error})") from None


def _kaggle(file: Path) -> dict[str, str]:
    rows = csv.reader(_lines(file)[1:])
    return {row[0]: row[1].split()[0] for row in rows if len(row) >= 2 and row[1].split()}


def _pairs(file: Path, classes: Sequence[str], pictures: set[str]) -> dict[str, str]:
    """Lines of a file name and a class, or the class's number from 0, with a comma or space between them."""
    found: dict[str, str] = {}
    for number, line in enumerate(_lines(file), 1):
        name, label = _pair(line, classes, pictures)
        if not label:
            raise DataError(f'{printable(file)}, line {number}: "{line[:60]}" is not a file name and a class')
        if label.isdecimal() and label not in classes:
            if int(label) >= len(classes):
                raise DataError(
                    f"{printable(file)}, line {number}: class {label}, but there are {len(classes)} classes, numbered "
                    "from 0"
                )
            label = classes[int(label)]
        if found.setdefault(name, label) != label:
            raise DataError(
                f"{printable(file)}, line {number}: {printable(name)} is of class {label}, further up it was of "
                f"{found[name]}"
            )
    return found


def _pair(line: str, classes: Sequence[str], pictures: set[str]) -> tuple[str, str]:
    """File name and class of a line. Where names have spaces or commas, the longest that is a picture's is taken."""
    for end in range(len(line) - 1, 0, -1):
        if line[end] in ", \t" and (name := Path(line[:end].rstrip()).name) in pictures:
            label = line[end + 1 :].strip(", \t")
            return name, label if label in classes else re.split(r"[,\s]", label)[0]
    words = line.replace(",", " ").split()
    return (Path(words[0]).name, words[1]) if len(words) > 1 else (line, "")


def _meanings(truth: Path, root: Path, folder: Path) -> dict[int, str]:
    """The WordNet id of each of the devkit's numbers, from its meta.mat or its map_clsloc.txt."""
    if file := _nearby(root, folder, (MAP,), above=3):
        rows = [line.split() for line in _lines(file)]
        found = {int(row[1]): row[0] for row in rows if len(row) >= 2 and row[1].isdecimal()}
        if not rows or len(found) != len(rows):
            raise DataError(f"{printable(file)}: its lines are to be a WordNet id and a number, each number once")
        return found
    meta = _nearby(root, folder, (META,), above=3)
    if meta is None:
        raise DataError(
            f"{printable(truth)} holds the devkit's own numbers: put its meta.mat beside it, or give a val.txt with "
            "lines of a file name and a WordNet id"
        )
    try:
        from scipy.io import loadmat  # type: ignore[import-untyped]
    except ImportError:
        raise DataError(
            f"{printable(meta)} is read by scipy: pip install scipy; or give a val.txt with lines of a file name and a "
            "WordNet id"
        ) from None
    try:
        rows = loadmat(meta, squeeze_me=True)["synsets"]
        return {int(row[0]): str(row[1]) for row in rows}
    except Exception as error:  # whatever scipy raises on another file
        raise DataError(f"{printable(meta)} is not the devkit's ({type(error).__name__}: {error})") from None


def _devkit(file: Path, names: dict[int, str], pictures: Sequence[Path]) -> dict[str, str]:
    """The devkit's: line n is the id of picture n; `names` has the WordNet id that an id stands for."""
    ids = _lines(file)
    if len(ids) != len(pictures):
        raise DataError(f"{printable(file)} has {len(ids):,} lines, there are {count(len(pictures), 'picture')}")
    found = {}
    for path in pictures:
        number = _NUMBER.search(path.stem)
        if number is None or not 1 <= int(number[1]) <= len(ids):
            raise DataError(f"{printable(path)}: its name does not end with its number, 1 to {len(ids):,}")
        line = ids[int(number[1]) - 1]
        if not line.isdecimal() or int(line) not in names:
            raise DataError(
                f'{printable(file)}, line {int(number[1])}: "{line[:60]}" is none of the {len(names):,} ids'
            )
        found[path.name] = names[int(line)]
    return found
