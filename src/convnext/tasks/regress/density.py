"""Weights for targets that are unevenly spread: what is rare counts more, as class balance does for classes.

Few pictures of very old animals among many young ones teach a network to say "young": the loss is smallest so. Each
value is weighted by the density of the training targets around it to the power of -strength: 0 leaves all as they come,
0.5 is the square root of the inverse, 1 the inverse itself.

Neighbouring values teach one another, so it is not the number of pictures with this very value that counts. The density
is a histogram that is smoothed by a Gaussian kernel: label-distribution smoothing (Yang et al., "Delving into Deep
Imbalanced Regression", ICML 2021, section 3.1). Unlike there the kernel is reflected at both ends of the range, so that
evenly spread targets get even weights, and the ends are not taken for rare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BINS = 100
"""Equal bins of the histogram, from the smallest to the largest value."""
KERNEL = 2.0
"""Deviation of the Gaussian kernel, in bins (Yang et al.: 2, with bins of one year)."""
LIMIT = 10.0
"""No value weighs more than this, or less than 1 / this."""


@dataclass(frozen=True)
class DensityWeights:
    """The weight of each value of one target, as learnt from the training pictures.

    Attributes:
        low: the smallest value of the training pictures.
        high: the largest one.
        weights: of each bin between them; values beyond weigh as the outermost ones.
    """

    low: float
    high: float
    weights: tuple[float, ...]

    @classmethod
    def of(
        cls, values: Array, strength: float, *, bins: int = BINS, kernel: float = KERNEL, limit: float = LIMIT
    ) -> DensityWeights:
        """Learnt from the values of the training pictures, so that these weigh 1 on average.

        Args:
            values: (n,) in any unit, NaN where one is missing: left out.
            strength: from 0 (all weigh the same) to 1 (as the inverse of the density).
            bins: of the histogram.
            kernel: deviation of the smoothing in bins; 0 for none.
            limit: weights are from 1 / limit to limit.

        Raises:
            ValueError: a setting breaks its rule, or a value is infinite.
        """
        if not 0 <= strength <= 1:
            raise ValueError(f"the strength is {strength}; it must be from 0 (as they come) to 1 (fully balanced)")
        if bins < 1 or not (math.isfinite(kernel) and kernel >= 0) or not (math.isfinite(limit) and limit >= 1):
            raise ValueError(
                f"{bins} bins, a kernel of {kernel}, a limit of {limit}; there must be at least 1 bin, the kernel at "
                "least 0, the limit at least 1"
            )
        values = np.asarray(values, np.float64)
        known = values[~np.isnan(values)]
        if not np.isfinite(known).all():
            raise ValueError("a value is infinite; targets must be finite, or NaN where one is missing")
        if known.size == 0 or known.min() == known.max() or strength == 0:
            ends = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
            return cls(*ends, (1.0,))
        found = cls(float(known.min()), float(known.max()), (1.0,) * bins)
        counts = np.bincount(found._bin_of(known), minlength=bins).astype(np.float64)
        raw = np.maximum(smooth(counts, kernel), 1e-12) ** -strength
        return cls(found.low, found.high, tuple(_with_mean_one(raw, counts, limit).tolist()))

    def __call__(self, values: Array) -> Array:
        """The weight of each value, in the same shape; 0 for NaN, which has no loss."""
        values = np.asarray(values, np.float64)
        missing = np.isnan(values)
        weights: Array = np.asarray(self.weights)[self._bin_of(np.where(missing, self.low, values))]
        return np.where(missing, 0.0, weights)

    def _bin_of(self, values: Array) -> NDArray[np.intp]:
        bins = len(self.weights)
        if bins == 1:
            return np.zeros(values.shape, np.intp)
        shares = np.clip((values - self.low) / (self.high - self.low), 0, 1)
        return np.minimum((shares * bins).astype(np.intp), bins - 1)


def smooth(counts: Array, kernel: float) -> Array:
    """Counts (k,) after a Gaussian of that deviation in bins, cut at 4 deviations, reflected at both ends."""
    if kernel == 0:
        return counts
    radius = int(4 * kernel + 0.5)
    shape = np.exp(-((np.arange(-radius, radius + 1) / kernel) ** 2) / 2)
    padded = np.pad(counts, radius, mode="symmetric")
    return np.convolve(padded, shape / shape.sum(), mode="valid")


def _with_mean_one(raw: Array, counts: Array, limit: float) -> Array:
    """Weights in proportion to `raw` within the limits, of mean 1 over the pictures (k,) of their bins.

    The factor is found by bisection: the mean of the bounded weights only grows with it.
    """
    low, high = math.log(1 / limit / raw.max()), math.log(limit / raw.min())
    for _ in range(100):
        middle = (low + high) / 2
        bounded = np.clip(math.exp(middle) * raw, 1 / limit, limit)
        if (bounded * counts).sum() < counts.sum():
            low = middle
        else:
            high = middle
    return np.clip(math.exp(high) * raw, 1 / limit, limit)
