"""Loaders whose waits have an end: processes that are stopped, ended or hang, small shared memory, pools."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from convnext.data.feed import feed
from convnext.data.feed.feed import Loader
from convnext.data.feed.loader import Batch, Collate, EvalPictures, PackedBatch, Preprocessing, eval_loader
from convnext.data.sources.dataset import Sample
from convnext.errors import LoaderLost, StoppedWaiting
from convnext.tasks.classify.meaning import Classes
from convnext.tasks.classify.targets import read_dataset

PREPROCESSING = Preprocessing(32, 0.875, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 3)


class Numbers(torch.utils.data.Dataset[Any]):
    """0, 1, 2, …; from `at` on each is kept back by what `wait` does in the loader's process."""

    def __init__(self, at: int, wait: Callable[[], object]) -> None:
        self.at, self.wait = at, wait

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> int:
        if index == self.at:
            self.wait()
        return index


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait is said after 0.2 s; stopped and idle processes are given up after half a second and three."""
    for name, seconds in (("LOOK", 0.1), ("TOLD", 0.2), ("STOPPED", 0.5), ("STILL", 3.0)):
        monkeypatch.setattr(feed, name, seconds)
    monkeypatch.setattr(feed, "_told", set())


def loader(at: int, wait: Callable[[], object], persistent: bool = False) -> Loader[Any]:
    """One process that meets `wait`."""
    return Loader(
        Numbers(at, wait), batch_size=2, num_workers=1, persistent_workers=persistent,
        generator=torch.Generator(), worker_init_fn=feed.leave_signals_to_parent,
    )  # fmt: skip


def stop_myself() -> None:
    """As `kill -STOP` of this process."""
    os.kill(os.getpid(), signal.SIGSTOP)


def hang() -> None:
    """Does nothing, for ever."""
    threading.Event().wait()


def die() -> None:
    """As killed from outside."""
    os.kill(os.getpid(), signal.SIGKILL)


def none_left() -> bool:
    """Whether all processes that this one started are gone, or go in a moment."""
    end = time.monotonic() + 5
    while multiprocessing.active_children() and time.monotonic() < end:
        time.sleep(0.05)
    return not multiprocessing.active_children()


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize(
    ("wait", "words", "said"),
    [
        (stop_myself, r"no picture came for \d+ s: process \d+ is stopped \(kill -CONT", "is stopped"),
        (hang, r"no picture came for \d+ s: none of the loader processes does anything", "waiting for pictures for"),
        (die, r"a process that loads pictures was ended from outside \(.+\)", ""),
    ],
)
def test_a_process_that_stands_still_is_said_and_given_up(
    wait: Callable[[], object], words: str, said: str, persistent: bool, hurried: None,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Batches come in order; then it is said what is waited for, and it ends, with its processes."""
    batches, got = loader(4, wait, persistent), []
    with pytest.raises(LoaderLost, match=words) as caught:
        got.extend(batch.tolist() for batch in batches)
    assert got == [[0, 1], [2, 3]][: len(got)]  # what it was handing over is lost with it
    assert "--shm-size" in str(caught.value)
    assert said in capsys.readouterr().err
    assert none_left()


def test_waiting_ends_when_it_is_asked_to(hurried: None) -> None:
    """A request to stop is heard while a batch is waited for, not only between batches; processes end."""
    batches = loader(4, stop_myself, persistent=True)
    since = time.monotonic()
    batches.stop = lambda: time.monotonic() - since > 0.3
    with pytest.raises(StoppedWaiting):
        list(batches)
    assert none_left()


def test_processes_that_were_stopped_between_two_epochs_are_given_up(hurried: None) -> None:
    """An epoch begins by asking the processes whether they are there; one that is stopped does not answer."""
    batches = loader(-1, hang, persistent=True)
    assert len(list(batches)) == 6
    for worker in batches._iterator._workers:  # type: ignore[union-attr]
        os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(LoaderLost, match="is stopped"):
        list(batches)
    assert none_left()


def test_a_slow_process_that_works_is_waited_for(hurried: None, capsys: pytest.CaptureFixture[str]) -> None:
    """However long it takes, where the processor's ticks show that it works; its wait is said."""

    def work() -> None:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            sum(range(1000))

    assert [batch.tolist() for batch in loader(4, work)][2:4] == [[4, 5], [6, 7]]
    assert "waiting for pictures for" in capsys.readouterr().err


def test_batches_and_epochs_are_torchs(hurried: None) -> None:
    """Epoch after epoch, and after a loop that was left early, the same batches as torch's own loader gives."""
    ours = loader(-1, hang, persistent=True)
    wanted = [batch.tolist() for batch in DataLoader(Numbers(-1, hang), batch_size=2)]
    for batch in ours:
        assert batch.tolist() == [0, 1]
        break
    assert [batch.tolist() for batch in ours] == wanted
    assert [batch.tolist() for batch in ours] == wanted
    feed.end_processes(ours._iterator)
    assert none_left()


def same(one: Any, two: Any) -> bool:
    """Whether two loaders give the same batches, laid out alike."""
    pairs = list(zip(one, two, strict=True))
    return len(pairs) > 1 and all(
        torch.equal(a.pictures, b.pictures) and a.pictures.stride() == b.pictures.stride()
        and torch.equal(a.targets, b.targets) and torch.equal(a.indices, b.indices)
        and (a.failed, a.reasons) == (b.failed, b.reasons)
        for a, b in pairs
    )  # fmt: skip


@pytest.fixture
def pictures(stripes: Path) -> Iterator[EvalPictures]:
    """Pictures of the stripes, one of which cannot be read."""
    samples = list(read_dataset(stripes).splits["train"][:20])
    samples[3] = Sample(stripes / "gone.png", (1,))
    yield EvalPictures(samples, PREPROCESSING)
    assert none_left()


def test_where_shared_memory_is_small_pictures_come_through_pipes(
    pictures: EvalPictures, hurried: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same batches, and one line about it; a kilobyte of shared memory would not hold one."""
    plain = eval_loader(pictures, Collate(Classes(("a", "b"))), 8, 0)
    monkeypatch.setattr(feed, "shared_memory", lambda: 1000)
    piped = eval_loader(pictures, Collate(Classes(("a", "b"))), 8, 2)
    assert isinstance(piped.collate_fn([pictures[0]]), PackedBatch)
    assert same(plain, piped)
    eval_loader(pictures, Collate(Classes(("a", "b"))), 8, 2)
    assert capsys.readouterr().err.count("through pipes instead, which costs a copy (docker: --shm-size") == 1
    monkeypatch.setattr(feed, "shared_memory", lambda: 10**12)
    assert isinstance(eval_loader(pictures, Collate(Classes(("a", "b"))), 8, 2).collate_fn([pictures[0]]), Batch)


def test_a_batch_of_nothing_goes_through_a_pipe() -> None:
    """A batch none of whose pictures can be read is empty on the other side too."""
    empty = Collate(Classes(("a", "b"), True))([(None, (), 0, "why")])
    found = PackedBatch(empty).unpack()
    assert found.pictures.shape == empty.pictures.shape
    assert found.failed == ["why"]


def test_a_daemonic_process_reads_by_threads(
    pictures: EvalPictures, hurried: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker of multiprocessing.Pool, or of Celery, may have no children: the same batches, and one line about it."""
    plain = eval_loader(pictures, Collate(Classes(("a", "b"), True)), 8, 0)
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    threaded = eval_loader(pictures, Collate(Classes(("a", "b"), True)), 8, 3)
    assert (threaded.num_workers, threaded.threads) == (0, 3)
    assert same(plain, threaded)
    assert capsys.readouterr().err.count("belongs to a pool and may start none of its own") == 1
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", False)  # type: ignore[attr-defined]


def test_a_stopped_loader_ends_with_its_parent(tmp_path: Path) -> None:
    """A parent that is killed leaves no stopped process behind (Linux)."""
    import subprocess
    import sys

    if sys.platform != "linux":
        pytest.skip("only Linux ends a process with its parent")
    code = (
        "import os, signal\n"
        "from convnext.data.feed import feed\n"
        "from tests_numbers import Numbers\n"
        "from functools import partial\n"
        "start = partial(feed.leave_signals_to_parent, with_parent=True)\n"
        "batches = feed.Loader(Numbers(), num_workers=1, worker_init_fn=start)\n"
        "for batch in batches:\n"
        "    pass\n"
    )
    (tmp_path / "tests_numbers.py").write_text(
        "import os, signal, torch\n"
        "class Numbers(torch.utils.data.Dataset):\n"
        "    def __len__(self):\n"
        "        return 9\n"
        "    def __getitem__(self, index):\n"
        "        print(os.getpid(), flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    path = os.pathsep.join([str(tmp_path), *(p for p in sys.path if p)])
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    end = time.monotonic() + 10
    while _runs(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    return feed._state(pid)[0] not in ("", "Z", "X")
