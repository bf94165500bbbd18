"""How numbers are written for people: shares as percentages, numbers with their unit, intervals, counts with a noun."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NO_VALUE = "\u2013"  # an en dash
_PLAIN = str.maketrans({"\u2212": "-", "\u201c": '"', "\u201d": '"', "\u00a0": " ", "\u2013": "-"})


@dataclass(frozen=True)
class Unit:
    """How numbers of one kind are written: "84.2 %", "8.6 months", or bare.

    Attributes:
        name: stands behind a number, as "%" or "months"; "" for none.
        digits: decimals; None for three figures that count, of numbers whose size is not known beforehand.
        factor: what a number is multiplied with before it is written; 100 for shares.
    """

    name: str = ""
    digits: int | None = None
    factor: float = 1.0

    def text(self, value: Any) -> str:
        """A number with its unit, parted by a no-break space; an en dash for what is no finite number."""
        known = number(value)
        return NO_VALUE if known is None else f"{self._figures(known)}{self._behind}"

    def span(self, ends: Sequence[float]) -> str:
        """An interval without its unit: (0.81, 0.871) -> "81.0-87.1" with an en dash; below 0 "\u22122.4 to 1.0"."""
        digits = 3 if self.digits is None else self.digits
        low, high = (f"{self.factor * end:.{digits}f}".replace("-", "\u2212") for end in ends)
        return f"{low} to {high}" if "\u2212" in low + high else f"{low}\u2013{high}"

    def change(self, difference: float) -> str:
        """A difference with its sign and without its unit: "+4.3", "\u22122.4"."""
        text = f"{self.factor * difference:+.{3 if self.digits is None else self.digits}f}"
        return f"{text[1:]}" if not text.strip("+-0.") else text.replace("-", "\u2212")

    @property
    def of_change(self) -> str:
        """What a difference is counted in: "points" for percentages, else the unit itself."""
        return "points" if self.name == "%" else self.name

    def tick(self, value: float) -> str:
        """A round number on an axis; percentages have their sign."""
        return f"{self.factor * value:g}" + ("\u202f%" if self.name == "%" else "")

    def bare_tick(self, value: float) -> str:
        """A round number on an axis whose title names the unit."""
        return f"{self.factor * value:g}"

    @property
    def _behind(self) -> str:
        return f"\u00a0{self.name}" if self.name else ""

    def _figures(self, value: float) -> str:
        shown = self.factor * value
        if self.digits is None and 0 < abs(shown) < 0.01:
            return f"{shown:.2e}"
        text = f"{shown:.{3 if self.digits is None else self.digits}f}"
        return text.removeprefix("-") if not text.strip("-0.") else text.replace("-", "\u2212")


PERCENT = Unit("%", 1, 100.0)
"""Fractions, written as percentages with one decimal."""
PLAIN = Unit()
"""Numbers without a unit, such as losses."""


def number(value: Any) -> float | None:
    """`value` as a finite float, or None when it is not one (missing, null, NaN, text)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def percent(value: Any) -> str:
    """A fraction as a percentage with one decimal: 0.8419 -> "84.2 %" (no-break space)."""
    return PERCENT.text(value)


def points(difference: float) -> str:
    """A difference of fractions in percentage points, with its sign: 0.043 -> "+4.3", -0.024 -> "\u22122.4"."""
    return PERCENT.change(difference)


def counted(count: int, noun: str) -> str:
    """A count with its noun: "1 picture", "3,306 pictures"."""
    return f"{count:,} {noun}{'' if count == 1 else 'es' if noun.endswith('s') else 's'}"


def quoted_names(names: Sequence[str], most: int) -> str:
    """Names in quotation marks, those beyond `most` as a number."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"\u201c{name}\u201d" for name in names[:most]) + more


def show(value: Any) -> str:
    """Any JSON value as short text; lists of names with commas, text as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "nothing"
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, ensure_ascii=False)


def for_terminal(text: str) -> str:
    """A text of the page with the signs that every terminal has."""
    return text.translate(_PLAIN)
