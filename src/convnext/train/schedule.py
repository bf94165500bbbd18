"""The learning rate at each step, and the size of the pictures in each epoch."""

from __future__ import annotations

import math

from convnext.nn.spec import outline
from convnext.recipe import Recipe


def learning_rate(step: float, *, peak: float, minimum: float, warmup: int, total: int) -> float:
    """Rate for optimizer step `step`, counted from 0; a position between two steps when the length was changed.

    In warm-up the rate is peak * (step + 1) / warmup; after it, minimum + (peak - minimum) * (1 + cos(pi * t)) / 2
    where t runs from 0 at the end of the warm-up to 1 after the last step.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    t = min(1.0, (step - warmup) / max(1, total - warmup))
    return minimum + (peak - minimum) * (1 + math.cos(math.pi * t)) / 2


def average_decay(steps: int) -> float:
    """Decay a step of a moving average whose half-life is a fiftieth of a run of so many steps, and one; 0.9999 at most
    (Table 5), to five decimals."""
    decay: float = 0.5 ** (1 / (0.02 * max(1, steps) + 1))
    return round(min(0.9999, decay), 5)


def size_at(recipe: Recipe, epoch: float, epochs: int) -> int:
    """Side of the training pictures, pixels, in an epoch counted from 0.

    From `data.start_size` it grows evenly to `data.size` over the first three quarters of the run, in steps of half the
    network's last stride; small pictures cost little, and what they teach carries over.
    """
    start, size = int(recipe.data.start_size), int(recipe.data.size)
    known = outline(recipe.model.name)
    step = known.stride * int(recipe.model.stem_patch) // known.stem_patch // 2 or 1
    grown = start + (size - start) * min(1.0, epoch / (0.75 * epochs))
    return size if grown >= size else max(min(start, size), int(grown) // step * step)
