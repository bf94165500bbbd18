"""ImageNet's layouts: a flat val with any of the lists that people have, and tars of classes."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.__main__ import main
from convnext.data.pictures.decode import read_pixels
from convnext.data.pictures.tarball import is_tars
from convnext.data.shards.read import read_sharded
from convnext.errors import DataError
from convnext.tasks.classify.meaning import counts
from convnext.tasks.classify.targets import ClassTargets, read_dataset
from convnext.tasks.classify.tars import read_tars

WNIDS = ("n01440764", "n01443537", "n02110341")
TRUTH = (2, 0, 1, 1, 0, 2)  # classes of the pictures of val, in the order of their numbers


def picture(path: Path, shade: int) -> None:
    """A file whose every pixel is `shade`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 16, 3), shade, np.uint8)).save(path, "JPEG")


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """Train folders by WordNet id, and a flat val."""
    root = tmp_path / "imagenet"
    for number, wnid in enumerate(WNIDS):
        for i in range(4):
            picture(root / "train" / wnid / f"{wnid}_{i}.JPEG", 20 * number + i)
    for number in range(1, 7):
        picture(root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", 100 + number)
    return root


def labels_of(root: Path) -> list[int]:
    """Classes of val's pictures in the order of their names."""
    found = read_dataset(root)
    assert found.classes == WNIDS
    return [sample.target[0] for sample in found.splits["val"]]


def lines(form: str) -> str:
    """A list of val's labels."""
    rows = []
    for number, label in enumerate(TRUTH, 1):
        name = f"ILSVRC2012_val_{number:08d}"
        rows.append(form.format(name=name, wnid=WNIDS[label], label=label))
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize("form", ["{name}.JPEG {label}", "{name}.JPEG {wnid}", "val/{name}.JPEG,{wnid}"])
@pytest.mark.parametrize("place", ["val.txt", "val/val.txt", "meta/val.txt"])
def test_a_text_file_labels_val(form: str, place: str, imagenet: Path) -> None:
    """By number or by WordNet id; in the data, in val, or in a folder beside it."""
    (imagenet / place).parent.mkdir(exist_ok=True)
    (imagenet / place).write_text(lines(form))
    assert labels_of(imagenet) == list(TRUTH)


def test_kaggles_list_labels_val(imagenet: Path) -> None:
    """The first word of the prediction string is the class."""
    (imagenet / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + lines("{name},{wnid} 1 2 3 4 "))
    assert labels_of(imagenet) == list(TRUTH)


@pytest.mark.parametrize("inside", [False, True])
def test_kaggles_folders_are_known(inside: bool, imagenet: Path, tmp_path: Path) -> None:
    """By their top, or by the folder of the pictures; pictures of test, which nobody labelled, are left alone."""
    top = tmp_path / "kaggle"
    home = top / "ILSVRC" / "Data" / "CLS-LOC"
    home.parent.mkdir(parents=True)
    imagenet.rename(home)
    for number in range(3):
        picture(home / "test" / f"ILSVRC2012_test_{number:08d}.JPEG", 200)
    (top / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + lines("{name},{wnid} 1 2 3 4 "))
    assert labels_of(home if inside else top) == list(TRUTH)
    assert set(read_dataset(home).splits) == {"train", "val"}


def test_the_devkit_labels_val(imagenet: Path) -> None:
    """Its numbers are its own: meta.mat says what they stand for."""
    scipy_io = pytest.importorskip("scipy.io")
    data = imagenet / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    ids = {0: 7, 1: 3, 2: 5}
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{ids[t]}\n" for t in TRUTH))
    with pytest.raises(DataError, match=r"put its meta\.mat beside it"):
        read_dataset(imagenet)
    (data / "map_clsloc.txt").write_text("".join(f"{wnid} {ids[n]} a name\n" for n, wnid in enumerate(WNIDS)))
    assert labels_of(imagenet) == list(TRUTH)
    (data / "map_clsloc.txt").unlink()
    (data / "meta.mat").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"meta\.mat is not the devkit's"):
        read_dataset(imagenet)
    synsets = np.array([(ids[n], wnid) for n, wnid in enumerate(WNIDS)], dtype=[("ILSVRC2012_ID", "i4"), ("WNID", "O")])
    scipy_io.savemat(data / "meta.mat", {"synsets": synsets})
    assert labels_of(imagenet) == list(TRUTH)


@pytest.mark.parametrize("separator", [" ", ",", ", ", "\t"])
def test_names_with_spaces_and_commas_are_found(separator: str, tmp_path: Path) -> None:
    """The longest part of a line that is a picture's name is the name; a class may have spaces too."""
    root, names = tmp_path / "data", ("a b.JPEG", "a b 1.JPEG", "a, c.JPEG", "²")
    for label in ("tiger cat", "dog"):
        picture(root / "train" / label / "x.JPEG", 9)
    for name in names[:3]:
        picture(root / "val" / name, 100)
    labels = ("tiger cat", "dog", "1")
    (root / "val.txt").write_text("".join(f"{n}{separator}{t}\n" for n, t in zip(names, labels, strict=False)))
    found = read_dataset(root)
    assert {s.path.name: found.classes[s.target[0]] for s in found.splits["val"]} == {
        "a b.JPEG": "tiger cat", "a b 1.JPEG": "dog", "a, c.JPEG": "tiger cat",
    }  # fmt: skip


def test_a_superscript_is_no_number(imagenet: Path) -> None:
    """Some digits are none that a number can be made of."""
    (imagenet / "val.txt").write_text(lines("{name}.JPEG \N{SUPERSCRIPT TWO}"))
    with pytest.raises(DataError, match="which is not in train"):
        read_dataset(imagenet)


def test_a_list_that_does_not_fit_is_refused(imagenet: Path) -> None:
    """A picture without a label, a class that is not there, a line that says nothing."""
    file = imagenet / "val.txt"
    file.write_text(lines("{name}.JPEG {label}").split("\n", 1)[1])
    with pytest.raises(DataError, match=r"has no label for ILSVRC2012_val_00000001\.JPEG"):
        read_dataset(imagenet)
    file.write_text(lines("{name}.JPEG 3"))
    with pytest.raises(DataError, match="class 3, but there are 3 classes"):
        read_dataset(imagenet)
    file.write_text(lines("{name}.JPEG n99"))
    with pytest.raises(DataError, match="n99, which is not in train"):
        read_dataset(imagenet)
    file.write_text(lines("{name}.JPEG {label}") + "ILSVRC2012_val_00000001.JPEG 1\n")
    with pytest.raises(DataError, match=r"line 7: ILSVRC2012_val_00000001\.JPEG is of class n01443537, further up"):
        read_dataset(imagenet)
    for line in ("nothing", ",", " , "):
        file.write_text(line + "\n")
        with pytest.raises(DataError, match="is not a file name and a class"):
            read_dataset(imagenet)


def test_a_mark_of_windows_at_the_beginning_is_no_name(imagenet: Path) -> None:
    """Notepad writes one."""
    (imagenet / "val.txt").write_text(lines("{name}.JPEG {label}"), encoding="utf-8-sig")
    assert labels_of(imagenet) == list(TRUTH)


def tar_of_tars(path: Path, cut: int | None, empty: bool) -> None:
    """Two classes of two pictures each; of the first one so many bytes, and a third class of an empty tar."""
    with tarfile.open(path, "w") as outer:
        for number in range(2 + empty):
            inner = BytesIO()
            with tarfile.open(fileobj=inner, mode="w", bufsize=512) as archive:
                for name in ("a.png", "b.png") if number < 2 else ():
                    info = tarfile.TarInfo(name)
                    info.size = 512
                    archive.addfile(info, BytesIO(bytes([number + 1]) * 512))
            data = inner.getvalue()[: cut if number == 0 else None]
            info = tarfile.TarInfo(f"n{number}.tar")
            info.size = len(data)
            outer.addfile(info, BytesIO(data))


@pytest.mark.parametrize("cut", [512, 1024, 1536, 2048])
def test_an_inner_tar_that_is_cut_off_does_not_go_on_in_the_next(cut: int, tmp_path: Path) -> None:
    """Its pictures would be those of another class."""
    tar_of_tars(tmp_path / "whole.tar", None, empty=False)
    (tmp_path / "index").mkdir()
    assert counts(read_tars(tmp_path / "whole.tar", 0, tmp_path / "index"), "train") == [2, 2]
    tar_of_tars(tmp_path / "cut.tar", cut, empty=False)
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match=r"n0\.tar: not a whole tar"):
        read_tars(tmp_path / "cut.tar", 0, tmp_path / "other")


def test_a_class_without_pictures_is_said(tmp_path: Path) -> None:
    """A tar of nothing but its end."""
    tar_of_tars(tmp_path / "whole.tar", None, empty=True)
    (tmp_path / "index").mkdir()
    found = read_tars(tmp_path / "whole.tar", 0, tmp_path / "index")
    assert found.classes == ("n0", "n1")
    assert "left out: 1 class without pictures: n2" in found.notes


@pytest.mark.parametrize("single", [True, False])
def test_tars_of_classes_become_shards(
    single: bool, imagenet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of tars, or one tar of them: sorted classes, every picture once, byte for byte."""
    tars = tmp_path / "tars"
    tars.mkdir()
    for wnid in reversed(WNIDS):
        with tarfile.open(tars / f"{wnid}.tar", "w") as archive:
            for file in sorted((imagenet / "train" / wnid).iterdir()):
                archive.add(file, file.name)
    source = tars
    if single:
        source = tmp_path / "whole.tar"
        with tarfile.open(source, "w") as archive:
            for file in sorted(tars.iterdir(), reverse=True):
                archive.add(file, file.name)
    assert is_tars(source)
    (tmp_path / "index").mkdir()
    found = read_tars(source, 0.4, tmp_path / "index")
    assert found.classes == WNIDS
    assert len(found.splits["train"]) + len(found.splits["val"]) == 12
    assert main(["data", "shard", str(source), str(tmp_path / "shards"), "--val", "0.4"]) == 0
    shards = read_sharded(tmp_path / "shards", targets=ClassTargets())
    assert shards.classes == WNIDS
    got = sorted(
        (int(np.median(read_pixels(s.path))), s.target[0]) for samples in shards.splits.values() for s in samples
    )
    assert [label for _, label in got] == [0] * 4 + [1] * 4 + [2] * 4
    assert [shade // 20 for shade, _ in got] == [0] * 4 + [1] * 4 + [2] * 4
    assert not is_tars(imagenet)
    assert main(["train", str(source)]) == 2
    assert f"holds a tar for each class; write it as shards first: convnext data shard {source}" in (
        capsys.readouterr().err
    )
