"""`python -m convnext.bench.memory`: a training step with and without the memory that the command keeps.

Each measurement is a process of its own, because the allocator's settings hold for a process; the two sides take turns.
The figures are medians over the rounds: seconds and page faults of a step, and the most memory that the process held.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time

from convnext.bench.measure import machine, options, peak_of_this_process, train_step
from convnext.run.memory import keep_memory, untuned_environment

SIDES = ("plain", "kept")


def measure_step(name: str, batch: int, size: int, steps: int) -> dict[str, float]:
    """Seconds and page faults of a training step in this process, after five to warm up, and its peak memory, bytes."""
    import torch

    from convnext.nn.create import create_model

    model = create_model(name, num_classes=10, layer_scale=0.1).to(memory_format=torch.channels_last).train()
    x = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    step = train_step(model, optimizer, x, torch.randint(0, 10, (batch,)))
    for _ in range(5):
        step()
    faults, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    for _ in range(steps):
        step()
    seconds = time.perf_counter() - start
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return {"seconds": seconds / steps, "faults": faults / steps, "peak": peak_of_this_process()}


def in_child(side: str, arguments: list[str]) -> dict[str, float]:
    """The same in a new process, whose allocator is the system's own or asked to keep what is freed."""
    command = [sys.executable, "-m", "convnext.bench.memory", "--side", side, *arguments]
    done = subprocess.run(command, env=untuned_environment(), stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Prints the table as Markdown, with the machine."""
    parser = options(__doc__, model="convnext_atto", batch=32, size=96, steps=30, rounds=5)
    parser.add_argument("--side", choices=SIDES, help="measure one side in this process, and print JSON")
    given = parser.parse_args()
    if given.side:
        if given.side == "kept" and not keep_memory():
            sys.exit("this system's allocator cannot be asked to keep memory")
        print(json.dumps(measure_step(given.model, given.batch, given.size, given.steps)))
        return
    print(f"{machine()}, {given.model} at {given.size}, batch {given.batch}, {given.rounds} rounds\n")
    arguments = [f"--{key}={getattr(given, key)}" for key in ("model", "batch", "size", "steps")]
    rounds = [{side: in_child(side, arguments) for side in SIDES} for _ in range(given.rounds)]
    print("| memory | ms a step | pictures/s | page faults a step | peak, GB |\n|---|---|---|---|---|")
    for side in SIDES:
        middle = {key: statistics.median(found[side][key] for found in rounds) for key in rounds[0][side]}
        seconds, faults, peak = middle["seconds"], middle["faults"], middle["peak"]
        print(f"| {side} | {1e3 * seconds:.1f} | {given.batch / seconds:.1f} | {faults:.0f} | {peak / 1e9:.2f} |")
    ratio = statistics.median(found["plain"]["seconds"] / found["kept"]["seconds"] for found in rounds)
    print(f"\nratio {ratio:.2f} (median of the rounds)")


if __name__ == "__main__":
    main()
