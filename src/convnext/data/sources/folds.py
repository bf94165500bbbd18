"""K folds: every picture is held out once; equal files, and those of one group, are always held out together.

The pictures' contents (their SHA-256) are dealt to the folds stratum by stratum (class by class), the rarest first, in
the order of the number that `data.split` draws for each content: so each fold has each stratum's share, as far as whole
pictures go, and the same pictures give the same folds wherever they lie. A content of several strata is dealt once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from convnext.data.names import count, listed, printable
from convnext.data.sources.check import check_files
from convnext.data.sources.dataset import Dataset, Sample
from convnext.data.sources.listing import SPLITS
from convnext.data.sources.read import OWN_SPLIT
from convnext.data.sources.split import draw, join_groups, stable_split
from convnext.errors import DataError


def deal(strata: Mapping[str, Iterable[str]], folds: int) -> dict[str, int]:
    """The fold, 1 to `folds`, of every content, by all the strata under which it occurs."""
    strata_of = {content: frozenset(names) for content, names in strata.items()}
    members: dict[str, list[str]] = defaultdict(list)
    for content in sorted(strata_of, key=lambda content: (draw(content), content)):
        for name in strata_of[content] or {""}:
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
            for other in strata_of[content] or {""}:
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
        DataError: a stratum with a single picture, which no model could know when it is held out.
    """
    ours = any(note.startswith(OWN_SPLIT) for note in dataset.notes)
    taken = SPLITS if ours else ("train", "val")
    pool = [sample for split in taken for sample in dataset.splits.get(split, ())]
    aside = sum(len(samples) for split, samples in dataset.splits.items() if split not in taken)
    facts = check_files([sample.path for sample in pool], root=dataset.root)
    units = join_groups([(facts[sample.path].sha256, dataset.groups.get(sample.path, "")) for sample in pool])
    content = {sample.path: unit for sample, unit in zip(pool, units, strict=True)}
    strata: dict[str, set[str]] = defaultdict(set)
    for sample, names in zip(pool, dataset.meaning.strata([sample.target for sample in pool]), strict=True):
        strata[content[sample.path]].update(names)
    few = _refuse_single(dataset, strata, folds)
    of = deal(strata, folds)
    rest = {sha: names for sha, names in strata.items() if of[sha] != fold}
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


def _refuse_single(dataset: Dataset, strata: Mapping[str, set[str]], folds: int) -> list[str]:
    """The strata that are too small for every fold; those of a single content are refused."""
    contents = Counter(name for names in strata.values() for name in names)
    if len(strata) < folds:
        raise DataError(f"{printable(dataset.root)}: {len(strata)} different pictures cannot make {folds} folds")
    single = sorted(name for name in contents if contents[name] < 2)
    if single:
        raise DataError(
            f"{printable(dataset.root)}: fewer than two different pictures of {listed(single)}: held out, nothing "
            "would be left to learn from; add some or take these out"
        )
    return sorted(name for name in contents if contents[name] < folds)
