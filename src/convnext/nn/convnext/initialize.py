"""Initial weights for short runs from scratch.

The paper draws all weights from a normal of deviation 0.02, which suits wide networks, layer scale 1e-6 and 300 epochs
of ImageNet. In a narrow network, on a few thousand pictures, that is a slow start: with 40 channels a block's first
linear layer shrinks its input to an eighth, its GELU stays near zero, where it is all but linear, and the branch adds
next to nothing. Measurements are in docs/results.md.
"""

from __future__ import annotations

from torch import nn

from convnext.kernels.depthwise import DepthwiseConv2d


def init_fan_in(model: nn.Module) -> None:
    """Draws `stem` and `stages` anew, so that linear layers and convolutions keep the scale of their input; in place.

    A truncated normal of variance 1 / (weights per output), as LeCun et al. (1998) recommend; depthwise kernels have 1
    added in their centre, so that a block starts from the map itself and not from a random blur of it. Biases are 0.
    Norms, layer scale and the head stay as they are. For blocks that take part at once set layer scale to 1.
    """
    for part in ("stem", "stages"):
        for layer in model.get_submodule(part).modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                _draw(layer)


def _draw(layer: nn.Conv2d | nn.Linear) -> None:
    fan_in = layer.weight[0].numel()
    nn.init.trunc_normal_(layer.weight, std=fan_in**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    if isinstance(layer, DepthwiseConv2d):
        centre = layer.weight.shape[-1] // 2
        layer.weight.data[:, 0, centre, centre] += 1.0
