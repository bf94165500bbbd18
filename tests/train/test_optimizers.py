"""Each optimizer is torch's with the recipe's numbers; its rate and decay are chosen by rule, and said."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch

from convnext.config import load_recipe, override
from convnext.errors import RunError
from convnext.nn.convnext.backbone import ConvNeXt
from convnext.recipe import Recipe, TrainRecipe
from convnext.run.folder import RunFolder
from convnext.run.state import EMA, Progress, TrainState
from convnext.train import plan as planning
from convnext.train.doctor import examine
from convnext.train.optimizers import OPTIMIZERS, make_optimizer
from convnext.train.plan import Plan
from convnext.train.resume import _saved_progress
from convnext.train.train import train_run

THEIRS = {
    "adamw": lambda p: torch.optim.AdamW(p, betas=(0.8, 0.9)),
    "adam": lambda p: torch.optim.Adam(p, betas=(0.8, 0.9)),
    "nadam": lambda p: torch.optim.NAdam(p, betas=(0.8, 0.9), decoupled_weight_decay=True),
    "radam": lambda p: torch.optim.RAdam(p, betas=(0.8, 0.9), decoupled_weight_decay=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, momentum=0.7),
    "sgd": lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.7),
}


def micro() -> ConvNeXt:
    torch.manual_seed(0)
    return ConvNeXt((1, 1, 2, 1), (8, 16, 24, 32), num_classes=3, layer_scale=0.1)


def test_the_names_are_those_of_the_recipe() -> None:
    """Every name that a recipe may give has an optimizer, and the other way round."""
    names = get_args(get_type_hints(TrainRecipe)["optimizer"])
    assert set(names) == set(OPTIMIZERS) == set(THEIRS)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_steps_are_torchs_own(name: str) -> None:
    """Five steps with decay on matrices only move the weights as torch's class does, given the same numbers."""
    recipe = override(Recipe(), {
        "train.optimizer": name, "train.lr": 1e-3, "train.weight_decay": 0.1, "train.betas": (0.8, 0.9),
        "train.momentum": 0.7,
    })  # fmt: skip
    ours, theirs = micro(), micro()
    own = make_optimizer(ours, recipe, torch.device("cpu"))
    stock = THEIRS[name]([
        {"params": [p for p in theirs.parameters() if p.ndim > 1], "weight_decay": 0.1, "lr": 1e-3},
        {"params": [p for p in theirs.parameters() if p.ndim <= 1], "weight_decay": 0.0, "lr": 1e-3},
    ])  # fmt: skip
    for step in range(5):
        x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(step))
        for model, optimizer in ((ours, own), (theirs, stock)):
            model(x).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    moved = False
    for a, b, c in zip(ours.parameters(), theirs.parameters(), micro().parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
        moved |= not torch.equal(a, c)
    assert moved


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_its_state_goes_on(name: str, tmp_path: Path) -> None:
    """Saved, put back into a new optimizer, and one more step: the same bits as without the stop."""
    recipe = override(Recipe(), {"train.optimizer": name, "train.lr": 1e-2})
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def state() -> TrainState:
        model = micro()
        return TrainState(model, make_optimizer(model, recipe, torch.device("cpu")), EMA(model, 0.9), Progress())

    def step(of: TrainState) -> None:
        of.model(x).square().sum().backward()
        of.optimizer.step()
        of.optimizer.zero_grad()

    straight = state()
    for _ in range(2):
        step(straight)
    straight.save(tmp_path / "last.state.pt")
    resumed = state()
    resumed.load(tmp_path / "last.state.pt")
    for one in (straight, resumed):
        step(one)
    for a, b in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)


def chosen(name: str, pretrained: bool) -> Recipe:
    plan = Plan(override(Recipe(), {"train.optimizer": name, "train.batch": 16, "model.name": "convnext_atto"}))
    planning.choose_optimisation(plan, pretrained, 10, 10)
    return plan.recipe


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_rate_and_decay_follow_the_optimizer(name: str) -> None:
    """The rate at batch 64 times the root of 16/64; AdamW's are what they were: 2e-3, 3e-4, 0.05."""
    kind = OPTIMIZERS[name]
    assert chosen(name, False).train.lr == pytest.approx(kind.scratch / 2, rel=1e-2)
    assert chosen(name, True).train.lr == pytest.approx(kind.tuning / 2, rel=1e-2)
    assert chosen(name, False).train.weight_decay == kind.weight_decay
    if name == "adamw":
        assert (kind.scratch, kind.tuning, kind.weight_decay) == (2e-3, 3e-4, 0.05)


def test_what_belongs_to_another_optimizer_is_said() -> None:
    """AdamW's decay and rate with sgd, betas that it has not, and momentum that AdamW has not."""

    def notes(**settings: object) -> str:
        given = {f"train.{key}": value for key, value in settings.items()}
        base = {"train.batch": 64, "model.name": "convnext_atto", "data.workers": 0, "train.epochs": 1}
        plan = Plan(override(Recipe(), base | {"train.micro_batch": 1, "train.ema": False} | given))
        plan.recipe = override(plan.recipe, {"data.size": 32, "model.stem_patch": 4})
        examine(plan, 100, torch.device("cpu"))
        return " / ".join(f"{c['key']}: {c['why']}" for c in plan.choices)

    sgd = notes(optimizer="sgd", weight_decay=0.05, lr=1e-4, betas=(0.5, 0.9))
    assert "train.weight_decay: warning: sgd adds it to the gradient, where 0.0001 is usual" in sgd
    assert "train.lr: warning: little for sgd" in sgd
    assert "train.betas: not used: sgd has no such term" in sgd
    assert "train.momentum: not used" in notes(optimizer="adamw", momentum=0.5, lr=1e-3)
    assert notes(optimizer="sgd", lr=0.1) == notes(optimizer="adamw", lr=1e-3) == ""


def test_a_run_learns_with_sgd_and_refuses_another_optimizer_on_resume(stripes: Path, tmp_path: Path) -> None:
    """Its recipe holds what was chosen; the state of one optimizer is not given to another in silence."""
    recipe = load_recipe(None, [
        "weights=none", "model.name=convnext_atto", "data.size=32", "model.stem_patch=4", "train.batch=8",
        "data.workers=0", "train.precision=fp32", "train.optimizer=sgd", "train.epochs=2", "augment.crop_min=0.8",
    ])  # fmt: skip
    run = train_run(stripes, recipe, tmp_path / "run")
    log = run.read_log()
    assert log[1]["train_loss"] < log[0]["train_loss"]
    text = run.recipe.read_text()
    assert 'optimizer = "sgd"' in text
    assert "weight_decay = 0.0001" in text
    changed = load_recipe(run.recipe, ["train.optimizer=adam"])
    with pytest.raises(RunError, match=r"train\.optimizer"):
        _saved_progress(RunFolder(run.path), changed, from_last=False)
