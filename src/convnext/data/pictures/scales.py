"""On what scales the values of a data set's pictures are: one range for all of those that their format gives none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from convnext.data.names import count, figure, printable
from convnext.data.pictures.levels import Range, range_of
from convnext.data.sources.check import Facts
from convnext.errors import DataError, RecipeError

BLANK = 0.5
"""Contrast of the thumbnail below which a picture shows nothing."""
DARK = 8
"""A picture whose brightest value is this many times below white is nearly black."""
_MANY = 0.02  # share of blank pictures that is worth a word without being asked


@dataclass(frozen=True)
class Scale:
    """The pictures of one kind of value.

    Attributes:
        kind: such as "16-bit" or "32-bit float".
        full: what is white by the format; 0 where it does not say.
        pictures: how many.
        low: the smallest value in them.
        high: the largest.
        small: how many have no value above 1, but some above 0.
        first: one of these, or one of all.
    """

    kind: str
    full: float
    pictures: int
    low: float
    high: float
    small: int
    first: Path


def scales_of(found: Iterable[tuple[Path, Facts]]) -> tuple[Scale, ...]:
    """The kinds of more than 8 bits among pictures, the most frequent first."""
    kinds: dict[tuple[str, float], list[tuple[Path, Facts]]] = {}
    for path, facts in found:
        if facts.kind:
            kinds.setdefault((facts.kind, facts.full), []).append((path, facts))
    scales = []
    for (kind, full), members in kinds.items():
        small = [path for path, facts in members if 0 < facts.high <= 1 and facts.low >= 0]
        low, high = min(facts.low for _, facts in members), max(facts.high for _, facts in members)
        scales.append(Scale(kind, full, len(members), low, high, len(small), (small or [members[0][0]])[0]))
    return tuple(sorted(scales, key=lambda scale: -scale.pictures))


def range_for(scales: Sequence[Scale]) -> tuple[Range | None, str]:
    """The range of a data set, decided once over its training pictures, and why; None where the formats say it all.

    Raises:
        DataError: no one range serves them all.
    """
    loose = [scale for scale in scales if not scale.full]
    if not loose:
        return None, "integers of up to 16 bits: their format says what is white"
    remedy = "bring them to one scale, or set data.value_range=[BLACK, WHITE]"
    if len(loose) < len(scales):
        fixed = next(scale for scale in scales if scale.full)
        raise DataError(
            f"{count(loose[0].pictures, 'picture')} with {loose[0].kind} values beside {fixed.pictures:,} of "
            f"{fixed.kind}, as {printable(loose[0].first)}: one range cannot be told for both; {remedy}"
        )
    low, high = min(scale.low for scale in loose), max(scale.high for scale in loose)
    chosen, total, small = range_of(low, high), sum(s.pictures for s in loose), sum(s.small for s in loose)
    if chosen[1] - chosen[0] >= 255 and small:
        first = next(scale.first for scale in loose if scale.small)
        raise DataError(
            f"{small:,} of {count(total, 'picture')} with {loose[0].kind} values have none above 1, as "
            f"{printable(first)}, others reach {figure(high)}: these are two scales, and in one range the first are "
            f"black; {remedy}"
        )
    kinds = " and ".join(scale.kind for scale in loose)
    return chosen, f"the {kinds} values of {count(total, 'picture')} lie in {figure(low)} to {figure(high)}"


def range_of_recipe(setting: str | tuple[float, float]) -> Range | None:
    """What `data.value_range` of a recipe asks for; None for what the formats say.

    Raises:
        RecipeError: it is no range.
    """
    if isinstance(setting, str):
        return None
    black, white = (float(value) for value in setting)
    if not (math.isfinite(black) and math.isfinite(white) and black < white):
        raise RecipeError(f"data.value_range = [{black:g}, {white:g}]: two numbers, of black and, larger, of white")
    return black, white


def beyond(scales: Sequence[Scale], value_range: Range | None) -> str:
    """What a range does to pictures that is worth a word: it leaves them nearly black, or cuts them; "" otherwise."""
    for scale in scales:
        if scale.pictures and value_range is None and 0 < scale.high <= scale.full / DARK:
            bits = math.ceil(math.log2(scale.high + 1))
            return (
                f"warning: the {scale.kind} values of {count(scale.pictures, 'picture')} end at {figure(scale.high)} "
                f"of {figure(scale.full)}: they are nearly black; data.value_range=[0, {2**bits - 1}] mends that"
            )
        if value_range is not None and (scale.low < value_range[0] or scale.high > value_range[1]):
            return (
                f"the {scale.kind} values of {count(scale.pictures, 'picture')} go from {figure(scale.low)} to "
                f"{figure(scale.high)}: what lies outside is cut to black and white"
            )
    return ""


def remarks(found: Sequence[Facts]) -> list[str]:
    """What is worth a word without being asked: many pictures show nothing, or next to nothing."""
    blank = sum(facts.contrast < BLANK for facts in found)
    dark = sum(not facts.kind and facts.contrast >= BLANK and facts.high <= facts.full / DARK for facts in found)
    kinds = ((blank, "blank (one colour all over)"), (dark, f"nearly black (no value above 1/{DARK} of white)"))
    return [
        f"{number:,} of {count(len(found), 'picture')} {'is' if number == 1 else 'are'} {kind}: `convnext doctor` "
        "names them"
        for number, kind in kinds
        if number and number >= _MANY * len(found)
    ]
