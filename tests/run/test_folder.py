"""The run folder: who may write to it, what counts as a run, and what the machine allows."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from convnext.errors import RunError
from convnext.run.folder import RunFolder, locked, new_run, refuse_taken, write_output, write_text


def test_another_process_is_kept_out(tmp_path: Path) -> None:
    """While one process holds a folder, a second is refused; when the first is gone, it is let in."""
    code = (
        "import sys, pathlib\n"
        "from convnext.run.folder import RunFolder, locked\n"
        "with locked(RunFolder(pathlib.Path(sys.argv[1]))):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunError, match="another process is working"), locked(RunFolder(tmp_path)):
        pass
    holder.kill()
    holder.communicate()
    with locked(RunFolder(tmp_path)):
        pass


@pytest.mark.parametrize(
    "leftovers",
    [
        [".lock"],
        [".lock", ".recipe.toml.part"],
        [".lock", "recipe.toml"],
        ["recipe.toml", "plan.json", ".data.json.part"],
    ],
)
def test_a_run_that_hardly_began_is_no_obstacle(leftovers: list[str], tmp_path: Path) -> None:
    """What is left when a run stops before its first sign of life can be replaced; a lock alone is no run at all."""
    for name in leftovers:
        (tmp_path / name).write_text("")
    if "recipe.toml" not in leftovers:
        refuse_taken(tmp_path)
    else:
        with pytest.raises(RunError, match="holds another run"):
            refuse_taken(tmp_path)
    with new_run(tmp_path, overwrite=True) as run:
        assert run.path == tmp_path


def test_a_kill_while_a_run_is_replaced_leaves_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever --overwrite has removed by then, the folder is still taken for a run, and replaced by the next try."""
    names = (
        "recipe.toml", "plan.json", "environment.json", "data.json", "splits.csv", "log.jsonl", "last.state.pt",
        "previous.state.pt", "best.safetensors", "result.json", "pictures/batch.jpg", "tensorboard/events.1",
        "states/epoch-0001.state.pt",
    )  # fmt: skip
    unlink, left = Path.unlink, 0

    def killed(self: Path, missing_ok: bool = False) -> None:
        nonlocal left
        if self.name != ".writable":
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", killed)
    for moment in range(len(names)):
        run = tmp_path / str(moment)
        for name in names:
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (run / name).write_text("")
        left = moment
        with pytest.raises(KeyboardInterrupt), new_run(run, overwrite=True):
            pass
        left = 100
        with new_run(run, overwrite=True):
            assert {file.name for file in run.iterdir()} == {".lock"}


def test_a_folder_of_other_things_is_not_touched(tmp_path: Path) -> None:
    """A recipe beside somebody's files is not a run; not even --overwrite writes there."""
    (tmp_path / "recipe.toml").write_text("")
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunError, match="holds other files and no run"), new_run(tmp_path, overwrite=True):
        pass


def test_a_run_in_the_making_is_not_removed_by_another(tmp_path: Path) -> None:
    """--overwrite waits for nobody, and takes nothing from a process that has the folder."""
    with new_run(tmp_path / "run") as run:
        write_text(run.recipe, "")
        with pytest.raises(RunError, match="another process is working"), new_run(run.path, overwrite=True):
            pass
        assert run.recipe.exists()


def test_a_damaged_line_of_the_log_is_named_and_a_cut_off_one_is_left_out(tmp_path: Path) -> None:
    """The lines after the damaged one are somebody's results."""
    run = RunFolder(tmp_path)
    assert run.read_log() == []
    run.log.write_bytes(b'{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3, "los')
    assert [row["epoch"] for row in run.read_log()] == [1, 2]
    for bad in (b"x", b"{}", b"[]", b"null", b"\xff\xfe"):
        run.log.write_bytes(b'{"epoch": 1}\n' + bad + b'\n{"epoch": 3}\n')
        with pytest.raises(RunError, match=r"log.jsonl, line 2 is damaged"):
            run.read_log()


def test_a_result_is_written_through_links_and_into_devices(tmp_path: Path) -> None:
    """What stands at the place stays what it is."""
    target, link, pipe = tmp_path / "target.csv", tmp_path / "link.csv", tmp_path / "pipe"
    target.write_text("old")
    link.symlink_to(target)
    write_output(link, b"new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        found = reader.submit(pipe.read_text)
        write_output(pipe, b"through")
        assert found.result(timeout=30) == "through"
    assert pipe.is_fifo()


def test_a_place_below_a_file_is_a_clear_error(tmp_path: Path) -> None:
    """The error of writing is reported, not that of cleaning up after it."""
    (tmp_path / "file").write_text("kept")
    with pytest.raises(RunError, match="could not be written"):
        write_text(tmp_path / "file" / "x.csv", "text")
    assert (tmp_path / "file").read_text() == "kept"
