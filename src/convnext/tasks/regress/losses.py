"""Losses of regression: how a head's numbers become one answer a target, and what they are taught.

All work on standardised targets (mean 0, deviation 1 over the training pictures, see `scaling`), of one or several
targets a picture:

- **Targets** are (N, T); NaN is a value that nobody knows, and is left out.
- **Outputs** of the head are (N, T * width), `width` numbers for each target in turn.
- **Weights**, (N, T) or None, multiply the loss of each value. The mean is over the known values, not over the sum of
  the weights: a batch of heavy pictures counts more, as it should. A batch without any known value has a loss of 0.
- Everything is computed in fp32, whatever precision the outputs come in.

`LabelDistribution` and `Ordinal` part the range into bins (see `bins`), `GaussianNLL` and they say how sure they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from convnext.tasks.regress.bins import Bins

Answer = tuple[Tensor, Tensor | None]
"""The value (N, T) and its spread (N, T), a standard deviation; None where the loss knows of none."""

LARGEST_LOG_VARIANCE = 12.0
"""The log variance stays between this and its negative: deviations from 0.0025 to 403 of the training pictures'."""


class RegressionLoss(Protocol):
    """What the task asks of a loss."""

    @property
    def width(self) -> int:
        """Numbers of the head for each target."""
        ...

    def outputs(self, targets: int) -> int:
        """Size of the head for so many targets."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The mean loss of a batch, a scalar in fp32."""
        ...

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each value, (N, T) in fp32; without a meaning where the target is NaN."""
        ...

    def answer(self, outputs: Tensor) -> Answer:
        """Values and spreads in standardised units, (N, T) each."""
        ...


class _Mean:
    """What all losses share: the mean over the values that are known."""

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each value, (N, T) in fp32; without a meaning where the target is NaN."""
        raise NotImplementedError

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The mean over the known values, each times its weight, a scalar in fp32."""
        return _mean_of_known(self.each(outputs, targets), targets, weights)


class _Point(_Mean):
    """What losses share that see one number a target, the value itself."""

    @property
    def width(self) -> int:
        """One number a target."""
        return 1

    def outputs(self, targets: int) -> int:
        """One a target."""
        return targets

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How far the outputs are from the targets, by the loss's own measure, (N, T)."""
        return self._each(_by_target(outputs, targets, 1)[..., 0], _filled(targets))

    def answer(self, outputs: Tensor) -> Answer:
        """The outputs as they are, without a spread."""
        return outputs.float(), None

    def _each(self, found: Tensor, targets: Tensor) -> Tensor:
        """The loss of each value, (N, T)."""
        raise NotImplementedError


@dataclass(frozen=True)
class L1(_Point):
    """The absolute error |y - x|. Its answer is a median, and a far outlier pulls no more than any other value."""

    def _each(self, found: Tensor, targets: Tensor) -> Tensor:
        return (found - targets).abs()


@dataclass(frozen=True)
class MSE(_Point):
    """The squared error (y - x)^2. Its answer is a mean, and one far outlier weighs as much as many others."""

    def _each(self, found: Tensor, targets: Tensor) -> Tensor:
        return (found - targets).square()


@dataclass(frozen=True)
class Huber(_Point):
    """Squared for small errors e, absolute for large ones (Huber, 1964): e^2 / 2 up to delta, then
    delta (|e| - delta / 2).

    Attributes:
        delta: where the one becomes the other, in standard deviations of the target.

    Raises:
        ValueError: on creation, where delta is not above 0.
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.delta) and self.delta > 0):
            raise ValueError(f"delta is {self.delta}; it must be above 0, in standard deviations of the target")

    def _each(self, found: Tensor, targets: Tensor) -> Tensor:
        return F.huber_loss(found, targets, reduction="none", delta=self.delta)


@dataclass(frozen=True)
class GaussianNLL(_Mean):
    """A mean and a variance for each value: the likelihood of a normal distribution, made stable by beta.

    L = stop(v^beta) * (log v + (y - m)^2 / v) / 2, with the mean m and the variance v that the head gives. With beta 0
    it is the likelihood itself, whose gradient for the mean is divided by the variance: what is hard at the start is
    given a large variance and then learnt no more. With beta 1 the mean learns as by the squared error. Seitzer et al.,
    "On the Pitfalls of Heteroscedastic Uncertainty Estimation with Probabilistic Neural Networks", ICLR 2022, advise
    0.5.

    The head gives log v. It passes through b * tanh(x / b), b = `LARGEST_LOG_VARIANCE`, so that no exponential
    overflows and no gradient is cut off; near 0 this changes nothing.

    Attributes:
        beta: from 0 to 1.

    Raises:
        ValueError: on creation, where beta is not from 0 to 1.
    """

    beta: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta is {self.beta}; it must be from 0 (the likelihood) to 1 (the mean as by MSE)")

    @property
    def width(self) -> int:
        """Two numbers a target: mean and log variance."""
        return 2

    def outputs(self, targets: int) -> int:
        """Two a target."""
        return 2 * targets

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The weighted likelihood of each value, negative, without its constant log(2 pi) / 2."""
        mean, log_variance = self._parts(_by_target(outputs, targets, 2))
        each = (log_variance + (_filled(targets) - mean).square() * torch.exp(-log_variance)) / 2
        return torch.exp(self.beta * log_variance.detach()) * each

    def answer(self, outputs: Tensor) -> Answer:
        """The mean, and the square root of the variance."""
        mean, log_variance = self._parts(outputs.float().unflatten(1, (-1, 2)))
        return mean, torch.exp(log_variance / 2)

    def _parts(self, by_target: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, 2) -> mean and bounded log variance, (N, T) each."""
        bound = LARGEST_LOG_VARIANCE
        return by_target[..., 0], bound * torch.tanh(by_target[..., 1] / bound)


@dataclass(frozen=True)
class LabelDistribution(_Mean):
    """Label distribution learning: how probable each bin of the range is, and the expectation as the answer.

    The target is a normal distribution around the true value, taken at the bins' centres and made to sum to 1. The loss
    is its Kullback-Leibler divergence from the softmax of the outputs (DLDL: Gao et al., "Deep Label Distribution
    Learning with Label Ambiguity", IEEE TIP 2017), plus the absolute error of the expectation (DLDL-v2: Gao et al.,
    "Age Estimation Using Expectation of Label Distribution Learning", IJCAI 2018, there with a factor of 1).

    A normal distribution that leaves the range is cut off, and its expectation then lies inwards. `Bins.covering` with
    a margin of 3 sigma leaves room for it.

    Attributes:
        bins: of each target.
        sigma: deviation of the normal distribution in bins, at least 0.5 so that values between two centres can be told
            apart (the papers: 2, with bins of one year).
        expectation: factor on the error of the expectation, in standard deviations of the target; 0 is DLDL.

    Raises:
        ValueError: on creation, where a setting breaks its rule.
    """

    bins: Bins
    sigma: float = 2.0
    expectation: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma) and self.sigma >= 0.5):
            raise ValueError(f"sigma is {self.sigma} bins; it must be at least 0.5, or values within a bin are one")
        if not (math.isfinite(self.expectation) and self.expectation >= 0):
            raise ValueError(f"the factor on the expectation's error is {self.expectation}; it must be at least 0")

    @property
    def width(self) -> int:
        """One number a bin."""
        return self.bins.count

    def outputs(self, targets: int) -> int:
        """The bins of all targets."""
        self.bins.check(targets)
        return self.width * targets

    def target(self, targets: Tensor) -> Tensor:
        """The distributions that are aimed at: (N, T) -> (N, T, K), each row sums to 1."""
        at = torch.arange(self.bins.count, device=targets.device, dtype=torch.float32)
        distance = (at - self.bins.positions(_filled(targets))[..., None]) / self.sigma
        return torch.softmax(-distance.square() / 2, dim=-1)

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The divergence plus the error of the expectation, (N, T)."""
        log_probs = _by_target(outputs, targets, self.width).log_softmax(-1)
        divergence = F.kl_div(log_probs, self.target(targets), reduction="none").sum(-1)
        value, _ = _moments(log_probs.exp(), self.bins)
        error = (value - _filled(targets)).abs()
        return divergence + self.expectation * error

    def answer(self, outputs: Tensor) -> Answer:
        """Expectation and standard deviation of the distribution; the deviation holds the width of the target's own."""
        return _moments(outputs.float().unflatten(1, (-1, self.width)).softmax(-1), self.bins)


@dataclass(frozen=True)
class Ordinal(_Mean):
    """Bins in their order: for each the probability that the value lies beyond it, given that it reaches it (CORN).

    Niu et al. (CVPR 2016) ask "is it more than bin k?" once for each k, but nothing keeps their answers from
    contradicting each other. CORAL (Cao et al., 2020) cures that by one shared weight and K - 1 biases, which a plain
    linear head is not. CORN (Shi, Cao and Raschka, "Deep Neural Networks for Rank-Consistent Ordinal Regression Based
    on Conditional Probabilities", 2021) asks for conditional probabilities, whose products can only fall: consistent
    with any head, so this is CORN.

    The loss of a value is the negative log-likelihood of its bin: the binary cross-entropies of all questions up to it,
    added up. A value between two centres is shared by both bins, the nearer one more, so that it is learnt exactly and
    not as the nearest centre. (The paper divides the sum over a batch by how many questions were asked, ours by the
    values, so that a value's share in the loss depends on itself alone.) Question k has log(K - 1 - k) added to its
    output: a head of zeros then says that all bins are equally probable, instead of all but surely the lowest.

    The answer is the expectation of the bins' centres, not the most probable bin: it has no steps.

    Attributes:
        bins: of each target.
    """

    bins: Bins

    @property
    def width(self) -> int:
        """One number for each bin but the last."""
        return self.bins.count - 1

    def outputs(self, targets: int) -> int:
        """One for each bin but the last, of all targets."""
        self.bins.check(targets)
        return self.width * targets

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The negative log-likelihood of each value's bin, (N, T)."""
        logits = _by_target(outputs, targets, self.width) + self._even(outputs.device)
        ahead = self.bins.positions(_filled(targets))[..., None] - torch.arange(self.width, device=outputs.device)
        beyond, reach = ahead.clamp(0, 1), (ahead + 1).clamp(0, 1)
        each = beyond * F.logsigmoid(logits) + (reach - beyond) * F.logsigmoid(-logits)
        return -each.sum(-1)

    def answer(self, outputs: Tensor) -> Answer:
        """Expectation and standard deviation over the bins' centres."""
        return _moments(self.probabilities(outputs), self.bins)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """How probable each bin is: (N, T * (K - 1)) -> (N, T, K), each row sums to 1."""
        logits = outputs.float().unflatten(1, (-1, self.width)) + self._even(outputs.device)
        beyond = F.logsigmoid(logits).cumsum(-1)  # log P(value beyond bin k)
        reach = F.pad(beyond[..., :-1], (1, 0))
        stops = torch.exp(reach + F.logsigmoid(-logits))
        return torch.cat([stops, beyond[..., -1:].exp()], dim=-1)

    def _even(self, device: torch.device) -> Tensor:
        """(K - 1,) what makes all bins equally probable: at bin k, K - 1 - k bins lie beyond for one at it."""
        return torch.arange(self.width, 0, -1, dtype=torch.float32, device=device).log()


def _moments(probs: Tensor, bins: Bins) -> tuple[Tensor, Tensor]:
    """Expectation and standard deviation, (N, T) each, of probabilities (N, T, K) over the bins' centres."""
    centres = bins.centres(probs.device)
    value = (probs * centres).sum(-1)
    return value, (probs * (centres - value[..., None]).square()).sum(-1).sqrt()


def _by_target(outputs: Tensor, targets: Tensor, width: int) -> Tensor:
    """The head's numbers (N, T * width) as (N, T, width) in fp32.

    Raises:
        ValueError: the shapes do not belong together.
    """
    if targets.ndim != 2 or outputs.shape != (targets.shape[0], targets.shape[1] * width):
        raise ValueError(
            f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}; with {width} numbers a target they "
            f"must be (N, T * {width}) and (N, T)"
        )
    by_target: Tensor = outputs.float().unflatten(1, (targets.shape[1], width))
    return by_target


def _filled(targets: Tensor) -> Tensor:
    """Targets in fp32 with 0 for what is missing: a NaN would reach the gradient even where it is masked later."""
    return torch.nan_to_num(targets.float(), nan=0.0, posinf=math.inf, neginf=-math.inf)


def _mean_of_known(each: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """The mean of the losses (N, T), times their weights, where the target is known; 0 where none is."""
    known = ~targets.isnan()
    if weights is not None:
        if weights.shape != targets.shape:
            raise ValueError(f"weights {tuple(weights.shape)}; they must be {tuple(targets.shape)}, as the targets")
        each = each * torch.where(known, weights.float(), 0.0)
    return torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)
