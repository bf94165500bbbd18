"""predictions.csv of a regression: of each target the truth, the answer and its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convnext.tasks.records import TRUTH, Records
from convnext.tasks.regress.scoring import HIGH, LOW, VALUE


def header_of(names: Sequence[str], *, intervals: bool) -> list[str]:
    """truth_NAME and value_NAME of each target, low_NAME and high_NAME where there are intervals."""
    parts = ["truth", "value", *(["low", "high"] if intervals else [])]
    return [f"{part}_{name}" for name in names for part in parts]


def cells_of(records: Records, at: int, *, intervals: bool) -> list[object]:
    """The cells of one picture; nothing for a truth that is missing."""
    keys = [TRUTH, VALUE, *([LOW, HIGH] if intervals else [])]
    values = [float(records[key][at, t]) for t in range(records[VALUE].shape[1]) for key in keys]
    return ["" if np.isnan(value) else value for value in values]


def records_of(names: Sequence[str], header: Sequence[str], rows: Sequence[Sequence[str]]) -> Records:
    """Records from such a table.

    Raises:
        ValueError: a column is not there, or a cell is no number.
    """
    parts = {TRUTH: "truth", VALUE: "value", LOW: "low", HIGH: "high"}
    if f"low_{names[0]}" not in header:
        parts = {key: part for key, part in parts.items() if key not in (LOW, HIGH)}
    columns = {}
    for key, part in parts.items():
        places = [header.index(f"{part}_{name}") for name in names]
        cells = [[float(row[place]) if row[place] else np.nan for place in places] for row in rows]
        columns[key] = np.array(cells, np.float64).reshape(len(rows), len(names))
    return Records(columns)
