"""Numbers as people read them."""

from __future__ import annotations

import pytest

from convnext.tasks.words import PERCENT, PLAIN, Unit, for_terminal


@pytest.mark.parametrize(
    ("value", "text"),
    [(8.64, "8.6 months"), (-8.64, "\u22128.6 months"), (-0.04, "0.0 months"), (0.0, "0.0 months"), (None, "\u2013")],
)
def test_a_number_has_a_true_minus_sign_and_no_minus_zero(value: float | None, text: str) -> None:
    """As in its difference; a terminal gets the sign that every font has."""
    assert Unit("months", 1).text(value).replace("\u00a0", " ") == text
    assert for_terminal(Unit("months", 1).text(value)).isascii()


def test_an_interval_below_zero_is_not_written_with_three_dashes() -> None:
    """An en dash between two minus signs cannot be read."""
    assert Unit("", 3).span((-3.309, -0.294)) == "\u22123.309 to \u22120.294"
    assert Unit("", 1).span((-2.4, 1.0)) == "\u22122.4 to 1.0"
    assert PERCENT.span((0.81, 0.871)) == "81.0\u201387.1"


def test_small_numbers_without_digits_are_written_with_a_power() -> None:
    """Three figures that count, whatever the size."""
    assert [PLAIN.text(value) for value in (0.0, 0.0042, -0.5, 12.0)] == ["0.000", "4.20e-03", "\u22120.500", "12.000"]
