"""How the process holds memory: freed blocks are kept for the next step, and large ones lie on huge pages.

A training step frees and asks again for the same large tensors. glibc gives each back to the system, which then clears
it page by page: thousands of page faults a step. `python -m convnext.bench.memory` measures it.
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_TUNERS = ("MALLOC_", "GLIBC_TUNABLES")


def keep_memory() -> bool:
    """Asks glibc to keep what is freed, and torch for huge pages. For a command: it changes the whole process.

    Call it before torch gives out its first tensor. Whoever sets THP_MEM_ALLOC_ENABLE, a MALLOC_ variable or glibc's
    tunables has the last word. Returns whether the system's allocator took it; only glibc's has something to change.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read by torch's CPU allocator
    if any(name.startswith(_TUNERS) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return False
    if not (mallopt(_MMAP_THRESHOLD, 1 << 30) or mallopt(_MMAP_THRESHOLD, 32 << 20)):  # older ones take 32 MB at most
        return False
    return bool(mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)) and bool(mallopt(_TOP_PAD, 64 << 20))


def untuned_environment() -> dict[str, str]:
    """The environment without whatever speaks to the allocator: a child process starts from the system's own."""
    return {key: value for key, value in os.environ.items() if not key.startswith((*_TUNERS, "THP_MEM_ALLOC_ENABLE"))}
