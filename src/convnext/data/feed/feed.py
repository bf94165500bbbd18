"""A loader of batches whose waits have an end: what is waited for is said, a process that stands still is given up.

torch's own loader waits for ever for a process that was stopped, that hangs, or whose batch did not fit into shared
memory. This one looks at its processes while it waits.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch.utils.data import DataLoader, get_worker_info

from convnext.data.aside import aside
from convnext.data.names import count, listed
from convnext.data.pictures.room import share_with
from convnext.errors import LoaderLost, StoppedWaiting

SHARED = Path("/dev/shm")
LOOK = 1.0
"""Seconds between two looks at the processes."""
TOLD, AGAIN = 10.0, 60.0
"""Seconds after which a wait is said, and between two more times."""
STOPPED, STILL = 60.0, 300.0
"""Seconds after which a process that is stopped is given up, and processes none of which does anything."""

T = TypeVar("T")


@runtime_checkable
class Packed(Protocol):
    """A batch as it comes through a pipe."""

    def unpack(self) -> Any:
        """The batch."""


class Loader(DataLoader[T]):
    """As torch's, with waits that end.

    Attributes:
        threads: so many read in place of processes.
        stop: asked while it waits; where it says yes iterating raises `StoppedWaiting`.

    Iterating raises:
        LoaderLost: a process was ended from outside, is stopped, or hangs; all of them are ended then.
        StoppedWaiting: `stop` said so.
    """

    threads = 0
    stop: Callable[[], bool] = staticmethod(lambda: False)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch names a class of its own
        if self.threads:
            return self._by_threads()
        return self._watched() if self.num_workers else super().__iter__()

    def _watched(self) -> Iterator[Any]:
        watch = _Watch(lambda: self.stop())
        watch.start()
        try:
            yield from self._in_turn(watch)
        except Exception as error:
            reason = watch.verdict or _explained(error, watch.inner)
            self._end(watch)
            raise reason from None
        except BaseException:  # whoever iterates has enough; processes that persist are for the next time
            if not self.persistent_workers:
                self._end(watch)
            raise
        else:
            if not self.persistent_workers:
                self._end(watch)
        finally:
            watch.done.set()

    def _in_turn(self, watch: _Watch) -> Iterator[Any]:
        watch.look_at(getattr(self, "_iterator", None))
        watch.wait_begins()
        inner: Any = super().__iter__()  # processes that persist are asked first whether they are there
        watch.look_at(inner)
        for batch in inner:
            watch.wait_ends()
            if watch.verdict is not None:
                raise watch.verdict
            yield batch.unpack() if isinstance(batch, Packed) else batch
            watch.wait_begins()

    def _end(self, watch: _Watch) -> None:
        watch.done.set()
        for _ in range(2):  # torch's handler of SIGCHLD raises once, wherever we are, when a process was killed
            with contextlib.suppress(RuntimeError):
                end_processes(watch.inner)
                break
        if getattr(self, "_iterator", None) is watch.inner:
            self._iterator = None

    def _by_threads(self) -> Iterator[Any]:
        """Batches in order, one of them read ahead."""
        collate: Callable[[list[Any]], Any] = self.collate_fn
        with ThreadPoolExecutor(self.threads) as pool:
            ahead: list[list[Future[Any]]] = []
            for indices in self.batch_sampler or ():
                ahead.append([pool.submit(self.dataset.__getitem__, index) for index in indices])
                if len(ahead) > 1:
                    yield collate([future.result() for future in ahead.pop(0)])
            for futures in ahead:
                yield collate([future.result() for future in futures])


def _explained(error: Exception, inner: Any) -> Exception:
    """What an error in the midst of waiting stands for: a process that is gone shows in many ways."""
    first = (str(error).splitlines() or [""])[0] or type(error).__name__
    gone = isinstance(error, RuntimeError) and first.startswith("DataLoader worker")
    if isinstance(error, OSError | EOFError):
        for worker in getattr(inner, "_workers", ()):
            with contextlib.suppress(RuntimeError):
                worker.join(0.5)
                gone = gone or not worker.is_alive()
    if gone or isinstance(error, ConnectionError):
        return LoaderLost(f"a process that loads pictures was ended from outside ({first})")
    return error


class _Watch(threading.Thread):
    """Looks at loader processes while a batch is waited for, and kills them when it will not come.

    Whoever waits may be held in a call of the system's, as when a process was stopped in the midst of handing a batch
    over; that its processes are gone ends every such call.
    """

    def __init__(self, stop: Callable[[], bool]) -> None:
        super().__init__(daemon=True)
        self.inner: Any = None
        self.pids: list[int] = []
        self.stop = stop
        self.done = threading.Event()
        self.verdict: Exception | None = None
        self.since: float | None = None
        self.moved = self.told = 0.0
        self.before: list[Any] = []

    def look_at(self, inner: Any) -> None:
        """These are the processes: those of an iterator of torch's."""
        self.inner, self.pids = inner, [worker.pid for worker in getattr(inner, "_workers", ())]

    def wait_begins(self) -> None:
        """A batch is waited for from now on."""
        self.moved = self.told = self.since = time.monotonic()

    def wait_ends(self) -> None:
        """It has come."""
        self.since = None

    def run(self) -> None:
        """Looks now and then until `done`, or the end of its patience."""
        while not self.done.wait(LOOK):
            since = self.since
            if since is None:
                continue
            verdict = StoppedWaiting() if self.stop() else self._look(time.monotonic() - since)
            if verdict is not None and self.since == since:
                self.verdict = verdict
                for pid in self.pids:
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
                return

    def _look(self, waited: float) -> Exception | None:
        """Says what is waited for, when it is time to; gives why it will not come, None while it may."""
        now = time.monotonic()
        states = [_state(pid) for pid in self.pids]
        if states != self.before:
            self.moved, self.before = now, states
        stopped = [str(pid) for pid, (state, _) in zip(self.pids, states, strict=True) if state in ("T", "t")]
        if stopped and waited > STOPPED:
            return LoaderLost(f"no picture came for {waited:.0f} s: {_stopped(stopped)}")
        if now - self.moved > STILL:
            return LoaderLost(
                f"no picture came for {waited:.0f} s: none of the loader processes does anything{_full()}"
            )
        if waited > TOLD and (self.told == self.since or now - self.told > AGAIN):
            self.told = now
            still = now - self.moved > TOLD / 2
            what = _stopped(stopped) if stopped else "none of them does anything" if still else "they are at work"
            who = count(len(self.pids), "loader process", "loader processes")
            about = f"{who}: {what}" if self.pids else "loader processes are being started"
            aside(f"waiting for pictures for {waited:.0f} s ({about})")
        return None


def _stopped(pids: list[str]) -> str:
    if len(pids) == 1:
        return f"process {pids[0]} is stopped (kill -CONT lets it go on)"
    return f"processes {listed(pids, 3)} are stopped (kill -CONT lets them go on)"


def _full() -> str:
    """What shared memory may have to do with it."""
    free = shared_memory()
    return "" if free is None or free > 256 << 20 else f"; shared memory ({SHARED}) has {free / 1e6:.0f} MB left"


def _state(pid: int) -> tuple[str, tuple[str, ...]]:
    """A process's state (R, S, D, T, Z, …; "" where the system does not say), and counters that move when it works."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "", ()
    moved: tuple[str, ...] = (fields[11], fields[12])  # ticks of the processor
    with contextlib.suppress(OSError):
        moved += tuple(Path(f"/proc/{pid}/io").read_text(encoding="ascii").split()[1:4:2])  # bytes read and written
    return fields[0], moved


def end_processes(inner: Any) -> None:
    """Ends the processes of a torch loader's iterator now, those too that are stopped or hang."""
    if not hasattr(inner, "_shutdown_workers") or not hasattr(inner, "_workers"):
        return
    stuck = [w for w in inner._workers if w.is_alive() and _state(w.pid)[0] in ("T", "t", "D")]
    if stuck:
        _forget(inner)
        for worker in stuck:
            worker.kill()
    inner._shutdown_workers()
    for worker in inner._workers:
        if worker.is_alive():
            worker.kill()
            worker.join(5)


def _forget(inner: Any) -> None:
    """torch's handler of SIGCHLD raises in the midst of anything when a process ends that it knows."""
    from torch.utils.data import _utils

    if getattr(inner, "_worker_pids_set", False):
        _utils.signal_handling._remove_worker_pids(id(inner))  # type: ignore[attr-defined]
        inner._worker_pids_set = False


def shared_memory() -> int | None:
    """Bytes that shared memory has left; None where it is not a disk of its own."""
    try:
        usage = shutil.disk_usage(SHARED)
    except OSError:
        return None
    return usage.free if usage.total else None


_told: set[str] = set()


def fits_shared_memory(need: int) -> bool:
    """Whether batches of so many bytes together may lie in shared memory; that they may not is said once."""
    free = shared_memory()
    if free is None or 2 * need <= free:
        return True
    _once(
        f"shared memory ({SHARED}) has {free / 1e6:,.0f} MB left, {need / 1e6:,.0f} MB of pictures would wait in it: "
        "they come through pipes instead, which costs a copy (docker: --shm-size gives more)"
    )
    return False


def may_have_processes(asked: int, instead: str) -> bool:
    """Whether this process may start others: one of a pool's, or of Celery's, may not; that is said once."""
    if not asked or not multiprocessing.current_process().daemon:
        return True
    _once(f"this process belongs to a pool and may start none of its own: {instead}")
    return False


def _once(text: str) -> None:
    if text not in _told:
        _told.add(text)
        aside(text)


def in_main_thread() -> bool:
    """Whether this is the thread that a process began with."""
    return threading.current_thread() is threading.main_thread()


def leave_signals_to_parent(worker: int, *, with_parent: bool = False) -> None:
    """Ctrl-C, SIGTERM and SIGHUP reach the whole process group; only the main process must answer, and end its workers.

    A loader also takes no more memory for a picture than its share.

    Args:
        worker: its number.
        with_parent: the system shall end it when the thread that started it is gone, though it be stopped (Linux).
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    about = get_worker_info()
    share_with(1 if about is None else about.num_workers)
    if with_parent and sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL, 0, 0, 0)


_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG
