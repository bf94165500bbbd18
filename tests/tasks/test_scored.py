"""What a page says of any score: whether the trivial answer is beaten, on which scale, in which words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convnext.tasks.score import Score
from convnext.tasks.scored import followed_of, headline_of, settled, tile_of
from convnext.tasks.words import PERCENT, PLAIN, Unit, quoted_names

MAE = Score("mae", "MAE", "months", higher_is_better=False)
BIAS = Score("bias", "bias", "mm", higher_is_better=False, digits=2)
SHARE = Score("within", "within 12 months")


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"intervals": {"mae": [7.0, 9.0]}}, 1),
        ({"intervals": {"mae": [7.0, 11.0]}}, 0),
        ({"intervals": {"mae": [10.5, 11.0]}}, -1),
        ({}, 1),  # nothing but the numbers: 8 is less than 10
        ({"gains": {"mae": {"value": 2.0, "interval": [0.5, 3.5]}}}, 1),
        ({"gains": {"mae": {"value": 2.0, "interval": [-0.5, 3.5]}}, "intervals": {"mae": [7.0, 9.0]}}, 0),
        ({"gains": {"mae": {"value": -2.0, "interval": [-3.0, -1.0]}}}, -1),
        ({"gains": {"mae": {"value": "x"}}, "intervals": {"mae": [7.0, 9.0]}}, 1),
        ({"baselines": {}}, None),
        ({"mae": None}, None),
    ],
)
def test_less_error_than_the_trivial_answer_is_better(changes: dict[str, Any], where: int | None) -> None:
    """An error of 8 against 10: the paired gain has the last word, then the interval, in the direction of the score."""
    assert settled(MAE, {"mae": 8.0, "baselines": {"mae": 10.0}} | changes) == where


@given(st.floats(-1e6, 1e6), st.floats(0, 1e5), st.floats(-1e6, 1e6))
def test_a_tile_holds_all_it_shows(value: float, width: float, baseline: float) -> None:
    """Value, interval and tick lie on the tile's scale, whose ends are round and, for positive numbers, begin at 0."""
    result = {"bias": value, "intervals": {"bias": [value - width, value + width]}, "baselines": {"bias": baseline}}
    tile = tile_of(BIAS, result)
    assert tile is not None
    shown = (value, value - width, value + width, baseline)
    slack = 1e-6 * max(1.0, abs(tile.high))
    assert all(tile.low - slack <= number <= tile.high + slack for number in shown)
    assert tile.low == (0.0 if min(shown) >= 0 else -tile.high)
    assert f"{tile.high:e}"[0] in "125"


def test_shares_have_the_whole_scale() -> None:
    """A share lies between 0 and 100 %, whatever its value; a score that a result lacks has no tile."""
    tile = tile_of(SHARE, {"within": 0.03})
    assert tile is not None
    assert (tile.low, tile.high, tile.against, tile.title) == (0.0, 1.0, "", "Within 12 months")
    assert tile_of(SHARE, {"within": float("nan")}) is None


def test_the_headline_names_score_interval_and_trivial_answer() -> None:
    """In the unit of the score; without a baseline there is nothing to compare with."""
    result = {"mae": 8.0, "intervals": {"mae": [7.0, 9.0]}, "baselines": {"mae": 10.0},
              "gains": {"mae": {"value": 2.0, "interval": [-0.5, 3.5]}}}  # fmt: skip
    found = headline_of(MAE, result, "47 months")
    assert found.score.replace("\u00a0", " ") == "MAE 8.0 months (7.0\u20139.0)"
    assert (found.where, found.gets.replace("\u00a0", " ")) == (0, "10.0 months")
    told = "On the same pictures the gain is +2.0 months, 95 % interval \u22120.5 to +3.5: chance may do that."
    assert found.difference == told
    assert headline_of(MAE, {"mae": 8.0}, "").where is None


def test_a_rise_is_a_hundredth_of_what_is_to_be_beaten() -> None:
    """Of shares a point, of numbers a hundredth of the trivial answer's error; the direction is the score's."""
    found = followed_of(MAE, "Error", "why", 40.0)
    assert (found.rise, found.better(1.0, 2.0), found.best_of([3.0, 1.0])) == (pytest.approx(0.4), True, 1.0)
    assert followed_of(SHARE, "Share", "why").rise == 0.01
    assert followed_of(SHARE, "Share", "why").best_of([]) is None


@pytest.mark.parametrize(
    ("unit", "value", "text", "change", "tick"),
    [
        (PERCENT, 0.8419, "84.2 %", "+84.2", "84.19\u202f%"),
        (Unit("months", 1), 8.64, "8.6 months", "+8.6", "8.64"),
        (Unit("months", 1), -8.64, "\u22128.6 months", "\u22128.6", "-8.64"),
        (PLAIN, 0.00123, "1.23e-03", "+0.001", "0.00123"),
        (PLAIN, 0.0, "0.000", "0.000", "0"),
        (PERCENT, -0.0001, "0.0 %", "0.0", "-0.01\u202f%"),
        (PERCENT, float("inf"), "\u2013", None, None),
    ],
)
def test_numbers_are_written_with_their_unit(
    unit: Unit, value: float, text: str, change: str | None, tick: str | None
) -> None:
    """Value, difference and tick; what is no number is a dash, and a difference that rounds to 0 has no sign."""
    assert unit.text(value).replace("\u00a0", " ") == text
    if change is not None:
        assert unit.change(value) == change
        assert unit.tick(value) == tick


def test_many_names_end_in_a_number() -> None:
    """Names beyond the most are counted."""
    assert quoted_names(["a", "b", "c"], 2) == "\u201ca\u201d, \u201cb\u201d and 1 more"
    assert quoted_names(["a"], 2) == "\u201ca\u201d"
