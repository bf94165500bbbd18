"""One tester over the tasks of the table: what a task says of itself agrees, wherever it is said."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from convnext.metrics.intervals import resamples
from convnext.tasks.classify.multi import MultiLabel
from convnext.tasks.classify.single import SingleLabel
from convnext.tasks.records import Records, joined
from convnext.tasks.regress.bins import Bins
from convnext.tasks.regress.conformal import Calibration
from convnext.tasks.regress.kind import loss_of
from convnext.tasks.regress.regressor import Regressor
from convnext.tasks.regress.scaling import Scaling, Target
from convnext.tasks.table import TASKS, kind_of, of_model_file, of_result, to_model_file
from convnext.tasks.task import Task

N = 60
CLASSES = ("a", "b, too", "c|d", "=e", "f", "g", "h")


@dataclass(frozen=True)
class Example:
    """A task, truths of N pictures, and what data.json would say of the training pictures."""

    task: Task
    truths: Tensor
    training: dict[str, object]


_DRAW = torch.Generator().manual_seed(0)
_LABELS = (torch.rand(N, 3, generator=_DRAW) < 0.4).float()
_NUMBERS = 50 + 20 * torch.randn(N, 2, generator=_DRAW, dtype=torch.float64)


def _regressor(names: tuple[str, ...], loss: str, level: float = 0.0) -> Regressor:
    """Numbers about 50 with a deviation of 20; with intervals where there is a level."""
    t = len(names)
    scaling = Scaling(tuple(Target(name, "mm") for name in names), (50.0,) * t, (20.0,) * t)
    calibrations = (Calibration(level, 30, 1.0, 1.2),) * t if level else ()
    return Regressor(
        scaling, loss_of(loss, Bins((-3.0,) * t, (3.0,) * t, 20)), loss, level=level, within=((2.0, 5.0),) * t,
        seen=((0.0, 100.0),) * t, calibrations=calibrations,
    )  # fmt: skip


EXAMPLES = {
    "two": Example(SingleLabel(CLASSES[:2]), torch.randint(0, 2, (N,), generator=_DRAW), {"majority": [0]}),
    "seven": Example(SingleLabel(CLASSES, 0.1), torch.randint(0, 7, (N,), generator=_DRAW), {"majority": [1]}),
    "labels": Example(MultiLabel(("a", "b, too", "=c")), _LABELS, {"majority": [0, 2]}),
    "number": Example(_regressor(("a",), "l1"), _NUMBERS[:, :1], {}),
    "numbers": Example(_regressor(("a", "b, too"), "gaussian", 0.8), _NUMBERS, {"targets": {}}),
    "distributions": Example(_regressor(("a",), "distribution", 0.8), _NUMBERS[:, :1], {}),
    "thresholds": Example(
        MultiLabel(("a", "b, too", "=c"), thresholds=(0.3, 0.5, 0.7), chosen=("f1", (1,))), _LABELS, {"majority": []}
    ),
}
"""At least one for each task of the table."""


@pytest.fixture(params=EXAMPLES)
def example(request: pytest.FixtureRequest) -> Example:
    """Each in turn."""
    return EXAMPLES[request.param]


@pytest.fixture
def records(example: Example) -> Records:
    """Of outputs that are somewhat right, in two batches."""
    outputs = torch.randn(N, example.task.outputs, generator=torch.Generator().manual_seed(1))
    if example.truths.ndim == 1 and example.task.name == "classify":
        outputs[torch.arange(N), example.truths] += 1.0
    halves = [(outputs[: N // 2], example.truths[: N // 2]), (outputs[N // 2 :], example.truths[N // 2 :])]
    return joined([example.task.record(some, truths) for some, truths in halves])


def test_every_task_of_the_table_has_an_example() -> None:
    """By name; each has all that the protocol asks for, and every score of it is one of its kind."""
    assert {example.task.name for example in EXAMPLES.values()} == set(TASKS)
    members = {name for name in vars(Task) if not name.startswith("_")}
    for example in EXAMPLES.values():
        task = example.task
        assert {name for name in members if not hasattr(task, name)} == set()
        keys = {score.key for score in kind_of(task.name).SCORES}
        assert {score.key for score in (*task.scores, *task.compared)} <= keys
        assert task.compared[0] == task.scores[0], "the score that settles a comparison is the one that chooses"
        assert kind_of(task.name).SCORES[0].higher_is_better == task.scores[0].higher_is_better


def test_the_loss_is_learnt_from_and_what_is_followed_are_sums(example: Example) -> None:
    """Gradients reach the outputs; batches of other sizes weigh as their pictures; what is followed can be counted."""
    task, network = example.task, torch.nn.Linear(8, example.task.outputs)
    x, targets = torch.randn(N, 8, generator=torch.Generator().manual_seed(2)), task.targets(example.truths)
    whole = task.losses(network, x, targets)
    whole["loss"].backward()
    assert network.weight.grad is not None
    assert network.weight.grad.abs().sum() > 0
    assert whole["loss"].dtype == torch.float32
    parts = [task.losses(network, x[a:b], targets[a:b]) for a, b in ((0, 20), (20, N))]
    mean = (20 * parts[0]["loss"] + (N - 20) * parts[1]["loss"]) / N
    torch.testing.assert_close(mean, whole["loss"])
    for key in whole.keys() - {"loss"}:
        assert key in task.followed
        torch.testing.assert_close(parts[0][key] + parts[1][key], whole[key])


def test_a_verdict_has_the_scores_and_is_the_logs_number(example: Example, records: Records) -> None:
    """Every score is a number of the verdict, the first one also of an epoch, and of no other order of the pictures."""
    task = example.task
    result, logged = task.judge(records, example.training), task.metrics(records)
    assert result["n"] == N
    assert all(np.isfinite(result[score.key]) for score in task.scores)
    first = task.scores[0].key
    assert logged[first] == pytest.approx(result[first])
    assert np.isfinite(logged["loss"])
    again = records.at(np.random.default_rng(0).permutation(N))
    assert task.judge(again, example.training)[first] == pytest.approx(result[first])
    whole = task.judge(records, None)
    assert whole[first] == result[first], "of several models, nothing of whose training is known"


def test_what_is_compared_is_what_is_judged(example: Example, records: Records) -> None:
    """On all pictures once the compared scores are the verdict's; a run neither wins nor loses against itself."""
    task, result = example.task, example.task.judge(records, example.training)
    chunks = [np.arange(N)[None], *resamples(N, 30, 0)]
    values = task.resampled(records, chunks)
    for score in task.compared:
        assert values[score.key].shape == (31,)
        assert values[score.key][0] == pytest.approx(result[score.key])
        assert values[score.key][1:].std() > 0
    assert task.errors(records).shape == (N,)
    assert task.difference(task) == ""
    same = task.as_in(task, records)
    assert task.truths(same) == task.truths(records)
    assert np.array_equal(task.errors(same), task.errors(records))


def test_predictions_are_read_as_they_were_written(example: Example, records: Records) -> None:
    """Through CSV: the same truths, errors and scores, to the last digit that the table has."""
    task, text = example.task, io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", *task.columns()])
    writer.writerows([f"{at}.jpg", *task.row(records, at)] for at in range(N))
    header, *rows = csv.reader(io.StringIO(text.getvalue()))
    again = task.read(header, rows)
    assert task.truths(again) == task.truths(records)
    assert np.array_equal(task.errors(again), task.errors(records))
    whole = [np.arange(N)[None]]
    for score in task.compared:
        old, new = (task.resampled(of, whole)[score.key][0] for of in (records, again))
        assert new == pytest.approx(old, abs=1e-6)
    with pytest.raises(ValueError, match="truth"):
        task.read([name for name in header if not name.startswith("truth")], rows)


def test_files_say_what_the_task_is(example: Example, records: Records) -> None:
    """A model file and a verdict, through JSON, give a task that writes, judges and describes as this one does."""
    task = example.task
    config = json.loads(json.dumps(to_model_file(task, {})))
    result = json.loads(json.dumps(task.judge(records, example.training) | {"task": task.name} | task.told()))
    for again in (of_model_file(config, "a file"), of_result(result)):
        assert (again.name, again.outputs, again.output_names) == (task.name, task.outputs, task.output_names)
        assert again.scores == task.scores
        assert again.describe() == task.describe()
        assert again.columns() == task.columns()
        assert [again.row(records, at) for at in range(N)] == [task.row(records, at) for at in range(N)]
        assert again.metrics(records) == task.metrics(records)
    settled = task.settle(records)
    assert json.loads(json.dumps(to_model_file(task, settled))) != {}
    of_model_file(json.loads(json.dumps(to_model_file(task, settled))), "a file")
    assert to_model_file(of_model_file(config, "a file"), {}) == config


def test_an_answer_fills_its_cells_whoever_else_is_there(example: Example, records: Records) -> None:
    """No cell of a picture that cannot be read is a column that an answer lacks; its path and reason are kept."""
    task, path = example.task, Path("a.jpg")
    good, bad = task.answer(records, 3, path, 2), task.no_answer(path, "a reason", True)
    assert (good.path, good.error, good.missing) == (path, "", False)
    assert (bad.path, bad.error, bad.missing) == (path, "a reason", True)
    assert list(bad.cells()) == list(good.cells())[: len(bad.cells())]
    assert set(map(str, bad.cells().values())) <= {""}
    assert json.loads(json.dumps(good.fields())) != {}


def test_the_worst_are_wrong_and_few(example: Example, records: Records) -> None:
    """None twice, none that is right, no more than asked for; each with its truth first."""
    task = example.task
    found, errors = task.worst(records, 10), task.errors(records)
    rows = [at for at, _ in found]
    assert 0 < len(rows) <= 10
    assert len(set(rows)) == len(rows)
    assert all(errors[at] > 0 for at in rows)
    assert all(next(iter(row)) == "truth" for _, row in found)
    assert task.worst(records, 0) == []
