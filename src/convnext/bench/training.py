"""`python -m convnext.bench.training --data FOLDER`: a recipe here, and on stock operators with a stock loader.

Ours is `convnext train` itself, in a process of its own; the figure is that of its log. The other side does the same
work as a script for timm would: timm's network, torchvision's pictures and transforms in a `DataLoader`, AdamW, timm's
moving average, as many loader processes. Both train equally many epochs, in turn; the training part of the last one
counts, so neither the first look at the files nor validation does.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from convnext.bench.measure import machine, options
from convnext.config import load_recipe
from convnext.recipe import Recipe
from convnext.run.memory import untuned_environment

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import DataLoader


def ours(data: str, recipe: str, epochs: int) -> dict[str, float]:
    """Pictures per second of the last epoch, and the share of it spent waiting for pictures."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"train.epochs={epochs}", "train.warmup_epochs=0"]
        command = [sys.executable, "-m", "convnext", "train", data, recipe, *settings, "--out", f"{folder}/run"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rows = [json.loads(line) for line in (Path(folder) / "run" / "log.jsonl").read_text().splitlines()]
    return {"rate": rows[-1]["images_per_second"], "wait": rows[-1]["data_wait"]}


def stock(data: str, recipe: str, epochs: int) -> dict[str, float]:
    """The same of the other side, in a process of its own."""
    command = [sys.executable, "-m", "convnext.bench.training", "--data", data, "--recipe", recipe]
    command += ["--epochs", str(epochs), "--side", "stock"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=untuned_environment())
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _train_stock(data: Path, recipe: Recipe, epochs: int) -> dict[str, float]:
    import timm
    import torch
    import torch.nn.functional as F
    from timm.utils.model_ema import ModelEmaV3

    batches, classes = _stock_loader(data, recipe)
    model = timm.create_model(recipe.model.name, num_classes=classes, ls_init_value=1.0)
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=recipe.train.weight_decay)
    average = ModelEmaV3(model, decay=0.999)
    found: dict[str, float] = {}
    for _ in range(epochs):
        begin, waited, pictures = time.monotonic(), 0.0, 0
        start = begin
        for x, y in batches:
            waited += time.monotonic() - start
            outputs = model(x.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(outputs, y, label_smoothing=recipe.augment.label_smoothing)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            average.update(model)
            pictures += len(y)
            start = time.monotonic()
        seconds = time.monotonic() - begin
        found = {"rate": pictures / seconds, "wait": waited / seconds}
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
    parser.add_argument("--side", choices=("stock",), help="measure this side in this process, and print JSON")
    given = parser.parse_args()
    if not given.data:
        parser.error("--data is needed: a folder with train/CLASS/PICTURE, or CLASS/PICTURE")
    recipe = load_recipe(Path(given.recipe), [])
    if given.side:
        print(json.dumps(_train_stock(Path(given.data), recipe, given.epochs)))
        return
    work = {"ours": ours, "stock": stock}
    rounds = [
        {side: run(given.data, given.recipe, given.epochs) for side, run in work.items()} for _ in range(given.rounds)
    ]
    print(f"{machine()}, {given.recipe}, epoch {given.epochs}, {given.rounds} rounds\n")
    print("| side | pictures/s | least to most | waiting for pictures |\n|---|---|---|---|")
    for side in work:
        rates = [found[side]["rate"] for found in rounds]
        wait = statistics.median(found[side]["wait"] for found in rounds)
        print(f"| {side} | {statistics.median(rates):.1f} | {min(rates):.1f} to {max(rates):.1f} | {wait:.1%} |")
    ratio = statistics.median(found["ours"]["rate"] / found["stock"]["rate"] for found in rounds)
    print(f"\nratio {ratio:.2f} (median of the rounds)")


if __name__ == "__main__":
    main()
