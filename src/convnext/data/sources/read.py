"""From a folder or a CSV file to a `Dataset` that training can trust.

What the pictures are paired with is found by the task's `Targets`. A split that the data brings is kept; else pictures
are split by the rule in `split`, and val is taken from train where it alone is missing.

Every file is opened once, by `checked`; those that cannot be read are listed in `Dataset.broken` and left out of the
splits, so that training never meets them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convnext.data.names import count, did_you_mean, in_order, is_text, listed, printable
from convnext.data.pictures.decode import PICTURE_SUFFIXES
from convnext.data.pictures.scales import remarks, scales_of
from convnext.data.sources.check import Facts, Progress, check_files
from convnext.data.sources.dataset import CONTENT_BYTES, Broken, Dataset, Sample
from convnext.data.sources.listing import SPLITS, Entry, Listing
from convnext.data.sources.reading import Reading
from convnext.data.sources.split import join_groups, stable_split
from convnext.data.sources.table import TABLE_SUFFIXES, list_table
from convnext.data.sources.targets import Targets
from convnext.errors import DataError

OWN_SPLIT = "split by us"
"""How the note begins that tells a split of ours from one that the data set brought."""
LEAKING = "in more than one split, so the result flatters: "
"""What the note says about equal files in several splits, ahead of its advice."""


def survey(
    root: Path, reading: Reading, targets: Targets, progress: Progress | None = None, workers: int | None = None
) -> tuple[Dataset, dict[Path, Facts]]:
    """Lists, opens and splits the pictures of a folder or a table.

    Args:
        root: the folder, or the CSV file.
        reading: what is asked of it.
        targets: finds what the pictures are paired with.
        progress: called with (files done, files in all).
        workers: threads; None means one a core.

    Returns:
        The data set, and what the check found in every file.

    Raises:
        DataError: the data set cannot be used; the message says what to do.
    """
    _check_shares(reading.val, reading.test)
    root = _existing(root, targets.expected)
    if not is_text(root):
        raise DataError(
            f"{printable(root)}: the path is not text in UTF-8, so a recipe cannot name it; rename the folder"
        )
    listing = targets.in_folder(root, reading) if root.is_dir() else list_table(root, reading, targets)
    facts = check_files([entry.path for entry in listing.entries], root=root, progress=progress, workers=workers)
    readable = [entry for entry in listing.entries if not facts[entry.path].reason]
    broken = [Broken(entry.path, facts[entry.path].reason) for entry in listing.entries if facts[entry.path].reason]
    broken.extend(Broken(path, reason) for path, reason in listing.unreadable)
    if not readable:
        raise DataError(_nothing_readable(root, broken, targets.expected))
    meaning = targets.settle(root, listing, reading)
    targets.refuse_broken(listing, facts, [e for e in listing.entries if e.split in (None, "train")])
    encoded = [meaning.encode(entry.truth) for entry in readable]
    splits, notes = _split(listing, readable, meaning.strata(encoded), facts, reading)
    dataset = Dataset(
        root=root,
        layout=listing.layout,
        meaning=meaning,
        splits=_samples(readable, encoded, splits, facts),
        broken=tuple(sorted(broken, key=lambda item: item.path.as_posix())),
        notes=(
            *listing.notes,
            *targets.remarks(meaning, reading),
            *notes,
            *remarks([facts[entry.path] for entry in readable]),
        ),
        scales=scales_of((entry.path, facts[entry.path]) for entry in readable if splits[entry.path] == "train"),
        split_column=listing.split_column,
        groups={entry.path: entry.group for entry in readable if entry.group},
    )
    return dataset, facts


def _check_shares(val: float, test: float) -> None:
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise DataError(
            f"val={val:g} and test={test:g}: shares of the pictures must be at least 0 and leave some for training: "
            f"their sum must be below 1, as in val=0.15 and test=0.15"
        )


def _existing(root: Path, expected: str) -> Path:
    """The data set's absolute path; a DataError when it is neither a folder nor a table."""
    root = Path(root).expanduser().absolute()
    shown = printable(root)
    try:
        if root.is_dir():
            return root
        if not root.exists():
            guess = did_you_mean(root.name, _data_sets_in(root.parent))
            raise DataError(f"{shown}: no such folder or file{guess}: expected {expected}")
    except OSError as error:
        raise DataError(f"{shown}: cannot be opened: {(error.strerror or str(error)).lower()}") from error
    suffix = root.suffix.lower()
    if suffix in TABLE_SUFFIXES:
        return root
    if suffix in PICTURE_SUFFIXES:
        raise DataError(f"{shown}: a single picture, not a data set: expected {expected}")
    if suffix in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"):
        tars = ", or if it holds a tar for each class: convnext data shard" if suffix == ".tar" else ""
        raise DataError(f"{shown}: a packed archive: unpack it and give the folder{tars}")
    raise DataError(f"{shown}: neither a folder nor a CSV file: expected {expected}")


def _data_sets_in(folder: Path) -> list[str]:
    """Names beside which a misspelt one may have been meant."""
    if not folder.is_dir():
        return []
    return [item.name for item in folder.iterdir() if item.is_dir() or item.suffix.lower() in TABLE_SUFFIXES]


def _nothing_readable(root: Path, broken: list[Broken], expected: str) -> str:
    if not broken:
        return f"{printable(root)}: no pictures in it: expected {expected}"
    first = broken[0]
    return (
        f"{printable(root)}: none of its {count(len(broken), 'picture')} can be read; the first, "
        f"{printable(first.path)}: {first.reason}"
    )


def all_of(number: int) -> str:
    """All pictures of something, or its only one."""
    return "its only picture is" if number == 1 else f"all {number:,} pictures are"


def _split(
    listing: Listing,
    readable: list[Entry],
    strata: Sequence[frozenset[str]],
    facts: Mapping[Path, Facts],
    reading: Reading,
) -> tuple[dict[Path, str], list[str]]:
    """The split of every readable picture, and the remarks about how it was decided."""
    val, test = reading.val, reading.test
    given = {entry.path: entry.split for entry in readable if entry.split is not None}
    for split in SPLITS:
        members = [entry.path for entry in listing.entries if entry.split == split]
        if members and split not in given.values():
            raise DataError(
                f"the {split} split: {all_of(len(members))} broken; the first, {printable(members[0])}: "
                f"{facts[members[0]].reason}: replace the files or take the split out of the data set"
            )
    notes = _leaking(given, facts)
    by = f"each group of column {listing.grouped}" if listing.grouped else "each file's content"
    if not given:
        splits = _by_content(readable, strata, facts, val, test)
        wanted = [f"{share:.0%} {split}" for split, share in (("val", val), ("test", test)) if share > 0]
        notes += [f"{OWN_SPLIT}: {' and '.join(wanted) or 'all train'}, decided by {by}"]
        return splits, notes + _lacking(readable, strata, splits, wanted, listing.grouped)
    splits = dict(given)
    if "val" in given.values() or val == 0:
        return splits, notes
    train = [(entry, found) for entry, found in zip(readable, strata, strict=True) if entry.split == "train"]
    splits.update(_by_content([entry for entry, _ in train], [found for _, found in train], facts, val, 0.0))
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


def _by_content(
    entries: list[Entry], strata: Sequence[frozenset[str]], facts: Mapping[Path, Facts], val: float, test: float
) -> dict[Path, str]:
    """The split of every picture: what has one content, or belongs to one group, is in one split."""
    units = join_groups([(facts[entry.path].sha256, entry.group) for entry in entries])
    found: dict[str, set[str]] = defaultdict(set)
    for unit, names in zip(units, strata, strict=True):
        found[unit].update(names)
    by_unit = stable_split(found, val=val, test=test)
    return {entry.path: by_unit[unit] for entry, unit in zip(entries, units, strict=True)}


def _lacking(
    readable: list[Entry],
    strata: Sequence[frozenset[str]],
    splits: Mapping[Path, str],
    wanted: list[str],
    grouped: str,
) -> list[str]:
    """A remark about the strata that are too small to be split."""
    if not wanted:
        return []
    placed = [(splits[entry.path], names) for entry, names in zip(readable, strata, strict=True)]
    outside = {name for split, names in placed if split != "train" for name in names}
    small = in_order({name for _, names in placed for name in names} - outside)
    what = "groups" if grouped else "different pictures"
    return [f"all train, because fewer than 3 {what}: {listed(small)}"] if small else []


def _samples(
    readable: list[Entry], encoded: Sequence[Any], splits: Mapping[Path, str], facts: Mapping[Path, Facts]
) -> dict[str, tuple[Sample, ...]]:
    samples: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    for entry, target in zip(readable, encoded, strict=True):
        content = bytes.fromhex(facts[entry.path].sha256)[:CONTENT_BYTES]
        samples[splits[entry.path]].append(Sample(entry.path, target, content))
    return {
        split: tuple(sorted(members, key=lambda sample: sample.path.as_posix()))
        for split, members in samples.items()
        if members
    }
