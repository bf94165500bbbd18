"""`convnext compare`: which of several runs is better, on the pictures that all of them judged.

The runs' own intervals do not answer that: they hold what is uncertain about the pictures, which is the same for all
runs. So pictures are paired. Each run is held against the first by paired bootstrap intervals of the differences, and
by an exact McNemar test on the pictures of which one is more right than the other. With several runs the p values are
corrected by Holm's method, so that all verdicts together are wrong by chance in at most 5 % of the cases.

It is about the test pictures alone. Two trainings of one recipe with other seeds differ too, often significantly: what
a change of a recipe is worth is seen over several seeds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.data.names import count, listed, named, printable
from convnext.errors import RunError, UserError
from convnext.evaluate.judged import Answers, answers_of, known_by_content
from convnext.metrics.intervals import interval, resamples
from convnext.metrics.paired import ALPHA, FEW, bootstrap_p, holm, mcnemar
from convnext.run.folder import FOLDS
from convnext.run.record import say
from convnext.tasks.task import Score

LEAST = 10
"""Pictures in common below which nothing is compared."""
DRAWS = 2000
Values = dict[str, NDArray[np.float64]]
"""The compared scores of a run by key, (1 + DRAWS,) each: the value itself, then the same pictures resampled."""


@dataclass(frozen=True)
class Difference:
    """How a run differs from the first one.

    Attributes:
        run: as it was given.
        metrics: for each score `difference`, its paired 95 % `interval` and a bootstrap `p`.
        won: pictures of which this run is more right than the first one; of classes, right where that is wrong.
        lost: the other way round.
        p: of the exact McNemar test on these two counts.
        corrected: the p value of the verdict after Holm's correction.
        verdict: "better", "worse" or "not settled", by the first score.
    """

    run: str
    metrics: dict[str, dict[str, Any]]
    won: int
    lost: int
    p: float
    corrected: float
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """Several runs on the same n pictures: their `scores` there, and the `differences` of the others from the first.

    `kinds` are the scores by which they are compared, `won` says in words when a run wins a picture.
    """

    runs: tuple[str, ...]
    n: int
    split: str
    joined: str
    judged: tuple[int, ...]
    scores: tuple[dict[str, float], ...]
    differences: tuple[Difference, ...]
    kinds: tuple[Score, ...]
    won: str
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All numbers, as JSON takes them."""
        return {
            "n": self.n, "split": self.split, "joined": self.joined, "notes": list(self.notes),
            "runs": [
                {"run": run, "judged": own, **scores}
                for run, own, scores in zip(self.runs, self.judged, self.scores, strict=True)
            ],
            "against": self.runs[0],
            "differences": [
                {"run": each.run, "verdict": each.verdict, "won": each.won, "lost": each.lost,
                 "p_mcnemar": each.p, "p_holm": each.corrected, "metrics": each.metrics}
                for each in self.differences
            ],
        }  # fmt: skip

    def to_text(self) -> str:
        """The same as tables for a terminal."""
        width = max(3, *(len(printable(run)) for run in self.runs))
        lines = [f"{count(self.n, 'picture')} ({self.split}) that all {len(self.runs)} runs judged"]
        lines.append(f"  {'run':<{width}}" + "".join(f"  {score.title:>18}" for score in self.kinds))
        for run, scores in zip(self.runs, self.scores, strict=True):
            cells = "".join(f"  {score.text(scores[score.key]):>18}" for score in self.kinds)
            lines.append(f"  {printable(run):<{width}}{cells}")
        units = {score.points for score in self.kinds}
        unit = f"in {next(iter(units))}, " if len(units) == 1 and "" not in units else ""
        lines.append(
            f"against {printable(self.runs[0])}, {unit}with 95 % intervals of the difference on the same pictures:"
        )
        for each in self.differences:
            lines.append(f"  {printable(each.run)}: {self.said(each)}")
            for score in self.kinds:
                found = each.metrics[score.key]
                apart, low, high = (score.number(v, sign=True) for v in (found["difference"], *found["interval"]))
                told = f"{apart:>6}  [{low}, {high}]{'' if unit else f' {score.points}'.rstrip()}"
                lines.append(f"    {score.title:<22}{told:<28}p = {found['p']:.2g}")
        return "\n".join(lines)

    def said(self, each: Difference) -> str:
        """The verdict on one run, with what it stands on."""
        holm_ = f", {each.corrected:.2g} after Holm's correction for {len(self.differences)}" * (
            len(self.differences) > 1
        )
        verdict = {"better": "better than", "worse": "worse than", "not settled": "not settled against"}[each.verdict]
        counts = f"{self.won} on {count(each.won, 'picture')}, the other way round on {each.lost}"
        return f"{verdict} {printable(self.runs[0])}: {counts} (exact McNemar p = {each.p:.2g}{holm_})"


def compare(
    *runs: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    split: str | None = None,
    seed: int = 0,
) -> Comparison:
    """Compares runs on the pictures that all of them judged, each with the first.

    Args:
        runs: two or more run folders; with `data` also model files.
        data: judge all of them on this data now, instead of reading what they said at their end.
        split: judge them on this split of it, or of their own data, now.
        seed: of the resampling.

    Returns:
        The scores of each on these pictures, and the differences; `to_text()` and `to_json()` show all of it.

    Raises:
        UserError: fewer than two runs, one was not judged, or they judged other pictures, truths or classes.

    Examples:
        >>> import convnext, shutil
        >>> twin = shutil.copytree("runs/photos", "runs/other")  # the same answers, so nothing to tell them apart
        >>> found = convnext.compare("runs/photos", twin)
        >>> found.differences[0].verdict, found.differences[0].p
        ('not settled', 1.0)
    """
    if len(runs) < 2:
        raise UserError(f"compare takes two runs or more, not {len(runs)}: convnext compare RUN RUN")
    if len({named(run).resolve() for run in runs}) < len(runs):
        raise UserError("compare was given the same run twice; give each once")
    own = [answers_of(run, data, split) for run in runs]
    _refuse_other_questions(own)
    joined, how, notes = _join(own, _folds_note(runs))
    task, again = joined[0].task, [_values(item, seed) for item in joined]
    kinds = tuple(score for score in task.compared if score.key in again[0])
    counts = [_won(item, joined[0]) for item in joined[1:]]
    ps = [_p(item, again[0], counts[i], kinds[0]) for i, item in enumerate(again[1:])]
    differences = [
        _difference(item.run, again[i + 1], again[0], counts[i], corrected, kinds)
        for i, (item, corrected) in enumerate(zip(joined[1:], holm(ps), strict=True))
    ]
    return Comparison(
        tuple(item.run for item in joined), len(joined[0].keys), joined[0].split, how,
        tuple(len(item.keys) for item in own),
        tuple({score.key: float(item[score.key][0]) for score in kinds} for item in again),
        tuple(differences), kinds, task.won, tuple(notes),
    )  # fmt: skip


def _refuse_other_questions(answers: Sequence[Answers]) -> None:
    first = answers[0]
    for other in answers[1:]:
        why = f"one is of the task {first.task.name}, the other of {other.task.name}"
        if other.task.name == first.task.name:
            why = first.task.difference(other.task)
        if why:
            raise RunError(f"{first.run} and {other.run}: {why}")


def _folds_note(runs: Sequence[str | os.PathLike[str]]) -> str:
    """That several of the runs are folds of one training, and where the folds' summary is; "" where they are not."""
    homes: dict[Path, list[str]] = {}
    for run in runs:
        folder = named(run) if named(run).is_dir() else named(run).parent
        homes.setdefault(folder.resolve().parent, []).append(os.fspath(run))
    for home, inside in homes.items():
        if len(inside) > 1 and (home / FOLDS).is_file():
            return (
                f"{listed(inside, 4)} are folds of one training: each was judged on pictures that the others were "
                f"trained on, so on that data nothing compares them. {home / 'result.json'} has the mean and the "
                "spread of all folds"
            )
    return ""


def _join(own: Sequence[Answers], folds: str) -> tuple[list[Answers], str, list[str]]:
    """The pictures that all judged, in one order; what they were joined by; and what has to be said.

    Raises:
        RunError: too few in common, or their truths differ.
    """
    answers, how, notes = list(own), "path", [folds] if folds else []
    notes += [f"{item.run}: {item.told[0].lower()}{item.told[1:].removesuffix('.')}" for item in own if item.told]
    if len({item.root.resolve() for item in answers}) > 1:
        if (by_content := known_by_content(answers)) is not None:
            answers, how = by_content, "content"
        else:
            places = listed((str(item.root) for item in answers), 3)
            notes.append(f"their data lay in {places} and is not all there: pictures are joined by their names alone")
    splits = {item.split for item in answers}
    if len(splits) > 1 and how == "path" and "all" not in splits:  # a picture is in one split, but in all of them too
        _refuse_apart(own, 0, folds)
    if len(splits - {"all"}) > 1 or ("val" in splits and len(splits) > 1):
        parts = listed((f"{item.run} as {item.split}" for item in answers), 4)
        notes.append(f"the pictures were judged by {parts}: a run chose its best epoch on val, which flatters it")
    if any(len(set(item.keys)) < len(item.keys) for item in answers):
        raise RunError("a run judged the same picture twice; its predictions.csv is damaged")
    common = sorted(set.intersection(*(set(item.keys) for item in answers)))
    if len(common) < LEAST:
        _refuse_apart(own, len(common), folds)
    if any(len(item.keys) > len(common) for item in answers):
        counts = listed((f"{len(item.keys)} by {item.run}" for item in answers), 4)
        notes.append(f"{count(len(common), 'picture')} were judged by all ({counts}); only these are compared")
    lines = [{key: i for i, key in enumerate(item.keys)} for item in answers]
    joined = [
        item.at([line[key] for key in common]).as_in(answers[0].task) for item, line in zip(answers, lines, strict=True)
    ]
    _refuse_other_truths(joined, own, lines[0], common)
    for note in notes:
        say(note)
    return joined, how, notes


def _refuse_apart(own: Sequence[Answers], common: int, folds: str) -> None:
    if folds:
        raise RunError(folds)
    judged = "; ".join(f"{item.run}: {count(len(item.keys), 'picture')}, {item.split}, of {item.root}" for item in own)
    raise RunError(
        f"these runs were judged on other pictures, with {common} in common (at least {LEAST} are needed): {judged}. "
        "Judge all of them on the same pictures now by --data DATA"
    )


def _refuse_other_truths(
    joined: Sequence[Answers], own: Sequence[Answers], line: dict[str, int], common: Sequence[str]
) -> None:
    task = joined[0].task
    before = task.truths(joined[0].records)
    for other in joined[1:]:
        now = task.truths(other.records)
        apart = [at for at, (old, new) in enumerate(zip(before, now, strict=True)) if old != new]
        if apart:
            at = apart[0]
            raise RunError(
                f"{count(len(apart), 'picture')} of {len(common)} in common had another label for {other.run} than for "
                f"{joined[0].run}, as {own[0].keys[line[common[at]]]}: {before[at]}, then {now[at]}. "
                "Judge both on the labels of today by --data DATA"
            )


def _values(answers: Answers, seed: int) -> Values:
    n = len(answers.keys)
    chunks = [np.arange(n, dtype=np.intp)[None], *resamples(n, DRAWS, seed)]
    return answers.task.resampled(answers.records, chunks)


def _won(one: Answers, first: Answers) -> tuple[int, int]:
    """Pictures of which the one is less and more wrong than the first run is."""
    wrong, theirs = (item.task.errors(item.records) for item in (one, first))
    return int((wrong < theirs).sum()), int((wrong > theirs).sum())


def _p(one: Values, first: Values, won: tuple[int, int], score: Score) -> float:
    """The p value that the verdict stands on: McNemar's where the score is a count of pictures, else the resampled."""
    exact = mcnemar(*won)
    if score.counted:
        return exact
    drawn = bootstrap_p(one[score.key][1:] - first[score.key][1:])
    return max(drawn, exact) if sum(won) < FEW else drawn


def _difference(
    run: str, one: Values, first: Values, won: tuple[int, int], corrected: float, kinds: tuple[Score, ...]
) -> Difference:
    metrics: dict[str, dict[str, Any]] = {}
    for score in kinds:
        apart = one[score.key] - first[score.key]
        metrics[score.key] = {
            "difference": float(apart[0]), "interval": interval(apart[1:]), "p": bootstrap_p(apart[1:]),
        }  # fmt: skip
    ahead = kinds[0].gain(metrics[kinds[0].key]["difference"])
    verdict = "not settled" if corrected > ALPHA or not ahead else "better" if ahead > 0 else "worse"
    return Difference(run, metrics, *won, mcnemar(*won), corrected, verdict)
