"""What a cell of a table may be, where a number is asked for: a number, nothing, or one of the ways to miss one."""

from __future__ import annotations

import math
import re
from typing import Literal

from convnext.data.sources.missing import is_missing

Kind = Literal[
    "number", "missing", "decimal comma", "ambiguous comma", "grouped", "infinite", "boolean", "date", "list", "span",
    "unit", "text",
]  # fmt: skip

_LONGEST = 100
_WHOLE = r"[+-]?\d+"
_PLAIN = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_COMMA = r"[+-]?(?:\d+,\d*|,\d+)(?:[eE][+-]?\d+)?"
_ANY = rf"(?:{_COMMA}|{_PLAIN})"
_MONTHS = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"

_NUMBER = re.compile(_PLAIN, re.ASCII)
_DECIMAL_COMMA = re.compile(_COMMA, re.ASCII)
_AMBIGUOUS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
_GROUPED = re.compile(rf"{_WHOLE}(?:[.,'’ \u00a0\u2009\u202f_]\d+)+(?:[.,]\d*)?", re.ASCII)
_INFINITE = re.compile(r"[+-]?(?:inf|infinity|∞)", re.IGNORECASE)
_BOOLEAN = frozenset(["true", "false", "yes", "no", "t", "f", "y", "n"])
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}(?:[-/.]\d{1,2}(?:[T ].*)?)?"
    r"|\d{1,2}([-/.])\d{1,2}\1(?:\d{4}|\d{2})(?: .*)?"
    r"|\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[ap]m)?"
    rf"|\d{{1,2}}[. -]*{_MONTHS}[. ,-]*\d{{2,4}}|{_MONTHS}[. ]*\d{{1,2}},? *\d{{2,4}}",
    re.ASCII | re.IGNORECASE,
)
_LIST = re.compile(rf"{_ANY}(?:\s*[;|]\s*{_ANY})+[;|]?|{_PLAIN}(?:,\s*{_PLAIN})+|[\[({{].*[\])}}]", re.ASCII)
_SPAN = re.compile(rf"[<>≤≥~≈±]=?\s*{_ANY}|{_ANY}\s*(?:-|–|—|±|\+/-|\.\.+|/|to|of)\s*{_ANY}|{_ANY}\s*\+", re.ASCII)
_UNIT = re.compile(rf"(?P<number>{_ANY})\s*(?P<unit>[^\W\d_][^\d,;|]*|[%°$€£¥µ][^\d,;|]*)", re.UNICODE)
_CURRENCY = re.compile(rf"(?P<unit>[$€£¥])\s*(?P<number>{_ANY})", re.ASCII)


def kind_of(cell: str) -> Kind:
    """What a cell is; white space around it does not matter.

    A comma is decimal where it cannot part thousands (`4,5`, `0,125`, `1234,567`); `1,234` may be either. Numbers are
    written in the digits 0 to 9 with a decimal point: `0x10`, `1_000` and `½` are text, or grouped. So is any cell of
    more than 100 signs: no measurement is that long, and patterns take their time over long ones.
    """
    cell = cell.strip()
    if len(cell) > _LONGEST:
        return "text"
    if cell == "" or is_missing(cell):
        return "missing"
    if _NUMBER.fullmatch(cell):
        return "number" if math.isfinite(float(cell)) else "infinite"
    if _AMBIGUOUS.fullmatch(cell):
        return "ambiguous comma"
    if _DECIMAL_COMMA.fullmatch(cell):
        return "decimal comma"
    if cell.casefold() in _BOOLEAN:
        return "boolean"
    for kind, form in _FORMS:
        if form.fullmatch(cell):
            return kind
    return "text"


_FORMS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("infinite", _INFINITE),
    ("date", _DATE),
    ("grouped", _GROUPED),
    ("list", _LIST),
    ("span", _SPAN),
    ("unit", _CURRENCY),
    ("unit", _UNIT),
)
"""In this order: a date may look like grouped digits, grouped digits like a list."""


def parts_of(cell: str) -> tuple[str, str]:
    """The number and the unit of a cell of the kind `unit`, as they are written: `12 months` -> ("12", "months").

    Raises:
        ValueError: it is of another kind.
    """
    found = _CURRENCY.fullmatch(cell.strip()) or _UNIT.fullmatch(cell.strip())
    if found is None:
        raise ValueError(f"{cell!r} is no number with a unit")
    return found["number"], found["unit"].strip()


def is_whole(cell: str) -> bool:
    """Whether a cell of the kind `number` is a whole number, as 3, 3.0 and 3e2 are."""
    return float(cell).is_integer()


def is_code(cell: str) -> bool:
    """Whether digits begin with a 0 that no number needs, as in `007`: a code or a part number, read as it is."""
    return re.fullmatch(r"0\d+", cell.strip(), re.ASCII) is not None
