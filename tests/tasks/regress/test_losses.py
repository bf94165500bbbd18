"""Losses of regression: against torch, scipy, the authors' formulas and analytic values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from convnext.tasks.regress.bins import Bins
from convnext.tasks.regress.losses import (
    L1,
    LARGEST_LOG_VARIANCE,
    MSE,
    GaussianNLL,
    Huber,
    LabelDistribution,
    Ordinal,
    RegressionLoss,
)

BINS = Bins((-2.0, -3.0), (2.0, 1.0), 41)
ALL: list[RegressionLoss] = [L1(), MSE(), Huber(0.7), GaussianNLL(), LabelDistribution(BINS), Ordinal(BINS)]


def _batch(loss: RegressionLoss, n: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs for two targets, and targets within the bins."""
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(n, loss.outputs(2), generator=generator)
    return outputs, torch.rand(n, 2, generator=generator) * 2 - 1


@pytest.mark.parametrize(
    ("loss", "reference"),
    [(L1(), F.l1_loss), (MSE(), F.mse_loss), (Huber(0.7), lambda x, y: F.huber_loss(x, y, delta=0.7))],
)
def test_point_losses_are_torchs(loss: RegressionLoss, reference: object) -> None:
    """Without missing values and weights they are torch's own means."""
    outputs, targets = _batch(loss)
    assert callable(reference)
    assert float(loss.loss(outputs, targets)) == pytest.approx(float(reference(outputs, targets)), rel=1e-6)
    value, spread = loss.answer(outputs)
    assert torch.equal(value, outputs)
    assert spread is None


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)
def test_missing_values_are_left_out(loss: RegressionLoss) -> None:
    """A NaN changes neither loss nor gradient of the other values, and its own numbers get a gradient of 0."""
    outputs, targets = _batch(loss, 4)
    targets[1, 0] = targets[3, 1] = math.nan
    outputs.requires_grad_()
    found = loss.loss(outputs, targets)
    (gradient,) = torch.autograd.grad(found, outputs)
    outputs = outputs.detach()
    by_target = gradient.unflatten(1, (2, -1))
    assert torch.isfinite(gradient).all()
    assert not by_target[1, 0].any()
    assert not by_target[3, 1].any()
    alone = [loss.loss(outputs[i : i + 1], targets[i : i + 1]) * (2 - targets[i].isnan().sum()) for i in range(4)]
    assert float(found.detach()) == pytest.approx(sum(map(float, alone)) / 6, rel=1e-5)


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)
def test_a_batch_without_values_learns_nothing(loss: RegressionLoss) -> None:
    """All targets missing: a loss of 0 with gradients of 0, not NaN."""
    outputs, targets = _batch(loss, 3)
    outputs.requires_grad_()
    found = loss.loss(outputs, torch.full_like(targets, math.nan))
    (gradient,) = torch.autograd.grad(found, outputs)
    assert float(found.detach()) == 0
    assert not gradient.any()


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)
def test_weights_multiply_each_value(loss: RegressionLoss) -> None:
    """A weight of 3 is the value thrice among as many; weights of missing values, NaN even, play no part."""
    outputs, targets = _batch(loss, 3)
    weights = torch.ones(3, 2)
    weights[0] = 3
    thrice = torch.tensor([0, 0, 0, 1, 2])
    wanted = loss.loss(outputs[thrice], targets[thrice]) * 5 / 3
    assert float(loss.loss(outputs, targets, weights)) == pytest.approx(float(wanted), rel=1e-5)
    targets[1, 1], weights[1, 1] = math.nan, math.nan
    outputs.requires_grad_()
    (gradient,) = torch.autograd.grad(loss.loss(outputs, targets, weights), outputs)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)
def test_halves_are_computed_in_fp32(loss: RegressionLoss) -> None:
    """Outputs in bf16 give a loss, a value and a spread in fp32, equal to those of the same numbers in fp32."""
    outputs, targets = _batch(loss)
    half = outputs.bfloat16()
    found = loss.loss(half, targets)
    assert found.dtype == torch.float32
    assert torch.equal(found, loss.loss(half.float(), targets))
    assert all(part is None or part.dtype == torch.float32 for part in loss.answer(half))


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)
def test_extreme_outputs_stay_finite(loss: RegressionLoss) -> None:
    """Outputs of +-60 (an early step that went wrong) give finite losses, gradients, values and spreads."""
    outputs, targets = _batch(loss, 4)
    outputs = (outputs.sign() * 60).requires_grad_()
    found = loss.loss(outputs, targets)
    (gradient,) = torch.autograd.grad(found, outputs)
    value, spread = loss.answer(outputs.detach())
    assert all(torch.isfinite(part).all() for part in (found, gradient, value))
    assert spread is None or (torch.isfinite(spread).all() and (spread >= 0).all())


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)
def test_descent_finds_the_values(loss: RegressionLoss) -> None:
    """Free outputs, trained by this loss alone, answer the targets, in bins of 0.1 too."""
    _, targets = _batch(loss, 6)
    outputs = torch.zeros(6, loss.outputs(2), requires_grad=True)
    optimizer = torch.optim.Adam([outputs], lr=0.05)
    for _ in range(800):
        optimizer.zero_grad()
        loss.loss(outputs, targets).backward()
        optimizer.step()
    value, _ = loss.answer(outputs.detach())
    assert float((value - targets).abs().max()) < 0.02


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)
def test_targets_do_not_mix(loss: RegressionLoss) -> None:
    """The second target's numbers change neither the first one's answer nor its spread."""
    outputs, _ = _batch(loss, 3)
    other = outputs.clone()
    other.unflatten(1, (2, -1))[:, 1] += 1
    for before, after in zip(loss.answer(outputs), loss.answer(other), strict=True):
        assert (before is None and after is None) or torch.equal(before[:, 0], after[:, 0])  # type: ignore[index]


def test_the_likelihood_is_torchs() -> None:
    """Beta 0 is torch's GaussianNLLLoss of the bounded variance; near 0 the bound changes nothing."""
    loss = GaussianNLL(beta=0)
    outputs, targets = _batch(loss)
    mean, raw = outputs.unflatten(1, (2, 2)).unbind(-1)
    variance = (LARGEST_LOG_VARIANCE * (raw / LARGEST_LOG_VARIANCE).tanh()).exp()
    wanted = F.gaussian_nll_loss(mean, targets, variance)
    assert float(loss.loss(outputs, targets)) == pytest.approx(float(wanted), rel=1e-5)
    value, spread = loss.answer(outputs)
    assert torch.equal(value, mean)
    assert spread is not None
    assert torch.allclose(spread, variance.sqrt())
    _, small = loss.answer(torch.tensor([[0.0, 0.5]]))
    assert small is not None
    assert float(small) == pytest.approx(math.exp(0.25), rel=1e-3)


def test_beta_one_teaches_the_mean_as_squared_errors_do() -> None:
    """The mean's gradient is (m - y) v^(beta - 1): with beta 1 that of MSE / 2, whatever the variance (Seitzer)."""
    outputs = torch.tensor([[0.3, -2.0], [-1.0, 1.5]], requires_grad=True)
    targets = torch.tensor([[1.0], [0.5]])
    (squared,) = torch.autograd.grad(MSE().loss(outputs[:, :1], targets) / 2, outputs)
    (one,) = torch.autograd.grad(GaussianNLL(1).loss(outputs, targets), outputs)
    assert torch.allclose(one[:, 0], squared[:, 0], rtol=1e-5)
    (half,) = torch.autograd.grad(GaussianNLL(0.5).loss(outputs, targets), outputs)
    _, spread = GaussianNLL().answer(outputs.detach())
    assert spread is not None
    assert torch.allclose(half[:, 0], squared[:, 0] / spread[:, 0], rtol=1e-5)


def test_the_spread_is_learnt() -> None:
    """With targets of deviation 0.4 around one mean, the Gaussian loss ends at that mean and deviation."""
    noise = torch.tensor(stats.norm.ppf((np.arange(200) + 0.5) / 200, loc=0.5, scale=0.4), dtype=torch.float32)
    outputs = torch.zeros(1, 2, requires_grad=True)
    optimizer = torch.optim.Adam([outputs], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        GaussianNLL(0.5).loss(outputs.expand(200, 2), noise[:, None]).backward()
        optimizer.step()
    value, spread = GaussianNLL().answer(outputs.detach())
    assert spread is not None
    assert float(value) == pytest.approx(0.5, abs=0.01)
    assert float(spread) == pytest.approx(float(noise.std(correction=0)), rel=0.01)


def test_label_distribution_is_scipys() -> None:
    """Targets are scipy's normal density at the centres, the loss its relative entropy plus the expectation's error."""
    loss = LabelDistribution(BINS, sigma=1.5, expectation=0.5)
    outputs, targets = _batch(loss, 4)
    wanted = []
    for row, values in zip(outputs.unflatten(1, (2, -1)).double().numpy(), targets.double().numpy(), strict=True):
        for t in range(2):
            centres = np.linspace(BINS.low[t], BINS.high[t], 41)
            density = stats.norm.pdf(centres, values[t], 1.5 * 0.1)
            probs = np.exp(row[t]) / np.exp(row[t]).sum()
            wanted.append(stats.entropy(density, probs) + 0.5 * abs((probs * centres).sum() - values[t]))
    assert float(loss.loss(outputs, targets)) == pytest.approx(np.mean(wanted), rel=1e-5)


def test_the_best_distribution_has_no_divergence() -> None:
    """Outputs that are the target's own log-probabilities have a loss of 0; they answer the value and sigma."""
    loss = LabelDistribution(BINS)
    targets = torch.tensor([[0.033, -1.27], [0.9, -0.5]])
    outputs = loss.target(targets).clamp(min=1e-30).log().flatten(1)
    assert float(loss.loss(outputs, targets)) == pytest.approx(0, abs=1e-5)
    value, spread = loss.answer(outputs)
    assert spread is not None
    assert torch.allclose(value, targets, atol=1e-5)
    assert torch.allclose(spread, torch.full((2, 2), 0.2), atol=1e-4)


@given(st.floats(-1, 1), st.floats(0.5, 4))
@settings(deadline=None, max_examples=40)
def test_bins_with_a_margin_hold_every_value(value: float, sigma: float) -> None:
    """With 3 sigma free at either end each value is the expectation of its distribution, to 3 % of a bin."""
    bins = Bins.covering(np.array([[-1.0], [np.nan], [1.0]]), 60, margin=3 * sigma)
    loss = LabelDistribution(bins, sigma=sigma)
    targets = torch.tensor([[value]])
    mean = (loss.target(targets) * bins.centres()).sum(-1)
    step = float(bins.steps()[0])
    assert float((mean - targets).abs()) < 0.03 * step


def test_ordinal_likelihood_and_probabilities() -> None:
    """exp(-loss) of each bin is its probability; these sum to 1, and the cumulative ones only fall."""
    bins = Bins((0.0,), (4.0,), 5)
    loss = Ordinal(bins)
    outputs = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)) * 3
    probs = loss.probabilities(outputs)
    assert torch.allclose(probs.sum(-1), torch.ones(3, 1), atol=1e-6)
    assert (probs >= 0).all()
    for row in range(3):
        found = [math.exp(-float(loss.loss(outputs[row : row + 1], torch.tensor([[float(k)]])))) for k in range(5)]
        assert found == pytest.approx(probs[row, 0].tolist(), rel=1e-4)
    value, spread = loss.answer(outputs)
    centres = np.arange(5.0)
    for row in range(3):
        rank = stats.rv_discrete(values=(centres, probs[row, 0].double().numpy() / float(probs[row].double().sum())))
        assert float(value[row]) == pytest.approx(rank.mean(), rel=1e-5)
        assert spread is not None
        assert float(spread[row]) == pytest.approx(rank.std(), rel=1e-4)


def test_ordinal_is_corn() -> None:
    """The authors' `corn_loss` (coral-pytorch 1.4.0) divides the same sum by the questions asked, not by the values.

    Reference: corn_loss(logits, [1, 4, 0], num_classes=5) on the logits below gave 0.45282503962516785 on a CPU.
    """
    logits = torch.tensor([[0.5, -1.0, 0.25, 2.0], [1.5, 0.75, -0.5, 0.0], [-2.0, 0.1, 0.2, 0.3]])
    ranks = torch.tensor([[1.0], [4.0], [0.0]])
    asked = 2 + 4 + 1
    even = torch.tensor([4.0, 3.0, 2.0, 1.0]).log()
    ours = Ordinal(Bins((0.0,), (4.0,), 5)).loss(logits - even, ranks)
    assert float(ours) * 3 / asked == pytest.approx(0.4528250396, rel=1e-6)


def test_ordinal_values_between_centres() -> None:
    """A value a quarter on from a centre has a quarter of the next bin's likelihood, three of its own bin's."""
    loss = Ordinal(Bins((0.0,), (4.0,), 5))
    outputs = torch.randn(1, 4, generator=torch.Generator().manual_seed(2))
    at, after = (float(loss.loss(outputs, torch.tensor([[value]]))) for value in (2.0, 3.0))
    assert float(loss.loss(outputs, torch.tensor([[2.25]]))) == pytest.approx(0.75 * at + 0.25 * after, rel=1e-5)


def test_a_head_of_zeros_knows_nothing() -> None:
    """Zeros answer the middle of the range with the spread of a uniform distribution, by bins of either kind."""
    for loss in (LabelDistribution(BINS), Ordinal(BINS)):
        value, spread = loss.answer(torch.zeros(1, loss.outputs(2)))
        assert spread is not None
        assert value[0].tolist() == pytest.approx([0.0, -1.0], abs=1e-5)
        assert spread[0].tolist() == pytest.approx([0.1 * math.sqrt((41**2 - 1) / 12)] * 2, rel=1e-4)


def test_values_beyond_the_bins_count_as_their_ends() -> None:
    """A value far outside has a finite loss, smallest where the outermost bin is said."""
    loss = Ordinal(Bins((0.0,), (4.0,), 5))
    far = torch.tensor([[90.0]])
    low, high = torch.full((1, 4), -8.0), torch.full((1, 4), 8.0)
    assert float(loss.loss(high, far)) < 0.01 < float(loss.loss(low, far))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Huber(0), "delta is 0"),
        (lambda: GaussianNLL(2), "beta is 2"),
        (lambda: LabelDistribution(BINS, sigma=0.1), "at least 0.5"),
        (lambda: LabelDistribution(BINS, expectation=-1), "at least 0"),
        (lambda: Bins((0.0,), (0.0,), 5), "below the upper"),
        (lambda: Bins((0.0,), (math.inf,), 5), "finite"),
        (lambda: Bins((0.0,), (1.0,), 1), "at least 2"),
        (lambda: Bins((), (), 4), "one of each"),
        (lambda: Bins.covering(np.array([[1.0], [1.0]]), 9), "two different values"),
        (lambda: Bins.covering(np.array([[1.0], [2.0]]), 9, margin=4), "take more bins"),
        (lambda: Ordinal(BINS).outputs(3), "one range a target"),
        (lambda: L1().loss(torch.zeros(2, 3), torch.zeros(2, 2)), r"must be \(N, T \* 1\)"),
        (lambda: L1().loss(torch.zeros(2, 2), torch.zeros(2, 2), torch.ones(2)), "as the targets"),
    ],
)
def test_wrong_settings_are_refused(make: object, message: str) -> None:
    """Each says the value and its rule."""
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()
