"""Folders and tables become a Dataset: layouts, the split rule, bad files, the cache, every message."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import ImageFolder

from convnext import files
from convnext.data.names import in_order
from convnext.data.sources import check as checked
from convnext.data.sources.check import check_files
from convnext.data.sources.dataset import Dataset
from convnext.data.sources.listing import SPLITS
from convnext.data.sources.split import draw, stable_split
from convnext.errors import DataError
from convnext.tasks.classify.meaning import counts
from convnext.tasks.classify.targets import read_dataset

MakePictures = Callable[[dict[str, int]], Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of our own, so that tests neither see nor leave anything."""
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "checked"


def paint(path: Path, seed: int) -> Path:
    """A small picture that differs from those of other seeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(colours).resize((16, 16), Image.Resampling.NEAREST).save(path)
    return path


@pytest.fixture
def make_pictures(tmp_path: Path) -> MakePictures:
    """Makes DATA/<folder>/<number>.png for every folder and count, all different."""
    seeds = iter(range(10**6))

    def make(folders: dict[str, int]) -> Path:
        for folder, number in folders.items():
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            for index in range(number):
                paint(tmp_path / "data" / folder / f"{index}.png", next(seeds))
        return tmp_path / "data"

    return make


def split_of(data: Dataset) -> dict[Path, str]:
    return {sample.path: split for split, samples in data.splits.items() for sample in samples}


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


# Layouts


def test_class_folders_are_read_as_torchvision_reads_them(make_pictures: MakePictures) -> None:
    """The same classes, in the same order, with the same files as torchvision's ImageFolder."""
    root = make_pictures({"b": 4, "a": 5, "10": 3, "2": 3, "a/deep/er": 2})
    data, theirs = read_dataset(root), ImageFolder(str(root))
    ours = sorted((str(s.path), *s.target) for samples in data.splits.values() for s in samples)
    assert (data.layout, data.multi_label, data.root) == ("class folders", False, root)
    assert list(data.classes) == theirs.classes == ["10", "2", "a", "b"]
    assert ours == sorted(theirs.samples)
    assert [sum(counts(data, split)[index] for split in SPLITS) for index in range(4)] == [3, 3, 7, 4]


def test_numbers_are_classes_in_the_order_of_their_values(make_pictures: MakePictures, tmp_path: Path) -> None:
    """Where all names are whole numbers, in folders and in tables; leading zeros make no other value; old runs name
    their classes, and keep them."""
    root = make_pictures({str(number): 3 for number in range(12)})
    assert read_dataset(root).classes == tuple(map(str, range(12)))
    rows = [f"{number}/{index}.png,{number:02d}" for number in (11, 3, 10, 1) for index in range(3)]
    assert read_dataset(write(root / "t.csv", "\n".join(["path,label", *rows]))).classes == ("01", "03", "10", "11")
    old = tuple(sorted(map(str, range(12))))
    assert read_dataset(root, classes=old).classes == old
    assert in_order(["2", "10", "x"]) == ["10", "2", "x"]
    assert in_order(["1", "01", "0", "00", "007", "7"]) == ["0", "00", "01", "1", "007", "7"]


def test_flowers_have_the_counts_of_their_readme(shared_data: Path) -> None:
    """The flowers: 570, 809, 577, 630, 720 pictures to train with and 63, 89, 64, 69, 79 for val, none broken."""
    data = read_dataset(shared_data / "flowers")
    assert data.layout == "split folders"
    assert data.classes == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    assert counts(data, "train") == [570, 809, 577, 630, 720]
    assert counts(data, "val") == [63, 89, 64, 69, 79]
    assert (counts(data, "test"), data.broken, list(data.splits)) == ([0] * 5, (), ["train", "val"])


@pytest.mark.parametrize("val_name", ["val", "valid", "validation", "Val"])
def test_split_folders_keep_their_splits(make_pictures: MakePictures, val_name: str) -> None:
    """Pictures stay in the split whose folder they lie in, whichever usual name val has."""
    root = make_pictures({"train/a": 3, "train/b": 4, f"{val_name}/a": 1, "test/b": 2, "notes": 1})
    data = read_dataset(root)
    assert {split: counts(data, split) for split in data.splits} == {"train": [3, 4], "val": [1, 0], "test": [0, 2]}
    assert data.notes == (f"no pictures in {root / val_name / 'b'}",) or "folders beside the splits" in data.notes[-1]


def test_val_is_taken_from_train_when_it_is_missing(make_pictures: MakePictures) -> None:
    """With train/ and test/ alone, val comes from train by the stable rule and test stays as it is."""
    root = make_pictures({"train/a": 30, "train/b": 3, "test/a": 2, "test/b": 2})
    data = read_dataset(root, val=0.2)
    assert counts(data, "test") == [2, 2]
    assert [sum(pair) for pair in zip(counts(data, "train"), counts(data, "val"), strict=True)] == [30, 3]
    assert min(counts(data, "val")) >= 1
    assert data.notes == ("no val split given: 20% of train were taken for it, decided by each file's content",)
    assert list(read_dataset(root, val=0.0).splits) == ["train", "test"]


def test_train_may_be_a_class(make_pictures: MakePictures) -> None:
    """Among vehicles, a folder `train` with its pictures right in it is a class like the others."""
    assert read_dataset(make_pictures({"bus": 3, "train": 3})).classes == ("bus", "train")


def test_what_is_passed_over(make_pictures: MakePictures) -> None:
    """Hidden files and other programs' leavings are ignored in silence, other files and loose pictures with a note."""
    root = make_pictures({"a": 3, "b": 3, ".ipynb_checkpoints": 1, "__MACOSX/a": 1, "a/.hidden": 1})
    for name in (".DS_Store", "._x.jpg", "Thumbs.db", "b/._0.png", "b/.DS_Store"):
        (root / name).write_bytes(b"?")
    (root / "b" / "remarks.txt").write_text("nice")
    (root / "a" / "x.XML").write_text("<x>")
    (root / "a" / "README").write_text("?")
    paint(root / "loose.png", 99999)
    data = read_dataset(root)
    assert data.classes == ("a", "b")
    assert sum(len(samples) for samples in data.splits.values()) == 6
    assert data.broken == ()
    assert data.notes[:2] == (
        "1 picture lies outside the class folders and was ignored, such as loose.png",
        "3 files are not pictures and were ignored (without suffix 1, .xml 1, .txt 1)",
    )


def test_upper_case_nested_links_and_unicode(make_pictures: MakePictures, tmp_path: Path) -> None:
    """Upper-case suffixes, nested folders, linked folders, rings of links, composed and decomposed accents all work."""
    root = make_pictures({"a": 3})
    paint(tmp_path / "elsewhere" / "deep" / "1.JPG", 1001)
    paint(tmp_path / "elsewhere" / "2.TiF", 1002)
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "ring").symlink_to(root / "linked")
    paint(root / unicodedata.normalize("NFD", "été") / "花 \U0001f338.png", 1003)
    data = read_dataset(root)
    assert data.classes == ("a", "linked", "été")
    assert sorted(path.name for path in split_of(data)) == [
        "0.png",
        "1.JPG",
        "1.png",
        "2.TiF",
        "2.png",
        "花 \U0001f338.png",
    ]


def test_names_that_are_not_utf8(make_pictures: MakePictures) -> None:
    """A file's name may be any bytes, the cache included; a class's name must be UTF-8."""
    root = make_pictures({"a": 3, "b": 3})
    try:
        (root / "a" / "0.png").rename(root / "a" / os.fsdecode(b"caf\xe9.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    first, second = read_dataset(root), read_dataset(root)
    assert first == second
    assert sum(counts(first, split)[0] for split in SPLITS) == 3
    (root / "b").rename(root / os.fsdecode(b"\xe9"))
    with pytest.raises(DataError, match=r"\\udce9: the folder's name is not valid UTF-8"):
        read_dataset(root)


# Broken files


def test_broken_files_are_named_counted_and_left_out(make_pictures: MakePictures) -> None:
    """Every kind of bad file is in `broken` with its reason, and in no split."""
    root = make_pictures({"a": 4, "b": 4})
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    noise.save(root / "a" / "cut.jpg")
    os.truncate(root / "a" / "cut.jpg", 3000)
    (root / "a" / "empty.png").touch()
    (root / "a" / "text.jpg").write_text("hello")
    (root / "a" / "folder.jpg").mkdir()
    (root / "b" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    (root / "b" / "ring.jpg").symlink_to(root / "b" / "ring.jpg")
    (root / "c").symlink_to(root / "nowhere")
    data = read_dataset(root)
    assert [(item.path.name, item.reason.split(" (")[0].split(":")[0]) for item in data.broken] == [
        ("cut.jpg", "cut off"),
        ("empty.png", "empty file"),
        ("folder.jpg", "a folder, not a picture"),
        ("text.jpg", "not a picture in a known format"),
        ("gone.jpg", "a link to a file that does not exist"),
        ("ring.jpg", "too many levels of symbolic links"),
        ("c", "a link to a folder or file that does not exist"),
    ]
    assert {path.suffix for path in split_of(data)} == {".png"}
    assert len(split_of(data)) == 8


def test_a_file_without_permission_is_broken_until_it_is_allowed(
    make_pictures: MakePictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused file counts as broken but is not remembered so (faked: a superuser may read all)."""
    root = make_pictures({"a": 3, "b": 3})
    plain = Path.open

    def refuse(self: Path, *args: str, **options: str) -> object:
        if self.name == "1.png":
            raise PermissionError(13, "Permission denied")
        return plain(self, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        reasons = {item.reason for item in read_dataset(root).broken}
    assert reasons == {"no permission to read it"}
    assert read_dataset(root).broken == ()


# The split rule


def test_the_rule_is_the_documented_one(make_pictures: MakePictures) -> None:
    """SHA-256 of the content as a fraction: below 0.2 is test, below 0.5 val, the rest train."""
    root = make_pictures({"a": 60, "b": 60})
    for path, split in split_of(read_dataset(root, val=0.3, test=0.2)).items():
        number = int(hashlib.sha256(path.read_bytes()).hexdigest(), 16) / 2**256
        assert split == ("test" if number < 0.2 else "val" if number < 0.5 else "train")


def test_adding_renaming_and_moving_files_moves_no_other(make_pictures: MakePictures) -> None:
    """The split of a picture outlives new neighbours, a new name and a new place."""
    root = make_pictures({"a": 40, "b": 40})
    before = {path.read_bytes(): split for path, split in split_of(read_dataset(root)).items()}
    make_pictures({"a/new": 40, "c": 10})
    (root / "b" / "0.png").rename(root / "b" / "zzz.png")
    (root / "b" / "1.png").rename(root / "c" / "from b.png")
    root = root.rename(root.parent / "elsewhere")
    after = {path.read_bytes(): split for path, split in split_of(read_dataset(root)).items()}
    assert {content: after[content] for content in before} == before
    assert len(after) == len(before) + 50


def test_equal_files_never_straddle_splits(make_pictures: MakePictures) -> None:
    """Copies of a file, also under another class, are all in one split."""
    root = make_pictures({"a": 12, "b": 12})
    for path in sorted((root / "a").iterdir()):
        (root / "a" / f"copy of {path.name}").write_bytes(path.read_bytes())
        (root / "b" / f"also {path.name}").write_bytes(path.read_bytes())
    splits: dict[bytes, set[str]] = {}
    for path, split in split_of(read_dataset(root)).items():
        splits.setdefault(path.read_bytes(), set()).add(split)
    assert len(splits) == 24
    assert all(len(found) == 1 for found in splits.values())


def test_small_classes_are_in_every_split_and_tiny_ones_in_train(make_pictures: MakePictures) -> None:
    """Three pictures are enough for train, val and test; two stay in train, with a note."""
    root = make_pictures({f"small{index}": 3 for index in range(12)} | {"tiny": 2, "copies": 1})
    for index in range(5):
        (root / "copies" / f"copy{index}.png").write_bytes((root / "copies" / "0.png").read_bytes())
    data = read_dataset(root)
    place = {name: [counts(data, split)[index] for split in SPLITS] for index, name in enumerate(data.classes)}
    assert place.pop("tiny") == [2, 0, 0]
    assert place.pop("copies") == [6, 0, 0]
    assert set(map(tuple, place.values())) == {(1, 1, 1)}
    assert data.notes[-1] == "all train, because fewer than 3 different pictures: copies, tiny"
    only_val = read_dataset(root, test=0.0)
    assert list(only_val.splits) == ["train", "val"]


contents = st.dictionaries(
    st.integers(0, 10**9).map(lambda number: hashlib.sha256(str(number).encode()).hexdigest()),
    st.sets(st.sampled_from("abcd"), min_size=1, max_size=2),
    max_size=60,
)


LINKED = {1: "a", 0: "ad", 53: "cd", 225: "cd", 11484445: "ac"}  # small classes that share all their pictures


@settings(max_examples=150, deadline=None)
@example({hashlib.sha256(str(n).encode()).hexdigest(): set(names) for n, names in LINKED.items()}, 0.1, 0.1)
@given(contents, st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from([0.0, 0.1, 0.3]))
def test_the_rule_moves_only_what_it_must(labels: dict[str, set[str]], val: float, test: float) -> None:
    """Whatever the classes (also several a picture): all get a split that is wanted, no class loses its training
    pictures, and whoever is not in the split drawn for it was moved for a class that is small or lacked a picture."""
    splits = stable_split(labels, val=val, test=test)
    assert splits.keys() == labels.keys()
    assert set(splits.values()) <= {"train", "val" if val else "train", "test" if test else "train"}
    for name in "abcd":
        members = [sha256 for sha256 in labels if name in labels[sha256]]
        if members:
            assert "train" in {splits[sha256] for sha256 in members}
    moved = [
        s for s in labels if splits[s] != ("test" if draw(s) < test else "val" if draw(s) < test + val else "train")
    ]
    tiny = {name for name in "abcd" if sum(name in names for names in labels.values()) < 3}
    assert len([sha256 for sha256 in moved if not labels[sha256] & tiny]) <= 3 * 4


def test_shares_come_out_as_asked() -> None:
    """Of 20,000 contents 15 % and 10 % are drawn, within four standard deviations."""
    labels = {hashlib.sha256(str(index).encode()).hexdigest(): {"a"} for index in range(20_000)}
    splits = list(stable_split(labels, val=0.15, test=0.10).values())
    assert splits.count("val") / 20_000 == pytest.approx(0.15, abs=0.010)
    assert splits.count("test") / 20_000 == pytest.approx(0.10, abs=0.009)


# Tables


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_tables_as_spreadsheets_write_them(make_pictures: MakePictures, separator: str, encoding: str) -> None:
    """Comma, semicolon and tab, with or without a byte-order mark, CRLF, blank lines, quoted cells, absolute paths."""
    root = make_pictures({"x": 4})
    lines = ["label,path,split", f"dog,{root}/x/0.png,train", '"cat","x/1.png",TRAIN', ",,", "dog,x\\2.png,valid"]
    text = "\r\n".join([*lines, "cat,x/3.png,test", "cat,x/3.png,test", ""]).replace(",", separator)
    data = read_dataset(write(root / "t.csv", text, encoding))
    assert (data.layout, data.classes) == ("csv", ("cat", "dog"))
    assert {split: [(s.path.name, s.target) for s in samples] for split, samples in data.splits.items()} == {
        "train": [("0.png", (1,)), ("1.png", (0,))],
        "val": [("2.png", (1,))],
        "test": [("3.png", (0,))],
    }
    assert data.notes == ("1 row repeated word for word, counted once",)


def test_several_labels(make_pictures: MakePictures) -> None:
    """`|` joins labels, a lone `|` means none; splits are found for every class."""
    root = make_pictures({"x": 40})
    cells = ["sky|sea", "sea", " sea | sky ", "|", "boat|sea"]
    rows = [f"x/{index}.png,{cells[index % 5]}" for index in range(40)]
    data = read_dataset(write(root / "t.csv", "path,label\n" + "\n".join(rows)))
    assert data.multi_label
    assert data.classes == ("boat", "sea", "sky")
    found = {s.path.name: s.target for samples in data.splits.values() for s in samples}
    assert [found[f"{index}.png"] for index in range(5)] == [(1, 2), (1,), (1, 2), (), (0, 1)]
    assert all(min(counts(data, split)) >= 1 for split in SPLITS)


def test_other_column_names(make_pictures: MakePictures) -> None:
    """The columns can be named."""
    root = make_pictures({"x": 8})
    rows = "\n".join(f"x/{index}.png,{'ab'[index % 2]},{('train', 'val')[index > 5]}" for index in range(8))
    table = write(root / "t.csv", "file,kind,part\n" + rows)
    data = read_dataset(table, path_column="file", label_column="kind", split_column="part")
    assert counts(data, "train") == [3, 3]
    assert counts(data, "val") == [1, 1]


# Classes that are given


def test_given_classes_keep_their_order(make_pictures: MakePictures) -> None:
    """The order asked for is kept, a class without pictures is allowed, a name in neither is guessed at."""
    root = make_pictures({"cat": 3, "dog": 3})
    data = read_dataset(root, classes=("zebra", "dog", "cat"))
    assert data.classes == ("zebra", "dog", "cat")
    assert [sum(counts(data, split)[index] for split in SPLITS) for index in range(3)] == [0, 3, 3]
    with pytest.raises(DataError, match=r'class "dog" is not one of the classes asked for \(did you mean "dogs"\?\)'):
        read_dataset(root, classes=("cat", "dogs"))


# Mistakes in folders

FOLDERS: dict[str, tuple[dict[str, int], str]] = {
    "nothing": ({}, "no such folder or file"),
    "empty": ({".": 0}, "no pictures and no class folders in it: expected DATA/<class>/picture.jpg"),
    "flat": ({".": 3}, "holds 3 pictures but no class folders: move each picture"),
    "one class": ({"cat": 3}, r'a single class \("cat"\): a classifier needs two or more to tell apart$'),
    "wrapped": ({"photos/cat": 3, "photos/dog": 3}, r"did you mean .*photos, which holds cat, dog\?"),
    "empty class": (
        {"cat": 3, "dog": 0, "owl": 0},
        "data/dog: no pictures in this class folder; nor in owl: every class",
    ),
    "empty train class": ({"train/a": 2, "train/b": 0, "val/a": 1}, "train/b: no pictures in this class folder"),
    "no train": ({"val/a": 2, "test/a": 2}, "has test/, val/ but no train/"),
    "train only": ({"train/a": 2, "train/b": 2}, "has train/ but neither val/ nor test/"),
    "two vals": ({"train/a": 2, "val/a": 1, "valid/a": 1}, "both val/ and valid/ mean the val split"),
    "flat splits": ({"train": 3, "val": 2}, "train: holds 3 pictures but no class folders"),
    "unknown class": (
        {"train/tulips": 2, "train/roses": 2, "val/tulip": 1},
        r'val/tulip: the class is not in train/ \(did you mean "tulips"\?\)',
    ),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_mistakes_in_folders(make_pictures: MakePictures, tmp_path: Path, kind: str) -> None:
    """Each mistake has a message with the place, the rule and the remedy."""
    folders, message = FOLDERS[kind]
    make_pictures(folders)
    with pytest.raises(DataError, match=message) as caught:
        read_dataset(tmp_path / "data")
    assert str(tmp_path / "data") in str(caught.value)


def test_mistakes_in_the_path(make_pictures: MakePictures, tmp_path: Path) -> None:
    """A misspelt folder is guessed at; a picture, an archive and other files are refused for what they are."""
    root = make_pictures({"a": 3})
    for name, message in {
        "date": r'no such folder or file \(did you mean "data"\?\)',
        "data/a/0.png": "a single picture, not a data set",
        "x.zip": "a packed archive: unpack it",
        "x.json": "neither a folder nor a CSV file",
    }.items():
        if name.startswith("x"):
            (tmp_path / name).touch()
        with pytest.raises(DataError, match=message):
            read_dataset(root.parent / name)


def test_classes_that_are_all_broken(make_pictures: MakePictures) -> None:
    """A class without one readable picture is an error that shows the first; so is a data set without any."""
    root = make_pictures({"a": 3, "b": 2})
    for index in range(2):
        (root / "b" / f"{index}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r'class "b": all 2 pictures are broken; the first, .*b/0.png: empty file'):
        read_dataset(root)
    for index in range(3):
        (root / "a" / f"{index}.png").write_text("x")
    with pytest.raises(DataError, match="none of its 5 pictures can be read; the first, "):
        read_dataset(root)


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.1), (0.5, 0.5), (1.5, 0.0), (float("nan"), 0.1)])
def test_shares_that_leave_nothing_to_learn_from(make_pictures: MakePictures, val: float, test: float) -> None:
    """Shares must be at least 0 and sum to less than 1."""
    with pytest.raises(DataError, match="their sum must be below 1"):
        read_dataset(make_pictures({"a": 3, "b": 3}), val=val, test=test)


# Mistakes in tables

TABLES: dict[str, tuple[str, str]] = {
    "empty": ("", "empty: the first line must name the columns"),
    "header only": ("path,label\n", "no rows below the header"),
    "no label": (
        "path,Labels\n0.png,a",
        r'no column "label" \(did you mean "Labels"\?\); its columns are path, Labels',
    ),
    "no path": ("file,label\n0.png,a", r'no column "path"; its columns are file, label'),
    "twice": ("path,label,label\n0.png,a,b", '2 columns are called "label"'),
    "missing": (
        "path,label\n0.png,a\n" + "\n".join(f"no{index}.png,b" for index in range(7)),
        r"7 of 8 paths lead to no file, such as no0.png, no1.png, no2.png, no3.png, no4.png: paths are relative to",
    ),
    "no labels": ("path,label\n0.png,a\n1.png,\n2.png, \n", 'nothing in column "label" in lines 3, 4: write a label'),
    "no labels of several": ("path,label\n0.png,a|b\n1.png,\n", r"in line 3: write `\|` for a picture with none"),
    "no such name": (f"path,label\n{'x' * 300},a\n", "1 of 1 path leads to no file, such as xxx"),
    "no paths": ("path,label\n,a\n", 'nothing in column "path" in line 2'),
    "split typo": (
        "path,label,split\n0.png,a,train\n1.png,b,tset",
        r'line 3: "tset" in column "split" is no split \(did you mean "test"\?\): write train, val, test',
    ),
    "all train": ("path,label,split\n0.png,a,train\n1.png,b,train", 'every row is "train"'),
    "no train": ("path,label,split\n0.png,a,val\n1.png,b,test", 'no row is "train"'),
    "one class": ("path,label\n0.png,a\n1.png,a", r'a single class \("a"\)'),
    "unseen": (
        "path,label,split\n0.png,cat,train\n1.png,dog,train\n2.png,cats,val",
        r'"cats" is in val but not in train',
    ),
    "two labels": ("path,label\n0.png,a\n1.png,b\n0.png,b", r'lines 2 and 4: .*0.png is "a" and "b": .*write "a\|b"'),
    "two splits": ("path,label,split\n0.png,a,train\n0.png,a,val\n1.png,b,train", "is in train and in val"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_mistakes_in_tables(make_pictures: MakePictures, kind: str) -> None:
    """Each mistake has a message with the table, the line or column, the rule and the remedy."""
    text, message = TABLES[kind]
    table = write(make_pictures({".": 3}) / "t.csv", text)
    with pytest.raises(DataError, match=message) as caught:
        read_dataset(table)
    assert str(table) in str(caught.value)


def test_tables_in_other_encodings(make_pictures: MakePictures) -> None:
    """Latin-1 and UTF-16 tables, and pictures named .csv, are refused with the remedy."""
    root = make_pictures({".": 1})
    for name, encoding in (("latin.csv", "latin-1"), ("utf16.csv", "utf-16")):
        with pytest.raises(DataError, match="save the table as UTF-8"):
            read_dataset(write(root / name, "path,label\n0.png,été", encoding))
    (root / "picture.csv").write_bytes((root / "0.png").read_bytes())
    with pytest.raises(DataError, match="save the table as UTF-8"):
        read_dataset(root / "picture.csv")


def test_a_named_split_column_must_exist(make_pictures: MakePictures) -> None:
    """The column `split` may be absent, one that was asked for by name may not."""
    table = write(make_pictures({".": 2}) / "t.csv", "path,label\n0.png,a\n1.png,b")
    with pytest.raises(DataError, match='no column "fold"'):
        read_dataset(table, split_column="fold")


# The check and its cache


def test_the_second_time_no_file_is_opened(make_pictures: MakePictures, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found once is remembered, broken files too; a changed file is looked at again."""
    root = make_pictures({"a": 4, "b": 4})
    (root / "a" / "bad.jpg").write_text("text")
    first = read_dataset(root)
    opened: list[Path] = []
    plain = checked.check_file
    monkeypatch.setattr(checked, "check_file", lambda path: (opened.append(path), plain(path))[1])
    assert read_dataset(root) == first
    assert opened == []
    (root / "b" / "0.png").write_bytes(b"now broken")
    again = read_dataset(root)
    assert opened == [root / "b" / "0.png"]
    assert [item.path.name for item in again.broken] == ["bad.jpg", "0.png"]


def test_a_touched_file_is_checked_again(make_pictures: MakePictures, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of change counts, not only the size."""
    root = make_pictures({"a": 2, "b": 2})
    read_dataset(root)
    os.utime(root / "a" / "0.png", ns=(1, 1))
    opened: list[Path] = []
    monkeypatch.setattr(checked, "check_file", lambda path: (opened.append(path), checked.Facts(reason="x"))[1])
    read_dataset(root)
    assert opened == [root / "a" / "0.png"]


@pytest.mark.parametrize("damage", ["{", "[]", '{"rules": 1}', '{"rules": [], "files": {}}', "\x00\xff"])
def test_a_damaged_cache_is_no_error(make_pictures: MakePictures, cache: Path, damage: str) -> None:
    """Whatever is in the cache file, the data set reads the same and the cache is put right."""
    root = make_pictures({"a": 3, "b": 3})
    first = read_dataset(root)
    (file,) = cache.iterdir()
    good = file.read_text()
    file.write_text(damage)
    assert read_dataset(root) == first
    assert file.read_text() == good


def test_a_cache_that_cannot_be_written_is_skipped(
    make_pictures: MakePictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No folder can be made below a file, and the disk may be full: the data set is read all the same."""
    root = make_pictures({"a": 3, "b": 3})
    (root / "file.txt").touch()
    monkeypatch.setenv("CONVNEXT_CACHE", str(root / "file.txt"))
    first = read_dataset(root)
    monkeypatch.setenv("CONVNEXT_CACHE", str(root.parent / "other"))

    def full(*_: object) -> None:
        asked.append(True)
        raise OSError(28, "No space left on device")

    asked: list[bool] = []
    monkeypatch.setattr(files.os, "fsync", full)
    assert read_dataset(root) == first
    assert asked
    assert list((root.parent / "other" / "checked").iterdir()) == []


def test_an_interrupted_check_is_not_lost(make_pictures: MakePictures, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle keeps what was found so far."""
    root = make_pictures({"a": 30, "b": 30})
    plain, opened = checked.check_file, []

    def interrupt(done: int, total: int) -> None:
        if done == 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_dataset(root, workers=1, progress=interrupt)
    monkeypatch.setattr(checked, "check_file", lambda path: (opened.append(path), plain(path))[1])
    read_dataset(root)
    assert len(opened) == 60 - 32


def test_lack_of_memory_is_not_remembered(make_pictures: MakePictures, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that once did not fit into memory is tried again the next time."""
    root = make_pictures({"a": 3, "b": 3})

    def burst(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("convnext.data.pictures.decode._in_8_bits", burst)
        with pytest.raises(DataError, match="decoding it needs more memory than there is"):
            read_dataset(root)
    assert read_dataset(root).broken == ()


def test_progress_and_threads(make_pictures: MakePictures) -> None:
    """Progress goes from 0 to all files and never back; the number of threads changes nothing."""
    root = make_pictures({"a": 50, "b": 50})
    calls: list[tuple[int, int]] = []
    first = read_dataset(root, workers=1, progress=lambda done, total: calls.append((done, total)))
    assert calls[0] == (0, 100)
    assert calls[-1] == (100, 100)
    assert calls == sorted(calls)
    os.environ["CONVNEXT_CACHE"] += "2"
    assert read_dataset(root, workers=4) == first


def test_facts_are_those_of_the_full_picture(tmp_path: Path) -> None:
    """The check, which decodes small, reports the upright full size, colour, and the SHA-256 of the bytes."""
    path = tmp_path / "x.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.linear_gradient("L").resize((640, 481)).convert("RGB").save(path, exif=exif)
    facts = check_files([path], root=tmp_path)[path]
    assert (facts.width, facts.height, facts.gray, facts.reason) == (481, 640, True, "")
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    Image.new("RGB", (64, 64), (200, 100, 100)).save(path)
    found = check_files([path], root=tmp_path)[path]
    assert (found.low, found.high) == pytest.approx((100, 200), abs=2)
    plain = replace(found, sha256="", fingerprint=0, gradients=0, low=0.0, high=0.0)
    assert plain == checked.Facts("", 64, 64)
