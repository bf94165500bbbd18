"""Precision and compilation: what is set for a whole run before its first step."""

from __future__ import annotations

import torch
from torch import nn

from convnext.errors import RecipeError
from convnext.recipe import Recipe


def make_scaler(recipe: Recipe, device: torch.device) -> torch.amp.GradScaler | None:
    """The scale of the loss in fp16, whose small gradients would be 0 without one; None for other precisions."""
    return torch.amp.GradScaler(device.type) if recipe.train.precision == "fp16" else None


def refuse_impossible(recipe: Recipe, device: torch.device, world: int) -> None:
    """Refuses what cannot run here, before anything is made.

    Raises:
        RecipeError: tf32 without a GPU; a network that is shared out by one process, or with a scaled loss.
    """
    train = recipe.train
    if train.precision == "tf32" and device.type != "cuda":
        raise RecipeError(f'train.precision = "tf32" is for NVIDIA GPUs, not for "{device}"; use fp32 or bf16')
    if train.sharding == "fsdp2" and world == 1:
        raise RecipeError(
            'train.sharding = "fsdp2" shares a network among several processes; start them by --gpus N or torchrun, or '
            'use "ddp"'
        )
    if train.sharding == "fsdp2" and train.precision == "fp16":
        raise RecipeError('train.sharding = "fsdp2" does not go with train.precision = "fp16"; use bf16')


def set_up(network: nn.Module, recipe: Recipe, device: torch.device) -> None:
    """Sets the processor's or GPU's precision of products, and compiles the network in place where asked for."""
    precision = recipe.train.precision
    if device.type == "cuda":
        torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
        torch.backends.cudnn.allow_tf32 = precision != "fp32"
    if recipe.train.compile:
        network.compile(dynamic=False)
