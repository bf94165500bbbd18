"""Targets standardised and put back: against scikit-learn's scaler, scipy's log-normal and analytic values."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.preprocessing import StandardScaler

from convnext.errors import DataError
from convnext.tasks.regress.scaling import Scaling, Target

RNG = np.random.default_rng(0)
VALUES = np.column_stack([RNG.normal(40, 12, 200), RNG.lognormal(3, 1, 200)])
VALUES[3, 0] = VALUES[7, 1] = np.nan
TWO = (Target("age", "months"), Target("weight", "g", log=True))


def test_standardising_is_scikit_learns() -> None:
    """Mean and deviation are StandardScaler's, of the values or of their logarithms; missing values are left out."""
    scaling = Scaling.of(TWO, VALUES)
    wanted = StandardScaler().fit_transform(np.column_stack([VALUES[:, 0], np.log(VALUES[:, 1])]))
    assert np.allclose(scaling.standardise(VALUES), wanted, equal_nan=True)


@given(st.lists(st.floats(1e-3, 1e9), min_size=2, max_size=20).filter(lambda v: max(v) > 1.001 * min(v)), st.booleans())
@settings(deadline=None, max_examples=60)
def test_back_undoes_standardising(values: list[float], log: bool) -> None:
    """Values come back, on either scale."""
    column = np.array(values)[:, None]
    scaling = Scaling.of([Target("x", log=log)], column)
    assert scaling.back(scaling.standardise(column)) == pytest.approx(column, rel=1e-9, abs=1e-6)


def test_spreads_come_back() -> None:
    """Linear: times the deviation. Log: half of a log-normal's middle 68.27 %, as scipy has it."""
    scaling = Scaling.of(TWO, VALUES)
    values, spreads = np.array([[0.4, -0.3], [-1.0, 1.2]]), np.array([[0.5, 0.25], [0.1, 0.7]])
    found = scaling.spread_back(values, spreads)
    assert found[:, 0] == pytest.approx(spreads[:, 0] * scaling.deviation[0])
    for row in range(2):
        mean, deviation = scaling.mean[1], scaling.deviation[1]
        normal = stats.lognorm(s=spreads[row, 1] * deviation, scale=math.exp(values[row, 1] * deviation + mean))
        low, high = normal.ppf(stats.norm.cdf([-1, 1]))
        assert found[row, 1] == pytest.approx((high - low) / 2)


def test_answers_stay_within_the_range() -> None:
    """Answers beyond task.range become its ends, standardised ones too, on either scale; an open end bounds nothing."""
    targets = (
        Target("age", low=0.0, high=100.0),
        Target("weight", log=True, low=0.0, high=50.0),
        Target("z", low=-1.0),
    )
    values = np.column_stack([VALUES[:, 0].clip(0, 100), VALUES[:, 1].clip(1, 50), RNG.random(200)])
    scaling = Scaling.of(targets, values)
    far = np.array([[-99.0, -99.0, -99.0], [99.0, 99.0, 99.0], [0.1, 0.1, 0.1]])
    found = scaling.back(far)
    assert found[:2].T.tolist()[0] == [0, 100]
    assert 0 < found[0, 1] < 1e-20
    assert found[1, 1] == 50
    assert found[0, 2] == -1
    assert found[1, 2] > 10
    assert scaling.back(scaling.clip(far)) == pytest.approx(found)
    assert scaling.clip(far)[2] == pytest.approx(far[2])


def test_answers_are_finite_on_a_log_scale() -> None:
    """An absurd output gives a large number, not an infinite one."""
    scaling = Scaling.of([Target("x", log=True)], np.array([[1.0], [1e6]]))
    assert np.isfinite(scaling.back(np.array([[1e9], [-1e9]]))).all()
    assert np.isfinite(scaling.spread_back(np.array([[0.0]]), np.array([[1e9]]))).all()


@pytest.mark.parametrize(
    ("target", "column", "message"),
    [
        (Target("w", log=True), [5.0, 0.0, -2.0], r't.csv, line 3: target "w" is 0; .*above 0 \(2 values.*task.scale'),
        (Target("w", low=0, high=9), [5.0, 4.0, 11.5], r'line 4: target "w" is 11.5; task.range is 0 to 9: .*widen'),
        (Target("w", low=0), [5.0, -4.0, 1.0], r"line 3: .* is -4; task.range is 0 to open"),
        (Target("w"), [5.0, math.inf, 1.0], r"line 3: .* is inf; every value must be finite"),
        (Target("w", "g"), [5.0, 5.0, math.nan], r'target "w" is 5 g in all 2 training pictures'),
        (Target("w"), [math.nan] * 3, "no value in the training pictures"),
        (Target("w"), [1e300, -1e300, 0.0], "both must be finite"),
    ],
)
def test_impossible_values_are_refused(target: Target, column: list[float], message: str) -> None:
    """The value, where it stands, the rule and the remedy."""
    places = [f"t.csv, line {at}" for at in (2, 3, 4)]
    with pytest.raises(DataError, match=message):
        Scaling.of([target], np.array(column)[:, None], places)


def test_later_values_are_checked_too() -> None:
    """A value of the validation pictures that the log scale does not know is refused, not turned into NaN."""
    scaling = Scaling.of(TWO, VALUES)
    with pytest.raises(DataError, match='target "weight" is 0; on a log scale'):
        scaling.standardise(np.array([[3.0, 0.0]]))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"low": 5.0, "high": 5.0}, "5.0 to 5.0"),
        ({"low": math.nan}, "nan to None"),
        ({"log": True, "high": 0.0}, "on a log scale"),
    ],
)
def test_impossible_ranges_are_refused(kwargs: dict[str, float], message: str) -> None:
    """An empty range, one that is no number, or one that has no logarithm."""
    with pytest.raises(DataError, match=message):
        Target("w", **kwargs)  # type: ignore[arg-type]


def test_json_comes_back() -> None:
    """What a model file holds gives the same scaling, bit for bit."""
    scaling = Scaling.of((Target("ä", "°C", low=-300.0), TWO[1]), VALUES)
    assert Scaling.from_json(json.loads(json.dumps(scaling.to_json()))) == scaling


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [1.0]},
        {"mean": "12"},
        {"mean": [True, 1.0]},
        {"mean": [10**400, 0]},
        {"deviation": [0.0, 1.0]},
        {"deviation": [math.nan, 1.0]},
        {"targets": []},
        {"targets": [3, 4]},
        {"targets": [{"name": "x"}, {}]},
    ],
)
def test_damaged_descriptions_are_refused(change: dict[str, object]) -> None:
    """A description of another form, or with a deviation of 0 or NaN, is an error and no scaling."""
    with pytest.raises(DataError):
        Scaling.from_json(Scaling.of(TWO, VALUES).to_json() | change)
    with pytest.raises(DataError, match="not readable"):
        Scaling.from_json(None)


def test_shapes_are_checked() -> None:
    """Values of another number of targets are an error of the program, not broadcast."""
    with pytest.raises(ValueError, match=r"must be \(N, 2\)"):
        Scaling.of(TWO, VALUES).back(np.zeros(2))
