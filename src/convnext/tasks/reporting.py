"""What a task says of a run to people: declared here in words and numbers, drawn and printed by report/.

A task's `reporting` module makes it from the plain tables of a run folder. It needs no network, so a page is written
without loading torch. What every task has in common is in `verdicts`, `advice`, `text` and, for any score, `scored`.

How four tasks fit, each by the blocks of its sections (see `tasks.blocks`):

- classification: a matrix with a ranking of confusions, a table of classes with gauges, a scatter of confidence, a
  gallery of mistakes by what was taken for what, bars of the classes' pictures.
- regression: scatters of predicted against true (`equal`) and of residuals (`level`), a table of ranges with gauges in
  the unit, curves of the share within k units, a histogram of the target, a gallery of the worst errors with lines as
  "said 34 \u00b1 9 months".
- segmentation: a table of classes by IoU, a matrix of pixels, a gallery whose pictures show truth and answer together.
- detection: a table of classes by AP, curves of precision over recall, a gallery of missed and invented objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal, Protocol, cast

from convnext.errors import RunError
from convnext.tasks.blocks import Block, Section, Tile
from convnext.tasks.table import AUTO, FIRST, TASKS
from convnext.tasks.words import PERCENT, Unit

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunTables:
    """The small files of a run folder as plain tables; a file that is not there yet is an empty value."""

    recipe: Json = field(default_factory=dict)
    data: Json = field(default_factory=dict)
    plan: list[Json] = field(default_factory=list)
    log: list[Json] = field(default_factory=list)
    result: Json = field(default_factory=dict)
    mistakes: list[Json] = field(default_factory=list)
    batch: Json = field(default_factory=dict)

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

    @property
    def task(self) -> str:
        """The name of the run's task."""
        known = self.recipe.get("task")
        name = str(self.result.get("task") or (known or {}).get("kind") or FIRST)
        return FIRST if name == AUTO else name

    def predictions(self) -> list[dict[str, str]]:
        """The rows of predictions.csv by their columns, read when they are asked for; none where there is no file."""
        return []

    def place_of(self, path: Any) -> str:
        """A picture's whole name below the data's folder or beside its table, or as it is where it lies elsewhere."""
        text, root = str(path).replace("\\", "/"), self.data_root.rstrip("/")
        homes = [root, root.rpartition("/")[0] if root.lower().endswith((".csv", ".tsv")) else ""]
        return next((text[len(home) + 1 :] for home in homes if home and text.startswith(f"{home}/")), text)


@dataclass(frozen=True)
class Verdict:
    """One sentence on the result and what must be said with it. `tone` is "good", "doubtful" or "open".

    `difference` is the difference to the trivial answer on the same pictures, in a sentence; "" where none is known.
    """

    tone: Literal["good", "doubtful", "open"]
    label: str
    sentence: str
    caveat: str = ""
    difference: str = ""


@dataclass(frozen=True)
class Action:
    """What may mend something; the report writes the command.

    Attributes:
        do: "look" at the judged data with the doctor, "longer" until `epochs`, "again" with `settings` into a folder
            named after `suffix`, "judge" the run, or "predict" with it.
        epochs: of "longer".
        settings: of "again", as "train.class_balance=1".
        suffix: of "again".
    """

    do: Literal["look", "longer", "again", "judge", "predict"]
    epochs: int = 0
    settings: tuple[str, ...] = ()
    suffix: str = ""


@dataclass(frozen=True)
class Advice:
    """One thing to do: what was seen, and what may mend it (None: no command does)."""

    kind: str
    text: str
    action: Action | None = None


@dataclass(frozen=True)
class Followed:
    """The score that training followed: the log has it as train_KEY, val_KEY and ema_val_KEY.

    Attributes:
        key: its key in the log.
        name: what it is called within a sentence, as "top-1".
        title: what its chart is called, as "Accuracy".
        why: a sentence for the reader of the chart.
        unit: how it is written.
        higher_is_better: its direction.
        baseline: what the trivial answer gets on validation, where that is known.
        rise: a change from which it counts as still getting better, in its own measure.
        harder: what makes the loss of training higher than that of validation.
    """

    key: str
    name: str
    title: str
    why: str
    unit: Unit = PERCENT
    higher_is_better: bool = True
    baseline: float | None = None
    rise: float = 0.01
    harder: str = "varied pictures"

    def better(self, value: float, other: float) -> bool:
        """Whether one value is better than another."""
        return value > other if self.higher_is_better else value < other

    def best_of(self, values: list[float]) -> float | None:
        """The best of some values; None for none."""
        return (max if self.higher_is_better else min)(values, default=None)


@dataclass(frozen=True)
class Batch:
    """What is said of the picture of a training batch: a sentence, and what its pictures are paired with."""

    note: str
    title: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Declared:
    """All that a task says of a run on its page.

    Attributes:
        verdict: the sentence at the top.
        followed: the score whose curve is drawn.
        batch: what is said of the training batch.
        tiles: headline numbers, the main one first.
        facts: names and values among the facts of the run.
        sections: the task's parts of the page, in their order.
        data: blocks of the section on the data.
        files: files of the run folder and what they are for, where the task knows more than the report.
    """

    verdict: Verdict
    followed: Followed
    batch: Batch
    tiles: tuple[Tile, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    sections: tuple[Section, ...] = ()
    data: tuple[Block, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)


class Reporting(Protocol):
    """What a task's `reporting` module has."""

    SHOWN: tuple[str, ...]
    """Keys of result.json that its words need: a result without one of them is judged anew."""

    def declare(self, run: RunTables) -> Declared:
        """What the page says of a run; of an unfinished one as much as is known."""
        ...

    def advise(self, run: RunTables, own: bool) -> list[Advice]:
        """What to do next, the most pressing first, never empty; `own` says that the run's own data were judged."""
        ...

    def describe(self, result: Mapping[str, Any]) -> str:
        """A result as text for a terminal."""
        ...

    def against_trivial(self, result: Mapping[str, Any]) -> list[str]:
        """Lines for a terminal: what the trivial answer gets, and whether the model is better."""
        ...

    def followed(self, run: RunTables) -> Followed:
        """The score that training follows."""
        ...


def reporting_of(name: str) -> Reporting:
    """The reporting of a task, by its name.

    Raises:
        RunError: there is no such task, as in a run of a later version.
    """
    if name not in TASKS:
        known = ", ".join(TASKS)
        raise RunError(
            f'task = "{name[:40]}" in result.json or recipe.toml: it must be {known}; a newer version may know'
        )
    return cast(Reporting, import_module(f"{TASKS[name]}.reporting"))
