"""Memory that a command keeps, counted by the system's page faults."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from convnext.run.memory import keep_memory, untuned_environment

STEPS = """
import resource, sys
if sys.argv[1] == "keep":
    from convnext.run.memory import keep_memory
    assert keep_memory()
import torch
def step():
    held = [torch.ones(10_000_000) for _ in range(2)]
    del held
for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator can be asked")
def test_a_step_that_repeats_faults_no_more() -> None:
    """Rounds of tensors of 40 MB, more than glibc keeps alone: a fault for every page without, next to none with it."""
    found = {}
    for mode in ("keep", "plain"):
        command = [sys.executable, "-c", STEPS, mode]
        done = subprocess.run(command, env=untuned_environment(), capture_output=True, check=True)
        found[mode] = int(done.stdout)
    assert found["keep"] * 10 < found["plain"]


def test_the_users_own_setting_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a MALLOC_ variable set, the allocator is left alone."""
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    assert not keep_memory()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"
