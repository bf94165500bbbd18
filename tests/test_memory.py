"""How much memory there is."""

from __future__ import annotations

import pytest

from convnext import memory


@pytest.mark.parametrize("version", [1, 2])
def test_a_containers_memory_limit_counts(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Available is what the container may still take, not what the host has."""
    limit, used = memory._CGROUP_MEMORY[2 - version]
    files = {limit: "4000000000\n", used: "1500000000\n", "/proc/meminfo": "MemAvailable:   60000000 kB\n"}
    monkeypatch.setattr(memory, "_read", lambda path: files.get(path, ""))
    assert memory.available_memory() == 2_500_000_000
    assert memory.total_memory() <= 4_000_000_000
    files[limit] = "max\n"
    assert memory.available_memory() == 60_000_000 * 1024
