"""`python -m convnext.bench.feeding`: decoded pictures that one core augments in a second, beside torchvision and timm.

Random crop, mirror and colour jitter (brightness, contrast, saturation) of the same decoded picture to the same size,
in turn in one process, one thread; each figure is the median over the rounds. timm starts from a Pillow picture, as its
own loaders do.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_train
from torchvision.transforms import InterpolationMode, v2

from convnext.bench.measure import in_turn, machine, options
from convnext.data.augment import TrainTransform
from convnext.data.transforms import to_tensor, train_short_side
from convnext.recipe import AugmentRecipe, DataRecipe

PICTURES = 100
"""Pictures in one round of one side."""


def sides(size: int, crop_min: float, strength: float) -> dict[str, Callable[[], object]]:
    """Work of each side: `PICTURES` pictures of 4:3 whose short side is as the cache would hold it."""
    short = train_short_side(size, crop_min)
    image = Image.effect_noise((short * 4 // 3, short), 60).convert("RGB")
    picture = to_tensor(image)
    planes = picture.contiguous()
    augment = AugmentRecipe(crop_min=crop_min, flip=0.5, color_jitter=strength)
    ours = TrainTransform(DataRecipe(), augment, size, 3)
    torchvisions = v2.Compose([
        v2.RandomResizedCrop(size, scale=(crop_min, 1.0), interpolation=InterpolationMode.BICUBIC, antialias=True),
        v2.RandomHorizontalFlip(0.5),
        v2.ColorJitter(strength, strength, strength),
    ])  # fmt: skip
    timms = transforms_imagenet_train(
        size, scale=(crop_min, 1.0), color_jitter=strength, interpolation="bicubic", use_prefetcher=True
    )
    return {
        "ours": lambda: [ours(picture, seed) for seed in range(PICTURES)],
        "torchvision": lambda: [torchvisions(planes) for _ in range(PICTURES)],
        "timm": lambda: [timms(image) for _ in range(PICTURES)],
    }


def main() -> None:
    """Prints the table as Markdown, with the machine."""
    given = options(__doc__, size=96, crop_min=0.2, jitter=0.4, rounds=9).parse_args()
    torch.set_num_threads(1)
    found = in_turn(sides(given.size, given.crop_min, given.jitter), given.rounds)
    print(f"{machine(1)}, to {given.size} pixels, crops from {given.crop_min} on, {given.rounds} rounds\n")
    print("| side | ms a picture | pictures/s | ours is faster by |\n|---|---|---|---|")
    for name, seconds in found.items():
        each = seconds / PICTURES
        print(f"| {name} | {1e3 * each:.2f} | {1 / each:.0f} | {seconds / found['ours']:.1f} |")


if __name__ == "__main__":
    main()
