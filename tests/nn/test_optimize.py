"""`convnext.optimize`: the same answers, whatever engine, network, layout or size."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from convnext.bench.contestants import realistic
from convnext.errors import UserError
from convnext.kernels import native
from convnext.nn.convnext.backbone import ConvNeXt
from convnext.nn.create import create_model
from convnext.nn.inference import optimize as module
from convnext.nn.inference.optimize import ENGINES, TOLERANCE, _remember, optimize

NATIVE = pytest.mark.skipif(not native.available(), reason=f"no kernels here: {native.why_not()}")
EACH = [pytest.param("native", marks=NATIVE), "layers", "eager"]


def micro(**options: object) -> ConvNeXt:
    torch.manual_seed(0)
    model = ConvNeXt((1, 1, 2, 1), (16, 32, 64, 128), **{"num_classes": 10, "drop_path": 0.5, **options})
    realistic(model)
    return model


@pytest.mark.parametrize("engine", EACH)
@pytest.mark.parametrize(
    "options",
    [{}, {"layer_scale": 0.0}, {"stem_patch": 2}, {"in_chans": 1}, {"num_classes": 0}, {"output_norms": True},
     {"form": "linear", "checkpointing": True}],
)  # fmt: skip
@pytest.mark.parametrize("side", [(32, 32), (70, 45)])
def test_answers_and_features_are_those_of_the_network(
    engine: str, options: dict[str, object], side: tuple[int, int]
) -> None:
    """To 1e-5 of the largest, for odd sizes too; the network that was given is untouched and still trains."""
    model = micro(**options)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    made = optimize(model, engine=engine, size=32)
    assert made.engine == engine
    assert model.training
    assert not made.training
    x = torch.randn(3, model.in_chans, *side)
    model.eval()
    with torch.no_grad():
        pairs = [(made(x), model(x)), *zip(made.features(x), model.features(x), strict=True)]
    for found, expected in pairs:
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    model.train()(x).sum().backward()


@NATIVE
@pytest.mark.parametrize("batch", [1, 2, 9])
@pytest.mark.parametrize("dims", [(8, 16, 24, 40), (40, 80, 160, 320), (48, 96, 104, 768)])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_our_kernels_agree_for_all_widths_batches_and_threads(batch: int, dims: tuple[int, ...], threads: int) -> None:
    """Widths that are no multiples of the kernels' panels, and few rows, where the threads share the columns."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = ConvNeXt((1, 1, 1, 1), dims, num_classes=5).eval()
    realistic(model)
    made = optimize(model, engine="native", size=64)
    x = torch.randn(batch, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        assert (made(x) - expected).abs().max() <= 1e-5 * expected.abs().max()
        assert torch.equal(made(x), made(x))
        assert torch.equal(made(x), made(x.contiguous(memory_format=torch.channels_last)))


@pytest.mark.parametrize("engine", ["layers", "eager"])
def test_bf16_stays_within_its_tolerance_and_gives_fp32(engine: str) -> None:
    """Pictures and logits are fp32 in any case."""
    model = micro().eval()
    made = optimize(model, dtype="bf16", engine=engine, size=32)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        found, expected = made(x), model(x)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() <= TOLERANCE["bf16"] * expected.abs().max()


@NATIVE
@pytest.mark.parametrize("dims", [(16, 32, 64, 128), (40, 80, 160, 320)])
@pytest.mark.parametrize("threads", [1, 2])
def test_our_kernels_in_bf16_are_as_near_as_stock_operators(
    dims: tuple[int, ...], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the processor has no dot products they are emulated, so that the kernel can be tested anywhere."""
    monkeypatch.setattr(native, "dot_products", lambda: True)
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = ConvNeXt((1, 1, 2, 1), dims, num_classes=10, output_norms=True).eval()
    realistic(model)
    made = {name: optimize(model, dtype="bf16", engine=name, size=40) for name in ("native", "layers")}
    x = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        expected = model(x)
        off = {name: float((each(x) - expected).abs().max()) for name, each in made.items()}
        maps = [
            float((a.float() - b).abs().mean())
            for a, b in zip(made["native"].features(x), model.features(x), strict=True)
        ]
    assert off["native"] <= 1.5 * off["layers"] + 1e-3
    assert max(maps) < 0.02
    assert made["native"](x).dtype == torch.float32


def test_bf16_kernels_are_for_processors_that_compute_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere they would be slow, and are refused by name and never chosen."""
    monkeypatch.setattr(native, "matrix_units", lambda: False)
    monkeypatch.setattr(native, "dot_products", lambda: False)
    monkeypatch.setattr(native, "why_not", lambda: "")
    with pytest.raises(UserError, match="neither matrix units"):
        optimize(micro(), dtype="bf16", engine="native", size=32)
    assert optimize(micro(), dtype="bf16", size=32, measure=False).engine == "layers"


@pytest.mark.parametrize("name", ["convnextv2_atto", "timm:resnet18", "roadmap:resnet50:depthwise-conv"])
def test_other_networks_run_as_they_are(name: str) -> None:
    """No engine but their own, the same answers to the bit."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=3).eval()
    made = optimize(model, size=64)
    assert made.engine == "eager"
    x = torch.randn(1, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(made(x), model.to(memory_format=torch.channels_last)(x), rtol=1e-5, atol=1e-6)


def test_a_network_that_was_changed_runs_as_it_is() -> None:
    """A replaced layer or a hook is not folded away."""
    model = micro()
    model.stages[0].blocks[0].act = torch.nn.ReLU()
    assert optimize(model, size=32).engine == "eager"
    model = micro()
    model.stages[0].blocks[0].norm.register_forward_hook(lambda *_: None)
    assert optimize(model, size=32).engine == "eager"


@pytest.mark.parametrize("part", ["stem", "downsample", "norm", "bias", "stage"])
def test_a_network_with_parts_of_somebody_elses_runs_as_it_is(part: str) -> None:
    """As people change the stem for other pictures: nothing is folded that is not known, and no answer changes."""
    model = micro().eval()
    if part == "stem":
        model.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, 2, 1), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
    elif part == "downsample":
        model.stages[1].downsample = torch.nn.Conv2d(16, 32, 2, 2)
    elif part == "norm":
        model.norm = torch.nn.Identity()
    elif part == "bias":
        model.stages[0].blocks[0].dwconv.bias = None
    else:
        model.stages[0] = torch.nn.Sequential(*model.stages[0].blocks)
    made = optimize(model, size=64)
    assert made.engine == "eager"
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(made(x), model(x), rtol=1e-4, atol=1e-5)


def test_the_choice_is_measured_once_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quickest wins; the second time nothing is measured; a damaged file is no error."""
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path))
    monkeypatch.setattr(native, "why_not", lambda: "not in this test")
    calls = []

    def times(model: object, able: list[str], *rest: object) -> dict[str, float]:
        calls.append(able)
        return {"layers": 2.0, "eager": 1.0}

    monkeypatch.setattr(module, "_times", times)
    model = micro()
    assert optimize(model, size=32).engine == "eager"
    assert optimize(model, size=32).engine == "eager"
    assert calls == [["layers", "eager"]]
    assert list(json.loads((tmp_path / "engines.json").read_text()).values()) == ["eager"]
    optimize(model, size=64)
    assert len(calls) == 2
    for number, damaged in enumerate(("{", "[]", "null", '"x"', "[1]")):
        (tmp_path / "engines.json").write_text(damaged)
        optimize(model, size=32)
        assert len(calls) == 3 + number


def test_an_engine_that_answers_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check on the spot: a wrong fold falls back to the network itself."""
    real = module.fold

    def wrong(*given: object, **options: object) -> ConvNeXt:
        made = real(*given, **options)
        made.head.bias.data += 1.0
        return made

    monkeypatch.setattr(module, "fold", wrong)
    assert optimize(micro(), engine="layers", size=32).engine == "eager"


NETWORKS = ["convnext_atto", "convnextv2_atto", "timm:resnet18", "roadmap:resnet50:patchify-stem"]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_the_same_manners(name: str, dtype: str) -> None:
    """Features, pooled, named arguments, pickling and precisions around it work alike, whatever the engine."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=3).eval()
    realistic(model)
    made = optimize(model, dtype=dtype, size=64, measure=False)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        wanted, features, pooled = model(x), model.features(x), model.pooled(x)
        found = made(x=x)
        assert found.dtype == torch.float32
        assert (found - wanted).abs().max() <= TOLERANCE[dtype] * wanted.abs().max()
        assert [m.shape for m in made.features(x)] == [m.shape for m in features]
        assert {m.dtype for m in made.features(x)} == {torch.bfloat16 if dtype == "bf16" else torch.float32}
        assert (made.pooled(x) - pooled).abs().max() <= TOLERANCE[dtype] * pooled.abs().max()
        assert torch.equal(pickle.loads(pickle.dumps(made))(x), found)
        assert torch.equal(copy.deepcopy(made)(x), found)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(made(x), found)
        assert torch.equal(made.train()(x), found)
        assert not made.training
    for wrong, words in (
        (x.double(), "optimised for torch.float32"), (x.half(), "optimised for torch.float32"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "takes normalised floating-point"),
        (x.clone().requires_grad_(), "gives no gradients"), (x[0], "takes \\(N, 3, H, W\\)"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            made(wrong)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("engine", EACH)
def test_what_is_done_to_the_network_afterwards_changes_nothing(engine: str, dtype: str) -> None:
    """New weights, hooks and buffers of the one are not those of the other, in both directions."""
    if engine == "native" and dtype == "bf16" and not (native.matrix_units() or native.dot_products()):
        pytest.skip("this processor has neither matrix units nor dot products for bf16")
    model = micro()
    made = optimize(model, engine=engine, dtype=dtype, size=32)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = made(x)
        for parameter in model.parameters():
            parameter.mul_(0.5)
    seen = []
    model.register_forward_hook(lambda *_: seen.append("model"))
    made.register_forward_hook(lambda *_: seen.append("made"))
    made.register_buffer("extra", torch.zeros(1))
    assert torch.equal(made(x), before)
    assert seen == ["made"]
    assert "extra" not in model.state_dict()


@NATIVE
def test_a_pickled_network_works_in_another_process_with_the_same_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which loads them first; with other kernels the packed weights would be read in another order."""
    made = optimize(micro(), engine="native", size=32)
    x = torch.ones(1, 3, 32, 32)
    torch.save(made, tmp_path / "made.pt")
    code = (
        "import sys, torch; m = torch.load(sys.argv[1], weights_only=False)\n"
        "print(m(torch.ones(1, 3, 32, 32)).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "made.pt")], capture_output=True, text=True, check=True
    )
    assert torch.allclose(torch.tensor(json.loads(done.stdout)), made(x), atol=1e-6)
    packed = pickle.dumps(made)
    monkeypatch.setattr(native, "library", lambda: "kernels-of-another-machine.so")
    with pytest.raises(UserError, match="other kernels"):
        pickle.loads(packed)


def test_the_network_keeps_its_modes() -> None:
    """A part that is frozen in eval mode stays so, and threads that optimise at once leave it as it was."""
    model = micro().train()
    model.stages[0].eval()
    before = [module.training for module in model.modules()]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: optimize(model, size=32, measure=False), range(4)))
    assert [module.training for module in model.modules()] == before
    x = torch.randn(1, 3, 32, 32)
    assert all(torch.equal(each(x), made[0](x)) for each in made)


def test_an_optimised_network_comes_back_as_it_is() -> None:
    """Twice is once; in another precision it cannot be."""
    made = optimize(micro(), size=32, measure=False)
    assert optimize(made) is made
    with pytest.raises(UserError, match="optimised already"):
        optimize(made, dtype="bf16")


def test_torchs_own_words_for_precisions_are_understood() -> None:
    """As everybody tries first."""
    for word in (torch.bfloat16, "bfloat16", "bf16"):
        assert optimize(micro(), dtype=word, size=32, measure=False).dtype == "bf16"
    assert optimize(micro(), dtype=torch.float32, size=32, measure=False).dtype == "fp32"


def test_a_network_of_one_size_is_optimised_for_it() -> None:
    """Without being told; another one is refused with the size."""
    model = create_model("timm:vit_tiny_patch16_224", size=96, num_classes=3)
    assert optimize(model)(torch.randn(1, 3, 96, 96)).shape == (1, 3)
    with pytest.raises(UserError, match="it must be 96, the network's only size"):
        optimize(model, size=224)


def test_what_cannot_be_is_said() -> None:
    """Unknown words, networks in other precisions, engines that cannot run them, gradients."""
    for options, words in (
        ({"dtype": "int8"}, "int8"), ({"dtype": torch.int8}, "torch.int8"), ({"engine": "fast"}, "fast"),
        ({"size": 0}, "whole number from 32 on"), ({"size": -5}, "-5"), ({"size": 64.5}, "64.5"),
        ({"size": (64, 96)}, "square"), ({"batch": 0}, "batch = 0"), ({"batch": 2.5}, "batch = 2.5"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            optimize(micro(), **({"size": 32} | options))
    with pytest.raises(UserError, match="not a Linear"):
        optimize(torch.nn.Linear(1, 1))
    with pytest.raises(UserError, match=r"before torch\.compile"):
        optimize(torch.compile(micro()))
    broken = micro()
    broken.head.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match="no numbers"):
        optimize(broken, size=32)
    with pytest.raises(UserError, match="fp32 on the cpu"):
        optimize(micro().double(), size=32)
    with pytest.raises(UserError, match="plain ConvNeXt"):
        optimize(create_model("convnextv2_atto"), engine="layers", size=32)
    assert ENGINES[0] == "native"


@NATIVE
def test_our_kernels_refuse_gradients_and_other_precisions() -> None:
    """Rather than a silent zero: the message names the way out."""
    made = optimize(micro(), engine="native", size=32)
    with pytest.raises(UserError, match="gives no gradients"):
        made(torch.randn(1, 3, 32, 32, requires_grad=True))
    with pytest.raises(UserError, match="float64"):
        made(torch.randn(1, 3, 32, 32, dtype=torch.float64))


@pytest.mark.parametrize("name", ["engines.part", "engines.json"])
def test_the_choice_is_remembered_through_no_link(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links that others put into a cache on a shared disk lead nowhere: a file of mine stays as it is."""
    mine = tmp_path / "mine.txt"
    mine.write_bytes(b"a file of mine")
    (tmp_path / name).symlink_to(mine)
    _remember(tmp_path / "engines.json", "key", "eager")
    assert mine.read_bytes() == b"a file of mine"
    assert json.loads((tmp_path / "engines.json").read_text()) == {"key": "eager"}
    assert not (tmp_path / "engines.json").is_symlink()


@pytest.mark.parametrize("content", [b"[" * 100_000, b"5", b"[1]", b"\xff", None])
def test_a_damaged_list_of_choices_is_made_anew(content: bytes | None, tmp_path: Path) -> None:
    """Brackets without end, other kinds of values, and a pipe that nobody writes to."""
    path = tmp_path / "engines.json"
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    _remember(path, "key", "eager")
    assert json.loads(path.read_text()) == {"key": "eager"}
