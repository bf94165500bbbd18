"""The percentile bootstrap, against the distribution it estimates and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from convnext.metrics import intervals
from convnext.metrics.classification import judge
from convnext.metrics.intervals import CHUNK, count_rows, interval, resamples, wilson


def _answers(right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of two classes, class 0 always named, so that top-1 is the mean of `right`."""
    probs = np.tile([0.8, 0.2], (len(right), 1))
    return probs, np.where(right, 0, 1)


def test_top1_interval_is_the_binomials() -> None:
    """Resampled top-1 is binomial: the interval is its 2.5 and 97.5 % quantiles, within the bootstrap's own noise."""
    n, count = 1000, 4000
    probs, labels = _answers(np.arange(n) < 830)
    low, high = judge(probs, labels, ["a", "b"], majority=None, bootstrap=count)["intervals"]["top1"]
    deviation = np.sqrt(0.83 * 0.17 / n)
    # a resampled 2.5 % quantile has a standard error of 2.67 / sqrt(count) deviations; four of them, and one picture
    tolerance = 4 * 2.67 / np.sqrt(count) * deviation + 1 / n
    wanted = stats.binom.ppf([0.025, 0.975], n, 0.83) / n
    assert [low, high] == pytest.approx(wanted, abs=tolerance)
    wilson = stats.binomtest(830, n).proportion_ci(method="wilson")
    assert [low, high] == pytest.approx([wilson.low, wilson.high], abs=0.005)


def test_top1_interval_covers_the_truth() -> None:
    """Of 300 simulated test sets of 150 pictures about 95 % have the true accuracy inside the interval."""
    rng = np.random.default_rng(3)
    inside = 0
    for trial in range(300):
        probs, labels = _answers(rng.random(150) < 0.8)
        low, high = judge(probs, labels, ["a", "b"], majority=None, bootstrap=300, seed=trial)["intervals"]["top1"]
        inside += low <= 0.8 <= high
    assert 0.90 <= inside / 300 <= 0.98


def test_macro_f1_interval_covers_the_truth() -> None:
    """The interval of a metric that is no plain average, macro F1, covers its population value too."""
    rng = np.random.default_rng(4)
    cells = np.array([[0.40, 0.05, 0.05], [0.05, 0.20, 0.05], [0.04, 0.06, 0.10]])  # P(truth, named)
    f1 = 2 * np.diag(cells) / (cells.sum(0) + cells.sum(1))
    inside = 0
    for trial in range(200):
        truth, named = np.divmod(rng.choice(9, size=300, p=cells.ravel()), 3)
        probs = np.full((300, 3), 0.2)
        probs[np.arange(300), named] = 0.6
        low, high = judge(probs, truth, list("abc"), majority=None, bootstrap=300, seed=trial)["intervals"]["macro_f1"]
        inside += low <= f1.mean() <= high
    assert 0.90 <= inside / 200 <= 0.985


def test_four_times_the_pictures_halve_the_width() -> None:
    """The width falls with the square root of the number of pictures."""
    widths = []
    for n in (400, 1600):
        probs, labels = _answers(np.arange(n) % 5 > 0)
        low, high = judge(probs, labels, ["a", "b"], majority=None, bootstrap=2000)["intervals"]["top1"]
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.15)


def test_the_calibration_error_may_lie_outside() -> None:
    """The documented exception: the value of a noisy metric may lie below its interval, never above it here."""
    rng = np.random.default_rng(5)
    below = above = 0
    for trial in range(40):
        probs = rng.dirichlet(np.full(10, 0.3), 300)
        labels = (probs.cumsum(1) < rng.random((300, 1))).sum(1).clip(0, 9)  # perfectly calibrated
        result = judge(probs, labels, [str(c) for c in range(10)], majority=None, bootstrap=100, seed=trial)
        low, high = result["intervals"]["calibration_error"]
        below += result["calibration_error"] < low
        above += result["calibration_error"] > high
    assert below > 0
    assert above == 0


@pytest.mark.parametrize("n", [1, 7, 300])
def test_draws_are_uniform_and_stable(n: int) -> None:
    """Each picture is drawn as often as any other; a seed gives the same draws again, another seed others."""
    draws = np.concatenate(list(resamples(n, 2000, 0)))
    assert draws.shape == (2000, n)
    expected = np.bincount(draws.ravel(), minlength=n)
    assert expected == pytest.approx(np.full(n, 2000), abs=6 * np.sqrt(2000))
    assert np.array_equal(draws, np.concatenate(list(resamples(n, 2000, 0))))
    assert n == 1 or not np.array_equal(draws, np.concatenate(list(resamples(n, 2000, 1))))


def test_chunks_bound_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk holds at most CHUNK numbers, or one resample; all resamples are given."""
    monkeypatch.setattr(intervals, "CHUNK", 100)
    assert [len(rows) for rows in resamples(30, 8, 0)] == [3, 3, 2]
    assert [len(rows) for rows in resamples(200, 3, 0)] == [1, 1, 1]
    assert list(resamples(5, 0, 0)) == []
    assert CHUNK >= 1 << 16


@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=5))
@settings(deadline=None, max_examples=30)
def test_count_rows_is_bincount_of_each_row(rows: list[list[int]]) -> None:
    """Counting rows together equals counting them one by one."""
    values = np.array(rows)
    assert count_rows(values, 5).tolist() == [np.bincount(row, minlength=5).tolist() for row in values]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
@settings(deadline=None, max_examples=50)
def test_interval_lies_within_the_values(values: list[float]) -> None:
    """low <= high, and both lie between the smallest and the largest value."""
    low, high = interval(np.array(values))
    assert min(values) <= low + 1e-12
    assert low <= high
    assert high <= max(values) + 1e-12


def test_interval_of_known_values() -> None:
    """Quantiles as numpy's, also at another level, and the whole range where nothing is known."""
    values = np.arange(1001) / 1000
    assert interval(values) == pytest.approx([0.025, 0.975])
    assert interval(values, level=0.5) == pytest.approx([0.25, 0.75])
    assert interval(np.array([])) == [0.0, 1.0]


@pytest.mark.parametrize(("n", "count", "seed"), [(0, 10, 0), (5, -1, 0), (5, 10, -1)])
def test_wrong_numbers_are_refused(n: int, count: int, seed: int) -> None:
    """No pictures, or a negative count or seed, is an error that says the rule."""
    with pytest.raises(ValueError, match="must be at least 1"):
        list(resamples(n, count, seed))


@pytest.mark.parametrize(("right", "n"), [(0, 10), (7, 10), (283, 364), (364, 364)])
def test_the_score_interval_is_scipys(right: int, n: int) -> None:
    """Wilson's, as scipy has it; a share that is none is refused."""
    wanted = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right / n, n) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    with pytest.raises(ValueError, match="must be from 0 to 1"):
        wilson(1.5, n)
