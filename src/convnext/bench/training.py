"""`python -m convnext.bench.training --data FOLDER`: a recipe here, and on stock operators with a stock loader.

Ours is `convnext train` itself, in a process of its own; the figure is that of its log. The other side does the same
work as a script for timm would: timm's network, torchvision's pictures and transforms in a `DataLoader`, AdamW, timm's
moving average, as many loader processes. Both train equally many epochs, in turn; the training part of the last one
counts, so neither the first look at the files nor validation does. The other side computes in the precision that the
recipe chose on this machine (bf16 is autocast on both sides); `--stock-precision` sets another.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convnext.bench.measure import machine, options
from convnext.config import load_recipe
from convnext.recipe import Recipe
from convnext.run.memory import untuned_environment

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import DataLoader


@dataclass(frozen=True)
class Found:
    """What one side reached: pictures per second, share of the time spent waiting for them, and the precision."""

    rate: float
    wait: float
    precision: str


def ours(data: str, recipe: str, epochs: int) -> Found:
    """The last epoch of `convnext train`, from its log."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"train.epochs={epochs}", "train.warmup_epochs=0"]
        command = [sys.executable, "-m", "convnext", "train", data, recipe, *settings, "--out", f"{folder}/run"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rows = [json.loads(line) for line in (Path(folder) / "run" / "log.jsonl").read_text().splitlines()]
        used = load_recipe(Path(folder) / "run" / "recipe.toml", [])
    return Found(rows[-1]["images_per_second"], rows[-1]["data_wait"], used.train.precision)


def stock(data: str, recipe: str, epochs: int, precision: str) -> Found:
    """The same of the other side, in a process of its own."""
    command = [sys.executable, "-m", "convnext.bench.training", "--data", data, "--recipe", recipe]
    command += ["--epochs", str(epochs), "--stock-precision", precision, "--side", "stock"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=untuned_environment())
    return Found(**json.loads(done.stdout))


def _train_stock(data: Path, recipe: Recipe, epochs: int, precision: str) -> Found:
    import timm
    import torch
    import torch.nn.functional as F
    from timm.utils.model_ema import ModelEmaV3

    from convnext.tasks.collect import autocast
    from convnext.train.optimizers import decay_of

    batches, classes = _stock_loader(data, recipe)
    model = timm.create_model(recipe.model.name, num_classes=classes, ls_init_value=1.0)
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=decay_of(recipe))
    average = ModelEmaV3(model, decay=0.999)
    found = Found(0.0, 0.0, precision)
    for _ in range(epochs):
        begin, waited, pictures = time.monotonic(), 0.0, 0
        start = begin
        for x, y in batches:
            waited += time.monotonic() - start
            with autocast(torch.device("cpu"), precision):
                outputs = model(x.contiguous(memory_format=torch.channels_last))
                loss = F.cross_entropy(outputs, y, label_smoothing=recipe.augment.label_smoothing)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            average.update(model)
            pictures += len(y)
            start = time.monotonic()
        seconds = time.monotonic() - begin
        found = Found(pictures / seconds, waited / seconds, precision)
    return found


def _stock_loader(data: Path, recipe: Recipe) -> tuple[DataLoader[tuple[Tensor, Tensor]], int]:
    """torchvision's folders and transforms with the recipe's augmentation, and how many classes there are."""
    import torch
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import InterpolationMode, v2

    augment, size = recipe.augment, int(recipe.data.size)
    strength = augment.color_jitter
    transform = v2.Compose([
        v2.RandomResizedCrop(size, scale=(augment.crop_min, 1), interpolation=InterpolationMode.BICUBIC),
        v2.RandomHorizontalFlip(augment.flip), v2.ColorJitter(strength, strength, strength),
        v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip
    folder = data / "train" if (data / "train").is_dir() else data
    pictures = ImageFolder(folder, transform)
    workers = 1 if recipe.data.workers == "auto" else int(recipe.data.workers)
    loader = torch.utils.data.DataLoader(
        pictures, batch_size=int(recipe.train.batch), shuffle=True, drop_last=True, num_workers=workers,
        persistent_workers=workers > 0,
    )  # fmt: skip
    return loader, len(pictures.classes)


def main() -> None:
    """Prints the table as Markdown, with the machine."""
    parser = options(__doc__, data="", recipe="recipes/flowers.toml", epochs=2, rounds=3)
    parser.add_argument("--stock-precision", choices=("fp32", "bf16"), help="default: what the recipe chose here")
    parser.add_argument("--side", choices=("stock",), help="measure this side in this process, and print JSON")
    given = parser.parse_args()
    if not given.data:
        parser.error("--data is needed: a folder with train/CLASS/PICTURE, or CLASS/PICTURE")
    if given.side:
        recipe = load_recipe(Path(given.recipe), [])
        print(json.dumps(asdict(_train_stock(Path(given.data), recipe, given.epochs, given.stock_precision or "fp32"))))
        return
    rounds: list[tuple[Found, Found]] = []
    for _ in range(given.rounds):
        first = ours(given.data, given.recipe, given.epochs)
        other = stock(given.data, given.recipe, given.epochs, given.stock_precision or first.precision)
        rounds.append((first, other))
    print(f"{machine()}, {given.recipe}, epoch {given.epochs}, {given.rounds} rounds\n")
    print("| side | precision | pictures/s | least to most | waiting for pictures |\n|---|---|---|---|---|")
    for side, found in zip(("ours", "stock"), zip(*rounds, strict=True), strict=True):
        rates, wait = [each.rate for each in found], statistics.median(each.wait for each in found)
        cells = f"{statistics.median(rates):.1f} | {min(rates):.1f} to {max(rates):.1f} | {wait:.1%}"
        print(f"| {side} | {found[0].precision} | {cells} |")
    ratio = statistics.median(first.rate / other.rate for first, other in rounds)
    print(f"\nratio {ratio:.2f} (median of the rounds)")


if __name__ == "__main__":
    main()
