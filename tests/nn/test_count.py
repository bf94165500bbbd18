"""Counts: every number of the tables recomputed, against the paper, torchvision's own figures and an analytic value."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

from convnext.errors import UserError
from convnext.nn.count import count, summarize, summary_text
from convnext.nn.spec import NetworkSpec
from convnext.nn.tables.baseline_specs import BASELINES
from convnext.nn.tables.variants import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_the_table_has_the_counted_numbers(name: str) -> None:
    """Parameters exactly, multiply-accumulates to two decimals."""
    found = count(name, 224)
    assert found.params == MODELS[name].params
    assert f"{found.macs / 1e9:.2f}" == f"{MODELS[name].gmacs:.2f}"


@pytest.mark.parametrize(
    ("name", "params", "gmacs"),
    [
        ("convnext_tiny", 28.6, "4.46"), ("convnext_small", 50.2, "8.68"), ("convnext_base", 88.6, "15.35"),
        ("convnext_large", 197.8, "34.36"), ("convnext_xlarge", 350.2, "60.92"),
        ("convnext_isotropic_small", 22, "4.3"), ("convnext_isotropic_base", 87, "16.9"),
        ("convnext_isotropic_large", 306, "59.7"),
    ],
)  # fmt: skip
def test_counts_are_the_papers(name: str, params: float, gmacs: str) -> None:
    """As printed in Tables 1, 2 and 8."""
    found = count(name)
    assert round(found.params / 1e6, 0 if params in (22, 87, 306) else 1) == params
    assert f"{found.macs / 1e9:.{len(gmacs.partition('.')[2])}f}" == gmacs


@pytest.mark.parametrize("name", BASELINES)
def test_the_baselines_have_the_counted_numbers(name: str) -> None:
    """At the size of their published figures."""
    spec = BASELINES[name]
    found = count(name, spec.size)
    assert found.params == spec.params
    assert f"{found.macs / 1e9:.2f}" == f"{spec.gmacs:.2f}"


@pytest.mark.parametrize("name", ["convnext_tiny", "convnext_small", "convnext_base", "convnext_large"])
def test_macs_are_torchvisions(name: str) -> None:
    """torchvision publishes its own count (of its own kernels) for each model."""
    published = torchvision.models.get_model_weights(name)["DEFAULT"].meta["_ops"]
    assert count(name, 224).macs / 1e9 == pytest.approx(published, abs=0.01)


@pytest.mark.parametrize(
    "name", ["convnext_tiny", "convnextv2_atto", "convnext_isotropic_small", "roadmap:resnet50:resnet50"]
)
def test_macs_are_those_of_torchs_counter(name: str) -> None:
    """The sum over layers is what torch counts operator by operator: nothing is computed outside a layer."""
    model = NetworkSpec(name).on_meta().eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 224, 224, device="meta"))
    assert count(name, 224).macs == counter.get_total_flops() // 2


def test_macs_grow_with_the_area() -> None:
    """At 384 pixels (384 / 224)^2 times as many, but for the head; the paper prints 13.1 G."""
    head = 768 * 1000
    small, large = count("convnext_tiny", 224).macs - head, count("convnext_tiny", 384).macs - head
    assert large / small == pytest.approx((384 / 224) ** 2)
    assert f"{(large + head) / 1e9:.1f}" == "13.1"


@pytest.mark.parametrize(
    "name",
    [
        "convnext_atto",
        "convnextv2_atto",
        "convnext_isotropic_small",
        "roadmap:resnet50:recipe",
        "timm:resnet18",
        "timm:mvitv2_tiny",
        "timm:mobilevit_xs",
        "timm:vit_tiny_patch16_224",
        "timm:cait_xxs24_224",
        "timm:swin_tiny_patch4_window7_224",
    ],
)
def test_rows_add_up(name: str) -> None:
    """No layer is missing from the summary: its rows sum to the whole."""
    found = summarize(name)
    assert sum(row.params for row in found.layers) == found.params
    assert sum(row.macs for row in found.layers) == found.macs
    assert sum(row.activations for row in found.layers) == found.activations


def test_the_summary_shows_stage_block_and_shape() -> None:
    """One row for the stem, each downsampling, each block, the norm and the head."""
    found = summarize("convnext_atto", 64)
    names = [row.name for row in found.layers]
    assert names[:3] == ["stem", "stages.0.blocks.0", "stages.0.blocks.1"]
    assert names[-2:] == ["norm", "head"]
    assert len(names) == 1 + 3 + 12 + 2
    assert found.layers[0].output == (40, 16, 16)
    text = summary_text(found)
    assert "40 x 16 x 16" in text
    assert "3.7 M parameters" in text


def test_what_is_in_no_layer_has_a_row_of_its_own() -> None:
    """Position embedding and class token of a ViT: 197 x 192 and 192 values."""
    assert [(row.name, row.params) for row in summarize("timm:vit_tiny_patch16_224").layers][-1] == (
        "(other)",
        198 * 192,
    )


def test_unknown_models_and_sizes_are_refused() -> None:
    """With the rule and the remedy."""
    with pytest.raises(UserError, match=r"timm has no such model. Did you mean timm:resnet50"):
        count("timm:resnet_50")
    with pytest.raises(UserError, match="both sides must be at least 32"):
        count("convnext_tiny", 16)
