"""A run folder or a study that somebody else has packed may hold links: nothing outside it is written or removed."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from convnext.__main__ import main
from convnext.errors import RunError
from convnext.nn.weights.files import save_model
from convnext.recipe import Recipe
from convnext.run import lock
from convnext.run.folder import RunFolder, locked, new_run, share, write_output, write_text
from convnext.run.record import Record
from convnext.run.state import keep_newest, write_state_file

KEPT = "a file of mine"
STATE = {"version": 2, "progress": {"epoch": 1}}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A file outside the run, to which links lead."""
    file = tmp_path / "mine.txt"
    file.write_text(KEPT)
    return file


def write_everything(run: RunFolder) -> None:
    """What training, judging and reporting write into a run."""
    write_text(run.recipe, "recipe")
    write_text(run.path / "report.html", "page")
    run.write_json("result.json", {})
    record = Record(run, 0, Recipe())
    record.epoch({"epoch": 1})
    record.close(finished=True)
    save_model(run.best, {"a": torch.zeros(2)}, {})
    save_model(run.last, {"a": torch.zeros(2)}, {})
    for _ in range(2):
        write_state_file(run.state, dict(STATE))
    write_output(run.path / "table.csv", b"table")


def test_no_file_outside_is_written_through_a_link(tmp_path: Path, mine: Path) -> None:
    """Links in the places of every file and of every temporary file that there was or is; all are written all the same.

    The files themselves take the places of links, but for the lock and the log, which are refused.
    """
    files = ("recipe.toml", "report.html", "result.json", "best.safetensors", "last.safetensors", "last.state.pt",
             "previous.state.pt", "table.csv")  # fmt: skip
    parts = [f".{name}.part" for name in (*files, "log.jsonl")] + [f".{name}.partial" for name in files]
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    for name in (*files[:-1], *parts, ".writable"):
        (run.path / name).symlink_to(mine)
    write_everything(run)
    assert mine.read_text() == KEPT
    assert not any((run.path / name).is_symlink() for name in files)
    assert json.loads(run.log.read_text()) == {"epoch": 1}
    run.log.unlink()
    record = Record(run, 0, Recipe())
    record.close(finished=True)
    run.log.unlink()
    run.log.symlink_to(mine)
    with pytest.raises(RunError, match=r"log\.jsonl could not be written"):
        record.epoch({"epoch": 1})
    assert mine.read_text() == KEPT


@pytest.mark.parametrize("name", ["pictures", "tensorboard", "states", ".lock"])
def test_a_link_in_the_place_of_a_folder_or_of_the_lock_is_refused(name: str, tmp_path: Path, mine: Path) -> None:
    """By a new run, one that replaces another, one that goes on, and where states are kept; nothing is removed."""
    folder = tmp_path / "album"
    folder.mkdir()
    for inside in ("batch.jpg", "mistake-00.jpg", "events.1", "epoch-0001.state.pt"):
        (folder / inside).write_text(KEPT)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    write_text(run.recipe, "")
    (run.path / name).symlink_to(mine if name == ".lock" else folder)
    for overwrite in (True, False):
        with pytest.raises(RunError, match="is a link to another place"), new_run(run.path, overwrite=overwrite):
            pass
    with pytest.raises(RunError, match="is a link to another place"), locked(run):
        pass
    if name == "states":
        write_state_file(run.state, dict(STATE))
        keep_newest(run.state, run.states, 2, 1)
        with pytest.raises(RunError, match="states could not be written"):
            keep_newest(run.state, run.states, 2, 3)
    assert mine.read_text() == KEPT
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        ("batch.jpg", "mistake-00.jpg", "events.1", "epoch-0001.state.pt")
    )


def test_the_run_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    """Its user has put it on another disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk", target_is_directory=True)
    with new_run(tmp_path / "run") as run:
        write_everything(run)
    assert (tmp_path / "disk" / "report.html").read_text() == "page"


def test_a_copy_stands_for_a_link_where_the_disk_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state gets its second name also on a file system without hard links."""

    def none(*args: Any, **more: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    share(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "new"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has no locks to give, as NFS without its lock daemon."""

    def refuse(*args: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)


@pytest.mark.usefixtures("without_locks")
def test_without_locks_of_the_system_a_file_keeps_others_out(tmp_path: Path) -> None:
    """It names host and process; that of a process which has ended is taken over, that of another host is not."""
    code = (
        "import errno, fcntl, sys, pathlib\n"
        "def refuse(*args): raise OSError(errno.ENOLCK, 'No locks available')\n"
        "fcntl.lockf = refuse\n"
        "from convnext.run.lock import held\n"
        "with held(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    run = RunFolder(tmp_path)
    with pytest.raises(RunError, match=rf"another process is working .* \(process {other.pid} on "), locked(run):
        pass
    other.kill()
    other.communicate()
    assert (tmp_path / lock.HOLDER).exists()
    with locked(run):
        assert json.loads((tmp_path / lock.HOLDER).read_text())["pid"] == os.getpid()
    assert not (tmp_path / lock.HOLDER).exists()
    for content in ('{"host": "elsewhere", "pid": 1, "since": ""}', "", "[" * 5000, '{"pid": -1}'):
        (tmp_path / lock.HOLDER).write_text(content)
        with pytest.raises(RunError, match="If that process is gone, remove the file"), locked(run):
            pass
    me = {"host": lock.platform.node(), "pid": os.getpid(), "since": "1"}
    (tmp_path / lock.HOLDER).write_text(json.dumps(me))  # the number of a process is given again
    with locked(run):
        pass


def test_a_study_with_links_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A trial whose run is a link to a run of mine, linked trials, a linked database: named, and nothing removed."""
    precious = tmp_path / "precious"
    precious.mkdir()
    for name in ("last.state.pt", "best.safetensors", "recipe.toml", "log.jsonl"):
        (precious / name).write_text(KEPT)
    for number, (place, target) in enumerate((
        ("trials/0000/run", precious), ("trials/0000", precious), ("trials", precious), ("repeats", precious),
        ("repeats/0000-1", precious), ("tune.db", precious / "log.jsonl"), ("tune.db-journal", precious / "log.jsonl"),
    )):  # fmt: skip
        study = tmp_path / str(number)
        (study / place).parent.mkdir(parents=True, exist_ok=True)
        (study / place).symlink_to(target)
        if place != "tune.db":
            (study / "tune.db").write_text("")
        assert main(["tune", str(tmp_path), "--out", str(study), "--resume", "--trials", "1"]) == 2
        assert "is a link to another place, which is not followed; remove it" in capsys.readouterr().err
    assert {file.read_text() for file in precious.iterdir()} == {KEPT}
    assert len(list(precious.iterdir())) == 4
