"""Schedule, groups, moving average, state and plan, against timm, torch and analytic values."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from convnext.config import load_recipe, override
from convnext.errors import RecipeError, RunError, UserError
from convnext.nn.convnext.backbone import ConvNeXt
from convnext.recipe import Recipe
from convnext.run.state import EMA, Progress, TrainState
from convnext.tasks.classify.targets import read_dataset
from convnext.train import plan as planning
from convnext.train.groups import optimizer_groups
from convnext.train.plan import Plan, count_steps, rate_at
from convnext.train.schedule import learning_rate, size_at


def micro(**changes: object) -> ConvNeXt:
    """A network of a few thousand parameters."""
    torch.manual_seed(0)
    return ConvNeXt((1, 1, 2, 1), (8, 16, 24, 32), num_classes=3, layer_scale=0.1)


def test_the_schedule_is_timms_cosine_with_linear_warm_up() -> None:
    """Step by step the rate is that of timm's CosineLRScheduler, whose warm-up is a step behind ours."""
    from timm.scheduler import CosineLRScheduler

    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    timm = CosineLRScheduler(
        optimizer, t_initial=90, lr_min=0.01, warmup_t=10, warmup_lr_init=0.0, warmup_prefix=True, t_in_epochs=False
    )
    for step in range(100):
        ours = learning_rate(step, peak=0.5, minimum=0.01, warmup=10, total=100)
        timm.step_update(step + 1 if step < 10 else step)
        if step != 9:  # the last step of our warm-up is at the peak, timm's cosine starts there one step later
            assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6), step
    assert learning_rate(9, peak=0.5, minimum=0.0, warmup=10, total=100) == 0.5
    assert learning_rate(100, peak=0.5, minimum=0.01, warmup=10, total=100) == pytest.approx(0.01)
    assert learning_rate(55, peak=1.0, minimum=0.0, warmup=10, total=100) == pytest.approx(0.5)


def test_weight_decay_spares_vectors_as_timm_does() -> None:
    """The parameters with decay are those that timm's `param_groups_weight_decay` picks."""
    from timm.optim import param_groups_weight_decay

    model = micro()
    ours = optimizer_groups(model, 0.05)
    theirs = {g["weight_decay"]: {id(p) for p in g["params"]} for g in param_groups_weight_decay(model, 0.05)}
    assert {id(p) for p in ours[0]["params"]} == theirs[0.05]
    assert {id(p) for p in ours[1]["params"]} == theirs[0.0]


def test_the_moving_average_is_timms_after_its_warm_up() -> None:
    """With timm's decay at each step the averages agree; ours never keeps much of the initial weights."""
    from timm.utils import ModelEmaV3

    model = micro()
    ours, theirs = EMA(model, 0.9), ModelEmaV3(model, decay=0.9)
    for step in range(1, 40):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        ours.update(model)
        theirs.decay = min(0.9, (1 + step) / (10 + step))
        theirs.update(model)
    for name, value in theirs.module.state_dict().items():
        torch.testing.assert_close(ours.average[name], value, rtol=1e-5, atol=1e-5)


def test_state_is_put_back_to_the_bit_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    """Weights, optimizer, average, progress and random state; a cut file or another model is an error with a reason."""
    model = micro()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    state = TrainState(model, optimizer, EMA(model, 0.9), Progress(epoch=2, step=5, best=0.5, epoch_sums={"loss": 1.5}))
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    state.ema.update(model)  # type: ignore[union-attr]
    path = tmp_path / "last.state.pt"
    state.save(path)
    expected = torch.rand(3)

    other = micro()
    fresh = TrainState(other, torch.optim.AdamW(other.parameters(), lr=1e-3), EMA(other, 0.9), Progress())
    fresh.load(path)
    assert torch.equal(torch.rand(3), expected)
    assert fresh.progress == state.progress
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    for name in state.ema.average:  # type: ignore[union-attr]
        assert torch.equal(state.ema.average[name], fresh.ema.average[name])  # type: ignore[union-attr]
    moments = optimizer.state_dict()["state"][0]["exp_avg"], fresh.optimizer.state_dict()["state"][0]["exp_avg"]
    assert torch.equal(*moments)

    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(RunError, match="is damaged"):
        fresh.load(path)
    with pytest.raises(RunError, match="does not exist"):
        fresh.load(tmp_path / "none.pt")


def test_a_full_disk_leaves_the_last_state_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing fails half way: the error says the disk is full, the old file is whole, no rubbish is left."""
    import os

    model = micro()
    state = TrainState(model, torch.optim.AdamW(model.parameters()), None, Progress(epoch=1))
    path = tmp_path / "last.state.pt"
    state.save(path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    state.progress.epoch = 2
    with pytest.raises(RunError, match=r"disk is full.*intact"):
        state.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.state.pt"]


def planned(data: Path, *settings: str) -> Plan:
    """A plan for the data, without measuring: epochs are given."""
    from convnext.train.train import prepare

    recipe = load_recipe(None, ["weights=none", "train.epochs=4", *settings])
    return prepare(read_dataset(data), Plan(recipe))[0]


def test_the_plan_fills_every_knob_and_gives_a_reason(stripes: Path) -> None:
    """Nothing that the loop needs stays "auto"; a given value is kept; each choice has its reason."""
    plan = planned(stripes, "train.lr=0.0005")
    recipe = plan.recipe
    for key in ("batch", "micro_batch", "lr", "warmup_epochs", "ema_decay", "precision", "device"):
        assert getattr(recipe.train, key) != "auto", key
    for key in ("size", "eval_size", "workers", "cache_gb"):
        assert getattr(recipe.data, key) != "auto", key
    assert recipe.train.lr == 0.0005
    assert recipe.model.stem_patch == 1  # pictures of 40 pixels
    assert all(len(choice["why"]) > 5 for choice in plan.choices)
    assert "train.lr" not in [choice["key"] for choice in plan.choices]
    steps = count_steps(recipe, len(read_dataset(stripes).splits["train"]))
    assert steps.per_epoch >= 5


def test_hopeless_settings_are_repaired_with_the_reason(stripes: Path) -> None:
    """A batch larger than the data, a warm-up longer than the run."""
    plan = planned(stripes, "train.batch=4096", "train.warmup_epochs=20")
    why = {choice["key"]: choice["why"] for choice in plan.choices}
    steps = count_steps(plan.recipe, len(read_dataset(stripes).splits["train"]))
    assert steps.per_epoch >= 1
    assert "no step" in why["train.batch"]
    assert "outlast" in why["train.warmup_epochs"]
    assert steps.warmup < steps.total


def test_the_learning_rate_grows_with_the_root_of_the_batch(stripes: Path) -> None:
    """Four times the batch, twice the rate."""
    small, large = planned(stripes, "train.batch=4"), planned(stripes, "train.batch=16")
    assert float(large.recipe.train.lr) == pytest.approx(2 * float(small.recipe.train.lr), rel=0.01)


def test_rates_of_a_recipe_start_low_and_end_at_nothing() -> None:
    """The first step of the warm-up is small, the last step of the run is near the minimum."""
    recipe = override(Recipe(), {"train.batch": 10, "train.epochs": 5, "train.warmup_epochs": 1.5, "train.lr": 1e-3})
    steps = count_steps(recipe, 105)
    assert (steps.per_epoch, steps.total, steps.warmup) == (10, 50, 15)
    assert rate_at(recipe, steps, 0) == pytest.approx(1e-3 / 15)
    assert rate_at(recipe, steps, 14) == pytest.approx(1e-3)
    assert rate_at(recipe, steps, 49) < 5e-6


def test_pictures_grow_over_three_quarters_of_the_run() -> None:
    """From the start size to the full one in whole steps; without a smaller start the size never changes."""
    recipe = override(
        Recipe(), {"model.name": "convnext_atto", "data.start_size": 64, "data.size": 96, "model.stem_patch": 4}
    )
    sizes = [size_at(recipe, epoch, 40) for epoch in range(40)]
    assert sizes == [64] * 15 + [80] * 15 + [96] * 10
    same = override(recipe, {"data.start_size": 96})
    assert {size_at(same, epoch, 40) for epoch in range(40)} == {96}


def test_a_device_that_is_not_there_is_refused() -> None:
    """With what the machine has."""
    plan = Plan(override(Recipe(), {"train.device": "cuda:7" if not torch.cuda.is_available() else "xpu"}))
    with pytest.raises(UserError, match="this machine has cpu"):
        planning.choose_device(plan)


def test_a_long_average_in_a_short_run_forgets_the_initial_weights() -> None:
    """Even a decay of 0.9999: after 100 steps at a new place the average has all but left the old one."""
    model = micro()
    ema = EMA(model, 0.9999)
    start = {name: value.clone() for name, value in ema.average.items()}
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    for _ in range(100):
        ema.update(model)
    moved = [float((ema.average[name] - start[name]).mean()) for name in start]
    assert min(moved) > 0.99


@pytest.mark.parametrize("setting", ["data.size=16", "data.eval_size=16", "data.start_size=16"])
def test_pictures_smaller_than_the_last_stride_are_refused(stripes: Path, setting: str) -> None:
    """Before anything is trained, with the size that is needed."""
    with pytest.raises(RecipeError, match="needs 32 pixels"):
        planned(stripes, "model.stem_patch=4", setting)


def test_accumulated_micro_batches_give_the_gradient_of_the_whole() -> None:
    """The micro-batch divides the batch, whatever is asked for."""
    plan = Plan(override(Recipe(), {"train.batch": 12, "train.micro_batch": 5, "data.size": 32, "model.stem_patch": 4}))
    planning.choose_batch(plan, torch.device("cpu"), 100)
    assert 12 % int(plan.recipe.train.micro_batch) == 0
    assert int(plan.recipe.train.micro_batch) <= 5


def test_a_batch_that_is_chosen_can_be_shared() -> None:
    """Three processes, and more of them than the batch would have been; more processes than pictures are refused."""
    given = {"data.size": 32, "model.stem_patch": 4, "train.micro_batch": 1}
    for world, batch in ((1, 8), (3, 6), (12, 12)):
        plan = Plan(override(Recipe(), given))
        planning.choose_batch(plan, torch.device("cpu"), 100, world)
        assert plan.recipe.train.batch == batch
    with pytest.raises(RecipeError, match="101 processes cannot share 100 training pictures; start 100 at most"):
        planning.choose_batch(Plan(override(Recipe(), given)), torch.device("cpu"), 100, 101)


def test_sizes_that_do_not_go_together_are_said(stripes: Path) -> None:
    """A smaller size over a recipe that grows to a larger one: it does not begin above it, and is judged at another."""
    plan = planned(stripes, "model.stem_patch=4", "data.size=32", "data.start_size=64", "data.eval_size=64")
    assert plan.recipe.data.start_size == 32
    why = {choice["key"]: choice["why"] for choice in plan.choices}
    assert why["data.start_size"].startswith("pictures do not shrink")
    assert why["data.eval_size"] == "judged at another size than trained, 32"
