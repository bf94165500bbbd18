"""What a task is: all that the program asks of a kind of question, in one place.

The loop, the judge, resume, tune, folds, evaluate, predict and compare know nothing but what stands here: scores, of
which the first one chooses the best epoch, records, of which there is one a picture, and rows of tables. A task is
made by its `Kind`, which `tasks.table` has by name.

How four tasks fit, each by what a record is and what a bootstrap resamples:

- classification: probabilities (K,) and the labels; the loss is of soft targets (K,), which can be mixed.
- regression: value and spread (T,) and the truth (T,), NaN where a target is missing. `settle` finds what intervals
  need on the validation pictures. Errors are in the unit, and less is better.
- segmentation: counts (K, 3) of hits, true and named pixels of a picture; targets (N, H, W) are picked up by `losses`,
  and no mask is kept after `record`.
- detection: `losses` calls the network itself, as its losses need boxes before the outputs exist; a record is an object
  of a picture's scored matches and its number of true boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray
from torch import Tensor

from convnext.tasks.records import Records
from convnext.tasks.score import Score

if TYPE_CHECKING:
    from convnext.data.sources.dataset import Dataset
    from convnext.data.sources.target import Meaning
    from convnext.data.sources.targets import Targets
    from convnext.nn.network import Network
    from convnext.recipe import Recipe

__all__ = ["Answer", "Forward", "Kind", "Records", "Score", "Task"]

Forward = Callable[[Tensor], Tensor]
"""Pictures (N, C, H, W) -> the network's outputs, in the run's precision."""


class Answer(Protocol):
    """What a model says of one picture, or why it says nothing; each task has a class of its own."""

    @property
    def path(self) -> Path | None:
        """The file; None for a picture that came from memory."""
        ...

    @property
    def error(self) -> str:
        """Why there is no answer; "" where there is one."""
        ...

    @property
    def missing(self) -> bool:
        """Whether what was named is not there at all."""
        ...

    def cells(self) -> dict[str, object]:
        """Columns of predict's CSV by name, in their order: between the path and the error, which are the table's own.

        Of several answers the longest row gives the header; a shorter one leaves cells empty.
        """
        ...

    def fields(self) -> dict[str, Any]:
        """Entries of predict's JSON, beside the path."""
        ...


class Task(Protocol):
    """A question that pictures can answer, for one data set or one model."""

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name in `tasks.table`, in recipes, in model files and in result.json."""
        ...

    @property
    def outputs(self) -> int:
        """Size of the network's head."""
        ...

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names by which outputs are found again in the weights of another run; () where they have none."""
        ...

    @property
    def scores(self) -> tuple[Score, ...]:
        """What a verdict is told by, the most important first; the first one chooses the best epoch."""
        ...

    @property
    def compared(self) -> tuple[Score, ...]:
        """Those that two runs are compared by, the one that settles it first; `resampled` gives them."""
        ...

    @property
    def followed(self) -> tuple[str, ...]:
        """Keys of what is watched on the training pictures beside the loss; the log has each as train_KEY."""
        ...

    def meaning(self, settled: Mapping[str, Any]) -> dict[str, Any]:
        """What a model file must say so that `Kind.of_meaning` makes the task again.

        Args:
            settled: what `settle` gave with the weights that the file holds; {} before the first validation, and for a
                task of a model file, which says again what that said.
        """
        ...

    def told(self) -> dict[str, Any]:
        """What result.json says beside the task's name and the verdict, so that `Kind.of_result` makes it again."""
        ...

    def describe(self) -> str:
        """What is asked of a picture, for the line that introduces a run: "5 classes", "age in months"."""
        ...

    def inform(self, network: Network) -> None:
        """Tells a network what its outputs mean, for programs that have the network alone; most tasks tell nothing."""
        ...

    # -- learning -----------------------------------------------------------------------------------------------------

    def targets(self, truths: Tensor) -> Tensor:
        """The truths of a batch as the loss takes them; (N, ...), which mixup and CutMix may blend."""
        ...

    def losses(self, forward: Forward, pictures: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """`loss`, the mean over these pictures that is descended, in fp32; and sums over them of what is `followed`.

        A key of `followed` that has no meaning for these targets is left out.

        Args:
            forward: the network; called once with all of `pictures`, so that several processes share gradients.
            pictures: (N, C, H, W), normalised.
            targets: as `targets` gave them, mixed as the pictures are.
        """
        ...

    @property
    def encoding(self) -> Meaning:
        """What targets mean to it (`data.target`): by it other data are encoded, and batches stacked."""
        ...

    def take(self, dataset: Dataset, data: Path, source: Path) -> list[str]:
        """Other data than it was trained on: remarks on what of them it does not know, or names otherwise.

        Args:
            dataset: as `Targets` read it, for `encoding`.
            data: where it is, for messages.
            source: the model's file, for messages.

        Raises:
            DataError: it cannot be judged on them.
        """
        ...

    # -- judging ------------------------------------------------------------------------------------------------------

    def record(self, outputs: Tensor, truths: Tensor) -> Records:
        """What is kept of a batch: outputs (N, ...) and truths become records of N pictures.

        Where nobody knows the truth, as in `predict`, the truths are whatever the batch holds, and nothing of what is
        asked of these records looks at them.
        """
        ...

    def metrics(self, records: Records) -> dict[str, float]:
        """The few numbers logged every epoch; `loss` and the first score's key are among them."""
        ...

    @property
    def aside(self) -> Collection[int]:
        """Positions in the validation split of pictures that choose no epoch, and that `settle` alone sees; where there
        are none, all of them choose and settle."""
        ...

    def settle(self, records: Records) -> dict[str, Any]:
        """What is decided on the validation pictures and belongs into the model file: thresholds, interval widths."""
        ...

    def judge(self, records: Records, training: Mapping[str, Any] | None) -> dict[str, Any]:
        """The verdict with intervals beside the trivial answer, as it stands in result.json; `n` is the pictures.

        Args:
            records: of all pictures that were judged.
            training: what the meaning of the data set put into data.json; None where several models gave the records,
                each of which was trained on other pictures.
        """
        ...

    def trivial(self, dataset: Dataset, split: str) -> Mapping[str, Any]:
        """In place of data.json, where nobody knows what a model was trained on: as if it was on this split."""
        ...

    def yardstick(self, dataset: Dataset) -> dict[str, Any] | None:
        """What a validation score of a search must be held against: `pictures`, `always`, `trivial`; or None.

        `always` is the trivial answer in words, `trivial` what it gets on the validation pictures by the first score.
        """
        ...

    def worst(self, records: Records, count: int) -> list[tuple[int, dict[str, Any]]]:
        """Rows and descriptions of `count` pictures at most that a run keeps, to be looked at.

        A description goes into mistakes.json, `truth` first, between the path and the picture.
        """
        ...

    # -- tables and answers -------------------------------------------------------------------------------------------

    def columns(self) -> list[str]:
        """Header of predictions.csv after the path."""
        ...

    def row(self, records: Records, at: int) -> list[object]:
        """The cells of one picture below it."""
        ...

    def read(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Records:
        """Records from what `columns` and `row` wrote, as far as a comparison needs them.

        Raises:
            ValueError: the table is not that.
        """
        ...

    def answer(self, records: Records, at: int, path: Path | None, top: int) -> Answer:
        """What is told of one picture; `top` is how many guesses at most, where a task has several."""
        ...

    def no_answer(self, path: Path | None, error: str, missing: bool) -> Answer:
        """The same of a picture that cannot be read."""
        ...

    # -- two runs on the same pictures --------------------------------------------------------------------------------

    @property
    def won(self) -> str:
        """When a run wins a picture from another, in words: "right where the first is wrong"."""
        ...

    def difference(self, other: Task) -> str:
        """Why the answers of two tasks of this kind cannot be compared; "" where they can."""
        ...

    def as_in(self, other: Task, records: Records) -> Records:
        """Records of this task as those of the other, whose outputs may be in another order."""
        ...

    def truths(self, records: Records) -> list[str]:
        """The truth of each picture in words, by which two runs are seen to have been judged on the same."""
        ...

    def errors(self, records: Records) -> NDArray[Any]:
        """(n,) how wrong each picture is: of two runs the one with less wins it."""
        ...

    def resampled(self, records: Records, samples: Iterable[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The compared scores by key, (b,) each, on b samples of the pictures.

        Args:
            records: n of them.
            samples: the samples in chunks (b', m), each row the numbers of m pictures; as `metrics.intervals.resamples`
                gives them, where one chunk is as large as the memory should hold.
        """
        ...


class Kind(Protocol):
    """How a task comes about. `tasks.table` has one for each name: a module with these functions."""

    @property
    def SCORES(self) -> tuple[Score, ...]:  # noqa: N802
        """All scores that a verdict of this kind may have, dotted keys for those in a table of it; the first may stand
        for the first of any task of the kind."""
        ...

    @property
    def TARGETS(self) -> Targets:  # noqa: N802
        """How what the pictures are paired with is found."""
        ...

    def for_training(self, recipe: Recipe, dataset: Dataset) -> Task:
        """The task that a recipe asks of a data set.

        Raises:
            UserError: the data cannot be asked that.
        """
        ...

    def of_meaning(self, meaning: Mapping[str, Any]) -> Task:
        """The task of a model file.

        Raises:
            ValueError: that is not what `Task.meaning` gave.
        """
        ...

    def of_result(self, result: Mapping[str, Any]) -> Task:
        """The task of a verdict, as result.json holds it.

        Raises:
            ValueError, KeyError, TypeError: that is no verdict of this kind.
        """
        ...

    def of_network(self, network: Network, task: Task) -> Task:
        """The task of a network that was loaded with `task`, and that a program may have changed since.

        Raises:
            UserError: its outputs are others now, and nobody said what they mean.
        """
        ...
