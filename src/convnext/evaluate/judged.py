"""What a run said of the pictures that it was judged on: read from its predictions.csv, or found anew."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

from convnext.data.names import DATA, count, named
from convnext.data.pictures.tarball import parse
from convnext.data.sources.check import check_files
from convnext.errors import RunError, UserError
from convnext.evaluate.evaluate import evaluate_run, evaluate_weights
from convnext.evaluate.verdict import Judged
from convnext.files import read_own
from convnext.run.folder import open_run, resuming
from convnext.run.record import say
from convnext.tasks.overlap import overlap_of
from convnext.tasks.records import Records
from convnext.tasks.table import of_result
from convnext.tasks.task import Task


@dataclass(frozen=True)
class Answers:
    """One run's answers to n pictures.

    Attributes:
        run: as it was given.
        split: which pictures: "test", "val", "train", or "all" of other data.
        root: the data's folder, or the folder of its table; the paths are below it.
        keys: what each picture is known by, its path at first.
        task: what was asked.
        records: what the model said of each, and the truth.
        told: that the run was trained on some of them; "" where it was not, or nobody knows.
    """

    run: str
    split: str
    root: Path
    keys: tuple[str, ...]
    task: Task
    records: Records
    told: str = ""

    def at(self, rows: Sequence[int]) -> Answers:
        """The same for some of the pictures, in the order of `rows`."""
        return replace(self, keys=tuple(self.keys[i] for i in rows), records=self.records.at(rows))

    def as_in(self, task: Task) -> Answers:
        """The same with outputs in the order of another run's task."""
        return replace(self, task=task, records=self.task.as_in(task, self.records))


def answers_of(
    run: str | os.PathLike[str], data: str | os.PathLike[str] | None = None, split: str | None = None
) -> Answers:
    """What a run said of its own judged pictures, or now says of `data`.

    Args:
        run: a run folder, or with `data` a model file of a run.
        data: other data, or the run's own in another place; everything is judged anew.
        split: a split other than the one that the run was judged on; it is judged anew.

    Raises:
        UserError: there is no run, it was not judged, or it cannot be judged on these pictures.
    """
    path = Path(run)
    if data is not None or split is not None:
        return _anew(path, data, split)
    folder = open_run(path)
    result = folder.read_table("result.json")
    if not result:
        raise RunError(f"{path} was not judged yet; go on with it by: {resuming(path)}")
    table = path / "predictions.csv"
    if not table.exists():
        say(f"{path} has no predictions.csv: it is judged again")
        return _anew(path, None, None)
    return _read(path, table, result)


def _anew(path: Path, data: str | os.PathLike[str] | None, split: str | None) -> Answers:
    if path.is_file():
        if data is None:
            raise UserError(f"{path} is a model file: say what to judge it on by --data DATA, or give its run folder")
        judged = evaluate_weights(path, None, named(data, "data", DATA), size=None, normalization=None, split=split)
    else:
        judged = evaluate_run(path, None if data is None else named(data, "data", DATA), split=split)
    return _of(str(path), judged)


def _of(run: str, judged: Judged) -> Answers:
    result, found = judged.result, judged.predictions
    root = _base(str(result["data_root"]))
    paths = tuple(os.path.relpath(judged.samples[int(i)].path, root) for i in found.indices)
    return Answers(run, str(result["split"]), root, paths, judged.task, found.records, overlap_of(result)[1])


def _base(root: str) -> Path:
    home = Path(root)
    return home if home.is_dir() or not home.suffix else home.parent


def _read(path: Path, table: Path, result: dict[str, Any]) -> Answers:
    """The answers in predictions.csv, beside the result that was found from them.

    Raises:
        RunError: the table is damaged, or belongs to another result.
    """
    damaged = (
        f"{table} is damaged or was edited; --split {result.get('split')} judges the run anew instead of reading it"
    )
    try:
        with TextIOWrapper(BytesIO(read_own(table)), encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
        task, where = of_result(result), header.index("path")
        answers = Answers(
            str(path), str(result["split"]), _base(str(result["data_root"])),
            tuple(os.path.normpath(row[where]) for row in rows), task, task.read(header, rows), overlap_of(result)[1],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, IndexError, TypeError, csv.Error) as error:
        raise RunError(f"{damaged} ({error})") from None
    if len(rows) != result.get("n") or not answers.records.finite:
        raise RunError(f"{damaged} ({count(len(rows), 'picture')} in it, {result.get('n')} in result.json)")
    return answers


def known_by_content(answers: Sequence[Answers]) -> list[Answers] | None:
    """The same with pictures known by their content, so that data in several places can be joined; None without files.

    Pictures in tars are known by their content too. Copies of one picture in a data set are told apart by the order in
    which they come.
    """
    files = [[item.root / key for key in item.keys] for item in answers]
    if not all(_is_there(file) for each in files for file in each):
        return None
    out = []
    for item, each in zip(answers, files, strict=True):
        facts = check_files([file.resolve() for file in each], root=item.root.resolve())
        hashes = [facts[file.resolve()].sha256 for file in each]
        if not all(hashes):
            return None
        out.append(replace(item, keys=tuple(_numbered(hashes))))
    return out


def _is_there(file: Path) -> bool:
    """Whether a picture can be read: a file, or its place in a tar."""
    member = parse(file)
    return file.is_file() if member is None else member[0].is_file()


def _numbered(names: Sequence[str]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        yield f"{name}#{seen[name]}"
