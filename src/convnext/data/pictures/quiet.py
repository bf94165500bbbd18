"""Warnings of the decoders, which nobody can act upon, are not shown."""

from __future__ import annotations

import threading
import warnings
from types import TracebackType


class _Quiet:
    """While any thread is inside, warnings of Pillow are not shown; all others are.

    `warnings.catch_warnings` alone is not safe with threads: the first one out would undo the filter of the others.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\.")
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(kind, error, trace)


quiet = _Quiet()
"""Of which there is one: it counts the threads inside."""
