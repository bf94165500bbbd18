"""Initial weights for short runs, against torch's own fans and the variance that they promise."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convnext.kernels.depthwise import DepthwiseConv2d
from convnext.nn.convnext.backbone import Block, ConvNeXt
from convnext.nn.create import create_model


def built(init: str, seed: int = 0) -> ConvNeXt:
    """convnext_atto for five classes."""
    torch.manual_seed(seed)
    return create_model("convnext_atto", num_classes=5, layer_scale=1.0, init=init)


def test_deviations_are_those_of_the_fan() -> None:
    """Every linear layer and convolution of the stem and the stages: 1 / sqrt(fan in), the fan by torch's count."""
    model, seen = built("fan_in"), 0
    for part in (model.stem, model.stages):
        for layer in part.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                fan_in, _ = nn.init._calculate_fan_in_and_fan_out(layer.weight)
                weight = layer.weight.detach().clone()
                if isinstance(layer, DepthwiseConv2d):
                    assert weight[:, 0, 3, 3].mean() == pytest.approx(1, abs=0.1)
                    weight[:, 0, 3, 3] = 0
                assert weight.std() * fan_in**0.5 == pytest.approx(1, abs=0.05)
                assert not layer.bias.any()
                seen += 1
    assert seen == 1 + 3 + 3 * 12


def test_head_norms_and_layer_scale_stay() -> None:
    """What is not drawn anew is that of the paper's initialisation from the same seed."""
    ours, papers = built("fan_in").state_dict(), built("paper").state_dict()
    for key in ("head.weight", "head.bias", "norm.weight", "stages.0.blocks.0.gamma", "stages.1.downsample.norm.bias"):
        assert torch.equal(ours[key], papers[key])
    assert not torch.equal(ours["stem.conv.weight"], papers["stem.conv.weight"])


def test_a_layer_keeps_the_scale_that_the_papers_shrinks() -> None:
    """Rows of variance 1 come out of the first linear layer with variance 1, where the paper's gives C * 0.02^2."""
    rows = torch.randn(4096, 40, generator=torch.Generator().manual_seed(1))
    for init, wanted in (("fan_in", 1.0), ("paper", 40 * 0.02**2)):
        block = built(init).stages[0].blocks[0]
        assert isinstance(block, Block)
        assert block.pwconv1(rows).var().item() == pytest.approx(wanted, rel=0.1)


def test_the_same_seed_gives_the_same_weights() -> None:
    """And another seed others."""
    first, again, other = (built("fan_in", seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["stem.conv.weight"], other["stem.conv.weight"])
