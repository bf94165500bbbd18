"""Folders as people have them: splits and folds under many names, splits inside classes, and what looks like it."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.data.sources.columns import Columns
from convnext.data.sources.dataset import Dataset
from convnext.errors import DataError
from convnext.tasks.classify.targets import read_dataset

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes DATA/<folder>/<number>.png, `number` of them in every folder named, all different."""

    def write(*folders: str, number: int = 3) -> Path:
        for folder in folders:
            place = tmp_path / "data" / folder
            place.mkdir(parents=True, exist_ok=True)
            for index in range(number):
                pixels = np.random.default_rng([*folder.encode(), index]).integers(0, 255, (4, 4, 3), dtype=np.uint8)
                Image.fromarray(pixels).resize((16, 16), Image.Resampling.NEAREST).save(place / f"{index}.png")
        return tmp_path / "data"

    return write


def places(data: Dataset) -> set[tuple[str, str, str]]:
    """(folder, class, split) of every picture."""
    return {
        (s.path.parent.relative_to(data.root).as_posix(), data.classes[s.target[0]], split)
        for split, found in data.splits.items()
        for s in found
    }


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"), ("train_images", "test_images"), ("Training", "Testing"), ("TRAIN", "TEST"),
        ("01_train", "02_test"), ("Train Data", "Test Data"), ("trainset", "testset"), ("train-2017", "test-2017"),
        ("training_set/training_set", "test_set/test_set"), ("train/train", "test/test"), ("trn", "tst"),
        ("train", "test_images"),
    ],
)  # fmt: skip
def test_splits_under_other_names_are_splits(make: Make, train: str, test: str) -> None:
    """Their classes are the folders in them; what is not called train, val or test is told."""
    data = read_dataset(make(f"{train}/cat", f"{train}/dog", f"{test}/cat", f"{test}/dog"), val=0.0)
    assert data.layout == "split folders"
    assert places(data) == {
        (f"{s}/{c}", c, split) for s, split in ((train, "train"), (test, "test")) for c in ("cat", "dog")
    }
    names = {name.rpartition("/")[2].lower() for name in (train, test)}
    usual = names in ({"train", "test"}, {"training", "testing"})
    assert any(note.startswith("splits: ") for note in data.notes) != usual


def test_a_third_split_and_what_lies_beside(make: Make) -> None:
    """dev is val; a folder that is no split is passed over, and told."""
    data = read_dataset(make(*(f"{s}_set/{c}" for s in ("train", "dev", "test") for c in "ab"), "docs"))
    assert {split: len(found) for split, found in data.splits.items()} == {"train": 6, "val": 6, "test": 6}
    assert "folders beside the splits were ignored: docs" in data.notes


def test_splits_inside_the_classes(make: Make) -> None:
    """Each class folder holds train/ and test/: nothing is split anew across them."""
    root = make("cat/train", "cat/test", "dog/Training", "dog/test_images")
    data = read_dataset(root, val=0.0)
    assert places(data) == {
        ("cat/train", "cat", "train"), ("cat/test", "cat", "test"),
        ("dog/Training", "dog", "train"), ("dog/test_images", "dog", "test"),
    }  # fmt: skip
    assert "each class folder is split into the folders in it" in data.notes
    make("owl")
    with pytest.raises(DataError, match="cat/ holds test/, train/, owl/ does not: split every class, or none"):
        read_dataset(root)


def test_pictures_beside_the_splits_of_a_class_are_refused(make: Make) -> None:
    """They belong to no split."""
    with pytest.raises(DataError, match=r"dog: beside test/, train/ lies 0.png, 1.png, 2.png"):
        read_dataset(make("cat/train", "cat/test", "dog/train", "dog/test", "dog"))


@pytest.mark.parametrize("parts", [("fold0", "fold1"), ("x_train", "x_test"), ("part_of_train", "Validation 2b")])
def test_parts_of_a_split_inside_the_classes_are_refused(make: Make, parts: tuple[str, str]) -> None:
    """Split anew, they would be mixed; with the classes named, they are folders that mean nothing."""
    root = make(*(f"{c}/{part}" for c in ("cat", "dog") for part in parts), number=6)
    with pytest.raises(DataError, match=r"each class folder holds .* look like parts of a split") as told:
        read_dataset(root)
    assert '\'data.classes=["cat","dog"]\'' in str(told.value)
    assert read_dataset(root, classes=("cat", "dog")).classes == ("cat", "dog")


def test_classes_below_splits_inside_folders_are_told(make: Make) -> None:
    """`north/train/cat`: the upper folders are the classes, and it is said; a lone upper folder is pointed into."""
    folders = [f"{place}/{s}/{c}" for place in ("north", "south") for s in ("train", "test") for c in ("cat", "dog")]
    data = read_dataset(make(*folders))
    assert data.classes == ("north", "south")
    assert any("their splits hold further folders (cat, dog): the classes are the upper" in n for n in data.notes)


def test_splits_one_folder_further_down_are_pointed_to(make: Make) -> None:
    """As after unpacking an archive into a folder."""
    root = make("photos/train/cat", "photos/train/dog", "photos/test/cat", "photos/test/dog")
    with pytest.raises(DataError, match=r"a single class .*did you mean .*data/photos, which holds test, train\?"):
        read_dataset(root)


def test_a_test_folder_beside_folds_is_the_test_split(make: Make) -> None:
    """Unless a fold is to test; both are said."""
    root = make(*(f"{f}/{c}" for f in ("fold-a", "fold-b", "fold-c", "test_set") for c in ("cat", "dog")))
    data = read_dataset(root, columns=Columns(val_fold="b"))
    assert {(f.split("/")[0], split) for f, _, split in places(data)} == {
        ("fold-a", "train"), ("fold-b", "val"), ("fold-c", "train"), ("test_set", "test"),
    }  # fmt: skip
    assert "test_set/ beside the folds is test" in data.notes
    other = read_dataset(root, columns=Columns(val_fold="b", test_fold="c"))
    assert ("fold-c", "test") in {(f.split("/")[0], split) for f, _, split in places(other)}
    assert "folders beside the folds were ignored: test_set" in other.notes


@pytest.mark.parametrize("name", ["fold{}", "fold_{}", "Fold {}", "kfold-{}", "split{}", "cv_fold{}"])
def test_folds_wait_for_the_word_which_one_validates(make: Make, name: str) -> None:
    """Refused with the setting; then the fold named validates, another tests, the rest is learnt from."""
    folds = [name.format(number) for number in (1, 2, 3)]
    root = make(*(f"{fold}/{c}" for fold in folds for c in ("a", "b")))
    with pytest.raises(DataError, match=r"look like folds: say which one validates, as data.val_fold=1"):
        read_dataset(root)
    for word in ("2", folds[1]):
        data = read_dataset(root, columns=Columns(val_fold=word, test_fold="3"))
        assert places(data) == {
            (f"{fold}/{c}", c, split)
            for fold, split in zip(folds, ("train", "val", "test"), strict=True)
            for c in ("a", "b")
        }
    assert read_dataset(root, judging=True).classes == ("a", "b")
    with pytest.raises(DataError, match=r"data\.val_fold = 9, but the folds of the folders are 1, 2, 3"):
        read_dataset(root, columns=Columns(val_fold="9"))


def test_what_may_be_splits_or_classes_is_refused(make: Make) -> None:
    """`seg_train` beside `seg_test`, as a well-known set has them; the user may say that they are classes."""
    root = make("seg_train/a", "seg_train/b", "seg_test/a", "seg_test/b")
    with pytest.raises(DataError, match="seg_test/, seg_train/ look like splits: rename them") as told:
        read_dataset(root)
    assert '\'data.classes=["seg_test","seg_train"]\'' in str(told.value)
    assert read_dataset(root, classes=("seg_test", "seg_train")).classes == ("seg_test", "seg_train")


@pytest.mark.parametrize(
    "classes",
    [
        ("bus", "train"), ("strainer", "tester"), ("valve", "contest"), ("0", "1"), ("set_a", "set_b"),
        ("test_tube", "flask"), ("folder1", "folder2"),
    ],
)  # fmt: skip
def test_classes_that_sound_like_splits_stay_classes(make: Make, classes: tuple[str, ...]) -> None:
    """Where nothing else speaks for a split."""
    data = read_dataset(make(*classes))
    assert data.classes == tuple(sorted(classes))
    assert data.layout == "class folders"


def test_folders_of_the_same_names_in_each_class_are_told(make: Make) -> None:
    """Which level is the class cannot be known; the upper one is taken, as before."""
    data = read_dataset(make("north/cat", "north/dog", "south/cat", "south/dog"))
    assert data.classes == ("north", "south")
    assert any("each class folder holds the same folders (cat, dog)" in note for note in data.notes)


def test_a_class_in_both_unicode_forms_is_told(make: Make) -> None:
    """Two folders that look the same are one class."""
    forms = [unicodedata.normalize(form, "été") for form in ("NFC", "NFD")]
    root = make("a", *forms)
    if len(list(root.iterdir())) < 3:
        pytest.skip("this file system keeps one form of a name")
    data = read_dataset(root)
    assert data.classes == ("a", forms[0])
    assert any("one in each Unicode form (NFC, NFD): taken for one class" in note for note in data.notes)


def test_words_about_columns_do_not_suit_folders(make: Make) -> None:
    """A group's column and a fold that is nowhere are refused, not passed over."""
    root = make("a", "b")
    with pytest.raises(DataError, match=r"data\.group_column = patient, but folders have no columns"):
        read_dataset(root, columns=Columns(group="patient"))
    with pytest.raises(DataError, match=r"data\.val_fold = 1, but there are no folders fold0/"):
        read_dataset(root, columns=Columns(val_fold="1"))
