"""The demo's solar cells: from the real package where it is installed, and from a small double of it."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convnext.data.samples import elpv
from convnext.data.samples.elpv import split_groups, write_elpv
from convnext.errors import DataError

PROBABILITIES = ("0.0", "0.3333333333333333", "0.6666666666666666", "1.0")

needs_package = pytest.mark.skipif(
    find_spec("elpv_dataset") is None, reason="the package elpv-dataset is not installed"
)


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package like elpv-dataset with 60 tiny pictures, cells 10 to 14 a group; gives its data folder."""
    data = tmp_path / "site" / "elpv_dataset" / "data"
    (data / "images").mkdir(parents=True)
    (data.parent / "__init__.py").write_text("raise RuntimeError('the package must not be imported')\n")
    rng, lines = np.random.default_rng(0), []
    for i in range(60):
        path = data / "images" / f"cell{i:04}.png"
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
        lines.append(f"images/{path.name}  {PROBABILITIES[i % 4]:<18} {'mono' if i % 3 else 'poly'}\n")
    (data / "labels.csv").write_text("".join(lines))
    groups = [
        f"images/cell00{i}.png,{_sha256(data / 'images' / f'cell00{i}.png')[:16]},cell0010\n" for i in range(10, 15)
    ]
    (tmp_path / "groups.csv").write_text("path,sha256,group\n" + "".join(groups))
    monkeypatch.setattr(elpv, "GROUPS", tmp_path / "groups.csv")
    monkeypatch.syspath_prepend(str(data.parent.parent))
    monkeypatch.delitem(sys.modules, "elpv_dataset", raising=False)
    return data


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).digest())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_labels_and_columns_follow_the_package(double: Path, tmp_path: Path) -> None:
    """Every picture is copied unchanged; from one half on it is defective; probability and type are kept."""
    table = write_elpv(tmp_path / "out")
    assert table == tmp_path / "out" / "data.csv"
    rows = _rows(table)
    assert list(rows[0]) == ["path", "label", "split", "probability", "type", "group"]
    assert [row["path"] for row in rows] == [f"images/cell{i:04}.png" for i in range(60)]
    assert [row["label"] for row in rows] == ["functional", "functional", "defective", "defective"] * 15
    assert [row["probability"] for row in rows] == list(PROBABILITIES) * 15
    assert [row["type"] for row in rows] == ["poly", "mono", "mono"] * 20
    for row in rows:
        assert (table.parent / row["path"]).read_bytes() == (double / row["path"]).read_bytes()


def test_a_group_lies_in_one_split(double: Path, tmp_path: Path) -> None:
    """Pictures of the shipped table share their group's name and split; every other one is a group of its own."""
    rows = _rows(write_elpv(tmp_path / "out"))
    assert [row["group"] for row in rows] == [f"cell{10 if 10 <= i < 15 else i:04}" for i in range(60)]
    assert len({row["split"] for row in rows[10:15]}) == 1
    assert {row["split"] for row in rows} == {"train", "val", "test"}


def test_a_picture_that_was_not_compared_is_an_error(double: Path, tmp_path: Path) -> None:
    """Another content under the name of a grouped picture, or none: what to install, and no data.csv."""
    (double / "images" / "cell0012.png").write_bytes((double / "images" / "cell0040.png").read_bytes())
    with pytest.raises(DataError, match=r"(?s)cell0012\.png: is not the picture.*elpv-dataset=="):
        write_elpv(tmp_path / "out")
    labels = (double / "labels.csv").read_text().splitlines(keepends=True)
    (double / "labels.csv").write_text("".join(line for line in labels if "cell0012" not in line))
    with pytest.raises(DataError, match=r"cell0012\.png: is not the picture"):
        write_elpv(tmp_path / "out")
    assert not (tmp_path / "out" / "data.csv").exists()


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=200))
def test_the_split_of_groups(members: list[tuple[int, bool]]) -> None:
    """By a slow count of our own: with and without defects apart, in the drawn order, by the place of the middle.

    The order of the pictures and the names of the groups change nothing.
    """
    groups = [str(group) for group, _ in members]
    contents = [hashlib.sha256(bytes([i])).hexdigest() for i in range(len(members))]
    defective = [bad for _, bad in members]
    splits = split_groups(groups, contents, defective)
    bad = {group for group, flag in zip(groups, defective, strict=True) if flag}
    inside = {group: [c for g, c in zip(groups, contents, strict=True) if g == group] for group in set(groups)}
    number = {group: int(hashlib.sha256(min(inside[group]).encode()).hexdigest(), 16) for group in inside}
    for group, split in splits.items():
        part = [other for other in inside if (other in bad) == (group in bad)]
        before = sum(len(inside[other]) for other in part if number[other] < number[group])
        place = Fraction(2 * before + len(inside[group]), 2 * sum(len(inside[other]) for other in part))
        assert split == ("test" if place < Fraction(1, 5) else "val" if place < Fraction(7, 20) else "train")
    turned = split_groups([f"g{group}" for group in groups[::-1]], contents[::-1], defective[::-1])
    assert turned == {f"g{group}": split for group, split in splits.items()}


def test_large_groups_are_not_drawn_to_test() -> None:
    """Groups of 1 and of 20 pictures get the shares alike, though the smallest of 20 hashes is a small one."""
    groups = [f"large {i // 20}" for i in range(4000)] + [f"lone {i}" for i in range(4000)]
    contents = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(8000)]
    splits = split_groups(groups, contents, [False] * 8000)
    for kind, number in (("large", 200), ("lone", 4000)):
        share = Counter(split for group, split in splits.items() if group.startswith(kind))
        assert share["test"] / number == pytest.approx(0.20, abs=0.06)
        assert share["val"] / number == pytest.approx(0.15, abs=0.06)


def test_a_second_call_does_nothing(double: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything there no file is touched, nothing is reported, and the package is not even needed."""
    table = write_elpv(tmp_path / "out")
    before = _state(table.parent)
    monkeypatch.setattr(elpv, "find_spec", lambda name: None)
    calls: list[tuple[int, int]] = []
    assert write_elpv(tmp_path / "out", lambda done, total: calls.append((done, total))) == table
    assert _state(table.parent) == before
    assert calls == []


@pytest.mark.parametrize("lost", ["images/cell0011.png", "data.csv", "README.txt"])
def test_what_is_missing_is_written_again(double: Path, tmp_path: Path, lost: str) -> None:
    """After a loss the same content is back, the other pictures are left as they were, and progress counts all."""
    out = write_elpv(tmp_path / "out").parent
    before = _state(out)
    (out / lost).unlink()
    (out / "images" / "cell0012.png.unfinished").write_bytes(b"left by a crash")
    calls: list[tuple[int, int]] = []
    write_elpv(out, lambda done, total: calls.append((done, total)))
    after = _state(out)
    assert {name: content for name, (_, content) in after.items() if not name.endswith(".unfinished")} == {
        name: content for name, (_, content) in before.items()
    }
    assert after["images/cell0001.png"] == before["images/cell0001.png"]
    assert calls == [(i, 60) for i in range(1, 61)]


def test_a_cut_picture_is_replaced(double: Path, tmp_path: Path) -> None:
    """A picture of another size than the package's, left by an interrupted copy of any kind, is copied anew."""
    cut = tmp_path / "out" / "images" / "cell0000.png"
    cut.parent.mkdir(parents=True)
    cut.write_bytes(b"half")
    write_elpv(tmp_path / "out")
    assert cut.read_bytes() == (double / "images" / "cell0000.png").read_bytes()


def test_readme_names_source_licence_and_papers(double: Path, tmp_path: Path) -> None:
    """Who uses the pictures finds where they are from, what is allowed, and what to cite."""
    text = (write_elpv(tmp_path / "out").parent / "README.txt").read_text(encoding="utf-8")
    for wanted in ("zae-bayern/elpv-dataset", "CC BY-NC-SA 4.0", "Deitsch", "Solar Energy", "Buerhop-Lutz", "EU PVSEC"):
        assert wanted in text


def test_a_missing_package_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package: what to install, and no folder left behind."""
    monkeypatch.setattr(elpv, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r'pip install "convnext\[demo\]"'):
        write_elpv(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["no table", "empty table", "odd table", "odd probability", "no picture"])
def test_a_damaged_package_is_named(double: Path, tmp_path: Path, damage: str) -> None:
    """A table or a picture that is missing or odd: the file, and how to install it again; no data.csv."""
    if damage == "no picture":
        (double / "images" / "cell0005.png").unlink()
    elif damage == "no table":
        (double / "labels.csv").unlink()
    else:
        text = {"empty table": "\n", "odd table": "a b\n", "odd probability": "images/cell0000.png 1.5 mono\n"}
        (double / "labels.csv").write_text(text[damage])
    with pytest.raises(DataError, match=r"(?s)(labels\.csv|cell0005\.png).*damaged.*force-reinstall"):
        write_elpv(tmp_path / "out")
    assert not (tmp_path / "out" / "data.csv").exists()


@pytest.mark.parametrize(
    "content",
    [b"path,label\na.jpg,cat\n", b"", b"\xff\xfe", b"path,label,split,probability,type\na.png,functional,val,0,poly\n"],
)
def test_another_table_is_left_alone(double: Path, tmp_path: Path, content: bytes) -> None:
    """A data.csv that is not ours is an error and stays as it is."""
    (tmp_path / "data.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"data\.csv.*another folder"):
        write_elpv(tmp_path)
    assert (tmp_path / "data.csv").read_bytes() == content


def test_a_place_that_cannot_be_written_is_an_error(
    double: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file where the folder should be, and a disk that is full: DataError, and no data.csv."""
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match=r"file: cannot be written .*choose a folder"):
        write_elpv(tmp_path / "file")

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("convnext.data.samples.elpv.write_whole", full)
    with pytest.raises(DataError, match=r"No space left on device.*100 MB"):
        write_elpv(tmp_path / "out")
    assert not (tmp_path / "out" / "data.csv").exists()


@needs_package
def test_the_real_pictures(tmp_path: Path) -> None:
    """2,624 distinct grey pictures of 300 x 300; 821 defective; groups whole; the splits' sizes and classes."""
    rows = _rows(write_elpv(tmp_path / "out"))
    contents = {hashlib.sha256((tmp_path / "out" / row["path"]).read_bytes()).hexdigest() for row in rows}
    assert len(rows) == len(contents) == 2624
    assert Counter(row["label"] for row in rows) == {"functional": 1803, "defective": 821}
    assert Counter(row["type"] for row in rows) == {"poly": 1550, "mono": 1074}
    splits = {(row["group"], row["split"]) for row in rows}
    assert len(splits) == len({group for group, _ in splits}) == 1672
    found = {
        split: Counter(row["label"] for row in rows if row["split"] == split) for split in ("train", "val", "test")
    }
    assert found == {
        "train": {"functional": 1189, "defective": 518},
        "val": {"functional": 250, "defective": 137},
        "test": {"functional": 364, "defective": 166},
    }
    for row in rows[::200]:
        with Image.open(tmp_path / "out" / row["path"]) as picture:
            assert (picture.mode, picture.size) == ("L", (300, 300))


@needs_package
def test_the_package_is_not_imported(tmp_path: Path) -> None:
    """Writing the pictures needs neither the package's code nor numpy, Pillow or torch."""
    code = (
        "import sys, pathlib; from convnext.data.samples.elpv import write_elpv; "
        "write_elpv(pathlib.Path(sys.argv[1])); "
        "print(sorted({'elpv_dataset', 'numpy', 'PIL', 'torch'} & set(sys.modules)))"
    )
    source = Path(elpv.__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(source)},
    )
    assert done.stdout.strip() == "[]"
