"""`convnext evaluate --fail-under`: bounds that a model must reach, for a pipeline that ships only what does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from convnext.config import nearest
from convnext.errors import UserError
from convnext.tasks.score import SHARE
from convnext.tasks.table import bounded


def read_bounds(words: Sequence[str]) -> dict[str, float]:
    """Bounds by metric from words such as "top1=0.9"; the strictest where one is named twice.

    Raises:
        UserError: a metric that is none, or a bound that is no share from 0 to 1, or no number where it has a unit.
    """
    scores = {score.key: score for score in bounded()}
    known = [key for key, score in scores.items() if score.higher_is_better]
    bounds: dict[str, float] = {}
    for word in words:
        name, sign, text = (part.strip() for part in word.partition("="))
        if not sign or not name or not text:
            raise UserError(f'--fail-under "{word}": write METRIC=SHARE, as --fail-under top1=0.9')
        if name in scores and not scores[name].higher_is_better:
            raise UserError(f"--fail-under {name}: of this one less is better; it takes {', '.join(known)}")
        if name not in known:
            raise UserError(
                f"--fail-under {name}: there is no such metric; it takes {', '.join(known)}{nearest(name, known)}"
            )
        try:
            share = float(text)
        except ValueError:
            share = float("nan")
        if scores[name].unit != SHARE and math.isfinite(share):
            bounds[name] = max(share, bounds.get(name, -math.inf))
            continue
        if not 0 <= share <= 1:
            percent = text.removesuffix("%").strip()
            is_percent = percent.replace(".", "", 1).isdigit() and 1 < float(percent) <= 100
            hint = f"; did you mean {name}={float(percent) / 100:g}?" if is_percent else ""
            rule = f"a share from 0 to 1{hint}" if scores[name].unit == SHARE else "a number"
            raise UserError(f"--fail-under {name}={text}: a bound is {rule}")
        bounds[name] = max(share, bounds.get(name, 0.0))
    return bounds


def shortfalls(result: dict[str, Any], bounds: dict[str, float]) -> list[str]:
    """One line for each metric of a verdict that is below its bound, or is no number.

    Raises:
        UserError: the verdict has no such metric.
    """
    found = []
    for name, bound in bounds.items():
        value: Any = result
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            scores = bounded()
            there = [score.key for score in scores if score.key in result and score.higher_is_better]
            needs = next((score.needs for score in scores if score.key == name and score.needs), "")
            why = f"it needs {needs}; " * bool(needs) + f"it has {', '.join(there)}"
            raise UserError(f"--fail-under {name}: this verdict has no such number; {why}")
        if not value >= bound:
            found.append(f"{name} is {value:.4f}, below {bound:g} (--fail-under)")
    return found
