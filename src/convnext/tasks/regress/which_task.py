"""Whether the cells of a column ask for a number or for a class, where nobody has said which.

Numbers with a fraction are regression, words are classes. Whole numbers of few different values are either: 0, 1, 2 may
be names of classes or counts, and a network that learns the wrong one gives no error. Then nothing is chosen, and both
ways to say it are named. The same holds for numbers among words, and for numbers that carry their unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Literal

from convnext.data.names import count, listed, printable
from convnext.tasks.regress.cells import is_code, is_whole, kind_of, parts_of

SETTING = "task.kind"
"""The key of the recipe that says it."""
FEW = 20
"""Different whole numbers up to which they may be classes."""


@dataclass(frozen=True)
class WhichTask:
    """What a column asks for.

    Attributes:
        task: regress, classify, or unclear.
        reason: what speaks for it, in words that follow "column x".
        ways: where it is unclear, the settings that say it, with what each means.
    """

    task: Literal["regress", "classify", "unclear"]
    reason: str
    ways: tuple[str, ...] = ()

    def message(self, column: str, table: str = "", also: str = "") -> str:
        """One line for the user: what was found, and where it is unclear how to say what is meant; `also` is a setting
        that classification needs beside its own."""
        place = f'{printable(table)}: column "{printable(column)}"' if table else f'column "{printable(column)}"'
        meaning = {"regress": "regression", "classify": "classification", "unclear": "is it a number or a class?"}
        ways = [way.replace(f"{SETTING}=classify", f"{SETTING}=classify {also}".strip()) for way in self.ways]
        return "; ".join([f"{place} {self.reason}: {meaning[self.task]}", *([", or ".join(ways)] if ways else [])])


def which_task(cells: Sequence[str]) -> WhichTask:
    """What a column of cells asks for; cells without a value are not counted.

    Numbers of which one has a fraction, or of more than 20 different values: regress. Words: classify. Whole numbers of
    at most 20 different values, codes such as 007, numbers among words, numbers with a unit or many dates: unclear.
    """
    cells = [cell.strip() for cell in cells]
    known = [cell for cell in cells if kind_of(cell) != "missing"]
    kinds, total = Counter(kind_of(cell) for cell in known), len(known)
    numeric = kinds["number"] + kinds["decimal comma"] + kinds["ambiguous comma"] + kinds["infinite"] + kinds["grouped"]
    if total == 0:
        return _unclear("has no value", "")
    if numeric == total:
        return _of_numbers(known)
    if kinds["unit"] * 2 > total:
        return _of_units(known)
    if numeric * 2 > total:
        odd = [cell for cell in known if kind_of(cell) in ("text", "boolean", "unit", "date", "list", "span")]
        words = listed((f'"{cell[:40]}"' for cell in dict.fromkeys(odd)), 3)
        return _unclear(f"holds {count(numeric, 'number')}, and {words}", " (once these are numbers or empty)")
    different = len(set(known))
    if (kinds["date"] + kinds["span"]) * 2 > total and different > FEW:
        return _unclear(
            f'holds {different:,} different dates or spans, as "{printable(known[0][:40])}"', " (once they are numbers)"
        )
    return WhichTask("classify", f"holds {count(different, 'different word')}")


def _of_numbers(cells: Sequence[str]) -> WhichTask:
    """All cells are numbers, however written."""
    plain = [cell for cell in cells if kind_of(cell) == "number"]
    different = len({float(cell) for cell in plain} | {cell for cell in cells if kind_of(cell) != "number"})
    codes = [cell for cell in cells if is_code(cell)]
    if codes:
        return _unclear(f"holds codes such as {codes[0]}, whose zeros a number would lose", "")
    fractions = [cell for cell in cells if kind_of(cell) == "decimal comma" or not _whole(cell)]
    if fractions:
        return WhichTask("regress", f"holds {count(different, 'different number')}, some with a fraction")
    if different > FEW:
        return WhichTask("regress", f"holds {different:,} different whole numbers")
    values = [f"{value:.0f}" for value in sorted({float(cell) for cell in plain})]
    shown = listed([*values, *sorted({cell[:20] for cell in cells if kind_of(cell) != "number"})], 5)
    return _unclear(f"holds {count(different, 'different whole number')} ({shown})", "")


def _of_units(cells: Sequence[str]) -> WhichTask:
    """Most cells are numbers with something behind them: `12 months`, or names as `3D` and `4x4`."""
    found = [cell for cell in cells if kind_of(cell) == "unit"]
    unit, times = Counter(parts_of(cell)[1] for cell in found).most_common(1)[0]
    different = len(set(cells))
    if times * 2 > len(cells) and different > 2:
        said = quote(f"task.unit={printable(unit)}")
        return _unclear(
            f'holds numbers with a unit, as "{printable(found[0][:40])}"',
            f" (once it stands alone, with {said})",
        )
    return WhichTask("classify", f"holds {count(different, 'different word')}")


def _whole(cell: str) -> bool:
    return kind_of(cell) != "number" or is_whole(cell)


def _unclear(reason: str, condition: str) -> WhichTask:
    return WhichTask(
        "unclear",
        reason,
        (f"say {SETTING}=regress for a number{condition}", f"{SETTING}=classify for classes"),
    )
