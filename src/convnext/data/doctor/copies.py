"""The doctor on copies: the same picture twice, or two that look alike, under other targets or in other splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from convnext.data.doctor.findings import Case, Finding, Picture
from convnext.data.names import count
from convnext.data.pictures.phash import MAX_PAIRS, Pair, look_alikes
from convnext.data.pictures.scales import BLANK

_ORDER = {"train": 0, "val": 1, "test": 2}


def copies(pictures: Sequence[Picture], noun: str) -> list[Finding]:
    """Files of equal content; `noun`: what the targets are called, in the plural."""
    by_content: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        by_content[picture.facts.sha256].append(picture)
    groups = [_by_split(group) for group in by_content.values() if len(group) > 1]
    conflicts = [group for group in groups if len({picture.target for picture in group}) > 1]
    leaks = [group for group in groups if len({picture.split for picture in group}) > 1]
    plain = [group for group in groups if group not in conflicts and group not in leaks]
    found: list[Finding] = []
    if conflicts:
        message = f"{count(len(conflicts), 'picture lies', 'pictures lie')} under different {noun}"
        advice = "keep each picture once, under what is right, and delete its other copies: one picture cannot be both"
        found.append(Finding("error", "label_conflict", message, advice, _cases(conflicts)))
    if leaks:
        message = f"{count(len(leaks), 'picture is', 'pictures are')} in more than one split"
        advice = "delete the copies in train, or in the other split: what was learnt by heart must not be judged"
        found.append(Finding("error", "split_leak", message, advice, _cases(leaks)))
    if plain:
        message = (
            f"{count(len(plain), 'picture')} twice or more: {count(_spare(plain), 'needless copy', 'needless copies')}"
        )
        advice = "delete all but one of each: copies weigh double in training and in judging"
        found.append(Finding("warning", "exact_duplicates", message, advice, _cases(plain)))
    return found


def near_copies(pictures: Sequence[Picture], own_split: bool, noun: str) -> list[Finding]:
    """Pictures that look alike without being equal files. `own_split`: it was us who split the data set."""
    unique = list({p.facts.sha256: p for p in pictures if p.facts.contrast >= BLANK}.values())
    pairs = look_alikes([p.facts.fingerprint for p in unique], [p.facts.gradients for p in unique])
    leaks: list[tuple[Pair, Picture, Picture]] = []
    conflicts: list[tuple[Pair, Picture, Picture]] = []
    plain: list[tuple[Pair, Picture, Picture]] = []
    for pair in pairs:
        first, second = _by_split([unique[pair.first], unique[pair.second]])
        entry = (pair, first, second)
        if first.target != second.target:
            conflicts.append(entry)
        elif first.split != "train" or second.split == "train":
            plain.append(entry)
        if first.split == "train" and second.split != "train":
            leaks.append(entry)
    found: list[Finding] = []
    if leaks:
        found.append(_near_leaks(leaks, pictures, own_split))
    if conflicts:
        message = f"{count(len(conflicts), 'pair')} of look-alikes with different {noun}"
        advice = f"look at them: what is said of one may be wrong, or the {noun} overlap"
        found.append(Finding("warning", "near_label_conflict", message, advice, _pair_cases(conflicts)))
    if plain:
        many = " (the search stopped there)" if len(pairs) >= MAX_PAIRS else ""
        message = f"{count(len(plain), 'more pair' if found else 'pair')} of look-alikes{many}"
        advice = "edited copies and bursts teach little; where there are many, keep the best of each"
        found.append(Finding("note", "near_duplicates", message, advice, _pair_cases(plain)))
    return found


def _near_leaks(leaks: list[tuple[Pair, Picture, Picture]], pictures: Sequence[Picture], own_split: bool) -> Finding:
    judged = {second.name: second.split for _, _, second in leaks}
    parts = []
    for split in ("val", "test"):
        hits = sum(where == split for where in judged.values())
        if hits:
            parts.append(f"{hits:,} of {count(sum(p.split == split for p in pictures), f'{split} picture')}")
    verb = "looks" if len(judged) == 1 else "look"
    message = f"{' and '.join(parts)} {verb} like a train picture"
    if own_split:
        advice = (
            "if they are series of one thing, the result will flatter: split the data yourself (split folders or a "
            "split column) and keep each series in one split"
        )
    else:
        advice = "if they are series of one thing, the result will flatter: move each series into one split"
    return Finding("warning", "near_split_leak", message, advice, _pair_cases(leaks))


def _by_split(group: list[Picture]) -> list[Picture]:
    return sorted(group, key=lambda picture: (_ORDER[picture.split], picture.name))


def _spare(groups: list[list[Picture]]) -> int:
    return sum(len(group) - 1 for group in groups)


def _cases(groups: list[list[Picture]]) -> tuple[Case, ...]:
    """Cases with the largest groups first; the splits are told where the names do not show them."""
    ordered = sorted(groups, key=lambda group: (-len(group), group[0].name))
    return tuple(Case(tuple(p.name for p in group), _splits(group)) for group in ordered)


def _pair_cases(entries: list[tuple[Pair, Picture, Picture]]) -> tuple[Case, ...]:
    """Cases with the most alike first."""
    return tuple(
        Case((first.name, second.name), ", ".join(filter(None, (f"{pair.score:.0%} alike", _splits([first, second])))))
        for pair, first, second in entries
    )


def _splits(group: list[Picture]) -> str:
    """`train, val`: the splits of pictures whose names do not begin with them; nothing when they are all in one."""
    if len({p.split for p in group}) == 1 or all(p.name.lower().startswith(p.split) for p in group):
        return ""
    return ", ".join(p.split for p in group)
