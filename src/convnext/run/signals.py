"""Signals that ask a command to end: it ends as by Ctrl-C, and so removes what it had half written.

Left to the system SIGTERM and SIGHUP end a process between two of its instructions: temporary files stay behind, and
nobody is told. A loop that trains has an answer of its own meanwhile (`train.loop`).
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from typing import Any

STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that ask for a stop: Ctrl-C, the queue's or system's, and that of a terminal which is closed."""
AT_ONCE = 1.0
"""Seconds in which several of them are one: torchrun and a terminal's end send two."""


@contextlib.contextmanager
def as_interrupts() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt meanwhile, as SIGINT does.

    Those that the caller ignores, as nohup does with SIGHUP, or answers itself, stay as they are; so do all where this
    is not the main thread.
    """
    last = [-AT_ONCE]

    def stop(number: int, frame: Any) -> None:
        before, last[0] = last[0], time.monotonic()
        if last[0] - before >= AT_ONCE:
            raise KeyboardInterrupt

    old: dict[signal.Signals, Any] = {}
    try:
        for number in STOPPING:
            if signal.getsignal(number) == signal.SIG_DFL:
                old[number] = signal.signal(number, stop)
    except ValueError:  # not the main thread
        pass
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
