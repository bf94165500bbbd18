"""The doctor on everything but copies: how many pictures a class has, how large they are, what gives a class away."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import PurePath

from convnext.data.dataset import Broken, Dataset
from convnext.data.findings import Case, Finding, Picture
from convnext.data.names import count, figure, listed, look_alikes
from convnext.data.scales import BLANK, DARK, Scale, range_for
from convnext.errors import DataError

SMALL_CLASS = 20  # training pictures below which a class is called small
UNEVEN = (3.0, 10.0)  # largest to smallest class: a note from the first on, a warning from the second
TINY = 32  # pixels of the short side; a ConvNeXt reduces 32 pixels to one position
HUGE = 8_000_000  # pixels
FAR_FROM_SQUARE = 2.0  # long to short side, from which on a central crop leaves out half of a picture or more
FEW = 200  # pictures below which a split judges roughly
_GIVEAWAY = 0.5  # share of the majority guess's mistakes that a giveaway avoids


def unreadable(broken: Sequence[Broken], total: int, name: Callable[[Broken], str]) -> list[Finding]:
    """Files that cannot be opened, with their reasons."""
    if not broken:
        return []
    cases = tuple(Case((name(item),), item.reason) for item in broken)
    message = f"{count(len(broken), 'file')} of {total + len(broken):,} cannot be read"
    advice = "fetch them again or delete them; until then they are left out"
    return [Finding("warning", "unreadable", message, advice, cases)]


def balance(data: Dataset) -> list[Finding]:
    """Small classes, uneven classes, classes that a split lacks, splits too small to judge by."""
    train = data.counts("train")
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
    lacking = [name for name, number in zip(data.classes, data.counts(split), strict=True) if not number]
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
    message = f"classes that may be one: {twins}"
    return [Finding("warning", "class_names", message, "rename one if they mean the same")]


def looks(pictures: Sequence[Picture]) -> list[Finding]:
    """Blank, tiny, huge, long and gray pictures."""
    total = len(pictures)
    found: list[Finding] = []
    blank = [p for p in pictures if p.facts.contrast < BLANK]
    if blank:
        message = f"{count(len(blank), 'picture is', 'pictures are')} blank (one colour all over)"
        found.append(
            Finding("warning", "blank", message, "delete them, unless nothing is a class of yours", _one_each(blank))
        )
    tiny = sorted((p for p in pictures if p.short_side < TINY), key=lambda p: p.short_side)
    if 2 * len(tiny) > total:
        message = f"small pictures: {len(tiny):,} of {total:,} have a side below {TINY} px"
        advice = "model.stem_patch=1 or 2 suits them; it is chosen by itself where it is left open"
        found.append(Finding("note", "tiny", message, advice, _one_each(tiny, size=True)))
    elif tiny:
        message = f"{count(len(tiny), 'picture has', 'pictures have')} a side below {TINY} px"
        advice = "see whether they are thumbnails by mistake; they will be enlarged"
        found.append(Finding("warning", "tiny", message, advice, _one_each(tiny, size=True)))
    huge = sorted((p for p in pictures if _area(p) > HUGE), key=lambda p: -_area(p))
    if huge:
        message = f"{count(len(huge), 'picture has', 'pictures have')} more than {HUGE // 10**6} million pixels"
        advice = "train on a copy scaled to a short side of about 512 px: reading will be many times faster"
        found.append(Finding("note", "huge", message, advice, _one_each(huge, size=True)))
    return found + _far_from_square(pictures) + _gray(pictures)


def _far_from_square(pictures: Sequence[Picture]) -> list[Finding]:
    """Pictures of which the central crop of evaluation leaves out half or more; a warning where they are many."""
    far = [p for p in pictures if p.long_side > FAR_FROM_SQUARE * p.short_side]
    if not far:
        return []
    far.sort(key=lambda p: -p.long_side / p.short_side)
    many = 5 * len(far) >= len(pictures)
    message = (
        f"{count(len(far), 'picture is', 'pictures are')} far from square (more than {FAR_FROM_SQUARE:.0f} times as "
        "long as wide)"
    )
    advice = (
        "evaluation and prediction crop the middle and leave out half of such a picture or more: data.fit=pad shows "
        "all of it, data.fit=squash warps it to a square"
    )
    return [Finding("warning" if many else "note", "elongated", message, advice, _one_each(far, size=True))]


def values(pictures: Sequence[Picture], scales: Sequence[Scale]) -> list[Finding]:
    """Nearly black pictures, and values whose range their format does not say."""
    found: list[Finding] = []
    dark = [p for p in pictures if p.facts.full and 0 < p.facts.high <= p.facts.full / DARK]
    deep = [p for p in dark if p.facts.kind]
    if deep:
        high = max(p.facts.high for p in deep)
        bits = math.ceil(math.log2(high + 1))
        message = (
            f"{count(len(deep), 'picture of 16 bits is', 'pictures of 16 bits are')} nearly black: the values end at "
            f"{figure(high)} of {figure(deep[0].facts.full)}"
        )
        advice = f"train with data.value_range=[0, {2**bits - 1}] if all pictures are of {bits} bits"
        found.append(Finding("warning", "dark", message, advice, _one_each(deep)))
    plain = [p for p in dark if not p.facts.kind and p.facts.contrast >= BLANK]
    if plain:
        message = f"{count(len(plain), 'picture is', 'pictures are')} nearly black: no value above 1/{DARK} of white"
        advice = "see whether they were stored on another scale: what is so dark is hardly told from noise"
        found.append(Finding("warning", "dark", message, advice, _one_each(plain)))
    if any(not scale.full for scale in scales):
        try:
            chosen, why = range_for(scales)
            black, white = chosen or (0.0, 0.0)
            message = f"values without a range of their own: {why}"
            advice = (
                f"training takes data.value_range=[{black:g}, {white:g}] for all; set it if that is not their scale"
            )
            found.append(Finding("note", "value_range", message, advice))
        except DataError as error:
            message, _, advice = str(error).rpartition("; ")
            found.append(Finding("warning", "value_range", message, advice))
    return found


def _gray(pictures: Sequence[Picture]) -> list[Finding]:
    gray = [p for p in pictures if p.facts.gray]
    if not gray:
        return []
    if len(gray) == len(pictures):
        advice = "a network with one input channel (model.in_chans=1) is enough when it is trained from scratch"
        return [Finding("note", "grayscale", "all pictures are gray", advice)]
    message = f"{len(gray):,} of {len(pictures):,} pictures are gray"
    return [Finding("note", "grayscale", message, "nothing, if gray pictures will also come later", _one_each(gray))]


def giveaways(pictures: Sequence[Picture], classes: Sequence[str]) -> list[Finding]:
    """Traits that tell the class without looking at the picture, so that the network may learn them instead."""
    if any(len(p.labels) != 1 for p in pictures):
        return []
    traits: dict[str, Callable[[Picture], object]] = {
        "the file format": lambda p: PurePath(p.name).suffix.lower(),
        "the size in pixels": lambda p: (p.facts.width, p.facts.height),
        "being gray or coloured": lambda p: p.facts.gray,
    }
    labels = [p.labels[0] for p in pictures]
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


def sizes(pictures: Sequence[Picture]) -> dict[str, int]:
    """Smallest, median and largest short side, in pixels."""
    ordered = sorted(p.short_side for p in pictures)
    return {"smallest": ordered[0], "median": ordered[len(ordered) // 2], "largest": ordered[-1]}


def _area(picture: Picture) -> int:
    return picture.facts.width * picture.facts.height


def _one_each(pictures: Sequence[Picture], size: bool = False) -> tuple[Case, ...]:
    return tuple(Case((p.name,), f"{p.facts.width} x {p.facts.height}" if size else "") for p in pictures)
