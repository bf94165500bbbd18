"""Where pictures and labels come from: a folder or a CSV file becomes a `Dataset` that training can trust.

    DATA/<class>/...                    split by us, by the rule in `split`
    DATA/{train,val,test}/<class>/...   split by the folders; val is taken from train when it is missing
    DATA.csv                            columns path, label and, if wanted, split; see `table`

Every file is opened once, by `checked`; those that cannot be read are listed in `Dataset.broken` and left out of the
splits, so that training never meets them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from convnext.data.checked import Facts, Progress, check_files
from convnext.data.columns import SPLIT, Columns
from convnext.data.dataset import CONTENT_BYTES, Broken, Dataset, Sample
from convnext.data.decode import PICTURE_SUFFIXES
from convnext.data.folders import EXPECTED, list_folder
from convnext.data.listing import SPLITS, Entry, Listing
from convnext.data.missing import missing_classes
from convnext.data.names import count, did_you_mean, in_order, is_text, listed, look_alikes, printable
from convnext.data.reading import Reading
from convnext.data.scales import remarks, scales_of
from convnext.data.split import join_groups, stable_split
from convnext.data.table import TABLE_SUFFIXES, list_table
from convnext.errors import DataError

OWN_SPLIT = "split by us"
"""How the note begins that tells a split of ours from one that the data set brought."""
ALIKE = "classes that may be one"
"""How the note begins about classes whose names look alike."""
LEAKING = "in more than one split, so the result flatters: "
"""What the note says about equal files in several splits, ahead of its advice."""

__all__ = ["ALIKE", "LEAKING", "OWN_SPLIT", "SPLITS", "read_dataset", "survey"]


def read_dataset(
    root: Path,
    *,
    val: float = 0.15,
    test: float = 0.15,
    classes: tuple[str, ...] = (),
    columns: Columns | None = None,
    path_column: str = "path",
    label_column: str = "label",
    split_column: str = SPLIT,
    progress: Progress | None = None,
    workers: int | None = None,
    judging: bool = False,
) -> Dataset:
    """Lists, opens and splits the pictures of a data set.

    Args:
        root: a folder of class folders, a folder of split folders, or a CSV file.
        val: share of pictures for val where the split is ours to make (0 for none).
        test: likewise for test; not used when the data set has splits of its own.
        classes: the classes in the order wanted, as of a trained model; () takes those found, sorted.
        columns: all that can be said about a table's columns, and about folds; the next three are not used then.
        path_column: CSV only, likewise the next two.
        label_column: class names, several joined by `|`.
        split_column: may be absent from the table, and is recognised under other names; "" for none.
        progress: called with (files done, files in all).
        workers: threads; None means one a core.
        judging: nothing is to be learnt from the data, so it needs no train split.

    Raises:
        DataError: the data set cannot be used; the message says what to do.

    Examples:
        >>> import convnext
        >>> data = convnext.read_dataset("photos")
        >>> data.classes, sum(len(samples) for samples in data.splits.values())
        (('narrow', 'wide'), 80)
    """
    reading = Reading(val, test, classes, columns or Columns(path_column, label_column, split_column), judging=judging)
    return survey(root, reading, progress, workers)[0]


def survey(
    root: Path, reading: Reading, progress: Progress | None = None, workers: int | None = None
) -> tuple[Dataset, dict[Path, Facts]]:
    """`read_dataset`, and with it what the check found in every file."""
    val, test, judging = reading.val, reading.test, reading.judging
    columns, classes = reading.columns, reading.classes
    _check_shares(val, test)
    root = _existing(root)
    if not is_text(root):
        raise DataError(
            f"{printable(root)}: the path is not text in UTF-8, so a recipe cannot name it; rename the folder"
        )
    if root.is_dir():
        listing = list_folder(root, columns, judging=judging, known=classes)
    else:
        listing = list_table(root, columns, judging=judging, known=classes)
    facts = check_files([entry.path for entry in listing.entries], root=root, progress=progress, workers=workers)
    readable = [entry for entry in listing.entries if not facts[entry.path].reason]
    broken = [Broken(entry.path, facts[entry.path].reason) for entry in listing.entries if facts[entry.path].reason]
    broken.extend(Broken(path, reason) for path, reason in listing.unreadable)
    if not readable:
        raise DataError(_nothing_readable(root, broken))
    names = _classes(root, listing, classes, judging)
    _refuse_lost_classes(listing, facts)
    splits, notes = _split(listing, readable, facts, val, test)
    dataset = Dataset(
        root=root,
        layout=listing.layout,
        classes=names,
        multi_label=listing.multi_label,
        splits=_samples(readable, splits, names, facts),
        broken=tuple(sorted(broken, key=lambda item: item.path.as_posix())),
        notes=(
            *listing.notes,
            *_alike(names),
            *missing_classes(names, classes),
            *notes,
            *remarks([facts[entry.path] for entry in readable]),
        ),
        scales=scales_of((entry.path, facts[entry.path]) for entry in readable if splits[entry.path] == "train"),
        split_column=listing.split_column,
        groups={entry.path: entry.group for entry in readable if entry.group},
    )
    return dataset, facts


def _alike(names: Sequence[str]) -> list[str]:
    """A remark about classes whose names differ only in case, spaces and the like."""
    twins = look_alikes(names)
    return [f"{ALIKE}: {twins}"] if twins else []


def _check_shares(val: float, test: float) -> None:
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise DataError(
            f"val={val:g} and test={test:g}: shares of the pictures must be at least 0 and leave some for training: "
            f"their sum must be below 1, as in val=0.15 and test=0.15"
        )


def _existing(root: Path) -> Path:
    """The data set's absolute path; a DataError when it is neither a folder nor a table."""
    root = Path(root).expanduser().absolute()
    shown = printable(root)
    try:
        if root.is_dir():
            return root
        if not root.exists():
            guess = did_you_mean(root.name, _data_sets_in(root.parent))
            raise DataError(f"{shown}: no such folder or file{guess}: expected {EXPECTED}")
    except OSError as error:
        raise DataError(f"{shown}: cannot be opened: {(error.strerror or str(error)).lower()}") from error
    suffix = root.suffix.lower()
    if suffix in TABLE_SUFFIXES:
        return root
    if suffix in PICTURE_SUFFIXES:
        raise DataError(f"{shown}: a single picture, not a data set: expected {EXPECTED}")
    if suffix in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"):
        tars = ", or if it holds a tar for each class: convnext data shard" if suffix == ".tar" else ""
        raise DataError(f"{shown}: a packed archive: unpack it and give the folder{tars}")
    raise DataError(f"{shown}: neither a folder nor a CSV file: expected {EXPECTED}")


def _data_sets_in(folder: Path) -> list[str]:
    """Names beside which a misspelt one may have been meant."""
    if not folder.is_dir():
        return []
    return [item.name for item in folder.iterdir() if item.is_dir() or item.suffix.lower() in TABLE_SUFFIXES]


def _nothing_readable(root: Path, broken: list[Broken]) -> str:
    if not broken:
        return f"{printable(root)}: no pictures in it: expected {EXPECTED}"
    first = broken[0]
    return (
        f"{printable(root)}: none of its {count(len(broken), 'picture')} can be read; the first, "
        f"{printable(first.path)}: {first.reason}"
    )


def _classes(root: Path, listing: Listing, wanted: tuple[str, ...], judging: bool) -> tuple[str, ...]:
    """The classes in their order: those wanted, or those found."""
    found = in_order(name for entry in listing.entries for name in entry.labels)
    if wanted:
        retrain = "" if judging else ", or set data.classes=[] to take what is there"
        for name in found:
            if name not in wanted:
                raise DataError(
                    f'{printable(root)}: class "{printable(name)}" is not one of the classes asked for'
                    f"{did_you_mean(name, wanted)}: {listed(wanted)}; rename it or leave it out{retrain}"
                )
        return wanted
    if not found:
        raise DataError(f"{printable(root)}: no picture has a label, so there is nothing to learn; give some a class")
    if len(found) < 2 and not judging and not listing.multi_label:
        hint = _deeper(root, found) if listing.layout != "csv" else ""
        raise DataError(
            f'{printable(root)}: a single class ("{printable(found[0])}"): '
            f"a classifier needs two or more to tell apart{hint}"
        )
    if not judging:
        _refuse_unseen(root, listing)
    return tuple(found)


def _deeper(root: Path, found: list[str]) -> str:
    """A hint when the only class folder itself holds folders, as after unpacking an archive into a folder."""
    inner = root / found[0]
    folders = [item.name for item in inner.iterdir() if item.is_dir()] if inner.is_dir() else []
    return f"; did you mean {printable(inner)}, which holds {listed(sorted(folders), 5)}?" if len(folders) > 1 else ""


def _refuse_unseen(root: Path, listing: Listing) -> None:
    """A class of a given val or test split must be in train as well."""
    if all(entry.split is None for entry in listing.entries):
        return
    known = {name for entry in listing.entries if entry.split == "train" for name in entry.labels}
    for entry in listing.entries:
        for name in entry.labels:
            if name not in known:
                raise DataError(
                    f'{printable(root)}: class "{printable(name)}" is in {entry.split} but not in train'
                    f"{did_you_mean(name, known)}: every class needs pictures to learn from"
                )


def _refuse_lost_classes(listing: Listing, facts: Mapping[Path, Facts]) -> None:
    """A class whose pictures (in train, when the data set has splits) are all broken cannot be learnt."""
    entries: dict[str, list[Entry]] = defaultdict(list)
    for entry in listing.entries:
        if entry.split in (None, "train"):
            for name in entry.labels:
                entries[name].append(entry)
    for name, members in sorted(entries.items()):
        if all(facts[entry.path].reason for entry in members):
            first = members[0].path
            raise DataError(
                f'class "{printable(name)}": {_all_of(len(members))} broken; the first, {printable(first)}: '
                f"{facts[first].reason}: replace the files or take the class out of the data set"
            )


def _all_of(number: int) -> str:
    return "its only picture is" if number == 1 else f"all {number:,} pictures are"


def _split(
    listing: Listing, readable: list[Entry], facts: Mapping[Path, Facts], val: float, test: float
) -> tuple[dict[Path, str], list[str]]:
    """The split of every readable picture, and the remarks about how it was decided."""
    given = {entry.path: entry.split for entry in readable if entry.split is not None}
    for split in SPLITS:
        members = [entry.path for entry in listing.entries if entry.split == split]
        if members and split not in given.values():
            raise DataError(
                f"the {split} split: {_all_of(len(members))} broken; the first, {printable(members[0])}: "
                f"{facts[members[0]].reason}: replace the files or take the split out of the data set"
            )
    notes = _leaking(given, facts)
    by = f"each group of column {listing.grouped}" if listing.grouped else "each file's content"
    if not given:
        splits = _by_content(readable, facts, val, test)
        wanted = [f"{share:.0%} {split}" for split, share in (("val", val), ("test", test)) if share > 0]
        notes += [f"{OWN_SPLIT}: {' and '.join(wanted) or 'all train'}, decided by {by}"]
        return splits, notes + _lacking(readable, splits, wanted, listing.grouped)
    splits = dict(given)
    if "val" in given.values() or val == 0:
        return splits, notes
    train = [entry for entry in readable if entry.split == "train"]
    splits.update(_by_content(train, facts, val, 0.0))
    return splits, [*notes, f"no val split given: {val:.0%} of train were taken for it, decided by {by}"]


def _leaking(given: Mapping[Path, str], facts: Mapping[Path, Facts]) -> list[str]:
    """A remark when equal files are in several of the user's own splits."""
    places: dict[str, set[str]] = defaultdict(set)
    for path, split in given.items():
        places[facts[path].sha256].add(split)
    several = sum(len(splits) > 1 for splits in places.values())
    if not several:
        return []
    return [f"{count(several, 'picture is', 'pictures are')} {LEAKING}`convnext doctor` names them"]


def _by_content(entries: list[Entry], facts: Mapping[Path, Facts], val: float, test: float) -> dict[Path, str]:
    """The split of every picture: what has one content, or belongs to one group, is in one split."""
    units = join_groups([(facts[entry.path].sha256, entry.group) for entry in entries])
    labels: dict[str, set[str]] = defaultdict(set)
    for entry, unit in zip(entries, units, strict=True):
        labels[unit].update(entry.labels)
    by_unit = stable_split(labels, val=val, test=test)
    return {entry.path: by_unit[unit] for entry, unit in zip(entries, units, strict=True)}


def _lacking(readable: list[Entry], splits: Mapping[Path, str], wanted: list[str], grouped: str) -> list[str]:
    """A remark about the classes that are too small to be split."""
    if not wanted:
        return []
    names = {name for entry in readable for name in entry.labels}
    outside = {name for entry in readable if splits[entry.path] != "train" for name in entry.labels}
    small = in_order(names - outside)
    what = "groups" if grouped else "different pictures"
    return [f"all train, because fewer than 3 {what}: {listed(small)}"] if small else []


def _samples(
    readable: list[Entry], splits: Mapping[Path, str], classes: tuple[str, ...], facts: Mapping[Path, Facts]
) -> dict[str, tuple[Sample, ...]]:
    index = {name: number for number, name in enumerate(classes)}
    samples: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    for entry in readable:
        labels = tuple(sorted(index[name] for name in entry.labels))
        content = bytes.fromhex(facts[entry.path].sha256)[:CONTENT_BYTES]
        samples[splits[entry.path]].append(Sample(entry.path, labels, content))
    return {
        split: tuple(sorted(members, key=lambda sample: sample.path.as_posix()))
        for split, members in samples.items()
        if members
    }
