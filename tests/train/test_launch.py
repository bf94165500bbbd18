"""Submitting to a queue: settings, arguments, and a job that runs in several processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from convnext.errors import RunError, UserError
from convnext.train.launch import Job, launch, settings_of, submit, without

SETTINGS = [
    "weights=none", "model.name=convnext_atto", "data.size=32", "train.batch=8", "train.lr=1e-3",
    "train.precision=fp32", "train.epochs=1", "data.workers=0", "train.device=cpu",
]  # fmt: skip


def test_settings_of_a_queue_are_read() -> None:
    """Numbers are numbers; several words or one with commas."""
    assert settings_of(["partition=gpu,time=60", "account=me"]) == {"partition": "gpu", "time": 60, "account": "me"}
    for wrong in ("gpu", "=gpu", "partition=", "time=1:00:00"):
        with pytest.raises(UserError, match="--slurm"):
            settings_of([wrong])


def test_a_job_has_the_command_without_what_submits_it() -> None:
    """In both spellings."""
    words = ["train", "data", "--gpus", "8", "--slurm=partition=a", "--nodes=2", "train.epochs=3", "--out", "run"]
    assert without(words) == ["train", "data", "train.epochs=3", "--out", "run"]


def test_several_machines_need_a_queue() -> None:
    """The message names both ways."""
    with pytest.raises(UserError, match="torchrun --nnodes 2"):
        launch(["train", "data"], nodes=2, gpus=8, slurm=[], out=None, data=None)


def test_a_machine_without_slurm_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback of submitit's."""
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match="submits to SLURM"):
        launch(["train", "data"], nodes=1, gpus=2, slurm=["partition=a"], out=tmp_path / "run", data=None)


def test_a_job_trains_in_two_processes(stripes: Path, tmp_path: Path) -> None:
    """submitit's own executor for one machine: the processes find their places, and train to the end."""
    pytest.importorskip("submitit")
    out = tmp_path / "run"
    job = submit(
        Job(["train", str(stripes), *SETTINGS, "--out", str(out)], out, Path.cwd()),
        {},
        nodes=1,
        gpus=2,
        cluster="local",
    )
    job.results()
    assert (out / "report.html").exists()
    again = Job(["train"], out, Path(os.sep)).checkpoint()
    assert again.function.arguments == ["train", "--resume", "--out", str(out)]


def test_what_is_submitted_is_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a queue that only keeps the script: machines, processes, GPUs, minutes, and settings of one's own."""
    pytest.importorskip("submitit")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("srun", "exit 0"), ("sbatch", f'cp "$1" {tmp_path}/script; echo Submitted batch job 17')):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    words = ["train", "data", "--nodes", "2", "--gpus", "8", "--slurm", "partition=a,time=90,reservation=b"]
    code = launch(words, nodes=2, gpus=8, slurm=["partition=a,time=90,reservation=b"], out=tmp_path / "run", data=None)
    assert code == 0
    script = (tmp_path / "script").read_text()
    for line in ("nodes=2", "ntasks-per-node=8", "gpus-per-node=8", "partition=a", "time=90", "reservation=b"):
        assert f"#SBATCH --{line}\n" in script, line
