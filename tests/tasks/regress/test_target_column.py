"""Cells of a table as targets: each kind of cell by itself, whole columns, several targets, and which task is meant."""

from __future__ import annotations

import math
import time
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convnext.errors import DataError
from convnext.tasks.regress.cells import Kind, is_code, kind_of, parts_of
from convnext.tasks.regress.target_column import read_target, read_targets
from convnext.tasks.regress.which_task import FEW, which_task

KINDS: dict[Kind, list[str]] = {
    "number": ["4", " 4.5 ", "1e3", "-2.5E-3", "+7", ".5", "5.", "0", "-0", "007", "12345678901234567890"],
    "missing": ["", "  ", "NaN", "nan", "NA", "n/a", "NULL", "<NA>", "#N/A"],
    "decimal comma": ["4,5", "0,125", "-0,5", ",5", "1234,567", "12,3456", "1,5e3"],
    "ambiguous comma": ["1,234", "-12,345", "999,999"],
    "grouped": ["1,234,567", "1,234.5", "1.234,5", "1 234", "1'234", "1_000", "1.234.567", "4,5,6"],
    "infinite": ["inf", "-Infinity", "∞", "1e999"],
    "boolean": ["true", "False", "YES", "n"],
    "date": ["2024-05-01", "01/02/2024", "1.2.2024", "12:30", "2024-05-01T10:00:00Z", "12 May 2024", "May 3, 2024"],
    "list": ["3;4", "4, 5", "[1, 2]", "1|2|3", "(1.5, 2)"],
    "span": ["3-5", ">5", "<= 4", "3±1", "1/2", "5+", "3 to 5", "~7"],
    "unit": ["12 months", "12months", "45%", "$5", "5 €", "12,5 mm", "20 °C", "3D"],
    "text": ["abc", "0x10", "½", "٤", "-", "?", "None", "class 3", "4x4", "e5"],
}


@pytest.mark.parametrize(("kind", "cell"), [(kind, cell) for kind, cells in KINDS.items() for cell in cells])
def test_kinds_of_cells(kind: Kind, cell: str) -> None:
    """Every way to write, or to miss, a number is told from the others."""
    assert kind_of(cell) == kind


@given(st.text(max_size=30) | st.from_regex(r"[-+0-9.,eE %']{1,12}", fullmatch=True))
@settings(deadline=None, max_examples=300)
def test_no_cell_is_read_by_chance(cell: str) -> None:
    """Whatever a cell holds, it has a kind; one that is a number is the number that Python's decimals say."""
    kind = kind_of(cell)
    assert kind in KINDS
    if kind == "number":
        (value,) = read_target([cell], [2], column="x").values
        assert value == float(Decimal(cell.strip()))


@given(st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=1, max_size=20))
@settings(deadline=None, max_examples=60)
def test_what_pandas_writes_comes_back(values: list[float]) -> None:
    """Numbers and missing values as pandas writes them into a CSV are the same numbers again, to the last bit."""
    if all(math.isnan(value) for value in values):
        return
    text = pd.DataFrame({"x": values, "y": 0}).to_csv(index=False)
    cells = [line.split(",")[0] for line in text.splitlines()[1:]]
    found = read_target(cells, range(2, len(values) + 2), column="x")
    assert np.array_equal(found.values, np.array(values), equal_nan=True)
    assert found.missing == tuple(at + 2 for at, value in enumerate(values) if math.isnan(value))


@pytest.mark.parametrize("part", ["1", "1,", "1 ", "1;", "1 -", "[", "a", " "])
def test_long_cells_are_text_at_once(part: str) -> None:
    """A cell of 100,000 signs keeps no pattern busy, and neither does one of the longest that is looked at."""
    begin = time.process_time()
    assert kind_of("1" + part * 100_000 + "x9") == "text"
    kind_of(("1" + part * 100)[:97] + "x9")
    assert time.process_time() - begin < 0.5


def test_missing_values_are_told() -> None:
    """How many cells have none, and where."""
    found = read_target(["4", "", "NaN", "5"], [2, 3, 4, 9], column="age")
    assert found.missing == (3, 4)
    assert found.notes == ('column "age": 2 cells without a value (lines 3, 4)',)


def test_decimal_commas_are_told() -> None:
    """A column in which a comma can only be decimal is read so, `1,234` in it too, and that is said by example."""
    found = read_target(["4,5", "1,234", "7"], [2, 3, 4], column="age")
    assert found.values.tolist() == [4.5, 1.234, 7.0]
    assert found.notes == ('column "age": 2 numbers with a decimal comma: 1,234 is read as 1.234',)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["4", "12 months", "9 months"], r't.csv, line 3: "12 months" in column "age" holds a unit \(so is line 4\)'
                                         r".*: write 12 alone, and the unit once, as task.unit=months$"),
        (["20 °C", "3", "4"], r"line 2: .*'task.unit=°C'"),
        (["1,234", "5", "6"], r'"1,234" in column "age" may be 1234 or 1.234; .*: write a decimal point, and no sign'),
        (["12.5", "1,234", "6"], "may be 1234 or 1.234"),
        (["4,5", "4.5", "6"], r'decimal comma in line 2 \("4,5"\) and a decimal point in line 3 \("4.5"\)'),
        (["1.234,5", "4,5", "6"], "signs or spaces between its digits"),
        (["4", "inf", "1e999"], r'line 3: "inf" .* is not finite \(so is line 4\)'),
        (["4", "true", "5"], "is true or false; .*task.kind=classify"),
        (["4", "2024-05-01", "5"], "looks like a date or a time; .*days or hours"),
        (["4", "3;4", "5"], "holds several numbers; .*a column of its own"),
        (["4", "3-5", "x"], "is no single number; 1 other cell is no number either; every cell must be one number"),
        (["4", "old", "?"], r'line 3: "old" in column "age" is text \(so is line 4\).*task.kind=classify'),
        (["4", "\x1b[31m", "5"], r'"\\x1b\[31m"'),
        (["", "NaN", ""], 'column "age" has no value in 3 rows'),
    ],
)  # fmt: skip
def test_what_is_no_number_is_refused(cells: list[str], message: str) -> None:
    """The line, the value, the rule and the remedy; nothing becomes a missing value in silence."""
    with pytest.raises(DataError, match=message):
        read_target(cells, [2, 3, 4], column="age", table="t.csv")


def test_codes_and_long_numbers_are_told() -> None:
    """007 loses its zeros, and numbers beyond 2^53 their last digits: read, and said."""
    found = read_target(["007", "12345678901234567890", "0" * 90], [2, 3, 4], column="id")
    assert found.values.tolist() == [7, 1.2345678901234567e19, 0]
    assert "007 is read as 7: is it a number, or a code?" in found.notes[0]
    assert "holds numbers of more digits than are kept exactly" in found.notes[1]
    assert [is_code(cell) for cell in ("007", "0", "0.5", "70")] == [True, False, False, False]


def test_several_targets() -> None:
    """One column each; a row with some values is kept, one with none is marked and told."""
    found = read_targets({"age": ["4", "", ""], "weight": ["2,5", "3,5", ""]}, [2, 3, 4], table="t.csv")
    assert found.names == ("age", "weight")
    assert np.array_equal(found.values, [[4, 2.5], [math.nan, 3.5], [math.nan, math.nan]], equal_nan=True)
    assert found.known.tolist() == [True, True, False]
    assert found.notes[-1] == "1 row without any target (line 4): left out"
    with pytest.raises(DataError, match="name at least one"):
        read_targets({}, [])
    with pytest.raises(ValueError, match="one of each"):
        read_target(["4"], [2, 3], column="age")


def test_parts_of_a_cell_with_a_unit() -> None:
    """Number and unit as they are written, the sign of a currency ahead too; other cells have none."""
    assert [parts_of(cell) for cell in ("12 months", "$5", "12,5mm")] == [("12", "months"), ("5", "$"), ("12,5", "mm")]
    with pytest.raises(ValueError, match="no number with a unit"):
        parts_of("12")


MANY = [str(value) for value in range(FEW + 1)]


@pytest.mark.parametrize(
    ("cells", "task", "reason"),
    [
        (MANY, "regress", "holds 21 different whole numbers"),
        ([*MANY, "", "NaN"], "regress", "21 different whole"),
        (["0.5", "0.5", "1"], "regress", "2 different numbers, some with a fraction"),
        (["0,5", "1", "2"], "regress", "some with a fraction"),
        (["0", "1", "1.0", ""], "unclear", r"2 different whole numbers \(0, 1\)"),
        (MANY[:FEW], "unclear", "20 different whole numbers"),
        (["10", "9", "2"], "unclear", r"\(2, 9, 10\)"),
        (["cat", "dog"], "classify", "2 different words"),
        (["true", "false"], "classify", "words"),
        (["cat", "dog", "3"], "classify", "3 different words"),
        ([*MANY, "old"], "unclear", 'holds 21 numbers, and "old"'),
        ([f"{n} months" for n in range(30)], "unclear", 'numbers with a unit, as "0 months"'),
        (["2D", "3D"], "classify", "2 different words"),
        (["00123", "04567"], "unclear", "codes such as 00123"),
        ([f"2024-05-{d:02d}" for d in range(1, 29)], "unclear", "28 different dates or spans"),
        (["1,234", "5,678"], "unclear", r"2 different whole numbers \(1,234, 5,678\)"),
        (["", "NaN"], "unclear", "has no value"),
        ([], "unclear", "has no value"),
    ],
)  # fmt: skip
def test_which_task_is_meant(cells: list[str], task: str, reason: str) -> None:
    """Many different numbers or fractions: regress. Words: classify. Else unclear, with both ways to say it."""
    found = which_task(cells)
    message = found.message("target", "t.csv")
    assert found.task == task
    with pytest.raises(ValueError, match=reason):
        raise ValueError(message)
    ways = [f"task.kind={way}" in message for way in ("regress", "classify")]
    assert ways == [task == "unclear"] * 2


def test_a_message_says_what_to_do() -> None:
    """One line, as it is printed."""
    assert which_task(["0", "1", "2"]).message("target", "t.csv") == (
        't.csv: column "target" holds 3 different whole numbers (0, 1, 2): is it a number or a class?; say '
        "task.kind=regress for a number, or task.kind=classify for classes"
    )
    assert "(once it stands alone, with task.unit=months)" in which_task(["1 months", "2 months", "3 months"]).message(
        "t"
    )
