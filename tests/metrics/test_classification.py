"""The judge of classifiers with one class a picture, against scikit-learn, torchmetrics and a plain loop."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics.classification as tm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as sk

from convnext.metrics import classification, scores
from convnext.metrics.classification import judge
from convnext.metrics.intervals import resamples

Array = np.ndarray[Any, Any]
AVERAGED = ("precision", "recall", "f1")


def _names(k: int) -> list[str]:
    return [f"class {c}" for c in range(k)]


def _random(n: int, k: int, seed: int = 0, *, ties: bool = False) -> tuple[Array, Array]:
    """Probabilities that know something, and labels; with `ties` the probabilities are eighths that know nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    if ties:
        return rng.multinomial(8, np.full(k, 1 / k), n) / 8, labels
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), labels] += 1.5
    exp = np.exp(2 * logits)
    return exp / exp.sum(1, keepdims=True), labels


def _one_hot(labels: Array, k: int) -> Array:
    return np.eye(k)[labels]


def _cases() -> dict[str, tuple[Array, Array]]:
    truth = np.arange(60) % 4
    absent, missed = _random(200, 6, 1)
    never, labels = _random(200, 6, 2)
    never[:, 3] = 0
    return {
        "two classes": _random(150, 2),
        "ten classes": _random(500, 10),
        "many classes, few pictures": _random(40, 30),
        "class absent from the truth": (absent, np.where(missed == 2, 1, missed)),
        "class never predicted": (never / never.sum(1, keepdims=True), labels),
        "one picture": _random(1, 7),
        "one picture of two classes": _random(1, 2),
        "ties": _random(300, 8, 3, ties=True),
        "perfect": (_one_hot(truth, 4), truth),
        "always wrong": (_one_hot((truth + 1) % 4, 4), truth),
        "constant": (np.tile([0.1, 0.6, 0.3], (50, 1)), np.arange(50) % 3),
        "all equal": (np.full((50, 5), 0.2), np.arange(50) % 5),
    }


CASES = _cases()
each_case = pytest.mark.parametrize(("probs", "labels"), CASES.values(), ids=CASES.keys())


@each_case
def test_scores_equal_scikit_learns(probs: Array, labels: Array) -> None:
    """Accuracy, confusion, precision, recall, F1 and their averages over the classes that occur are scikit-learn's."""
    k = probs.shape[1]
    result = judge(probs, labels, _names(k), majority=0, bootstrap=0)
    named, everything, occurring = probs.argmax(1), np.arange(k), np.unique(labels)
    assert result["n"] == len(labels)
    assert result["correct"] == sk.accuracy_score(labels, named, normalize=False)
    assert result["top1"] == pytest.approx(sk.accuracy_score(labels, named))
    assert result["confusion"] == sk.confusion_matrix(labels, named, labels=everything).tolist()
    assert result["macro_recall"] == result["balanced_accuracy"]
    rows = sk.precision_recall_fscore_support(labels, named, labels=everything, zero_division=0)
    for name, wanted in zip((*AVERAGED, "n"), rows, strict=True):
        assert [row[name] for row in result["per_class"]] == pytest.approx(wanted.tolist())
    means = sk.precision_recall_fscore_support(labels, named, labels=occurring, zero_division=0, average="macro")
    assert [result[f"macro_{name}"] for name in AVERAGED] == pytest.approx(means[:3])
    assert result["nll"] == pytest.approx(sk.log_loss(labels, probs, labels=everything))


@pytest.mark.parametrize("case", ["ten classes", "class never predicted", "perfect", "constant"])
def test_balanced_accuracy_is_scikit_learns(case: str) -> None:
    """Where scikit-learn raises no warning its own balanced accuracy is ours."""
    probs, labels = CASES[case]
    result = judge(probs, labels, _names(probs.shape[1]), majority=0, bootstrap=0)
    assert result["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, probs.argmax(1)))


@pytest.mark.parametrize("case", sorted(set(CASES) - {"ties"}))
def test_counts_and_calibration_equal_torchmetrics(case: str) -> None:
    """Confusion matrix and expected calibration error are torchmetrics'.

    "ties" is left out: its eighths reach 1, for which torchmetrics has a bin of its own.
    """
    probs, labels = CASES[case]
    k = probs.shape[1]
    result = judge(probs, labels, _names(k), majority=0, bootstrap=0)
    p, y = torch.from_numpy(probs), torch.from_numpy(labels)
    assert result["confusion"] == tm.MulticlassConfusionMatrix(k)(p.argmax(1), y).tolist()
    wanted = tm.MulticlassCalibrationError(k, n_bins=15, norm="l1")(p, y).item()
    assert result["calibration_error"] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("k", [6, 10])
def test_top5_equals_scikit_learns_and_torchmetrics(k: int) -> None:
    """Top-5 is the share of pictures whose truth is among the five most probable; it needs more than 5 classes."""
    probs, labels = _random(400, k)
    result = judge(probs, labels, _names(k), majority=0, bootstrap=50)
    assert result["top5"] == pytest.approx(sk.top_k_accuracy_score(labels, probs, k=5, labels=np.arange(k)))
    theirs = tm.MulticlassAccuracy(k, top_k=5, average="micro")(torch.from_numpy(probs), torch.from_numpy(labels))
    assert result["top5"] == pytest.approx(theirs.item())
    assert "top5" in result["intervals"]


def test_top5_is_left_out_for_five_classes() -> None:
    """With five classes everything is among the top five: no such number is given."""
    result = judge(*_random(30, 5), _names(5), majority=0, bootstrap=10)
    assert "top5" not in result
    assert "top5" not in result["intervals"]


def test_ties_go_to_the_lowest_index() -> None:
    """With all probabilities equal class 0 is named, and classes 0 to 4 are the top five."""
    result = judge(np.full((7, 7), 1 / 7), np.arange(7), _names(7), majority=0, bootstrap=0)
    assert result["correct"] == 1
    assert np.array(result["confusion"])[:, 0].tolist() == [1] * 7
    last = judge(np.full((7, 7), 1 / 7), np.array([0, 4, 5, 5, 5, 6, 6]), _names(7), majority=0, bootstrap=0)
    assert last["top5"] == pytest.approx(2 / 7)


@each_case
def test_reliability_is_what_a_plain_loop_gives(probs: Array, labels: Array) -> None:
    """Bins of a plain loop over pictures; their weighted gaps are the calibration error."""
    result = judge(probs, labels, _names(probs.shape[1]), majority=0, bootstrap=0)
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    edges = np.linspace(0, 1, 16)
    for row, label in zip(probs, labels, strict=True):
        place = next(b for b in range(15) if row.max() <= edges[b + 1] or b == 14)
        bins[place].append((row.max(), row.argmax() == label))
    curve = result["reliability"]
    assert curve["count"] == [len(b) for b in bins]
    gaps = 0.0
    for b, pictures in enumerate(bins):
        mean = np.mean(pictures, axis=0) if pictures else ((b + 0.5) / 15, 0)
        assert (curve["confidence"][b], curve["accuracy"][b]) == pytest.approx(tuple(mean))
        gaps += len(pictures) / len(labels) * abs(mean[0] - mean[1])
    assert result["calibration_error"] == pytest.approx(gaps)


def test_baseline_is_always_naming_the_training_majority() -> None:
    """The baseline is the share of the given class here, whatever class is largest here; without one it is empty."""
    probs, labels = _random(100, 3)
    result = judge(probs, labels, _names(3), majority=2, bootstrap=0)
    assert result["majority_class"] == "class 2"
    assert result["majority_top1"] == np.mean(labels == 2)
    result = judge(probs, labels, _names(3), majority=None, bootstrap=0)
    assert result["majority_class"] is result["majority_top1"] is None


def test_a_probability_of_zero_keeps_the_loss_finite() -> None:
    """A truth given probability 0 costs -log of the smallest step above 0, 36.04 nats."""
    result = judge(np.array([[1.0, 0.0]]), np.array([1]), _names(2), majority=0, bootstrap=0)
    assert result["nll"] == pytest.approx(-np.log(np.finfo(float).eps))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_type_is_taken(dtype: type) -> None:
    """Half, single and double precision give the same counts, and nearly the same loss."""
    probs, labels = _random(200, 12)
    exact = judge(probs, labels, _names(12), majority=0, bootstrap=0)
    result = judge(probs.astype(dtype), labels, _names(12), majority=0, bootstrap=0)
    assert result["correct"] == exact["correct"]
    assert result["nll"] == pytest.approx(exact["nll"], abs=1e-2)


@each_case
def test_the_result_is_json_and_its_intervals_are_ordered(probs: Array, labels: Array) -> None:
    """Every headline metric and every class has an interval; the whole is JSON without NaN or infinity."""
    k = probs.shape[1]
    result = judge(probs, labels, _names(k), majority=0, bootstrap=60)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    headline = {"top1", "nll", "calibration_error", "balanced_accuracy", *(f"macro_{name}" for name in AVERAGED)}
    assert set(result["intervals"]) == headline | ({"top5"} if k > 5 else set())
    for row in result["per_class"]:
        assert set(row["intervals"]) == set(AVERAGED)
        assert row["n"] > 0 or row["intervals"] == {key: [0.0, 1.0] for key in AVERAGED}
    pairs = [
        *result["intervals"].values(),
        *(pair for row in result["per_class"] for pair in row["intervals"].values()),
    ]
    assert all(low <= high for low, high in pairs)


def test_without_variation_intervals_are_wilsons() -> None:
    """Where no resample differs from another the interval is scipy's score interval, not a point."""
    perfect = judge(*CASES["perfect"], _names(4), majority=0, bootstrap=100)
    wanted = binomtest(perfect["n"], perfect["n"]).proportion_ci(method="wilson")
    assert perfect["intervals"]["top1"] == pytest.approx([wanted.low, 1.0])
    assert perfect["intervals"]["macro_f1"][0] < 1
    one = judge(*CASES["one picture"], _names(7), majority=0, bootstrap=100)
    for name, (low, high) in one["intervals"].items():
        assert name == "nll" or (low <= one[name] <= high and high - low > 0.5)


@pytest.mark.parametrize(("right", "n"), [(0, 12), (12, 12), (1, 12), (0, 1), (1, 1), (5, 9)])
def test_recall_and_precision_have_wilsons_intervals(right: int, n: int) -> None:
    """0 of 12 is 0.0 (0.0 to 24.2), as scipy has it; the class that takes the rest has its own precision's interval."""
    probs = np.where((np.arange(n) < right)[:, None], [0.8, 0.2], [0.2, 0.8])
    rows = judge(probs, np.zeros(n, int), ["a", "b"], majority=0, bootstrap=50)["per_class"]
    wanted = binomtest(right, n).proportion_ci(method="wilson")
    assert rows[0]["intervals"]["recall"] == pytest.approx([wanted.low, wanted.high], abs=1e-12)
    own = binomtest(right, right).proportion_ci(method="wilson") if right else None
    assert rows[0]["intervals"]["precision"] == pytest.approx([own.low, own.high] if own else [0.0, 1.0], abs=1e-12)
    assert (rows[0]["named"], rows[1]["named"]) == (right, n - right)
    assert rows[1]["intervals"]["recall"] == [0.0, 1.0]  # no picture: nothing is known


def test_an_average_over_classes_is_as_sure_as_its_smallest_classes_allow() -> None:
    """All right, 2 pictures of one class and 98 of the other: as sure as of K^2 / sum(1 / n) = 7.84 pictures."""
    labels = np.repeat([0, 1], [2, 98])
    result = judge(np.eye(2)[labels], labels, ["few", "many"], majority=1, bootstrap=50)
    z2, n = 1.959963984540054**2, 4 / (1 / 2 + 1 / 98)
    assert result["intervals"]["balanced_accuracy"] == pytest.approx([n / (n + z2), 1.0])
    assert result["intervals"]["top1"] == pytest.approx([100 / (100 + z2), 1.0])


@each_case
def test_the_trivial_answer_is_judged_like_a_model(probs: Array, labels: Array) -> None:
    """Its score by each metric is what `judge` gives to certain predictions of the class, and the gain is the rest."""
    k = probs.shape[1]
    majority = int(np.bincount(labels, minlength=k).argmax())
    result = judge(probs, labels, _names(k), majority=majority, bootstrap=60)
    always = judge(np.eye(k)[np.full(len(labels), majority)], labels, _names(k), majority=majority, bootstrap=0)
    for name, found in result["gains"].items():
        if name != "top5":
            assert result["baselines"][name] == pytest.approx(always[name])
        assert found["value"] == pytest.approx(result[name] - result["baselines"][name])
        assert found["interval"][0] <= found["interval"][1]
    assert result["baselines"]["top1"] == result["majority_top1"]
    if k > 5:
        assert result["baselines"]["top5"] == pytest.approx(np.sort(np.bincount(labels))[-5:].sum() / len(labels))


def test_the_gain_is_of_the_same_pictures() -> None:
    """The interval of the difference is that of the pictures' own differences, and McNemar's p is scipy's."""
    probs, labels = _random(200, 4, 3)
    majority = int(np.bincount(labels).argmax())
    found = judge(probs, labels, _names(4), majority=majority, bootstrap=4000)["gains"]["top1"]
    each = (probs.argmax(1) == labels).astype(float) - (labels == majority)
    drawn = np.random.default_rng(1).choice(each, (4000, 200)).mean(1)
    assert found["interval"] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.01)
    won, lost = int((each > 0).sum()), int((each < 0).sum())
    assert (found["won"], found["lost"]) == (won, lost)
    assert found["p"] == pytest.approx(binomtest(won, won + lost).pvalue)


def test_a_seed_gives_the_same_intervals() -> None:
    """The same seed gives the same result to the bit, another seed other intervals, and no resamples none."""
    probs, labels = _random(300, 6)
    first = judge(probs, labels, _names(6), majority=1, bootstrap=200, seed=5)
    assert judge(probs, labels, _names(6), majority=1, bootstrap=200, seed=5) == first
    assert judge(probs, labels, _names(6), majority=1, bootstrap=200, seed=6)["intervals"] != first["intervals"]
    none = judge(probs, labels, _names(6), majority=1, bootstrap=0)
    assert none["intervals"] == {} == none["per_class"][0]["intervals"]
    assert {name: none[name] for name in first["intervals"]} == {name: first[name] for name in first["intervals"]}


@given(st.integers(1, 40), st.integers(2, 9), st.integers(0, 10**6), st.booleans())
@settings(deadline=None, max_examples=60)
def test_properties(n: int, k: int, seed: int, ties: bool) -> None:
    """Fractions are fractions; the pictures' order changes nothing; pictures counted twice change no value."""
    probs, labels = _random(n, k, seed, ties=ties)
    result = judge(probs, labels, _names(k), majority=0, bootstrap=20)
    order = np.random.default_rng(seed).permutation(n)
    assert judge(probs[order], labels[order], _names(k), majority=0, bootstrap=20) == result
    confusion = np.array(result["confusion"])
    assert result["correct"] == np.trace(confusion)
    assert confusion.sum(1).tolist() == [row["n"] for row in result["per_class"]]
    assert sum(result["reliability"]["count"]) == n
    twice = judge(np.tile(probs, (2, 1)), np.tile(labels, 2), _names(k), majority=0, bootstrap=0)
    for name in result["intervals"]:
        assert name == "nll" or 0 <= result[name] <= 1
        assert twice[name] == pytest.approx(result[name])


@given(st.integers(1, 40), st.integers(2, 9), st.integers(0, 10**6))
@settings(deadline=None, max_examples=40)
def test_the_order_of_the_classes_changes_no_average(n: int, k: int, seed: int) -> None:
    """Renaming classes moves the rows of the classes, and nothing else (without ties)."""
    probs, labels = _random(n, k, seed)
    order = np.random.default_rng(seed).permutation(k)
    result = judge(probs, labels, _names(k), majority=None, bootstrap=1)
    names = [_names(k)[c] for c in order]
    moved = judge(probs[:, order], np.argsort(order)[labels], names, majority=None, bootstrap=0)
    for name in ("correct", *result["intervals"]):
        assert moved[name] == pytest.approx(result[name])
    for name, values in result["reliability"].items():
        assert moved["reliability"][name] == pytest.approx(values)
    kept = ("name", "n", *AVERAGED)
    rows = sorted(moved["per_class"], key=lambda row: str(row["name"]))
    assert [[row[key] for key in kept] for row in rows] == [[row[key] for key in kept] for row in result["per_class"]]


def test_a_resample_is_judged_as_a_test_set_of_its_own() -> None:
    """The fast counting of resamples gives what judging each drawn set of pictures anew gives."""
    probs, labels = _random(25, 7)
    seen = classification._look(probs, labels)
    where = {confidence: i for i, confidence in enumerate(probs.max(1))}
    places = np.array([where[confidence] for confidence in seen.confidence])  # `seen` has an order of its own
    assert sorted(places) == list(range(25))
    rows = next(resamples(25, 12, 0))
    fast = classification._headline(classification._count(seen, 7, rows), 25, 7)
    for i, row in enumerate(rows):
        slow = judge(probs[places[row]], labels[places[row]], _names(7), majority=None, bootstrap=0)
        assert {name: values[i] for name, values in fast.items()} == pytest.approx({name: slow[name] for name in fast})


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the probabilities in small chunks gives the same result."""
    probs, labels = _random(100, 7)
    whole = judge(probs, labels, _names(7), majority=0, bootstrap=0)
    monkeypatch.setattr(scores, "CHUNK", 30)
    assert judge(probs, labels, _names(7), majority=0, bootstrap=0) == whole


def test_ten_thousand_pictures_take_seconds() -> None:
    """10,000 pictures of 100 classes with 1,000 resamples: well under ten seconds."""
    probs, labels = _random(10_000, 100)
    start = time.perf_counter()
    result = judge(probs, labels, _names(100), majority=0)
    assert time.perf_counter() - start < 10
    low, high = result["intervals"]["top1"]
    assert low < result["top1"] < high


GOOD = np.array([[0.2, 0.8], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("probs", "labels", "k", "message"),
    [
        (np.array([[0.2, np.nan], [0.5, 0.5]]), [0, 1], 2, r"probs\[0, 1\] is nan.*from 0 to 1"),
        (np.array([[0.2, 0.8], [-1.0, 2.0]]), [0, 1], 2, r"probs\[1, 0\] is -1.0.*not logits"),
        (np.array([[0.2, 0.8], [0.5, np.inf]]), [0, 1], 2, r"probs\[1, 1\] is inf"),
        (np.array([[0.2, 0.8], [0.9, 0.9]]), [0, 1], 2, r"probs\[1\] sums to 1.8; every row must sum to 1"),
        (GOOD, [0, 1], 3, r"shape \(2, 2\) for 3 classes; it must be \(n, k\)"),
        (GOOD[:, :1], [0, 0], 1, "at least 2"),
        (GOOD[0], [0, 1], 2, r"shape \(2,\)"),
        (GOOD[:0], [], 2, r"shape \(0, 2\).*n at least 1"),
        (GOOD.astype(int), [0, 1], 2, "floating-point"),
        (GOOD, [0], 2, r"labels has shape \(1,\).*must be 2 integers"),
        (GOOD, [0.0, 1.0], 2, "type float64"),
        (GOOD, [0, 2], 2, r"labels\[1\] is 2; every label must be from 0 to 1"),
        (GOOD, [-1, 0], 2, r"labels\[0\] is -1"),
    ],
)
def test_wrong_input_is_refused(probs: Array, labels: list[float], k: int, message: str) -> None:
    """NaN, logits, wrong shapes and labels out of range: ValueError with the value and the rule."""
    with pytest.raises(ValueError, match=message):
        judge(probs, np.array(labels), _names(k), majority=0)


@pytest.mark.parametrize("majority", [-1, 2])
def test_a_wrong_majority_is_refused(majority: int) -> None:
    """The majority class must be one of the classes."""
    with pytest.raises(ValueError, match=f"majority is {majority}"):
        judge(GOOD, np.array([0, 1]), _names(2), majority=majority)
