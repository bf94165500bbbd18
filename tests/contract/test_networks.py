"""One tester over every kind of network: what the rest of the program relies on, whichever network it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from convnext.errors import UserError
from convnext.nn.convnext.backbone import ConvNeXt
from convnext.nn.create import create_model
from convnext.nn.network import Network
from convnext.nn.others.roadmap import REGIMES, designs, name_of
from convnext.nn.tables.baseline_specs import BASELINES
from convnext.nn.tables.variants import MODELS

Build = Callable[..., Network]


def micro(spec_name: str) -> Build:
    """A small network with the settings of a model of the table: its stages, stem, norms and response normalisation."""
    spec = MODELS[spec_name]
    flat = len(spec.dims) == 1
    depths, dims = ((3,), (32,)) if flat else ((1, 1, 2, 1), (16, 32, 64, 128))

    def build(**options: object) -> Network:
        options.setdefault("layer_scale", 0.5 if spec.layer_scale else 0.0)
        return ConvNeXt(
            depths, dims, **{"stem_patch": spec.stem_patch, "stem_norm": spec.stem_norm, "grn": spec.grn} | options
        )

    return build


def named(name: str, **fixed: object) -> Build:
    return lambda **options: create_model(name, **fixed, **options)


MICRO: dict[str, Build] = {
    name: micro(name) for name in ("convnext_tiny", "convnextv2_tiny", "convnext_isotropic_small")
}
MICRO["convnext_isotropic_large"] = micro("convnext_isotropic_large")
STEPS: dict[str, Build] = {
    (name := name_of(regime, step, 0.125)): named(name)
    for regime in REGIMES
    for step, _ in designs(regime)
    if step.name != "recipe"
}
PEERS: dict[str, Build] = {
    "timm:resnet18": named("timm:resnet18"),
    "timm:test_efficientnet": named("timm:test_efficientnet"),
    "timm:test_vit": named("timm:test_vit", size=64),
    "timm:swin_tiny_patch4_window7_224": named("timm:swin_tiny_patch4_window7_224", size=64),
}
OURS = MICRO | STEPS
ALL = OURS | PEERS


def shake(model: nn.Module, seed: int = 0) -> None:
    """Values of the size found in trained networks, so that no branch is negligible."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 1:
            noise = 0.1 * noise if name.endswith("bias") else 1 + 0.1 * noise
        else:
            noise = noise / parameter[0].numel() ** 0.5
        parameter.data.copy_(noise)


def pictures(n: int = 2, channels: int = 3, side: int = 64) -> Tensor:
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ALL)
def test_logits_have_their_shape_and_every_parameter_gets_a_gradient(name: str) -> None:
    """(N, classes) for 7 classes; after one backward pass no parameter is without a gradient."""
    model = ALL[name](num_classes=7)
    shake(model)
    out = model.train()(pictures())
    assert out.shape == (2, 7)
    out.square().mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    silent = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.abs().sum() > 0]
    assert [n for n in silent if "relative_position" not in n and "attn.qkv.bias" not in n] == []


@pytest.mark.parametrize("name", ALL)
def test_evaluation_is_deterministic_and_a_batch_is_its_pictures(name: str) -> None:
    """Twice the same input, twice the same output; a picture alone gives what it gives in a batch."""
    model = ALL[name](num_classes=7)
    shake(model)
    model.eval()
    x = pictures(3)
    with torch.no_grad():
        once, again, alone = model(x), model(x), model(x[1:2])
    assert torch.equal(once, again)
    torch.testing.assert_close(alone, once[1:2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("in_chans", [1, 4])
def test_other_channels_are_taken_and_wrong_ones_refused(name: str, in_chans: int) -> None:
    """A network for 1 or 4 channels takes those, and refuses three."""
    model = ALL[name](num_classes=2, in_chans=in_chans).eval()
    with torch.no_grad():
        assert model(pictures(1, in_chans)).shape == (1, 2)
    with pytest.raises(UserError, match=f"the model takes \\(N, {in_chans}, H, W\\)"):
        model(pictures(1))


@pytest.mark.parametrize("name", ALL)
def test_channels_last_equals_contiguous(name: str) -> None:
    """The memory format is no part of the result."""
    model = ALL[name](num_classes=7)
    shake(model)
    model.eval()
    with torch.no_grad():
        plain = model(pictures())
        other = model.to(memory_format=torch.channels_last)(pictures().contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_features_have_the_promised_channels_and_strides(name: str) -> None:
    """Map i is (N, channels[i], H / strides[i], W / strides[i])."""
    model = ALL[name](num_classes=0).eval()
    with torch.no_grad():
        maps = model.features(pictures())
    assert [tuple(m.shape) for m in maps] == [
        (2, c, 64 // s, 64 // s) for c, s in zip(model.channels, model.strides, strict=True)
    ]


@pytest.mark.parametrize("name", OURS)
def test_the_head_sees_the_last_map(name: str) -> None:
    """The logits are the head on the pooled last map that `features` gives."""
    model = OURS[name](num_classes=7)
    shake(model)
    model.eval()
    with torch.no_grad():
        pooled = model.features(pictures())[-1].mean((2, 3))
        pooled = model.norm(pooled) if isinstance(model, ConvNeXt) else pooled
        torch.testing.assert_close(model.classifier()(pooled), model(pictures()))


@pytest.mark.parametrize("name", OURS)
def test_odd_sizes_are_taken(name: str) -> None:
    """Sides that are no multiple of the last stride; a side below the last stride is refused with the number."""
    model = OURS[name](num_classes=7).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 75, 101)).shape == (1, 7)
    smallest = model.strides[-1]
    with pytest.raises(UserError, match=f"must be at least {smallest}"):
        model(torch.randn(1, 3, smallest - 1, 101))


@pytest.mark.parametrize("name", OURS)
def test_checkpointing_changes_no_gradient(name: str) -> None:
    """Recomputing the blocks gives the same gradients, and running statistics count every picture once."""
    gradients, statistics = [], []
    for checkpointing in (False, True):
        model = OURS[name](num_classes=7, checkpointing=checkpointing)
        shake(model)
        model.train()(pictures()).square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
        statistics.append(list(model.buffers()))
    for plain, recomputed in (*zip(*gradients, strict=True), *zip(*statistics, strict=True)):
        torch.testing.assert_close(recomputed, plain)


@pytest.mark.parametrize("name", MICRO)
def test_the_two_forms_of_the_block_are_equal(name: str) -> None:
    """Linear layers on channels-last rows and 1x1 convolutions on maps: same weights, same logits, same gradients."""
    found = []
    for form in ("linear", "conv"):
        model = MICRO[name](num_classes=7, form=form)
        shake(model)
        out = model(pictures())
        out.square().mean().backward()
        found.append((out.detach(), {n: p.grad for n, p in model.named_parameters()}))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-5, atol=1e-5)
    for key, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][key], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", [*MICRO, "roadmap:resnet50:bn-to-ln:0.125"])
def test_bf16_is_close_to_fp32(name: str) -> None:
    """Under autocast the logits follow those of fp32 to a few percent of their size."""
    model = ALL[name](num_classes=7)
    shake(model)
    model.eval()
    with torch.no_grad():
        exact = model(pictures())
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(pictures()).float()
    assert (rough - exact).abs().max() <= 0.05 * exact.abs().max()


@pytest.mark.parametrize("name", [*MICRO, "roadmap:resnet50:resnet50:0.125", "roadmap:resnet50:fewer-norms:0.125"])
def test_export_gives_the_same_logits(name: str) -> None:
    """torch.export of the network, with a batch that may change, computes what the network computes."""
    model = ALL[name](num_classes=7)
    shake(model)
    model.eval()
    exported = torch.export.export(model, (pictures(),), dynamic_shapes=({0: torch.export.Dim("n", min=1, max=64)},))
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(pictures(5)), model(pictures(5)), rtol=1e-4, atol=1e-4)


@pytest.mark.full
@pytest.mark.parametrize("name", MICRO)
def test_compile_gives_the_same_logits(name: str) -> None:
    """torch.compile computes what the network computes."""
    model = MICRO[name](num_classes=7)
    shake(model)
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model)(pictures()), model(pictures()), rtol=1e-4, atol=1e-4)


@pytest.mark.full
@pytest.mark.parametrize("name", [*MODELS, *(n for n in BASELINES if "152x4" not in n)])
def test_real_sizes_give_finite_logits_and_gradients(name: str) -> None:
    """Every model of the table at its own size of weights, on a small picture: shapes, finite numbers, gradients."""
    fixed = {"size": 64} if name.startswith(("timm:vit", "timm:deit", "timm:swin")) else {}
    model = create_model(name, num_classes=5, **fixed)
    out = model.train()(pictures())
    assert out.shape == (2, 5)
    assert torch.isfinite(out).all()
    out.square().mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []
