"""Split-conformal intervals: against MAPIE and crepes, exact distributions, and by simulation."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from crepes import ConformalRegressor
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.regression import SplitConformalRegressor
from scipy import stats
from sklearn.linear_model import LinearRegression

from convnext.errors import DataError
from convnext.tasks.regress.conformal import (
    SMALLEST_SPREAD,
    Calibration,
    calibrate,
    conformal_quantile,
    interval_text,
    intervals_in_unit,
    needed,
    rank,
)
from convnext.tasks.regress.scaling import Scaling, Target

RNG = np.random.default_rng(0)
PLAIN = Scaling((Target("x"),), (0.0,), (1.0,))


def _fitted(n: int) -> tuple[np.ndarray, np.ndarray, LinearRegression]:
    """Calibration pictures of one feature, their truth, and a model that is poor enough."""
    x = RNG.normal(size=(n, 1))
    y = 2 * x[:, 0] + RNG.normal(size=n)
    return x, y, LinearRegression().fit(x[:5], y[:5])


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [20, 57, 99, 137])
def test_absolute_intervals_are_mapies(n: int, level: float) -> None:
    """MAPIE gives the same intervals for the same model and calibration pictures."""
    (x, y, model), new = _fitted(n), RNG.normal(size=(7, 1))
    (calibration,) = calibrate(y[:, None], model.predict(x)[:, None], None, level)
    (ours,) = intervals_in_unit(PLAIN, [calibration], model.predict(new)[:, None])
    mapie = SplitConformalRegressor(model, confidence_level=level, prefit=True).conformalize(x, y)
    assert ours == pytest.approx(mapie.predict_interval(new)[1][:, :, 0])


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [20, 57, 137])
def test_absolute_intervals_are_those_of_crepes(n: int, level: float) -> None:
    """So does crepes, at numbers of pictures at which rounding does not move its rank.

    With 99 and a level of 0.9, crepes 0.9.1 takes 9 for (1 - 0.9) * 100, which is 9.999999999999998: one rank too high.
    """
    (x, y, model), new = _fitted(n), RNG.normal(size=(7, 1))
    (calibration,) = calibrate(y[:, None], model.predict(x)[:, None], None, level)
    (ours,) = intervals_in_unit(PLAIN, [calibration], model.predict(new)[:, None])
    crepes = ConformalRegressor().fit(y - model.predict(x))
    assert ours == pytest.approx(crepes.predict_int(model.predict(new), confidence=level))


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_scaled_intervals_are_crepes(level: float) -> None:
    """Residuals divided by the predicted spread: the normalised conformal regressor of crepes."""
    spreads = RNG.uniform(0.1, 3, 60)
    truth, values = RNG.normal(size=60) * spreads, RNG.normal(size=60) / 10
    new, new_spreads = RNG.normal(size=9), RNG.uniform(0.1, 3, 9)
    (calibration,) = calibrate(truth[:, None], values[:, None], spreads[:, None], level)
    (ours,) = intervals_in_unit(PLAIN, [calibration], new[:, None], new_spreads[:, None])
    crepes = ConformalRegressor().fit(truth - values, sigmas=spreads)
    assert ours == pytest.approx(crepes.predict_int(new, sigmas=new_spreads, confidence=level))


@given(st.integers(1, 400), st.fractions("1/100", "99/100", max_denominator=100))
@settings(deadline=None, max_examples=80)
def test_rank_and_needed_are_exact(n: int, level: object) -> None:
    """In whole numbers: k is the smallest with k / (n + 1) >= level, and n is enough from `needed` on."""
    exact = level * 100  # type: ignore[operator]
    if exact.denominator != 1:
        return
    k = rank(n, float(level))  # type: ignore[arg-type]
    assert k * 100 >= exact * (n + 1) > (k - 1) * 100
    assert (n >= needed(float(level))) == (k <= n)  # type: ignore[arg-type]


def test_numbers_needed() -> None:
    """9 pictures at 90 %, 19 at 95 %, 99 at 99 %: ceil(1 / alpha) - 1."""
    assert [needed(level) for level in (0.5, 0.9, 0.95, 0.99, 0.999)] == [1, 9, 19, 99, 999]
    assert rank(99, 0.55) == 55


@pytest.mark.parametrize("n", [0, 1, 8])
def test_too_few_give_no_interval(n: int) -> None:
    """With fewer than 9 pictures there is no 90 % interval, and the sentence says how many are needed; with 9 one."""
    truth = RNG.normal(size=(n, 1))
    (calibration,) = calibrate(truth, np.zeros((n, 1)), np.ones((n, 1)), 0.9)
    assert calibration == Calibration(0.9, n, None, None)
    assert intervals_in_unit(PLAIN, [calibration], np.zeros((4, 1))) == [None]
    assert intervals_in_unit(PLAIN, [calibration], np.zeros((4, 1)), np.ones((4, 1))) == [None]
    assert f"at least 9 calibration pictures with a known value, and there {'is 1' if n == 1 else f'are {n}'}:" in (
        calibration.shortage("age")
    )
    (enough,) = calibrate(np.arange(9.0)[:, None], np.zeros((9, 1)), None, 0.9)
    assert enough.absolute == 8
    assert enough.shortage("age") == ""


def test_targets_are_calibrated_separately() -> None:
    """A missing value of one target leaves the other alone; each has its own number and width, or none."""
    truth = RNG.normal(size=(20, 2))
    truth[:12, 1] = np.nan
    values = np.zeros((20, 2))
    first, second = calibrate(truth, values, None, 0.9)
    assert first == calibrate(truth[:, :1], values[:, :1], None, 0.9)[0]
    assert (first.pictures, second.pictures, second.absolute) == (20, 8, None)
    scaling = Scaling((Target("a"), Target("b")), (0.0, 0.0), (1.0, 1.0))
    found = intervals_in_unit(scaling, [first, second], np.zeros((3, 2)))
    assert found[1] is None
    assert found[0] == pytest.approx(np.array([[-first.absolute, first.absolute]] * 3))  # type: ignore[operator]


def _coverage(truth: np.ndarray, values: np.ndarray, spreads: np.ndarray | None, n: int, level: float) -> np.ndarray:
    """Coverage of the rest after calibrating on n pictures, over 1,000 random resplits."""
    rng = np.random.default_rng(1)
    found = np.empty(1000)
    for i in range(1000):
        order = rng.permutation(len(truth))
        mine, rest = order[:n], order[n:]
        (calibration,) = calibrate(truth[mine], values[mine], None if spreads is None else spreads[mine], level)
        part = None if spreads is None else spreads[rest]
        (ends,) = intervals_in_unit(PLAIN, [calibration], values[rest], part)
        assert ends is not None
        found[i] = ((truth[rest, 0] >= ends[:, 0]) & (truth[rest, 0] <= ends[:, 1])).mean()
    return found


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(("n", "level"), [(19, 0.9), (60, 0.9), (60, 0.8)])
def test_coverage_over_resplits(n: int, level: float, scaled: bool) -> None:
    """Over 1,000 resplits of 160 pictures with heavy-tailed errors of very different sizes, the covered pictures have
    the mean and the spread of their exact distribution (beta-binomial, k of n + 1), whether or not scaled."""
    rng = np.random.default_rng(5)
    spreads = rng.uniform(0.2, 3, (160, 1))
    values = rng.normal(size=(160, 1))
    truth = values + spreads * rng.standard_t(3, size=(160, 1))
    found = _coverage(truth, values, spreads if scaled else None, n, level) * (160 - n)
    k = rank(n, level)
    wanted = stats.betabinom(160 - n, k, n + 1 - k)
    assert found.mean() == pytest.approx(wanted.mean(), abs=4 * wanted.std() / math.sqrt(1000))
    assert found.std() == pytest.approx(wanted.std(), rel=0.12)
    assert level <= wanted.mean() / (160 - n) <= level + 1 / (n + 1)


def test_scaled_intervals_follow_the_difficulty() -> None:
    """Where the spread tells hard pictures from easy ones, scaled intervals cover both alike; equal ones do not."""
    rng = np.random.default_rng(6)
    spreads = np.where(np.arange(4000) % 2, 3.0, 0.3)[:, None]
    truth, values = spreads * rng.normal(size=(4000, 1)), np.zeros((4000, 1))
    (calibration,) = calibrate(truth[:2000], values[:2000], spreads[:2000], 0.9)
    covered = []
    for part in (None, spreads[2000:]):
        (ends,) = intervals_in_unit(PLAIN, [calibration], values[2000:], part)
        assert ends is not None
        inside = (truth[2000:, 0] >= ends[:, 0]) & (truth[2000:, 0] <= ends[:, 1])
        covered.append([inside[::2].mean(), inside[1::2].mean()])
    assert covered[0][0] > 0.99
    assert covered[0][1] < 0.83
    assert covered[1] == pytest.approx([0.9, 0.9], abs=0.03)


def test_intervals_on_a_log_scale_are_ratios() -> None:
    """In the unit the ends are the answer divided and multiplied by one factor, and they cover as wanted."""
    rng = np.random.default_rng(7)
    grams = np.exp(rng.normal(3, 1, size=(600, 1)))
    scaling = Scaling.of([Target("weight", "g", log=True)], grams)
    standardised = scaling.standardise(grams)
    values = standardised + rng.normal(size=(600, 1)) / 4
    calibrations = calibrate(standardised[:300], values[:300], None, 0.9)
    (ends,) = intervals_in_unit(scaling, calibrations, values[300:])
    answers = scaling.back(values[300:])[:, 0]
    assert ends is not None
    assert answers / ends[:, 0] == pytest.approx(ends[:, 1] / answers)
    assert answers / ends[:, 0] == pytest.approx(np.full(300, (answers / ends[:, 0])[0]))
    inside = (grams[300:, 0] >= ends[:, 0]) & (grams[300:, 0] <= ends[:, 1])
    assert inside.mean() == pytest.approx(0.9, abs=0.05)


def test_intervals_stay_within_the_range() -> None:
    """Answers and ends are cut to task.range, and an interval always holds its answer."""
    scaling = Scaling((Target("age", low=0.0, high=10.0),), (5.0,), (2.0,))
    (calibration,) = calibrate(np.full((9, 1), 0.5), np.zeros((9, 1)), None, 0.9)
    values = np.array([[-90.0], [-2.4], [0.0], [90.0]])
    (ends,) = intervals_in_unit(scaling, [calibration], values)
    assert ends is not None
    assert ends == pytest.approx(np.array([[0, 1], [0, 1.2], [4, 6], [9, 10]]))
    answers = scaling.back(values)[:, 0]
    assert ((answers >= ends[:, 0]) & (answers <= ends[:, 1])).all()


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((34.2, 25.1, 43.3), "34 ± 9 months, 90 %"),
        ((34.2, 31.8, 36.6), "34.2 ± 2.4 months, 90 %"),
        ((1234.5, 1088.5, 1380.5), "1,234 ± 146 months, 90 %"),
        ((0.5123, 0.5096, 0.515), "0.5123 ± 0.0027 months, 90 %"),
        ((4.0, 0.0, 9.0), "4 (0 to 9) months, 90 %"),
        ((34.2, 25.0, 46.8), "34 (25 to 47) months, 90 %"),
        ((10.0, 10.0, 10.0), "10.00 ± 0.00 months, 90 %"),
        ((0.5, -9.4, 10.4), "0 ± 10 months, 90 %"),
    ],
)
def test_answers_in_words(numbers: tuple[float, float, float], text: str) -> None:
    """Value and half-width in the digits that the half-width bears (0.827 as 0.8, 0.123 as 0.12, 0.963 as 1.0)."""
    assert interval_text(Target("age", "months"), *numbers, 0.9) == text


def test_answers_without_a_unit_in_words() -> None:
    """Levels that are no whole per cent are written out; no unit leaves no gap."""
    assert interval_text(Target("x"), 1.0, 0.5, 1.5, 0.925) == "1.0 ± 0.5, 92.5 %"


def test_a_spread_of_zero_divides_nothing() -> None:
    """Spreads of 0 count as the smallest one, in calibrating and in answering."""
    (calibration,) = calibrate(np.full((9, 1), 0.1), np.zeros((9, 1)), np.zeros((9, 1)), 0.9)
    assert calibration.scaled == pytest.approx(0.1 / SMALLEST_SPREAD)
    assert calibration.half_widths(np.zeros(2), 2) == pytest.approx([0.1, 0.1])


def test_json_comes_back() -> None:
    """What a model file holds gives the same calibration; damaged ones, and made-up widths, are refused."""
    found = calibrate(RNG.normal(size=(30, 2)), np.zeros((30, 2)), np.ones((30, 2)), 0.9)
    for calibration in (*found, Calibration(0.9, 3, None)):
        assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration
    good = found[0].to_json()
    for change in ({"level": 1.5}, {"level": None}, {"pictures": 3}, {"pictures": "9"}, {"absolute": math.nan},
                   {"absolute": None}, {"scaled": -1.0}, {"scaled": True}):  # fmt: skip
        with pytest.raises(DataError, match="not readable"):
            Calibration.from_json(good | change)
    with pytest.raises(DataError, match="not readable"):
        Calibration.from_json([])
    with pytest.raises(ValueError, match="9 are needed"):
        Calibration(0.9, 3, None, 2.0)


def test_wrong_numbers_are_refused() -> None:
    """Answers that are no numbers, shapes that do not fit, and levels of 0 or 100 %."""
    with pytest.raises(ValueError, match="not finite"):
        calibrate(np.zeros((9, 1)), np.full((9, 1), np.nan), None, 0.9)
    with pytest.raises(ValueError, match=r"the same, \(N, T\)"):
        calibrate(np.zeros((9, 1)), np.zeros((9, 2)), None, 0.9)
    for level in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            conformal_quantile(np.ones(5), level)
