"""The backbone against timm and torchvision, and what it promises by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from convnext.errors import UserError
from convnext.nn.convnext.backbone import Block, BlockSettings, ConvNeXt, resample_stem
from convnext.nn.convnext.layers import DropPath, LayerNorm2d
from convnext.nn.create import create_model
from convnext.nn.inference.folded import can_fold
from convnext.nn.tables.variants import MODELS
from convnext.nn.weights.formats import from_native, to_native

Randomise = Callable[..., None]

IN_TORCHVISION = [name for name in MODELS if name in torchvision.models.list_models()]
DEPTHS, DIMS = (1, 1, 2, 1), (8, 16, 24, 32)

LOGIT_TOLERANCE = 1e-5  # absolute, fp32, for logits of the order of 1
GRADIENT_TOLERANCE = 1e-5  # relative: norm of the difference by the norm of the gradient


def micro(**options: object) -> ConvNeXt:
    return ConvNeXt(DEPTHS, DIMS, **{"num_classes": 5, **options})


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pair(code: str, name: str, randomise: Randomise) -> tuple[ConvNeXt, nn.Module]:
    """Our model and a peer's, in eval mode, with the same realistic weights."""
    with torch.device("meta"):
        ours = create_model(name)
        theirs = timm.create_model(name) if code == "timm" else torchvision.models.get_model(name, weights=None)
    randomise(ours.to_empty(device="cpu").eval())
    theirs.to_empty(device="cpu").eval().load_state_dict(from_native(ours.state_dict(), code))
    return ours, theirs


TWINS = [("timm", "convnext_atto"), ("timm", "convnext_tiny"), ("torchvision", "convnext_tiny")]
TWINS += [("timm", "convnextv2_atto"), ("timm", "convnextv2_tiny")]


@pytest.fixture(scope="module", params=TWINS)
def twins(request: pytest.FixtureRequest, randomise: Randomise) -> tuple[str, ConvNeXt, nn.Module]:
    """The name of a peer, our model, and the peer's with the same weights."""
    return (request.param[0], *pair(*request.param, randomise))


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Gradients of a fixed random combination of the outputs."""
    out = model(x)
    (out * pictures(*out.shape, seed=7)).sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


# --- against timm and torchvision


@pytest.mark.parametrize(("h", "w"), [(64, 64), (65, 97)])
def test_logits_equal_the_peers(twins: tuple[str, ConvNeXt, nn.Module], h: int, w: int) -> None:
    """With the same weights the logits are those of timm and torchvision, to 1e-5, at even and odd sizes."""
    _, ours, theirs = twins
    x = pictures(2, 3, h, w)
    with torch.no_grad():
        got, expected = ours(x), theirs(x)
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(got, expected, rtol=0, atol=LOGIT_TOLERANCE)


def test_gradients_equal_the_peers(twins: tuple[str, ConvNeXt, nn.Module]) -> None:
    """The gradient of every parameter is that of timm and torchvision, to 1e-5 of its norm."""
    code, ours, theirs = twins
    x = pictures(2, 3, 64, 64)
    got, expected = gradients(ours, x), to_native(gradients(theirs, x), code)
    assert got.keys() == expected.keys()
    for key, gradient in expected.items():
        assert gradient.norm() > 0
        assert (got[key] - gradient).norm() <= GRADIENT_TOLERANCE * gradient.norm(), key


def test_pooled_features_equal_timm(randomise: Randomise) -> None:
    """With `num_classes=0` the output is timm's pooled, normalised feature vector; the maps are timm's maps."""
    ours = create_model("convnext_atto", num_classes=0).eval()
    theirs = timm.create_model("convnext_atto", num_classes=0).eval()
    maps = timm.create_model("convnext_atto", features_only=True).eval()
    randomise(ours)
    state = from_native(ours.state_dict(), "timm")
    theirs.load_state_dict(state)
    maps.load_state_dict({k.replace("stem.", "stem_").replace("stages.", "stages_"): v for k, v in state.items()
                          if not k.startswith("head.")})  # fmt: skip
    x = pictures(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=LOGIT_TOLERANCE)
        assert ours.channels == tuple(maps.feature_info.channels())
        assert ours.strides == tuple(maps.feature_info.reduction())
        for got, expected in zip(ours.features(x), maps(x), strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=LOGIT_TOLERANCE * expected.abs().max().item())


@pytest.mark.full
@pytest.mark.parametrize(
    ("code", "name"),
    [("timm", name) for name in MODELS if timm.is_model(name)] + [("torchvision", name) for name in IN_TORCHVISION],
)
def test_every_size_equals_the_peers_at_224(code: str, name: str, randomise: Randomise) -> None:
    """Logits at 224 pixels of every model, to 1e-5, against every peer that has it."""
    ours, theirs = pair(code, name, randomise)
    x = pictures(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=LOGIT_TOLERANCE)


# --- stochastic depth and layer scale


def test_stochastic_depth_grows_linearly() -> None:
    """Drop probabilities go from 0 in the first block to `drop_path` in the last, in equal steps, as in timm."""
    rates = [m.p for m in micro(drop_path=0.4).modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    """In training each sample is zero or scaled by 1 / (1 - p), at the rate p; in eval nothing happens."""
    drop, x = DropPath(0.25), torch.ones(4000, 2, 3, 3)
    torch.manual_seed(0)
    out = drop(x)
    kept = out[:, 0, 0, 0] > 0
    assert torch.equal(out, torch.where(kept.view(-1, 1, 1, 1), x / 0.75, 0.0))
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)  # four deviations
    assert torch.equal(drop.eval()(x), x)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_drop_path_refuses_what_is_no_probability(p: float) -> None:
    """A rate outside [0, 1) is an error that gives the value."""
    with pytest.raises(ValueError, match=str(p)):
        DropPath(p)


def test_layer_scale_sets_gamma_and_0_leaves_it_out() -> None:
    """`gamma` starts at the given value; with 0 there is none, and the block equals one whose gamma is 1."""
    assert torch.equal(Block(4, settings=BlockSettings(layer_scale=1e-3)).gamma, torch.full((4,), 1e-3))
    without, ones = (Block(4, settings=BlockSettings(layer_scale=scale)) for scale in (0.0, 1.0))
    assert "gamma" not in without.state_dict()
    assert not any("gamma" in name for name in micro(layer_scale=0.0).state_dict())
    ones.load_state_dict(without.state_dict(), strict=False)
    x = pictures(2, 4, 9, 9)
    torch.testing.assert_close(without(x), ones(x), rtol=0, atol=0)


# --- memory: checkpointing and layout


def test_checkpointing_changes_no_gradient(randomise: Randomise) -> None:
    """Outputs and gradients are the same to the bit, with stochastic depth switched on."""
    results = []
    for checkpointing in (False, True):
        model = micro(drop_path=0.5, checkpointing=checkpointing).train()
        randomise(model)
        torch.manual_seed(3)
        results.append(gradients(model, pictures(4, 3, 64, 64)))
    for name, gradient in results[0].items():
        assert torch.equal(gradient, results[1][name]), name


def test_channels_last_equals_contiguous(randomise: Randomise) -> None:
    """The memory layout of picture and weights changes neither logits (1e-5) nor gradients (1e-5 of their norm)."""
    model = micro()
    randomise(model)
    x = pictures(2, 3, 64, 64)
    with torch.no_grad():
        logits = model(x)
    plain = {name: gradient.clone() for name, gradient in gradients(model, x).items()}
    model.zero_grad()
    model = model.to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x), logits, rtol=0, atol=LOGIT_TOLERANCE)
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in model.features(x))
    for name, gradient in gradients(model, x).items():
        assert (gradient - plain[name]).norm() <= GRADIENT_TOLERANCE * plain[name].norm(), name


# --- features


@pytest.mark.parametrize("stem_patch", [1, 2, 4])
def test_features_have_the_promised_channels_and_strides(stem_patch: int) -> None:
    """Map i is (N, channels[i], H / strides[i], W / strides[i])."""
    model = micro(stem_patch=stem_patch)
    assert model.strides == tuple(stem_patch * factor for factor in (1, 2, 4, 8))
    maps = model.features(pictures(2, 3, 64, 96))
    for got, channels, stride in zip(maps, model.channels, model.strides, strict=True):
        assert got.shape == (2, channels, 64 // stride, 96 // stride)


def test_forward_is_the_head_on_the_last_map(randomise: Randomise) -> None:
    """Logits are the linear head on the normalised mean of the last map: `features` and `forward` agree."""
    model = micro().eval()
    randomise(model)
    x = pictures(2, 3, 64, 64)
    last = model.features(x)[-1]
    by_hand = nn.functional.layer_norm(last.mean((2, 3)), (32,), model.norm.weight, model.norm.bias, 1e-6)
    by_hand = by_hand @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(x), by_hand)


def test_output_norms_normalise_each_map() -> None:
    """Each position of each map then has mean 0 and deviation 1 over the channels; logits are as without."""
    torch.manual_seed(0)
    model = micro(output_norms=True, layer_scale=1.0).eval()
    plain = micro(layer_scale=1.0).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("output_norms")})
    x = pictures(2, 3, 64, 64)
    for got in model.features(x):
        torch.testing.assert_close(got.mean(1), torch.zeros_like(got[:, 0]), rtol=0, atol=1e-5)
        torch.testing.assert_close(got.var(1, unbiased=False), torch.ones_like(got[:, 0]), rtol=0, atol=1e-2)
    assert torch.equal(model(x), plain(x))


def test_stages_of_equal_width_are_downsampled_too() -> None:
    """A custom net with the same width in two stages keeps the promised strides."""
    model = ConvNeXt((1, 1, 1, 1), (8, 8, 16, 16), num_classes=0)
    assert [m.shape[-1] for m in model.features(pictures(1, 3, 64, 64))] == [16, 8, 4, 2]


def test_layer_norm_2d_equals_timms() -> None:
    """`LayerNorm2d` computes what timm's layer of that name does."""
    ours, theirs = LayerNorm2d(12), timm.layers.LayerNorm2d(12, eps=1e-6)
    nn.init.normal_(ours.weight)
    nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    x = pictures(2, 12, 5, 7)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-6)


# --- stem


@pytest.mark.parametrize("patch", [1, 2, 4, 8])
def test_resampled_stem_keeps_the_response_to_a_plain_picture(patch: int) -> None:
    """A picture of one colour gives the same response through the resampled kernel."""
    weight, colour = pictures(16, 3, 4, 4), torch.tensor([0.3, -1.2, 2.0]).view(1, 3, 1, 1)
    resampled = resample_stem(weight, patch)
    assert resampled.shape == (16, 3, patch, patch)
    plain = colour.expand(1, 3, 16, 16)
    before = nn.functional.conv2d(plain, weight, stride=4)[0, :, 0, 0]
    after = nn.functional.conv2d(plain, resampled, stride=patch)[0, :, 0, 0]
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_resampling_to_the_same_patch_changes_nothing() -> None:
    """4 to 4 gives the kernel itself."""
    weight = pictures(16, 3, 4, 4)
    assert torch.equal(resample_stem(weight, 4), weight)


@pytest.mark.parametrize("in_chans", [1, 4])
def test_takes_pictures_of_other_channels(in_chans: int) -> None:
    """One and four channels work, and a picture with the wrong number is refused with both shapes named."""
    model = micro(in_chans=in_chans).eval()
    assert model(pictures(2, in_chans, 32, 32)).shape == (2, 5)
    with pytest.raises(UserError, match=rf"\(2, 3, 32, 32\).*\(N, {in_chans}, H, W\)"):
        model(pictures(2, 3, 32, 32))


@pytest.mark.parametrize(("stem_patch", "smallest"), [(4, 32), (2, 16), (1, 8)])
def test_too_small_pictures_are_refused(stem_patch: int, smallest: int) -> None:
    """The smallest picture works, one pixel less is refused with size, rule and remedy, by `forward` and `features`."""
    model = micro(stem_patch=stem_patch).eval()
    assert model(pictures(1, 3, smallest, smallest)).isfinite().all()
    for run in (model, model.features):
        with pytest.raises(UserError, match=r"the input holds torch.uint8; the model takes normalised floating-point"):
            micro()(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
        with pytest.raises(UserError, match=f"{smallest + 8}x{smallest - 1} pixels.*at least {smallest}.*stem_patch"):
            run(pictures(1, 3, smallest - 1, smallest + 8))


# --- initialisation


def test_initial_weights_are_truncated_normal() -> None:
    """Convolutions and linear layers have mean 0, deviation 0.02 and nothing beyond 2; biases are 0; norms 1 and 0."""
    torch.manual_seed(0)
    model = create_model("convnext_atto")
    weights = [m.weight.flatten() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for weight in weights:
        size = weight.numel()
        assert weight.mean().abs() < 5 * 0.02 / size**0.5
        assert abs(weight.std() / 0.02 - 1) < 5 / (2 * size) ** 0.5
    every = torch.cat(weights) / 0.02
    assert (every.pow(4).mean() - 3).abs() < 0.05  # the fourth moment of a normal distribution is 3
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name


def test_head_init_scale_scales_the_head_only() -> None:
    """With the same seed the head is exactly `head_init_scale` times as large and all else is equal."""
    states = []
    for scale in (1.0, 0.001):
        torch.manual_seed(0)
        states.append(create_model("convnext_atto", num_classes=5, head_init_scale=scale).state_dict())
    for name, tensor in states[0].items():
        assert torch.equal(tensor * 0.001 if name.startswith("head.") else tensor, states[1][name]), name


# --- training and evaluation


@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_parameter_gets_a_gradient(checkpointing: bool) -> None:
    """As initialised, every parameter has a finite gradient that is not all zero, output norms included."""
    torch.manual_seed(0)
    model = micro(output_norms=True, checkpointing=checkpointing).train()
    x = pictures(2, 3, 64, 64)
    maps = model.features(x)
    loss = nn.functional.cross_entropy(model(x), torch.tensor([0, 3]))
    (loss + sum((m * pictures(*m.shape, seed=i)).mean() for i, m in enumerate(maps))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_a_batch_of_one_gives_what_it_gives_in_a_batch(randomise: Randomise) -> None:
    """No layer looks at other samples: a picture alone and among others has the same logits, and trains alone too."""
    model = micro()
    randomise(model)
    x = pictures(4, 3, 65, 97)
    torch.testing.assert_close(model(x)[2:3], model(x[2:3]), rtol=0, atol=LOGIT_TOLERANCE)
    assert all(gradient.isfinite().all() for gradient in gradients(model.train(), x[:1]).values())


def test_eval_is_deterministic_and_training_follows_the_seed() -> None:
    """In eval two passes are equal to the bit; in training, with stochastic depth, they are for the same seed only."""
    model = micro(drop_path=0.5, layer_scale=1.0)
    x = pictures(8, 3, 32, 32)
    model.eval()
    assert torch.equal(model(x), model(x))
    model.train()
    passes = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        passes.append(model(x))
    assert torch.equal(passes[0], passes[1])
    assert not torch.equal(passes[0], passes[2])


def test_bf16_autocast_follows_fp32(randomise: Randomise) -> None:
    """Under bf16 autocast logits stay within 5 % of the largest fp32 logit."""
    model = micro().eval()
    randomise(model)
    x = pictures(4, 3, 64, 64)
    with torch.no_grad():
        exact = model(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model(x)
    torch.testing.assert_close(rounded.float(), exact, rtol=0, atol=0.05 * exact.abs().max().item())


EXTRAS = {
    "an extra child": lambda block: block.add_module("attention", nn.Identity()),
    "a replaced layer": lambda block: setattr(block, "pwconv1", nn.Sequential(block.pwconv1)),
    "an extra parameter": lambda block: block.register_parameter("shift", nn.Parameter(torch.zeros(1))),
    "a buffer": lambda block: block.register_buffer("mask", torch.ones(1)),
    "another epsilon": lambda block: setattr(block.norm, "eps", 1e-3),
    "another GELU": lambda block: setattr(block.act, "approximate", "tanh"),
    "a forward of somebody's own": lambda block: setattr(block.act, "forward", torch.relu),
    "a hook": lambda block: block.norm.register_forward_hook(lambda *_: None),
    "a hook on gradients": lambda block: block.norm.register_full_backward_pre_hook(lambda *_: None),
}


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_block_with_any_other_part_is_not_plain(extra: str) -> None:
    """The fused kernel stands for exactly the children of a block: whatever is added or changed turns it off, and the
    folded network for inference too."""
    network = create_model("convnext_atto", num_classes=2).eval()
    block = network.stages[1].blocks[0]
    assert block.is_plain()
    assert can_fold(network)
    EXTRAS[extra](block)
    assert not block.is_plain()
    assert not can_fold(network)


def test_a_subclass_of_a_block_is_not_plain() -> None:
    """A class that computes otherwise between the same layers is asked itself."""

    class Doubled(Block):
        def _rows(self, x: Tensor) -> Tensor:
            return 2 * super()._rows(x)

    x, kept = torch.randn(2, 40, 16, 16), BlockSettings(layer_scale=1.0)
    plain, doubled = Block(40, 0.0, kept), Doubled(40, 0.0, kept)
    doubled.load_state_dict(plain.state_dict())
    torch.testing.assert_close(doubled(x) - x, 2 * (plain(x) - x), rtol=1e-3, atol=1e-5)
