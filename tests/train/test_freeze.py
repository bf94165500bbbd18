"""What is frozen stays to the bit, what learns has stock torch's gradients, and a resumed run is the same."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from convnext.config import load_recipe, override
from convnext.errors import RecipeError
from convnext.kernels import native
from convnext.kernels.block import fused_block, reference
from convnext.nn.convnext.backbone import ConvNeXt
from convnext.nn.create import create_model
from convnext.nn.weights.load import read_model
from convnext.recipe import Recipe
from convnext.run.state import EMA
from convnext.train import loop as loops
from convnext.train.freeze import Freezing, examine_freezing, frozen_names
from convnext.train.optimizers import make_optimizer
from convnext.train.plan import Plan
from convnext.train.resume import resume_run
from convnext.train.train import train_run

QUICK = [
    "model.name=convnext_atto", "data.size=32", "model.stem_patch=4", "train.batch=8", "data.workers=0",
    "train.lr=1e-3", "augment.color_jitter=0", "train.precision=fp32", "augment.crop_min=0.8", "model.drop_path=0.1",
]  # fmt: skip


def frozen(freeze: int | str, epochs: int = 0) -> Recipe:
    return override(Recipe(), {"train.freeze": freeze, "train.freeze_epochs": epochs, "train.lr": 1e-2})


def small() -> ConvNeXt:
    torch.manual_seed(0)
    return ConvNeXt((1, 1, 4, 1), (8, 16, 24, 32), num_classes=3, layer_scale=0.1, drop_path=0.5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of weights for two classes."""
    from convnext.nn.weights.load import save_model

    torch.manual_seed(1)
    model = create_model("convnext_atto", num_classes=2, weights="none", layer_scale=1.0, init="fan_in")
    path = tmp_path_factory.mktemp("weights") / "atto.safetensors"
    save_model(path, model.state_dict(), {})
    return str(path)


@pytest.fixture
def few(write_stripes: Callable[..., Path], tmp_path: Path) -> Path:
    """Two classes of 16 pictures each: two steps an epoch."""
    return write_stripes(tmp_path / "few", {"narrow": 16, "wide": 16}, side=32)


def test_groups_are_those_of_layer_wise_decay() -> None:
    """One group is the stem, the next one three blocks with the downsampling before them; backbone leaves the head."""
    model = small()
    names = {name for name, _ in model.named_parameters()}
    assert frozen_names(model, 0) == frozenset()
    assert {n.split(".")[0] for n in frozen_names(model, 1)} == {"stem"}
    four = frozen_names(model, 4)
    assert {n for n in names if n.startswith(("stem.", "stages.0.", "stages.1.", "stages.2.downsample."))} < four
    assert any(n.startswith("stages.2.blocks.2.") for n in four)
    assert not any(n.startswith(("stages.2.blocks.3.", "stages.3.", "norm.", "head.")) for n in four)
    assert names - frozen_names(model, "backbone") == {"head.weight", "head.bias"}
    with pytest.raises(RecipeError, match="has 6 groups before its head"):
        frozen_names(model, 7)


@pytest.mark.parametrize("freeze", [1, 3, "backbone"])
def test_what_learns_has_the_gradients_of_the_whole_network(freeze: int | str) -> None:
    """Against stock operators without anything frozen, no block dropped: the rest has no gradient at all."""
    model, x = small(), torch.randn(64, 3, 64, 64)
    Freezing(model, frozen(freeze)).begin(model, 0)
    model.train(False)  # both without stochastic depth
    stock = copy.deepcopy(model).requires_grad_(True)
    for module in stock.modules():
        module.register_forward_hook(lambda *_: None)  # a network that somebody watches computes layer by layer
    for network in (model, stock):
        network(x).square().sum().backward()
    held = frozen_names(model, freeze)
    for (name, own), theirs in zip(model.named_parameters(), stock.parameters(), strict=True):
        if name in held:
            assert own.grad is None
        else:
            torch.testing.assert_close(own.grad, theirs.grad, rtol=2e-3, atol=2e-3 * float(theirs.grad.abs().max()))  # type: ignore[union-attr]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("learning", [(), (0,), (1, 2), (5, 9), (3, 4)])
def test_a_block_of_which_only_parts_learn_is_right(learning: tuple[int, ...], half: bool) -> None:
    """The fused block gives what stock operators give, whichever of its inputs (0: the maps) ask for gradients."""
    if not native.available():
        pytest.skip(native.why_not())
    torch.manual_seed(0)
    c, d = 16, 64
    shapes = [(2, c, 12, 12), (c, 1, 7, 7), (c,), (c,), (c,), (d, c), (d,), (c, d), (c,), (c,)]
    given = [torch.randn(s) * (0.3 if len(s) != 4 or s[0] == c else 1.0) for s in shapes]
    found: list[list[Tensor | None]] = []
    for compute in (fused_block, reference):
        own = [t.clone().requires_grad_(i in learning) for i, t in enumerate(given)]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half and compute is fused_block):
            out = compute(own[0].to(memory_format=torch.channels_last), *own[1:], None)
        assert out.requires_grad == bool(learning)
        if learning:
            out.square().mean().backward()
        found.append([out.detach(), *(t.grad for t in own)])
    bound = 3e-2 if half else 1e-3
    for ours, theirs in zip(*found, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=bound, atol=bound * float(theirs.abs().max()))


def test_frozen_batch_norm_and_stochastic_depth_stand_still() -> None:
    """The statistics of a frozen batch norm and the average of frozen weights are those of before, to the bit."""
    model = create_model("roadmap:resnet50:resnet50:0.125", num_classes=3, weights="none")
    Freezing(model, frozen("backbone")).begin(model, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    average = EMA(model, 0.5)
    optimizer = make_optimizer(model, override(frozen("backbone"), {"train.weight_decay": 0.5}), torch.device("cpu"))
    for _ in range(2):
        model(torch.randn(4, 3, 64, 64)).square().sum().backward()
        optimizer.step()
        average.update(model)
    head = {f"{n}.{p}" for n, m in model.named_modules() if m is model.classifier() for p, _ in m.named_parameters()}
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in head), name
        assert torch.equal(average.average[name], before[name]) == (name not in head), name
    drops = [m for m in small().modules() if type(m).__name__ == "DropPath"]
    assert drops
    whole = small()
    Freezing(whole, frozen(3)).begin(whole, 0)
    assert [m.training for m in whole.modules() if type(m).__name__ == "Block"] == [False] * 2 + [True] * 5


@pytest.mark.parametrize("name", ["adamw", "adam", "nadam", "radam", "rmsprop", "sgd"])
def test_every_optimizer_leaves_frozen_weights_alone(name: str) -> None:
    """Decay included, also while the optimizer already knows them, as in the epochs in which the head warms up."""
    recipe = override(frozen("backbone", 1), {"train.optimizer": name, "train.weight_decay": 0.5})
    model = small()
    optimizer = make_optimizer(model, recipe, torch.device("cpu"))
    freezing = Freezing(model, recipe)
    moved = []
    for epoch in (0, 1):
        assert freezing.begin(model, epoch)
        before = copy.deepcopy(model.state_dict())
        model(torch.randn(4, 3, 32, 32)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        moved.append({n for n, value in model.state_dict().items() if not torch.equal(value, before[n])})
    assert moved == [{"head.weight", "head.bias"}, {n for n, _ in model.named_parameters()}]


def test_a_run_with_frozen_groups_keeps_them_and_says_so(
    few: Path, tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With layer-wise decay and a moving average; last and best hold the given weights where they were frozen."""
    settings = [*QUICK, f"weights={weights}", "train.epochs=2", "train.freeze=3", "train.layer_decay=0.7"]
    run = train_run(few, load_recipe(None, settings), tmp_path / "run")
    given = read_model(Path(weights))[0]
    held = frozen_names(create_model("convnext_atto", num_classes=2, weights="none"), 3)
    for path in (run.last, run.best):
        kept = read_model(path)[0]
        assert {name for name in kept if torch.equal(kept[name], given[name])} == held
    said = capsys.readouterr().err
    assert "train.freeze = 3" in said
    assert "M weights before the head, up to stages.1.blocks.1.pwconv2, stay in the whole run" in said


def test_the_head_warms_up_then_all_learns_and_a_stop_changes_nothing(
    few: Path, tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped in the frozen epoch and in the first one after it, the run ends with the same bits."""
    recipe = load_recipe(None, [
        *QUICK, f"weights={weights}", "train.epochs=3", "train.freeze=backbone", "train.freeze_epochs=1",
    ])  # fmt: skip
    straight = read_model(train_run(few, recipe, tmp_path / "straight").last)[0]
    assert "epoch 2: all weights learn from here on" in capsys.readouterr().err
    original: Callable[..., bool] = loops.Loop._step
    for stop in (1, 3):

        def stopping(self: loops.Loop, *args: object, at: int = stop) -> bool:
            found = original(self, *args)
            self.stop_asked |= self.state.progress.step == at
            return found

        out = tmp_path / f"stopped-{stop}"
        with monkeypatch.context() as patch:
            patch.setattr(loops.Loop, "_step", stopping)
            with pytest.raises(KeyboardInterrupt):
                train_run(few, recipe, out)
        resumed = read_model(resume_run(out).last)[0]
        assert all(torch.equal(resumed[name], straight[name]) for name in straight), stop


def test_a_run_that_was_frozen_may_learn_on(few: Path, tmp_path: Path, weights: str) -> None:
    """One more epoch with nothing frozen: what was held moves; groups that are not there leave the run as it was."""
    settings = [*QUICK, f"weights={weights}", "train.epochs=1", "train.freeze=backbone"]
    run = train_run(few, load_recipe(None, settings), tmp_path / "run")
    frozen_until_now, recipe = read_model(run.last)[0], run.recipe.read_text()
    with pytest.raises(RecipeError, match="groups before its head"):
        resume_run(run.path, settings=["train.epochs=2", "train.freeze=900"])
    assert run.recipe.read_text() == recipe
    resume_run(run.path, settings=["train.epochs=2", "train.freeze=0"])
    learnt = read_model(run.last)[0]
    assert all(not torch.equal(learnt[name], frozen_until_now[name]) for name in learnt if name.endswith("weight"))


def test_what_cannot_learn_is_refused() -> None:
    """Random weights held fast, epochs without anything frozen, groups of another network."""

    def examine(**settings: object) -> None:
        base = {"model.name": "convnext_atto", "weights": "some.safetensors"}
        examine_freezing(Plan(override(Recipe(), base | {k.replace("_", ".", 1): v for k, v in settings.items()})))

    with pytest.raises(RecipeError, match="random weights"):
        examine(train_freeze="backbone", weights="none")
    with pytest.raises(RecipeError, match="nothing is frozen"):
        examine(train_freeze_epochs=2)
    with pytest.raises(RecipeError, match=r'does not go with train\.sharding = "fsdp2"'):
        examine(train_freeze=2, train_freeze_epochs=1, train_sharding="fsdp2")
    with pytest.raises(RecipeError, match="is for the ConvNeXts of our own table"):
        frozen_names(create_model("roadmap:resnet50:resnet50:0.125", weights="none"), 2)
    examine(train_freeze="backbone")


def test_frozen_blocks_keep_nothing_for_a_backward_pass() -> None:
    """Memory and time are gained: the graph begins at the first group that learns."""
    model = small()
    Freezing(model, frozen(3)).begin(model, 0)
    seen: dict[str, bool] = {}
    for index, stage in enumerate(model.stages):
        stage.register_forward_hook(lambda _m, _i, out, index=index: seen.__setitem__(str(index), out.requires_grad))
    model(torch.randn(2, 3, 64, 64))
    assert seen == {"0": False, "1": False, "2": True, "3": True}
    assert isinstance(model.head, nn.Linear)


@pytest.mark.full
@pytest.mark.parametrize("sharding", ["ddp", "fsdp2"])
def test_several_processes_freeze_alike(stripes: Path, tmp_path: Path, weights: str, sharding: str) -> None:
    """Two processes end with the weights of one, what is frozen to the bit; with ddp also after the head's warm-up.

    A run in shares goes on from its state.
    """
    settings = [
        f"weights={weights}", "model.name=convnext_atto", "data.size=32", "model.stem_patch=4", "train.batch=8",
        "train.lr=1e-3", "train.precision=fp32", "train.epochs=2", "data.workers=0", "train.device=cpu",
        "model.drop_path=0", "train.freeze=3", f"train.freeze_epochs={int(sharding == 'ddp')}",
        "train.keep_state=true",
    ]  # fmt: skip
    train_run(stripes, load_recipe(None, settings), tmp_path / "one")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "convnext"]

    def several(*words: str) -> None:
        done = subprocess.run([*command, *words], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr

    several("train", str(stripes), *settings, f"train.sharding={sharding}", "--out", str(tmp_path / "two"))
    one, two = (read_model(tmp_path / name / "last.safetensors")[0] for name in ("one", "two"))
    given = read_model(Path(weights))[0]
    held = frozen_names(create_model("convnext_atto", num_classes=2, weights="none"), 3)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=2e-4, msg=name)
        assert torch.equal(two[name], given[name]) == (name in held and sharding == "fsdp2"), name
    if sharding == "fsdp2":
        recipe = tmp_path / "two" / "recipe.toml"
        recipe.write_text(recipe.read_text().replace("epochs = 2 ", "epochs = 3 "))
        several("train", "--resume", "--out", str(tmp_path / "two"))
