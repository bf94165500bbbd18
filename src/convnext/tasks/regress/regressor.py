"""Regression as a task: one or several numbers a picture, learnt standardised, told in their units, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convnext.data.names import count, figure, listed, printable
from convnext.errors import UserError
from convnext.tasks.records import TRUTH, Records
from convnext.tasks.regress.answers import Estimate, Estimates
from convnext.tasks.regress.conformal import Calibration, calibrate, intervals_in_unit, needed
from convnext.tasks.regress.declared import BIAS, COVERAGE, ERROR, R2, SPEARMAN, WIDTH, of_target
from convnext.tasks.regress.density import DensityWeights
from convnext.tasks.regress.losses import RegressionLoss
from convnext.tasks.regress.meaning import Quantities, summary, values_of
from convnext.tasks.regress.scaling import Scaling
from convnext.tasks.regress.scoring import HIGH, LOW, VALUE, errors_of_picture, judge, resampled
from convnext.tasks.regress.table_of_answers import cells_of, header_of, records_of
from convnext.tasks.score import Score
from convnext.tasks.task import Forward

if TYPE_CHECKING:
    from convnext.data.sources.dataset import Dataset
    from convnext.nn.network import Network

Array = NDArray[np.float64]

STANDARD, SPREAD, LOSS = "standardised", "spread", "loss"
"""Columns of records beside the answers in their units: what the intervals are made of, and each value's loss."""


class Regressor:
    """A task whose answers are numbers.

    Args:
        scaling: what the targets are, and how they are standardised.
        loss: how the head's outputs become answers, and are taught.
        loss_name: its name in recipes.
        level: wanted coverage of the intervals; 0 for none.
        within: the K of the shares within K, of each target.
        seen: smallest and largest value of each target in training.
        calibrations: of the intervals, one a target; () before they are known.
        weights: of the values in the loss, by standardised value, one a target; () for none.
        aside: positions of the validation pictures that calibrate and choose no epoch.
        chosen_on: validation pictures in all; 0 where there are none to speak of.
    """

    name = "regress"
    won = "nearer to the truth"

    def __init__(
        self,
        scaling: Scaling,
        loss: RegressionLoss,
        loss_name: str,
        *,
        level: float,
        within: tuple[tuple[float, ...], ...],
        seen: tuple[tuple[float, float], ...],
        calibrations: tuple[Calibration, ...] = (),
        weights: tuple[DensityWeights, ...] = (),
        aside: frozenset[int] = frozenset(),
        chosen_on: int = 0,
    ) -> None:
        self.scaling, self.loss, self.loss_name = scaling, loss, loss_name
        self.level, self.within, self.seen, self.calibrations = level, within, seen, calibrations
        self.weights, self.aside, self.chosen_on = weights, aside, chosen_on
        self.asked = scaling.targets
        self.outputs = loss.outputs(len(self.asked))

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """Of the targets, in order."""
        return tuple(target.name for target in self.asked)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The targets, where each is one output; of distributions none: their bins are other ones in another run."""
        return self.names if self.outputs == len(self.asked) else ()

    @property
    def scores(self) -> tuple[Score, ...]:
        """Of one target its mean absolute error first; of several the mean over them in deviations."""
        if len(self.asked) == 1:
            found = of_target(self.asked[0].unit, self.scaling.deviation_in_unit[0])
            return found if self.has_intervals else tuple(s for s in found if s.key not in (COVERAGE.key, WIDTH.key))
        return (ERROR,)

    @property
    def compared(self) -> tuple[Score, ...]:
        """The errors: every sample of pictures has them."""
        keys = {R2.key, SPEARMAN.key, COVERAGE.key, WIDTH.key, BIAS.key}
        return tuple(score for score in self.scores if score.key not in keys)

    @property
    def followed(self) -> tuple[str, ...]:
        """Its first score."""
        return (self.scores[0].key,)

    @property
    def has_intervals(self) -> bool:
        """Whether every target has one."""
        return bool(self.calibrations) and all(each.absolute is not None for each in self.calibrations)

    def meaning(self, settled: Mapping[str, Any]) -> dict[str, Any]:
        """Targets with their scaling, the loss by which outputs are read, and the calibration of the intervals."""
        found = {
            "scaling": self.scaling.to_json(), "loss": self.loss_name, "coverage": self.level,
            "within": [list(each) for each in self.within], "seen": [list(each) for each in self.seen],
        }  # fmt: skip
        bins = getattr(self.loss, "bins", None)
        if bins is not None:
            found["bins"] = {"low": list(bins.low), "high": list(bins.high), "count": bins.count}
        if self.calibrations:
            found["calibration"] = [each.to_json() for each in self.calibrations]
        return found | dict(settled)

    def told(self) -> dict[str, Any]:
        """All of its meaning, and its scores."""
        return {"meaning": self.meaning({}), "scores": [score.to_json() for score in self.scores]}

    def describe(self) -> str:
        """The targets with their units; in training also what the intervals are made of."""
        words = listed((f"{of.name} in {of.unit}" if of.unit else of.name for of in self.asked), 4)
        if not self.chosen_on or self.level == 0:
            return words
        percent = f"{100 * self.level:g} %"
        if self.aside:
            pictures = f"{len(self.aside)} of the {self.chosen_on} validation pictures"
            return f"{words} ({percent} intervals are made from {pictures}, which choose no epoch)"
        return (
            f"{words} (no {percent} intervals: they are made from half of the validation pictures, of which that must "
            f"be {needed(self.level)} at least, and there are {self.chosen_on} in all)"
        )

    def inform(self, network: Network) -> None:
        """Nothing: outputs without a name are numbers."""

    # -- learning -----------------------------------------------------------------------------------------------------

    def targets(self, truths: Tensor) -> Tensor:
        """(N, T) in their units -> standardised, fp32; NaN stays NaN."""
        values = truths.double().cpu().numpy()
        return torch.from_numpy(self.scaling.to_learn(values)).float().to(truths.device)

    def losses(self, forward: Forward, pictures: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The loss, rare values weighing more where that is wished; and the sum of the errors as `followed` has it."""
        outputs = forward(pictures)
        weights = None
        if self.weights:
            values = targets.detach().double().cpu().numpy()
            columns = [weigh(values[:, t]) for t, weigh in enumerate(self.weights)]
            weights = torch.from_numpy(np.column_stack(columns)).float().to(targets.device)
        loss = self.loss.loss(outputs, targets, weights)
        with torch.no_grad():
            found = self.loss.answer(outputs)[0].double().cpu().numpy()
            truth = targets.double().cpu().numpy()
        return {"loss": loss, self.followed[0]: torch.tensor(self._sum_of_errors(found, truth))}

    def _sum_of_errors(self, standardised: Array, truth: Array) -> float:
        """Sum over pictures of the error of one target in its unit, or of the mean over several in deviations."""
        unit = self.scaling.back
        errors = np.abs(unit(standardised) - unit(np.nan_to_num(truth)))
        if len(self.asked) > 1:
            errors = errors / np.array(self.scaling.deviation_in_unit)
        known = ~np.isnan(truth)
        return float((np.where(known, errors, 0.0).sum(1) / np.maximum(known.sum(1), 1)).sum())

    @property
    def encoding(self) -> Quantities:
        """Tuples of numbers."""
        return Quantities(self.asked)

    def take(self, dataset: Dataset, data: Path, source: Path) -> list[str]:
        """Remarks on values beyond those of training."""
        remarks = []
        for t, (target, (low, high)) in enumerate(zip(self.asked, self.seen, strict=True)):
            values = np.concatenate([values_of(dataset, split)[:, t] for split in dataset.splits])
            with np.errstate(invalid="ignore"):
                outside = int(((values < low) | (values > high)).sum())
            if outside:
                remarks.append(
                    f'{data} has {count(outside, "value")} of "{printable(target.name)}" beyond those that {source} '
                    f"was trained on ({figure(low)} to {figure(high)})"
                )
        return remarks

    # -- judging ------------------------------------------------------------------------------------------------------

    def record(self, outputs: Tensor, truths: Tensor) -> Records:
        """Answers and intervals in their units (n, T), the same standardised, and the loss of each value.

        Raises:
            UserError: the network gives another number of outputs than the loss reads.
        """
        if outputs.shape[1:] != (self.outputs,):
            raise UserError(
                f"the network gives {' x '.join(map(str, outputs.shape[1:]))} numbers for a picture; "
                f"{count(len(self.asked), 'target')} with the loss {self.loss_name} take {self.outputs}"
            )
        outputs, truth = outputs.detach().float().cpu(), truths.double().cpu().numpy()
        aims = torch.from_numpy(self.scaling.to_learn(truth)).float()
        each = torch.where(aims.isnan(), 0.0, self.loss.each(outputs, aims)).double().numpy()
        values, spreads = self.loss.answer(outputs)
        answer, spread = values.double().numpy(), None if spreads is None else spreads.double().numpy()
        columns = {VALUE: self.scaling.back(answer), STANDARD: self.scaling.clip(answer), LOSS: each, TRUTH: truth}
        if spread is not None:
            columns[SPREAD] = spread
        if self.has_intervals:
            ends = intervals_in_unit(self.scaling, self.calibrations, answer, spread)
            columns[LOW], columns[HIGH] = (
                np.column_stack([part[:, side] for part in ends if part is not None]) for side in (0, 1)
            )
        return Records(columns)

    def metrics(self, records: Records) -> dict[str, float]:
        """Loss and the first score; of one target the root of the mean squared error too."""
        known = ~np.isnan(records[TRUTH]) if len(records) else np.zeros((0, 1), bool)
        if not known.any():
            return {"loss": float("nan"), self.scores[0].key: float("nan")}
        loss = float(records[LOSS][known].mean())
        if len(self.asked) > 1:
            return {"loss": loss} | {key: float(v[0]) for key, v in self._resampled_once(records).items()}
        errors = np.abs(records[VALUE] - records[TRUTH])[known]
        return {"loss": loss, "mae": float(errors.mean()), "rmse": float(np.sqrt((errors**2).mean()))}

    def _resampled_once(self, records: Records) -> dict[str, NDArray[Any]]:
        return self.resampled(records, [np.arange(len(records), dtype=np.intp)[None]])

    def settle(self, records: Records) -> dict[str, Any]:
        """The calibration of the intervals, from pictures that took no part in training and chose no epoch; where there
        are too few of them no interval, and how many there would have been."""
        if self.level == 0:
            return {}
        if not self.aside:  # too few for that: all of these choose the epoch
            few = min(self.chosen_on // 2, needed(self.level) - 1)
            return {"calibration": [Calibration(self.level, few, None).to_json() for _ in self.asked]}
        spreads = records.columns.get(SPREAD)
        truth = self.scaling.to_learn(records[TRUTH])
        return {"calibration": [each.to_json() for each in calibrate(truth, records[STANDARD], spreads, self.level)]}

    def judge(self, records: Records, training: Mapping[str, Any] | None) -> dict[str, Any]:
        """The verdict; see `scoring.judge`."""
        return judge(self, records, training)

    def trivial(self, dataset: Dataset, split: str) -> dict[str, Any]:
        """The numbers of the split, as if it was trained on."""
        values = values_of(dataset, split)
        return {"targets": {
            name: {"splits": {"train": summary(values[:, t])}} for t, name in enumerate(self.names)
        }}  # fmt: skip

    def yardstick(self, dataset: Dataset) -> dict[str, Any] | None:
        """Always saying the median of the validation pictures that choose the epoch."""
        values = np.delete(values_of(dataset, "val"), sorted(self.aside), axis=0)
        if not len(values) or np.isnan(values).all(0).any():
            return None
        medians = np.nanmedian(values, axis=0)
        errors = np.nanmean(np.abs(values - medians), axis=0)
        if len(self.asked) > 1:
            errors = errors / np.array(self.scaling.deviation_in_unit)
        always = ", ".join(of.in_unit(float(m)) for of, m in zip(self.asked, medians, strict=True))
        return {"pictures": len(values), "always": always, "trivial": float(errors.mean())}

    def worst(self, records: Records, count: int) -> list[tuple[int, dict[str, Any]]]:
        """The largest errors first, each by the target that is furthest off in deviations."""
        errors = np.abs(records[VALUE] - records[TRUTH]) / np.array(self.scaling.deviation_in_unit)
        errors = np.where(np.isnan(errors), -1.0, errors)
        order = np.argsort(-errors.max(1), kind="stable")[:count]
        return [(int(at), self._described(records, int(at), int(errors[at].argmax()))) for at in order
                if errors[at].max() > 0]  # fmt: skip

    def _described(self, records: Records, at: int, t: int) -> dict[str, Any]:
        said, truth = self.estimates(records, at)[t], float(records[TRUTH][at, t])
        outside = None if said.low is None or said.high is None else not said.low <= truth <= said.high
        return {
            "truth": said.target.in_unit(truth), "answer": said.text, "target": said.target.name, "truth_value": truth,
            "value": said.value, "low": said.low, "high": said.high, "error": said.value - truth, "outside": outside,
        }  # fmt: skip

    # -- tables and answers -------------------------------------------------------------------------------------------

    def columns(self) -> list[str]:
        """Of each target the truth, the answer and, where there are intervals, their ends."""
        return header_of(self.names, intervals=self.has_intervals)

    def row(self, records: Records, at: int) -> list[object]:
        """The cells below them; nothing for a truth that is missing."""
        return cells_of(records, at, intervals=self.has_intervals)

    def read(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Records:
        """Truth, answer and intervals from the cells of a table.

        Raises:
            ValueError: a column is not there, or a cell is no number.
        """
        return records_of(self.names, header, rows)

    def estimates(self, records: Records, at: int) -> tuple[Estimate, ...]:
        """The answer to one picture, one a target."""
        ends: list[list[float | None]] = [[None] * len(self.asked)] * 2
        if LOW in records:
            ends = [[float(value) for value in records[key][at]] for key in (LOW, HIGH)]
        return tuple(
            Estimate(target, float(records[VALUE][at, t]), ends[0][t], ends[1][t], self.level,
                     self.scaling.deviation_in_unit[t])
            for t, target in enumerate(self.asked)
        )  # fmt: skip

    def answer(self, records: Records, at: int, path: Path | None, top: int) -> Estimates:
        """A number a target with its interval; `top` is of no account."""
        return Estimates(path, self.estimates(records, at))

    def no_answer(self, path: Path | None, error: str, missing: bool) -> Estimates:
        """No number, and why."""
        return Estimates(path, (), error, missing)

    # -- two runs on the same pictures --------------------------------------------------------------------------------

    def difference(self, other: Any) -> str:
        """Other targets, or another unit."""
        if set(self.names) != set(other.names):
            return f"one is asked for {listed(self.names, 4)}, the other for {listed(other.names, 4)}"
        units = {target.name: target.unit for target in other.asked}
        for target in self.asked:
            if target.unit != units[target.name]:
                one, its = (unit or "no unit" for unit in (target.unit, units[target.name]))
                return f'"{target.name}" is in {one} in one and in {its} in the other'
        return ""

    def as_in(self, other: Any, records: Records) -> Records:
        """The targets in the order of the other's."""
        order = [self.names.index(name) for name in other.names]
        return Records({key: column[:, order] for key, column in records.columns.items()})

    def truths(self, records: Records) -> list[str]:
        """The true values of each picture."""
        return [", ".join("unknown" if np.isnan(v) else f"{v:.12g}" for v in row) for row in records[TRUTH]]

    def errors(self, records: Records) -> Array:
        """(n,) the size of the error; of several targets the mean in deviations of the judged pictures."""
        return errors_of_picture(records)

    def resampled(self, records: Records, samples: Iterable[NDArray[np.intp]]) -> dict[str, NDArray[Any]]:
        """The compared scores of each sample; see `scoring.resampled`."""
        return resampled(self, records, samples)
