"""How the report writes numbers: percentages with one decimal, intervals, counts with their noun, durations."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

NO_VALUE = "\u2013"  # an en dash


def number(value: Any) -> float | None:
    """`value` as a finite float, or None when it is not one (missing, null, NaN, text)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def percent(value: Any) -> str:
    """A fraction as a percentage with one decimal: 0.8419 -> "84.2 %" (no-break space)."""
    share = number(value)
    return NO_VALUE if share is None else f"{100 * share:.1f}\u00a0%"


def span(interval: Sequence[float], *, share: bool = True) -> str:
    """An interval: (0.81, 0.871) -> "81.0-87.1" with an en dash; `share=False` gives three decimals instead."""
    low, high = (f"{100 * end:.1f}" if share else f"{end:.3f}" for end in interval)
    return f"{low}\u2013{high}"


def points(difference: float) -> str:
    """A difference of fractions in percentage points, with its sign: 0.043 -> "+4.3", -0.024 -> "\u22122.4"."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\u2212")


def counted(count: int, noun: str) -> str:
    """A count with its noun: "1 picture", "3,306 pictures"."""
    return f"{count:,} {noun}{'' if count == 1 else 'es' if noun.endswith('s') else 's'}"


def unbroken(text: str) -> Markup:
    """`text` as HTML in which no line ends inside an interval in brackets."""
    return Markup(re.sub("\\([0-9.]+\u2013[0-9.]+\\)", r'<span class="nb">\g<0></span>', str(escape(text))))


def duration(seconds: float) -> str:
    """A time span in its two largest units: "24 min 10 s", "3 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def show(value: Any) -> str:
    """Any JSON value as short text; lists of names with commas, text as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "nothing"
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, ensure_ascii=False)
