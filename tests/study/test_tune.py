"""The search: what is tried, that it goes on after anything, that several processes share it, and what it leaves."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

from convnext.__main__ import main
from convnext.config import load_complete, load_recipe, override
from convnext.errors import DataError, MemoryFull, NonFiniteLoss, RecipeError, RunError, UserError
from convnext.recipe import Recipe
from convnext.report.tune_page import write_tune_report
from convnext.run.folder import RunFolder
from convnext.study.space import load_space
from convnext.study.subject import Search
from convnext.study.trials import best_of, count_done, rows_of
from convnext.study.tune import load_study, open_study, search, value_of
from convnext.study.tune_result import in_doubt, judged_on, repeat
from convnext.tasks.classify.scores import MICRO_F1, TOP1
from convnext.tasks.classify.targets import read_dataset
from convnext.train.train import train_run

SETTINGS = [
    "weights=none", "model.name=convnext_atto", "data.size=32", "model.stem_patch=4", "train.batch=8",
    "train.precision=fp32", "train.epochs=2", "data.workers=0", "train.device=cpu",
]  # fmt: skip
RANGES = '["train.lr"]\nlow = 1e-4\nhigh = 1e-2\nlog = true\n["augment.mixup"]\nlow = 0.0\nhigh = 0.5\n'
SPACE = '["train.lr"]\nlow = 1e-4\nhigh = 1e-2\nlog = true\n["augment.mixup"]\nchoices = [0.0, 0.2]\n'


def make(tmp_path: Path, space: str = SPACE, **more: Any) -> Search:
    """A search in `tmp_path`, over two keys unless told."""
    file = tmp_path / "space.toml"
    file.write_text(space)
    recipe = load_recipe(None, SETTINGS)
    return Search(tmp_path / "data", recipe, load_space(file, recipe), tmp_path / "study", **more)


def curve(recipe: Recipe, out: Path, after_epoch: Callable[[dict[str, Any]], None]) -> float:
    """A stand-in for training: best at a rate of 2e-3 without mixup; rises over three epochs."""
    value = 1.0 - abs(float(recipe.train.lr) - 2e-3) * 50 - recipe.augment.mixup
    for epoch in (1, 2, 3):
        after_epoch({"epoch": epoch, "epochs": 3, "val_top1": value * epoch / 3})
    return value


def results(rows: list[dict[str, Any]]) -> list[tuple[dict[str, Any], float]]:
    """Settings and value of the trials that ran to their end."""
    return [(row["params"], row["value"]) for row in rows if row["state"] == "complete"]


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", "cmaes"])
def test_a_search_is_repeatable_and_goes_on_as_it_would_have(sampler: str, tmp_path: Path) -> None:
    """14 trials in one go, and in three: the same settings and values; best.toml is the recipe of the highest."""
    found = []
    for name, parts in (("a", (14,)), ("b", (4, 11, 14))):
        (tmp_path / name).mkdir()
        what = make(tmp_path / name, RANGES, sampler=sampler, pruner="none")
        for trials in parts:
            rows = search(what, trials=trials, minutes=None, train=curve)
        found.append(results(rows))
    assert found[0] == found[1]
    different = {tuple(params.values()) for params, _ in found[0]}
    assert len(different) >= (12 if sampler == "nsga2" else 14), "in nsga2 a child may be its parent again"
    best = best_of(rows, TOP1)
    assert best is not None
    assert best["value"] == max(value for _, value in found[0])
    recipe = load_recipe(tmp_path / "b" / "study" / "best.toml")
    assert (recipe.train.lr, recipe.augment.mixup) == tuple(best["params"].values())


def test_a_search_finds_more_than_chance(tmp_path: Path) -> None:
    """CMA-ES and TPE come nearer to the known optimum (value 1) than the median of what they drew at the beginning."""
    for sampler in ("cmaes", "tpe"):
        (tmp_path / sampler).mkdir()
        what = make(tmp_path / sampler, RANGES, sampler=sampler, pruner="none")
        values = [value for _, value in results(search(what, trials=30, minutes=None, train=curve))]
        assert sorted(values[-10:])[5] > sorted(values[:10])[5], sampler


def test_settings_decide_not_the_seed_alone(tmp_path: Path) -> None:
    """Another seed of the sampler gives other settings."""
    first, second = (
        results(search(make(tmp_path, seed=seed, sampler="random"), trials=1, minutes=None, train=curve))
        if not shutil.rmtree(tmp_path / "study", ignore_errors=True) else [] for seed in (0, 1)
    )  # fmt: skip
    assert first != second


def test_a_grid_tries_every_choice_once(tmp_path: Path) -> None:
    """Two by three, whatever number is asked for, and again one that was killed; a range has no grid."""
    space = '["train.lr"]\nchoices = [1e-3, 2e-3]\n["augment.mixup"]\nchoices = [0.1, 0.2, 0.3]\n'
    what = make(tmp_path, space, sampler="grid", pruner="none")
    search(what, trials=2, minutes=None, train=curve)
    with pytest.raises(KeyboardInterrupt):
        search(what, trials=3, minutes=None, train=interrupt)
    rows = search(what, trials=50, minutes=None, train=curve)
    assert [row["state"] for row in rows].count("fail") == 1
    tried = [tuple(params.values()) for params, _ in results(rows)]
    assert tried == list(itertools.product([1e-3, 2e-3], [0.1, 0.2, 0.3]))
    with pytest.raises(UserError, match=r"train\.lr has no end of them"):
        search(make(tmp_path, sampler="grid"), trials=1, minutes=None, train=curve)


def test_steps_make_a_grid(tmp_path: Path) -> None:
    """Whole numbers and others, both ends among them."""
    space = '["train.batch"]\nlow = 8\nhigh = 24\nstep = 8\n["train.lr"]\nlow = 0.1\nhigh = 0.4\nstep = 0.1\n'
    rows = search(make(tmp_path, space, sampler="grid", pruner="none"), trials=None, minutes=None, train=curve)
    tried = [tuple(params.values()) for params, _ in results(rows)]
    assert tried == list(itertools.product([8, 16, 24], [0.1, 0.2, 0.3, 0.4]))


def test_a_sampler_that_cannot_work_is_refused(tmp_path: Path) -> None:
    """A name with a typo, and CMA-ES where there are not two ranges."""
    with pytest.raises(UserError, match='did you mean "nsga2"'):
        search(make(tmp_path, sampler="nsga"), trials=1, minutes=None, train=curve)
    with pytest.raises(UserError, match="did you mean"):
        search(make(tmp_path, pruner="medain"), trials=1, minutes=None, train=curve)
    with pytest.raises(UserError, match="two ranges of numbers or more, and the space has 1"):
        search(make(tmp_path, sampler="cmaes"), trials=1, minutes=None, train=curve)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_hopeless_trials_are_stopped_early(pruner: str, tmp_path: Path) -> None:
    """By the others at the same epoch, never at the last one; they count as trials, and never become the best."""
    rows = search(make(tmp_path, sampler="random", pruner=pruner), trials=20, minutes=None, train=curve)
    pruned = [row for row in rows if row["state"] == "pruned"]
    best = best_of(rows, TOP1)
    assert pruned
    assert len(rows) == 20
    assert best is not None
    assert best["state"] == "complete"
    assert all(len(row["epochs"]) < 3 for row in pruned)
    if pruner == "median":
        assert all(len(row["epochs"]) == 2 for row in pruned), "the first epoch decides nothing"


def test_a_failed_trial_is_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    """A loss that is not a number, a full memory, settings that do not go together: each costs one trial.

    A mistake that has nothing to do with the settings ends the search.
    """
    calls = []

    def train(recipe: Recipe, out: Path, after_epoch: Callable[[dict[str, Any]], None]) -> float:
        calls.append(out)
        if len(calls) in (2, 3, 4):
            raise (NonFiniteLoss("the loss is nan"), MemoryFull("the memory is full"), RecipeError("min_lr too high"))[
                len(calls) - 2
            ]
        return curve(recipe, out, after_epoch)

    what = make(tmp_path, pruner="none")
    rows = search(what, trials=5, minutes=None, train=train)
    assert [row["state"] for row in rows] == ["complete", "fail", "fail", "fail", "complete"]
    assert [row["reason"] for row in rows[1:4]] == ["the loss is nan", "the memory is full", "min_lr too high"]

    def wrong(recipe: Recipe, out: Path, after_epoch: Callable[[dict[str, Any]], None]) -> float:
        raise DataError("this cannot work")

    with pytest.raises(DataError, match="this cannot work"):
        search(what, trials=6, minutes=None, train=wrong)
    known = json.loads((what.out / "tune.json").read_text())["trials"][-1]
    assert (known["state"], known["reason"], known["counts"]) == ("fail", "this cannot work", False)
    assert "failed" in write_tune_report(what.out).read_text(encoding="utf-8")


def test_a_search_in_which_everything_fails_ends(tmp_path: Path) -> None:
    """With a time of an hour too: five failures and nothing else, and it says why."""

    def train(recipe: Recipe, out: Path, after_epoch: Callable[[dict[str, Any]], None]) -> float:
        raise NonFiniteLoss("the loss is nan")

    with pytest.raises(UserError, match="first 5 trials all failed, the last one: the loss is nan"):
        search(make(tmp_path), trials=None, minutes=60, train=train)


def test_the_time_is_the_end(tmp_path: Path) -> None:
    """No trial begins after it; with none left there is still a study."""
    rows = search(make(tmp_path, sampler="random"), trials=None, minutes=1 / 60, train=curve)
    assert 1 <= len(rows) < 1000


def interrupt(recipe: Recipe, out: Path, after_epoch: Callable[[dict[str, Any]], None]) -> float:
    """Ctrl-C in the middle of a trial."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_that_was_stopped_ends_as_the_undisturbed_one(sampler: str, tmp_path: Path) -> None:
    """Ctrl-C in the fourth and the twelfth trial: they do not count, and their settings come again."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    whole = search(make(tmp_path / "a", sampler=sampler, pruner="none"), trials=14, minutes=None, train=curve)
    what = make(tmp_path / "b", sampler=sampler, pruner="none")
    for trials in (3, 11):
        search(what, trials=trials, minutes=None, train=curve)
        with pytest.raises(KeyboardInterrupt):
            search(what, trials=14, minutes=None, train=interrupt)
    rows = search(what, trials=14, minutes=None, train=curve)
    assert [row["state"] for row in rows].count("fail") == 2
    assert results(rows) == results(whole)


def _hang(folder: str) -> None:
    def train(recipe: Recipe, out: Path, after_epoch: Callable[[dict[str, Any]], None]) -> float:
        after_epoch({"epoch": 1, "epochs": 3, "val_top1": 0.1})
        out.mkdir()
        (out / "last.state.pt").write_bytes(b"large")
        time.sleep(600)
        return 0.0

    search(make(Path(folder), pruner="none"), trials=3, minutes=None, train=train)


def test_a_killed_process_costs_nothing_but_its_trial(tmp_path: Path) -> None:
    """SIGKILL in the third trial: the next process finds it dead, drops its state, and gives its settings again."""
    what = make(tmp_path, pruner="none")
    search(what, trials=2, minutes=None, train=curve)
    process = multiprocessing.get_context("spawn").Process(target=_hang, args=(str(tmp_path),))
    process.start()
    state = what.out / "trials" / "0002" / "run" / "last.state.pt"
    while not state.exists():
        time.sleep(0.05)
        assert process.is_alive()
    assert count_done(open_study(what)) == 3, "it lives"
    assert len(search(what, trials=3, minutes=None, train=curve)) == 3, "its trial is not taken"
    process.kill()
    process.join()
    rows = search(what, trials=3, minutes=None, train=curve)
    assert [row["state"] for row in rows] == ["complete", "complete", "fail", "complete"]
    assert (rows[2]["reason"], rows[2]["counts"], rows[2]["params"]) == ("killed", False, rows[3]["params"])
    assert not state.exists()


def _join(folder: str) -> None:
    search(make(Path(folder), sampler="random", pruner="none"), trials=12, minutes=None, train=_slow)


def _slow(recipe: Recipe, out: Path, after_epoch: Callable[[dict[str, Any]], None]) -> float:
    time.sleep(0.2)
    return curve(recipe, out, after_epoch)


def test_two_processes_share_a_study(tmp_path: Path) -> None:
    """Begun at the same moment they make the twelve trials of one process, no settings twice; both have a share."""
    context = multiprocessing.get_context("spawn")
    make(tmp_path)
    processes = [context.Process(target=_join, args=(str(tmp_path),)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    rows = rows_of(open_study(make(tmp_path, sampler="random", pruner="none")))
    (tmp_path / "one").mkdir()
    alone = search(make(tmp_path / "one", sampler="random", pruner="none"), trials=12, minutes=None, train=curve)
    assert sorted(value for _, value in results(rows)) == sorted(value for _, value in results(alone))
    assert [row["state"] for row in rows] == ["complete"] * 12
    known = json.loads((tmp_path / "study" / "tune.json").read_text())
    assert len(known["trials"]) == 12


def test_another_search_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    """Its trials could not be compared; the message names what differs. Where a trial runs may differ."""
    what = make(tmp_path)
    search(what, trials=1, minutes=None, train=curve)
    with pytest.raises(RunError, match=r"another space \(train\.lr\)"):
        search(make(tmp_path, SPACE.replace("1e-2", "2e-2")), trials=2, minutes=None, train=curve)
    with pytest.raises(RunError, match=r"another recipe \(train\.batch\)"):
        search(replace(what, recipe=override(what.recipe, {"train.batch": 16})), trials=2, minutes=None, train=curve)
    with pytest.raises(RunError, match="other data"):
        search(replace(what, data=tmp_path / "other"), trials=2, minutes=None, train=curve)
    elsewhere = replace(what, recipe=override(what.recipe, {"train.device": "cuda:1", "data.workers": 4}))
    assert len(search(elsewhere, trials=2, minutes=None, train=curve)) == 2


def test_pictures_replaced_under_their_names_are_another_study(
    tmp_path: Path, write_stripes: Callable[..., Path]
) -> None:
    """Trials of before and after could not be compared; a study of before, which kept no contents, goes on."""
    place = tmp_path / "pictures"
    for split in ("train", "val"):
        write_stripes(place / split, {"a": 4, "b": 4}, seed=len(split))
    what = replace(make(tmp_path), data=place, dataset=read_dataset(place))
    search(what, trials=1, minutes=None, train=curve)
    search(what, trials=1, minutes=None, train=curve)
    file = place / "train" / "a" / "a-001.png"
    file.write_bytes((place / "train" / "a" / "a-002.png").read_bytes())
    what = replace(what, dataset=read_dataset(place))
    with pytest.raises(RunError, match=f"pictures in {place} were replaced under their names since the study"):
        search(what, trials=2, minutes=None, train=curve)
    load_study(what.out).set_user_attr("contents", "")
    assert len(search(what, trials=2, minutes=None, train=curve)) == 2


def test_a_folder_that_is_no_study_is_left_alone(tmp_path: Path) -> None:
    """Files of somebody else, or a damaged study, end the command with what can be done."""
    what = make(tmp_path)
    what.out.mkdir()
    (what.out / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds other files and no study"):
        search(what, trials=1, minutes=None, train=curve)
    (what.out / "tune.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(RunError, match=r"tune\.db cannot be used"):
        search(what, trials=1, minutes=None, train=curve)


def test_weights_of_the_best_trial_only_stay(tmp_path: Path) -> None:
    """A search of many trials does not fill the disk; recipes and logs of all stay."""

    def train(recipe: Recipe, out: Path, after_epoch: Callable[[dict[str, Any]], None]) -> float:
        out.mkdir(parents=True)
        for name in ("last.safetensors", "best.safetensors", "last.state.pt", "log.jsonl"):
            (out / name).write_bytes(b"x")
        return curve(recipe, out, after_epoch)

    what = make(tmp_path, sampler="random", pruner="none")
    rows = search(what, trials=6, minutes=None, train=train)
    best = best_of(rows, TOP1)
    assert best is not None
    kept = [file.parents[1].name for file in what.out.glob("trials/*/run/best.safetensors")]
    assert kept == [f"{best['number']:04d}"]
    assert len(list(what.out.glob("trials/*/run/log.jsonl"))) == 6
    assert len(list(what.out.glob("trials/*/run/last.state.pt"))) == 1
    repeat(open_study(what), what, 1, train)
    assert [file.name for file in what.out.glob("repeats/*/*")] == ["log.jsonl"]


def test_what_the_best_leaves_in_doubt_is_said() -> None:
    """Equals, and all within the interval of 70 of 100: 60.4 to 78.1 %."""
    values = [0.7, 0.7, 0.65, 0.5]
    trials = [{"number": number, "state": "complete", "value": value} for number, value in enumerate(values)]
    known = {"trials": trials, "judged_on": {"pictures": 100, "always": "ant", "trivial": 0.25}}
    assert in_doubt(trials[0], known) == [
        '100 validation pictures: 95 % interval 60.4 to 78.1 %; always "ant" gets 25.0 %',
        "trial 1 reached the same; the first is taken",
        "2 other trials lie within that interval",
    ]
    assert in_doubt(trials[2], {"trials": trials}) == []


def test_the_trivial_answer_of_a_search_is_the_best_one_on_its_validation_pictures(
    write_stripes: Callable[..., Path], tmp_path: Path
) -> None:
    """Two of three validation pictures are wide, most of training is narrow: always "wide" gets 66.7 %."""
    write_stripes(tmp_path / "data" / "train", {"narrow": 6, "wide": 2}, side=16)
    write_stripes(tmp_path / "data" / "val", {"narrow": 1, "wide": 2}, side=16, seed=1)
    what = replace(make(tmp_path), dataset=read_dataset(tmp_path / "data"))
    assert judged_on(what) == {"pictures": 3, "always": "wide", "trivial": pytest.approx(2 / 3)}


def test_the_value_is_that_of_the_average_where_there_is_one() -> None:
    """Of the last epoch, as the search compares runs."""
    assert value_of({"val_top1": 0.5, "ema_val_top1": 0.6}, TOP1) == 0.6
    assert value_of({"val_micro_f1": 0.4}, MICRO_F1) == 0.4


def test_the_page_shows_history_importance_and_repeats(tmp_path: Path) -> None:
    """Figures in the page itself; the rate, which decides here, is what mattered most."""
    what = make(tmp_path, sampler="random", pruner="none")
    search(what, trials=16, minutes=None, train=curve)
    assert "flatters" in write_tune_report(what.out).read_text(encoding="utf-8")
    seeds = []

    def train(recipe: Recipe, out: Path, after_epoch: Callable[[dict[str, Any]], None]) -> float:
        seeds.append(recipe.train.seed)
        return 0.5 + 0.1 * recipe.train.seed

    repeat(open_study(what), what, 1, train)
    values = repeat(open_study(what), what, 2, train)
    assert (seeds, values) == ([1, 2], [0.6, 0.7]), "those that were run are not run again"
    page = write_tune_report(what.out).read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert "What mattered" in page
    assert "65.00 ± 7.07" in page, "mean and deviation of 60 and 70"
    assert "http" not in page
    best = best_of(rows_of(open_study(what)), TOP1)
    search(what, trials=17, minutes=None, train=curve)
    assert best is not None
    known = json.loads((what.out / "tune.json").read_text())
    assert ("repeats" in known) == (known["best"] == best["number"])


def test_the_command_searches_on_real_runs(stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three trials of two epochs, two and then one more: the data is read once a command, the value is the log's, and
    the recipe that is left is complete, and gives the same run again."""
    out, space = tmp_path / "study", tmp_path / "space.toml"
    space.write_text(SPACE)
    command = ["tune", str(stripes), *SETTINGS, "--space", str(space), "--out", str(out), "--pruner", "none"]
    assert main([*command, "--trials", "3", "--resume"]) == 2, "there is nothing to go on with"
    assert main([*command, "--trials", "2"]) == 0
    said = capsys.readouterr()
    assert "best of 2 trials" in said.out
    rows = (out / "trials" / "0000" / "run" / "splits.csv").read_text().splitlines()
    seen = [label for _, split, label in (row.split(",") for row in rows) if split == "val"]
    most = max(("narrow", "wide"), key=seen.count)
    gets = 100 * seen.count(most) / len(seen)
    told = f'{len(seen)} validation pictures: 95 % interval .* always "{most}" gets {gets:.1f} %'
    assert re.search(told, said.out)
    assert "[####################] 2 of 2 trials, the best is" in said.err
    assert said.err.count("reading ") == 1
    assert main([*command, "--trials", "3", "--resume"]) == 0
    known = json.loads((out / "tune.json").read_text())
    for row in known["trials"]:
        log = RunFolder(out / "trials" / f"{row['number']:04d}" / "run").read_log()
        assert row["value"] == value_of(log[-1], TOP1)
        assert row["epochs"] == {str(line["epoch"]): value_of(line, TOP1) for line in log}
    best = known["trials"][known["best"]]
    assert load_complete(out / "best.toml").train.lr == best["params"]["train.lr"]
    run = train_run(stripes, load_recipe(out / "best.toml"), tmp_path / "again")
    assert value_of(run.read_log()[-1], TOP1) == best["value"]
    assert not (out / "trials" / "0000" / "run" / "result.json").exists(), "nothing was judged on the test split"
    assert main(["tune", str(stripes), *SETTINGS]) == 2


def test_what_is_set_on_the_command_line_is_not_varied(stripes: Path, tmp_path: Path) -> None:
    """And a length that is measured is measured once, for all trials; a trial that fails costs only itself."""
    settings = [word for word in SETTINGS if not word.startswith("train.epochs")]
    space = tmp_path / "space.toml"
    space.write_text(SPACE)
    command = ["tune", str(stripes), *settings, "train.minutes=0.001", "augment.mixup=0.2", "--space", str(space)]
    assert main([*command, "--trials", "2", "--out", str(tmp_path / "study")]) == 0
    recipes = [load_complete(file) for file in sorted((tmp_path / "study").glob("trials/*/run/recipe.toml"))]
    assert [recipe.augment.mixup for recipe in recipes] == [0.2, 0.2]
    assert recipes[0].train.lr != recipes[1].train.lr
    assert recipes[0].train.epochs == recipes[1].train.epochs
