"""Weights made by the peers' own code: into ours, the same logits; ours into theirs, the same logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from convnext.nn.convnext.backbone import ConvNeXt
from convnext.nn.create import create_model
from convnext.nn.tables.variants import MODELS
from convnext.nn.weights.formats import detect_format, from_native, to_native
from convnext.nn.weights.load import load_state, model_of

Randomise = Callable[..., None]

DEPTHS, DIMS = (1, 1, 2, 1), (8, 16, 24, 32)
TOLERANCE = 1e-5  # absolute, fp32, for logits of the order of 1


def pictures(side: int = 64) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(3))


def transformers_model(depths: tuple[int, ...], dims: tuple[int, ...], classes: int, *, grn: bool) -> nn.Module:
    """A classifier of transformers with our kind of settings."""
    import transformers

    kind = "ConvNextV2" if grn else "ConvNext"
    config = getattr(transformers, f"{kind}Config")(
        depths=list(depths), hidden_sizes=list(dims), num_labels=classes, layer_norm_eps=1e-6
    )
    model: nn.Module = getattr(transformers, f"{kind}ForImageClassification")(config).eval()
    # its classifier head normalises with layer_norm_eps; the blocks have 1e-6 built in
    return model


def logits(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        out = model(x)
    return out if isinstance(out, Tensor) else out.logits


def ours(*, grn: bool) -> ConvNeXt:
    return ConvNeXt(DEPTHS, DIMS, num_classes=5, grn=grn, layer_scale=0.0 if grn else 1e-6).eval()


@pytest.mark.parametrize("grn", [False, True])
def test_transformers_weights_load_and_give_the_same_logits(grn: bool, randomise: Randomise) -> None:
    """Random weights made by transformers, V1 and V2: into ours, and ours back into theirs."""
    theirs = transformers_model(DEPTHS, DIMS, 5, grn=grn)
    randomise(theirs)
    state = theirs.state_dict()
    assert detect_format(state) == "transformers"
    model = ours(grn=grn)
    report = load_state(model, state, source="transformers")
    assert report.missing == report.unexpected == report.replaced == ()
    assert (logits(model, pictures()) - logits(theirs, pictures())).abs().max() <= TOLERANCE
    randomise(model, seed=5)
    theirs.load_state_dict(from_native(model.state_dict(), "transformers"))
    assert (logits(model, pictures()) - logits(theirs, pictures())).abs().max() <= TOLERANCE
    assert logits(model, pictures()).abs().max() > 0.1


def test_a_backbone_of_transformers_loads_too(randomise: Randomise) -> None:
    """Without the prefix of the classifier, as `ConvNextModel` saves itself; only the head is missing."""
    import transformers

    config = transformers.ConvNextConfig(depths=list(DEPTHS), hidden_sizes=list(DIMS))
    theirs = transformers.ConvNextModel(config).eval()
    randomise(theirs)
    model = ours(grn=False)
    report = load_state(model, theirs.state_dict(), source="file")
    assert report.missing == ("head.weight", "head.bias")
    with torch.no_grad():
        difference = model.pooled(pictures()) - theirs(pictures()).pooler_output
    assert difference.abs().max() <= 1e-4  # its last norm has an epsilon of 1e-12


@pytest.mark.parametrize("grn", [False, True])
def test_timm_weights_load_and_give_the_same_logits(grn: bool, randomise: Randomise) -> None:
    """The same with timm, whose V2 is a switch of its V1."""
    theirs = timm.create_model("convnextv2_tiny" if grn else "convnext_tiny", depths=DEPTHS, dims=DIMS, num_classes=5)
    theirs.eval()
    randomise(theirs)
    model = ours(grn=grn)
    load_state(model, theirs.state_dict(), source="timm")
    assert (logits(model, pictures()) - logits(theirs, pictures())).abs().max() <= TOLERANCE
    randomise(model, seed=5)
    theirs.load_state_dict(from_native(model.state_dict(), "timm"))
    assert (logits(model, pictures()) - logits(theirs, pictures())).abs().max() <= TOLERANCE


def test_torchvision_weights_load_and_give_the_same_logits(randomise: Randomise) -> None:
    """The same with torchvision, on its tiny one with a head of 5."""
    theirs = torchvision.models.convnext_tiny(weights=None, num_classes=5).eval()
    randomise(theirs)
    model = create_model("convnext_tiny", num_classes=5).eval()
    load_state(model, theirs.state_dict(), source="torchvision")
    assert (logits(model, pictures()) - logits(theirs, pictures())).abs().max() <= TOLERANCE
    theirs.load_state_dict(from_native(model.state_dict(), "torchvision"))
    assert (logits(model, pictures()) - logits(theirs, pictures())).abs().max() <= TOLERANCE


def _official_v2_blocks(state: dict[str, Tensor]) -> list[str]:
    return sorted(key for key in state if ".grn." in key)


def test_official_v2_names_and_shapes() -> None:
    """The V2 authors call the response normalisation grn.gamma and grn.beta, of shape (1, 1, 1, 4C)."""
    official = from_native(ours(grn=True).state_dict(), "official")
    assert _official_v2_blocks(official)[:2] == ["stages.0.0.grn.beta", "stages.0.0.grn.gamma"]
    assert official["stages.0.0.grn.gamma"].shape == (1, 1, 1, 4 * DIMS[0])
    assert detect_format(official) == "official"


def test_official_v2_files_are_read_by_timms_converter(randomise: Randomise) -> None:
    """timm's own reader of the V2 authors' files reads ours, and gives what our timm format gives."""
    from timm.models.convnext import checkpoint_filter_fn

    model = ours(grn=True)
    randomise(model)
    theirs = timm.create_model("convnextv2_tiny", depths=DEPTHS, dims=DIMS, num_classes=5)
    converted = checkpoint_filter_fn({"model": from_native(model.state_dict(), "official")}, theirs)
    wanted = from_native(model.state_dict(), "timm")
    assert converted.keys() == wanted.keys()
    assert all(torch.equal(value.reshape(wanted[key].shape), wanted[key]) for key, value in converted.items())


def test_official_isotropic_names() -> None:
    """One list of blocks behind a bare stem: names and shapes of the released files; back to ours to the bit."""
    model = create_model("convnext_isotropic_small", num_classes=5)
    official = from_native(model.state_dict(), "official")
    expected = {
        "stem.weight": (384, 3, 16, 16), "blocks.17.dwconv.weight": (384, 1, 7, 7), "blocks.0.norm.bias": (384,),
        "blocks.3.pwconv1.weight": (1536, 384), "norm.weight": (384,), "head.bias": (5,),
    }  # fmt: skip
    assert {key: tuple(official[key].shape) for key in expected} == expected
    assert not any("gamma" in key for key in official)
    assert detect_format(official) == "official"
    back = to_native(official, "official")
    assert all(torch.equal(back[key], value) for key, value in model.state_dict().items())
    assert model_of(back) == "convnext_isotropic_small"


def test_mmpretrain_names() -> None:
    """A backbone, its norm3 and head.fc, as MMPretrain spells them; V2 with grn.gamma of shape (4C,)."""
    v1, v2 = (from_native(ours(grn=grn).state_dict(), "mmpretrain") for grn in (False, True))
    for key in ("downsample_layers.3.1.weight", "stages.2.1.depthwise_conv.weight", "stages.2.1.gamma", "norm3.bias"):
        assert f"backbone.{key}" in v1
    assert "backbone.stages.2.1.pointwise_conv2.weight" in v1
    assert "head.fc.weight" in v1
    assert v2["backbone.stages.0.0.grn.gamma"].shape == (4 * DIMS[0],)
    assert detect_format(v1) == detect_format(v2) == "mmpretrain"


SIZES = [("timm", name) for name in MODELS if timm.is_model(name)]
SIZES += [("torchvision", name) for name in MODELS if name in torchvision.models.list_models()]
SIZES += [("transformers", name) for name in MODELS if "isotropic" not in name]


@pytest.mark.full
@pytest.mark.parametrize(("code", "name"), SIZES)
def test_every_size_loads_from_the_peer_and_back(code: str, name: str, randomise: Randomise) -> None:
    """At the real size, on a picture of 224: the same logits in both directions."""
    spec = MODELS[name]
    if code == "timm":
        theirs = timm.create_model(name).eval()
    elif code == "torchvision":
        theirs = torchvision.models.get_model(name, weights=None).eval()
    else:
        theirs = transformers_model(spec.depths, spec.dims, 1000, grn=spec.grn)
    randomise(theirs)
    model = create_model(name).eval()
    load_state(model, theirs.state_dict(), source=code)
    x = pictures(224)[:1]
    for seed in (None, 5):
        if seed is not None:
            randomise(model, seed=seed)
            theirs.load_state_dict(from_native(model.state_dict(), code))
        found, expected = logits(model, x), logits(theirs, x)
        assert (found - expected).abs().max() <= TOLERANCE * max(1.0, float(found.abs().max())), seed


def test_peers_read_the_files_that_convert_writes(randomise: Randomise, tmp_path: Path) -> None:
    """A converted file goes into timm by timm's loader and into transformers by `from_pretrained`."""
    import transformers
    from timm.models import load_checkpoint

    from convnext.run.convert import convert

    model = ConvNeXt(DEPTHS, DIMS, num_classes=5).eval()
    randomise(model)
    torch.save(model.state_dict(), tmp_path / "ours.pth")
    said = str(convert(tmp_path / "ours.pth", tmp_path / "timm.safetensors", "timm"))
    assert "(convnext format" in said
    assert "a head for 5 classes" in said
    peer = timm.create_model("convnext_tiny", depths=DEPTHS, dims=DIMS, num_classes=5).eval()
    load_checkpoint(peer, str(tmp_path / "timm.safetensors"))
    assert (logits(peer, pictures()) - logits(model, pictures())).abs().max() <= TOLERANCE
    folder = tmp_path / "hf"
    folder.mkdir()
    convert(tmp_path / "timm.safetensors", folder / "model.safetensors", "transformers")
    transformers_model(DEPTHS, DIMS, 5, grn=False).config.save_pretrained(folder)  # type: ignore[operator]
    loaded = transformers.ConvNextForImageClassification.from_pretrained(folder).eval()
    assert (logits(loaded, pictures()) - logits(model, pictures())).abs().max() <= TOLERANCE
