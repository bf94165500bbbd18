"""The learning rate at each step: linear warm-up, then half a cosine (Table 5)."""

from __future__ import annotations

import math


def learning_rate(step: int, *, peak: float, minimum: float, warmup: int, total: int) -> float:
    """Rate for optimizer step `step`, counted from 0.

    In warm-up the rate is peak * (step + 1) / warmup; after it, minimum + (peak - minimum) * (1 + cos(pi * t)) / 2
    where t runs from 0 at the end of the warm-up to 1 after the last step.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    t = min(1.0, (step - warmup) / max(1, total - warmup))
    return minimum + (peak - minimum) * (1 + math.cos(math.pi * t)) / 2
