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
_NOT_IN_USE = ({"inactive_file", "active_file"}, {"total_inactive_file", "total_active_file"})
"""Of what a container uses: files that were read, which the system drops when it must; alone, or with groups below."""


def total_memory() -> int:
    """Bytes of memory of the machine, or the container's limit where that is smaller; 0 when unknown."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0
    limits = [_read(limit).strip() for limit, _ in _groups()]
    return min([total, *(int(limit) for limit in limits if limit.isdigit())])


def available_memory() -> int:
    """Bytes of memory that can be used now without swapping, within the container's limit; half of the total when the
    system does not say.
    """
    found = re.search(r"MemAvailable:\s+(\d+) kB", _read("/proc/meminfo"))
    free = int(found[1]) * 1024 if found else total_memory() // 2
    for limit, used in _groups():
        most = _read(limit).strip()
        if most.isdigit():
            taken = int(_read(used).strip() or 0) - _dropped(used)
            free = min(free, max(0, int(most) - max(0, taken)))
    return free


def _groups() -> list[tuple[str, str]]:
    """The files of the container, and of the groups that this process is in below it: each may have a limit."""
    found = list(_CGROUP_MEMORY)
    for line in _read("/proc/self/cgroup").splitlines():
        number, kinds, place = (*line.split(":", 2), "", "")[:3]
        if number != "0" and "memory" not in kinds.split(","):
            continue
        limit, used = map(Path, _CGROUP_MEMORY[0 if number == "0" else 1])
        below = Path(place.strip("/"))
        for group in (below, *below.parents):
            if group.name:
                found.append((str(limit.parent / group / limit.name), str(used.parent / group / used.name)))
    return found


def _dropped(used: str) -> int:
    """Bytes of a group's use that stand for nothing but files that were read."""
    rows = [line.split() for line in _read(str(Path(used).with_name("memory.stat"))).splitlines()]
    return max(sum(int(row[1]) for row in rows if len(row) == 2 and row[0] in names) for names in _NOT_IN_USE)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
