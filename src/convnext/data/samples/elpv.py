"""The solar cells of the demo: 2,624 photographs that the package `elpv-dataset` carries, written as a data set.

Each picture shows one cell of a photovoltaic module in electroluminescence (the cell glows, defects stay dark), 300 x
300 grey pixels. Experts gave each a probability of being defective: 0, 1/3, 2/3 or 1. From 1/2 on it is `defective`
here, below `functional`: 821 and 1,803 pictures, so always answering `functional` is right for 68.7 %.

No two pictures are equal, but many look alike. Neighbouring slices of one block of silicon have the same pattern of
crystals, each with defects of its own; cells from one printing screen have the same broken lines; and one module was
photographed twice (cells 1735 to 1784 again as 2277 to 2326). A split picture by picture would test what was learnt by
heart, so look-alikes form groups (`elpv_groups` finds them, elpv_groups.csv keeps them), and a group lies
in one split. Yet the cells were cut from 44 modules, the package does not say which is from where, and cells of one
module lie in different splits. So the test score says how well more cells of *these* modules are judged, and pictures
are not as independent as its interval takes them to be.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from convnext.data.sources.split import draw
from convnext.errors import DataError
from convnext.files import write_whole

VAL, TEST = 0.15, 0.20
COLUMNS = ("path", "label", "split", "probability", "type", "group")
GROUPS = Path(__file__).with_name("elpv_groups.csv")
GROUP_COLUMNS = ("path", "sha256", "group")

Cell = tuple[str, str, str]  # path, probability, type

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
          split        train (65 %), val (15 %) or test (20 %); all pictures of a group are in one
          probability  that the cell is defective, as the experts gave it: 0, 1/3, 2/3 or 1
          type         the cell: mono(crystalline) or poly(crystalline)
          group        pictures that look alike, named by the first of them; most pictures are a group of their own
Split     Look-alikes are slices of one block of silicon, cells with the same printing faults, and a module that was
          photographed twice: 1,229 pictures in 277 groups of 2 to 38. Groups with a defective cell and groups without
          are split apart from each other, each in an order drawn from the SHA-256 of the pictures' contents. To split
          otherwise, keep the groups together: in a split that ignores them every third test picture looks like one
          in train.
Beware    Cells were cut from 44 modules, and which is from where is not known. Cells of one module lie in different
          splits, and so do faint look-alikes. So the test score is for more cells of these modules; for modules never
          seen expect less. Pictures of one group are not independent, so the truth is a little less certain than the
          score's interval says.
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
    folder = package_folder()
    cells = read_cells(folder / "labels.csv")
    try:
        (out / "images").mkdir(parents=True, exist_ok=True)
        contents = []
        for done, (path, _, _) in enumerate(cells, 1):
            contents.append(_copy(folder / path, out / path))
            if progress is not None:
                progress(done, len(cells))
        groups = _groups(folder, [path for path, _, _ in cells], contents)
        _write(out / "README.txt", README.encode())
        _write(table, _table(cells, contents, groups).encode())
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
            f"{table}: is not the table of the solar cells (columns {','.join(COLUMNS)}); "
            "remove it or choose another folder"
        )
    return (out / "README.txt").is_file() and all(row and (out / row[0]).is_file() for row in rows[1:])


def package_folder() -> Path:
    """The folder with labels.csv and images/ in the installed package, found without importing it."""
    spec = find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "the solar cells come with the package elpv-dataset, which is not installed; run\n"
            '    pip install "convnext[demo]"'
        )
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def read_cells(labels: Path) -> list[Cell]:
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
    write_whole(target, content)


def _groups(folder: Path, paths: Sequence[str], contents: Sequence[str]) -> list[str]:
    """The name of every picture's group; a picture that is in no group has one of its own."""
    found = dict(zip(paths, contents, strict=True))
    groups = {path: Path(path).stem for path in paths}
    with GROUPS.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            path = row["path"]
            if not found.get(path, "").startswith(row["sha256"]):
                raise DataError(
                    f"{folder / path}: is not the picture that was compared with the others, so look-alikes cannot be "
                    "kept in one split; install the package as it was then with\n"
                    "    pip install --force-reinstall --no-deps elpv-dataset==1.0.0.post1"
                )
            groups[path] = row["group"]
    return [groups[path] for path in paths]


def split_groups(groups: Sequence[str], contents: Sequence[str], defective: Sequence[bool]) -> dict[str, str]:
    """The split of every group.

    Groups with a defective cell and groups without are split apart from each other, so that all splits have their
    share of both. In either part the groups stand in the order of the numbers that `data.sources.split.draw` gives
    them; as long as the middle of a group lies in the first 20 % of the pictures it goes to test, in the next 15 %
    to val, otherwise to train.

    A group draws by the smallest SHA-256 of its pictures' contents, hashed once more: the smallest of many is a small
    number, and without that all large groups would come first.
    """
    smallest: dict[str, str] = {}
    for group, content in zip(groups, contents, strict=True):
        smallest[group] = min(content, smallest.get(group, content))
    drawn = {group: draw(hashlib.sha256(content.encode()).hexdigest()) for group, content in smallest.items()}
    sizes = Counter(groups)
    marked = {group for group, bad in zip(groups, defective, strict=True) if bad}
    splits: dict[str, str] = {}
    for part in (marked, sizes.keys() - marked):
        total, before = sum(sizes[group] for group in part), 0
        for group in sorted(part, key=lambda group: (drawn[group], group)):
            place = (before + sizes[group] / 2) / total
            splits[group] = "test" if place < TEST else "val" if place < TEST + VAL else "train"
            before += sizes[group]
    return splits


def _table(cells: Sequence[Cell], contents: Sequence[str], groups: Sequence[str]) -> str:
    """The text of data.csv, in the order of the package."""
    labels = ["defective" if float(probability) >= 0.5 else "functional" for _, probability, _ in cells]
    splits = split_groups(groups, contents, [label == "defective" for label in labels])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for (path, probability, kind), label, group in zip(cells, labels, groups, strict=True):
        writer.writerow((path, label, splits[group], probability, kind, group))
    return text.getvalue()
