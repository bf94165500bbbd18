"""The run folder: the unit that people keep. Every later command takes one and needs nothing else."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convnext.errors import RunError
from convnext.files import Part, is_own_folder, own_folder, read_own
from convnext.run.lock import HOLDER, LOCK, held
from convnext.run.schema import Damaged, parse

LOG, CHANGES, CONTENTS, FOLDS = "log.jsonl", "changes.json", "contents.json", "folds.json"
STARTED = "CONVNEXT_STARTED"
"""Environment variable: the options by which this process was started beside others."""

_MARKS = (LOG, "last.state.pt", "previous.state.pt", "last.safetensors", "best.safetensors", "data.json")
_REST = (
    "splits.csv", "predictions.csv", "batch.json", CHANGES, CONTENTS, "result.json", "mistakes.json", "report.html",
    "pictures/batch.jpg", "pictures/mistake-*.jpg", "tensorboard/events.*", ".*.part", ".*.partial",
    "states/epoch-*.state.pt", "states/.*.part",
)  # fmt: skip
_REMEDY = {
    "result.json": "Remove it: `convnext train --resume --out RUN` judges the run again",
    "data.json": "Put a copy of it back",
    "tune.json": "Remove it: the same command as before writes it anew from tune.db",
}
_ANY_REMEDY = "Mend it, or remove it: the run can do without"
_BEGUN = ("environment.json", "plan.json", "recipe.toml")
"""What is written first."""
FOLDERS = ("pictures", "tensorboard", "states")
"""Folders of a run."""


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder, and its small files."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The complete recipe, as run."""
        return self.path / "recipe.toml"

    @property
    def log(self) -> Path:
        """One JSON object an epoch."""
        return self.path / LOG

    @property
    def state(self) -> Path:
        """Everything that resuming needs."""
        return self.path / "last.state.pt"

    @property
    def states(self) -> Path:
        """Folder of the states of the last epochs, where more than one is kept."""
        return self.path / "states"

    @property
    def last(self) -> Path:
        """The model after the last epoch."""
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        """The model of the best epoch on validation."""
        return self.path / "best.safetensors"

    @property
    def identity(self) -> str:
        """What tells this run from every other, "" for runs of before there was any such thing."""
        return str((self.read_table("environment.json") or {}).get("run", ""))

    @property
    def pictures(self) -> Path:
        """Pictures for the report: a training batch, mistakes."""
        return self.path / "pictures"

    @property
    def result(self) -> Path:
        """The verdict."""
        return self.path / "result.json"

    def folder(self, name: str) -> Path:
        """A folder of the run, made where it is missing.

        Raises:
            RunError: a link or a file is in its place, or it cannot be made.
        """
        try:
            return own_folder(self.path / name)
        except OSError as error:
            raise RunError(_write_problem(self.path / name, error)) from None

    def write_json(self, name: str, value: Any) -> None:
        """Writes a small JSON file whole or not at all."""
        write_text(self.path / name, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=True) + "\n")

    def read_text(self, name: str) -> str | None:
        """A small text file of the run, None when there is none.

        Raises:
            RunError: it cannot be read, is a link, or is not UTF-8.
        """
        path = self.path / name
        try:
            return read_own(path).decode("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise RunError(f"{path} cannot be read ({why}); the run folder is damaged") from None

    def read_json(self, name: str, task: str = "") -> Any:
        """The content of a JSON file, checked by `schema.parse` and its `task`; None when there is none.

        Raises:
            RunError: it cannot be read, or a value is of another kind.
        """
        text = self.read_text(name)
        if text is None:
            return None
        try:
            return parse(text.encode(), name, task)
        except Damaged as error:
            raise RunError(f"{self.path / name} is damaged: {error}. {_REMEDY.get(name, _ANY_REMEDY)}") from None

    def read_table(self, name: str, task: str = "") -> dict[str, Any] | None:
        """The content of a JSON file that holds a table, None when there is none."""
        value = self.read_json(name, task)
        if value is not None and not isinstance(value, dict):
            raise RunError(f"{self.path / name} holds a {type(value).__name__}, no table; the run folder is damaged")
        return value

    def read_log(self) -> list[dict[str, Any]]:
        """The epochs logged so far; a last line that was cut off by a crash is left out.

        Raises:
            RunError: another line is no epoch.
        """
        try:
            content = read_own(self.log)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise RunError(f"{self.log} cannot be read ({error.strerror}); the run folder is damaged") from None
        lines = [line for line in content.split(b"\n") if line.strip()]
        rows = []
        for number, line in enumerate(lines, 1):
            try:
                rows.append(parse(line, LOG))
            except Damaged as error:
                if number == len(lines) and not content.endswith(b"\n"):
                    continue
                raise RunError(f"{self.log}, line {number} is damaged: {error}. Mend or remove that line") from None
        return rows


def refuse_taken(path: Path, *, overwrite: bool = False) -> None:
    """Raises a RunError when a new run cannot be put into `path`; changes nothing."""
    refuse_links(path)
    if (path / LOCK).is_file():
        with locked(RunFolder(path)):
            pass
    _refuse_content(path, overwrite)


def refuse_links(path: Path) -> None:
    """Raises a RunError where a folder of the run is a link to another, whose files would be taken for the run's.

    Links come with folders that others have packed. The run folder itself may be one: that is its user's own doing.
    """
    for name in (*FOLDERS, LOCK, HOLDER):
        refuse_linked(path / name)


def refuse_linked(path: Path) -> None:
    """Raises a RunError where a path is a link."""
    if path.is_symlink():
        raise RunError(f"{path} is a link to another place, which is not followed; remove it")


def _refuse_content(path: Path, overwrite: bool) -> None:
    try:
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; --out takes the name of a folder")
        inside = {item.name for item in path.iterdir()} if path.is_dir() else set()
        there = _nearest_existing(path)
    except OSError as error:
        raise RunError(_not_writable(path, error)) from None
    inside = {name for name in inside if name not in (LOCK, HOLDER) and not name.endswith(".part")}
    begun = inside <= set(_BEGUN)  # stopped before its first sign of a run
    if inside and not ("recipe.toml" in inside and (begun or inside & set(_MARKS))):
        raise RunError(f"{path} holds other files and no run; give --out a new or an empty folder")
    if inside and not overwrite:
        raise RunError(
            f"{path} holds another run; go on with it by --resume, replace it by --overwrite, or give another --out"
        )
    if not os.access(there, os.W_OK):
        raise RunError(
            f"{path} cannot be written (no permission in {there}, or its disk is read-only); "
            "give --out a folder of yours"
        )


def refuse_small_disk(path: Path, need: int) -> None:
    """Raises a RunError when the disk of a new run folder has less than `need` bytes left."""
    usage = shutil.disk_usage(_nearest_existing(path))
    free = usage.free
    if usage.total and free < need:  # pseudo file systems have no size; writing to them fails by itself
        raise RunError(
            f"{path}: the run needs about {need / 1e6:.0f} MB, its disk has {free / 1e6:.0f} MB left; "
            "free some space or give --out a folder on another disk"
        )


@contextlib.contextmanager
def new_run(path: Path, *, overwrite: bool = False) -> Iterator[RunFolder]:
    """A new run folder, `locked` meanwhile; with `overwrite`, what an earlier run wrote there is removed.

    Raises:
        RunError: the folder holds another run or other files, another process works in it, or it cannot be written.
    """
    refuse_taken(path, overwrite=overwrite)
    try:
        path.mkdir(parents=True, exist_ok=True)
        Part(path / "writable").drop()
    except OSError as error:
        raise RunError(_not_writable(path, error)) from None
    with locked(RunFolder(path)):
        _refuse_content(path, overwrite)  # another process may have been quicker
        if overwrite:
            _remove_run(path)
        yield RunFolder(path)


@contextlib.contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Keeps other processes from writing to the run folder meanwhile; the lock goes with the process that holds it.

    Raises:
        RunError: another process is training or judging in this folder, or a folder in it is a link to another.
    """
    refuse_links(run.path)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(run.path))
        except OSError as error:
            raise RunError(_not_writable(run.path, error)) from None
        yield


def _nearest_existing(path: Path) -> Path:
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())


def _not_writable(path: Path, error: OSError) -> str:
    return f"{path} cannot be written ({error.strerror or error}); give --out a folder of yours"


def _remove_run(path: Path) -> None:
    """Removes what a run writes and nothing else that may lie in the folder, last what it is known by.

    So a process that is killed meanwhile leaves a folder that `new_run` takes for a run, and replaces.
    """
    _remove(path, _REST)
    for folder in FOLDERS:
        with contextlib.suppress(OSError):  # not there, or somebody else's files are in it
            (path / folder).rmdir()
    _remove(path, (*_MARKS, *_BEGUN))


def _remove(path: Path, patterns: Sequence[str]) -> None:
    for pattern in patterns:
        folder = path / pattern.partition("/")[0] if "/" in pattern else path
        for file in path.glob(pattern) if folder == path or is_own_folder(folder) else ():
            file.unlink(missing_ok=True)


def open_run(path: Path) -> RunFolder:
    """An existing run folder.

    Raises:
        RunError: there is none, or it holds no run.
    """
    if not path.is_dir():
        raise RunError(f"there is no run folder {path}; `convnext train DATA --out {shlex.quote(str(path))}` makes one")
    folder = RunFolder(path)
    if not folder.recipe.exists():
        hint = "give the folder that `train --out` wrote"
        if (path / "fold-1").is_dir():
            hint = f"it holds the folds of `train --folds`: give one of them, as {path / 'fold-1'}"
        raise RunError(f"{path} is no run folder: it has no recipe.toml; {hint}")
    return folder


def is_judged(run: RunFolder) -> bool:
    """Whether the verdict is that of the last epoch in the log."""
    result, rows = run.read_table("result.json"), run.read_log()
    return bool(result and rows) and (result or {}).get("epochs") == rows[-1]["epoch"]


def report_is_due(run: RunFolder) -> bool:
    """Whether the page is missing, or older than the verdict."""
    try:
        return (run.path / "report.html").stat().st_mtime_ns < run.result.stat().st_mtime_ns
    except OSError:
        return True


def drop_state(run: RunFolder) -> None:
    """Removes the optimizer's state of a run that is finished and judged: by far its largest files."""
    for file in (run.state, run.state.with_name("previous.state.pt")):
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def resuming(path: Path) -> str:
    """The command that goes on with a run, as it was started."""
    options = os.environ.get(STARTED, "")
    return f"convnext train --resume --out {shlex.quote(str(path))}{f' {options}' if options else ''}"


def write_text(path: Path, text: str) -> None:
    """Replaces a file by `text`, whole or not at all. Names that are not UTF-8 are written with escapes."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_output(path: Path, content: bytes) -> None:
    """Writes a result where the user asked for it: through a link, and into a pipe or device, not in its place.

    Raises:
        RunError: as `write_bytes`.
    """
    if path.exists() and not path.is_file():
        try:
            path.write_bytes(content)
        except OSError as error:
            raise RunError(_write_problem(path, error)) from None
    else:
        write_bytes(path.resolve(), content)


def write_bytes(path: Path, content: bytes, keep: Path | None = None) -> None:
    """Replaces a file by `content`: temporary file, fsync, rename.

    With `keep` the new file is read again before it takes the old one's place, and the old one moves to `keep`.

    Raises:
        RunError: the disk is full or the folder cannot be written; the old file is still there.
    """
    try:
        with Part(path) as part:
            part.file.write(content)
            if keep is not None:
                part.file.flush()
                os.fsync(part.file.fileno())
                if part.path.read_bytes() != content:
                    raise RunError(f"{path} could not be written: its disk gives back something else than was written")
                if path.exists():
                    share(path, keep)
    except OSError as error:
        raise RunError(_write_problem(path, error)) from None


def share(file: Path, name: Path) -> None:
    """Gives a file a second name, which replaces another file of that name; a copy where the disk has no links."""
    part = Part(name)
    part.path.unlink()
    try:
        os.link(file, part.path)
    except OSError:
        part.drop()
        with Part(name) as part, file.open("rb") as content:
            shutil.copyfileobj(content, part.file)
        return
    try:
        part.file.close()
        part.path.replace(name)
    except BaseException:  # Ctrl-C too
        part.drop()
        raise


def _write_problem(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"{path} could not be written: the disk is full. Free some space; what was saved before is intact"
    if not path.parent.exists():
        return f"{path} could not be written: there is no folder {path.parent}; make it first"
    return f"{path} could not be written ({error.strerror or error}); what was saved before is intact"
