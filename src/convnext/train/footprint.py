"""`python -m convnext.train.footprint`: reads a recipe and a number of pictures, prints the bytes that a step takes.

A process of its own, so that nothing else counts: what it held before the network is subtracted.
"""

from __future__ import annotations

import json
import sys

import torch
from torch.nn import functional

from convnext.config import check_recipe
from convnext.nn.spec import spec_of
from convnext.run.environment import forget_peak, peak_memory
from convnext.tasks.collect import autocast
from convnext.train.freeze import Freezing
from convnext.train.optimizers import make_optimizer


def main() -> None:
    """Two steps of a network with 1,000 classes on random pictures."""
    given = json.loads(sys.stdin.read())
    recipe, device = check_recipe(given["recipe"]), torch.device(given["device"])
    forget_peak(device)
    before = peak_memory(device)
    network = spec_of(recipe).build().train()
    model = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    Freezing(model, recipe).begin(model, recipe.train.freeze_epochs)  # where most of it learns
    optimizer = make_optimizer(model, recipe, device)
    side = int(recipe.data.size)
    x = torch.randn(given["pictures"], recipe.model.in_chans, side, side, device=device)
    for _ in range(2):
        with autocast(device, recipe.train.precision):
            loss = functional.cross_entropy(model(x), torch.zeros(len(x), dtype=torch.int64, device=device))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(peak_memory(device) - before)


if __name__ == "__main__":
    main()
