"""Folds: every content once, classes alike in each, and the same wherever the pictures lie."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convnext.config import load_recipe
from convnext.data.sources.folds import deal, in_fold
from convnext.data.sources.reading import Reading
from convnext.errors import DataError, RecipeError
from convnext.run.reading import read_data
from convnext.tasks.classify.meaning import counts
from convnext.tasks.classify.targets import ClassTargets, read_dataset

StripesWriter = Callable[..., Path]


def content(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=60), st.integers(2, 7))
def test_each_class_is_shared_out_evenly(classes: list[int], folds: int) -> None:
    """Of one class a picture no fold has two more than another; nor of all pictures more than there are classes."""
    labels = {content(i): [f"class {c}"] for i, c in enumerate(classes)}
    found = deal(labels, folds)
    assert found.keys() == labels.keys()
    assert set(found.values()) <= set(range(1, folds + 1))
    for name in {f"class {c}" for c in classes}:
        held = Counter(found[c] for c, names in labels.items() if names == [name])
        assert max(held.values()) - min(held[f] for f in range(1, folds + 1)) <= 1
    whole = Counter(found.values())
    assert max(whole.values()) - min(whole[f] for f in range(1, folds + 1)) <= 1


def test_rare_labels_of_several_are_in_every_fold() -> None:
    """A label that ten of two hundred pictures have is in each of five folds, among other labels and none at all."""
    labels = {content(i): [n for n, every in (("a", 2), ("b", 3), ("rare", 20)) if i % every == 0] for i in range(200)}
    found = deal(labels, 5)
    for name in ("a", "b", "rare"):
        held = Counter(found[c] for c, names in labels.items() if name in names)
        assert len(held) == 5
        assert max(held.values()) <= 1.5 * min(held.values()) + 1
    assert deal(dict(reversed(labels.items())), 5) == found


def test_every_picture_is_held_out_once_with_its_copies(write_stripes: StripesWriter, tmp_path: Path) -> None:
    """Over the folds the tests are the whole data; equal files are on one side, also under two classes."""
    root = write_stripes(tmp_path / "data", {"a": 12, "b": 9, "c": 2})
    (root / "a" / "copy.png").write_bytes((root / "a" / "a-000.png").read_bytes())
    (root / "b" / "other.png").write_bytes((root / "a" / "a-001.png").read_bytes())
    data = read_dataset(root)
    held: list[str] = []
    for fold in (1, 2, 3, 4):
        one = in_fold(data, 4, fold, 0.2)
        assert set(one.splits) == {"train", "val", "test"}
        sides = {split: {s.path.read_bytes() for s in samples} for split, samples in one.splits.items()}
        assert not sides["test"] & (sides["train"] | sides["val"])
        assert not sides["train"] & sides["val"]
        assert sum(map(len, one.splits.values())) == 25
        assert all(counts(one, "train"))
        held += [s.path.name for s in one.splits["test"]]
        assert any(f"fold {fold} of 4 is test" in note for note in one.notes)
        assert any("so not in each of them: c" in note for note in one.notes)
        assert not any(note.startswith("split by us") for note in one.notes)
    assert sorted(held) == sorted(p.name for p in root.rglob("*.png"))


def test_a_test_split_of_ones_own_takes_no_part(write_stripes: StripesWriter, tmp_path: Path) -> None:
    """It is in none of the folds, and that is said; train and val are dealt together."""
    root = tmp_path / "data"
    for seed, split in enumerate(("train", "val", "test")):
        write_stripes(root / split, {"a": 8, "b": 8}, seed=seed)
    data = read_dataset(root)
    seen = set()
    for fold in (1, 2):
        one = in_fold(data, 2, fold, 0.2)
        assert any("its own test split" in n or "own test split, 16 pictures, takes no part" in n for n in one.notes)
        seen |= {s.path for s in one.splits["test"]}
        assert not any("/test/" in s.path.as_posix() for samples in one.splits.values() for s in samples)
    assert len(seen) == 32


def test_what_cannot_be_folded_is_refused(write_stripes: StripesWriter, tmp_path: Path) -> None:
    """A class of one picture, more folds than pictures, and a fold that is not there."""
    root = write_stripes(tmp_path / "data", {"a": 6, "b": 6, "single": 1})
    with pytest.raises(DataError, match="fewer than two different pictures of single"):
        in_fold(read_dataset(root), 3, 1, 0.2)
    with pytest.raises(DataError, match="13 different pictures cannot make 20 folds"):
        in_fold(read_dataset(root), 20, 1, 0.2)
    for setting in ("data.fold=1", "data.folds=3", "data.folds=3 data.fold=4", "data.folds=1 data.fold=1"):
        with pytest.raises(RecipeError, match=r"data\.fold = .*from 1 to data\.folds"):
            read_data(root, Reading.of(load_recipe(None, setting.split()).data), ClassTargets())
