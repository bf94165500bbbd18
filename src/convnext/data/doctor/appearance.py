"""The doctor on how pictures look: what cannot be read, what is blank, tiny, huge, long, gray or nearly black."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from convnext.data.doctor.findings import Case, Finding, Picture
from convnext.data.names import count, figure
from convnext.data.pictures.scales import BLANK, DARK, Scale, range_for
from convnext.data.sources.dataset import Broken
from convnext.errors import DataError

TINY = 32  # pixels of the short side; a ConvNeXt reduces 32 pixels to one position
HUGE = 8_000_000  # pixels
FAR_FROM_SQUARE = 2.0  # long to short side, from which on a central crop leaves out half of a picture or more


def unreadable(broken: Sequence[Broken], total: int, name: Callable[[Broken], str]) -> list[Finding]:
    """Files that cannot be opened, with their reasons."""
    if not broken:
        return []
    cases = tuple(Case((name(item),), item.reason) for item in broken)
    message = f"{count(len(broken), 'file')} of {total + len(broken):,} cannot be read"
    advice = "fetch them again or delete them; until then they are left out"
    return [Finding("warning", "unreadable", message, advice, cases)]


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


def sizes(pictures: Sequence[Picture]) -> dict[str, int]:
    """Smallest, median and largest short side, in pixels."""
    ordered = sorted(p.short_side for p in pictures)
    return {"smallest": ordered[0], "median": ordered[len(ordered) // 2], "largest": ordered[-1]}


def _area(picture: Picture) -> int:
    return picture.facts.width * picture.facts.height


def _one_each(pictures: Sequence[Picture], size: bool = False) -> tuple[Case, ...]:
    return tuple(Case((p.name,), f"{p.facts.width} x {p.facts.height}" if size else "") for p in pictures)
