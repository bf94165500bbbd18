"""Weights of classes and labels in the loss, by how rare they are."""

from __future__ import annotations


def label_weights(counts: list[int], pictures: int, balance: float) -> tuple[float, ...]:
    """Weights of each class's pictures in the loss of several labels: (pictures without it / pictures with)^balance.

    A picture without the class counts 1. So 0 gives none, and with 1 the pictures with a class have the same share of
    its loss as those without, however rare it is. A class that all pictures have, or none, gets weight 1.
    """
    if balance == 0:
        return ()
    return tuple(((pictures - n) / n) ** balance if 0 < n < pictures else 1.0 for n in counts)


def class_weights(counts: list[int], balance: float) -> tuple[float, ...]:
    """Weights of the classes in the loss: proportional to count^-balance, of mean 1 over the training pictures.

    0 gives none, 1 gives each class the same share of the loss. A class without pictures gets weight 1.
    """
    if balance == 0:
        return ()
    raw = [max(1, count) ** -balance for count in counts]
    mean = sum(w * c for w, c in zip(raw, counts, strict=True)) / sum(counts)
    return tuple(w / mean if c else 1.0 for w, c in zip(raw, counts, strict=True))
