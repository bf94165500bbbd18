"""Cores that others use: what is measured, and what is made of it."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from pathlib import Path

import pytest
import torch

from convnext.run import cores
from convnext.run.cores import Cores, Usage, Way, others, usage

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")


def burn(seconds: float) -> None:
    """So many seconds of one core's time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(1000))


def test_others_are_all_but_us() -> None:
    """Three seconds of two cores, of which one and a half were ours."""
    assert others(Usage(10.0, 100.0, 40.0), Usage(12.0, 103.0, 41.5)) == pytest.approx(0.75)
    assert others(Usage(10.0, 100.0, 40.0), Usage(12.0, 101.0, 43.0)) == 0.0


@linux
def test_our_own_work_and_that_of_our_workers_is_not_the_others() -> None:
    """The CPU time of this process agrees with the system's own clock for it, and a child's is in it."""
    before, clock = usage(), time.process_time()
    child = multiprocessing.get_context("fork").Process(target=burn, args=(0.6,))
    child.start()
    while (running := usage()) is not None and before is not None:
        if running.own - before.own >= time.process_time() - clock + 0.2:
            break  # some of the child's time is in it, while it works
        time.sleep(0.01)
    assert running is not None
    child.join()
    after, spent = usage(), time.process_time() - clock
    assert before is not None
    assert after is not None
    assert after.own - before.own == pytest.approx(spent + 0.6, abs=0.15)  # and all of it when it has ended


def count_threads() -> int:
    """Threads of this process."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


class Scripted(Cores):
    """Cores whose load a test writes."""

    load = 0.0

    def _look(self) -> None:
        self.taken = self.load
        self.before = Usage(time.monotonic(), 0.0, 0.0)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """With two threads, a look at every step, and nobody's OMP_ variables."""
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cores, "LOOK_EVERY", 0.0)
    torch.set_num_threads(2)
    return Scripted()


def test_the_quickest_way_is_measured_and_left_again(script: Scripted, capsys: pytest.CaptureFixture[str]) -> None:
    """Others come: each way has its steps, the quickest stays; they go: it is as before. Both are said."""
    with script.watched():
        assert torch.get_num_threads() == 2
        script.load = 1.9
        for _ in range(2 + 3 * cores.TRIES):
            script.step(0.1 if torch.get_num_threads() == 1 else 0.5)
        assert torch.get_num_threads() == 1
        assert "other programs use 1.9" in (said := capsys.readouterr().err)
        assert "quickest beside them: one thread, 5.0 times as fast" in said
        script.load = 0.0
        for _ in range(2):
            script.step(0.1)
        assert torch.get_num_threads() == 2
        assert "free again" in capsys.readouterr().err
    assert script.usual == Way(0)


def test_a_moment_of_work_by_others_changes_nothing(script: Scripted) -> None:
    """One look alone is any machine's noise."""
    with script.watched():
        for load in (0.0, 1.5, 0.0, 1.5, 0.0):
            script.load = load
            script.step(0.1)
        assert not script.trials
        assert not script.met


def test_who_sets_the_number_of_threads_has_the_last_word(
    script: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With OMP_NUM_THREADS it is said that others compute, and nothing is changed."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    script.load = 2.0
    with script.watched():
        for _ in range(20):
            script.step(0.1)
        assert torch.get_num_threads() == 2
        assert script.crowd.thread is None
    assert "other programs use 2.0" in capsys.readouterr().err


@linux
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has nobody to wait for")
def test_a_crowd_comes_and_goes() -> None:
    """The threads are there while they are wanted; results are the same bits with them and without."""
    torch.set_num_threads(2)
    x = torch.randn(256, 256)
    before, crowd = x @ x, cores.Crowd()
    tasks = count_threads()
    crowd.come()
    assert count_threads() > tasks
    assert torch.equal(x @ x, before)
    crowd.go()
    assert crowd.thread is None
