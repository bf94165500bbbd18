"""What a result depends on besides the recipe: versions, processor, memory, commit."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext.errors import UserError
from convnext.memory import total_memory

if TYPE_CHECKING:
    import torch


def describe_environment(command: str) -> dict[str, Any]:
    """A flat description of software and machine, for environment.json."""
    import torch

    facts: dict[str, Any] = {"command": command, "date": datetime.datetime.now().astimezone().isoformat("T", "seconds")}
    for package in ("convnext", "torch", "torchvision", "timm", "numpy", "pillow"):
        facts[package] = _version(package)
    facts |= {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "memory_gb": round(total_memory() / 1e9, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "git_commit": _git_commit(),
    }
    return facts


def command_line() -> str:
    """The command that this process runs, as it can be typed again."""
    first, *rest = sys.argv or [""]
    if Path(first).name in ("convnext", "convnext.exe") or Path(first).parts[-2:] == ("convnext", "__main__.py"):
        return shlex.join(["convnext", *rest])
    return shlex.join(["python", first, *rest] if first.endswith(".py") else [first, *rest])


def find_device(name: str) -> torch.device:
    """The device of that name; the best that there is for "auto".

    Raises:
        UserError: this machine does not have it.
    """
    import torch

    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    there += ["mps"] if torch.backends.mps.is_available() else []
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else there[-1]
    if name in there or (name == "cuda" and len(there) > 1 and "cuda:0" in there):
        return torch.device(name)
    raise UserError(f'there is no device "{name}"; this machine has {", ".join(there)}; "auto" takes the best of them')


def is_first_process() -> bool:
    """Whether this process speaks and writes: alone, or rank 0 of those that torchrun, srun or submitit started."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def launched(name: str, default: int, *, least: int = 0, most: int = 1 << 20) -> int:
    """A number that torchrun, srun or submitit hand over in the environment; `default` where it is not set.

    Raises:
        UserError: it is no whole number from `least` to `most`.
    """
    text = os.environ.get(name)
    if not text or not text.strip():
        return default
    number = int(text) if re.fullmatch(r"\d{1,7}", text.strip(), re.ASCII) else None
    if number is None or not least <= number <= most:
        raise UserError(
            f"the environment variable {name} is {text[:40]!r}; launchers such as torchrun set it to a whole number, "
            f"{least} to {most}. Unset it to train alone, or start by `torchrun --nproc-per-node N -m convnext train`"
        )
    return number


def usable_cores() -> int:
    """Cores that this process may use; a container's limit counts."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def forget_peak(device: torch.device) -> None:
    """Starts anew with what `peak_memory` finds, where the system can do that."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> int:
    """Bytes that this program has held at most: on the GPU, or in memory; 0 where the system does not say."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    found = re.search(r"VmHWM:\s+(\d+) kB", _read("/proc/self/status"))
    return int(found[1]) * 1024 if found else 0


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cpu_name() -> str:
    found = re.search(r"model name\s*:\s*(.+)", _read("/proc/cpuinfo"))
    return found[1].strip() if found else platform.processor() or platform.machine()


def _git_commit() -> str:
    """The commit of this package's own checkout, where it runs from one."""
    here = Path(__file__).resolve().parent
    if not any((parent / ".git").exists() for parent in here.parents[:4]):
        return "not a checkout"
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here, capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return commit.stdout.strip()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
