"""Names in messages: showing any file name safely, and guessing what a misspelt one meant."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from convnext.errors import DataError

_JOINERS = "\u200c\u200d"
"""Invisible, but without power over anything else: they join letters of Persian and Indian scripts, and emoji."""


def printable(path: Path | str) -> str:
    """A path that can be printed anywhere: bytes that are not UTF-8, controls of the terminal and marks that change the
    direction of writing appear as escapes."""
    text = os.fspath(path)
    if text.isprintable():
        return text
    return "".join(sign.encode("unicode_escape").decode("ascii") if _has_power(sign) else sign for sign in text)


def harmless(text: str) -> str:
    """A text of several lines, or a page, that can be shown: `printable` but for its line ends and tabs.

    The escapes are those of JSON, so that JSON stays what it was.
    """
    if text.isprintable():
        return text
    powers = {ord(sign): _as_json(sign) for sign in set(text) - {"\n", "\t"} if _has_power(sign)}
    return text.translate(powers)


def _has_power(sign: str) -> bool:
    """Whether a sign does something to a terminal or to the text around it: controls, halves of signs, line ends and
    marks of direction; not letters, spaces and signs of any script."""
    return unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp") and sign not in _JOINERS


def _as_json(sign: str) -> str:
    units = sign.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_cell(text: str) -> str:
    """A cell of a table that a spreadsheet does not take for a formula.

    One that begins like a formula, and is no number, gets an apostrophe ahead of it, which spreadsheets take for "this
    is text". `csv_value` takes it away again.
    """
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) and not _is_number(text) else text


def csv_value(cell: str) -> str:
    """What `csv_cell` was given."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA) else cell


def csv_path(path: Path | str) -> str:
    """A path in a table: one that begins like a formula begins with `./`, and is the same path."""
    text = os.fspath(path)
    return f".{os.sep}{text}" if text.startswith(_FORMULA) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def is_text(name: Path | str) -> bool:
    """Whether a name can be written as UTF-8, as recipes and reports are."""
    try:
        os.fspath(name).encode()
    except UnicodeEncodeError:
        return False
    return True


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """` (did you mean "x"?)`, or nothing when no option resembles the name."""
    options = list(options)
    by_fold = {option.casefold(): option for option in options}
    close = get_close_matches(name.casefold(), by_fold, n=1, cutoff=0.6)
    return f' (did you mean "{by_fold[close[0]]}"?)' if close else ""


def listed(names: Iterable[str], limit: int = 10) -> str:
    """`a, b, c`, and how many more there are when there are more than `limit`."""
    names = [printable(name) for name in names]
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit:,} more"


def look_alikes(names: Iterable[str], limit: int = 10) -> str:
    """`'Cat' and 'cat', 'a b' and 'a_b'`: names that differ only in case, spaces and the like; "" for none."""
    by_key: dict[str, list[str]] = {}
    for name in names:
        plain = unicodedata.normalize("NFC", name).casefold()
        by_key.setdefault("".join(sign for sign in plain if sign.isalnum()) or name, []).append(name)
    twins = [" and ".join(map(repr, found)) for found in by_key.values() if len(found) > 1]
    shown = ", ".join(twins[:limit])
    return shown if len(twins) <= limit else f"{shown} and {len(twins) - limit:,} more"


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 file`, `1,200 files`: a number with the right form of its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def address_of(root: Path | str) -> str:
    """The address that a user gave as the data, or "" for a place on disk. (A path swallows a slash of it.)"""
    text = str(root)
    for scheme in ("http", "https"):
        if text.startswith(f"{scheme}:/"):
            return f"{scheme}://{text.removeprefix(f'{scheme}:').lstrip('/')}".rstrip("/").removesuffix("/shards.json")
    return ""


DATA = "a folder with one folder of pictures a class, or a CSV table"
"""What data is, where a message asks for it."""


def named(place: str | os.PathLike[str], what: str = "run", give: str = "a run folder or a model file") -> Path:
    """The place that a program names; an empty name is no place, though for a `Path` it is the working folder.

    Raises:
        DataError: it is empty, or no name at all.
    """
    text: object = os.fspath(place) if isinstance(place, str | os.PathLike) else None
    if not isinstance(text, str):
        raise DataError(f"a {type(place).__name__} is no {what}; give {give}")
    if not text:
        raise DataError(f'the {what} is ""; give {give} (is a variable empty?)')
    return Path(text)


def name_of(data: Path) -> str:
    """What a run on this data is called: as its folder or file; as the folder, where data is a pattern of tars."""
    if is_pattern(data):
        data = data.parent
    elif data.is_dir():
        return data.resolve().name or "run"
    return data.resolve().stem or "run"


def called(root: Path) -> str:
    """A data set's place as its user writes it."""
    return address_of(root) or os.fspath(root)


def is_pattern(path: Path) -> bool:
    """Whether a path is none that exists, but stands for others: `{000..146}`, `*`, `?`, `[a-c]`."""
    if not any(sign in os.fspath(path) for sign in "{*?["):
        return False
    try:
        return not path.exists()
    except OSError:  # longer than a name may be
        return True


def in_order(names: Iterable[str]) -> list[str]:
    """Class names in the order of a model's outputs: sorted, but by value where all are whole numbers.

    0, 1, 2, 10 and not 0, 1, 10, 2, so that class k of a network trained on numbered labels is the folder `k`. Numbers
    of one value, such as 1 and 01, come in the order of their signs.
    """
    found = sorted(set(names))
    if found and all(name.isascii() and name.isdecimal() for name in found):
        found.sort(key=lambda name: (len(name.lstrip("0")), name.lstrip("0")))
    return found


def figure(value: float) -> str:
    """`65,535`, `0.5`, `-1,024`, `1.2e+09`: a number as people write it, in four digits where it is no whole one."""
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e7 else f"{value:.4g}"
