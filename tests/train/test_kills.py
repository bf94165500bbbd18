"""Runs that are killed at random moments end with the weights of the run that nobody disturbed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from convnext.config import load_recipe
from convnext.run.state import read_state_file
from convnext.train.train import train_run

SETTINGS = [
    "weights=none", "model.name=convnext_atto", "data.size=32", "model.stem_patch=4", "model.drop_path=0.2",
    "train.batch=8", "train.lr=1e-3", "train.precision=fp32", "train.epochs=3", "train.save_every=1e-6",
    "augment.mixup=0.2", "augment.cutmix=1.0", "augment.erasing=0.25", "train.clip_grad=1.0",
    "train.keep_state=true",
]  # fmt: skip


def command(*words: str) -> list[str]:
    """The command line in this Python."""
    return [sys.executable, "-m", "convnext", *words]


def kill_all(run: Path) -> None:
    """Ends every process whose command line names the run, its launcher and its workers."""
    while True:
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(run).encode() in (place / "cmdline").read_bytes() and int(place.name) != os.getpid():
                    os.kill(int(place.name), signal.SIGKILL)
                    found += [place] if (place / "stat").read_text().rpartition(")")[2].split()[0] != "Z" else []
        if not found:
            return
        time.sleep(0.05)


def kill_until_done(
    begin: list[str], run: Path, draw: random.Random, kills: int, longest: float, again: tuple[str, ...] = ()
) -> list[str]:
    """Starts a run and kills it `kills` times, each time a random while after its state is there; then lets it end.

    Returns what the last process said. `again` are options that a resume takes too.
    """
    done = 0
    start, resume = begin, command("train", "--resume", "--out", str(run), *again)
    for _ in range(10 * kills):
        process = subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seen = (run / "last.state.pt").stat().st_mtime_ns if (run / "last.state.pt").exists() else 0
        until = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < until:  # kills before its first state teach little
            if (run / "last.state.pt").exists() and (run / "last.state.pt").stat().st_mtime_ns != seen:
                break
            time.sleep(0.002)
        time.sleep(draw.uniform(0, longest))
        if process.poll() is not None or done == kills:
            process.wait()
            break
        process.kill()
        kill_all(run)
        process.wait()
        done += 1
        start = resume
    final = subprocess.run(resume, capture_output=True, text=True, check=False)
    assert final.returncode == 0 or "is finished" in final.stderr, final.stderr
    assert done == kills, f"the run ended after {done} kills"
    return final.stderr.splitlines()


def same(a: object, b: object) -> bool:
    """Whether two states are equal to the bit, all the way down."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def differing(whole: Path, killed: Path) -> list[str]:
    """What differs between two states, but for the time that they took and the names of their runs."""
    first, second = read_state_file(whole / "last.state.pt"), read_state_file(killed / "last.state.pt")
    for content in (first, second):
        content["progress"].pop("seconds")
        content.pop("run")
    return [key for key in first.keys() | second.keys() if not same(first.get(key), second.get(key))]


def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(stripes: Path, tmp_path: Path) -> None:
    """kill -9, several times: weights, optimizer, average, random state, best and step, bit for bit.

    The state is saved after every step, so that kills fall between and into savings, within epochs and at their end.
    """
    whole = train_run(stripes, load_recipe(None, [*SETTINGS, "data.workers=0"]), tmp_path / "whole")
    run = tmp_path / "killed"
    begin = command("train", str(stripes), *SETTINGS, "data.workers=1", "--out", str(run))
    kill_until_done(begin, run, random.Random(7), kills=4, longest=0.6)
    assert differing(whole.path, run) == []
    assert [row["epoch"] for row in whole.read_log()] == [1, 2, 3]


@pytest.mark.full
def test_two_processes_killed_at_random_moments_end_as_if_they_had_not_been(stripes: Path, tmp_path: Path) -> None:
    """Both at once, in the middle of epochs too, with accumulation and with what each draws for itself."""
    settings = [*SETTINGS, "train.epochs=6", "train.micro_batch=2", "train.device=cpu", "data.workers=0"]
    for name in ("whole", "killed"):
        begin = command("train", str(stripes), *settings, "--out", str(tmp_path / name), "--gpus", "2")
        if name == "whole":
            subprocess.run(begin, check=True, capture_output=True)
        else:
            kill_until_done(begin, tmp_path / name, random.Random(3), kills=5, longest=0.5, again=("--gpus", "2"))
    assert differing(tmp_path / "whole", tmp_path / "killed") == []


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_flowers_killed_twenty_times_ends_with_the_weights_of_the_uninterrupted_run(
    shared_data: Path, tmp_path: Path
) -> None:
    """Two epochs of the recipe for flowers, killed at 20 random moments, with another number of loader processes."""
    flowers = shared_data / "flowers"
    settings = ["recipes/flowers.toml", "train.epochs=2", "train.warmup_epochs=0.5", "train.save_every=0.02"]
    settings += ["train.keep_state=true"]
    recipe = load_recipe(Path(settings[0]), [*settings[1:], "data.workers=0"])
    whole = train_run(flowers, recipe, tmp_path / "whole")
    run = tmp_path / "killed"
    begin = command("train", str(flowers), *settings, "data.workers=2", "--out", str(run))
    kill_until_done(begin, run, random.Random(11), kills=20, longest=1.5)
    assert differing(whole.path, run) == []
