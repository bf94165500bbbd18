"""Cells that say yes or no."""

from __future__ import annotations

_TRUE, _FALSE = frozenset(["1", "1.0", "true", "yes", "y", "t"]), frozenset(["0", "0.0", "false", "no", "n", "f"])


def is_flag(cell: str) -> bool:
    """Whether a cell is 0 or 1, or true or false."""
    return cell.casefold() in _TRUE or cell.casefold() in _FALSE


def is_true(cell: str) -> bool:
    """Whether a flag is set."""
    return cell.casefold() in _TRUE
