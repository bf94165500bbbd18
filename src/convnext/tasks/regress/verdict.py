"""The verdict on a regression: its error beside always saying the median."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from convnext.tasks.regress.judged import DEVIATIONS, Judged, headline_of, splits_of, targets_of
from convnext.tasks.reporting import Followed, RunTables, Verdict
from convnext.tasks.scored import difference
from convnext.tasks.verdicts import LABELS, Headline, unfinished, verdict_of
from convnext.tasks.words import PLAIN, number

RISE = 0.02
"""Change of the error, in deviations of the training pictures, from which it counts as still getting better."""
_NAMES = {"mae": "MAE", "error": "Mean error"}


def verdict(run: RunTables) -> Verdict:
    """The result in one sentence: better than always saying the median only where the paired interval leaves out 0."""
    if not run.result:
        return unfinished(run, followed(run))
    key, judged = headline_of(run.result, run.data)
    value = judged.score(key) if judged else None
    if judged is None or value is None:
        said = "None of these pictures has a known value: nothing can be said of the model."
        return Verdict("open", "No comparison", said)
    ends, where, gets = judged.interval(key), judged.settled(key), judged.baseline(key)
    score = f"{_NAMES[key]} {judged.unit.text(value)}{f' ({judged.unit.span(ends)})' if ends else ''}"
    if where is None or gets is None:
        return verdict_of(run, Headline(score, None))
    trivial = "each target's median" if key == "error" else judged.trivial
    told = difference(judged.unit, judged.gain(key), where)
    told = f"{told} {_each(run)}".lstrip() if key == "error" else told
    found = verdict_of(run, Headline(score, where, trivial, judged.unit.text(gets), told))
    if key == "error" and where == 1 and any(each.settled("mae") != 1 for each in targets_of(run.result)):
        return replace(found, tone="open", label="Better, but not for every target")
    return found


def followed(run: RunTables) -> Followed:
    """The score of the log: the mean absolute error, or that in deviations over several targets."""
    targets = targets_of(run.result, run.data)
    several = len(targets) > 1 or any("val_error" in row for row in run.log)
    if several:
        why = (
            "Each target's mean absolute error in deviations of its training pictures, and their mean; lower is better."
        )
        return Followed("error", "mean error", "Mean error", why, DEVIATIONS, False, rise=RISE)
    why = "How far answers are from the truth on average, after each epoch; lower is better."
    unit = targets[0].unit if targets else PLAIN
    return Followed("mae", "MAE", "Mean absolute error", why, unit, False, rise=RISE * _deviation(run, targets))


def gain_text(judged: Judged, key: str) -> str:
    """The gain over the trivial answer on the same pictures, with its interval: "+12.9 months (+10.8 to +15.0)"."""
    gain = judged.gain(key)
    if gain is None:
        return ""
    unit, (low, high) = judged.unit_of(key), gain["interval"]
    told = f"{unit.change(gain['value'])}\u00a0{unit.of_change}".rstrip()
    return f"{told} ({unit.change(low)} to {unit.change(high)})"


def _each(run: RunTables) -> str:
    """The targets by name, each beside its own median."""
    parts = []
    for each in targets_of(run.result):
        value, gets, where = each.score("mae"), each.baseline("mae"), each.settled("mae")
        if value is None or gets is None or where is None:
            parts.append(f"{each.name}: no known value")
            continue
        said = LABELS[where].split(" than")[0].lower()
        parts.append(f"{each.name}: MAE {each.unit.text(value)}, the median {each.unit.text(gets)}, {said}")
    return "; ".join(parts) + "."


def _deviation(run: RunTables, targets: Sequence[Judged]) -> float:
    """Of the one target over the training pictures; if unknown, the first error of the log."""
    known = [
        *(number(splits_of(run.data, each.name).get("train", {}).get("deviation")) for each in targets[:1]),
        *(number(each.training.get("deviation")) for each in targets[:1]),
        *(number(row.get("val_mae")) for row in run.log[:1]),
    ]
    return next((value for value in known if value is not None and value > 0), 1.0)
