"""A second task, made here alone, goes through the whole program: a number is predicted, and less is better."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from sklearn.metrics import mean_absolute_error
from torch import Tensor

import convnext
from convnext.__main__ import main
from convnext.config import load_complete, load_recipe, override
from convnext.errors import RecipeError, RunError, Stopped, UserError, WeightsError
from convnext.evaluate.compare import compare
from convnext.evaluate.evaluate import evaluate_run, judge_run, list_predictions
from convnext.evaluate.predict import to_csv, to_json
from convnext.nn.weights.load import read_header, save_model
from convnext.recipe import Recipe
from convnext.run.folder import RunFolder
from convnext.run.load import load_all
from convnext.study.folds import describe_folds, train_folds
from convnext.study.space import load_space
from convnext.study.subject import Search
from convnext.study.trials import best_of
from convnext.study.tune import load_study, search
from convnext.study.tune_result import in_doubt, read_result
from convnext.tasks.classify.meaning import Classes
from convnext.tasks.classify.targets import ClassTargets
from convnext.tasks.records import Records
from convnext.tasks.score import Score
from convnext.tasks.table import TASKS, task_of
from convnext.tasks.task import Forward, Task
from convnext.train.resume import resume_run
from convnext.train.train import train_run

MAE = Score("mae", "MAE", "mm", higher_is_better=False, baseline="always the median", digits=2)
BIAS = Score("bias", "bias", "mm", higher_is_better=False, digits=2)
SCORES = (MAE, BIAS)


@dataclass(frozen=True)
class Length:
    """What is said of a picture: so many millimetres."""

    path: Path | None
    value: float | None
    error: str = ""
    missing: bool = False

    def cells(self) -> dict[str, object]:
        """One column."""
        return {"value": "" if self.value is None else f"{self.value:.1f}"}

    def fields(self) -> dict[str, Any]:
        """One entry."""
        return {"value": self.value}


class LengthMeaning(Classes):
    """Places in a list of lengths, as the folders are called."""

    def describe(self, dataset: Any) -> dict[str, Any]:
        """The median length to learn from."""
        return {"median": float(np.median([float(self.text(s.target)) for s in dataset.splits["train"]]))}


class LengthTargets(ClassTargets):
    """Folders whose names are numbers."""

    def settle(self, root: Path, listing: Any, reading: Any) -> LengthMeaning:
        """The lengths in order."""
        return LengthMeaning(super().settle(root, listing, reading).classes)


class Lengths:
    """Pictures in folders that are named by a length: a straight line in units of the training lengths' spread."""

    name, outputs, output_names, followed = "length", 1, (), ("mae",)
    scores = compared = SCORES
    won = "nearer to the truth"
    aside = frozenset()

    def __init__(self, lengths: Sequence[float], middle: float, spread: float, width: float | None = None) -> None:
        self.lengths, self.middle, self.spread, self.width = torch.tensor(lengths), middle, spread, width

    def meaning(self, settled: Mapping[str, Any]) -> dict[str, Any]:
        known = {"lengths": self.lengths.tolist(), "middle": self.middle, "spread": self.spread}
        return known | ({} if self.width is None else {"width": self.width}) | dict(settled)

    def told(self) -> dict[str, Any]:
        return {"lengths": self.lengths.tolist(), "middle": self.middle, "spread": self.spread}

    def describe(self) -> str:
        return "length in mm"

    def inform(self, network: Any) -> None:
        """Nothing."""

    def targets(self, truths: Tensor) -> Tensor:
        return ((self.lengths.to(truths.device)[truths] - self.middle) / self.spread)[:, None]

    def losses(self, forward: Forward, pictures: Tensor, targets: Tensor) -> dict[str, Tensor]:
        apart = (forward(pictures).float() - targets).abs()
        return {"loss": apart.mean(), "mae": self.spread * apart.sum()}

    @property
    def encoding(self) -> LengthMeaning:
        return LengthMeaning(tuple(f"{length:g}" for length in self.lengths.tolist()))

    def take(self, dataset: Any, data: Path, source: Path) -> list[str]:
        return []

    def record(self, outputs: Tensor, truths: Tensor) -> Records:
        said = self.middle + self.spread * outputs[:, 0].float().cpu().numpy()
        return Records({"value": said, "truth": self.lengths[truths.clamp(min=0)].numpy()})

    def metrics(self, records: Records) -> dict[str, float]:
        mae = float(self.errors(records).mean())
        return {"loss": mae / self.spread, "mae": mae}

    def settle(self, records: Records) -> dict[str, Any]:
        return {"width": float(np.quantile(self.errors(records), 0.9))}

    def judge(self, records: Records, training: Mapping[str, Any] | None) -> dict[str, Any]:
        found = {
            key: float(values[0]) for key, values in self.resampled(records, [np.arange(len(records))[None]]).items()
        }
        if training is not None:
            found["median_mae"] = float(np.abs(records["truth"] - training["median"]).mean())
        return {"n": len(records), "intervals": {}, **found}

    def trivial(self, dataset: Any, split: str) -> dict[str, Any]:
        return {"median": 0.0}

    def yardstick(self, dataset: Any) -> dict[str, Any]:
        return {"pictures": len(dataset.splits["val"]), "always": "30 mm", "trivial": 15.0}

    def worst(self, records: Records, count: int) -> list[tuple[int, dict[str, Any]]]:
        order = np.argsort(-self.errors(records), kind="stable")[:count]
        return [(int(i), {"truth": f"{records['truth'][i]:.0f} mm"}) for i in order]

    def columns(self) -> list[str]:
        return ["truth", "value"]

    def row(self, records: Records, at: int) -> list[object]:
        return [float(records["truth"][at]), float(records["value"][at])]

    def read(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Records:
        places = {name: header.index(name) for name in ("truth", "value")}
        return Records({name: np.array([float(row[at]) for row in rows]) for name, at in places.items()})

    def answer(self, records: Records, at: int, path: Path | None, top: int) -> Length:
        return Length(path, float(records["value"][at]))

    def no_answer(self, path: Path | None, error: str, missing: bool) -> Length:
        return Length(path, None, error, missing)

    def difference(self, other: Task) -> str:
        return ""

    def as_in(self, other: Task, records: Records) -> Records:
        return records

    def truths(self, records: Records) -> list[str]:
        return [f"{value:g} mm" for value in records["truth"]]

    def errors(self, records: Records) -> NDArray[Any]:
        apart: NDArray[Any] = np.abs(records["value"] - records["truth"])
        return apart

    def resampled(self, records: Records, samples: Iterable[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        apart, rows = records["value"] - records["truth"], np.concatenate(list(samples))
        return {"mae": np.abs(apart)[rows].mean(1), "bias": apart[rows].mean(1)}


TARGETS = LengthTargets()


def for_training(recipe: Recipe, dataset: Any) -> Lengths:
    """As `Kind` has it, like the next three."""
    if not all(name.isdecimal() for name in dataset.classes):
        raise UserError("lengths are numbers")
    seen = [float(dataset.classes[i]) for sample in dataset.splits["train"] for i in sample.target]
    return Lengths([float(name) for name in dataset.classes], float(np.median(seen)), float(np.std(seen)))


def of_meaning(meaning: Mapping[str, Any]) -> Lengths:
    """From a model file."""
    return Lengths(meaning["lengths"], meaning["middle"], meaning["spread"], meaning.get("width"))


of_result = of_meaning


def of_network(network: Any, task: Lengths) -> Lengths:
    """As it was loaded."""
    return task


@pytest.fixture(scope="module")
def _in_the_table() -> Iterable[None]:
    """One line of the table of tasks."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(TASKS, "length", "lengths")
        patched.setitem(sys.modules, "lengths.kind", sys.modules[__name__])
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, _in_the_table: None) -> Path:
    """Folders named by a length: the longer, the brighter the picture."""
    root, rng = tmp_path_factory.mktemp("lengths") / "data", np.random.default_rng(0)
    for length in (10, 20, 30, 60):
        (root / str(length)).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 60, (32, 32, 3)) + 3 * length
            Image.fromarray(pixels.astype(np.uint8)).save(root / str(length) / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """Two epochs of a small network."""
    return load_recipe(None, [
        "task.kind=length", "weights=none", "model.name=convnext_atto", "data.size=32", "model.stem_patch=4",
        "train.batch=8", "train.precision=fp32", "train.epochs=2", "data.workers=0", "train.device=cpu",
        "train.lr=1e-3", "train.warmup_epochs=0", "augment.color_jitter=0", "train.keep_state=true",
    ])  # fmt: skip


@pytest.fixture(scope="module")
def run(data: Path, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Trained and judged."""
    found = train_run(data, recipe, tmp_path_factory.mktemp("run") / "run")
    judge_run(found.path)
    return found


def test_the_best_epoch_is_the_one_with_the_least_error(run: RunFolder) -> None:
    """Chosen by the first score, of model and average; the log has what is followed, and no class anywhere."""
    rows = run.read_log()
    assert len(rows) == 2
    assert all(row["train_mae"] > 0 for row in rows)
    each = [min(row["val_mae"], row["ema_val_mae"]) for row in rows]
    assert [row["best"] for row in rows] == [True, each[1] < each[0]]
    content = torch.load(run.state, weights_only=True)["progress"]
    assert content["best"] == min(each)
    said = " ".join(key for row in rows for key in row)
    assert "top1" not in said
    config = read_header(run.best)[1] or {}
    assert config["task"] == "length"
    assert config["meaning"]["width"] >= 0, "settled on validation"
    assert "classes" not in config


def test_the_words_of_an_epoch_have_the_unit(data: Path, recipe: Recipe, tmp_path: Path, capsys: Any) -> None:
    """And the line that introduces the run says what is asked."""
    train_run(data, override(recipe, {"train.epochs": 1}), tmp_path / "run")
    said = capsys.readouterr().err
    assert "data: length in mm; pictures:" in said
    (line,) = [line for line in said.splitlines() if line.startswith("epoch   1/1")]
    value = RunFolder(tmp_path / "run").read_log()[0]["val_mae"]
    assert f"val MAE {value:.2f} mm" in line
    assert "(MAE " in said
    assert " mm, " in said


def test_a_stopped_run_goes_on_to_the_same_bits(data: Path, recipe: Recipe, run: RunFolder, tmp_path: Path) -> None:
    """One epoch, an interruption and the other epoch give what two epochs give."""

    def stop(row: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Stopped):
        train_run(data, recipe, tmp_path / "run", after_epoch=stop)
    again = resume_run(tmp_path / "run")
    for name in ("last.safetensors", "best.safetensors"):
        old, new = load_file(run.path / name), load_file(again.path / name)
        assert all(torch.equal(old[key], new[key]) for key in old)
    states = [torch.load(r.state, weights_only=True)["progress"] for r in (run, again)]
    assert states[0]["best"] == states[1]["best"]
    again.state.unlink()
    (again.path / "previous.state.pt").unlink(missing_ok=True)
    more = resume_run(again.path, settings=["weights=last", "train.epochs=3"])
    best = min(min(row["val_mae"], row["ema_val_mae"]) for row in more.read_log() if row["best"])
    assert torch.load(more.state, weights_only=True)["progress"]["best"] == best, "from the log alone"


def test_the_verdict_and_the_table_are_the_tasks(run: RunFolder) -> None:
    """MAE is scikit-learn's over predictions.csv, the trivial answer data.json's, and the worst are kept in order."""
    result = json.loads(run.result.read_text())
    with (run.path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "truth", "value"]
    assert all(row["path"].split("/")[0] == f"{float(row['truth']):.0f}" for row in rows)
    truth, value = (np.array([float(row[key]) for row in rows]) for key in ("truth", "value"))
    assert result["task"] == "length"
    assert result["mae"] == pytest.approx(mean_absolute_error(truth, value), rel=1e-6)
    median = json.loads((run.path / "data.json").read_text())["median"]
    assert result["median_mae"] == pytest.approx(np.abs(truth - median).mean())
    kept = json.loads((run.path / "mistakes.json").read_text())
    order = np.argsort(-np.abs(truth - value), kind="stable")
    assert [Path(row["path"]).name for row in kept] == [Path(rows[i]["path"]).name for i in order]
    assert all((run.path / row["picture"]).is_file() for row in kept)
    again = evaluate_run(run.path)
    assert {key: again.result[key] for key in result} == result
    assert list_predictions(again) == (run.path / "predictions.csv").read_text()


def test_predict_says_what_the_task_says(run: RunFolder, data: Path, tmp_path: Path) -> None:
    """An answer for each file, in its own class, column and entry; a broken name has its reason."""
    pictures = sorted(data.rglob("*.png"))[:3]
    found: list[Any] = convnext.predict(run.path, [*pictures, "gone.png"])
    network = load_all(run.path)
    with torch.inference_mode():
        outputs = network.model(network.preprocessing.prepare(pictures))[:, 0]
    meaning = (read_header(network.path)[1] or {})["meaning"]
    expected = meaning["middle"] + meaning["spread"] * outputs.numpy()
    assert [one.value for one in found[:3]] == pytest.approx(expected.tolist(), rel=1e-4)
    header, *rows = list(csv.reader(to_csv(found).splitlines()))
    assert header == ["path", "value", "error"]
    assert [row[1] for row in rows] == [f"{one.value:.1f}" for one in found[:3]] + [""]
    written = json.loads(to_json(found))
    assert [set(entry) for entry in written["predictions"]] == [{"path", "value"}] * 3
    assert written["unreadable"][0]["path"] == "gone.png"
    model = convnext.load(run.path)
    assert repr(model).startswith("<Model convnext_atto, length in mm, ")
    saved = model.save(tmp_path / "model.safetensors")
    assert (read_header(saved)[1] or {})["meaning"] == meaning, "what was settled on validation too"
    again: list[Any] = convnext.predict(saved, pictures)
    assert [one.value for one in again] == [one.value for one in found[:3]]
    assert main(["convert", str(saved), str(tmp_path / "hf.safetensors"), "--to", "transformers"]) == 0
    assert json.loads((tmp_path / "config.json").read_text())["id2label"] == {"0": "LABEL_0"}
    model.network.reset_classifier(2)
    with pytest.raises(UserError, match="2 outputs"):
        model.save(tmp_path / "other.safetensors")


def test_of_two_runs_the_one_with_less_error_is_better(run: RunFolder, tmp_path: Path) -> None:
    """Read back from predictions.csv; a negative difference of the error is an advance, and its unit is said."""
    result = json.loads(run.result.read_text())
    rng, names = np.random.default_rng(1), [f"{i}.png" for i in range(200)]
    truth = rng.choice([10.0, 20.0, 30.0, 60.0], 200)
    runs = []
    for name, noise in (("a", 6.0), ("b", 3.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.toml").write_text("")
        (tmp_path / name / "result.json").write_text(json.dumps(result | {"n": 200, "data_root": str(tmp_path)}))
        rows = [f"{path},{t},{t + e}" for path, t, e in zip(names, truth, rng.normal(0, noise, 200), strict=True)]
        (tmp_path / name / "predictions.csv").write_text("\n".join(["path,truth,value", *rows]) + "\n")
        runs.append(tmp_path / name)
    found = compare(*runs)
    (each,) = found.differences
    assert each.verdict == "better"
    assert each.metrics["mae"]["difference"] < 0
    assert each.metrics["mae"]["interval"][1] < 0
    assert each.won > each.lost
    assert compare(runs[1], runs[0]).differences[0].verdict == "worse"
    said = found.to_text()
    assert "in mm, with 95 % intervals" in said
    assert "nearer to the truth on" in said
    assert f"{found.scores[0]['mae']:.2f} mm" in said
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "recipe.toml").write_text("")
    other = {"n": 1, "split": "test", "data_root": str(tmp_path), "per_class": [{"name": "x"}, {"name": "y"}]}
    (tmp_path / "c" / "result.json").write_text(json.dumps(other))
    (tmp_path / "c" / "predictions.csv").write_text("path,truth,named,p_x,p_y\na.png,x,x,1,0\n")
    with pytest.raises(RunError, match="one is of the task length, the other of classify"):
        compare(runs[0], tmp_path / "c")


def test_a_search_looks_for_the_least_error(data: Path, recipe: Recipe, tmp_path: Path) -> None:
    """The best trial is the one with the lowest value; the study says so itself, and its words have the unit."""
    space = tmp_path / "space.toml"
    space.write_text('["train.lr"]\nchoices = [1e-7, 1e-3]\n')
    short = override(recipe, {"train.epochs": 1})
    what = Search(data, short, load_space(space, short), tmp_path / "study", "grid", "median")
    rows = search(what, trials=2, minutes=None)
    values = [row["value"] for row in rows]
    best = best_of(rows, MAE)
    assert best is not None
    assert best["value"] == min(values) < max(values)
    study = load_study(tmp_path / "study")
    assert study.direction.name == "MINIMIZE"
    assert study.best_value == min(values)
    known = read_result(tmp_path / "study")
    assert known["best"] == best["number"]
    assert (
        in_doubt(best, known)[0]
        == f'{known["judged_on"]["pictures"]} validation pictures: always "30 mm" gets 15.00 mm'
    )
    assert f"validation {best['value']:.2f} mm" in (tmp_path / "study" / "best.toml").read_text()
    assert load_complete(tmp_path / "study" / "best.toml").train.lr == best["params"]["train.lr"]
    search(what, trials=2, minutes=None)  # it is the same study


def test_folds_have_the_tasks_scores(data: Path, recipe: Recipe, tmp_path: Path) -> None:
    """Mean and spread over the folds, and the verdict over all pictures at once."""
    summary = train_folds(data, override(recipe, {"train.epochs": 1}), tmp_path / "folds", 2)
    assert summary["task"] == "length"
    assert summary["out_of_fold"]["n"] == 48
    assert summary["metrics"]["mae"]["mean"] == pytest.approx(np.mean([row["mae"] for row in summary["runs"]]))
    assert "median_mae" not in summary["out_of_fold"], "each fold was trained on other pictures"
    said = describe_folds(summary)
    assert f"{summary['metrics']['mae']['mean']:.2f} mm" in said
    assert "%" not in said.replace("95 %", "")


def test_what_no_task_can_take_is_refused(run: RunFolder, data: Path, recipe: Recipe, tmp_path: Path) -> None:
    """A task that is none, data that do not fit, and a model file that says something else than its task wrote."""
    with pytest.raises(RecipeError, match=r'task.kind = "lenght": it is one of .*; did you mean "length"'):
        train_run(data, override(recipe, {"task.kind": "lenght"}), tmp_path / "run")
    state, config = load_file(run.best), read_header(run.best)[1] or {}
    for number, (changed, said) in enumerate((
        ({"task": "weight"}, "which this version does not have"),
        ({"meaning": {"lengths": [1.0]}}, "does not say what its outputs mean"),
        ({"meaning": 3}, "must be a table"),
        ({"classes": ["a"]}, "a field that is not known here: 'classes'"),
    )):  # fmt: skip
        save_model(tmp_path / f"{number}.safetensors", state, config | changed)
        with pytest.raises(WeightsError, match=said):
            load_all(tmp_path / f"{number}.safetensors")
    two = {"meaning": config["meaning"], "model": config["model"] | {"num_classes": 2}}
    wide = {key: torch.cat([tensor, tensor]) if key.startswith("head.") else tensor for key, tensor in state.items()}
    save_model(tmp_path / "two.safetensors", wide, config | two)
    with pytest.raises(WeightsError, match="its network has 2 outputs, its task 1"):
        load_all(tmp_path / "two.safetensors")


def test_the_toy_is_a_task(data: Path, recipe: Recipe) -> None:
    """It has every member that the protocol asks for."""
    from convnext.tasks.classify.targets import read_dataset

    task = task_of(recipe, read_dataset(data))
    members = {name for name in vars(Task) if not name.startswith("_")}
    assert {name for name in members if not hasattr(task, name)} == set()
