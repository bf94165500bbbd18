"""What a model says of one picture: a number a target, with its interval where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convnext.tasks.regress.conformal import interval_text
from convnext.tasks.regress.declared import digits_of
from convnext.tasks.regress.scaling import Target


@dataclass(frozen=True)
class Estimate:
    """The answer of one target, in its unit.

    Attributes:
        target: what was asked for.
        value: the number.
        low: lower end of the interval; None where there is none.
        high: upper end.
        level: the share of such intervals that holds the truth.
        deviation: of the target among the training pictures, from which the decimals follow.
    """

    target: Target
    value: float
    low: float | None = None
    high: float | None = None
    level: float = 0.0
    deviation: float = 1.0

    @property
    def text(self) -> str:
        """`34 ± 9 months, 90 %`, or `34.1 months` without an interval."""
        if self.low is not None and self.high is not None:
            return interval_text(self.target, self.value, self.low, self.high, self.level)
        return f"{self.value:,.{max(0, digits_of(self.deviation) - 1)}f} {self.target.unit}".rstrip()

    def fields(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"value": self.value, "low": self.low, "high": self.high, "unit": self.target.unit, "text": self.text}


@dataclass(frozen=True)
class Estimates:
    """What is said of one picture; no estimates and the reason where it cannot be read.

    Attributes:
        path: the file; None for a picture from memory.
        estimates: one a target.
        error: why there is no answer; "" where there is one.
        missing: what was named is not there at all.
    """

    path: Path | None
    estimates: tuple[Estimate, ...] = ()
    error: str = ""
    missing: bool = False

    @property
    def value(self) -> float | None:
        """Of the only target, or the first one; None without an answer."""
        return self.estimates[0].value if self.estimates else None

    @property
    def low(self) -> float | None:
        """Lower end of that value's interval; None without one."""
        return self.estimates[0].low if self.estimates else None

    @property
    def high(self) -> float | None:
        """Upper end of that value's interval; None without one."""
        return self.estimates[0].high if self.estimates else None

    @property
    def text(self) -> str:
        """All of it in words."""
        if len(self.estimates) == 1:
            return self.estimates[0].text
        return "; ".join(f"{one.target.name} {one.text}" for one in self.estimates)

    def cells(self) -> dict[str, object]:
        """value, low and high; of several targets NAME, NAME_low and NAME_high."""
        row: dict[str, object] = {}
        for one in self.estimates:
            names = ("value", "low", "high")
            if len(self.estimates) > 1:
                names = (one.target.name, f"{one.target.name}_low", f"{one.target.name}_high")
            ends = ("" if end is None else end for end in (one.low, one.high))
            row |= dict(zip(names, (one.value, *ends), strict=True))
        return row

    def fields(self) -> dict[str, Any]:
        """`targets` by name; of one target its entries too."""
        found: dict[str, Any] = {"targets": {one.target.name: one.fields() for one in self.estimates}}
        return (self.estimates[0].fields() if len(self.estimates) == 1 else {}) | found
