"""The figures that the paper and the reproduction report published, as tables; the numbers are in `paper.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from convnext.errors import UserError


@cache
def _all() -> dict[str, Any]:
    return tomllib.loads(files("convnext").joinpath("paper.toml").read_text(encoding="utf-8"))


def title(name: str) -> str:
    """The title of a table."""
    return str(_table(name)["title"])


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of a table, each a mapping from column to value; a value that is not given is nan.

    Args:
        name: "table1" to "table12", or "report_table1" to "report_table3".

    Raises:
        UserError: there is no such table.
    """
    table = _table(name)
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


def _table(name: str) -> dict[str, Any]:
    tables = _all()
    if name not in tables:
        raise UserError(f'table "{name}" is not known; the tables are: {", ".join(tables)}')
    found: dict[str, Any] = tables[name]
    return found
