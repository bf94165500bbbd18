"""Lines for the person who waits, on standard error: nothing in them commands a terminal, and nobody need listen."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from convnext.data.aside import say_by
from convnext.data.names import harmless

_silent = False


def say(text: str) -> None:
    """One readable line on standard error, so that standard output stays free for results."""
    if not _silent:
        tell(text)


def tell(text: str) -> None:
    """The same also where `silenced` holds: errors, and the last word of a process.

    A listener who has gone away (`2>&1 | head`, a closed terminal, a full disk) ends nothing; what is said is lost.
    """
    print(harmless(text), file=Listener(sys.stderr), flush=True)


say_by(say)  # what is said while pictures are read goes the same way


class Listener:
    """A stream whose listener may go away at any time: what is written then is lost, and nothing else."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Writes, if anybody listens; gives the length of the text."""
        try:
            self.stream.write(text)
        except (OSError, ValueError):
            hang_up(self.stream)
        return len(text)

    def flush(self) -> None:
        """Flushes, if anybody listens."""
        try:
            self.stream.flush()
        except (OSError, ValueError):
            hang_up(self.stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def hang_up(stream: Any) -> None:
    """Whatever is written to a stream from here on, also when the interpreter ends, is lost without an error."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def is_silent() -> bool:
    """Whether this process is `silenced`."""
    return _silent


@contextlib.contextmanager
def silenced(silent: bool) -> Iterator[None]:
    """Where several processes train together all but one say nothing and show no progress."""
    global _silent
    before, _silent = _silent, silent or _silent
    try:
        yield
    finally:
        _silent = before
