"""`python -m convnext.bench.feeding`: decoded pictures that one core augments in a second, beside torchvision and timm.

Random crop, mirror and colour jitter (brightness, contrast, saturation) of the same decoded picture to the same size,
in turn in one process, one thread; each figure is the median over the rounds. timm starts from a Pillow picture, as its
own loaders do. With `--data FOLDER` 200 pictures are read from files as well, without colour jitter.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_train
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from convnext.bench.measure import in_turn, machine, options
from convnext.data.feed.augment import TrainTransform
from convnext.data.feed.disk_cache import DiskBudget
from convnext.data.feed.loader import Collate, TrainPictures
from convnext.data.pictures.transforms import normalize, to_tensor, train_short_side
from convnext.data.sources.dataset import Sample
from convnext.recipe import AugmentRecipe, DataRecipe
from convnext.tasks.classify.meaning import Classes

BATCH = 25
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


def sides_from_files(files: list[Path], size: int, crop_min: float) -> dict[str, Callable[[], object]]:
    """Work of each side on files: read, decode, crop at random, mirror, scale to `size`, normalise, stack.

    The others' are their own transforms behind Pillow, as their loaders have it: torchvision's v2, and timm's without
    its augmentation by colour. Ours normalises a batch at once, as the training loop does. "On disk" reads
    decoded pictures from a file; the system keeps it in its own memory where there is room, as here.
    """
    augment = AugmentRecipe(crop_min=crop_min, flip=0.5, color_jitter=0.0)
    transform = TrainTransform(DataRecipe(), augment, size, 3)
    samples = [Sample(file, (0,)) for file in files]
    short = train_short_side(size, crop_min)
    fresh, held, mapped = (TrainPictures(samples, transform, short, "bicubic") for _ in range(3))
    held.fill_cache(4 << 30, 1)
    with TemporaryDirectory() as folder:  # what is mapped stays when its name is gone
        mapped.fill_cache(0, 1, disk=DiskBudget("benchmark", 4 << 30, folder=Path(folder)))
    torchvisions = v2.Compose([
        v2.RandomResizedCrop(size, scale=(crop_min, 1.0), interpolation=InterpolationMode.BICUBIC, antialias=True),
        v2.RandomHorizontalFlip(0.5), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(transform.mean, transform.std),
    ])  # fmt: skip
    timms = transforms_imagenet_train(size, scale=(crop_min, 1.0), color_jitter=0.0, interpolation="bicubic")
    return {
        "ours": lambda: _ours(fresh, size),
        "ours, decoded pictures kept": lambda: _ours(held, size),
        "ours, on disk": lambda: _ours(mapped, size),
        "torchvision": lambda: _theirs(files, torchvisions),
        "timm": lambda: _theirs(files, timms),
    }


def _ours(pictures: TrainPictures, size: int) -> None:
    collate = Collate(Classes(("one",)))
    for first in range(0, len(pictures), BATCH):
        batch = collate([pictures[i, i, size] for i in range(first, min(first + BATCH, len(pictures)))])
        normalize(batch.pictures, pictures.transform.mean, pictures.transform.std)


def _theirs(files: list[Path], transform: Callable[[Image.Image], Tensor]) -> None:
    for first in range(0, len(files), BATCH):
        torch.stack([transform(Image.open(file).convert("RGB")) for file in files[first : first + BATCH]])


def main() -> None:
    """Prints the tables as Markdown, with the machine."""
    given = options(__doc__, size=96, crop_min=0.2, jitter=0.4, rounds=9, data="").parse_args()
    torch.set_num_threads(1)
    if given.data:
        files = sorted(p for p in Path(given.data).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        files = files[:: max(1, len(files) // (2 * PICTURES))][: 2 * PICTURES]
        made, count = sides_from_files(files, given.size, given.crop_min), len(files)
    else:
        made, count = sides(given.size, given.crop_min, given.jitter), PICTURES
    found = in_turn(made, given.rounds)
    print(f"{machine(1)}, to {given.size} pixels, crops from {given.crop_min} on, {given.rounds} rounds\n")
    peers = [name for name in found if not name.startswith("ours")]
    print(f"| side | ms a picture | pictures/s | {' | '.join(f'to {peer}' for peer in peers)} |")
    print("|" + "---|" * (3 + len(peers)))
    for name, seconds in found.items():
        each = seconds / count
        ratios = " | ".join(f"{found[peer] / seconds:.1f}" for peer in peers)
        print(f"| {name} | {1e3 * each:.2f} | {1 / each:.0f} | {ratios} |")


if __name__ == "__main__":
    main()
