"""Checks of what JSON holds: each takes a value and where it stands, and refuses what is of another kind.

A task says by them what its part of a run's files holds (`tasks.table.checks_of`), `run.schema` what every run's do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any, str], None]
"""(value, where it stands) -> nothing; raises `Damaged` where it is of another kind."""
MOST = 2**63


class Damaged(Exception):
    """A value is not what its file should hold; the message says where, what it is, and what it must be."""

    def __init__(self, at: str, value: Any, rule: str) -> None:
        whole = f"it holds {_short(value)}, no {rule.removeprefix('a ')}"
        super().__init__(f"{at} = {_short(value)}: it must be {rule}" if at else whole)


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"a {'table' if isinstance(value, dict) else 'list'}"
    try:
        text = json.dumps(value, ensure_ascii=True)
    except ValueError:  # more digits than Python writes
        return "a number without end"
    return text if len(text) <= 40 else f"{text[:37]}..."


def text(value: Any, at: str) -> None:
    """Words."""
    if not isinstance(value, str):
        raise Damaged(at, value, "text")


def flag(value: Any, at: str) -> None:
    """true or false."""
    if not isinstance(value, bool):
        raise Damaged(at, value, "true or false")


def number(value: Any, at: str) -> None:
    """Any number, NaN too, that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float) or (isinstance(value, int) and abs(value) >= MOST):
        raise Damaged(at, value, "a number")


def whole(value: Any, at: str) -> None:
    """A whole number below 2^63."""
    if type(value) is not int or abs(value) >= MOST:
        raise Damaged(at, value, "a whole number")


def count(value: Any, at: str) -> None:
    """A whole number from 0 on."""
    if type(value) is not int or not 0 <= value < MOST:
        raise Damaged(at, value, "a whole number, 0 or more")


def scalar(value: Any, at: str) -> None:
    """Text, a number, true, false or null."""
    if not isinstance(value, str | bool) and value is not None:
        number(value, at)


def maybe(check: Check) -> Check:
    """The same, or null."""

    def checked(value: Any, at: str) -> None:
        if value is not None:
            check(value, at)

    return checked


def either(check: Check, other: Check) -> Check:
    """One of two kinds."""

    def checked(value: Any, at: str) -> None:
        try:
            check(value, at)
        except Damaged:
            other(value, at)

    return checked


def rows(check: Check, length: int | None = None) -> Check:
    """A list of values of one kind."""

    def checked(value: Any, at: str) -> None:
        if not isinstance(value, list):
            raise Damaged(at, value, "a list")
        if length is not None and len(value) != length:
            raise Damaged(at, len(value), f"a list of {length}")
        for index, item in enumerate(value):
            check(item, f"{at}[{index}]")

    return checked


def named(check: Check) -> Check:
    """A table of values of one kind, by names that are not known beforehand."""

    def checked(value: Any, at: str) -> None:
        if not isinstance(value, dict):
            raise Damaged(at, value, "a table")
        for key, item in value.items():
            check(item, f"{at}.{key[:40]}" if at else key[:40])

    return checked


def table(known: Mapping[str, Check], needed: tuple[str, ...] = ()) -> Check:
    """A table whose keys have kinds of their own; `needed` must be there."""

    def checked(value: Any, at: str) -> None:
        if not isinstance(value, dict):
            raise Damaged(at, value, "a table")
        for key in needed:
            if key not in value:
                raise Damaged(f"{at}.{key}" if at else key, None, "there")
        for key, check in known.items():
            if key in value:
                check(value[key], f"{at}.{key}" if at else key)

    return checked


def square(value: Any, at: str) -> None:
    """Counts in as many rows as columns."""
    rows(rows(count))(value, at)
    for index, row in enumerate(value):
        if len(row) != len(value):
            raise Damaged(f"{at}[{index}]", len(row), f"a list of {len(value)}")
