"""A regression's result as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convnext.tasks.regress.judged import DEVIATIONS, Judged, headline_of, targets_of
from convnext.tasks.regress.sections import scores_of
from convnext.tasks.regress.verdict import gain_text
from convnext.tasks.text import opening
from convnext.tasks.verdicts import LABELS
from convnext.tasks.words import counted, for_terminal, number

_NAMES = {
    "mae": "MAE", "rmse": "RMSE", "median_error": "median error", "r2": "R2", "spearman": "Spearman", "bias": "bias",
    "coverage": "coverage", "width": "interval width", "error": "mean error",
}  # fmt: skip
_NAME, _VALUE = 24, 14
"""Columns of a score's name and of its value."""


def describe(result: Mapping[str, Any]) -> str:
    """Each target's scores with their intervals beside what always saying its median would get, and its ranges."""
    lines, targets = opening(result), targets_of(result)
    if len(targets) > 1:
        lines += [_row(Judged("", result, DEVIATIONS), "error", "mean error")]
    for each in targets:
        if len(targets) > 1:
            lines += ["", f"  {each.name}"]
        lines += _target(each)
    if len(targets) > 1:
        lines.append("")
    lines += against_trivial(result)
    if result.get("unreadable"):
        lines.append(f"  {result['unreadable']} pictures could not be read and are not counted")
    return for_terminal("\n".join([*lines, "  (brackets: 95 % interval over the pictures)"]))


def against_trivial(result: Mapping[str, Any]) -> list[str]:
    """What always saying the median gets, and whether the model is better on the same pictures."""
    lines, targets = [], targets_of(result)
    for each in targets:
        name = f"{each.name}: " if len(targets) > 1 else ""
        lines += _trivial(each, "mae", f"{name}always {each.trivial}")
        known = each.table.get("training_median")
        learned = number(known.get("mae")) if isinstance(known, Mapping) else None
        median = number(each.training.get("median"))
        if learned is not None and median is not None:
            always = f"{name}always {each.told(median)}"
            lines.append(
                f"  {always:<{_NAME}}{each.unit.text(learned):>{_VALUE}}  (the median of the training pictures)"
            )
    key, judged = headline_of(result)
    if key == "error" and judged is not None:
        lines += _trivial(judged, key, "always each median")
    return [for_terminal(line) for line in lines]


def _trivial(judged: Judged, key: str, always: str) -> list[str]:
    gets, where, told = judged.baseline(key), judged.settled(key), gain_text(judged, key)
    if gets is None:
        return []
    lines = [f"  {always:<{_NAME}}{judged.unit.text(gets):>{_VALUE}}  (the trivial answer)"]
    if where is not None and told:
        told = told.replace(" (", " [").replace(" to ", ", ").replace(")", "]")
        lines.append(f"  {told} on the same pictures: {LABELS[where].lower()}")
    return lines


def _target(judged: Judged) -> list[str]:
    """The scores of one target, what became of its intervals, and its ranges."""
    lines = []
    for key, title in scores_of(judged):
        lines.append(_row(judged, key, _NAMES.get(key, title[0].lower() + title[1:])))
    missing = int(number(judged.table.get("missing")) or 0)
    if missing:
        lines.append(
            f"  {counted(missing, 'picture')} without a known value {'is' if missing == 1 else 'are'} left out"
        )
    if not judged.n:
        return [*lines, "  no picture with a known value"]
    known, level = judged.calibration, number(judged.calibration.get("level"))
    if level is not None and judged.level is None:
        lines.append(f"  no intervals: {known.get('shortage') or 'none was measured on these pictures'}")
    elif level is not None:
        pictures = int(number(known.get("pictures")) or 0)
        stands = f"made from {counted(pictures, 'calibration picture')}"
        lines.append(f"  (coverage: {100 * level:g} % are to hold the truth, {stands}{judged.covered})")
    return lines + _ranges(judged)


def _row(judged: Judged, key: str, name: str) -> str:
    """One score with its interval, and what the trivial answer gets."""
    unit, value, ends, gets = judged.unit_of(key), judged.score(key), judged.interval(key), judged.baseline(key)
    if value is None:
        return f"  {name:<{_NAME}}{'unknown':>{_VALUE}}"
    shown = unit.text(value) if key != "bias" else f"{unit.change(value)} {unit.of_change}".rstrip()
    span = ""
    if ends:
        span = f"[{unit.span(ends)}]".replace("\u2013", ", ").replace(" to ", ", ")
        span = f"[{unit.change(ends[0])}, {unit.change(ends[1])}]" if key == "bias" else span
    trivial = f"trivial {unit.text(gets)}" if gets is not None and key != "bias" else ""
    return f"  {name:<{_NAME}}{shown:>{_VALUE}}  {span:<18}{trivial}".rstrip()


def _ranges(judged: Judged) -> list[str]:
    """The error by range of the target."""
    rows = judged.ranges
    if len(rows) < 2:
        return []
    trusted = any(row.score("coverage") is not None for row in rows)
    width = max(5, *(len(row.name) for row in rows))
    lines = [f"  {'range':<{width}}  pictures       MAE      bias{'  coverage' if trusted else ''}"]
    for row in rows:
        covered, digits = row.score("coverage"), row.unit.digits
        mae, bias = row.score("mae"), row.score("bias")
        line = f"  {row.name:<{width}}  {row.n:>8,}{_figure(mae, f'10.{digits}f')}{_figure(bias, f'+10.{digits}f')}"
        lines.append(line + (_figure(None if covered is None else 100 * covered, "10.1f") if trusted else ""))
    return lines


def _figure(value: float | None, form: str) -> str:
    return f"{'-':>10}" if value is None else f"{value:{form}}"
