"""What the tests of the networks share."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import nn


def _randomise(model: nn.Module, seed: int = 0) -> None:
    """Gives every parameter a value of the size found in trained nets, so that no branch is negligible.

    Norms and layer scale are away from their initial 1, 0 and 1e-6; other weights keep the size of the signal.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "gamma" in name or name.endswith("grn.weight"):
            noise = 0.3 + 0.1 * noise
        elif name.endswith("bias"):
            noise = 0.1 * noise
        elif parameter.ndim == 1:
            noise = 1 + 0.2 * noise
        else:
            noise = noise / parameter[0].numel() ** 0.5
        parameter.data.copy_(noise)


@pytest.fixture(scope="session")
def randomise() -> Callable[..., None]:
    """`randomise(model, seed=0)`: realistic random values for all parameters."""
    return _randomise


@functools.cache
def _on_meta(code: str, name: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name) if code == "timm" else torchvision.models.get_model(name, weights=None)


@pytest.fixture(scope="session")
def peer_on_meta() -> Callable[[str, str], nn.Module]:
    """`peer_on_meta("timm" or "torchvision", name)`: a peer's model with shapes but no values."""
    return _on_meta
