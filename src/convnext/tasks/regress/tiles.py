"""The headline numbers of a regression, each beside the trivial answer."""

from __future__ import annotations

from convnext.tasks.blocks import Tile
from convnext.tasks.regress.judged import DEVIATIONS, LESS, Judged, headline_of, targets_of
from convnext.tasks.regress.sections import NAMES
from convnext.tasks.regress.verdict import gain_text
from convnext.tasks.reporting import Json
from convnext.tasks.words import percent

_NOTES = {
    "mae": "how far off answers are on average; less is better",
    "rmse": "the same, where large errors count more; less is better",
    "median_error": "half of the answers are closer; less is better",
    "r2": "share of the variance that is explained",
    "spearman": "how well the order is right, from \u22121 to 1",
    "width": "less is better, if the coverage is kept",
}
_MOST_TARGETS = 7
_SAID = {1: "clearly better", 0: "not clearly better", -1: "clearly worse"}


def tiles(result: Json, data: Json) -> list[Tile]:
    """The numbers that the result has, the main one first; of several targets the mean error and each one's own."""
    targets = targets_of(result, data)
    if len(targets) != 1:
        _, whole = headline_of(result, data)
        note = "each MAE in deviations of its training pictures; less is better"
        first = [] if whole is None else [_tile(Judged("", result, DEVIATIONS), "error", "Mean error", note)]
        each = [
            _tile(one, "mae", f"{one.name}: MAE", _NOTES["mae"], f"targets.{one.name}.mae")
            for one in targets[:_MOST_TARGETS]
        ]
        return [tile for tile in (*first, *each) if tile is not None]
    (one,) = targets
    wanted = [(key, NAMES[key], _NOTES[key]) for key in ("mae", "rmse", "median_error")]
    if one.within:
        k, key = one.within[len(one.within) // 2]
        others = ", ".join(f"{one.told(k)}: {percent(one.score(other))}" for k, other in one.within if other != key)
        wanted.append((key, f"Within {one.told(k)}", f"share of answers so close; {others}" if others else ""))
    wanted += [(key, NAMES[key], _NOTES[key]) for key in ("r2", "spearman")]
    if one.level is not None:
        wanted.append(
            ("coverage", "Coverage", f"of the intervals hold the truth; {100 * one.level:g}\u00a0% are promised")
        )
        wanted.append(("width", NAMES["width"], _NOTES["width"]))
    return [tile for key, title, note in wanted if (tile := _tile(one, key, title, note)) is not None]


def _tile(judged: Judged, key: str, title: str, note: str, place: str = "") -> Tile | None:
    value, unit = judged.score(key), judged.unit_of(key)
    if value is None:
        return None
    baseline = judged.level if key == "coverage" else judged.baseline(key)
    low, high = _scale(judged, key, value, baseline)
    ends, against = judged.interval(key), _against(judged, key, baseline)
    return Tile(place or key, title, value, ends, baseline, note, against, unit, low, high)


def _scale(judged: Judged, key: str, value: float, baseline: float | None) -> tuple[float, float]:
    """Ends of a number's scale: from 0 for errors, so that a half is drawn as one."""
    ends = judged.interval(key) or (value, value)
    if key in LESS:
        return 0.0, 1.1 * max(value, ends[1], baseline or 0.0) or 1.0
    return (-1.0 if key in ("r2", "spearman") and ends[0] < 0 else 0.0), 1.0


def _against(judged: Judged, key: str, baseline: float | None) -> str:
    """The level of the tick, and whether the number is beyond it."""
    if baseline is None:
        return ""
    unit = judged.unit_of(key)
    if key == "coverage":
        alone = judged.baseline(key)
        return "orange tick: what is promised" + (f"; one interval for all: {percent(alone)}" if alone else "")
    if key == "width":
        return f"orange tick: {unit.text(baseline)}, by one interval for all pictures"
    always = "each target's median" if key == "error" else "the mean" if key in ("rmse", "r2") else judged.trivial
    text = f"orange tick: {unit.text(baseline)}, by always saying {always}"
    where, told = judged.settled(key), gain_text(judged, key)
    return f"{text}; {_SAID[where]}: {told}" if told and where is not None else text
