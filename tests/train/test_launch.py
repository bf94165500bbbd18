"""Submitting to a queue: settings, arguments, and a job that runs in several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from convnext.__main__ import main
from convnext.errors import RunError, UserError
from convnext.train import launch as launching
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
        launch(["train", "data"], nodes=2, gpus=8, slurm=[], out=Path("run"))


def test_a_mistake_in_several_processes_is_one_line(stripes: Path, tmp_path: Path) -> None:
    """--gpus on this machine: exit code 2, no account of torch's launcher; so in the middle, by Ctrl-C: 130."""
    command = [sys.executable, "-m", "convnext", "train", str(stripes), *SETTINGS, "--gpus", "2"]
    command += ["--out", str(tmp_path / "run"), "train.epochs=100000"]
    done = subprocess.run([*command, "train.batch=9"], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 3), done.stderr
    assert done.stderr.splitlines()[-1].startswith("convnext: train.batch = 9 cannot be shared evenly by 2 processes")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        until = time.monotonic() + 120
        while not (tmp_path / "run" / "last.state.pt").exists() and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert said.count(f"go on with: convnext train --resume --out {tmp_path / 'run'} --gpus 2\n") == 1


def test_a_machine_without_slurm_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback of submitit's."""
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match="submits to SLURM"):
        launch(["train", "data"], nodes=1, gpus=2, slurm=["partition=a"], out=tmp_path / "run")


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


def test_a_job_that_comes_back_goes_on_with_what_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preempted by submitit, or requeued by SLURM itself; not with a run that lay there before, nor with none."""
    pytest.importorskip("submitit")
    out = tmp_path / "run"
    words = ["train", "data", "--out", "run", "--overwrite"]
    out.mkdir()
    (out / "recipe.toml").write_text("of another run")
    job = Job(words, Path("run"), tmp_path)
    again = job.checkpoint().function
    assert job.words() == again.words() == words, "preempted before it replaced the other run"
    (out / "recipe.toml").unlink()
    assert again.words() == words, "killed while it did so"
    (out / "recipe.toml").write_text("its own run")
    resume = ["train", "--resume", "--out", "run"]
    assert again.words() == again.checkpoint().function.words() == resume
    assert job.words() == words, "a first start asks"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert job.words() == resume


def test_what_is_wrong_is_said_before_it_is_submitted(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key that is misspelt; --resume takes the run as --out or in the place of the data."""
    queue = ["--slurm", "partition=a"]
    assert main(["train", str(stripes), "train.epoch=3", *queue]) == 2
    assert "train.epochs" in capsys.readouterr().err
    sent: list[tuple[list[str], Path]] = []

    def submitted(job: Job, settings: dict[str, object], **more: int) -> SimpleNamespace:
        sent.append((job.arguments, job.out))
        return SimpleNamespace(job_id=1, paths=SimpleNamespace(folder=tmp_path))

    monkeypatch.setattr(launching, "submit", submitted)
    for words in (["train", "--resume", "run"], ["train", "--resume", "--out", "run"]):
        monkeypatch.setattr(sys, "argv", ["convnext", *words, *queue])
        assert main([*words, *queue]) == 0
        assert sent.pop() == (words, Path("run"))
    monkeypatch.setattr(sys, "argv", ["convnext", "train", str(stripes), *queue])
    assert main(["train", str(stripes), *queue]) == 0
    assert sent.pop() == (["train", str(stripes)], Path("runs/stripes"))


def test_a_plan_for_several_processes_is_made_by_one(stripes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Batch, share and micro-batch of each; nothing is started."""
    words = [
        "train",
        str(stripes),
        *SETTINGS[:5],
        "train.batch=12",
        "train.epochs=1",
        "train.device=cpu",
        "--gpus",
        "3",
    ]
    assert main([*words, "--dry-run"]) == 0
    assert "batch: 12 = 3 x 1 x 4 (processes x accumulated x at once)" in capsys.readouterr().out
    assert main([*words, "train.batch=8", "--dry-run"]) == 2
    assert "cannot be shared evenly by 3 processes; set it to 9" in capsys.readouterr().err
    assert main(["train", "--resume", "run", "--dry-run"]) == 2


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
    code = launch(words, nodes=2, gpus=8, slurm=["partition=a,time=90,reservation=b"], out=tmp_path / "run")
    assert code == 0
    script = (tmp_path / "script").read_text()
    for line in ("nodes=2", "ntasks-per-node=8", "gpus-per-node=8", "partition=a", "time=90", "reservation=b"):
        assert f"#SBATCH --{line}\n" in script, line
