"""Which column of a table holds what: as it is said, as it is called, or a refusal that names the setting.

A name is looked for as it is written, then in any case. What other tools call a column (`file_name`, `class`) is never
taken unasked: the message names the setting that does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

from convnext.config import override, parse_settings, setting_text
from convnext.data.names import did_you_mean, listed, printable
from convnext.errors import DataError, RecipeError
from convnext.recipe import DataRecipe, Recipe

SPLIT = "split"
"""The name of the column of splits where nobody names another: then one that is called otherwise is recognised too."""

PATH_NAMES = (
    "path", "file_path", "filepath", "image_path", "img_path", "imagepath", "picture_path", "file_name", "filename",
    "fname", "file", "files", "image_file", "image_filename", "image_name", "imagename", "img_name", "image", "images",
    "img", "picture", "photo", "pic", "image_id", "imageid", "img_id", "id_code", "url", "uri", "ft",
)  # fmt: skip
"""What people call the column of the files, the clearest first."""
LABEL_NAMES = (
    "label", "labels", "class", "classes", "class_name", "classname", "class_label", "label_name", "target", "targets",
    "category", "categories", "category_name", "tag", "tags", "y", "species", "breed", "diagnosis", "dx", "type",
    "kind", "name", "class_id", "label_id", "category_id", "ground_truth", "gt", "annotation", "answer",
)  # fmt: skip
"""What people call the column of the classes, the clearest first."""


@dataclass(frozen=True)
class Columns:
    """What a user says about the columns of a table; see `recipe.DataRecipe` for each.

    Attributes:
        path: holds the files.
        label: holds the classes; or, several names joined by a comma, the 0/1 columns of the classes.
        split: "" for none; "split" for one that is called so, or recognised; or a name, or several joined by a comma.
        group: "" for none.
        ignore: columns that mean nothing for training.
        separator: between several labels of one cell: "none", "space", "json", the sign, or "" where nobody says.
        val_fold: the fold that validates, of a column or of folders of folds.
        test_fold: the fold that is tested on.
        settled: a run was trained with these words: nothing further is refused, and nothing further is recognised.
    """

    path: str = "path"
    label: str = "label"
    split: str = SPLIT
    group: str = ""
    ignore: tuple[str, ...] = ()
    separator: str = ""
    val_fold: str = ""
    test_fold: str = ""
    settled: bool = False


def columns_of(data: DataRecipe, *, settled: bool = False) -> Columns:
    """What a recipe says about columns."""
    return Columns(
        data.path_column, data.label_column, data.split_column, data.group_column, data.ignore_columns,
        data.label_separator, str(data.val_fold), str(data.test_fold), settled,
    )  # fmt: skip


_SETTINGS = {
    f"data.{name}": name
    for name in (
        "path_column", "label_column", "label_separator", "split_column", "val_fold", "test_fold", "group_column",
        "ignore_columns",
    )
}  # fmt: skip
"""The keys of a recipe that say something about columns."""


def foreign_columns(data: DataRecipe) -> DataRecipe:
    """What a run's recipe says of another table than its own: the names, not the folds and groups."""
    return replace(data, val_fold="", test_fold="", group_column="", ignore_columns=())


def with_columns(data: DataRecipe, settings: Sequence[str]) -> DataRecipe:
    """The recipe with some of these keys set by `key=value`.

    Raises:
        RecipeError: another key, or a value that breaks its rule.
    """
    values = parse_settings(settings)
    for key in values:
        if key not in _SETTINGS:
            raise RecipeError(f"{key}: what may be set here is {listed(_SETTINGS)}; the run has its own recipe")
    return override(Recipe(data=data), values).data


def said_columns(data: DataRecipe) -> list[str]:
    """The settings, as `key=value`, by which a table is read as this recipe reads it; those left at their defaults are
    not among them."""
    usual = DataRecipe()
    names = [name for name in _SETTINGS.values() if getattr(data, name) != getattr(usual, name)]
    return [f"data.{name}={setting_text(getattr(data, name))}" for name in names]


def key_of(column: str) -> str:
    """A column's name for comparisons: composed, in one case, `_` for what joins words (`Is Valid`, `isValid`)."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", unicodedata.normalize("NFC", column).strip())
    return re.sub(r"[\s_.:/-]+", "_", words).strip("_").casefold()


def find(columns: Sequence[str], wanted: str) -> str | None:
    """The column of that name: as it is written, else the only one that differs in case alone."""
    if wanted in columns:
        return wanted
    close = {name for name in columns if name.casefold() == wanted.casefold()}
    return close.pop() if len(close) == 1 else None


def require(
    table: Path,
    columns: Sequence[str],
    wanted: str,
    setting: str,
    names: Sequence[str] = (),
    taken: Collection[str] = (),
) -> str:
    """The column of that name.

    Args:
        table: the file, for messages.
        columns: all that it has.
        wanted: the name looked for.
        setting: the key of the recipe that names this column; of a list with brackets, as `task.targets=[]`.
        names: what other tools call it.
        taken: columns that hold something else, and are not to be proposed.

    Raises:
        DataError: there is none, or there are two.
    """
    found = find(columns, wanted)
    if found is None:
        raise DataError(
            f'{printable(table)}: no column "{printable(wanted)}"{_remedy(columns, wanted, setting, names, taken)}'
        )
    if columns.count(found) > 1:
        raise DataError(f'{printable(table)}: {columns.count(found)} columns are called "{found}": keep one of them')
    return found


def _remedy(columns: Sequence[str], wanted: str, setting: str, names: Sequence[str], taken: Collection[str]) -> str:
    keys = {key_of(name): name for name in reversed(columns) if name and name not in taken}
    likely = next((keys[name] for name in names if name in keys), None)
    there = listed(name for name in columns if name)
    hint = did_you_mean(wanted, columns if likely is None else [likely])
    name, key = likely or "NAME", setting.removesuffix("=[]")
    example = quote(f"{key}={name}" if key == setting else f'{key}=["{name}"]')
    return f"{hint}; its columns are {there}: say which one it is, as {example}, or rename it"
