"""What the benches share: sides that take turns, a training step, and the line that names the machine.

Torch comes in only where it is used: `bench.memory` sets the allocator up before.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def options(doc: str | None, **defaults: int | float | str) -> argparse.ArgumentParser:
    """A parser with one option for each default, of the default's type."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"default: {value}")
    return parser


def machine(threads: int | None = None) -> str:
    """Processor, threads, torch's version and the day, for the head of a table."""
    from convnext.run.environment import describe_environment

    facts = describe_environment("")
    threads = threads or facts["threads"]
    return f"{facts['cpu']}, threads: {threads}, torch {facts['torch']}, {facts['date'][:10]}"


def in_turn(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each side, measured in turn after one warm-up round."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, work in sides.items():
            start = time.perf_counter()
            work()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, labels: Tensor) -> Callable[[], None]:
    """A training step on one batch, as something to call again and again."""
    import torch.nn.functional as F

    def step() -> None:
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def peak_of_this_process() -> int:
    """Bytes that this program has held at most.

    On Linux `ru_maxrss` is no less than what the process that started this one held, so the system is asked otherwise.
    """
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)  # bytes there, kilobytes elsewhere
