"""What a study's database may hold: tables and their indices. A stranger's may hold more, and SQLite runs it."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path
from urllib.parse import quote

from convnext.errors import RunError

_COMPUTED = re.compile(r"\bvirtual\b|\bgenerated\b|\bcheck\s*\(.*\b(select|like|glob|regexp)\b|\bas\s*\(", re.I | re.S)
"""Words of a table whose rows or values are worked out when they are read."""


def refuse_programs(file: Path) -> None:
    """Views, triggers and tables whose values are computed are no part of a study: reading them could go on for ever.

    Raises:
        RunError: there is one, or the file is no database.
    """
    if file.stat().st_size == 0:
        return
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=60)) as base:
            base.execute("pragma trusted_schema = off")
            found = base.execute("select type, name, sql from sqlite_master").fetchall()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise RunError(
            f"{file} cannot be used ({error}); put a copy of it back, or give --out another folder"
        ) from None
    for kind, name, text in found:
        if kind not in ("table", "index") or _COMPUTED.search(str(text or "")):
            raise RunError(
                f'{file} holds "{name}", a {kind} that computes; a study has plain tables only. Put a copy of your own '
                "back, or give --out another folder"
            )
