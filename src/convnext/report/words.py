"""How the report writes what is not a task's: durations, and text in which no line ends inside an interval."""

from __future__ import annotations

import re

from markupsafe import Markup, escape


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
