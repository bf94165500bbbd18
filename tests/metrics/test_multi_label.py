"""The judge of classifiers with any number of classes a picture, against scikit-learn and torchmetrics."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics.classification as tm
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from convnext.metrics import multi_label
from convnext.metrics.classification import judge_multi_label
from convnext.metrics.intervals import resamples

Array = np.ndarray[Any, Any]
AVERAGED = ("precision", "recall", "f1")


def _names(k: int) -> list[str]:
    return [f"class {c}" for c in range(k)]


def _random_multi(n: int, k: int, seed: int = 0, *, ties: bool = False) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    labels = rng.random((n, k)) < 0.3
    probs = np.clip(0.7 * rng.random((n, k)) + 0.3 * labels, 0, 1)
    return (probs.round(1) if ties else probs), labels


def _multi_cases() -> dict[str, tuple[Array, Array]]:
    probs, labels = _random_multi(120, 6)
    absent, never, empty = labels.copy(), probs.copy(), labels.copy()
    absent[:, 2] = False
    never[:, 4] *= 0.4
    empty[::3] = False
    return {
        "random": (probs, labels),
        "class absent from the truth": (probs, absent),
        "class never predicted": (never, labels),
        "pictures without labels": (probs, empty),
        "ties": _random_multi(200, 5, 1, ties=True),
        "one picture": _random_multi(1, 9, 2),
        "one class": _random_multi(60, 1),
        "perfect": (labels.astype(float), labels),
        "constant": (np.tile([0.9, 0.1, 0.5], (40, 1)), _random_multi(40, 3)[1]),
        "nothing true": (probs, np.zeros_like(labels)),
        "nothing true, nothing named": (probs * 0.4, np.zeros_like(labels)),
        "everything true": (probs, np.ones_like(labels)),
    }


MULTI = _multi_cases()
each_multi = pytest.mark.parametrize(("probs", "labels"), MULTI.values(), ids=MULTI.keys())


@each_multi
def test_multi_label_scores_equal_scikit_learns(probs: Array, labels: Array) -> None:
    """Exact match, F1, precision, recall and average precision, by class and averaged, are scikit-learn's."""
    k = probs.shape[1]
    result = judge_multi_label(probs, labels, _names(k), bootstrap=0)
    named, occurring = probs >= 0.5, np.flatnonzero(labels.any(0))
    assert result["exact_match"] == pytest.approx((named == labels).all(1).mean())
    assert result["micro_f1"] == pytest.approx(sk.f1_score(labels.ravel(), named.ravel(), zero_division=0))
    wanted = [
        (
            *sk.precision_recall_fscore_support(labels[:, c], named[:, c], average="binary", zero_division=0)[:3],
            sk.average_precision_score(labels[:, c], probs[:, c]) if c in occurring else 0.0,
        )
        for c in range(k)
    ]
    names = (*AVERAGED, "average_precision")
    for row, numbers, n in zip(result["per_class"], wanted, labels.sum(0), strict=True):
        assert row["n"] == n
        assert [row[name] for name in names] == pytest.approx(list(numbers))
    means = np.array(wanted)[occurring].mean(0) if len(occurring) else np.zeros(4)
    averages = [*(f"macro_{name}" for name in AVERAGED), "mean_average_precision"]
    assert [result[name] for name in averages] == pytest.approx(means.tolist())


def test_multi_label_scores_equal_torchmetrics() -> None:
    """Mean average precision, micro and macro F1 and exact match are torchmetrics'."""
    probs, labels = MULTI["random"]
    result = judge_multi_label(probs, labels, _names(6), bootstrap=0)
    p, y = torch.from_numpy(probs), torch.from_numpy(labels).long()
    assert result["mean_average_precision"] == pytest.approx(tm.MultilabelAveragePrecision(6)(p, y).item(), abs=1e-6)
    assert result["micro_f1"] == pytest.approx(tm.MultilabelF1Score(6, average="micro")(p, y).item(), abs=1e-6)
    assert result["macro_f1"] == pytest.approx(tm.MultilabelF1Score(6)(p, y).item(), abs=1e-6)
    assert result["exact_match"] == pytest.approx(tm.MultilabelExactMatch(6)(p, y).item(), abs=1e-6)


def test_multi_label_threshold_names_from_it_upwards() -> None:
    """A probability equal to the threshold names the class; a higher threshold does not change average precision."""
    probs, labels = np.array([[0.5, 0.7], [0.4, 0.7]]), np.array([[True, True], [True, False]])
    at_half = judge_multi_label(probs, labels, _names(2), bootstrap=0)
    higher = judge_multi_label(probs, labels, _names(2), threshold=0.7, bootstrap=0)
    assert at_half["per_class"][0]["recall"] == 0.5
    assert higher["per_class"][0]["recall"] == 0
    assert higher["per_class"][1]["recall"] == 1
    assert higher["mean_average_precision"] == at_half["mean_average_precision"]


def test_multi_label_baseline_always_names_the_given_set() -> None:
    """The baseline's exact match and micro F1 are those of a prediction that repeats the set."""
    probs, labels = MULTI["random"]
    baseline = np.array([True, False, False, False, True, False])
    result = judge_multi_label(probs, labels, _names(6), baseline=baseline, bootstrap=0)
    same = judge_multi_label(np.tile(baseline.astype(float), (120, 1)), labels, _names(6), bootstrap=0)
    assert result["exact_match_baseline"] == same["exact_match"]
    assert result["micro_f1_baseline"] == same["micro_f1"]
    none = judge_multi_label(probs, labels, _names(6), bootstrap=0)
    assert none["exact_match_baseline"] is none["micro_f1_baseline"] is None


@each_multi
def test_multi_label_result_is_json_and_covers_every_metric(probs: Array, labels: Array) -> None:
    """Every headline metric and every class has an ordered interval; the whole is JSON without NaN."""
    k = probs.shape[1]
    result = judge_multi_label(probs, labels.astype(int), _names(k), baseline=labels[0], bootstrap=40)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    headline = {"exact_match", "micro_f1", "macro_f1", "macro_precision", "macro_recall", "mean_average_precision"}
    assert set(result["intervals"]) == headline | {"calibration_error"}
    for row in result["per_class"]:
        assert set(row["intervals"]) == {*AVERAGED, "average_precision"}
        assert all(low <= high for low, high in row["intervals"].values())
        assert row["n"] > 0 or row["intervals"]["average_precision"] == [0.0, 1.0]


def test_a_multi_label_resample_is_judged_as_a_test_set_of_its_own() -> None:
    """Adding up weights on sorted pictures gives what judging each drawn set of pictures anew gives, ties included."""
    probs, labels = _random_multi(30, 4, ties=True)
    named = probs >= 0.5
    plans = [multi_label._plan(probs[:, c], labels[:, c], named[:, c]) for c in range(4)]
    whole = np.column_stack([(named == labels).all(1), *multi_label._pairs(named, labels).T])
    rows = next(resamples(30, 15, 0))
    fast = multi_label._headline(multi_label._count(plans, whole, multi_label._weights(rows)), 30)
    for i, row in enumerate(rows):
        slow = judge_multi_label(probs[row], labels[row], _names(4), bootstrap=0)
        assert {name: values[i] for name, values in fast.items()} == pytest.approx({name: slow[name] for name in fast})


@each_multi
def test_no_constant_answer_beats_the_baselines(probs: Array, labels: Array) -> None:
    """Every set of labels, always named, is judged like a model: none gets more than the baseline, and one gets it."""
    n, k = labels.shape
    found = judge_multi_label(probs, labels, _names(k), bootstrap=40)
    sets = ((np.arange(2 ** min(k, 6))[:, None] >> np.arange(k)) & 1).astype(float)
    if k > 6:  # only the commonest labels can be among the best
        sets = sets[:, np.argsort(np.argsort(-labels.sum(0), kind="stable"), kind="stable")]
    judged = [judge_multi_label(np.tile(row, (n, 1)), labels, _names(k), bootstrap=0) for row in sets]
    for name in ("exact_match", "micro_f1", "macro_f1"):
        best = max(each[name] for each in judged)
        assert found["baselines"][name] >= best - 1e-12
        assert k > 6 or found["baselines"][name] == pytest.approx(best)
        assert found["gains"][name]["value"] == pytest.approx(found[name] - found["baselines"][name])
    same = judge_multi_label(np.full((n, k), 0.5), labels, _names(k), bootstrap=0)
    assert found["baselines"]["mean_average_precision"] == pytest.approx(same["mean_average_precision"])


@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 10**6), st.booleans())
@settings(deadline=None, max_examples=50)
def test_multi_label_properties(n: int, k: int, seed: int, ties: bool) -> None:
    """Values are fractions; the pictures' order changes nothing; pictures counted twice change no value."""
    probs, labels = _random_multi(n, k, seed, ties=ties)
    result = judge_multi_label(probs, labels, _names(k), baseline=labels[0], bootstrap=15)
    order = np.random.default_rng(seed).permutation(n)
    assert judge_multi_label(probs[order], labels[order], _names(k), baseline=labels[0], bootstrap=15) == result
    twice = judge_multi_label(np.tile(probs, (2, 1)), np.tile(labels, (2, 1)), _names(k), bootstrap=0)
    for name in result["intervals"]:
        assert 0 <= result[name] <= 1
        assert twice[name] == pytest.approx(result[name])


def test_many_pictures_need_wider_weights() -> None:
    """More pictures than 16 bits count are added up rightly."""
    n = 70_000
    probs, labels = np.full((n, 1), 0.9), np.arange(n)[:, None] % 4 > 0
    result = judge_multi_label(probs, labels, ["only"], bootstrap=3)
    assert result["mean_average_precision"] == pytest.approx(0.75)
    assert result["intervals"]["mean_average_precision"] == pytest.approx([0.75, 0.75], abs=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probs": np.array([[0.2, np.nan]])}, r"probs\[0, 1\] is nan"),
        ({"probs": np.array([[0.2, 1.2]])}, r"probs\[0, 1\] is 1.2"),
        ({"probs": np.array([[0.2, 0.3, 0.4]])}, r"shape \(1, 3\) for 2 classes"),
        ({"labels": np.array([True, False])}, r"labels has shape \(2,\); it must be \(1, 2\)"),
        ({"labels": np.array([[0, 2]])}, "values other than 0 and 1"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"baseline": np.array([True])}, r"baseline has shape \(1,\); it must be \(2,\)"),
        ({"bootstrap": -1}, "resamples -1"),
    ],
)
def test_wrong_multi_label_input_is_refused(changes: dict[str, Any], message: str) -> None:
    """NaN, wrong shapes, thresholds and baselines: ValueError with the value and the rule."""
    given_input = {"probs": np.array([[0.2, 0.9]]), "labels": np.array([[True, False]])} | changes
    with pytest.raises(ValueError, match=message):
        judge_multi_label(classes=_names(2), **given_input)
