"""How much memory there is: asked before anything large is opened or allocated."""

from __future__ import annotations

import os
import re
from pathlib import Path

_CGROUP_MEMORY = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Files that hold a container's limit and what it uses, bytes."""


def total_memory() -> int:
    """Bytes of memory of the machine, or the container's limit where that is smaller; 0 when unknown."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0
    limits = [_read(limit).strip() for limit, _ in _CGROUP_MEMORY]
    return min([total, *(int(limit) for limit in limits if limit.isdigit())])


def available_memory() -> int:
    """Bytes of memory that can be used now without swapping, within the container's limit; half of the total when the
    system does not say.
    """
    found = re.search(r"MemAvailable:\s+(\d+) kB", _read("/proc/meminfo"))
    free = int(found[1]) * 1024 if found else total_memory() // 2
    for limit, used in _CGROUP_MEMORY:  # version 2, version 1
        most = _read(limit).strip()
        if most.isdigit():
            taken = _read(used).strip()
            free = min(free, max(0, int(most) - int(taken or 0)))
    return free


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
