"""Parameter groups: layer-wise decay by the paper's rule, against a table written out by hand and against timm."""

from __future__ import annotations

import pytest
import torch

from convnext.errors import RecipeError
from convnext.nn.create import create_model
from convnext.nn.network import Network
from convnext.train.groups import layer_of, layers, optimizer_groups, parameter_groups

TINY, SMALL = (3, 3, 9, 3), (3, 3, 27, 3)


def bare(name: str) -> Network:
    """A network of full size without memory for its weights."""
    with torch.device("meta"):
        return create_model(name, num_classes=10)


@pytest.mark.parametrize(
    ("depths", "name", "layer"),
    [
        (TINY, "stem.conv.weight", 0), (TINY, "stem.norm.bias", 0), (TINY, "stages.0.blocks.0.dwconv.weight", 1),
        (TINY, "stages.0.blocks.2.gamma", 1), (TINY, "stages.1.downsample.norm.weight", 2),
        (TINY, "stages.1.blocks.2.norm.bias", 2), (TINY, "stages.2.downsample.conv.weight", 3),
        (TINY, "stages.2.blocks.2.pwconv1.weight", 3), (TINY, "stages.2.blocks.3.pwconv1.weight", 4),
        (TINY, "stages.2.blocks.8.pwconv2.bias", 5), (TINY, "stages.3.downsample.conv.bias", 6),
        (TINY, "stages.3.blocks.0.gamma", 6), (TINY, "norm.weight", 7), (TINY, "head.weight", 7),
        (SMALL, "stages.2.blocks.26.gamma", 11), (SMALL, "stages.2.blocks.3.gamma", 4),
        (SMALL, "stages.3.blocks.2.gamma", 12), (SMALL, "head.bias", 13), ((2, 2, 6, 2), "stages.2.blocks.5.gamma", 4),
        ((18,), "stages.0.blocks.17.gamma", 6), ((18,), "norm.weight", 7),
    ],
)  # fmt: skip
def test_every_parameter_is_in_the_papers_group(depths: tuple[int, ...], name: str, layer: int) -> None:
    """Three blocks a group; 12 groups of blocks for S to XL as in the authors' code, 6 for T."""
    assert layer_of(name, depths) == layer


def test_there_are_as_many_groups_as_the_authors_have() -> None:
    """12 and 6, with stem and head two more."""
    assert (layers(SMALL), layers(TINY)) == (14, 8)


@pytest.mark.parametrize("decay", [0.7, 0.8])
def test_the_rate_falls_from_the_head_down(decay: float) -> None:
    """Group i of n learns at decay^(n - i); the head at the full rate, the stem of ConvNeXt-B at decay^13."""
    groups = parameter_groups(bare("convnext_base"), 1e-8, decay)
    scales = {group.layer: group.scale for group in groups}
    assert scales == {i: pytest.approx(decay ** (13 - i)) for i in range(14)}
    assert {group.weight_decay for group in groups} == {0.0, 1e-8}


@pytest.mark.parametrize("name", ["convnext_tiny", "convnext_atto", "convnext_isotropic_small", "convnextv2_atto"])
def test_every_parameter_is_in_one_group(name: str) -> None:
    """None is left out, none is there twice; vectors have no weight decay."""
    model = bare(name)
    groups = parameter_groups(model, 0.05, 0.8)
    names = [n for group in groups for n in group.names]
    assert sorted(names) == sorted(n for n, _ in model.named_parameters())
    assert sum(group.parameters for group in groups) == sum(p.numel() for p in model.parameters())
    shapes = dict(model.named_parameters())
    for group in groups:
        assert all((shapes[n].ndim <= 1) == (group.weight_decay == 0.0) for n in group.names)


def test_without_decay_there_are_timms_two_groups() -> None:
    """`param_groups_weight_decay` of timm picks the same parameters."""
    from timm.optim import param_groups_weight_decay

    model = create_model("convnext_atto", num_classes=3)
    ours = {g["weight_decay"]: {id(p) for p in g["params"]} for g in optimizer_groups(model, 0.05)}
    theirs = {g["weight_decay"]: {id(p) for p in g["params"]} for g in param_groups_weight_decay(model, 0.05)}
    assert ours == theirs
    assert all(g["lr_scale"] == 1.0 for g in optimizer_groups(model, 0.05))


def test_another_network_is_refused() -> None:
    """Where the blocks are not known to us."""
    with pytest.raises(RecipeError, match=r"train\.layer_decay = 0\.8"):
        parameter_groups(create_model("timm:test_vit", num_classes=2), 0.05, 0.8)
