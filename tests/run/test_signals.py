"""A command that is asked to end does so as by Ctrl-C: a word, the exit code 130, no half-written files."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convnext.data.shards.writer as shard_writer
import convnext.data.sources.check as checked
from convnext.__main__ import main
from convnext.run.signals import AT_ONCE, as_interrupts

ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A data set of eight pictures."""
    for number in range(8):
        place = tmp_path / "data" / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 20 * number, np.uint8)).save(place)
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def usual() -> Any:
    """The system's own answer to each signal, as a command finds it; afterwards what was there before."""
    before = {number: signal.getsignal(number) for number in ENDING}
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_a_command_that_is_ended_leaves_nothing_half_written(
    number: signal.Signals, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """In the midst of a tar: the exit code is 130, it is said, the part is removed, and the same command then works."""
    add, out = shard_writer.IndexWriter.add, tmp_path / "out"

    def killed(*args: Any, **options: Any) -> Any:
        os.kill(os.getpid(), number)
        return add(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shard_writer.IndexWriter, "add", killed)
        assert main(["data", "shard", str(pictures), str(out)]) == 130
    assert capsys.readouterr().err.rstrip().endswith("convnext: stopped")
    assert not [path.name for path in out.iterdir() if path.name.endswith((".part", ".tar"))]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert main(["data", "shard", str(pictures), str(out)]) == 0


def test_facts_that_are_being_kept_are_whole_or_not_there(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal while the cache is written leaves neither a part nor half a file."""
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if target.parent.name == "checked":
            os.kill(os.getpid(), signal.SIGTERM)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt), as_interrupts():
        checked.check_files(sorted(pictures.rglob("*.png")), root=pictures)
    assert list((tmp_path / "cache/checked").iterdir()) == []


def test_a_signal_that_the_caller_ignores_or_answers_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """nohup's SIGHUP ends nothing, and a handler of the program that calls is not replaced."""
    heard = []
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    with as_interrupts():
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [signal.SIGTERM]


def test_two_signals_at_once_are_one_and_a_later_one_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cleans up after the first is not disturbed by its echo, and can be ended by a second."""
    clock = [100.0]
    monkeypatch.setattr("convnext.run.signals.time.monotonic", lambda: clock[0])
    cleaned = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGHUP)
            cleaned.append("once")
            clock[0] += AT_ONCE
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt), as_interrupts():
        work()
    assert cleaned == ["once"]
