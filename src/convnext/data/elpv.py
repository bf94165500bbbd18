"""The solar cells of the demo: 2,624 photographs that the package `elpv-dataset` carries, written as a data set.

Each picture shows one cell of a photovoltaic module in electroluminescence (the cell glows, defects stay dark), 300 x
300 grey pixels. Experts gave each a probability of being defective: 0, 1/3, 2/3 or 1. From 1/2 on it is `defective`
here, below `functional`: 821 and 1,803 pictures, so always answering `functional` is right for 68.7 %.

No two pictures are equal, but many are alike. The cells were cut from 44 modules, and the package does not say which
is from where; cells of one module lie in different splits. About 500 polycrystalline cells have a twin: a cell from a
neighbouring slice of the same block of silicon, with the same pattern of crystals and defects of its own (correlation
of the patterns above 0.8). So the test score says how well more cells of *these* modules are judged, and pictures are
not as independent as its interval takes them to be.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from convnext.data.split import stable_split
from convnext.errors import DataError

VAL, TEST = 0.15, 0.20
COLUMNS = ("path", "label", "split", "probability", "type")

README = """Solar cells in electroluminescence: functional or defective

Source    The ELPV data set, https://github.com/zae-bayern/elpv-dataset, as the Python package elpv-dataset carries it.
Licence   Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International (CC BY-NC-SA 4.0),
          https://creativecommons.org/licenses/by-nc-sa/4.0/. No commercial use; pass it on under the same licence.
Cite      Deitsch, S., Christlein, V., Berger, S., Buerhop-Lutz, C., Maier, A., Gallwitz, F., Riess, C.: Automatic
          classification of defective photovoltaic module cells in electroluminescence images. Solar Energy 185,
          455-468 (2019). https://doi.org/10.1016/j.solener.2019.02.067
          Buerhop-Lutz, C., Deitsch, S., Maier, A., Gallwitz, F., Berger, S., Doll, B., Hauch, J., Camus, C., Brabec,
          C. J.: A benchmark for visual identification of defective solar cells in electroluminescence imagery.
          European PV Solar Energy Conference and Exhibition, EU PVSEC (2018).
          https://doi.org/10.4229/35thEUPVSEC20182018-5CV.3.15
Changes   The pictures in images/ are unchanged. data.csv is ours. Its columns:
          path         the picture, relative to this folder
          label        defective where probability is at least 0.5, otherwise functional
          split        train, val (15 %) or test (20 %), drawn from the SHA-256 of the picture's content
          probability  that the cell is defective, as the experts gave it: 0, 1/3, 2/3 or 1
          type         the cell: mono(crystalline) or poly(crystalline)
Beware    Cells were cut from 44 modules, and which is from where is not known. Cells of one module lie in different
          splits, and about 500 polycrystalline cells have a twin with the same pattern of crystals, often in another
          split. So the test score is for more cells of these modules; for modules never seen expect less.
"""


def write_elpv(out: Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """Write the solar cells to `out` as images/, data.csv and README.txt, about 90 MB.

    A second call does nothing when all is there. When some pictures are missing, only those are copied.

    Args:
        out: a folder; it is made when it does not exist.
        progress: called with (pictures done, pictures in all).

    Returns:
        `out`/data.csv, which `read_dataset` takes.

    Raises:
        DataError: the package is missing or damaged, `out` holds another data.csv, or it cannot be written.
    """
    table = out / "data.csv"
    if _is_complete(out, table):
        return table
    source = _source()
    cells = _cells(source / "labels.csv")
    try:
        (out / "images").mkdir(parents=True, exist_ok=True)
        contents = []
        for done, (path, _, _) in enumerate(cells, 1):
            contents.append(_copy(source / path, out / path))
            if progress is not None:
                progress(done, len(cells))
        _write(out / "README.txt", README.encode())
        _write(table, _table(cells, contents).encode())
    except OSError as error:
        raise DataError(
            f"{out}: cannot be written ({error.strerror or error}); choose a folder that can, with 100 MB of space"
        ) from error
    return table


def _is_complete(out: Path, table: Path) -> bool:
    """Whether all was written: the table comes last, so what it names is all there is. Refuses foreign tables."""
    try:
        text = table.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table}: cannot be read ({error}); remove it or choose another folder") from error
    rows = list(csv.reader(io.StringIO(text)))
    if not rows or tuple(rows[0]) != COLUMNS:
        raise DataError(
            f"{table}: is not the table of the solar cells (columns {','.join(COLUMNS)}); choose another folder"
        )
    return (out / "README.txt").is_file() and all(row and (out / row[0]).is_file() for row in rows[1:])


def _source() -> Path:
    """The folder with labels.csv and images/ in the installed package, found without importing it."""
    spec = find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "the solar cells come with the package elpv-dataset, which is not installed; run\n"
            '    pip install "convnext[demo]"'
        )
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def _cells(labels: Path) -> list[tuple[str, str, str]]:
    """(path, probability, type) of every picture, as written in the package's labels.csv (blanks between them)."""
    try:
        lines = [line.split() for line in labels.read_text(encoding="utf-8").splitlines() if line.strip()]
        cells = [(path, probability, kind) for path, probability, kind in lines if 0 <= float(probability) <= 1]
    except (OSError, ValueError) as error:
        raise _damaged(labels, str(error)) from error
    if not cells or len(cells) < len(lines):
        raise _damaged(labels, "no pictures in it" if not lines else "a probability is not from 0 to 1")
    return cells


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path}: the package elpv-dataset is damaged ({reason}); install it again with\n"
        "    pip install --force-reinstall --no-deps elpv-dataset"
    )


def _copy(source: Path, target: Path) -> str:
    """Copy a picture unless it is there already; returns the SHA-256 of its content."""
    try:
        content = source.read_bytes()
    except OSError as error:
        raise _damaged(source, error.strerror or str(error)) from error
    if not target.is_file() or target.stat().st_size != len(content):
        _write(target, content)
    return hashlib.sha256(content).hexdigest()


def _write(target: Path, content: bytes) -> None:
    """Write a whole file or none: under another name first, which then takes its place."""
    unfinished = target.with_name(target.name + ".unfinished")
    unfinished.write_bytes(content)
    unfinished.replace(target)


def _table(cells: list[tuple[str, str, str]], contents: list[str]) -> str:
    """The text of data.csv, in the order of the package."""
    labels = ["defective" if float(probability) >= 0.5 else "functional" for _, probability, _ in cells]
    under: dict[str, set[str]] = {}
    for content, label in zip(contents, labels, strict=True):
        under.setdefault(content, set()).add(label)
    splits = stable_split(under, val=VAL, test=TEST)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for (path, probability, kind), content, label in zip(cells, contents, labels, strict=True):
        writer.writerow((path, label, splits[content], probability, kind))
    return text.getvalue()
