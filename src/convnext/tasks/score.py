"""A number by which models are judged: what it is called, its unit, and which of two values is the better one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from convnext.tasks.words import PERCENT, Unit

SHARE = "%"
"""The unit of a share from 0 to 1, which people read in per cent."""


@dataclass(frozen=True)
class Score:
    """A number by which models are judged.

    Attributes:
        key: its name in metrics, log.jsonl and result.json, such as "top1" or "mae".
        title: the same for people.
        unit: "%" for a share from 0 to 1, which is shown times 100; else the unit of the value, "" for none.
        higher_is_better: which way it goes.
        baseline: what the trivial answer is that it is held against, in words ("always the largest class").
        note: what it is, in a sentence for people.
        digits: decimals that people are shown.
        counted: it is the share of pictures with a right answer, so that exact tests on their numbers hold.
        needs: what a verdict must have for it, in words; "" where every one has it.
        minor: left out of tables that have room for a few columns.
    """

    key: str
    title: str
    unit: str = SHARE
    higher_is_better: bool = True
    baseline: str = ""
    note: str = ""
    digits: int = 1
    counted: bool = False
    needs: str = ""
    minor: bool = False

    @property
    def worst(self) -> float:
        """The value that every other is better than, with which a run begins."""
        return -math.inf if self.higher_is_better else math.inf

    def better(self, one: float, other: float) -> bool:
        """Whether `one` is better than `other`; what is no number never is, and anything is better than that."""
        if math.isnan(one) or math.isnan(other):
            return not math.isnan(one)
        return one > other if self.higher_is_better else one < other

    def gain(self, difference: float) -> float:
        """A difference of two values as an advance: above 0 where the first one is better."""
        return difference if self.higher_is_better else -difference

    def text(self, value: float, digits: int | None = None) -> str:
        """A value for people: "80.4 %", "8.6 months"."""
        return f"{self.number(value, digits)} {self.unit}".rstrip()

    def number(self, value: float, digits: int | None = None, *, sign: bool = False) -> str:
        """The same without its unit; with `sign` a plus ahead of what is above 0."""
        shown = 100 * value if self.unit == SHARE else value
        return f"{shown:{'+' if sign else ''}.{self.digits if digits is None else digits}f}"

    @property
    def points(self) -> str:
        """The unit of a difference of two values: "points" for shares, else that of the values."""
        return "points" if self.unit == SHARE else self.unit

    @property
    def written(self) -> Unit:
        """How values are written on a page."""
        return Unit(self.unit, self.digits, PERCENT.factor if self.unit == SHARE else 1.0)

    def interval(self, value: float, pictures: int) -> tuple[float, float] | None:
        """The 95 % interval that follows from the value and the number of pictures alone; None where none does."""
        from convnext.metrics.intervals import wilson  # NumPy is not needed to know what a score is called

        return wilson(value, pictures) if self.counted else None

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON takes it."""
        return asdict(self)

    @classmethod
    def of_json(cls, known: Mapping[str, Any]) -> Score:
        """What `to_json` gave.

        Raises:
            ValueError: it is not that.
        """
        kinds = {f.name: {"str": str, "bool": bool, "int": int}[str(f.type)] for f in fields(cls)}
        if not isinstance(known, Mapping) or {"key", "title"} - known.keys() or known.keys() - kinds.keys():
            raise ValueError("it does not say by which score")
        if any(type(value) is not kinds[name] for name, value in known.items()):
            raise ValueError("it does not say by which score")
        return cls(**known)
