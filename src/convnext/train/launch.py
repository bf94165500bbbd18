"""`convnext train --gpus M` on this machine by torchrun; with `--nodes N --slurm ...` on a cluster, by submitit."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
import uuid
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from convnext.errors import RunError, UserError
from convnext.run.environment import launched, usable_cores
from convnext.run.folder import STARTED
from convnext.run.record import say

OPTIONS = ("--gpus", "--nodes", "--slurm")
KNOWN = ("partition", "account", "qos", "mem", "cpus_per_task", "constraint", "gpus_per_node", "exclude")


class Job:
    """One process of a training on a cluster; submitit sends it there and calls it.

    Args:
        arguments: those of the command `convnext`, without what only submits.
        out: the run folder.
        place: the folder from which relative paths count.
        again: whether it was sent back to the queue.
    """

    def __init__(self, arguments: list[str], out: Path, place: Path, *, again: bool = False) -> None:
        self.arguments, self.out, self.place, self.again = arguments, out, place, again
        self.before = self._stamp()

    def __call__(self) -> int:
        """Trains."""
        import submitit

        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
        words = self.words()
        code = subprocess.run([sys.executable, "-m", "convnext", *words], cwd=self.place, check=False).returncode
        if code:
            raise RuntimeError(f"convnext {shlex.join(words)} ended with exit code {code}")
        return code

    def words(self) -> list[str]:
        """The arguments with which it starts: a job that was sent back to the queue goes on with the run it has begun.

        A run that lay there when the job was submitted is not one that it has begun.
        """
        back = self.again or launched("SLURM_RESTART_COUNT", 0) > 0
        begun = self._stamp() not in (None, self.before)
        return ["train", "--resume", "--out", str(self.out)] if back and begun else self.arguments

    def checkpoint(self) -> Any:
        """What comes after preemption or the time limit: the same job, which goes on from the last saved state."""
        import submitit

        job = Job(self.arguments, self.out, self.place, again=True)
        job.before = self.before
        return submitit.helpers.DelayedSubmission(job)

    def _stamp(self) -> tuple[int, int] | None:
        """What tells the run in the folder from another; None without one."""
        try:
            status = (self.place / self.out / "recipe.toml").stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino


def launch(arguments: list[str], *, nodes: int, gpus: int, slurm: list[str], out: Path) -> int:
    """Starts the same command in several processes; returns the exit code.

    Args:
        arguments: of the whole command, "train" first.
        nodes: machines.
        gpus: processes on each.
        slurm: settings of the job, "partition=NAME" and the like; empty: this machine, without a queue.
        out: the run folder.

    Raises:
        UserError: several machines without a queue, or a setting is not understood.
        RunError: submitit is not installed.
    """
    rest = without(arguments)
    if not slurm:
        if nodes > 1:
            raise UserError(
                f"--nodes {nodes} needs a queue: add --slurm partition=NAME; or start "
                f"`torchrun --nnodes {nodes} --nproc-per-node {max(1, gpus)} ... -m convnext train ...` on each machine"
            )
        return launch_here(rest, gpus)
    job = submit(Job(rest, out, Path.cwd()), settings_of(slurm), nodes=nodes, gpus=max(1, gpus))
    say(f"submitted as job {job.job_id}: {nodes} x {max(1, gpus)} processes; what they say is in {job.paths.folder}")
    say(f"watch it by: squeue -j {job.job_id}; the run grows in {out}")
    return 0


def launch_here(arguments: list[str], count: int) -> int:
    """Runs the command in `count` processes on this machine, by torch's own launcher; gives the exit code.

    It is what `torchrun --standalone` does, without its account of which process failed: they have said why themselves.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    os.environ[STARTED] = f"--gpus {count}"
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // count)))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-m", "convnext", *arguments)
    except ChildFailedError as failed:
        codes = {failure.exitcode for failure in failed.failures.values()}
        return next((code for code in (130, 2) if code in codes), 1)
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    return 0


def submit(job: Job, settings: dict[str, Any], *, nodes: int, gpus: int, cluster: str = "slurm") -> Any:
    """Sends a job to the queue, as many processes as there are GPUs; gives submitit's job.

    Raises:
        RunError: submitit or the queue is not there.
    """
    if find_spec("submitit") is None:
        raise RunError("--slurm needs the package submitit: pip install 'convnext[scale]'")
    import submitit

    folder = job.out.parent / f"{job.out.name}-jobs"
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    except RuntimeError as error:
        raise RunError(f"--slurm: {str(error).splitlines()[0]}; is this a machine that submits to SLURM?") from None
    known = {f"slurm_{key}": value for key, value in settings.items() if key in KNOWN}
    other = {key: value for key, value in settings.items() if key not in (*KNOWN, "time")}
    queue = {"slurm_gpus_per_node": gpus} | known | {"slurm_additional_parameters": other}
    executor.update_parameters(
        name=f"convnext-{job.out.name}", nodes=nodes, tasks_per_node=gpus, timeout_min=int(settings.get("time", 2880)),
        **(queue if cluster == "slurm" else {}),
    )  # fmt: skip
    return executor.submit(job)


def settings_of(words: list[str]) -> dict[str, Any]:
    """`partition=gpu`, `time=2880,account=me`, ... as a table.

    Raises:
        UserError: a word is not key=value.
    """
    found: dict[str, Any] = {}
    for word in (part for text in words for part in text.split(",") if part):
        key, sign, value = word.partition("=")
        if not sign or not key.isidentifier() or not value:
            raise UserError(
                f'--slurm "{word}" is not understood; write key=value, as partition=gpu or time=2880 (minutes)'
            )
        if key == "time" and not value.isdecimal():
            raise UserError(f'--slurm time="{value}": it must be a whole number of minutes, as time=2880')
        found[key] = int(value) if value.isdecimal() else value
    return found


def without(arguments: list[str]) -> list[str]:
    """A command's arguments without the options that start several processes."""
    kept, skip = [], False
    for word in arguments:
        if skip:
            skip = False
        elif word in OPTIONS:
            skip = True
        elif not word.startswith(tuple(f"{option}=" for option in OPTIONS)):
            kept.append(word)
    return kept
