"""K folds: every picture is held out once; equal files, and those of one group, are always held out together.

The pictures' contents (their SHA-256) are dealt to the folds class by class, the rarest class first, in the order of
the number that `data.split` draws for each content: so each fold has each class's share, as far as whole pictures go,
and the same pictures give the same folds wherever they lie. A content that occurs under several classes is dealt once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from convnext.data.checked import check_files
from convnext.data.dataset import Dataset, Sample
from convnext.data.names import count, listed, printable
from convnext.data.sources import OWN_SPLIT, SPLITS
from convnext.data.split import draw, join_groups, stable_split
from convnext.errors import DataError


def deal(labels: Mapping[str, Iterable[str]], folds: int) -> dict[str, int]:
    """The fold, 1 to `folds`, of every content, by all the classes under which it occurs."""
    classes = {content: frozenset(names) for content, names in labels.items()}
    members: dict[str, list[str]] = defaultdict(list)
    for content in sorted(classes, key=lambda content: (draw(content), content)):
        for name in classes[content] or {""}:
            members[name].append(content)
    left = {name: len(contents) for name, contents in members.items()}
    held: dict[str, Counter[int]] = {name: Counter() for name in members}
    whole: Counter[int] = Counter()
    found: dict[str, int] = {}
    while left:
        name = min(left, key=lambda name: (left[name], name))
        for content in members[name]:
            if content in found:
                continue
            fold = min(range(1, folds + 1), key=lambda f: (held[name][f], whole[f], f))
            found[content] = fold
            whole[fold] += 1
            for other in classes[content] or {""}:
                held[other][fold] += 1
                if other in left:
                    left[other] -= 1
        del left[name]
    return found


def in_fold(dataset: Dataset, folds: int, fold: int, val: float) -> Dataset:
    """The data with one fold held out as its test split; val is taken from the rest, by each file's content.

    A train and a val split that the data brings are dealt together; a test split that it brings takes no part, and that
    is said.

    Raises:
        DataError: a class with a single picture, which no model could know when it is held out.
    """
    ours = any(note.startswith(OWN_SPLIT) for note in dataset.notes)
    taken = SPLITS if ours else ("train", "val")
    pool = [sample for split in taken for sample in dataset.splits.get(split, ())]
    aside = sum(len(samples) for split, samples in dataset.splits.items() if split not in taken)
    facts = check_files([sample.path for sample in pool], root=dataset.root)
    units = join_groups([(facts[sample.path].sha256, dataset.groups.get(sample.path, "")) for sample in pool])
    content = {sample.path: unit for sample, unit in zip(pool, units, strict=True)}
    labels: dict[str, set[str]] = defaultdict(set)
    for sample in pool:
        labels[content[sample.path]].update(dataset.classes[i] for i in sample.labels)
    few = _refuse_single(dataset, labels, folds)
    of = deal(labels, folds)
    rest = {sha: names for sha, names in labels.items() if of[sha] != fold}
    inner = stable_split(rest, val=val, test=0.0)
    splits: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    for sample in pool:
        sha = content[sample.path]
        splits["test" if of[sha] == fold else inner[sha]].append(sample)
    notes = [note for note in dataset.notes if not note.startswith((OWN_SPLIT, "no val split given"))]
    notes.append(f"fold {fold} of {folds} is test; {val:.0%} of the rest are val, decided by each file's content")
    if aside:
        notes.append(f"the data's own test split, {count(aside, 'picture')}, takes no part in the folds")
    if few:
        notes.append(f"fewer different pictures than folds, so not in each of them: {listed(few)}")
    ordered = {split: tuple(sorted(members, key=lambda s: s.path.as_posix())) for split, members in splits.items()}
    return replace(dataset, splits={split: s for split, s in ordered.items() if s}, notes=tuple(notes))


def _refuse_single(dataset: Dataset, labels: Mapping[str, set[str]], folds: int) -> list[str]:
    """The classes that are too small for every fold; those of a single content are refused."""
    contents = Counter(name for names in labels.values() for name in names)
    if len(labels) < folds:
        raise DataError(f"{printable(dataset.root)}: {len(labels)} different pictures cannot make {folds} folds")
    single = sorted(name for name in dataset.classes if contents[name] < 2)
    if single:
        raise DataError(
            f"{printable(dataset.root)}: fewer than two different pictures of {listed(single)}: held out, nothing "
            "would be left to learn from; add some or take the class out"
        )
    return sorted(name for name in dataset.classes if contents[name] < folds)
