"""TOML that may come from a stranger: how long it is and how deep is known before it is read.

Python's reader takes time by the square of the parts of a key, and builds tables as deep as a key has parts.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convnext.files import open_plain

MOST = 4_000_000
"""Bytes of a file: 22,000 classes take one."""
LEVELS = 16
"""Parts of a key, and tables and lists that lie in each other; what this program reads has three."""
_WORDS = re.compile(
    r'#[^\n]*|"""(?:\\.|[^\\])*?(?:"""|\Z)|"(?:\\[^\n]|[^"\\\n])*+"?' r"|'''.*?(?:'''|\Z)|'[^'\n]*+'?", re.DOTALL
)
"""Comments and strings, in the order in which they begin."""
_LONG_KEY = re.compile(rf"(?<![\w-])(?:[\w-]++[ \t]*\.[ \t]*){{{LEVELS}}}")


class NoToml(ValueError):
    """Why a file is not read, as the end of a sentence that begins with its name."""


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        FileNotFoundError: there is none.
        NoToml: it cannot be read, or is not what people write by hand.
    """
    try:
        with open_plain(path) as file:
            content = file.read(MOST + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NoToml(f"cannot be read ({error.strerror or error}); give a TOML file in UTF-8") from None
    return parse_toml(content)


def parse_toml(content: bytes) -> dict[str, Any]:
    """The same of a file's bytes. Raises NoToml."""
    if len(content) > MOST:
        raise NoToml(f"has more than {MOST:,} bytes; is it the right file?")
    try:
        text = content.decode("utf-8-sig")  # with a mark, as Windows' editors write it
    except UnicodeDecodeError as error:
        raise NoToml(f"cannot be read ({error}); give a TOML file in UTF-8") from None
    plain = _WORDS.sub(_left_out, text)
    if (found := _LONG_KEY.search(plain)) is not None:
        line = plain[: found.start()].count("\n") + 1
        raise NoToml(f"has a key of more than {LEVELS} parts in line {line}; keys have two, as train.epochs")
    try:
        raw = tomllib.loads(text)
    except (RecursionError, ValueError) as error:  # ValueError: no TOML, or more digits than Python reads
        raise NoToml(f"is not valid TOML: {error}") from None
    if _is_deeper(raw, LEVELS):
        raise NoToml(f"has tables or lists of more than {LEVELS} levels; write plain values")
    return raw


def _left_out(found: re.Match[str]) -> str:
    """What stands for a comment or a string: a letter, and the ends of its lines."""
    return "" if found[0].startswith("#") else "q" + "\n" * found[0].count("\n")


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether tables and lists lie in each other more than so many levels deep."""
    if not isinstance(value, Mapping | list):
        return False
    inner = value.values() if isinstance(value, Mapping) else value
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inner)


def toml_value(value: Any) -> str:
    """A value of a recipe as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if " " <= c != "\x7f" else f"\\u{ord(c):04x}" for c in escaped) + '"'
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    return hex(value) if isinstance(value, int) and value.bit_length() > 1000 else repr(value)
