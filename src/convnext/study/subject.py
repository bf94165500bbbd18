"""What a search is of: data, recipe, keys that are varied, and how they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convnext.config import as_dict
from convnext.data.sources.dataset import Dataset
from convnext.recipe import Recipe
from convnext.study.space import Knob
from convnext.tasks.table import asked, task_of
from convnext.tasks.task import Score

WHERE = (
    "data.root", "data.workers", "data.cache_gb", "data.disk_cache_gb", "train.device", "train.save_every",
    "train.keep_last", "train.keep_state",
)  # fmt: skip
"""Keys that say where a trial runs, not what it gives: processes of one study may differ in them."""


@dataclass(frozen=True)
class Search:
    """What is searched, and how.

    Attributes:
        data: image folder or table, or shards.
        recipe: what is not varied.
        knobs: what is.
        out: folder of the study.
        sampler: one of `samplers.SAMPLERS`.
        pruner: one of `samplers.PRUNERS`.
        seed: of the sampler; the runs have the recipe's.
        dataset: what lies in `data`, once it was read.
    """

    data: Path
    recipe: Recipe
    knobs: tuple[Knob, ...]
    out: Path
    sampler: str = "tpe"
    pruner: str = "median"
    seed: int = 0
    dataset: Dataset | None = None

    @property
    def score(self) -> Score:
        """By what trials are compared: the first score of the task, as far as it follows from what is known."""
        if self.dataset is None:
            return asked(self.recipe).SCORES[0]
        return task_of(self.recipe, self.dataset).scores[0]

    def identity(self) -> dict[str, Any]:
        """By what a study is known: data, recipe and space."""
        recipe = {f"{table}.{key}": value for table, inner in as_dict(self.recipe).items() if isinstance(inner, dict)
                  for key, value in inner.items()} | {"weights": self.recipe.weights}  # fmt: skip
        varied = {knob.key for knob in self.knobs}
        kept = {key: value for key, value in recipe.items() if key not in varied and key not in WHERE}
        space = {knob.key: {k: v for k, v in knob.__dict__.items() if k != "key"} for knob in self.knobs}
        data = str(self.data.absolute()) if self.dataset is None else self.dataset.fingerprint()
        identity: dict[str, Any] = json.loads(json.dumps({"data": data, "recipe": kept, "space": space}))
        return identity | {"grid": self.sampler == "grid"}
