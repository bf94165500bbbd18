"""The search: what is tried, that it goes on after anything, that several processes share it, and what it leaves."""

from __future__ import annotations

import json
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

from convnext.__main__ import main
from convnext.config import load_recipe
from convnext.errors import NonFiniteLoss, RecipeError, RunError, UserError
from convnext.recipe import Recipe
from convnext.report.tune_page import write_tune_report
from convnext.study.space import find_space, load_space
from convnext.study.tune import Search, best_of, count_done, open_study, repeat, rows_of, search, value_of

SETTINGS = [
    "weights=none", "model.name=convnext_atto", "data.size=32", "model.stem_patch=4", "train.batch=8",
    "train.precision=fp32", "train.epochs=2", "data.workers=0", "train.device=cpu", "train.lr=1e-3",
]  # fmt: skip
SPACE = '["train.lr"]\nlow = 1e-4\nhigh = 1e-2\nlog = true\n["augment.mixup"]\nchoices = [0.0, 0.2]\n'
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def make(tmp_path: Path, space: str = SPACE, **more: Any) -> Search:
    """A search over two keys in `tmp_path`."""
    file = tmp_path / "space.toml"
    file.write_text(space)
    recipe = load_recipe(None, SETTINGS)
    return Search(tmp_path / "data", recipe, load_space(file, recipe), tmp_path / "study", **more)


def curve(recipe: Recipe, out: Path, after_epoch: Callable[[dict[str, Any]], None]) -> float:
    """A stand-in for training: best at a rate of 2e-3 without mixup; rises over three epochs."""
    value = 1.0 - abs(float(recipe.train.lr) - 2e-3) * 50 - recipe.augment.mixup
    for epoch in (1, 2, 3):
        after_epoch({"epoch": epoch, "val_top1": value * epoch / 3})
    return value


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", "cmaes"])
def test_a_search_is_repeatable_and_goes_on_as_it_would_have(sampler: str, tmp_path: Path) -> None:
    """Six trials in one go, and in two: the same settings and values; the best is the highest."""
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    found = []
    for name, parts in (("a", (6,)), ("b", (4, 6))):
        (tmp_path / name).mkdir()
        what = make(tmp_path / name, sampler=sampler, pruner="none")
        for trials in parts:
            rows = search(what, trials=trials, minutes=None, train=curve)
        found.append([(row["params"], row["value"]) for row in rows])
    assert found[0] == found[1]
    assert len(found[0]) == 6
    best = best_of(rows)
    assert best is not None
    assert best["value"] == max(value for _, value in found[0])
    recipe = load_recipe(tmp_path / "b" / "study" / "best.toml")
    assert (recipe.train.lr, recipe.augment.mixup) == tuple(best["params"].values())


def test_a_grid_tries_every_choice_once(tmp_path: Path) -> None:
    """Two by three, whatever number is asked for; a range has no grid."""
    space = '["train.layer_decay"]\nchoices = [0.8, 0.9]\n["model.drop_path"]\nchoices = [0.1, 0.2, 0.3]\n'
    rows = search(make(tmp_path, space, sampler="grid"), trials=50, minutes=None, train=curve)
    assert len({tuple(row["params"].values()) for row in rows}) == len(rows) == 6
    with pytest.raises(UserError, match=r"train\.lr has none"):
        search(make(tmp_path, sampler="grid"), trials=1, minutes=None, train=curve)


def test_hopeless_trials_are_stopped_early(tmp_path: Path) -> None:
    """By the median of the others at the same epoch; they count as trials, and never become the best."""
    rows = search(make(tmp_path, sampler="random"), trials=20, minutes=None, train=curve)
    pruned = [row for row in rows if row["state"] == "pruned"]
    best = best_of(rows)
    assert pruned
    assert best is not None
    assert all(len(row["epochs"]) < 3 for row in pruned)
    assert all(row["value"] is None or row["state"] == "pruned" for row in pruned)
    assert best["state"] == "complete"


def test_a_failed_trial_is_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    """A loss that is not a number costs one trial; a mistake in the recipe ends the search."""
    calls = []

    def train(recipe: Recipe, out: Path, after_epoch: Callable[[dict[str, Any]], None]) -> float:
        calls.append(out)
        if len(calls) == 2:
            raise NonFiniteLoss("the loss is nan")
        return curve(recipe, out, after_epoch)

    what = make(tmp_path, pruner="none")
    rows = search(what, trials=3, minutes=None, train=train)
    assert [row["state"] for row in rows] == ["complete", "fail", "complete", "complete"]
    assert rows[1]["reason"] == "the loss is nan"

    def wrong(recipe: Recipe, out: Path, after_epoch: Callable[[dict[str, Any]], None]) -> float:
        raise RecipeError("this cannot work")

    with pytest.raises(RecipeError, match="this cannot work"):
        search(what, trials=5, minutes=None, train=wrong)


def test_a_killed_trial_does_not_count(tmp_path: Path) -> None:
    """It is found running by the next process, and nobody holds its folder."""
    what = make(tmp_path, pruner="none")
    search(what, trials=2, minutes=None, train=curve)
    study = open_study(what)
    study.ask({knob.key: knob.distribution() for knob in what.knobs})
    assert count_done(study) == 3
    rows = search(what, trials=3, minutes=None, train=curve)
    assert [row["state"] for row in rows] == ["complete", "complete", "fail", "complete"]


def _join(folder: str) -> None:
    search(make(Path(folder), sampler="random", pruner="none"), trials=12, minutes=None, train=curve)


def test_two_processes_share_a_study(tmp_path: Path) -> None:
    """Together they make the twelve trials, each with a number of its own."""
    open_study(make(tmp_path, sampler="random", pruner="none"))
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_join, args=(str(tmp_path),)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    rows = rows_of(open_study(make(tmp_path, sampler="random", pruner="none")))
    assert 12 <= len([row for row in rows if row["state"] == "complete"]) <= 13
    assert [row["number"] for row in rows] == list(range(len(rows)))


def test_another_search_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    """Its trials could not be compared."""
    search(make(tmp_path), trials=1, minutes=None, train=curve)
    with pytest.raises(RunError, match="another space"):
        search(make(tmp_path, SPACE.replace("1e-2", "2e-2")), trials=2, minutes=None, train=curve)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('["train.lrr"]\nlow = 1\nhigh = 2\n', 'did you mean "train.lr"'),
        ('["train.lr"]\nlow = 2.0\nhigh = 1.0\n', "low not above high"),
        ('["train.lr"]\nlow = 0.0\nhigh = 1.0\nlog = true\n', "low must be above 0"),
        ('["train.lr"]\nlow = 1.0\n', "give low and high"),
        ('["train.lr"]\nchoices = []\n', "choices must be a list"),
        ('["train.precision"]\nchoices = ["fp8"]\n', "train.precision"),
        ('["model.drop_path"]\nlow = 0.0\nhigh = 1.5\n', "model.drop_path"),
        ("", "it varies nothing"),
        ("[[", "cannot be read"),
    ],
)
def test_a_space_with_mistakes_is_refused_before_the_first_trial(text: str, words: str, tmp_path: Path) -> None:
    """Each with its key and what is wrong."""
    file = tmp_path / "space.toml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=re.escape(words)):
        load_space(file, load_recipe(None, SETTINGS))


def test_shipped_spaces_are_the_papers() -> None:
    """The light sweeps of Appendix A.3, and a general one."""
    recipe = load_recipe(None, SETTINGS)
    coco = {knob.key: knob.choices for knob in load_space(find_space("coco"), recipe)}
    assert coco == {
        "train.lr": (1e-4, 2e-4), "train.layer_decay": (0.7, 0.8, 0.9, 0.95),
        "model.drop_path": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    }  # fmt: skip
    ade = {knob.key: knob.choices for knob in load_space(find_space("ade20k"), recipe)}
    assert ade == {"train.lr": (8e-5, 1e-4), "train.layer_decay": (0.8, 0.9), "model.drop_path": (0.3, 0.4, 0.5)}
    assert len(load_space(find_space("general"), recipe)) >= 5
    with pytest.raises(RecipeError, match='did you mean "general"'):
        find_space("generl")


def test_the_value_is_that_of_the_average_where_there_is_one() -> None:
    """Of the last epoch, as the search compares runs."""
    assert value_of({"val_top1": 0.5, "ema_val_top1": 0.6}) == 0.6
    assert value_of({"val_micro_f1": 0.4}) == 0.4


def test_the_page_shows_history_importance_and_repeats(tmp_path: Path) -> None:
    """Figures in the page itself; the rate, which decides here, is what mattered most."""
    what = make(tmp_path, sampler="random", pruner="none")
    search(what, trials=16, minutes=None, train=curve)
    values = repeat(what, 2, train=curve)
    assert len(values) == 2
    page = write_tune_report(what.out).read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert "What mattered" in page
    assert "with 2 other" in page
    assert "http" not in page
    assert len(json.loads((what.out / "tune.json").read_text())["repeats"]) == 2


def test_the_command_searches_on_real_runs(stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two trials of two epochs; the recipe that it leaves is one that train takes."""
    out, space = tmp_path / "study", tmp_path / "space.toml"
    space.write_text(SPACE)
    command = ["tune", str(stripes), *SETTINGS, "--space", str(space), "--out", str(out), "--trials", "2"]
    assert main([*command, "--pruner", "none"]) == 0
    assert "best of 2 trials" in capsys.readouterr().out
    assert load_recipe(out / "best.toml").train.lr != 1e-3
    assert (out / "trials" / "0001" / "run" / "log.jsonl").exists()
    assert (out / "report.html").exists()
    assert main(["tune", str(stripes), *SETTINGS]) == 2
