"""Gathers a run folder's small files for the report. Only the recipe is required: a young run has little else."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field, replace
from pathlib import Path

from convnext.errors import RunError
from convnext.run.folder import RunFolder, open_run
from convnext.tasks.reporting import Json, RunTables
from convnext.toml_file import NoToml, parse_toml


@dataclass(frozen=True)
class RunFiles(RunTables):
    """What a run folder holds; a file that is not there yet is an empty value."""

    folder: Path
    recipe_text: str = field(default="", kw_only=True)
    environment: Json = field(default_factory=dict, kw_only=True)

    def predictions(self) -> list[dict[str, str]]:
        """The rows of predictions.csv by their columns; none where there is no file.

        Raises:
            RunError: it cannot be read, or is no table.
        """
        text = RunFolder(self.folder).read_text("predictions.csv")
        try:
            header, *rows = csv.reader(io.StringIO(text or "path\n", newline=""), strict=True)
            return [dict(zip(header, row, strict=True)) for row in rows]
        except (csv.Error, ValueError) as error:
            table = self.folder / "predictions.csv"
            again = "Remove it and result.json: `convnext train --resume --out RUN` judges the run again"
            raise RunError(f"{table} is damaged or was edited ({error}). {again}") from None


def read_run(folder: Path) -> RunFiles:
    """Read a run folder.

    Raises:
        RunError: not a run folder, or one of its files is damaged.
    """
    run = open_run(folder)
    text, recipe = _read_recipe(run)
    young = RunFiles(
        folder=folder,
        recipe_text=text,
        recipe={key: value if isinstance(value, dict) or key == "weights" else {} for key, value in recipe.items()},
        environment=run.read_table("environment.json") or {},
        plan=_read_rows(run, "plan.json"),
        log=run.read_log(),
        result=run.read_table("result.json") or {},
        batch=run.read_table("batch.json") or {},
    )
    task = young.task  # which words the page will have, whatever each file says that it is of
    return replace(
        young,
        result=run.read_table("result.json", task) or {},
        data=run.read_table("data.json", task) or {},
        mistakes=_read_rows(run, "mistakes.json", task),
    )


def for_result(place: Path, result: Json) -> RunFiles:
    """What belongs to a result that was just found: the files of its run, or none for a weight file."""
    run = RunFiles(place) if place.is_file() else read_run(place)
    recipe = run.recipe | {"data": (run.recipe.get("data") or {}) | {"root": result["data_root"]}}
    return replace(run, result=result, recipe=recipe)


def _read_recipe(run: RunFolder) -> tuple[str, Json]:
    path, text = run.recipe, run.read_text(run.recipe.name) or ""
    try:
        return text, parse_toml(text.encode())
    except NoToml as error:
        raise RunError(f"{path} {error}. Mend it, or restore it from a copy") from None


def _read_rows(run: RunFolder, name: str, task: str = "") -> list[Json]:
    rows: list[Json] = run.read_json(name, task) or []
    return rows
