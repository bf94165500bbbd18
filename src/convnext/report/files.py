"""Gathers a run folder's small files for the report. Only the recipe is required: a young run has little else."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convnext.errors import RunError
from convnext.run.folder import RunFolder, open_run
from convnext.toml_file import NoToml, parse_toml

Json = dict[str, Any]


@dataclass(frozen=True)
class RunFiles:
    """What a run folder holds; a file that is not there yet is an empty value."""

    folder: Path
    recipe_text: str = ""
    recipe: Json = field(default_factory=dict)
    environment: Json = field(default_factory=dict)
    data: Json = field(default_factory=dict)
    plan: list[Json] = field(default_factory=list)
    log: list[Json] = field(default_factory=list)
    result: Json = field(default_factory=dict)
    mistakes: list[Json] = field(default_factory=list)
    batch_labels: list[Any] = field(default_factory=list)

    @property
    def multi_label(self) -> bool:
        """Whether a picture can have several classes, or none."""
        return bool(self.result.get("multi_label", self.data.get("multi_label", False)))

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the model's outputs."""
        names = self.data.get("classes") or [row.get("name", "") for row in self.result.get("per_class") or []]
        return [str(name) for name in names]

    @property
    def data_root(self) -> str:
        """The data's folder or table as it was given to `convnext train`."""
        given = (self.recipe.get("data") or {}).get("root")
        return str(given or self.result.get("data_root") or self.data.get("root") or "")

    @property
    def epochs(self) -> tuple[int, int]:
        """Epochs that are done, and epochs that were planned."""
        if not self.log:
            return 0, 0
        done = int(self.log[-1]["epoch"])
        return done, int(self.log[-1].get("epochs") or done)


def read_run(folder: Path) -> RunFiles:
    """Read a run folder.

    Raises:
        RunError: not a run folder, or one of its files is damaged.
    """
    run = open_run(folder)
    text, recipe = _read_recipe(run)
    return RunFiles(
        folder=folder,
        recipe_text=text,
        recipe={key: value if isinstance(value, dict) or key == "weights" else {} for key, value in recipe.items()},
        environment=run.read_table("environment.json") or {},
        data=run.read_table("data.json") or {},
        plan=_read_rows(run, "plan.json"),
        log=run.read_log(),
        result=run.read_table("result.json") or {},
        mistakes=_read_rows(run, "mistakes.json"),
        batch_labels=list((run.read_table("batch.json") or {}).get("labels") or []),
    )


def for_result(place: Path, result: Json) -> RunFiles:
    """What belongs to a result that was just found: the files of its run, or none for a weight file."""
    run = RunFiles(place) if place.is_file() else read_run(place)
    classes = [row["name"] for row in result["per_class"]]
    data = run.data | {"classes": classes}
    recipe = run.recipe | {"data": (run.recipe.get("data") or {}) | {"root": result["data_root"]}}
    return replace(run, result=result, data=data, recipe=recipe)


def _read_recipe(run: RunFolder) -> tuple[str, Json]:
    path, text = run.recipe, run.read_text(run.recipe.name) or ""
    try:
        return text, parse_toml(text.encode())
    except NoToml as error:
        raise RunError(f"{path} {error}. Mend it, or restore it from a copy") from None


def _read_rows(run: RunFolder, name: str) -> list[Json]:
    rows: list[Json] = run.read_json(name) or []
    return rows
