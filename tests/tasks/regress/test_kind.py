"""How a regression comes about: from a recipe, from what a model file says, and what cannot be one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convnext.__main__ import main
from convnext.config import override
from convnext.data.sources.dataset import Dataset
from convnext.data.sources.open import open_data
from convnext.data.sources.reading import Reading
from convnext.errors import RecipeError, UserError
from convnext.recipe import Recipe
from convnext.study.space import MEASURE
from convnext.tasks.regress.kind import for_training, of_meaning
from convnext.tasks.regress.meaning import values_of
from convnext.tasks.table import decided, targets_of


@pytest.fixture(scope="module")
def data(table: Path, recipe: Recipe) -> Dataset:
    """The table, read once."""
    recipe = decided(recipe, table)
    return open_data(table, Reading.of(recipe.data), targets_of(recipe))


@pytest.mark.parametrize("loss", ["l1", "huber", "mse", "gaussian", "distribution", "ordinal"])
def test_a_model_file_reads_outputs_as_training_did(data: Dataset, recipe: Recipe, loss: str) -> None:
    """Of every loss: through JSON, the same values, spreads and standardised truths, to the bit."""
    task = for_training(override(recipe, {"task.loss": loss}), data)
    again = of_meaning(json.loads(json.dumps(task.meaning({}))))
    outputs = torch.randn(8, task.outputs, generator=torch.Generator().manual_seed(0))
    truth = torch.linspace(20, 80, 8, dtype=torch.float64)[:, None]
    old, new = (one.record(outputs, truth) for one in (task, again))
    assert old.columns.keys() == new.columns.keys()
    assert all(np.array_equal(old[key], new[key]) for key in old.columns)
    assert ("spread" in old) == (loss in ("gaussian", "distribution", "ordinal"))


def test_on_a_log_scale_intervals_are_lopsided_and_above_0(table: Path, recipe: Recipe) -> None:
    """From the record to the words: factors on either side of the answer, with its low end above 0."""
    recipe = decided(override(recipe, {"task.scale": "log"}), table)
    task = for_training(recipe, open_data(table, Reading.of(recipe.data), targets_of(recipe)))
    calibration = {"level": 0.9, "pictures": 20, "absolute": 1.0, "scaled": None}
    again = of_meaning(task.meaning({"calibration": [calibration]}))
    (said,) = again.estimates(again.record(torch.zeros(1, 1), torch.full((1, 1), torch.nan)), 0)
    assert said.low is not None
    assert said.high is not None
    assert 0 < said.low < said.value < said.high
    assert said.high / said.value == pytest.approx(said.value / said.low)
    assert said.high / said.value == pytest.approx(np.exp(task.scaling.deviation[0]))
    assert " to " in said.text


def test_targets_are_standardised_by_the_training_pictures_alone(data: Dataset, recipe: Recipe) -> None:
    """Mean 0 and deviation 1 over them, by NumPy; the other splits have no say; a missing value stays NaN."""
    task = for_training(recipe, data)
    train = values_of(data, "train")
    aims = task.targets(torch.from_numpy(train)).numpy()
    np.testing.assert_allclose(aims, (train - train.mean()) / train.std(), rtol=1e-5, atol=1e-6)
    assert task.targets(torch.full((2, 1), torch.nan, dtype=torch.float64)).isnan().all()


def test_rare_values_weigh_more_where_that_is_wished(recipe: Recipe, data: Dataset) -> None:
    """With task.balance the loss of an error on the rarest value is larger than on the commonest; without it equal."""
    plain, balanced = (for_training(override(recipe, {"task.balance": b, "task.loss": "l1"}), data) for b in (0, 1))
    values = values_of(data, "train")[:, 0]
    counts, edges = np.histogram(values, 10)
    middles = (edges[1:] + edges[:-1]) / 2
    found: dict[Any, float] = {}
    for name, task in (("plain", plain), ("balanced", balanced)):
        for which, at in (("rare", counts.argmin()), ("common", counts.argmax())):
            aims = task.targets(torch.tensor([[middles[at]]], dtype=torch.float64))
            found[name, which] = task.losses(lambda x: x, aims + 1, aims)["loss"].item()  # an error of one deviation
    assert found["plain", "rare"] == pytest.approx(found["plain", "common"])
    assert found["balanced", "rare"] > found["balanced", "common"]


def test_what_is_for_classes_is_refused(
    data: Dataset, recipe: Recipe, table: Path, tmp_path: Path, capsys: Any
) -> None:
    """Class balance, with the key that does it for numbers; and shards, which hold classes."""
    with pytest.raises(RecipeError, match=r"no classes in a regression; task\.balance=0\.5"):
        for_training(override(recipe, {"train.class_balance": 0.5}), data)
    assert main(["data", "shard", str(table), str(tmp_path / "shards"), 'data.ignore_columns=["size"]']) == 2
    assert "shards hold classes, and no numbers" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "shards").exists()


def test_a_network_with_another_head_is_no_regression_any_more(data: Dataset, recipe: Recipe) -> None:
    """Nobody said what its outputs mean; and no search varies what a trial is judged on."""
    from convnext.tasks.regress.kind import of_network

    task = for_training(recipe, data)
    network: Any = type("Head", (), {"num_classes": 7})()
    with pytest.raises(UserError, match="the network has 7 outputs now"):
        of_network(network, task)
    assert {"task.kind", "task.targets", "task.unit", "task.range", "task.coverage"} <= set(MEASURE)


@pytest.mark.parametrize("broken", [
    {"loss": "none"}, {"scaling": {}}, {"within": []}, {"coverage": 2}, {"calibration": [{}]}, {"seen": [[1]]},
])  # fmt: skip
def test_a_file_that_says_something_else_is_refused(data: Dataset, recipe: Recipe, broken: dict[str, Any]) -> None:
    """By a ValueError, KeyError or TypeError, which loading tells as a damaged description."""
    meaning = for_training(recipe, data).meaning({})
    with pytest.raises((ValueError, KeyError, TypeError)):
        of_meaning(meaning | broken)
