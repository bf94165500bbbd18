"""What people's tables look like: splits, folds, groups, several labels, one-hot columns, damage, Unicode names."""

from __future__ import annotations

import csv
import json
import tempfile
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convnext.data.sources.columns import Columns
from convnext.data.sources.dataset import Dataset
from convnext.data.sources.folds import in_fold
from convnext.data.sources.listing import SPLITS, split_meant
from convnext.data.sources.rows import read_rows
from convnext.data.sources.split import join_groups, stable_split
from convnext.errors import DataError
from convnext.tasks.classify.targets import read_dataset

Table = Callable[..., Path]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Writes t.csv beside pictures 0.png, 1.png, ... of which each row of `rows` is for one."""

    def write(columns: str, rows: Sequence[str]) -> Path:
        for number in range(len(rows)):
            pixels = np.random.default_rng(number).integers(0, 255, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((16, 16), Image.Resampling.NEAREST).save(tmp_path / f"{number}.png")
        lines = [f"path,{columns}", *(f"{number}.png,{row}" for number, row in enumerate(rows))]
        (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
        return tmp_path / "t.csv"

    return write


def splits(data: Dataset) -> dict[int, str]:
    return {int(s.path.stem): split for split, found in data.splits.items() for s in found}


def labels(data: Dataset) -> dict[int, tuple[str, ...]]:
    return {int(s.path.stem): tuple(data.classes[i] for i in s.target) for f in data.splits.values() for s in f}


# Given splits

WORDS = ["train"] * 6 + ["val"] * 2 + ["test"] * 2


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("Split", ("train", "val", "test")),
        ("SPLIT", ("TRAIN", "VAL", "TEST")),
        ("set", ("training", "validation", "testing")),
        ("subset", ("Train", "valid", "Test")),
        ("phase", ("train", "dev", "holdout")),
        ("Usage", ("Training", "PublicTest", "PrivateTest")),
        ("fold", ("train", "val", "test")),
        ("data_split", ("train_set", "val_set", "test_set")),
        ("anything", ("train", "val", "test")),
    ],
)
def test_a_split_under_another_name_is_taken_and_told(table: Table, column: str, words: tuple[str, str, str]) -> None:
    """By the column's name in any case, or by what it holds; the rows are where they are said to be."""
    meant = dict(zip(SPLITS, words, strict=True))
    data = read_dataset(table(f"label,{column}", [f"{'ab'[i % 2]},{meant[w]}" for i, w in enumerate(WORDS)]))
    assert splits(data) == dict(enumerate(WORDS))
    assert data.split_column == column
    assert f'the split is that of column "{column}": train 6, val 2, test 2' in data.notes


@pytest.mark.parametrize(
    ("columns", "flags", "expected"),
    [
        ("is_valid", ["True", "False"], ["val", "train"]),
        ("is_valid", ["1", "0"], ["val", "train"]),
        ("Is Valid", ["TRUE", "FALSE"], ["val", "train"]),
        ("isTest", ["1.0", "0.0"], ["test", "train"]),
        ("is_train", ["0", "1"], ["test", "train"]),
        ("is_val,is_test", ["1,0", "0,1", "0,0"], ["val", "test", "train"]),
        ("is_train,is_val", ["0,0", "0,1", "1,0"], ["test", "val", "train"]),
        ("valid", ["yes", "no"], ["val", "train"]),
        ("is_train", ["N", "Y"], ["test", "train"]),
        ("is_valid", ["t", "f"], ["val", "train"]),
    ],
)
def test_columns_of_true_and_false(table: Table, columns: str, flags: list[str], expected: list[str]) -> None:
    """As fastai's `valid_col` and its kin: true is the split that the column is named after."""
    many = [i % len(flags) for i in range(12)]
    rows = [f"{'ab'[i // len(flags) % 2]},{flags[f]}" for i, f in enumerate(many)]
    found = read_dataset(table(f"label,{columns}", rows), val=0)
    assert splits(found) == {i: expected[f] for i, f in enumerate(many)}
    assert any("the split is that of column" in note for note in found.notes)
    again = read_dataset(found.root, val=0, columns=Columns(split=found.split_column, settled=True))
    assert again.splits == found.splits, "a run that recorded the columns reads the same"


def test_folds_wait_for_the_word_which_one_validates(table: Table) -> None:
    """Refused with the settings that say it; then every row is where its fold says."""
    root = table("label,fold", [f"{'ab'[i // 5 % 2]},{i % 5}" for i in range(20)])
    with pytest.raises(DataError, match=r"holds 0, 1, 2, 3, 4: .*data.split_column=fold data.val_fold=0") as told:
        read_dataset(root)
    assert "'data.ignore_columns=[\"fold\"]'" in str(told.value)
    data = read_dataset(root, columns=Columns(split="fold", val_fold="3", test_fold="1"))
    assert splits(data) == {i: {3: "val", 1: "test"}.get(i % 5, "train") for i in range(20)}
    assert splits(read_dataset(root, columns=Columns(val_fold="3", test_fold="1"))) == splits(data)
    with pytest.raises(DataError, match=r"data.val_fold = 7, but the folds of column .* are 0, 1, 2, 3, 4"):
        read_dataset(root, columns=Columns(split="fold", val_fold="7"))
    with pytest.raises(DataError, match="must be two folds"):
        read_dataset(root, columns=Columns(split="fold", val_fold="1", test_fold="1"))
    own = read_dataset(root, columns=Columns(ignore=("fold",)))
    assert own.split_column == ""
    assert splits(own) == splits(read_dataset(root, columns=Columns(split="", ignore=("fold",))))


def test_what_looks_like_a_split_is_never_dropped_in_silence(table: Table) -> None:
    """Odd values, columns that contradict each other, and folds that are nowhere are refused; two that agree, not."""
    rows = [f"{'ab'[i % 2]},{'xyz'[i % 3]}" for i in range(9)]
    with pytest.raises(DataError, match='column "subset" looks like a split and holds x, y, z'):
        read_dataset(table("label,subset", rows))
    both = [f"{'ab'[i % 2]},{w},{v}" for i, (w, v) in enumerate(zip(WORDS, [*WORDS[1:], "test"], strict=True))]
    with pytest.raises(DataError, match=r'line 7: column "set" says train, column "phase" says val'):
        read_dataset(table("label,set,phase", both))
    same = table("label,set,phase", [f"{'ab'[i % 2]},{w},{w}" for i, w in enumerate(WORDS)])
    assert splits(read_dataset(same)) == dict(enumerate(WORDS))
    with pytest.raises(DataError, match="no column is known to hold folds"):
        read_dataset(table("label", ["a", "b"] * 4), columns=Columns(val_fold="1"))
    with pytest.raises(DataError, match=r'line 2: true in columns "is_val" and "is_test"'):
        read_dataset(table("label,is_val,is_test", ["a,1,1", "b,0,0"] * 4))


def test_a_split_is_found_by_a_word_of_its_name_and_where_the_column_has_no_name(table: Table) -> None:
    """`cv_fold_5` waits for the word as `fold` does; a column without a name is read, and told where it is not used."""
    folds = table("label,cv_fold_5", [f"{'ab'[i % 2]},{i % 5}" for i in range(20)])
    with pytest.raises(DataError, match=r"data.split_column=cv_fold_5 data.val_fold=0"):
        read_dataset(folds)
    with pytest.raises(DataError, match=r'"in_training_set" looks like a split and holds False, True'):
        read_dataset(table("label,in_training_set", [f"{'ab'[i % 2]},{i % 3 == 0}" for i in range(12)]))
    with pytest.raises(DataError, match=r'"is_train" looks like a split and holds nothing, 1: write train'):
        read_dataset(table("label,is_train", [f"{'ab'[i % 2]},{'1' * (i % 3 == 0)}" for i in range(12)]))
    data = read_dataset(table("label,", [f"{'ab'[i % 2]},{w}" for i, w in enumerate(WORDS)]))
    assert splits(data) == dict(enumerate(WORDS))
    plain = read_dataset(table("label,,test_result", [f"{'ab'[i % 2]},{i},{'xy'[i % 2]}" for i in range(12)]))
    assert "columns of the table that are not used: column 3 (no name), test_result" in plain.notes
    assert not any("no name" in note for note in read_dataset(table("label,", ["a,", "b,"] * 6)).notes)


def test_a_run_of_before_reads_as_it_did(table: Table) -> None:
    """What its recipe does not name was of no account when it was trained; nothing is refused, nothing recognised."""
    root = table("label,Split,patient_id", [f"{'ab'[i % 2]},{w},{i // 2}" for i, w in enumerate(WORDS)])
    old = read_dataset(root, columns=Columns(settled=True))
    plain = root.with_name("plain.csv")
    plain.write_text("\n".join(",".join(line.split(",")[:2]) for line in root.read_text().splitlines()))
    assert splits(old) == splits(read_dataset(plain))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Training", "train"), ("train_set", "train"), ("01-train", "train"), ("TrainImages", "train"),
        ("trainset", "train"), ("train_val", "train"), ("trainval", "train"), ("val2017", "val"), ("VALID", "val"),
        ("validation_images", "val"), ("dev", "val"), ("Testing", "test"), ("test_data", "test"), ("tst", "test"),
        ("trainer", None), ("strain", None), ("contest", None), ("valve", None), ("data", None), ("", None),
        ("train station", None), ("test_tube", None), ("set", None), ("123", None),
    ],
)  # fmt: skip
def test_names_of_splits(name: str, meant: str | None) -> None:
    """With words beside them that change nothing, and not within other words."""
    assert split_meant(name) == meant


# Groups


def test_groups_are_refused_until_the_user_says_what_they_are(table: Table) -> None:
    """Named, each stays in one split; ignored, they are of no account."""
    root = table("label,patient_id", [f"{'ab'[i % 2]},p{i // 4}" for i in range(96)])
    with pytest.raises(DataError, match=r'column "patient_id" looks like groups \(24 values in 96 rows\)') as told:
        read_dataset(root)
    assert "data.group_column=patient_id" in str(told.value)
    assert "'data.ignore_columns=[\"patient_id\"]'" in str(told.value)
    data = read_dataset(root, val=0.2, test=0.2, columns=Columns(group="patient_id"))
    where = splits(data)
    assert all(len({where[i] for i in range(g, g + 4)}) == 1 for g in range(0, 96, 4))
    assert set(where.values()) == set(SPLITS)
    assert any("decided by each group of column patient_id" in note for note in data.notes)
    ignored = read_dataset(root, columns=Columns(ignore=("patient_id",)))
    assert any(len({splits(ignored)[i] for i in range(g, g + 4)}) > 1 for g in range(0, 96, 4))


def test_a_group_keeps_its_split_when_others_come(table: Table) -> None:
    """Its number follows from its name alone."""
    rows = [f"{'ab'[i % 2]},g{i // 4}" for i in range(80)]
    before = splits(read_dataset(table("label,group", rows[:60]), columns=Columns(group="group")))
    after = splits(read_dataset(table("label,group", rows), columns=Columns(group="group")))
    assert {i: after[i] for i in before} == before


def test_folds_keep_groups_together(table: Table) -> None:
    """Every group is held out once, as a whole."""
    root = table("label,slide", [f"{'ab'[i // 3 % 2]},s{i // 3}" for i in range(48)])
    data = read_dataset(root, columns=Columns(group="slide"))
    held = [{int(s.path.stem) // 3 for s in in_fold(data, 4, fold, 0.2).splits["test"]} for fold in (1, 2, 3, 4)]
    assert sorted(group for found in held for group in found) == list(range(16))
    first = splits(in_fold(data, 4, 1, 0.2))
    assert all(len({first[i] for i in range(g, g + 3)}) == 1 for g in range(0, 48, 3))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["", "1", "2", "3", "4"])), max_size=12))
def test_neither_groups_nor_copies_are_parted(pictures: list[tuple[str, str]]) -> None:
    """Pictures of one unit are those that a chain of equal contents and equal groups joins, found by brute force."""
    units = join_groups([(content * 64, group) for content, group in pictures])
    joined = list(range(len(pictures)))
    for _ in pictures:
        for i, (content, group) in enumerate(pictures):
            for j, (other, its) in enumerate(pictures):
                if content == other or (group and group == its):
                    joined[i] = joined[j] = min(joined[i], joined[j])
    assert all((units[i] == units[j]) == (joined[i] == joined[j]) for i in joined for j in joined)
    assert set(stable_split({unit: {"x"} for unit in units}, val=0.3, test=0.3).values()) <= set(SPLITS)


def test_a_given_split_that_parts_groups_is_told(table: Table) -> None:
    """A remark where nobody named the groups, a refusal where somebody did."""
    root = table("label,split,scene", [f"{'ab'[i % 2]},{w},s{i // 4}" for i, w in enumerate(WORDS)])
    data = read_dataset(root)
    assert any('1 value of column "scene" in several splits, such as s1' in note for note in data.notes)
    with pytest.raises(DataError, match='1 group of column "scene" in several splits, such as s1'):
        read_dataset(root, columns=Columns(group="scene"))


def test_unused_columns_are_named_once(table: Table) -> None:
    """Also an `id` that no two rows share, and a number that says the class again, which are no groups."""
    data = read_dataset(table("label,age,class_id,image_id", [f"{'ab'[i % 2]},{i},{i % 2},{i}" for i in range(8)]))
    assert [note for note in data.notes if "not used" in note] == [
        "columns of the table that are not used: age, class_id, image_id"
    ]


# Several labels


@pytest.mark.parametrize(
    ("sign", "word"),
    [
        (";", "semicolon"), (",", "comma"), (" ", "space"), ("/", "slash"), ("+", "plus"), ("&", "and"), ("_", "_"),
        ("-", "-"), (":", ":"), ("；", "；"), ("、", "、"), (" and ", '" and "'),
    ],
)  # fmt: skip
def test_joined_labels_are_split_when_the_user_says_so(table: Table, sign: str, word: str) -> None:
    """And refused before, with the setting that splits them and the one that does not."""
    cells = [["red"], ["red", "scab"], ["blue"], ["blue", "scab"]]
    if sign in ("_", "-", ":", " and "):  # which many a name has: all that they join must be names by themselves
        cells.append(["scab"])
    root = table("label", [f'"{sign.join(cells[i % len(cells)])}"' for i in range(20)])
    with pytest.raises(DataError, match=f"may be several labels joined by .*data.label_separator={word}'? splits 2"):
        read_dataset(root)
    for setting in {word.strip('"'), sign} - {" "}:
        data = read_dataset(root, columns=Columns(separator=setting))
        assert data.multi_label
        assert labels(data) == {i: tuple(sorted(cells[i % len(cells)])) for i in range(20)}
    whole = read_dataset(root, columns=Columns(separator="none"))
    assert whole.classes == tuple(sorted(sign.join(cell) for cell in cells))
    assert not whole.multi_label


def test_a_first_line_for_excel(table: Table) -> None:
    """`sep=;` above the header names the sign, and is said; lines are counted from the top of the file."""
    for sign, word, first in ((";", "semicolon", "sep=;"), (",", "comma", '"sep=,",'), ("\t", "tab", "SEP=\t")):
        root = table("label,remark", [f"{'ab'[i % 2]},x" for i in range(12)])
        lines = root.read_text().replace(",", sign).splitlines()
        root.write_text("\ufeff" + "\r\n".join([first, *lines]) + "\r\n")
        data = read_dataset(root)
        assert labels(data) == {i: ("ab"[i % 2],) for i in range(12)}
        assert any(f"is a word to Excel: a {word} parts the cells" in note for note in data.notes)
        root.write_text("\n".join([first, lines[0], f"0.png{sign}{sign}x"]) + "\n")
        with pytest.raises(DataError, match="in line 3: write a label or remove the row"):
            read_dataset(root)


@pytest.mark.parametrize("cell", ["nan", "NaN", "NA", "N/A", "<NA>", "null", "NULL", "#N/A", "NaT"])
def test_what_programs_write_for_a_missing_label_is_refused_as_an_empty_cell_is(table: Table, cell: str) -> None:
    """Alone, among several labels, and for numbers as pandas writes them; named among the classes it is one; a run that
    was trained with it reads its data as it did."""
    for kind, names in (("ab", ("a", "b")), (("0.0", "1.0"), ("0.0", "1.0"))):
        cells = [kind[i % 2] for i in range(20)]
        cells[3:6] = [cell] * 3
        root = table("label", cells)
        with pytest.raises(DataError, match=r'in column "label" in lines 5, 6, 7, which is written where a label is m'):
            read_dataset(root)
        with pytest.raises(DataError, match="which is written where a label is missing"):
            read_dataset(root, judging=True)
        data = read_dataset(root, classes=(*names, cell))
        assert data.classes == (*names, cell)
        assert labels(data)[3] == (cell,)
        assert labels(read_dataset(root, columns=Columns(settled=True)))[3] == (cell,)
    with pytest.raises(DataError, match="which is written where a label is missing"):
        read_dataset(table("label", ["a|b", f"a|{cell}", *["a", "b", "a|b"] * 6]))


def test_classes_that_may_mean_no_label_are_told(
    table: Table, write_stripes: Callable[..., Path], tmp_path: Path
) -> None:
    """In a table, in its columns of 0 and 1, and as folders; not where the user names them."""
    told = "taken for the name of a class; if it means that there is no label, take these pictures out"
    for cell in ("None", "?", "unknown", "unlabelled"):
        root = table("label", [["a", "b", cell][i % 3] for i in range(20)])
        assert any(note.startswith(f'"{cell}": {told}') for note in read_dataset(root).notes)
        assert not any(told in note for note in read_dataset(root, classes=("a", "b", cell)).notes)
    flags = read_dataset(table("a,b,nan", [["1,0,0", "0,1,0", "0,0,1"][i % 3] for i in range(20)]))
    assert any(note.startswith(f'"nan": {told}') for note in flags.notes)
    folders = write_stripes(tmp_path / "folders", {"a": 4, "nan": 4})
    assert any(note.startswith(f'"nan": {told}') for note in read_dataset(folders).notes)


def test_a_missing_group_stands_alone(table: Table) -> None:
    """As an empty one: pictures whose group is `nan` are not kept together; a run of before reads as it did."""
    cells = [f"{'ab'[i % 2]},{'nan' if i % 2 else f'p{i % 10}'}" for i in range(40)]
    root = table("label,patient", cells)
    data = read_dataset(root, columns=Columns(group="patient"))
    assert any('20 rows without a group (nan) in column "patient": each stands alone' in note for note in data.notes)
    assert len({splits(data)[i] for i in range(1, 40, 2)}) > 1
    before = read_dataset(root, columns=Columns(group="patient", settled=True))
    assert len({splits(before)[i] for i in range(1, 40, 2)}) == 1


def test_lists_of_labels(table: Table) -> None:
    """As JSON and as Python write them; an empty list is none of the classes; mixed with other cells refused."""
    cells: list[list[str]] = [["a", "b"], ["b"], [], ["c, d", "a"]]
    for write in (json.dumps, repr):
        quoted = ['"' + write(cells[i % 4]).replace('"', '""') + '"' for i in range(12)]
        data = read_dataset(table("label", quoted))
        assert data.multi_label
        assert labels(data) == {i: tuple(sorted(cells[i % 4])) for i in range(12)}
        assert 'column "label" holds lists of labels: each name is a class' in data.notes
    with pytest.raises(DataError, match=r"hold a list of labels, others do not \(line 3\)"):
        read_dataset(table("label", ['"[""a""]"', "b"]))


def test_lists_as_numpy_and_python_write_them(table: Table) -> None:
    """No comma stands between NumPy's names, which Python alone would join to one; tuples and sets are lists too."""
    cells: list[list[str]] = [["a", "b b"], ["b b"], ["it's", "a"], ["a"]]
    for write in (lambda names: str(np.array(names)), lambda names: repr(tuple(names)), lambda names: repr(set(names))):
        data = read_dataset(table("label", ['"' + write(cells[i % 4]).replace('"', '""') + '"' for i in range(12)]))
        assert labels(data) == {i: tuple(sorted(cells[i % 4])) for i in range(12)}
    numbers = [[0, 2], [1], [2, 0, 1]]
    data = read_dataset(table("label", [str(np.array(numbers[i % 3])) for i in range(12)]))
    assert labels(data) == {i: tuple(sorted(map(str, numbers[i % 3]))) for i in range(12)}


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (['"[cat, dog]"', "[cat]", "[dog]"], r'holds "\[cat, dog\]" \(line 2\), which looks like a list of labels'),
        (["{cat dog}", "{dog}"], "looks like a list of labels and cannot be read"),
        (["\"['a' 'b', 'c']\"", "['a']"], "hold a list of labels, others do not"),
        (['"[1, 0, 0]"', '"[0, 1, 0]"'], "lists of 3 numbers, 0 or 1, .* a column of 0 and 1 for each class"),
        (["[0 1 0]", "[1 0 0]"], "lists of 3 numbers, 0 or 1"),
        (["cat;", "dog;"], "data.label_separator=semicolon splits 2 such names"),
        (['"cat,"', "cat"], "data.label_separator=comma splits 1 such name"),
    ],
)
def test_what_looks_like_several_labels_and_cannot_be_read_is_refused(
    table: Table, cells: list[str], message: str
) -> None:
    """Never taken for the names of classes in silence; `none` does so when it is asked for."""
    root = table("label", [cells[i % len(cells)] for i in range(12)])
    with pytest.raises(DataError, match=message):
        read_dataset(root)
    assert not read_dataset(root, columns=Columns(separator="none")).multi_label


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (["golden retriever", "labrador retriever", "golden jackal"], ""),
        (["tench, Tinca tinca", "goldfish, Carassius auratus"], "data.label_separator=comma would split it"),
        (["rose", "rose bush"], "data.label_separator=space would split it"),
        (["late_blight", "healthy"], ""),
        (["x-ray", "mri", "red_fox", "red_deer", "fox", "a:b"], ""),
    ],
)
def test_names_of_several_words_stay_names(table: Table, names: list[str], note: str) -> None:
    """What speaks weakly for several labels is told; what does not speak for them is not."""
    data = read_dataset(table("label", [f'"{names[i % len(names)]}"' for i in range(3 * len(names))]))
    assert data.classes == tuple(sorted(names))
    told = [text for text in data.notes if "would split it" in text]
    assert [note in text for text in told] == ([True] if note else [])


def test_the_classes_of_a_model_settle_what_a_cell_means(table: Table) -> None:
    """Judging asks for no setting where every cell is a class that the model knows."""
    root = table("label", ["red;scab", "red", "blue", "red;scab"])
    data = read_dataset(root, classes=("blue", "red", "red;scab"), judging=True)
    assert labels(data)[0] == ("red;scab",)


# One-hot tables


def test_a_column_of_0_and_1_for_each_class(table: Table) -> None:
    """As NumPy's argmax reads them where each row has one; several labels where rows have more, or none."""
    truth = [i % 3 for i in range(12)]
    rows = [",".join(f"{float(k == j)}" for j in range(3)) + f",{i}" for i, k in enumerate(truth)]
    root = table("MEL,NV,BCC,age", rows)
    data = read_dataset(root)
    hot = np.genfromtxt(root, delimiter=",", skip_header=1)[:, 1:4]
    assert labels(data) == {i: (("MEL", "NV", "BCC")[k],) for i, k in enumerate(hot.argmax(1))}
    assert not data.multi_label
    assert "the classes are the 3 columns of 0 and 1: MEL, NV, BCC" in data.notes
    several = read_dataset(table("cat,dog,owl", ["1,1,0", "0,1,0", "0,0,0", "1,0,0"] * 3))
    assert several.multi_label
    assert [labels(several)[i] for i in range(4)] == [("cat", "dog"), ("dog",), (), ("cat",)]
    assert "no row is of class owl: left out" in several.notes
    chosen = read_dataset(table("cat,dog,blurry", ["1,0,1", "0,1,0"] * 4), columns=Columns(label="cat,dog"))
    assert chosen.classes == ("cat", "dog")
    with pytest.raises(DataError, match=r'line 3: "2" in column "dog" is neither 0 nor 1'):
        read_dataset(table("cat,dog", ["1,0", "0,2"] * 4), columns=Columns(label="cat,dog"))
    with pytest.raises(DataError, match=r"data\.label_column=species"):
        read_dataset(table("species,flash,night", ["a,0,1", "b,1,0"] * 4))


def test_the_classes_of_a_model_are_found_as_columns(table: Table) -> None:
    """A run that learnt from a column of names judges a table with a column for each of its classes, asking nothing."""
    root = table("cat,night,dog", ["1,0,0", "0,1,1", "1,1,1"] * 4)
    data = read_dataset(root, classes=("cat", "dog"), columns=Columns(label="tags"), judging=True)
    assert [labels(data)[i] for i in range(3)] == [("cat",), ("dog",), ("cat", "dog")]
    with pytest.raises(DataError, match='no column "tags"'):
        read_dataset(root, classes=("cat", "owl"), columns=Columns(label="tags"), judging=True)


def test_one_hot_columns_that_are_not_quite(table: Table) -> None:
    """A cell of -1, or none, is shown with its line; a lone column `train` may be a class of vehicles: asked."""
    for cell, shown in (("-1", '"-1"'), ("", "nothing")):
        with pytest.raises(DataError, match=f'line 3: {shown} in column "dog", where 0 or 1 was expected'):
            read_dataset(table("cat,dog", ["1,0", f"0,{cell}", "0,1", "1,1"] * 3))
    root = table("car,bus,train", ["1,0,0", "0,1,0", "1,0,1", "0,1,1"] * 4)
    with pytest.raises(DataError, match=r"data.split_column=train or data.label_column=car,bus,train says which"):
        read_dataset(root)
    assert read_dataset(root, columns=Columns(label="car,bus,train")).classes == ("bus", "car", "train")
    assert read_dataset(root, columns=Columns(split="train")).classes == ("bus", "car")


# Tables that are not as they should be


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\n0.png,a,b\n", r'line 2: 3 cells, but the header names 2 columns; "b" would be lost'),
        ('path,label\n0.png,"a\n1.png,b\n', "line 2: a double quote .* is opened and never closed"),
        ('path,label\n0.png,"a\n1.png,"b"\n', "line 2: a cell goes on after its closing double quote"),
        (
            'path,label,note\n0.png,a,"x\n1.png,b,y\n2.png,c,"\n',
            'line 2: a cell goes on to line 4 and holds "1.png,b,y"',
        ),
        ("0.png,a\n1.png,b\n", 'the first line holds "0.png", a picture'),
        ("path,label\n0.png,a\n1.png,b\0b\n", "line 3: holds a zero byte"),
    ],
)
def test_no_cell_is_lost(tmp_path: Path, text: str, message: str) -> None:
    """Each is refused with the line; nothing is dropped, and no rows become the name of a class."""
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_dataset(tmp_path / "t.csv")


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), max_size=6).map(str.strip)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5))
def test_rows_are_those_that_were_written(rows: list[tuple[str, str]]) -> None:
    """Whatever is in the cells, if Python's csv.writer wrote them."""
    rows = [(a or "x", b) for a, b in rows]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "t.csv"
        with file.open("w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows([("one", "two"), *rows])
        assert [(row["one"], row["two"]) for row in read_rows(file)[1]] == rows


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_no_table_ends_in_a_traceback(noise: bytes) -> None:
    """Any bytes below a sound header are read, or refused as a mistake in the data."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "t.csv"
        file.write_bytes(b"path,label,split\n" + noise)
        with pytest.raises(DataError):
            read_dataset(file)


@pytest.mark.parametrize(
    ("column", "setting"),
    [
        ("file_name", "path_column"), ("image_path", "path_column"), ("image", "path_column"),
        ("Filename", "path_column"), ("file", "path_column"), ("class", "label_column"), ("target", "label_column"),
        ("category", "label_column"), ("Class Name", "label_column"), ("whatever", "label_column"),
    ],
)  # fmt: skip
def test_the_message_names_the_setting_and_the_column(tmp_path: Path, column: str, setting: str) -> None:
    """What other tools call the columns is found in the table; with the setting it is taken."""
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    header = f"{column},label" if setting == "path_column" else f"path,{column}"
    (tmp_path / "t.csv").write_text(f"{header}\n0.png,a\n")
    with pytest.raises(DataError, match=f"'?data.{setting}={column}'?"):
        read_dataset(tmp_path / "t.csv", judging=True)
    assert read_dataset(tmp_path / "t.csv", judging=True, **{setting: column}).classes == ("a",)


# Names in Unicode


@pytest.mark.parametrize(("form", "other"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_file_is_found_in_either_unicode_form(tmp_path: Path, form: str, other: str) -> None:
    """Folders and files; told, because such a table is not the file system's."""
    folder = tmp_path / unicodedata.normalize(form, "été")
    folder.mkdir()
    for number in range(2):
        Image.new("RGB", (8, 8), (99 * number, 0, 0)).save(folder / unicodedata.normalize(form, f"café{number}.png"))
    rows = [unicodedata.normalize(other, f"été/café{number}.png,{'ab'[number]}") for number in range(2)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    data = read_dataset(tmp_path / "t.csv", judging=True)
    assert sorted(s.path for f in data.splits.values() for s in f) == sorted(folder.iterdir())
    assert any("2 files have a name in another Unicode form than in the table" in note for note in data.notes)


def test_names_that_look_the_same_are_told(tmp_path: Path) -> None:
    """With a file in each form the one that is spelt so is taken, and told; with neither the row is refused."""
    forms = [unicodedata.normalize(form, "ñ.png") for form in ("NFC", "NFD")]
    for shade, name in enumerate(forms):
        Image.new("RGB", (8, 8), (99 * shade, 0, 0)).save(tmp_path / name)
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system keeps one form of a name")
    (tmp_path / "t.csv").write_text(f"path,label\n{forms[1]},a\n", encoding="utf-8")
    data = read_dataset(tmp_path / "t.csv", judging=True)
    assert [s.path.name for s in data.splits["train"]] == [forms[1]]
    assert any("1 name stands for two files" in note for note in data.notes)
    mixed = [unicodedata.normalize(form, "ñ") + unicodedata.normalize(back, "é.png")
             for form, back in (("NFC", "NFD"), ("NFD", "NFC"))]  # fmt: skip
    for name in mixed:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "t.csv").write_text(f"path,label\n{unicodedata.normalize('NFC', mixed[0])},a\n", encoding="utf-8")
    with pytest.raises(DataError, match="may be one of 2 files"):
        read_dataset(tmp_path / "t.csv", judging=True)


def test_classes_that_look_the_same_are_told(table: Table) -> None:
    """Those that differ in case or blanks alone stay two, those in two Unicode forms are one; both are said."""
    nfc, nfd = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    data = read_dataset(table("label", ["Cat", "cat", nfc, nfd] * 4))
    assert data.classes == ("Cat", nfc, "cat")
    assert "classes that may be one: 'Cat' and 'cat'" in data.notes
    assert f"{nfc}: written in two Unicode forms (NFC and NFD), taken for one class" in data.notes


# Tables of strangers


def test_no_byte_of_a_file_that_is_no_picture_is_shown(tmp_path: Path) -> None:
    """A table may name any file of this machine: it is told that it lies outside, and not what is in it."""
    (tmp_path / "home").mkdir()
    secret = tmp_path / "home" / "key.txt"
    (tmp_path / "data").mkdir()
    for number in range(2):
        Image.new("RGB", (8, 8)).save(tmp_path / "data" / f"{number}.png")
    for content in (b"TOP-SECRET-KEY 123456\n", b"\x00\x01SECRETS\xff\xfe" * 9, "gehéim SECRET".encode()):
        secret.write_bytes(content)
        for name in (str(secret), "../home/key.txt"):
            (tmp_path / "data" / "t.csv").write_text(f"path,label\n0.png,a\n1.png,b\n{name},b\n")
            data = read_dataset(tmp_path / "data" / "t.csv", judging=True)
            assert any(f"1 picture lies outside the table's folder, such as {secret}" in note for note in data.notes)
            (broken,) = data.broken
            assert broken.reason.startswith("not a picture in a known format: it is ")
            assert not any(word in broken.reason for word in ("SECRET", "secret", "123456", "00 01", "geh"))
