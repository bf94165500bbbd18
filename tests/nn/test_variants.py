"""The table of models: every number in it is recomputed or compared."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from timm.models import get_pretrained_cfg
from torch import nn

from convnext.errors import UserError
from convnext.nn.create import create_model
from convnext.nn.variants import MODELS, PUBLISHED, get_spec, list_models


@pytest.mark.parametrize("name", MODELS)
def test_parameter_counts_are_exact(name: str, peer_on_meta: Callable[[str, str], nn.Module]) -> None:
    """The table's count is that of our model, of timm's, and the number torchvision publishes; and the tensors of ours
    and timm's have the same sizes.
    """
    with torch.device("meta"):
        ours = create_model(name)
    theirs = peer_on_meta("timm", name)
    published = MODELS[name].params
    assert sum(p.numel() for p in ours.parameters()) == published
    assert sum(p.numel() for p in theirs.parameters()) == published
    assert sorted(p.numel() for p in ours.parameters()) == sorted(p.numel() for p in theirs.parameters())
    if name in torchvision.models.list_models():
        assert torchvision.models.get_model_weights(name)["DEFAULT"].meta["num_params"] == published


@pytest.mark.parametrize("entry", [entry for entry in PUBLISHED if entry.startswith("timm:")])
def test_timm_entries_exist_and_fit(entry: str) -> None:
    """Each timm entry is in timm's table, for the model it is listed under, 1000 classes, the ImageNet statistics, and
    the licence that timm states.
    """
    name = entry.removeprefix("timm:")
    config = get_pretrained_cfg(name)
    assert config is not None
    assert config.hf_hub_id == f"timm/{name}"
    assert name.split(".")[0] == PUBLISHED[entry].model
    assert config.num_classes == 1000
    assert (config.mean, config.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert PUBLISHED[entry].licence.lower().startswith(config.license)


@pytest.mark.parametrize("entry", [entry for entry in PUBLISHED if entry.startswith("official:")])
def test_official_entries_are_files_that_timm_knows(entry: str) -> None:
    """Each official entry is the address of a file in timm's table, for the same model."""
    model = PUBLISHED[entry].model
    urls = {get_pretrained_cfg(name).url for name in timm.list_pretrained(f"{model}.*")}
    assert f"https://dl.fbaipublicfiles.com/convnext/{entry.removeprefix('official:')}.pth" in urls


def test_every_model_has_a_start_for_fine_tuning() -> None:
    """Every model lists published weights, every entry belongs to a model, and each has a licence."""
    assert all(spec.pretrained for spec in MODELS.values())
    assert {entry for spec in MODELS.values() for entry in spec.pretrained} == set(PUBLISHED)
    assert all(published.licence and published.trained_on for published in PUBLISHED.values())


def test_models_are_listed_from_small_to_large() -> None:
    """The list is ordered by size, and a pattern filters it."""
    sizes = [MODELS[name].params for name in list_models()]
    assert sizes == sorted(sizes)
    assert len(sizes) == 9
    assert list_models("*_*o") == ["convnext_atto", "convnext_femto", "convnext_pico", "convnext_nano"]
    assert list_models("resnet*") == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [("convnext_tinny", "convnext_tiny"), ("tiny", "convnext_tiny"), ("ConvNeXt-Base", "convnext_base")],
)
def test_a_misspelt_name_is_answered_with_the_right_one(name: str, meant: str) -> None:
    """The error names what was asked for, the model probably meant, and all that there are."""
    with pytest.raises(UserError, match=f'"{name}" is not known. Did you mean "{meant}".*convnext_xlarge'):
        get_spec(name)


def test_a_strange_name_gets_the_list_without_a_guess() -> None:
    """Nothing is guessed when nothing is close."""
    with pytest.raises(UserError, match="The models are: convnext_atto") as caught:
        get_spec("vgg16")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_classes", -1),
        ("in_chans", 0),
        ("drop_path", 1.0),
        ("drop_path", float("nan")),
        ("layer_scale", -1e-6),
        ("stem_patch", 3),
        ("init", "lecun"),
        ("stem_patch", 0),
    ],
)
def test_values_out_of_range_are_refused(key: str, value: float | str) -> None:
    """Each error names the key, the value and the rule."""
    with pytest.raises(UserError, match=f"{key} is {value}; it must be"):
        create_model("convnext_atto", **{key: value})


def test_weights_none_is_the_seeded_initialisation() -> None:
    """Without weights a model depends on the seed alone."""
    states = []
    for weights in (None, "none"):
        torch.manual_seed(5)
        states.append(create_model("convnext_atto", num_classes=3, weights=weights).state_dict())
    assert all(torch.equal(tensor, states[1][key]) for key, tensor in states[0].items())
