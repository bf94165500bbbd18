"""A line for the person who waits, from where no function to say it can be handed down.

Pictures are read in the midst of a loader, in processes of its own: when a server or a disk keeps them waiting, that is
said here. `run.record` puts its own way of saying things in place of the plain one.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable

from convnext.data.names import harmless


def _print(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        print(harmless(text), file=sys.stderr, flush=True)


_way: list[Callable[[str], None]] = [_print]


def aside(text: str) -> None:
    """Says a line."""
    _way[0](text)


def say_by(way: Callable[[str], None]) -> None:
    """Has lines said by `way` from now on."""
    _way[0] = way
