"""Two answers to the same pictures: against scipy's binomial test, published values and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from convnext.metrics.paired import FEW, bootstrap_p, gain, gain_of_counts, holm, mcnemar, side


@given(st.integers(0, 80), st.integers(0, 80))
@settings(deadline=None, max_examples=60)
def test_mcnemar_is_scipys_sign_test(won: int, lost: int) -> None:
    """The exact p value is scipy's two-sided binomial test of the disagreements, and 1 where there is none."""
    wanted = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert mcnemar(won, lost) == pytest.approx(wanted, rel=1e-9)
    assert mcnemar(won, lost) == mcnemar(lost, won)


@pytest.mark.parametrize(("won", "lost"), [(500, 501), (700, 500), (26_000, 25_000)])
def test_many_disagreements_are_exact_too(won: int, lost: int) -> None:
    """Thousands of disagreements: the same p value by logarithms, scipy's."""
    assert mcnemar(won, lost) == pytest.approx(binomtest(won, won + lost).pvalue, rel=1e-6)


def test_mcnemars_own_kind_of_table() -> None:
    """3 won and none lost give 1/4, 10 won and 2 lost give 158 / 4096 (both by hand); a negative count is refused."""
    assert mcnemar(3, 0) == 0.25
    assert mcnemar(10, 2) == 2 * (1 + 12 + 66) / 4096
    with pytest.raises(ValueError, match="at least 0"):
        mcnemar(-1, 2)


def test_holm_by_hand() -> None:
    """Holm's own procedure: sorted, times 3, 2, 1, never falling, never above 1, in the order given."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_without_a_difference_it_is_found_in_one_case_of_twenty() -> None:
    """Two models that are equally good: of 400 simulated test sets at most 5 % (and noise) are called different."""
    rng = np.random.default_rng(0)
    called = 0
    for _ in range(400):
        first, second = rng.random((2, 150)) < 0.7
        found = gain_of_counts(int((first & ~second).sum()), int((~first & second).sum()), 150, draws=400)
        called += side(found) != 0
    assert called / 400 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_a_difference_of_counts_is_the_difference_of_pictures() -> None:
    """Drawing the three counts anew is resampling the pictures: the same interval within the bootstrap's noise."""
    each = np.repeat([1, -1, 0], [40, 20, 140])
    found = gain_of_counts(40, 20, 200, draws=4000)
    drawn = np.random.default_rng(5).choice(each, (4000, 200)).mean(1)
    assert found["value"] == pytest.approx(0.1)
    assert found["interval"] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.01)
    with pytest.raises(ValueError, match="parts"):
        gain_of_counts(5, 6, 10)


@pytest.mark.parametrize(
    ("won", "lost", "rest", "wanted"),
    [(30, 5, 65, 1), (5, 30, 65, -1), (22, 18, 60, 0), (4, 0, 0, 0), (4, 0, 46, 0), (8, 0, 50, 1), (0, 0, 9, 0)],
)
def test_few_disagreements_settle_nothing(won: int, lost: int, rest: int, wanted: int) -> None:
    """4 pictures to none may be chance (p = 1/8), however often they are resampled; 8 to none is not (p = 1/128)."""
    assert side(gain_of_counts(won, lost, won + lost + rest)) == wanted
    assert FEW > 8


def test_what_is_no_interval_settles_nothing() -> None:
    """No resamples, a damaged interval, and one without any width: nothing is claimed."""
    assert side(gain(0.2, np.zeros(0), None, None)) == 0
    assert side({"value": 0.2, "interval": [0.1]}) == 0 == side({"interval": [math.nan, 1.0]})
    assert side(gain(1.0, np.ones(50), None, None)) == 0


def test_bootstrap_p_is_never_zero() -> None:
    """1,999 resamples that all agree say p = 2/2000 and no less; values around 0 say 1."""
    assert bootstrap_p(np.ones(1999)) == pytest.approx(0.001)
    assert bootstrap_p(np.array([-1.0, 1.0, -1.0, 1.0])) == 1.0
