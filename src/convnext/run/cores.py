"""Cores that others use too: how busy they are, and how this program's threads wait for each other there.

torch shares an operation out among OpenMP threads, and a thread that is done spins until the others are. On cores that
are free this is quickest. Where another program computes on the same cores, the spinning takes the time that the thread
still at work would need, and every operation waits for the thread that has to wait for its core: a step takes several
times as long. What helps is to be measured: GNU's OpenMP (libgomp), which torch's Linux builds use, spins for a moment
only while there are more of its threads than cores (`Crowd` makes that so); or fewer threads, that wait for nobody.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from convnext.data.names import count
from convnext.run.environment import usable_cores
from convnext.run.record import say

BUSY = 0.3
"""Cores' worth of work of others from which it is worth while to look for another way."""
LOOK_EVERY = 2.0
"""Seconds between two looks."""
PAUSE = 0.2
"""Seconds of the first look, before there is anything to compare with."""
TRIES = 4
"""Steps in which a way is tried; the first one is not counted."""
AGAIN = 300.0
"""Seconds after which the ways are tried again while others go on; a trial costs a few slow steps."""


@dataclass(frozen=True)
class Usage:
    """CPU time so far, seconds: of everybody on the cores that this process may use, and of this process's own tree."""

    moment: float
    all: float
    own: float


def usage() -> Usage | None:
    """What the system has counted up to now; None where it does not say (it is asked on Linux only)."""
    try:
        tick = os.sysconf("SC_CLK_TCK")
        cores = os.sched_getaffinity(0)
        busy = 0
        for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
            name, *counts = line.split()
            if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
                user, nice, system, _idle, _wait, irq, soft = map(int, counts[:7])
                busy += user + nice + system + irq + soft
        own = sum(_ticks(process) for process in [os.getpid(), *_children(os.getpid())])
    except (OSError, ValueError, AttributeError, IndexError):
        return None
    return Usage(time.monotonic(), busy / tick, own / tick)


def _ticks(process: int) -> int:
    """CPU time of a process and of those of its children that have ended, clock ticks; 0 when it is gone."""
    try:
        after_name = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
    except OSError:
        return 0
    return sum(int(n) for n in after_name.split()[11:15])


def _children(process: int) -> list[int]:
    """The processes below one, as loader workers are."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text(encoding="ascii").split():
                found += [int(child), *_children(int(child))]
    return found


def others(before: Usage, now: Usage) -> float:
    """How many cores' worth of work others did between two moments."""
    passed = now.moment - before.moment
    return max(0.0, (now.all - before.all) - (now.own - before.own)) / max(passed, 1e-9)


@dataclass(frozen=True)
class Way:
    """How this program computes: with how many threads, and whether they give way while they wait."""

    threads: int
    gives_way: bool = False

    def __str__(self) -> str:
        if self.threads == 1:
            return "one thread"
        return f"{self.threads} threads" + (" that sleep while they wait for each other" if self.gives_way else "")


class Cores:
    """Looks now and then at what others do on our cores, and finds the way to compute that is quickest beside them.

    Whoever works in steps says so by `step`. When others come, a few steps are made in each way and the quickest way
    stays; when they have gone it is as before. A number of threads rounds sums in its own way, so results may differ in
    their last bits. Whoever sets OMP_NUM_THREADS, OMP_WAIT_POLICY or GOMP_SPINCOUNT has the last word: then nothing is
    changed, and it is only said that others compute.
    """

    def __init__(self) -> None:
        self.taken = 0.0
        self.before: Usage | None = None
        self.crowd, self.usual = Crowd(), Way(0)
        self.said = False
        self.trials: list[tuple[Way, list[float]]] = []
        self.seen = 0
        self.chosen_at = 0.0
        self.ticked = 0.0

    def note(self) -> None:
        """Remembers how things stand now, so that the first look has something to compare with and need not wait."""
        self.before = usage()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Around work in steps: looks first, and puts everything back at the end."""
        if self.usual.threads:  # whoever called this one looks already
            yield
            return
        self.begin()
        try:
            yield
        finally:
            self.end()

    def begin(self) -> float:
        """Measures for a moment in which this process itself does nothing; returns cores' worth of work of others."""
        import torch

        self.end()
        self.usual = Way(torch.get_num_threads())
        self.taken = 0.0
        if self.before is None or time.monotonic() - self.before.moment < PAUSE:
            self.note()
            time.sleep(PAUSE)
        self._look()
        if self.taken >= BUSY:
            self._meet()
        return self.taken

    def tick(self) -> None:
        """A step of work ends here, and the next one begins; see `step`."""
        now = time.monotonic()
        self.step(now - self.ticked)
        self.ticked = time.monotonic()

    def ticking(self, advance: Callable[[int], None]) -> Callable[[int], None]:
        """`advance`, which somebody calls after every step of work, with a `tick` each time."""
        self.ticked = time.monotonic()

        def both(amount: int) -> None:
            advance(amount)
            self.tick()

        return both

    def step(self, seconds: float) -> None:
        """A step of work is done, which took so long; may change how the next one is computed."""
        if not self.usual.threads:
            return
        if self.trials:
            self._try(seconds)
        elif self.before is None or time.monotonic() - self.before.moment >= LOOK_EVERY:
            self._look()
            busy = self.taken >= BUSY
            self.seen = self.seen + 1 if busy != self.met else 0
            if self.seen >= 2:  # twice, or it may be a moment of work as any machine has it
                self._meet() if busy else self._part()
            elif busy and self.met and time.monotonic() - self.chosen_at > AGAIN:
                self._meet()

    @property
    def met(self) -> bool:
        """Whether others are taken into account at present."""
        return self.chosen_at > 0

    def end(self) -> None:
        """Puts everything back as it was."""
        if self.usual.threads:
            self._go(self.usual)
        self.usual = Way(0)
        self.trials, self.seen, self.chosen_at, self.said = [], 0, 0.0, False

    def _look(self) -> None:
        found = usage()
        if found is not None and self.before is not None:
            self.taken = others(self.before, found)
        self.before = found or Usage(time.monotonic(), 0.0, 0.0)

    def _meet(self) -> None:
        self.seen, self.chosen_at = 0, time.monotonic()
        if not self.said:
            cores = count(usable_cores(), "core")
            say(f"warning: other programs use {self.taken:.1f} of {cores}; all of this takes longer")
            self.said = True
        fixed = any(name in os.environ for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"))
        if fixed or self.usual.threads < 2:
            return
        fewer = max(1, self.usual.threads - max(1, round(self.taken)))
        self.trials = [(way, []) for way in (self.usual, Way(self.usual.threads, True), Way(fewer))]
        self._go(self.usual)

    def _part(self) -> None:
        self._go(self.usual)
        self.seen, self.chosen_at, self.said = 0, 0.0, False
        say(f"the cores are free again: {self.usual}")

    def _try(self, seconds: float) -> None:
        """Counts a step of the way that is tried; after the last one the quickest way stays."""
        open_ones = [(way, times) for way, times in self.trials if len(times) < TRIES]
        open_ones[0][1].append(seconds)
        left = [way for way, times in open_ones if len(times) < TRIES]
        if left:
            self._go(left[0])
            return
        best, times = min(self.trials, key=lambda tried: _middle(tried[1][1:]))
        before = _middle(self.trials[0][1][1:])
        self.trials, self.chosen_at = [], time.monotonic()
        self._go(best)
        if best != self.usual:
            say(f"quickest beside them: {best}, {before / _middle(times[1:]):.1f} times as fast (measured)")

    def _go(self, way: Way) -> None:
        import torch

        if torch.get_num_threads() != way.threads:
            torch.set_num_threads(way.threads)
        if way.gives_way:
            self.crowd.come()
        else:
            self.crowd.go()


def _middle(times: list[float]) -> float:
    """The median of an odd number of times."""
    return sorted(times)[len(times) // 2]


class Crowd:
    """A second group of OpenMP threads that sleeps: with it there are more threads than cores, so libgomp gives way."""

    def __init__(self) -> None:
        self.leave: threading.Event | None = None
        self.thread: threading.Thread | None = None

    def come(self) -> None:
        """Starts them. With another OpenMP than GNU's nothing comes of it."""
        import torch

        if self.thread is None:
            leave, ready = threading.Event(), threading.Event()

            def wait() -> None:
                torch.ones(1 << 18).add_(1.0)  # large enough to be shared out: this thread gets helpers of its own
                ready.set()
                leave.wait()

            self.leave, self.thread = leave, threading.Thread(target=wait, name="crowd", daemon=True)
            self.thread.start()
            ready.wait(5.0)

    def go(self) -> None:
        """Ends them."""
        if self.leave is not None and self.thread is not None:
            self.leave.set()
            self.thread.join(5.0)
        self.leave = self.thread = None


CORES = Cores()
"""Those of this process; threads and how they wait belong to all of it."""
