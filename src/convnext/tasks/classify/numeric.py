"""Numbers where names of classes are asked for: nobody is stopped, but it is said how numbers are learnt as numbers."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from shlex import quote

from convnext.data.names import count, in_order, listed
from convnext.data.sources.rows import Row

_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d*)?(?:[eE][+-]?\d+)?", re.ASCII)
_FRACTION = re.compile(r"[+-]?\d+[.,]\d*[1-9]\d*", re.ASCII)
_FEW = 20
"""Different whole numbers up to which nothing is said: digits, stars, grades."""
_OFTEN = 5
"""Pictures a class, on average, from which numbers without a gap are taken for the indices of classes."""

_SHOWN = 3
"""Columns of numbers up to which they are proposed by name."""


def numbers_as_classes(names: Sequence[Collection[str]], column: str) -> list[str]:
    """A remark where a column's classes are numbers that look measured: with a fraction, or many whole ones that are no
    indices (0 or 1 to n without a gap, each several times)."""
    classes = {name for row in names for name in row}
    if len(classes) < 2 or not all(_NUMBER.fullmatch(name) for name in classes):
        return []
    if not any(_FRACTION.fullmatch(name) for name in classes):
        values = sorted(float(name.replace(",", ".")) for name in classes)
        indices = values[0] in (0, 1) and values[-1] - values[0] == len(values) - 1
        if len(values) <= _FEW or (indices and len(names) >= _OFTEN * len(values)):
            return []
    shown = listed(in_order(classes), 3)
    return [
        f'column "{column}" holds {count(len(classes), "different number")} ({shown}), and each is taken for a class; '
        "task.kind=regress learns them as numbers"
    ]


def or_numbers(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """How to say that columns without a column of labels are numbers to be learnt; "" where none is."""
    found = [
        name
        for name in columns
        if (cells := [row[name].strip() for row in rows if row[name].strip()])
        and sum(bool(_NUMBER.fullmatch(cell)) for cell in cells) * 2 > len(cells)
    ]
    if not found:
        return ""
    named = ",".join(f'"{name}"' for name in (found if len(found) <= _SHOWN else ["NAME"]))
    return f"; where numbers are to be learnt and no classes, say {quote(f'task.targets=[{named}]')}"
