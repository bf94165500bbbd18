"""Where a run tells what it does: log.jsonl, a logger, and lines or a progress bar for the person who waits."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import IO, Any, cast

from convnext.errors import RunError
from convnext.files import open_own
from convnext.recipe import Recipe
from convnext.run.folder import RunFolder, write_text
from convnext.run.loggers import open_logger
from convnext.run.messages import Listener, is_silent
from convnext.run.messages import say as say
from convnext.run.messages import silenced as silenced


class Record:
    """Writes each epoch to log.jsonl and tells the recipe's logger."""

    def __init__(self, run: RunFolder, epoch: int, recipe: Recipe) -> None:
        self.run = run
        rows = [row for row in run.read_log() if row["epoch"] <= epoch]
        write_text(run.log, "".join(json.dumps(row) + "\n" for row in rows))
        self.logger = open_logger(run, recipe, epoch, say)

    def epoch(self, row: dict[str, Any]) -> None:
        """Appends one epoch; on disk when this returns."""
        try:
            with open_own(self.run.log, append=True) as file:
                file.write(f"{json.dumps(row)}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(
                f"{self.run.log} could not be written ({error.strerror}); the last saved state is intact"
            ) from None
        if self.logger is not None:
            self.logger.epoch(row)

    def close(self, *, finished: bool) -> None:
        """Closes the logger; `finished` says whether all epochs are done."""
        if self.logger is not None:
            self.logger.close(finished=finished)


class Bar:
    """Progress of one long piece of work: a bar on a terminal, a line every 30 seconds elsewhere."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title, self.total, self.unit = title, max(1, total), unit
        self.done, self.start, self.last_line = 0, time.monotonic(), time.monotonic()
        self._live: Any = None
        self._task: Any = None

    def advance(self, amount: int, note: str = "") -> None:
        """Counts `amount` more units as done."""
        self.done += amount
        if self._live is not None:
            self._live.update(self._task, advance=amount, note=note)
        elif time.monotonic() - self.last_line > 30:
            self.last_line = time.monotonic()
            speed = self.done / (self.last_line - self.start)
            left = (self.total - self.done) / max(speed, 1e-9)
            counts = f"{self.done}/{self.total} {self.unit}, {speed:.0f}/s, {clock(left)} left"
            say(f"  {self.title}: {counts}  {note}".rstrip())

    def update(self, done: int, total: int) -> None:
        """Sets the count, for callbacks of the form (done, total)."""
        if self._live is not None and total != self.total:
            self._live.update(self._task, total=total)
        self.total = max(1, total)
        self.advance(done - self.done)


@contextlib.contextmanager
def progress(title: str, total: int, unit: str = "pictures") -> Iterator[Bar]:
    """A progress display around a piece of work, with speed and time left."""
    bar = Bar(title, total, unit)
    if is_silent() or not sys.stderr.isatty():
        yield bar
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
        TextColumn("[cyan]{task.fields[note]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(file=cast("IO[str]", Listener(sys.stderr))), transient=True) as live:
        bar._live, bar._task = live, live.add_task(title, total=bar.total, note="")
        yield bar


def clock(seconds: float) -> str:
    """Seconds as people read them: 45 s, 3 min 20 s, 2 h 05 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
