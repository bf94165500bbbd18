"""Thresholds against a search over all of them, calibration against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score

from convnext.metrics.classification import judge_multi_label
from convnext.metrics.thresholds import ENOUGH, choose_thresholds
from convnext.tasks.classify.multi import MultiLabel
from convnext.tasks.classify.weights import label_weights
from convnext.tasks.records import Records


def drawn(n: int = 300, k: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are too low for rare labels, and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, k)) < np.array([0.5, 0.2, 0.1, 0.05])[:k]
    probs = 1 / (1 + np.exp(-(truth * 1.5 - 2.0 + rng.normal(0, 1, (n, k)))))
    return probs.astype(np.float32), truth


@pytest.mark.parametrize(("rule", "score"), [("f1", f1_score), ("balanced_accuracy", balanced_accuracy_score)])
def test_no_other_threshold_scores_higher(rule: str, score: object) -> None:
    """scikit-learn's score at the chosen threshold is the highest over all thresholds that name different pictures."""
    probs, truth = drawn()
    for c, chosen in enumerate(choose_thresholds(probs, truth, rule)):
        of = {t: score(truth[:, c], probs[:, c] >= t) for t in np.unique(probs[:, c])}  # type: ignore[operator]
        assert score(truth[:, c], probs[:, c] >= chosen) == pytest.approx(max(of.values()))  # type: ignore[operator]
        assert chosen != 0.5


def test_one_half_stays_where_it_is_as_good_and_where_nothing_is_known() -> None:
    """Perfect probabilities, a label of fewer pictures than a choice needs, and the rule that is fixed."""
    truth = np.zeros((40, 3), bool)
    truth[:20, 0], truth[: ENOUGH - 1, 1], truth[: 40 - ENOUGH + 1, 2] = True, True, True
    probs = np.where(truth, 0.9, 0.1)
    probs[:, 1:] = np.linspace(0.1, 0.3, 40)[:, None]
    assert choose_thresholds(probs, truth, "f1") == (0.5, 0.5, 0.5)
    records = Records({"values": probs.astype(np.float32), "truth": truth})
    assert MultiLabel(("a", "b", "c")).settle(records)["thresholds_few"] == [1, 2]
    assert choose_thresholds(*drawn(), "fixed") == (0.5,) * 4
    with pytest.raises(ValueError, match="must be one of f1, balanced_accuracy, fixed"):
        choose_thresholds(probs, truth, "accuracy")


def test_thresholds_do_not_depend_on_the_order_of_the_pictures() -> None:
    """Nor on equal probabilities among them, which are named together or not at all."""
    probs, truth = drawn()
    probs = np.round(probs, 1)
    order = np.random.default_rng(1).permutation(len(probs))
    assert choose_thresholds(probs, truth, "f1") == choose_thresholds(probs[order], truth[order], "f1")


def test_calibration_is_torchmetrics() -> None:
    """Over all pairs of picture and label, and label by label; its interval holds it."""
    from torchmetrics.functional.classification import binary_calibration_error

    probs, truth = drawn(1000)
    found = judge_multi_label(probs, truth, list("abcd"), bootstrap=50)
    theirs = binary_calibration_error(torch.tensor(probs.ravel()), torch.tensor(truth.ravel().astype(int)), n_bins=15)
    assert found["calibration_error"] == pytest.approx(float(theirs), abs=1e-5)
    for c, row in enumerate(found["per_class"]):
        own = binary_calibration_error(torch.tensor(probs[:, c]), torch.tensor(truth[:, c].astype(int)), n_bins=15)
        assert row["calibration_error"] == pytest.approx(float(own), abs=1e-5)
    assert sum(found["reliability"]["count"]) == probs.size
    low, high = found["intervals"]["calibration_error"]
    assert low < high


def test_both_thresholds_are_reported() -> None:
    """The verdict at one half stays what it was; `at_thresholds` is scikit-learn's at the chosen ones."""
    probs, truth = drawn()
    chosen = choose_thresholds(probs, truth, "f1")
    records, training = Records({"values": probs, "truth": truth.astype(np.float32)}), {"majority": [0]}
    plain = MultiLabel(tuple("abcd")).judge(records, training)
    result = MultiLabel(tuple("abcd"), thresholds=chosen).judge(records, training)
    assert {k: v for k, v in result.items() if k != "at_thresholds"} == plain
    assert plain["micro_f1"] == pytest.approx(f1_score(truth, probs >= 0.5, average="micro"))
    named = probs.astype(np.float64) >= np.array(chosen)
    at = result["at_thresholds"]
    assert at["micro_f1"] == pytest.approx(f1_score(truth, named, average="micro"))
    assert at["macro_f1"] == pytest.approx(f1_score(truth, named, average="macro"))
    assert at["macro_f1"] > plain["macro_f1"]
    assert at["intervals"]["macro_f1"][0] < at["macro_f1"] < at["intervals"]["macro_f1"][1]
    assert [row["threshold"] for row in at["per_class"]] == list(chosen)
    assert [row["f1"] for row in at["per_class"]] == pytest.approx(f1_score(truth, named, average=None))


def test_rare_labels_weigh_as_much_as_they_are_rare() -> None:
    """Fully balanced, pictures with a label have the share that those without have; torch's loss by hand."""
    assert label_weights([5, 20], 25, 0.0) == ()
    assert label_weights([5, 20, 0, 25], 25, 1.0) == (4.0, 0.25, 1.0, 1.0)
    assert label_weights([5], 25, 0.5) == (2.0,)
    outputs, targets = torch.tensor([[0.3, -1.0], [2.0, 0.5]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    p = outputs.sigmoid()
    by_hand = -(torch.tensor([4.0, 0.25]) * targets * p.log() + (1 - targets) * (1 - p).log()).mean()
    task = MultiLabel(("a", "b"), weights=(4.0, 0.25))
    torch.testing.assert_close(task.loss(outputs, targets), by_hand)
