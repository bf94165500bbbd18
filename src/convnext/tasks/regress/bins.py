"""The range of each target in equal bins, for the losses that say how probable each part of it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Bins:
    """Equal bins of several targets, in standardised units; all targets have the same number of them.

    Attributes:
        low: the centre of the first bin, one a target.
        high: the centre of the last one.
        count: bins of a target, at least 2.

    Raises:
        ValueError: on creation, where a range is empty or there are fewer than 2 bins.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    count: int

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"there are {self.count} bins; it must be at least 2")
        if not self.low or len(self.low) != len(self.high):
            raise ValueError(
                f"{len(self.low)} lower and {len(self.high)} upper ends; there must be one of each a target"
            )
        for low, high in zip(self.low, self.high, strict=True):
            if not (np.isfinite(low) and np.isfinite(high) and low < high):
                raise ValueError(f"bins from {low} to {high}; both ends must be finite, the lower one below the upper")

    @classmethod
    def covering(cls, targets: NDArray[np.float64], count: int, margin: float = 0.0) -> Bins:
        """Bins from each target's smallest to its largest value.

        Args:
            targets: (N, T) standardised, NaN where a value is missing.
            count: bins of a target.
            margin: bins that are left free at either end, so that an answer can be centred on the outermost values.

        Raises:
            ValueError: a target has fewer than two different values, or the margins leave fewer than 2 bins.
        """
        inner = count - 1 - 2 * margin
        if inner < 1:
            raise ValueError(
                f"{count} bins with {margin:g} free at either end; at least 2 must be left: take more bins"
            )
        lows, highs = [], []
        for t, column in enumerate(np.asarray(targets, np.float64).T):
            known = column[np.isfinite(column)]
            if known.size == 0 or known.min() == known.max():
                raise ValueError(f"target {t} has fewer than two different values; there is no range to be parted")
            step = (known.max() - known.min()) / inner
            lows.append(float(known.min() - margin * step))
            highs.append(float(known.max() + margin * step))
        return cls(tuple(lows), tuple(highs), count)

    def check(self, targets: int) -> None:
        """Refuse another number of targets than there are ranges for.

        Raises:
            ValueError: they differ.
        """
        if targets != len(self.low):
            raise ValueError(f"{targets} targets, but bins of {len(self.low)}; there must be one range a target")

    def centres(self, device: torch.device | None = None) -> Tensor:
        """The middle of each bin, (T, K) in fp32."""
        ends = zip(self.low, self.high, strict=True)
        rows = [torch.linspace(low, high, self.count, dtype=torch.float64) for low, high in ends]
        return torch.stack(rows).to(device=device, dtype=torch.float32)

    def steps(self, device: torch.device | None = None) -> Tensor:
        """The width of a bin of each target, (T,) in fp32."""
        widths = [(high - low) / (self.count - 1) for low, high in zip(self.low, self.high, strict=True)]
        return torch.tensor(widths, dtype=torch.float32, device=device)

    def positions(self, targets: Tensor) -> Tensor:
        """Where values lie, counted in bins from the centre of the first: (N, T) -> (N, T) from 0 to K - 1.

        A value beyond the range counts as its end.
        """
        low = torch.tensor(self.low, dtype=torch.float32, device=targets.device)
        return ((targets.float() - low) / self.steps(targets.device)).clamp(0, self.count - 1)
