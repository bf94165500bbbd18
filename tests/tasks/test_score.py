"""Scores: what is better, what people read, and what is written down of them; records as columns of pictures."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from convnext.tasks.classify.scores import ALL, AT, MICRO_F1, TOP1
from convnext.tasks.records import Records, joined
from convnext.tasks.score import Score

MAE = Score("mae", "MAE", "months", higher_is_better=False)
R2 = Score("r2", "R\u00b2", "", digits=3)


def test_a_value_is_told_with_its_unit() -> None:
    """A share in per cent, a length of time in its unit, a bare number bare; differences of shares in points."""
    assert TOP1.text(0.8041) == "80.4 %"
    assert TOP1.text(0.8041, 2) == "80.41 %"
    assert MAE.text(8.62) == "8.6 months"
    assert R2.text(0.9126) == "0.913"
    assert (TOP1.number(0.05, sign=True), MAE.number(-0.61, sign=True)) == ("+5.0", "-0.6")
    assert (TOP1.points, MAE.points, R2.points) == ("points", "months", "")


@pytest.mark.parametrize("score", [TOP1, MAE, R2])
def test_better_is_an_order_in_which_nothing_is_worse_than_the_worst(score: Score) -> None:
    """Strict, the other way round where less is better, with what is no number below all."""
    values = [0.0, 1e-9, 0.5, 3.0, -math.inf, math.inf]
    for one in values:
        assert not score.better(one, one)
        assert not score.better(score.worst, one)
        assert score.better(one, math.nan)
        assert not score.better(math.nan, one)
        for other in values:
            assert score.better(one, other) == (score.gain(one) > score.gain(other))
    assert not score.better(math.nan, math.nan)
    assert score.better(0.5, score.worst)
    assert TOP1.better(0.6, 0.5)
    assert MAE.better(0.5, 0.6)


def test_only_counts_of_pictures_have_an_interval_of_their_own() -> None:
    """Wilson's, as scipy has it."""
    theirs = binomtest(70, 100).proportion_ci(method="wilson")
    assert TOP1.interval(0.7, 100) == pytest.approx((theirs.low, theirs.high))
    assert MICRO_F1.interval(0.7, 100) is None
    assert MAE.interval(0.7, 100) is None


def test_what_is_written_down_is_read_again() -> None:
    """Through JSON; what is none is refused, of whatever kind it is."""
    for score in (*ALL, MAE, R2):
        assert Score.of_json(json.loads(json.dumps(score.to_json()))) == score
    assert Score.of_json({"key": "iou", "title": "IoU"}) == Score("iou", "IoU")
    good = MAE.to_json()
    for bad in ([], "top1", {}, {"key": "x"}, good | {"digits": True}, good | {"unit": 3}, good | {"more": 1}):
        with pytest.raises(ValueError, match="does not say by which score"):
            Score.of_json(bad)  # type: ignore[arg-type]


def test_keys_of_a_verdict_are_different() -> None:
    """Each score of a classification has a key of its own; those at thresholds are of labels."""
    keys = [score.key for score in ALL]
    assert len(set(keys)) == len(keys)
    assert {key.removeprefix(AT) for key in keys if key.startswith(AT)} < set(keys)


def test_records_are_rows_of_pictures() -> None:
    """Some of them, several parts of them, and those without a picture; columns of other lengths are refused."""
    whole = Records({"value": np.arange(6.0), "truth": np.arange(12).reshape(6, 2)})
    assert (len(whole), len(Records())) == (6, 0)
    some = whole.at([4, 0, 4])
    assert some["value"].tolist() == [4, 0, 4]
    assert some["truth"].tolist() == [[8, 9], [0, 1], [8, 9]]
    again = joined([whole.at([0, 1]), Records(), whole.at([2, 3, 4, 5])])
    assert {name: column.tolist() for name, column in again.columns.items()} == {
        name: column.tolist() for name, column in whole.columns.items()
    }
    assert len(joined([Records(), Records()])) == 0
    with pytest.raises(ValueError, match="every column has one for each picture"):
        Records({"a": np.zeros(3), "b": np.zeros(2)})


def test_what_the_model_says_must_be_numbers_but_a_truth_may_be_missing() -> None:
    """A missing truth of one of several targets is NaN; an answer never is. Objects are the task's own business."""
    truth, pairs = np.array([1.0, np.nan]), np.array([[(0.9, True)], []], dtype=object)
    assert Records({"value": np.ones(2), "truth": truth, "matches": pairs}).finite
    assert not Records({"value": np.array([1.0, np.inf]), "truth": truth}).finite
