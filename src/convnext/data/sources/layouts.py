"""Which folders are splits or folds, and which are classes: by their names, and by what lies in them.

Splits have many names (`train`, `training_set`, `01_TrainImages`); folders that look like splits under a name that is
not certain are refused, since taken for classes they would be learnt in silence.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from convnext.data.names import listed, printable
from convnext.data.sources.listing import SPLIT_NAMES, split_meant
from convnext.data.sources.walk import top
from convnext.errors import DataError

_FOLD = re.compile(
    r"(?:k|cv|k_?cv)?[ _.-]?(?:fold|split|partition|subset)s?(?:[ _.-]?(\d+)|[ _.-]([a-z]))", re.IGNORECASE
)


def split_folders(root: Path, folders: Sequence[Path], known: Collection[str]) -> dict[str, Path]:
    """The folder of each split among those at the top of a data set; empty where they are classes.

    Args:
        root: the data set, for messages.
        folders: all at its top.
        known: the classes of a model, or those that the user names: a folder called so is a class.

    Raises:
        DataError: two folders mean one split, or folders look like splits and may be classes.
    """
    plain = [(SPLIT_NAMES.get(folder.name.lower()), folder) for folder in folders]
    splits = _one_each(root, [(split, folder) for split, folder in plain if split])
    if set(splits) == {"train"} and len(folders) > 1 and _holds_pictures_alone(splits["train"]):
        return {}  # a class beside others, the railway kind
    if any(folder.name in known for folder in folders) and not splits:
        return {}
    meant = [(split_meant(folder.name), folder) for folder in folders]
    loose = [(split, folder) for split, folder in meant if split and split not in splits]
    if splits or len({split for split, _ in loose}) > 1:
        return {split: _inner(folder) for split, folder in (splits | _one_each(root, loose)).items()}
    _refuse_uncertain(root, folders)
    return {}


def _one_each(root: Path, found: Sequence[tuple[str, Path]]) -> dict[str, Path]:
    splits: dict[str, Path] = {}
    for split, folder in found:
        if split in splits:
            raise DataError(
                f"{printable(root)}: both {printable(splits[split].name)}/ and {printable(folder.name)}/ mean the "
                f"{split} split, which must be one folder: merge them or rename one"
            )
        splits[split] = folder
    return splits


def _holds_pictures_alone(folder: Path) -> bool:
    inner, inside = top(folder)
    return bool(inside.pictures) and not inner


def _inner(folder: Path) -> Path:
    """The folder itself, or the one of the same meaning that alone lies in it, as after unpacking (`train/train/`)."""
    inner, inside = top(folder)
    if len(inner) != 1 or inside.pictures or split_meant(inner[0].name) != split_meant(folder.name):
        return folder
    return _inner(inner[0]) if top(inner[0])[0] else folder


def _refuse_uncertain(root: Path, folders: Sequence[Path]) -> None:
    """Refuses `seg_train/` beside `seg_test/`: folders that have a split's name among other words."""
    found: dict[str, Path] = {}
    for folder in folders:
        if split := _split_within(folder.name):
            found.setdefault(split, folder)
    if "train" in found and len(found) > 1:
        names = listed(f"{folder.name}/" for folder in found.values())
        wanted = ", ".join(f"{split}/" for split in found)
        classes = ",".join(f'"{folder.name}"' for folder in folders)
        raise DataError(
            f"{printable(root)}: {names} look like splits: rename them to {wanted}; if they are classes, say so: "
            f"'data.classes=[{printable(classes)}]'"
        )


def _split_within(name: str) -> str | None:
    """The one split that a word of a name stands for, among other words; None where there is none, or two."""
    words = re.split(r"[\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    meant = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return meant.pop() if len(meant) == 1 else None


def fold_folders(folders: Sequence[Path], known: Collection[str]) -> dict[str, Path]:
    """The folder of each fold (`fold0`, `Fold_1`, `fold-a`), by its number or letter; empty where there are none."""
    found = {match[1] or match[2]: folder for folder in folders if (match := _FOLD.fullmatch(folder.name))}
    whole = len(found) > 1 and all(folder.name not in known for folder in found.values())
    return found if whole and all(top(folder)[0] for folder in found.values()) else {}


def splits_in_classes(
    root: Path, folders: Sequence[Path], known: Collection[str], *, judging: bool
) -> dict[Path, dict[str, Path]]:
    """For class folders that each hold train/ and test/: the splits of every class. Empty for any other data.

    Raises:
        DataError: some classes are split so and others are not, or pictures lie beside the splits.
    """
    splits: dict[Path, dict[str, Path]] = {}
    rest: dict[Path, str] = {}
    for folder in folders:
        inner, inside = top(folder)
        found = {item: split_meant(item.name) for item in inner if item.name not in known}
        meant = set(found.values()) - {None}
        if ("train" in meant and len(meant) > 1) or (judging and meant and None not in found.values()):
            splits[folder] = _one_each(folder, [(split, item) for item, split in found.items() if split])
            beside = [f"{item.name}/" for item, split in found.items() if split is None]
            if beside or inside.pictures:
                rest[folder] = listed([*beside, *(item.name for item in inside.pictures)], 3)
    if not splits:
        if not judging:
            _refuse_parts_in_classes(root, folders, known)
        return {}
    other = next((folder for folder in folders if folder not in splits), None)
    if other is not None:
        split = next(iter(splits))
        raise DataError(
            f"{printable(root)}: {printable(split.name)}/ holds {listed(f'{name}/' for name in splits[split])}, "
            f"{printable(other.name)}/ does not: split every class, or none"
        )
    for folder, names in rest.items():
        raise DataError(
            f"{printable(folder)}: beside {listed(f'{name}/' for name in splits[folder])} lies {names}: move it into "
            "one of them, or out of the data set"
        )
    return splits


def _refuse_parts_in_classes(root: Path, folders: Sequence[Path], known: Collection[str]) -> None:
    """Refuses classes that all hold fold1/, fold2/, or seg_train/, seg_test/: split anew, these would be mixed."""
    inner = [[item for item in top(folder)[0] if item.name not in known] for folder in folders]
    if any(folder.name in known for folder in folders):
        return
    folds = [[item for item in items if _FOLD.fullmatch(item.name)] for items in inner]
    parts = [[item for item in items if _split_within(item.name)] for items in inner]
    for found in (folds, parts):
        if len(folders) > 1 and all(len(items) > 1 for items in found):
            names = listed(f"{item.name}/" for item in found[0])
            classes = ",".join(f'"{folder.name}"' for folder in folders)
            raise DataError(
                f"{printable(root)}: each class folder holds {names}, which look like parts of a split: rename them to "
                f"train/, val/ and test/; if they mean nothing, name the classes: 'data.classes=[{printable(classes)}]'"
            )


def inner_names_note(folders: Sequence[Path]) -> list[str]:
    """A remark where every class folder holds folders of the same names: which level is the class, may be in doubt."""
    inner = [frozenset(item.name for item in top(folder)[0]) for folder in folders]
    if len(folders) < 2 or len(set(inner)) != 1 or len(inner[0]) < 2:
        return []
    return [
        f"each class folder holds the same folders ({listed(sorted(inner[0]), 5)}): the classes are the upper ones "
        f"({listed((folder.name for folder in folders), 5)})"
    ]
