"""A regression's result as its page and its words read it: each target by itself, each number beside the trivial one.

What a file does not hold, or holds as something else, is None here and is left out there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from convnext.data.names import figure
from convnext.metrics.paired import side
from convnext.tasks import scored
from convnext.tasks.blocks import Interval
from convnext.tasks.regress.declared import digits_of
from convnext.tasks.regress.measures import within_key
from convnext.tasks.reporting import Json
from convnext.tasks.verdicts import ends_of
from convnext.tasks.words import PERCENT, Unit, counted, number

DEVIATIONS = Unit("deviations", 3)
"""How the mean error over several targets is written: each in deviations of its training pictures."""
BARE = Unit("", 3)
"""R squared and correlations."""
LESS = ("error", "mae", "rmse", "median_error", "width")
"""Scores of which less is better."""
_NO_INTERVALS: Json = {}


class Answered(NamedTuple):
    """What was said of a picture, in the target's unit.

    Attributes:
        path: as predictions.csv has it.
        truth: what is known of it.
        value: the answer.
        interval: ends of its interval; None where it has none.
    """

    path: str
    truth: float
    value: float
    interval: Interval | None


@dataclass(frozen=True)
class Judged:
    """What a result says of one target, or of all together.

    Attributes:
        name: of the target; "" of all together.
        table: its part of result.json.
        unit: how its values are written.
    """

    name: str
    table: Mapping[str, Any]
    unit: Unit

    @property
    def n(self) -> int:
        """Judged pictures with a known value."""
        found = number(self.table.get("n"))
        return 0 if found is None else int(found)

    def score(self, key: str) -> float | None:
        """One number, such as "mae"."""
        return number(self.table.get(key))

    def interval(self, key: str) -> Interval | None:
        """Its 95 % interval."""
        return ends_of(self._part("intervals").get(key))

    def baseline(self, key: str) -> float | None:
        """What the trivial answer gets."""
        return scored.baseline_of(self.table, key)

    def gain(self, key: str) -> Json | None:
        """How much better than the trivial answer on the same pictures, with its interval; above 0 is better."""
        return scored.gain_of(self.table, key)

    def settled(self, key: str) -> int | None:
        """1: better than the trivial answer, -1: worse, 0: chance may be all, None: nothing to compare.

        It is settled where the paired interval leaves out 0; where both are apart on few pictures the exact test must
        agree.
        """
        if self.score(key) is None or self.baseline(key) is None:
            return None
        gain = self.gain(key)
        return 0 if gain is None else side(gain)

    def unit_of(self, key: str) -> Unit:
        """How a score is written."""
        if key.startswith("within_") or key == "coverage":
            return PERCENT
        return BARE if key in ("r2", "pearson", "spearman") else self.unit

    @property
    def within(self) -> list[tuple[float, str]]:
        """(K, its key) of each share within K, in rising order."""
        found = [number(k) for k in self.table.get("within") or []]
        return [(k, within_key(k)) for k in sorted(k for k in found if k is not None)]

    @property
    def trivial(self) -> str:
        """What the trivial answer says of every picture: the median, as "47 months"."""
        median = number(self._part("trivial").get("median"))
        return "the median" if median is None else self.told(median)

    def told(self, value: float) -> str:
        """A value of the target for people, in as many figures as it has: "47 months", "0.25"."""
        return f"{figure(value)}\u00a0{self.unit.name}" if self.unit.name else figure(value)

    @property
    def level(self) -> float | None:
        """What its intervals promise; None where it has none."""
        return number(self.table.get("level")) if self.score("coverage") is not None else None

    @property
    def covered(self) -> str:
        """On which pictures the coverage stands, where it is not all of them; with a comma ahead."""
        n = number(self.table.get("coverage_n"))
        if n is None or n == self.n or self.level is None:
            return ""
        return f", over {counted(int(n), 'picture')} that did not calibrate them"

    @property
    def calibration(self) -> Json:
        """What its intervals stand on; {} where none were wanted."""
        return self._part("calibration")

    @property
    def training(self) -> Json:
        """Count, range and quantiles of the training pictures."""
        return self._part("training")

    @property
    def ranges(self) -> list[Judged]:
        """Parts of the range, each with its own scores, from the smallest values to the largest."""
        rows = self.table.get("by_range")
        rows = rows if isinstance(rows, list) else []
        found = [
            row | {"baselines": {"mae": row.get("mae_baseline")}}
            for row in rows
            if isinstance(row, dict) and number(row.get("low")) is not None and number(row.get("high")) is not None
        ]
        return [Judged(span_of(row["low"], row["high"]), row, self.unit) for row in found]

    def _part(self, key: str) -> Json:
        found = self.table.get(key)
        return found if isinstance(found, dict) else _NO_INTERVALS


def targets_of(result: Mapping[str, Any], data: Mapping[str, Any] = _NO_INTERVALS) -> list[Judged]:
    """Each target of a result, in order; of a run without one, of its data.json, without scores."""
    found = result.get("targets") if isinstance(result.get("targets"), dict) else data.get("targets")
    if not isinstance(found, dict):
        return []
    return [
        Judged(str(name), table, unit_of(table, _deviation(data, name)))
        for name, table in found.items()
        if isinstance(table, dict)
    ]


def headline_of(result: Mapping[str, Any], data: Mapping[str, Any] = _NO_INTERVALS) -> tuple[str, Judged | None]:
    """The key of the main score, and what has it: "mae" of the one target, or "error" of all together."""
    targets = targets_of(result, data)
    if len(targets) == 1:
        return "mae", targets[0]
    return "error", Judged("", result, DEVIATIONS) if targets else None


def unit_of(table: Mapping[str, Any], deviation: float | None = None) -> Unit:
    """How values of a target are written: a hundredth of the deviation of training can be told."""
    training, baselines = table.get("training"), table.get("baselines")
    known = [
        number(training.get("deviation")) if isinstance(training, dict) else None,
        deviation,
        number(baselines.get("mae")) if isinstance(baselines, dict) else None,
        number(table.get("mae")),
    ]
    scale = next((value for value in known if value is not None and value > 0), 1.0)
    return Unit(str(table.get("unit") or ""), digits_of(scale))


def span_of(low: float, high: float) -> str:
    """ "12 to 40", or the one value."""
    return figure(low) if low == high else f"{figure(low)} to {figure(high)}"


def answers_of(rows: Sequence[Mapping[str, str]], name: str) -> list[Answered]:
    """What predictions.csv says of one target; pictures without a truth are left out."""
    found = []
    for row in rows:
        truth, value, low, high = (_cell(row.get(f"{part}_{name}")) for part in ("truth", "value", "low", "high"))
        if truth is not None and value is not None:
            ends = None if low is None or high is None else (low, high)
            found.append(Answered(row.get("path", ""), truth, value, ends))
    return found


def splits_of(data: Mapping[str, Any], name: str) -> dict[str, Json]:
    """What data.json says of a target in each split that has pictures, training first."""
    targets = data.get("targets")
    table = targets.get(name) if isinstance(targets, dict) else None
    found = table.get("splits") if isinstance(table, dict) else None
    if not isinstance(found, dict):
        return {}
    return {split: found[split] for split in ("train", "val", "test") if isinstance(found.get(split), dict)}


def _deviation(data: Mapping[str, Any], name: str) -> float | None:
    return number(splits_of(data, name).get("train", {}).get("deviation"))


def _cell(text: str | None) -> float | None:
    try:
        return number(float(text or "nan"))
    except ValueError:
        return None
