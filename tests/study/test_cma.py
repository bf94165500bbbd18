"""CMA-ES from the trials alone: the proposals of Optuna's own sampler, and nothing in a study is ever unpickled."""

from __future__ import annotations

import math
import pickle
import sqlite3
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")
pytest.importorskip("cmaes")

import optuna

from convnext.config import load_recipe
from convnext.recipe import Recipe
from convnext.study.samplers import PRUNERS, SAMPLERS, make_sampler
from convnext.study.space import load_space
from convnext.study.subject import Search
from convnext.study.trials import GENERATION
from convnext.study.tune import open_study, search

SPACE = """
["train.lr"]
low = 1e-4
high = 1e-2
log = true
["augment.mixup"]
low = 0.0
high = 0.5
["augment.crop_min"]
low = 0.2
high = 0.8
step = 0.2
["train.batch"]
low = 4
high = 64
log = true
["train.patience"]
low = 0
high = 30
step = 3
["train.ema"]
choices = [true, false]
"""
SETTINGS = ["weights=none", "model.name=convnext_atto", "train.epochs=2", "data.size=32"]


def make(tmp_path: Path, **more: Any) -> Search:
    """A search over every kind of range."""
    file = tmp_path / "space.toml"
    file.write_text(SPACE)
    recipe = load_recipe(None, SETTINGS)
    return Search(tmp_path / "data", recipe, load_space(file, recipe), tmp_path / "study", **more)


def value_of(params: dict[str, Any]) -> float:
    """Highest at a rate of 2e-3 and a batch of 16, without mixup."""
    return (
        -abs(math.log(params["train.lr"] / 2e-3)) - params["augment.mixup"] - abs(math.log(params["train.batch"] / 16))
    )


def train(recipe: Recipe, out: Path, after_epoch: Callable[[dict[str, Any]], None]) -> float:
    """A stand-in for training."""
    return value_of({"train.lr": recipe.train.lr, "augment.mixup": recipe.augment.mixup,
                     "train.batch": recipe.train.batch})  # fmt: skip


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1), ("minimize", -1)])
def test_proposals_are_those_of_optunas_sampler(direction: str, sign: int, tmp_path: Path) -> None:
    """Fifty trials, four generations, over plain, logarithmic, stepped and whole ranges: the same settings."""
    what = make(tmp_path)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = []
    for own in (True, False):
        study = optuna.create_study(direction=direction)
        for slot in range(50):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = optuna.samplers.CmaEsSampler(seed=slot, warn_independent_sampling=False)
            study.sampler = make_sampler("cmaes", what.knobs, 0, slot) if own else theirs
            trial = study.ask({knob.key: knob.distribution() for knob in what.knobs})
            if own and study.sampler.generation is not None:
                trial.set_user_attr(GENERATION, study.sampler.generation)
            study.tell(trial, sign * value_of(trial.params))
        found.append(study.trials)
    assert max(trial.user_attrs.get(GENERATION, 0) for trial in found[0]) >= 4
    for ours, theirs in zip(*found, strict=True):
        assert ours.params == pytest.approx(theirs.params, rel=1e-9)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "grid"])
@pytest.mark.parametrize("pruner", PRUNERS)
def test_a_pickle_in_a_study_is_never_opened(sampler: str, pruner: str, tmp_path: Path) -> None:
    """Under every name that samplers of Optuna keep their state by, at the study and at each trial."""
    what = make(tmp_path, sampler=sampler, pruner=pruner)
    search(what, trials=4, minutes=None, train=train)
    harm = tmp_path / "harm"
    text = pickle.dumps(Bomb(str(harm))).hex()
    with sqlite3.connect(what.out / "tune.db") as base:
        for trial in (1, 2, 3, 4):
            for key in ("cma:optimizer:0", "sepcma:optimizer:0", "cmawm:optimizer:0", "cma:optimizer"):
                base.execute(
                    "insert into trial_system_attributes (trial_id, key, value_json) values (?, ?, ?)",
                    (trial, key, f'"{text}"'),
                )
        base.execute(
            "insert into study_system_attributes (study_id, key, value_json) values (1, 'cma:optimizer:0', ?)",
            (f'"{text}"',),
        )
    base.close()
    rows = search(what, trials=7, minutes=None, train=train)
    assert [row["state"] for row in rows].count("complete") >= 5
    assert not harm.exists()


def test_a_study_of_optunas_own_sampler_goes_on(tmp_path: Path) -> None:
    """Trials whose generation Optuna noted count for the evolution as they did."""
    what = make(tmp_path, sampler="cmaes", pruner="none")
    study = open_study(what)
    for slot in range(30):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study.sampler = optuna.samplers.CmaEsSampler(seed=slot, warn_independent_sampling=False)
        trial = study.ask({knob.key: knob.distribution() for knob in what.knobs})
        trial.set_user_attr("slot", slot)
        study.tell(trial, value_of(trial.params))
    search(what, trials=31, minutes=None, train=train)
    assert open_study(what).trials[-1].user_attrs[GENERATION] >= 2
