"""Nested tables, as a recipe is before it is checked: values under dotted keys, and in plain kinds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def set_key(raw: dict[str, Any], key: str, value: Any) -> None:
    """Puts a value under a dotted key; tables on the way are made, or copied where they are there."""
    *tables, name = key.split(".")
    for table in tables:
        inner = raw.get(table)
        raw[table] = dict(inner) if isinstance(inner, Mapping) else {}
        raw = raw[table]
    raw[name] = value


def unset_key(raw: dict[str, Any], key: str) -> None:
    """Takes a dotted key out, where it is there."""
    *tables, name = key.split(".")
    for table in tables:
        raw = raw.get(table, {})
        if not isinstance(raw, dict):
            return
    raw.pop(name, None)


def plain(value: Any) -> Any:
    """Paths as text, numbers and arrays of NumPy as Python's, as a TOML file has them."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    return os.fspath(value) if isinstance(value, os.PathLike) else value
