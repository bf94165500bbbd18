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


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_the_groups_own_place_counts(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group below the root, or any above it, has a limit; files that were read do not count as used."""
    root = "/sys/fs/cgroup" if version == 2 else "/sys/fs/cgroup/memory"
    limit, used = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))[2 - version]
    files = {
        "/proc/self/cgroup": "0::/jobs/one\n" if version == 2 else "9:cpu:/x\n4:memory:/jobs/one\n0::/\n",
        f"{root}/jobs/{limit}": "3000000000\n", f"{root}/jobs/{used}": "2500000000\n",
        f"{root}/jobs/memory.stat": "cache 5\ninactive_file 1000000000\nactive_file 500000000\n",
        "/proc/meminfo": "MemAvailable:   60000000 kB\n",
    }  # fmt: skip
    monkeypatch.setattr(memory, "_read", lambda path: files.get(path, ""))
    assert memory.total_memory() <= 3_000_000_000
    assert memory.available_memory() == 2_000_000_000
    files[f"{root}/jobs/one/{limit}"] = "1000000000\n"
    files[f"{root}/jobs/one/{used}"] = "100000000\n"
    assert memory.available_memory() == 900_000_000
