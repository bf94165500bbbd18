"""Several processes on one machine by gloo: the same weights as one process, and an end to all when one dies."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convnext.config import load_recipe
from convnext.data.feed.loader import EpochSampler
from convnext.errors import RecipeError, RunError, UserError
from convnext.evaluate.evaluate import evaluate_run
from convnext.nn.weights.load import read_model
from convnext.run.state import read_state_file
from convnext.tasks.collect import Predictions, in_order
from convnext.tasks.records import Records
from convnext.train import distributed, resume
from convnext.train.distributed import Ranks, Watch, joined, part_of
from convnext.train.train import train_run

SETTINGS = [
    "weights=none", "model.name=convnext_atto", "data.size=32", "model.stem_patch=4", "train.batch=8",
    "train.lr=1e-3", "train.precision=fp32", "train.epochs=2", "data.workers=0", "train.device=cpu",
    "train.keep_state=true",
]  # fmt: skip
TIMEOUT = 240


def several(count: int, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`convnext WORDS` in `count` processes, by torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    return subprocess.run(
        [*command, "-m", "convnext", *words], capture_output=True, text=True, timeout=TIMEOUT, cwd=folder, check=False
    )


def test_two_processes_end_with_the_weights_of_one(stripes: Path, tmp_path: Path) -> None:
    """The same effective batch, mixup and drop path off: after two epochs weights, average and metrics agree.

    Sums are added up in another order, so they agree to rounding: 2e-4 of the weights' deviation after 12 steps.
    """
    alone = train_run(stripes, load_recipe(None, [*SETTINGS, "train.micro_batch=2"]), tmp_path / "one")
    settings = [*SETTINGS, "train.micro_batch=2"]  # two micro-batches in each process: gradients meet once a step
    done = several(2, "train", str(stripes), *settings, "--out", str(tmp_path / "two"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    one, two = (read_state_file(tmp_path / name / "last.state.pt") for name in ("one", "two"))
    assert one["progress"]["step"] == two["progress"]["step"] > 0
    assert len(two["random"]) == 2
    for key in one["model"]:
        torch.testing.assert_close(two["model"][key], one["model"][key], rtol=1e-3, atol=2e-4, msg=key)
        average = one["ema"]["average"][key]
        torch.testing.assert_close(two["ema"]["average"][key], average, rtol=1e-3, atol=2e-4, msg=key)
    logs = [
        [json.loads(line) for line in (tmp_path / n / "log.jsonl").read_text().splitlines()] for n in ("one", "two")
    ]
    for first, second in zip(*logs, strict=True):
        assert second["train_loss"] == pytest.approx(first["train_loss"], abs=1e-3)
        assert second["val_loss"] == pytest.approx(first["val_loss"], abs=1e-3)
        assert second["train_top1"] == pytest.approx(first["train_top1"], abs=0.05)
    assert done.stderr.count("trained 2 epochs") == 1  # one process speaks
    assert "UserWarning" not in done.stderr
    assert (tmp_path / "two" / "report.html").exists()
    assert len(alone.read_log()) == 2


def test_shares_of_a_network_end_with_the_weights_of_one_process(stripes: Path, tmp_path: Path) -> None:
    """fsdp2 in two processes: weights and average as in one process, and the state goes on where it stopped."""
    train_run(stripes, load_recipe(None, [*SETTINGS]), tmp_path / "one")
    settings = [*SETTINGS, "train.sharding=fsdp2"]
    done = several(2, "train", str(stripes), *settings, "--out", str(tmp_path / "two"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    one, two = (read_state_file(tmp_path / name / "last.state.pt") for name in ("one", "two"))
    for key in one["model"]:
        torch.testing.assert_close(two["model"][key], one["model"][key], rtol=1e-3, atol=2e-4, msg=key)
        average = one["ema"]["average"][key]
        torch.testing.assert_close(two["ema"]["average"][key], average, rtol=1e-3, atol=2e-4, msg=key)
    recipe = tmp_path / "two" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("epochs = 2 ", "epochs = 3 "))
    done = several(2, "train", "--resume", "--out", str(tmp_path / "two"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "two" / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[2]["train_loss"] < rows[0]["train_loss"]


def test_a_run_goes_on_with_another_number_of_processes(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs in two processes, the third in one; every epoch is there, once. Three cannot share its batch of 8.

    The network has batch norm: what was judged by two processes is what one finds with the weights that were kept.
    """
    settings = [s for s in SETTINGS if not s.startswith(("model.", "data.size"))]
    settings += ["model.name=timm:test_resnet", "data.size=64"]
    done = several(2, "train", str(stripes), *settings, "--out", str(tmp_path / "run"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    alone = evaluate_run(tmp_path / "run", split="val", which="last").result
    assert alone["nll"] == pytest.approx(last["val_loss"], rel=1e-5)
    recipe = tmp_path / "run" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("epochs = 2 ", "epochs = 3 "))
    with monkeypatch.context() as three:
        three.setattr(resume, "joined", lambda device: contextlib.nullcontext(Three(0, 3)))
        with pytest.raises(
            RunError, match=r"batches of 8 pictures, which 3 processes cannot share.*go on with 1, 2, 4, 8$"
        ):
            resume.resume_run(tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-m", "convnext", "train", "--resume", "--out", str(tmp_path / "run")],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    weights = read_model(tmp_path / "run" / "last.safetensors")[0]
    assert all(torch.isfinite(w).all() for w in weights.values() if w.is_floating_point())


class Three(Ranks):
    """Rank 0 of three, of whom the others agree with everything."""

    def together(self, work: Callable[[], Any]) -> Any:
        return work()

    agree = together


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_dead_process_ends_the_others_within_a_minute(stripes: Path, tmp_path: Path) -> None:
    """Rank 1 of two is killed: rank 0 ends with a message and exit code 1, although nobody supervises them."""
    port = free_port()
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    settings = [*(s for s in SETTINGS if "epochs" not in s), "train.epochs=10000"]
    command = [sys.executable, "-m", "convnext", "train", str(stripes), *settings, "--out", str(tmp_path / "run")]
    processes = [
        subprocess.Popen(
            command, env=os.environ | places | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.DEVNULL if rank else subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        until = time.monotonic() + 120
        while not (tmp_path / "run" / "last.state.pt").exists() and time.monotonic() < until:
            assert processes[0].poll() is None
            time.sleep(0.05)
        processes[1].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        said = processes[0].communicate(timeout=90)[1]
        assert time.monotonic() - killed < 60
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert processes[0].returncode == 1
    assert "all stop" in said
    assert "Traceback" not in said
    assert "--resume" in said


def test_ctrl_c_stops_all_after_the_step(stripes: Path, tmp_path: Path) -> None:
    """torchrun sends two signals at once; both processes end, the state is saved, and how to go on is said once."""
    settings = [*(s for s in SETTINGS if "epochs" not in s), "train.epochs=10000"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "convnext", "train", str(stripes), *settings, "--out", str(tmp_path / "run")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        until = time.monotonic() + 120
        while not (tmp_path / "run" / "last.state.pt").exists() and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert said.count("go on with: convnext train --resume") == 1
    assert said.count("once the state is saved") == 1
    assert read_state_file(tmp_path / "run" / "last.state.pt")["progress"]["step"] > 0


def test_silence_is_noticed() -> None:
    """The watch knows who is silent, who failed, and who ended as it should."""

    class Store(dict[str, int]):
        def add(self, key: str, amount: int) -> int:
            self[key] = self.get(key, 0) + amount
            return self[key]

    store = Store()
    watch = Watch(store, 0, 3, beat=0.01, silence=0.05)  # type: ignore[arg-type]
    store.add("beat-1", 1)
    store.add("beat-2", 1)
    assert watch._silent() == ""
    time.sleep(0.06)
    store.add("beat-2", 1)
    assert watch._silent() == "process 1 has not been heard of for 0 s"
    store.add("ended-1", 1)
    assert watch._silent() == ""
    store.add("failed-2", 1)
    assert watch._silent() == "process 2 stopped with an error"


def test_a_mistake_is_said_once_and_ends_all(tmp_path: Path) -> None:
    """No data: one message from two processes, exit code 2, nothing made."""
    done = several(2, "train", str(tmp_path / "nothing"), *SETTINGS, "--out", str(tmp_path / "run"), folder=tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("convnext: ") == 1, done.stderr
    assert "exitcode  : 2" in done.stderr.replace("exitcode :", "exitcode  :")
    assert not (tmp_path / "run").exists()


def test_processes_with_different_pictures_are_refused(stripes: Path, tmp_path: Path) -> None:
    """Two machines' own copies, of which one lacks a picture: their parts of a batch would not be parts of one."""
    for rank in range(2):
        shutil.copytree(stripes, tmp_path / str(rank) / "data")
    next((tmp_path / "1" / "data").glob("wide/*")).unlink()
    script = tmp_path / "each.py"
    script.write_text(
        "import os, sys\nfrom convnext.__main__ import main\n"
        "os.chdir(os.environ['LOCAL_RANK'])\nsys.exit(main(sys.argv[1:]))\n"
    )
    words = ["train", "data", *SETTINGS, "--out", str(tmp_path / "run")]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert done.returncode != 0
    assert done.stderr.count("data must hold the same pictures for every process: process 1 has others") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("world", [1, 2, 4])
def test_every_process_takes_its_part_of_every_batch(world: int) -> None:
    """Together they have the batches of one process, in order."""
    whole = list(EpochSampler(50, 8, 3, 32))
    parts = [list(EpochSampler(50, 8, 3, 32, rank, world)) for rank in range(world)]
    assert [[item for part in parts for item in part[i]] for i in range(len(whole))] == whole


def test_predictions_of_uneven_parts_are_put_in_order() -> None:
    """Every picture once, in the order of one process, whoever had it; failures are kept."""
    values = np.arange(14, dtype=np.float32).reshape(7, 2)
    parts = []
    for rank in range(3):
        at = np.arange(rank, 7, 3)
        parts.append(Predictions(Records({"values": values[at], "truth": at * 10}), at, (f"failed {rank}",)))
    found = in_order([*parts, Predictions(Records(), np.zeros(0, np.int64), ())])
    np.testing.assert_array_equal(found.records["values"], values)
    np.testing.assert_array_equal(found.records["truth"], np.arange(7) * 10)
    assert found.failed == ("failed 0", "failed 1", "failed 2")


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    """With the number that would do."""
    assert part_of(24, Ranks(0, 3)) == 8
    with pytest.raises(RecipeError, match="set it to 24"):
        part_of(25, Ranks(0, 3))


def test_half_an_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """WORLD_SIZE without the rest says what is missing."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="RANK, MASTER_ADDR, MASTER_PORT is not set"), joined("cpu"):
        pass


def test_one_process_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, every question is answered without a word to anybody."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    work: Callable[[], int] = lambda: 3  # noqa: E731
    with joined() as ranks:
        assert (ranks.together(work), ranks.agree(work), ranks.gather(3)) == (3, 3, [3])
        assert ranks.total([1.5, 2.0], torch.device("cpu")) == [1.5, 2.0]
        ranks.wait()
    assert distributed.random_states(ranks) is None
