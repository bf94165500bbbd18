"""The doctor on classes: how many pictures each has, what gives it away, which may be one."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import PurePath

from convnext.data.doctor.findings import Finding, Picture
from convnext.data.names import count, listed, look_alikes
from convnext.data.sources.dataset import Dataset
from convnext.tasks.classify.meaning import ALIKE, counts

SMALL_CLASS = 20  # training pictures below which a class is called small
UNEVEN = (3.0, 10.0)  # largest to smallest class: a note from the first on, a warning from the second
FEW = 200  # pictures below which a split judges roughly
_GIVEAWAY = 0.5  # share of the majority guess's mistakes that a giveaway avoids


def balance(data: Dataset) -> list[Finding]:
    """Small classes, uneven classes, classes that a split lacks, splits too small to judge by."""
    train = counts(data, "train")
    present = [(number, name) for number, name in zip(train, data.classes, strict=True) if number]
    found: list[Finding] = []
    small = sorted((number, name) for number, name in present if number < SMALL_CLASS)
    if small:
        names = listed((f"{name} {number}" for number, name in small), 8)
        message = (
            f"{count(len(small), 'class has', 'classes have')} fewer than {SMALL_CLASS} training pictures: {names}"
        )
        found.append(Finding("warning", "small_class", message, "collect more of them, or merge classes"))
    if len(present) > 1 and max(present)[0] >= UNEVEN[0] * min(present)[0]:
        (most, largest), (least, smallest) = max(present), min(present)
        message = (
            f'uneven classes: "{largest}" has {most:,} training pictures, "{smallest}" {least:,} ({most / least:.0f}:1)'
        )
        advice = (
            "judge by balanced accuracy and macro F1; try train.class_balance=0.5; collect more of the rare classes"
        )
        found.append(Finding("warning" if most >= UNEVEN[1] * least else "note", "imbalance", message, advice))
    for split in ("val", "test"):
        found.extend(_judges(data, split))
    return found


def _judges(data: Dataset, split: str) -> list[Finding]:
    """What is wrong with a split that shall judge."""
    samples = data.splits.get(split, ())
    if not samples:
        return []
    found: list[Finding] = []
    lacking = [name for name, number in zip(data.classes, counts(data, split), strict=True) if not number]
    if lacking:
        message = f"{split} has no picture of {listed(lacking, 8)}"
        advice = "put some there: nothing can be said about a class that is never judged"
        found.append(Finding("warning", "missing_class", message, advice))
    if len(samples) < FEW:
        points = 196 * math.sqrt(0.8 * 0.2 / len(samples))
        message = (
            f"{split} has only {count(len(samples), 'picture')}: an accuracy of 80% is uncertain by {points:.0f} points"
        )
        advice = "judge with more; `convnext compare` tells on few which of two runs is better"
        found.append(Finding("note", "few_to_judge", message, advice))
    return found


def similar_names(classes: Sequence[str]) -> list[Finding]:
    """Classes whose names differ only in case, spaces and the like."""
    twins = look_alikes(classes)
    if not twins:
        return []
    message = f"{ALIKE}: {twins}"
    return [Finding("warning", "class_names", message, "rename one if they mean the same")]


def giveaways(pictures: Sequence[Picture]) -> list[Finding]:
    """Traits that tell the class without looking at the picture, so that the network may learn them instead."""
    if any(len(p.target) != 1 for p in pictures):
        return []
    traits: dict[str, Callable[[Picture], object]] = {
        "the file format": lambda p: PurePath(p.name).suffix.lower(),
        "the size in pixels": lambda p: (p.facts.width, p.facts.height),
        "being gray or coloured": lambda p: p.facts.gray,
    }
    labels = [p.target[0] for p in pictures]
    majority = max(Counter(labels).values()) / len(labels)
    found: list[Finding] = []
    for name, trait in traits.items():
        right = _guessed([trait(p) for p in pictures], labels)
        if right - majority >= _GIVEAWAY * (1 - majority) > 0:
            message = (
                f"{name} alone tells the class of {right:.0%} of the pictures "
                f"(always naming the largest class: {majority:.0%})"
            )
            advice = "the network may learn that instead of what it should see: bring all classes to the same form"
            found.append(Finding("warning", "giveaway", message, advice))
    return found


def _guessed(traits: Sequence[object], labels: Sequence[int]) -> float:
    """Share of pictures whose class is the most frequent one among the *other* pictures with the same trait."""
    groups: dict[object, Counter[int]] = defaultdict(Counter)
    for trait, label in zip(traits, labels, strict=True):
        groups[trait][label] += 1
    right = 0
    for group in groups.values():
        for label, number in group.items():
            rivals = max((other for name, other in group.items() if name != label), default=0)
            right += number if number - 1 > rivals else 0
    return right / len(labels)
