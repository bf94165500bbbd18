"""Scores of regression: against scipy and scikit-learn, for values and for resamples, and by simulation."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.dummy import DummyRegressor
from sklearn.metrics import mean_absolute_error, median_absolute_error, r2_score, root_mean_squared_error

from convnext.metrics.intervals import resamples
from convnext.metrics.paired import mcnemar, side
from convnext.tasks.regress.measures import Answers, draws, measure
from convnext.tasks.regress.scores import Record, judge, judge_records, usual_within


def _pictures(n: int, seed: int = 0, whole: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Truth (with ties where whole) and answers with an error of a third of its deviation."""
    rng = np.random.default_rng(seed)
    truth = rng.gamma(2, 12, n)
    values = truth + rng.normal(0, 6, n)
    return (truth.round(), values.round(1)) if whole else (truth, values)


@pytest.mark.parametrize("n", [2, 7, 200, 201])
def test_values_are_scipys_and_scikit_learns(n: int) -> None:
    """Errors, R squared and correlations, with ties, for odd and even numbers of pictures."""
    truth, values = _pictures(n, seed=n)
    found = judge(truth, values, within=[5, 10], bootstrap=0)
    assert found["mae"] == pytest.approx(mean_absolute_error(truth, values))
    assert found["rmse"] == pytest.approx(root_mean_squared_error(truth, values))
    assert found["median_error"] == pytest.approx(median_absolute_error(truth, values))
    assert found["r2"] == pytest.approx(r2_score(truth, values))
    assert found["pearson"] == pytest.approx(stats.pearsonr(truth, values).statistic)
    assert found["spearman"] == pytest.approx(stats.spearmanr(truth, values).statistic)
    assert found["bias"] == pytest.approx(values.mean() - truth.mean())
    assert found["within_5"] == np.mean(np.abs(truth - values) <= 5)
    assert found["within_10"] == np.mean(np.abs(truth - values) <= 10)
    assert found["intervals"] == {}
    assert all(row["intervals"] == {} for row in found["by_range"])


def test_resamples_are_judged_as_sets_of_their_own() -> None:
    """Each metric of a resample by counts is scipy's and scikit-learn's of the pictures that were drawn."""
    truth, values = _pictures(31, seed=3)
    answers = Answers.of(truth, values)
    (counts,) = draws(31, 20, 5)
    (rows,) = resamples(31, 20, 5)
    found = measure(answers, counts, (4.0,))
    for i, row in enumerate(rows):
        x, y = answers.truth[row], answers.values[row]
        assert found["mae"][i] == pytest.approx(mean_absolute_error(x, y))
        assert found["rmse"][i] == pytest.approx(root_mean_squared_error(x, y))
        assert found["median_error"][i] == pytest.approx(median_absolute_error(x, y))
        assert found["r2"][i] == pytest.approx(r2_score(x, y))
        assert found["pearson"][i] == pytest.approx(stats.pearsonr(x, y).statistic)
        assert found["spearman"][i] == pytest.approx(stats.spearmanr(x, y).statistic)
        assert found["within_4"][i] == pytest.approx(np.mean(np.abs(x - y) <= 4))


def test_a_resample_of_one_picture_has_no_correlation() -> None:
    """n times the same picture: R squared and correlations are NaN, not what rounding leaves over."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        found = measure(Answers.of(rng.normal(5, 3, 7), rng.normal(5, 3, 7)), 7 * np.eye(7, dtype=np.intp), ())
        assert all(np.isnan(found[key]).all() for key in ("r2", "pearson", "spearman"))


@pytest.mark.parametrize(
    ("key", "statistic"),
    [
        ("mae", lambda x, y: mean_absolute_error(x, y)),
        ("rmse", lambda x, y: root_mean_squared_error(x, y)),
        ("pearson", lambda x, y: stats.pearsonr(x, y).statistic),
        ("r2", lambda x, y: r2_score(x, y)),
    ],
)
def test_intervals_are_scipys(key: str, statistic: Any) -> None:
    """scipy's percentile bootstrap of the same pictures ends where ours does, within the noise of both."""
    truth, values = _pictures(150, seed=4, whole=False)
    low, high = judge(truth, values, bootstrap=1500)["intervals"][key]
    theirs = stats.bootstrap(
        (truth, values), statistic, paired=True, vectorized=False, n_resamples=600, method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert [low, high] == pytest.approx([theirs.low, theirs.high], abs=0.12 * (high - low))


def test_the_interval_of_the_mae_covers_the_truth() -> None:
    """Of 300 simulated test sets of 120 pictures about 95 % have the true mean error inside the interval."""
    inside, rng = 0, np.random.default_rng(8)
    for trial in range(300):
        truth = rng.normal(0, 20, 120)
        values = truth + rng.normal(0, 5, 120)
        low, high = judge(truth, values, bootstrap=200, seed=trial)["intervals"]["mae"]
        inside += low <= 5 * math.sqrt(2 / math.pi) <= high
    assert 0.905 <= inside / 300 <= 0.98


def test_trivial_answers_are_scikit_learns() -> None:
    """Always the median, and for rmse and r2 always the mean, as DummyRegressor says them of these pictures."""
    truth, values = _pictures(101)
    found = judge(truth, values, within=[5], bootstrap=0)
    empty = np.zeros((101, 1))
    median = DummyRegressor(strategy="median").fit(empty, truth).predict(empty)
    mean = DummyRegressor(strategy="mean").fit(empty, truth).predict(empty)
    assert found["trivial"] == {"median": median[0], "mean": pytest.approx(mean[0])}
    assert found["baselines"] == pytest.approx(
        {
            "mae": mean_absolute_error(truth, median),
            "rmse": root_mean_squared_error(truth, mean),
            "median_error": median_absolute_error(truth, median),
            "bias": median[0] - truth.mean(),
            "within_5": np.mean(np.abs(truth - median) <= 5),
            "r2": 0,
            "pearson": 0,
            "spearman": 0,
        }
    )


def test_gains_are_paired() -> None:
    """Better is above 0, also for errors; pictures won and lost are counted, and their p is scipy's sign test."""
    truth, values = _pictures(300)
    found = judge(truth, values, within=[5])
    for key, sign in {"mae": -1, "rmse": -1, "median_error": -1, "within_5": 1, "r2": 1, "spearman": 1}.items():
        gain = found["gains"][key]
        assert gain["value"] == pytest.approx(sign * (found[key] - found["baselines"][key]))
        assert side(gain) == 1
    gain, closer = found["gains"]["mae"], np.abs(values - truth) - np.abs(np.median(truth) - truth)
    assert (gain["won"], gain["lost"]) == (np.sum(closer < 0), np.sum(closer > 0))
    wanted = stats.binomtest(gain["won"], gain["won"] + gain["lost"]).pvalue
    assert gain["p"] == pytest.approx(wanted) == pytest.approx(mcnemar(gain["won"], gain["lost"]))
    of_mean = np.abs(values - truth) - np.abs(truth.mean() - truth)
    for key in ("rmse", "r2"):
        assert (found["gains"][key]["won"], found["gains"][key]["lost"]) == (np.sum(of_mean < 0), np.sum(of_mean > 0))
    (low, high), (mine, theirs) = gain["interval"], found["intervals"]["mae"]
    assert low < gain["value"] < high
    assert theirs < found["baselines"]["mae"]
    assert mine < found["mae"] < theirs


def test_answers_of_no_worth_gain_nothing() -> None:
    """Answers by chance are worse than the trivial one, and of 200 sets of pure noise hardly any looks better."""
    rng, better = np.random.default_rng(2), 0
    for trial in range(200):
        truth = rng.normal(size=60)
        noise = np.median(truth) + rng.normal(0, 0.02, 60)
        better += side(judge(truth, noise, bootstrap=200, seed=trial)["gains"]["mae"]) == 1
    assert better / 200 < 0.07
    truth = rng.normal(size=200)
    assert side(judge(truth, rng.permutation(truth))["gains"]["mae"]) == -1


def test_errors_by_range_are_those_of_the_parts() -> None:
    """Parts of equally many pictures in rising order, which add up to all; each row is judged by itself."""
    truth, values = _pictures(100, whole=False)
    found = judge(truth, values, bootstrap=300)
    rows = found["by_range"]
    assert [row["n"] for row in rows] == [20] * 5
    assert sum(row["mae"] * row["n"] for row in rows) / 100 == pytest.approx(found["mae"])
    assert sum(row["mae_baseline"] * row["n"] for row in rows) / 100 == pytest.approx(found["baselines"]["mae"])
    for row, after in pairwise(rows):
        assert row["low"] <= row["high"] < after["low"]
    part = (truth >= rows[1]["low"]) & (truth <= rows[1]["high"])
    own = judge(truth[part], values[part], bootstrap=300)
    assert {key: rows[1][key] for key in ("mae", "bias", "median_error")} == pytest.approx(
        {key: own[key] for key in ("mae", "bias", "median_error")}
    )
    for key in ("mae", "bias"):
        width = own["intervals"][key][1] - own["intervals"][key][0]
        assert rows[1]["intervals"][key] == pytest.approx(own["intervals"][key], abs=0.25 * width)


def test_ranges_with_equal_values_are_one() -> None:
    """Equal values never fall into two parts: three different values make three parts at most, a constant one."""
    truth = np.repeat([1.0, 2.0, 9.0], [50, 5, 45])
    rows = judge(truth, truth + 1, bootstrap=0)["by_range"]
    assert [(row["low"], row["high"], row["n"]) for row in rows] == [(1, 2, 55), (9, 9, 45)]
    assert [row["n"] for row in judge(np.ones(9), np.ones(9), bootstrap=0)["by_range"]] == [9]


def test_coverage_and_width() -> None:
    """Share and mean width of the intervals, beside the interval that holds the middle 90 % of the truth."""
    truth, values = _pictures(200, whole=False)
    ends = np.column_stack([values - 9, values + 10])
    found = judge(truth, values, ends=ends, level=0.9)
    inside = (truth >= values - 9) & (truth <= values + 10)
    low, high = np.quantile(truth, [0.05, 0.95])
    assert found["coverage"] == pytest.approx(inside.mean())
    assert found["width"] == pytest.approx(19)
    assert found["baselines"]["width"] == pytest.approx(high - low)
    assert found["baselines"]["coverage"] == 0.9
    assert found["level"] == 0.9
    wilson = stats.binomtest(int(inside.sum()), 200).proportion_ci(method="wilson")
    assert found["intervals"]["coverage"] == pytest.approx([wilson.low, wilson.high], abs=0.015)
    assert {"coverage", "width"} <= found["by_range"][0].keys()
    assert sum(row["coverage"] * row["n"] for row in found["by_range"]) / 200 == pytest.approx(inside.mean())
    all_inside = judge(truth, values, ends=np.column_stack([values - 99, values + 99]))
    lowest = stats.binomtest(200, 200).proportion_ci(method="wilson").low
    assert all_inside["intervals"]["coverage"] == pytest.approx([lowest, 1])


@pytest.mark.parametrize(
    ("truth", "values", "none"),
    [
        ([], [], {"mae", "rmse", "median_error", "bias", "within_5", "r2", "pearson", "spearman"}),
        ([3.0], [4.0], {"r2", "pearson", "spearman"}),
        ([3.0, 3.0, 3.0], [4.0, 2.0, 3.1], {"r2", "pearson", "spearman"}),
        ([1e9 + 0.1] * 7, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], {"r2", "pearson", "spearman"}),
        ([1.0, 2.0, 3.0], [2.3, 2.3, 2.3], {"pearson", "spearman"}),
        (
            [math.nan, math.nan],
            [1.0, 2.0],
            {"mae", "rmse", "median_error", "bias", "within_5", "r2", "pearson", "spearman"},
        ),
        ([1.0, 2.0, math.nan], [1.0, 2.5, 9.0], set()),
    ],
)
def test_little_or_constant_data(truth: list[float], values: list[float], none: set[str]) -> None:
    """None where there is no value, a number elsewhere, and nothing that JSON cannot hold."""
    found = judge(np.array(truth), np.array(values), within=[5])
    keys = {"mae", "rmse", "median_error", "bias", "within_5", "r2", "pearson", "spearman"}
    assert {key for key in keys if found[key] is None} == none
    assert found["missing"] == sum(math.isnan(value) for value in truth)
    assert found["n"] == len(truth) - found["missing"]
    assert set(found["baselines"]) == keys - none
    assert set(found["intervals"]) == keys - none
    json.dumps(found, allow_nan=False)


def test_one_picture_proves_nothing() -> None:
    """Of a single picture errors have no interval, shares Wilson's, and no gain is settled."""
    found = judge(np.array([3.0]), np.array([3.0]), within=[1])
    assert found["intervals"]["mae"] is None
    assert found["intervals"]["within_1"] == pytest.approx(stats.binomtest(1, 1).proportion_ci(method="wilson"))
    assert not any(side(gain) for gain in found["gains"].values())
    found = judge(np.array([3.0, 9.0, 20.0]), np.array([3.0, 9.0, 20.0]))
    assert side(found["gains"]["mae"]) == 0


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
@settings(deadline=None, max_examples=15)
def test_order_and_unit_change_nothing(seed: int, n: int) -> None:
    """Shuffled pictures give the same result to the last bit; another unit (a power of two) scales errors alone."""
    truth, values = _pictures(n, seed)
    ends = np.column_stack([values - 5, values + 5])
    order = np.random.default_rng(seed).permutation(n)
    found = judge(truth, values, ends=ends, bootstrap=50)
    assert judge(truth[order], values[order], ends=ends[order], bootstrap=50) == found
    other = judge(8 * truth, 8 * values, ends=8 * ends, bootstrap=50)
    for key in ("mae", "rmse", "median_error", "bias", "width"):
        assert other[key] == pytest.approx(8 * found[key])
        assert other["intervals"][key] == pytest.approx([8 * end for end in found["intervals"][key]])
    for key in ("r2", "spearman", "coverage"):
        assert other[key] == (None if found[key] is None else pytest.approx(found[key]))


def test_records_of_several_targets() -> None:
    """Each target is judged by itself, as `judge` does it, with or without intervals and missing values."""
    truth, values = _pictures(40)
    records = [
        Record((x, x / 2), (y, y / 3), (y - 5, math.nan), (y + 5, math.nan)) for x, y in zip(truth, values, strict=True)
    ]
    records[3] = records[3]._replace(truth=(truth[3], math.nan))
    found = judge_records(["age", "weight"], records, bootstrap=20)
    ends = np.column_stack([values - 5, values + 5])
    assert found["age"] == judge(truth, values, ends=ends, within=usual_within(truth), bootstrap=20)
    half = truth / 2
    half[3] = np.nan
    assert found["weight"] == judge(half, values / 3, within=usual_within(half), bootstrap=20)
    assert judge_records(["age"], [])["age"]["n"] == 0
    short = [record._replace(low=None, high=None) for record in records]
    assert judge_records(["age", "weight"], short, within=[(2,), (1,)])["age"]["within"] == [2.0]


def test_usual_bounds_are_round() -> None:
    """1, 2 or 5 times a power of ten, about a tenth, a quarter and a half of the deviation; none for a constant."""
    assert usual_within(np.array([0.0, 96.0, math.nan])) == (5, 10, 20)
    assert usual_within(np.array([0.0, 0.002])) == (0.0001, 0.0002, 0.0005)
    assert usual_within(np.array([4.0, 4.0])) == usual_within(np.array([])) == ()


def test_many_pictures_stay_small() -> None:
    """Resamples are judged in chunks: 30,000 pictures and 100 resamples give the interval of the normal law."""
    truth, values = _pictures(30_000, whole=False)
    found = judge(truth, values, bootstrap=100)
    low, high = found["intervals"]["bias"]
    assert high - low == pytest.approx(2 * 1.96 * np.std(values - truth) / math.sqrt(30_000), rel=0.3)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"values": [1.0]}, r"must be \(n,\)"),
        ({"values": [1.0, math.nan]}, "not finite"),
        ({"truth": [1.0, math.inf]}, "infinite"),
        ({"ends": [[0.0, 1.0]]}, r"\(n, 2\)"),
        ({"ends": [[0.0, 1.0], [1.0, 0.0]]}, "ends below its beginning"),
        ({"level": 1.0}, "between 0 and 1"),
        ({"within": [0.0]}, "above 0"),
    ],
)
def test_wrong_numbers_are_refused(kwargs: dict[str, Any], message: str) -> None:
    """What was found, and the rule."""
    arguments = {"truth": [1.0, 2.0], "values": [1.0, 2.0]} | kwargs
    with pytest.raises(ValueError, match=message):
        judge(**{k: np.array(v) if k in ("truth", "values", "ends") else v for k, v in arguments.items()})
