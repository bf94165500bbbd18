"""What a regression says of a run to people: its scores beside the trivial answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convnext.tasks.reporting import Action, Advice, Batch, Declared, Followed, RunTables, Verdict
from convnext.tasks.words import Unit

SHOWN: tuple[str, ...] = ("targets",)


def declare(run: RunTables) -> Declared:
    """The verdict in one sentence."""
    lines = against_trivial(run.result) if run.result else ["not judged yet"]
    return Declared(Verdict("open", "judged", lines[0]), followed(run), Batch("targets under the pictures"))


def advise(run: RunTables, own: bool) -> list[Advice]:
    """To look at the data."""
    return [Advice("look", "look at the data", Action("look"))]


def describe(result: Mapping[str, Any]) -> str:
    """Each target's errors."""
    return "\n".join(
        f"{name}: MAE {row['mae']:.4g} {row['unit']}, R2 {row['r2']:.3f}, coverage {row.get('coverage')}, "
        f"width {row.get('width')}"
        for name, row in result["targets"].items()
    )


def against_trivial(result: Mapping[str, Any]) -> list[str]:
    """Beside always saying the median."""
    return [
        f"{name}: MAE {row['mae']:.4g} {row['unit']}, always the median {row['baselines']['mae']:.4g}"
        for name, row in result["targets"].items()
    ]


def followed(run: RunTables) -> Followed:
    """The first score."""
    return Followed("mae", "MAE", "Mean absolute error", "", Unit(), False)
