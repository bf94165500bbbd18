"""Mixup and CutMix on a batch (Zhang et al., 2018; Yun et al., 2019), one draw a batch as in the paper's recipe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from convnext.data.pictures.transforms import mix_seed


@dataclass(frozen=True)
class Mixing:
    """Mixes each picture with its mirror position in the batch: picture i with picture N - 1 - i.

    Args:
        mixup: alpha of the Beta distribution of the share in mixup; 0 switches it off.
        cutmix: the same for CutMix.
        probability: that a batch is mixed at all.
        seed: the draw for a batch depends on (seed, epoch, step) alone.
        switch: with both on, the probability that a mixed batch takes CutMix.
    """

    mixup: float
    cutmix: float
    probability: float
    seed: int
    switch: float = 0.5

    def __call__(self, pictures: Tensor, targets: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Pictures (N, C, H, W) and soft targets (N, K), both mixed by the same share."""
        rng = np.random.default_rng(mix_seed(self.seed, epoch, step, 0x313))
        if not (self.mixup > 0 or self.cutmix > 0) or rng.random() >= self.probability:
            return pictures, targets
        cut = self.cutmix > 0 and (self.mixup == 0 or rng.random() < self.switch)
        alpha = self.cutmix if cut else self.mixup
        share = float(rng.beta(alpha, alpha))
        if cut:
            pictures, share = cut_mix(pictures, share, float(rng.random()), float(rng.random()))
        else:
            pictures = pictures * share + pictures.flip(0) * (1 - share)
        return pictures, targets * share + targets.flip(0) * (1 - share)


def cut_mix(pictures: Tensor, share: float, y: float, x: float) -> tuple[Tensor, float]:
    """Pastes a box of area 1 - share, centred at the relative position (y, x), from the partner picture.

    Returns the pictures and the share that is really kept, since the box is clipped at the border.
    """
    height, width = pictures.shape[-2:]
    ratio = float(np.sqrt(1 - share))
    box_h, box_w = int(height * ratio), int(width * ratio)
    centre_y, centre_x = int(y * height), int(x * width)
    top, bottom = max(centre_y - box_h // 2, 0), min(centre_y + box_h // 2, height)
    left, right = max(centre_x - box_w // 2, 0), min(centre_x + box_w // 2, width)
    mixed = pictures.clone()
    mixed[..., top:bottom, left:right] = pictures.flip(0)[..., top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)
