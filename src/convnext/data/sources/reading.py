"""How a data set is to be read, said once: what a recipe, a trained model or a caller asks of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from convnext.data.sources.columns import Columns, columns_of
from convnext.recipe import DataRecipe


@dataclass(frozen=True)
class Reading:
    """What is asked of a data set.

    Attributes:
        val: share of the pictures for validation where the split is ours to make; 0 for none.
        test: likewise for the test split; not used where the data has splits of its own.
        classes: in the order wanted, as of a trained model; () takes those found, in order.
        columns: what a user says about a table's columns, and about folds that the data brings.
        folds: folds that are dealt; 0 for none.
        fold: the one that is held out, from 1.
        tar_bytes: of tars from a server that may lie on the disk; 0 for the usual.
        judging: nothing is to be learnt from the data, so it needs no train split.
    """

    val: float = 0.15
    test: float = 0.15
    classes: tuple[str, ...] = ()
    columns: Columns = field(default_factory=Columns)
    folds: int = 0
    fold: int = 0
    tar_bytes: int = 0
    judging: bool = False

    @classmethod
    def of(cls, data: DataRecipe, *, settled: bool = False) -> Reading:
        """What a recipe asks. `settled`: a run was trained with it, and what it does not name was of no account."""
        return cls(
            data.val, data.test, data.classes, columns_of(data, settled=settled), data.folds, data.fold,
            int(data.disk_cache_gb * 1e9),
        )  # fmt: skip

    def to_judge(self, classes: tuple[str, ...] = ()) -> Reading:
        """The same for a model that is judged: nothing is split off, and its classes hold."""
        return replace(self, val=0.0, test=0.0, classes=classes, folds=0, fold=0, judging=True)
