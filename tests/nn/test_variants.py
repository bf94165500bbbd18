"""The table of models: every number in it is recomputed or compared."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from timm.models import get_pretrained_cfg
from torch import nn

from convnext import paper
from convnext.errors import UserError
from convnext.nn.create import create_model
from convnext.nn.tables.published import PUBLISHED
from convnext.nn.tables.variants import MODELS, get_spec, list_models
from convnext.nn.weights.download import locate, starts

NOT_IN_TIMM = {f"official:convnext_iso_{size}_1k_224_ema" for size in ("small", "base", "large")}
NOT_IN_TIMM |= {"official:convnext_base_1k_384", "official:convnext_large_1k_384"}
IN_TIMM = [name for name in MODELS if timm.is_model(name)]


@pytest.mark.parametrize("name", IN_TIMM)
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
    assert config.num_classes == PUBLISHED[entry].classes == 1000
    assert (config.input_size[-1], config.crop_pct) == (PUBLISHED[entry].size, PUBLISHED[entry].crop_ratio)
    assert config.interpolation == PUBLISHED[entry].interpolation
    assert (config.crop_mode == "squash") == PUBLISHED[entry].squash
    assert (config.mean, config.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert PUBLISHED[entry].licence.lower().startswith(config.license)


@pytest.mark.parametrize("entry", [e for e in PUBLISHED if e.startswith("official:") and e not in NOT_IN_TIMM])
def test_official_entries_are_files_that_timm_knows(entry: str) -> None:
    """Each official entry is the address of a file in timm's table, for the same model."""
    model = PUBLISHED[entry].model
    urls = {get_pretrained_cfg(name).url for name in timm.list_pretrained(f"{model}.*")}
    assert locate(entry).url in urls


@pytest.mark.parametrize("entry", [e for e in PUBLISHED if e.startswith("torchvision:")])
def test_torchvision_entries_say_what_torchvision_says(entry: str) -> None:
    """Accuracy and preprocessing are those of torchvision's own table."""
    weights = torchvision.models.get_model_weights(entry.removeprefix("torchvision:"))["DEFAULT"]
    assert PUBLISHED[entry].top1 == weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    transform = weights.transforms()
    assert transform.interpolation.value == PUBLISHED[entry].interpolation
    assert PUBLISHED[entry].crop_ratio == pytest.approx(transform.crop_size[0] / transform.resize_size[0], abs=1e-4)


def test_accuracies_of_the_papers_weights_are_the_papers() -> None:
    """Each accuracy of an official V1 or isotropic entry stands in Table 1 or 2 in the row of its model and size."""
    table = {(r["model"], r["pretraining"], r["size"]): r["top1"] for r in paper.rows("table1")}
    table |= {(r["model"], "1k", 224): r["top1"] for r in paper.rows("table2")}
    letters = {"tiny": "T", "small": "S", "base": "B", "large": "L", "xlarge": "XL"}
    checked = 0
    for entry, weights in PUBLISHED.items():
        if entry.startswith("official:convnext_") and weights.top1 is not None:
            size = letters[weights.model.rpartition("_")[2]]
            name = f"ConvNeXt-{size}" + (" (iso.)" if "isotropic" in weights.model else "")
            assert weights.top1 == table[name, "22k" if "_22k_" in entry else "1k", weights.size], entry
            checked += 1
    assert checked == 19


def test_every_model_has_a_start_for_fine_tuning() -> None:
    """Every model lists published weights, every entry belongs to a model, and each has a licence."""
    assert all(spec.pretrained for spec in MODELS.values())
    assert all(PUBLISHED[spec.pretrained[0]].size == 224 for spec in MODELS.values())
    assert {weights.model for weights in PUBLISHED.values()} == set(MODELS)
    assert starts("timm:resnet50") == ("timm:resnet50.a1_in1k",)
    assert starts("roadmap:resnet50:bn-to-ln") == ()
    assert all(published.licence and published.trained_on for published in PUBLISHED.values())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("convnext_atto", {"num_classes": "5"}, "num_classes is '5'; it must be"),
        ("convnext_atto", {"num_classes": True}, "num_classes is True; it must be"),
        ("convnext_atto", {"num_classes": 10**12}, "num_classes is 1000000000000; it must be"),
        ("convnext_atto", {"in_chans": 2.0}, "in_chans is 2.0; it must be"),
        ("convnext_atto", {"drop_path": float("nan")}, "drop_path is nan; it must be"),
        ("convnext_atto", {"layer_scale": float("inf")}, "layer_scale is inf; it must be"),
        ("convnext_atto", {"head_init_scale": float("nan")}, "head_init_scale is nan; it must be"),
        ("convnext_atto", {"stem_patch": True}, "stem_patch is True; it must be"),
        ("convnext_atto", {"size": -5}, "size is -5; it must be"),
        ("convnext_atto", {"weights": 3}, "weights is 3; it must be"),
        (3, {}, "name is 3; it must be"),
        ("timm:resnet18", {"layer_scale": 0.5}, "layer_scale is 0.5; it must be 0 or left out: timm:resnet18 has none"),
        ("timm:resnet18", {"output_norms": True}, "output_norms is True; it must be left out"),
        ("timm:resnet18", {"form": "conv"}, "form is 'conv'; it must be"),
        ("roadmap:resnet50:patchify-stem:0.25", {"layer_scale": 0.1}, "layer_scale is 0.1; it must be 0"),
        ("resnet18", {}, 'Did you mean "timm:resnet18"'),
        ("convnext_atto.d2_in1k", {}, 'Did you mean "convnext_atto" with the weights "timm:convnext_atto.d2_in1k"'),
    ],
)
def test_arguments_are_checked(name: object, options: dict[str, object], message: str) -> None:
    """Value, rule and remedy, whatever the type; a network never ignores what it was asked for."""
    with pytest.raises(UserError, match=re.escape(message)):
        create_model(name, **options)


def test_models_are_listed_from_small_to_large() -> None:
    """The list is ordered by size, and a pattern filters it."""
    assert len(list_models()) == 20
    for family in ("convnext_[!i]*", "convnext_isotropic_*", "convnextv2_*"):
        sizes = [MODELS[name].params for name in list_models(family)]
        assert sizes == sorted(sizes)
        assert len(sizes) >= 3
    assert list_models("convnext_*o") == ["convnext_atto", "convnext_femto", "convnext_pico", "convnext_nano"]
    assert list_models("resnet*") == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [("convnext_tinny", "convnext_tiny"), ("tiny", "convnext_tiny"), ("ConvNeXt-Base", "convnext_base")],
)
def test_a_misspelt_name_is_answered_with_the_right_one(name: str, meant: str) -> None:
    """The error names what was asked for, the model probably meant, and all that there are."""
    with pytest.raises(UserError, match=f'"{name}" is not known. Did you mean "{meant}".*convnextv2_huge'):
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
    with pytest.raises(UserError, match=f"{key} is {value!r}; it must be"):
        create_model("convnext_atto", **{key: value})


def test_weights_none_is_the_seeded_initialisation() -> None:
    """Without weights a model depends on the seed alone."""
    states = []
    for weights in (None, "none"):
        torch.manual_seed(5)
        states.append(create_model("convnext_atto", num_classes=3, weights=weights).state_dict())
    assert all(torch.equal(tensor, states[1][key]) for key, tensor in states[0].items())
