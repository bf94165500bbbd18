"""The roadmap: every count against the paper, its ends against torchvision and against ConvNeXt."""

from __future__ import annotations

import itertools
from dataclasses import asdict

import pytest
import torch
import torchvision
from torch import nn

from convnext import paper
from convnext.errors import UserError
from convnext.nn.convnext.backbone import ConvNeXt
from convnext.nn.count import count
from convnext.nn.create import create_model
from convnext.nn.others.roadmap import REGIMES, Design, RoadBlock, designs, find_step, name_of, parse

MISPRINTS = {("resnet50", "BN to LN"): "4.15", ("resnet50", "separate d.s. conv (ConvNeXt-T)"): "4.46"}
ROWS = [(regime, step.row, name_of(regime, step)) for regime in REGIMES for step, _ in designs(regime)]


@pytest.mark.parametrize(("regime", "row", "name"), ROWS)
def test_every_step_has_the_published_macs(regime: str, row: str, name: str) -> None:
    """To two decimals; the two last rows of Table 10 print another number than their layers add up to."""
    published = {r["step"]: f"{r['flops']:.2f}" for r in paper.rows(REGIMES[regime].table)}
    counted = f"{count(name, 224).macs / 1e9:.2f}"
    assert counted == MISPRINTS.get((regime, row), published[row])
    assert (counted == published[row]) == ((regime, row) not in MISPRINTS)


@pytest.mark.parametrize("regime", REGIMES)
def test_the_rows_are_the_papers(regime: str) -> None:
    """Names, order and adoption are those of the table, without its last row, which is a Swin."""
    published = [(row["step"], row["adopted"]) for row in paper.rows(REGIMES[regime].table)][:-1]
    assert [(step.row, step.adopted) for step, _ in designs(regime)] == published
    assert len(published) == 17


@pytest.mark.parametrize("regime", REGIMES)
def test_every_adopted_step_changes_one_thing(regime: str) -> None:
    """Adopted neighbours differ in one field of the design; only the big road's stage ratio changes two."""
    adopted = [(step, design) for step, design in designs(regime) if step.adopted]
    for (_, before), (step, after) in itertools.pairwise(adopted):
        changed = [key for key, value in asdict(before).items() if asdict(after)[key] != value]
        two = regime == "resnet200" and step.name == "stage-ratio"
        assert len(changed) == (0 if step.name == "recipe" else 2 if two else 1), step.name


def test_the_road_starts_at_torchvisions_resnet50() -> None:
    """Same tensors in the same order, and with the same values the same logits."""
    ours = create_model("roadmap:resnet50:resnet50", num_classes=10).eval()
    theirs = torchvision.models.resnet50(weights=None, num_classes=10).eval()
    shapes = sorted(tuple(p.shape) for p in ours.state_dict().values())
    assert shapes == sorted(tuple(p.shape) for p in theirs.state_dict().values())
    ours.load_state_dict(_as_ours(theirs))
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def _as_ours(resnet: nn.Module) -> dict[str, torch.Tensor]:
    """torchvision's names under ours."""
    places = {"conv1": "branch.0", "bn1": "branch.1", "conv2": "branch.3", "bn2": "branch.4", "conv3": "branch.6"}
    places |= {"bn3": "branch.7", "downsample.0": "shortcut.0", "downsample.1": "shortcut.1"}
    out = {}
    for key, tensor in resnet.state_dict().items():
        if key.startswith("layer"):
            stage, block, rest = key.removeprefix("layer").split(".", 2)
            layer, leaf = rest.rsplit(".", 1)
            out[f"stages.{int(stage) - 1}.{block}.{places[layer]}.{leaf}"] = tensor
        else:
            layer, leaf = key.rsplit(".", 1)
            out[f"{ {'conv1': 'stem.0', 'bn1': 'stem.1', 'fc': 'head'}[layer] }.{leaf}"] = tensor
    return out


def test_a_shrunken_step_tells_its_own_numbers() -> None:
    """Depths and widths in the line of a change are those of the network that it leads to; scales are exact."""
    told = {step.name: step.told(design) for step, design in designs("resnet50", 0.25)}
    assert told["stage-ratio"] == "depths to 1, 1, 3, 1"
    assert told["increase-width"] == "width to 24"
    step = find_step("resnet200", "stage-ratio")
    assert step[0].told(step[1]) == "depths to 3, 3, 27, 3, width to 84"
    name = name_of("resnet50", step[0], 0.9999999)
    assert parse(name)[1].depths == find_step("resnet50", "stage-ratio", 0.9999999)[1].depths == (1, 1, 3, 1)
    with pytest.raises(UserError, match='Did you mean "patchify-stem"'):
        find_step("resnet50", "patchfy")
    for scale in ("nan", "inf", "0", "-1", "1e9", "0_1", "x"):
        with pytest.raises(UserError):
            parse(f"roadmap:resnet50:recipe:{scale}")


@pytest.mark.parametrize("regime", REGIMES)
def test_the_road_ends_at_convnext_to_the_bit(regime: str) -> None:
    """The last adopted step is the model of the table: same parameters, and with the same weights the same logits."""
    last = [step for step, _ in designs(regime) if step.adopted][-1]
    name, end = name_of(regime, last), REGIMES[regime].end
    assert isinstance(create_model(name, num_classes=0), ConvNeXt)
    small = regime == "resnet200"
    torch.manual_seed(0)
    ours = create_model(name, num_classes=3).eval()
    torch.manual_seed(0)
    same = create_model(end, num_classes=3).eval()
    assert ours.state_dict().keys() == same.state_dict().keys()
    assert all(torch.equal(value, same.state_dict()[key]) for key, value in ours.state_dict().items())
    x = torch.randn(1, 3, 32 if small else 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(x), same(x))


def test_the_moved_up_block_works_on_what_comes_in() -> None:
    """The depthwise convolution has the incoming channels and the stride; the bottleneck's has the narrow ones."""
    moved = RoadBlock(8, 16, 2, Design((1,), 8, "patchify", "moved-up", True), 0.0)
    first = moved.branch[0]
    assert isinstance(first, nn.Conv2d)
    assert (first.in_channels, first.groups, first.stride) == (8, 8, (2, 2))
    narrow = RoadBlock(64, 64, 1, Design((1,), 16), 0.0).branch[3]
    assert isinstance(narrow, nn.Conv2d)
    assert (narrow.in_channels, narrow.groups, narrow.kernel_size) == (16, 1, (3, 3))


def test_norms_and_activations_go_one_by_one() -> None:
    """Three norms and three activations a block, then one activation, then one norm; GELU and LayerNorm in place."""

    def kinds(step: str) -> tuple[int, int, int, int]:
        block = RoadBlock(8, 8, 1, find_step("resnet50", step)[1], 0.0)
        return tuple(  # type: ignore[return-value]
            sum(isinstance(m, kind) for m in block.modules())
            for kind in (nn.ReLU, nn.GELU, nn.BatchNorm2d, nn.LayerNorm)
        )

    assert kinds("kernel-7") == (3, 0, 3, 0)
    assert kinds("relu-to-gelu") == (0, 3, 3, 0)
    assert kinds("fewer-activations") == (0, 1, 3, 0)
    assert kinds("fewer-norms") == (0, 1, 1, 0)
    assert kinds("bn-to-ln") == (0, 1, 0, 1)


def test_a_shrunken_road_keeps_the_ratios() -> None:
    """Depths a third, widths a quarter: 1:1:3:1, and the widths of the steps keep their proportions."""
    by_name = {step.name: design for step, design in designs("resnet50", 0.25)}
    assert by_name["resnet50"].depths == (1, 1, 2, 1)
    assert by_name["stage-ratio"].depths == (1, 1, 3, 1)
    assert (by_name["resnet50"].width, by_name["increase-width"].width) == (16, 24)
    assert by_name["separate-downsampling"].dims == (24, 48, 96, 192)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("roadmap:resnet50", "is written roadmap:REGIME:STEP"),
        ("roadmap:resnet50:patchify-stem:x", "is written roadmap:REGIME:STEP"),
        ("roadmap:resnet51:patchify-stem", 'regime "resnet51" is not known; it must be one of resnet50, resnet200'),
        ("roadmap:resnet50:patchify", r'Did you mean "patchify-stem"\? Its steps are: resnet50, recipe'),
        ("roadmap:resnet50:bn-to-ln:2", "scale is 2; it must be above 0 and at most 1"),
    ],
)
def test_wrong_names_are_refused(name: str, message: str) -> None:
    """With the rule and what there is."""
    with pytest.raises(UserError, match=message):
        parse(name)


def test_steps_are_found_by_the_papers_name_too() -> None:
    """ "BN to LN" and "bn-to-ln" are one step."""
    assert find_step("resnet50", "BN to LN") == find_step("resnet50", "bn-to-ln")
