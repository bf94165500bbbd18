"""Results as text for a terminal, in the words of their task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convnext.tasks.blocks import Step
from convnext.tasks.reporting import RunTables, reporting_of
from convnext.tasks.words import for_terminal


def describe_result(result: dict[str, Any]) -> str:
    """The verdict with its intervals, beside it what the trivial answer would get."""
    return reporting_of(RunTables(result=result).task).describe(result)


def trivial_lines(result: dict[str, Any]) -> list[str]:
    """What the trivial answer gets, and whether the model is better on the same pictures."""
    return reporting_of(RunTables(result=result).task).against_trivial(result)


def describe_advice(advice: Sequence[Step]) -> str:
    """What to do next, each with its command on a line of its own, so that it can be pasted."""
    lines = ["What to do next:"]
    for item in advice:
        lines += [f"  {for_terminal(item.text)}", *([f"    {item.command}"] if item.command else [])]
    return "\n".join(lines)
