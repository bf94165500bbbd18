"""What a time budget is spent on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from convnext.config import check_recipe, override
from convnext.recipe import Recipe
from convnext.tasks.classify.targets import read_dataset
from convnext.train import budget
from convnext.train.budget import Rung, climb, ladder, minutes_of
from convnext.train.plan import Plan
from convnext.train.prepare import fill_up
from convnext.train.train import Ranks
from convnext.train.trial import Trial, glance, is_steady

USUAL = Rung("convnext_atto", 4, 128)


def test_the_ladder_leads_from_cheap_to_dear() -> None:
    """Sizes below the usual one with the usual stem; larger networks above it where there are pictures for them."""
    recipe = Recipe()
    assert ladder(recipe, USUAL, 3000, pretrained=False) == [
        Rung("convnext_atto", 4, 64), Rung("convnext_atto", 4, 96), USUAL
    ]  # fmt: skip
    assert [rung.name for rung in ladder(recipe, USUAL, 9000, pretrained=False)[3:]] == list(budget.LARGER)
    assert ladder(recipe, USUAL, 9000, pretrained=True)[-1] == USUAL


def test_what_the_recipe_names_is_not_weighed() -> None:
    """A given size leaves nothing to choose; a given network is the only one."""
    given = override(Recipe(), {"data.size": 128})
    assert ladder(given, USUAL, 3000, pretrained=False) == [USUAL]
    named = override(Recipe(), {"model.name": "convnext_pico"})
    rungs = ladder(named, Rung("convnext_pico", 4, 128), 9000, pretrained=False)
    assert {rung.name for rung in rungs} == {"convnext_pico"}


def test_small_pictures_are_weighed_by_their_stem() -> None:
    """At 32 pixels a stem of 1 costs as much as 128 pixels; those of 4 and 2 are the cheaper ones."""
    rungs = ladder(Recipe(), Rung("convnext_atto", 1, 32), 3000, pretrained=False)
    assert [(rung.patch, rung.size) for rung in rungs] == [(4, 32), (2, 32), (1, 32)]


@pytest.mark.parametrize(("minutes", "size"), [(1, 64), (5, 64), (6, 96), (9, 96), (10, 128), (100, 128)])
def test_more_minutes_buy_more_detail(minutes: float, size: int) -> None:
    """An epoch of 5, 11 and 20 seconds: the dearest size that leaves thirty epochs, at least the cheapest."""
    cost = {64: 5.0, 96: 11.0, 128: 20.0}
    rungs = ladder(Recipe(), USUAL, 3000, pretrained=False)
    rung, each = climb(rungs, USUAL, minutes * 60, lambda r: cost[r.size], pretrained=False)
    assert (rung.size, each) == (size, cost[size])


def test_a_larger_network_waits_for_a_hundred_epochs() -> None:
    """Above the usual setting more is asked for."""
    rungs = ladder(Recipe(), USUAL, 9000, pretrained=False)
    cost = {"convnext_atto": 1.0, "convnext_femto": 2.0, "convnext_pico": 3.0, "convnext_nano": 5.0}
    for seconds, name in ((150, "atto"), (199, "atto"), (200, "femto"), (499, "pico"), (500, "nano")):
        assert climb(rungs, USUAL, seconds, lambda r: cost[r.name], pretrained=False)[0].name == f"convnext_{name}"


@pytest.mark.parametrize(("minutes", "epochs"), [(10, 8), (0.01, 1), (1e6, 300)])
def test_epochs_fill_the_time_budget(minutes: float, epochs: int) -> None:
    """97 % of ten minutes less what decoding and judging take, a minute an epoch; one at least, 300 at most."""
    plan = Plan(override(Recipe(), {"train.minutes": minutes, "train.batch": 8}))
    found = Trial(step=1.0, count=12, seconds_per_epoch=60.0, before=20.0, after=30.0, peak=0)
    assert budget.choose_epochs(plan, lambda: found, 4000, pretrained=False, device="cpu") == epochs
    assert plan.recipe.train.epochs == epochs
    assert "60 s" in next(row["why"] for row in plan.choices if row["key"] == "train.epochs")


def test_given_epochs_are_not_measured() -> None:
    """A run of a known length starts at once, and has no budget."""
    plan = Plan(override(Recipe(), {"train.epochs": 7, "train.minutes": 1}))
    never = iter(())
    assert budget.choose_epochs(plan, lambda: next(never), 100, pretrained=False, device="cpu") == 7
    assert budget.seconds_left(plan) == 0


@pytest.mark.parametrize(("cost", "name", "size", "words"), [
    (0.01, "convnext_nano", 128, "time enough for more than convnext_atto"),
    (100.0, "convnext_atto", 64, "convnext_atto, 96 pixels, a stem of 4 would leave too few"),
])  # fmt: skip
def test_both_ends_of_the_ladder_are_chosen_with_their_reason(cost: float, name: str, size: int, words: str) -> None:
    """A budget in which everything fits takes the largest network, one in which nothing fits the smallest pictures."""
    plan = Plan(check_recipe({"train": {"minutes": 10}}))
    budget.choose_within(plan, USUAL, 9000, lambda recipe: cost, pretrained=False)
    assert (plan.recipe.model.name, plan.recipe.data.size) == (name, size)
    assert all(words in row["why"] for row in plan.choices)


def test_only_time_makes_a_budget() -> None:
    """Epochs win; without a GPU there is a budget by default."""
    assert minutes_of(Plan(check_recipe({"train": {"device": "cpu"}}))) == 30.0
    assert minutes_of(Plan(check_recipe({"train": {"device": "cuda"}}))) is None
    assert minutes_of(Plan(check_recipe({"train": {"device": "cuda", "minutes": 7}}))) == 7.0
    assert minutes_of(Plan(check_recipe({"train": {"device": "cpu", "minutes": 7, "epochs": 3}}))) is None


def test_a_plan_says_when_too_little_can_be_learnt(stripes: Path) -> None:
    """A minute's budget on a clock that is nearly over: few steps, the cheapest size, and a way out with a number."""
    dataset = read_dataset(stripes)
    plan = Plan(check_recipe({"train": {"minutes": 0.2, "precision": "fp32"}, "weights": "none"}))
    plan = fill_up(dataset, plan, Ranks())
    notes = [row["why"] for row in plan.choices if row["key"] == "train.minutes"]
    assert any("from scratch will teach little; try train.minutes=" in note for note in notes)
    assert plan.most_epochs == 300
    assert budget.seconds_left(plan) <= 12.0


def test_a_time_is_believed_when_two_groups_agree() -> None:
    """Medians of six and six within a twentieth; a step that met other work does not count."""
    assert not is_steady([1.0] * 11)
    assert is_steady([1.0] * 12)
    assert is_steady([1.0] * 6 + [1.04] * 5 + [9.0])
    assert not is_steady([2.0] * 6 + [1.0] * 6)


def test_a_glance_grows_with_the_size_of_the_pictures(stripes: Path) -> None:
    """Four times the pixels cost at least twice as much."""
    dataset = read_dataset(stripes)
    recipe = override(Recipe(), {"model.name": "convnext_atto", "model.stem_patch": 4, "train.precision": "fp32"})
    cost = [glance(override(recipe, {"data.size": side}), dataset, torch.device("cpu")) for side in (64, 192)]
    assert cost[1] > 2 * cost[0] > 0
