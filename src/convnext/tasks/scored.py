"""What a page says of a score: its tile, its curve and the main sentence, from a result as `Task.judge` leaves it.

A result has by the score's key its value, its interval in `intervals`, what the trivial answer gets in `baselines`, and
in `gains` the difference to that on the same pictures, above 0 where the model is better, also for errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from convnext.metrics.paired import side
from convnext.tasks.blocks import Interval, Tile
from convnext.tasks.reporting import Followed, Json
from convnext.tasks.score import SHARE, Score
from convnext.tasks.verdicts import Headline, ends_of, interval_of
from convnext.tasks.words import Unit, number


def tile_of(score: Score, result: Mapping[str, Any], title: str = "") -> Tile | None:
    """The tile of a score, on a scale from 0 (below it, where values are) to 1 for shares, else to a round number.

    None where the result has no value of it.
    """
    value = number(result.get(score.key))
    if value is None:
        return None
    ends, baseline, unit = interval_of(result, score.key), baseline_of(result, score.key), score.written
    told = against(unit, baseline, gain_of(result, score.key), settled(score, result))
    low, high = (0.0, 1.0) if score.unit == SHARE else _scale([value, *(ends or ()), *_some(baseline)])
    name = title or score.title[:1].upper() + score.title[1:]
    return Tile(score.key, name, value, ends, baseline, score.note, told, unit, low, high)


def followed_of(score: Score, title: str, why: str, baseline: float | None = None) -> Followed:
    """The score that chooses the best epoch. A change of a point, or of a hundredth of the baseline, counts.

    Args:
        score: the task's first one.
        title: of its chart.
        why: a sentence for the reader of the chart.
        baseline: what the trivial answer gets on validation, where that is known.
    """
    rise = 0.01 if score.unit == SHARE else 0.01 * abs(baseline or 0.0)
    return Followed(score.key, score.title, title, why, score.written, score.higher_is_better, baseline, rise)


def headline_of(score: Score, result: Mapping[str, Any], trivial: str) -> Headline:
    """The score beside the trivial answer, whose words `trivial` has, as "47 months"."""
    ends, unit = interval_of(result, score.key), score.written
    name = score.title[:1].upper() + score.title[1:]
    told = f"{name} {unit.text(result.get(score.key))}{f' ({unit.span(ends)})' if ends else ''}"
    where, gain = settled(score, result), gain_of(result, score.key)
    return Headline(told, where, trivial, unit.text(baseline_of(result, score.key)), difference(unit, gain, where))


def settled(score: Score, result: Mapping[str, Any]) -> int | None:
    """1: better than the trivial answer by this score, -1: worse, 0: chance may be all, None: nothing to go by."""
    value, baseline = number(result.get(score.key)), baseline_of(result, score.key)
    if value is None or baseline is None:
        return None
    ends = interval_of(result, score.key) or (value, value)
    return settle(baseline, gain_of(result, score.key), (score.gain(ends[0]), score.gain(ends[1])), score.gain(1.0))


def settle(baseline: float, gain: Json | None, ends: Interval, sign: float = 1.0) -> int:
    """The side of the trivial answer on which a score lies; by the paired difference, or else by its own interval.

    Args:
        baseline: what the trivial answer gets.
        gain: the difference on the same pictures, where it is known.
        ends: the interval of the score times `sign`.
        sign: -1 where less is better.
    """
    if gain is not None:
        return side(gain)
    return 1 if min(ends) > sign * baseline else -1 if max(ends) < sign * baseline else 0


def baseline_of(result: Mapping[str, Any], key: str) -> float | None:
    """What the trivial answer gets by a metric; None where that is not known."""
    known = result.get("baselines")
    return number(known.get(key)) if isinstance(known, dict) else None


def gain_of(result: Mapping[str, Any], key: str) -> Json | None:
    """The difference to the trivial answer on the same pictures, with its interval; None where that is not known."""
    known = result.get("gains")
    gain = known.get(key) if isinstance(known, dict) else None
    whole = isinstance(gain, dict) and number(gain.get("value")) is not None and ends_of(gain.get("interval"))
    return gain if whole else None


def against(unit: Unit, baseline: float | None, gain: Json | None, where: int | None) -> str:
    """For a tile: the level of its tick, and whether the number is beyond it."""
    if baseline is None:
        return ""
    text = f"orange tick: trivial answer, {unit.text(baseline)}"
    ends = ends_of(gain.get("interval")) if gain else None
    if gain is None or ends is None or where is None:
        return text
    said = {1: "clearly better", 0: "not clearly better", -1: "clearly worse"}[where]
    return f"{text}; {said}: {unit.change(gain['value'])} ({unit.change(ends[0])} to {unit.change(ends[1])})"


def difference(unit: Unit, gain: Json | None, where: int | None) -> str:
    """For the verdict: the advance over the trivial answer on the same pictures, a sentence; "" where none is known."""
    ends = ends_of(gain.get("interval")) if gain else None
    if gain is None or ends is None or where is None:
        return ""
    told = f"On the same pictures the gain is {unit.change(gain['value'])} {unit.of_change}".rstrip()
    told += f", 95 % interval {unit.change(ends[0])} to {unit.change(ends[1])}"
    return told + (": chance may do that." if where == 0 else ".")


def _some(value: float | None) -> list[float]:
    return [] if value is None else [value]


def _scale(values: list[float]) -> Interval:
    """From 0, or a round number below it, to a round number that covers all values."""
    largest = max(map(abs, values))
    if not 1e-300 < largest < 1e300:  # powers of ten beyond are no numbers
        largest = 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    reach = next(step * power for step in (1, 2, 5, 10) if step * power >= largest * (1 - 1e-9))
    return (-reach if min(values) < 0 else 0.0), reach
