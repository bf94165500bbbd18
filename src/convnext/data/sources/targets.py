"""How what pictures are paired with is found: a task hands this down to data/, which never imports a task.

data/ lists, checks, splits and loads pictures; what it must know of their targets it asks here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from convnext.data.doctor.findings import Finding, Overview, Picture
from convnext.data.sources.check import Facts
from convnext.data.sources.columns import Columns
from convnext.data.sources.dataset import Dataset
from convnext.data.sources.listing import Entry, Listing
from convnext.data.sources.reading import Reading
from convnext.data.sources.rows import Row
from convnext.data.sources.target import Meaning, Told
from convnext.recipe import TaskRecipe


class Targets(Protocol):
    """How a task's targets are found, and refused."""

    expected: str
    """What a data set must look like, for messages."""
    noun: str
    """What the targets are called, in the plural: "labels"."""
    unpackable: str
    """Why they cannot be packed into shards, and what to do; "" where they can."""

    @property
    def asked(self) -> bool:
        """Whether a setting of the recipe, other than the name of the task, can mean no other targets than these."""
        ...

    def for_recipe(self, task: TaskRecipe) -> Targets:
        """The same as a recipe asks for them."""
        ...

    def for_model(self, meaning: Meaning) -> Targets:
        """The same as a model asks for them, whose targets mean that: other data are read for it."""
        ...

    def claim(self, table: Path, columns: Sequence[str], rows: Sequence[Row], spec: Columns) -> int:
        """Whether a table asks for such targets, where nobody says what is asked.

        2 where the recipe names them, 1 where a column is called and filled as they are, else 0. Raises DataError where
        a column may mean something else too.
        """
        ...

    def in_folder(self, root: Path, reading: Reading) -> Listing:
        """The pictures of a data set in folders. Raises DataError where folders are not laid out as they should be."""
        ...

    def named(self, columns: Sequence[str], spec: Columns) -> set[str]:
        """The columns of a table that hold targets because the user, or their name, says so."""
        ...

    def in_table(
        self, table: Path, columns: Sequence[str], rows: Sequence[Row], reading: Reading, taken: Collection[str]
    ) -> Told:
        """The targets of a table's rows; `taken` columns hold something else. Raises DataError."""
        ...

    def contradiction(self, first: Any, second: Any) -> str:
        """Of a picture in two rows that tell different truths: what they say, and what to write."""
        ...

    def settle(self, root: Path, listing: Listing, reading: Reading) -> Meaning:
        """What the targets mean. Raises DataError where nothing can be learnt from them."""
        ...

    def of_index(self, names: tuple[str, ...], *, several: bool) -> Meaning:
        """What the targets of shards mean, by what their index says. Raises DataError where this task has no such."""
        ...

    def refuse_broken(self, listing: Listing, facts: Mapping[Path, Facts], entries: Sequence[Entry]) -> None:
        """Raises DataError where the files that cannot be read leave too little; `entries` are those to learn from."""
        ...

    def refuse_unlearnable(self, dataset: Dataset, reading: Reading) -> None:
        """Raises DataError where a model cannot be trained on what was read."""
        ...

    def remarks(self, meaning: Meaning, reading: Reading) -> list[str]:
        """One-line remarks about what the targets mean."""
        ...

    def overview(self, data: Dataset) -> Overview:
        """What the doctor's summary and table say of the targets."""
        ...

    def check(self, data: Dataset, pictures: Sequence[Picture]) -> list[Finding]:
        """The doctor's findings about the targets."""
        ...
