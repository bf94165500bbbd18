"""The pieces of regression together: cells to numbers, scaling, weights, a loss, answers, intervals, scores."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from convnext.metrics.paired import side
from convnext.tasks.regress.bins import Bins
from convnext.tasks.regress.conformal import calibrate, intervals_in_unit
from convnext.tasks.regress.density import DensityWeights
from convnext.tasks.regress.losses import L1, MSE, GaussianNLL, Huber, LabelDistribution, Ordinal, RegressionLoss
from convnext.tasks.regress.scaling import Scaling, Target
from convnext.tasks.regress.scores import judge
from convnext.tasks.regress.target_column import read_targets
from convnext.tasks.regress.which_task import which_task

TARGETS = (Target("age", "months", low=0.0), Target("weight", "g", log=True))


def _data(n: int) -> tuple[torch.Tensor, np.ndarray]:
    """Two features, and two targets of them: one with noise that grows with the second feature, one log-normal."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (n, 2))
    age = 60 + 30 * x[:, 0] + (2 + 6 * (x[:, 1] + 1)) * rng.normal(size=n)
    weight = np.exp(3 + x[:, 0] + 0.2 * rng.normal(size=n))
    cells = {"age": [f"{value:.3f}" for value in age.clip(0)], "weight": [f"{value:.5f}" for value in weight]}
    cells["weight"][::7] = [""] * len(cells["weight"][::7])
    return torch.tensor(x, dtype=torch.float32), read_targets(cells, range(2, n + 2)).values


def _losses(standardised: np.ndarray) -> list[RegressionLoss]:
    return [
        L1(), Huber(), MSE(), GaussianNLL(), LabelDistribution(Bins.covering(standardised, 60, margin=6)),
        Ordinal(Bins.covering(standardised, 30)),
    ]  # fmt: skip


@pytest.mark.parametrize("which", range(6), ids=["l1", "huber", "mse", "gaussian", "distribution", "ordinal"])
def test_a_small_network_learns_and_its_intervals_hold(which: int) -> None:
    """With every loss a network of two features beats the trivial answer on both targets, far, and 90 % intervals from
    400 calibration pictures hold the truth of 800 others as often as chance allows (99.9 %), in the unit."""
    x, values = _data(1800)
    train, held, test = slice(0, 600), slice(600, 1000), slice(1000, 1800)
    scaling = Scaling.of(TARGETS, values[train])
    standardised = scaling.standardise(values)
    loss = _losses(standardised[train])[which]
    weights = torch.tensor(
        np.column_stack([DensityWeights.of(column, 0.5)(column) for column in standardised[train].T]),
        dtype=torch.float32,
    )
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 16), nn.GELU(), nn.Linear(16, loss.outputs(2)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.02)
    target = torch.tensor(standardised[train], dtype=torch.float32)
    for _ in range(150):
        optimizer.zero_grad()
        loss.loss(network(x[train]), target, weights).backward()
        optimizer.step()
    with torch.no_grad():
        answer, spread = loss.answer(network(x))
    found, spreads = scaling.clip(answer.double().numpy()), None if spread is None else spread.double().numpy()
    own = None if spreads is None else spreads[held]
    calibrations = calibrate(standardised[held], found[held], own, 0.9)
    ends = intervals_in_unit(scaling, calibrations, found[test], None if spreads is None else spreads[test])
    for t, part in enumerate(ends):
        assert part is not None
        result = judge(values[test, t], scaling.back(found[test])[:, t], ends=part, bootstrap=100)
        assert result["mae"] < 0.55 * result["baselines"]["mae"]
        assert side(result["gains"]["mae"]) == 1
        n, k = calibrations[t].pictures, int(np.ceil((calibrations[t].pictures + 1) * 0.9))
        low, high = stats.betabinom(result["n"], k, n + 1 - k).ppf([0.0005, 0.9995]) / result["n"]
        assert low <= result["coverage"] <= high
        assert result["width"] < result["baselines"]["width"]


def test_spreads_find_the_hard_pictures() -> None:
    """The Gaussian loss learns where the noise is: its spread in months follows the noise that was put in."""
    x, values = _data(1500)
    scaling = Scaling.of(TARGETS, values)
    loss, target = GaussianNLL(), torch.tensor(scaling.standardise(values), dtype=torch.float32)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 16), nn.GELU(), nn.Linear(16, 4))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        loss.loss(network(x), target).backward()
        optimizer.step()
    with torch.no_grad():
        value, spread = loss.answer(network(x))
    assert spread is not None
    months = scaling.spread_back(value.double().numpy(), spread.double().numpy())[:, 0]
    noise = 2 + 6 * (x[:, 1].double().numpy() + 1)
    assert stats.pearsonr(months, noise).statistic > 0.93
    assert months.mean() == pytest.approx(noise.mean(), rel=0.1)


def test_counts_of_nuclei_are_regression(shared_data: Path) -> None:
    """A real column of counts, 1 to 99, is regression without a question, and reads without a remark."""
    with (shared_data / "nuclei" / "counts.csv").open(encoding="utf-8") as file:
        cells = [row["target"] for row in csv.DictReader(file)]
    assert which_task(cells).task == "regress"
    read = read_targets({"target": cells}, range(2, len(cells) + 2))
    assert read.notes == ()
    assert (read.values.min(), read.values.max()) == (1, 99)
