"""What people give for shards: patterns, addresses, tars that others wrote, several labels, other orders of classes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from convnext.__main__ import main
from convnext.config import load_recipe
from convnext.data.pictures import fetch as fetching
from convnext.data.pictures.decode import read_pixels
from convnext.data.shards import remote
from convnext.data.shards.open import expand, open_shards
from convnext.data.shards.read import ShardedDataset
from convnext.data.shards.scan import index_tars
from convnext.data.shards.writer import write_shards
from convnext.data.sources.reading import Reading
from convnext.errors import DataError
from convnext.evaluate.evaluate import evaluate_run, evaluate_weights
from convnext.nn.weights.load import read_model
from convnext.places import cache_dir
from convnext.tasks.classify.meaning import counts
from convnext.tasks.classify.targets import ClassTargets, diagnose, read_dataset
from convnext.train.train import train_run

SETTINGS = [
    "weights=none", "model.name=convnext_atto", "data.size=32", "model.stem_patch=4", "train.batch=8",
    "train.lr=1e-3", "train.precision=fp32", "train.epochs=2", "data.workers=0", "train.device=cpu",
]  # fmt: skip


def opened(root: Path | str, **settings: Any) -> ShardedDataset:
    """The shards that are there."""
    found = open_shards(Path(root), Reading(**({"val": 0.0} | settings)), ClassTargets())
    assert found is not None
    return found


def content(found: ShardedDataset, split: str) -> list[tuple[bytes, tuple[int, ...]]]:
    """Pixels and labels of a split, in any order."""
    return sorted((read_pixels(s.path).tobytes(), s.target) for s in found.splits[split])


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    """A tar by Python's own module."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, BytesIO(data))


def png(shade: int) -> bytes:
    """A file whose every pixel is `shade`."""
    out = BytesIO()
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def foreign(stripes: Path, tmp_path: Path) -> Path:
    """The stripes as somebody else wrote them: three tars of train, labels by name, no index."""
    samples = [s for found in read_dataset(stripes, val=0, test=0).splits.values() for s in found]
    for number in range(3):
        files = {}
        for i, sample in enumerate(samples[number::3]):
            files[f"{i:04d}.png"] = sample.path.read_bytes()
            files[f"{i:04d}.cls"] = sample.path.parent.name.encode()
        write_tar(tmp_path / "tars" / f"stripes-train-{number:06d}.tar", files)
    return tmp_path / "tars"


@pytest.mark.parametrize(
    "pattern",
    ["a-{000..012}.tar", "a-{8..11}.tar", "{train,val}-{00..02}.tar", "{t-{0..2},v-{0..1}}.tar", "{3..1}", "plain"],
)
def test_patterns_stand_for_what_braceexpand_says(pattern: str) -> None:
    """The package that webdataset uses."""
    braceexpand = pytest.importorskip("braceexpand")
    assert sorted(expand(pattern)) == sorted(braceexpand.braceexpand(pattern))


def test_a_pattern_without_end_is_refused() -> None:
    """It would fill the memory with names."""
    with pytest.raises(DataError, match="stands for more than 1,000,000 names"):
        expand("a-{0..99999999}.tar")
    with pytest.raises(DataError, match="stands for more than 1,000,000 names"):
        expand("{0..9999}{0..9999}")


def test_tars_without_an_index_train_as_they_are(foreign: Path, stripes: Path, tmp_path: Path) -> None:
    """The folder stays as it was; every picture is in train or val, once; the index is made once."""
    before = sorted(foreign.iterdir())
    found = opened(foreign, val=0.25)
    source = read_dataset(stripes, val=0, test=0)
    assert sorted(foreign.iterdir()) == before
    assert found.classes == source.classes
    everything = [(read_pixels(s.path).tobytes(), s.target) for s in source.splits["train"]]
    assert sorted(content(found, "train") + content(found, "val")) == sorted(everything)
    assert 8 <= len(found.splits["val"]) <= 32
    assert any("25% of train were taken" in note for note in found.notes)
    again = opened(foreign, val=0.25)
    assert again.digest == found.digest
    assert len(list((cache_dir() / "indexes").glob("*/"))) == 1
    run = train_run(foreign, load_recipe(None, SETTINGS), tmp_path / "run")
    assert main(["evaluate", str(run.path)]) == 0
    assert "train-000000.tar/@" in (run.path / "splits.csv").read_text()


def test_a_pattern_takes_its_tars_alone(foreign: Path, stripes: Path, tmp_path: Path) -> None:
    """With an index beside them or without; a tar that is not there is named."""
    whole = opened(foreign)
    part = opened(foreign / "stripes-train-{000000..000001}.tar")
    sizes = [shard.pictures for shard in whole.splits["train"].shards]  # type: ignore[attr-defined]
    assert len(part.splits["train"]) == sum(sizes[:2])
    with pytest.raises(DataError, match=r"stripes-train-000003\.tar: no such tar"):
        opened(foreign / "stripes-train-{000002..000003}.tar")
    shards = tmp_path / "shards"
    write_shards(read_dataset(stripes), shards, megabytes=0.03)
    known = opened(shards)
    one = opened(shards / "{train-000001,val-000000}.tar")
    assert one.classes == known.classes
    assert set(content(one, "val")) < set(content(known, "val"))
    second = known.splits["train"].shards[1].pictures  # type: ignore[attr-defined]
    assert sum(counts(one, "train")) == len(one.splits["train"]) == second
    assert set(content(one, "train")) < set(content(known, "train"))


def test_folders_of_tars_are_splits_and_other_folders_are_not_shards(foreign: Path, stripes: Path) -> None:
    """train/*.tar beside val/*.tar; an archive left beside the folders that came out of it means nothing."""
    tars = sorted(foreign.glob("*.tar"))
    for number, split in enumerate(("train", "train", "val")):
        (foreign / split).mkdir(exist_ok=True)
        tars[number].rename(foreign / split / f"{number}.tar")
    found = opened(foreign, val=0.5)
    assert len(found.splits["train"]) == 54
    assert len(found.splits["val"]) == 26
    (foreign / "train" / "0.tar").rename(stripes / "downloaded.tar")
    assert open_shards(stripes, Reading(val=0.0), ClassTargets()) is None
    assert len(read_dataset(stripes, val=0, test=0).splits["train"]) == 80


def test_several_labels_a_picture(tmp_path: Path) -> None:
    """From a table to shards and back: JSON with names in the tars, the same labels and counts; it trains."""
    rng = np.random.default_rng(0)
    rows = ["path,label"]
    for i in range(60):
        names = [name for name in ("a", "b", "c") if rng.random() < 0.5]
        (tmp_path / f"{i}.png").write_bytes(png(i))
        rows.append(f"{i}.png,{'|'.join(names) or '|'}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    source = read_dataset(tmp_path / "table.csv")
    assert source.multi_label
    write_shards(source, tmp_path / "shards", megabytes=0.01)
    found = opened(tmp_path / "shards")
    assert found.multi_label
    assert found.classes == source.classes
    for split, samples in source.splits.items():
        assert counts(found, split) == counts(source, split)
        assert content(found, split) == sorted((read_pixels(s.path).tobytes(), s.target) for s in samples)
    before = content(found, "train")
    for name in ("shards.json", "index.bin", "labels.bin"):
        (tmp_path / "shards" / name).unlink()
    other = opened(tmp_path / "shards")  # what the tars alone say
    assert content(other, "train") == before
    run = train_run(tmp_path / "shards", load_recipe(None, SETTINGS), tmp_path / "run")
    assert main(["evaluate", str(run.path)]) == 0


def test_classes_come_in_the_order_that_is_asked_for(foreign: Path) -> None:
    """As a trained model has them; a class that nobody asked for is refused."""
    plain = opened(foreign)
    turned = opened(foreign, classes=("wide", "extra", "narrow"))
    assert turned.classes == ("wide", "extra", "narrow")
    swap = {0: 2, 1: 0}
    assert [s.target for s in turned.splits["train"]] == [(swap[s.target[0]],) for s in plain.splits["train"]]
    assert counts(turned, "train") == [counts(plain, "train")[1], 0, counts(plain, "train")[0]]
    with pytest.raises(DataError, match='class "wide" is not one of the classes asked for'):
        opened(foreign, classes=("narrow", "thin"))


def test_a_run_judges_shards_it_never_saw(foreign: Path, stripes: Path, tmp_path: Path) -> None:
    """The same numbers as on the same pictures in folders, for a run and for a bare weight file."""
    run = train_run(stripes, load_recipe(None, SETTINGS), tmp_path / "run")
    copy = tmp_path / "copy"
    shutil.copytree(stripes, copy)
    (copy / "wide" / "wide-000.png").rename(copy / "wide" / "wide-100.png")  # another data set, by its names
    for which in ("run", "file"):
        judged = []
        for data in (copy, foreign):
            if which == "run":
                found = evaluate_run(run.path, data)
            else:
                found = evaluate_weights(run.best, None, data, size=None, normalization=None, split=None)
            judged.append(found.result)
            assert len(found.predictions) == 80
        for key in ("top1", "confusion", "majority_top1"):
            assert judged[0].get(key) == judged[1].get(key), key
        assert "top1" in judged[0]


def test_the_doctor_opens_shards(foreign: Path, tmp_path: Path) -> None:
    """A broken picture is found; counts are those of the tars."""
    files = {"0.png": b"nothing", "0.cls": b"wide", "1.png": png(3), "1.cls": b"narrow", "2.png": png(4)}
    write_tar(foreign / "stripes-train-000003.tar", files)
    found = diagnose(foreign)
    assert found.broken == 1
    assert found.pictures == 81
    assert "unreadable" in {finding.kind for finding in found.findings}
    assert any("1 picture without a .cls or .json" in note for note in found.notes)
    (broken,) = (finding for finding in found.findings if finding.kind == "unreadable")
    assert "stripes-train-000003.tar/0.png" in broken.files


def test_the_doctor_names_the_files_that_pictures_in_shards_once_were(stripes: Path, tmp_path: Path) -> None:
    """Who finds two equal pictures wants to know which files to mend."""
    (stripes / "narrow" / "twin.png").write_bytes((stripes / "narrow" / "narrow-000.png").read_bytes())
    write_shards(read_dataset(stripes), tmp_path / "shards")
    found = diagnose(tmp_path / "shards")
    (copies,) = (finding for finding in found.findings if finding.kind == "exact_duplicates")
    once = sorted(re.fullmatch(r"\w+-000000\.tar/\d{8}\.png \(once (.+)\)", name)[1] for name in copies.files)
    assert once == ["narrow/narrow-000.png", "narrow/twin.png"]


def test_what_is_wrong_with_tars_of_others_is_said(tmp_path: Path) -> None:
    """Cut off in a header or in a picture; no tar at all; labels that are no JSON."""
    tar = tmp_path / "tars" / "train-0.tar"
    write_tar(tar, {"0.png": png(1), "0.cls": b"a", "1.png": png(2) + bytes(5000), "1.cls": b"b"})
    whole = tar.read_bytes()
    for cut in (1900, 3500):
        tar.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"train-0\.tar: not a whole tar"):
            opened(tmp_path / "tars")
    tar.write_bytes(b"x" * 2000)
    with pytest.raises(DataError, match="not a whole tar"):
        opened(tmp_path / "tars")
    write_tar(tar, {"0.png": png(1), "0.json": b"{"})
    with pytest.raises(DataError, match=r"0\.json is no JSON"):
        opened(tmp_path / "tars")
    assert list((cache_dir() / "indexes").glob("*/")) == []


def test_a_pattern_of_what_is_there(foreign: Path, tmp_path: Path) -> None:
    """`*`, as everybody writes it; other files, and a pattern that nothing fits, are no shards."""
    (foreign / "readme.txt").write_text("hello")
    assert content(opened(foreign / "*.tar"), "train") == content(opened(foreign), "train")
    assert len(opened(foreign / "*-00000[01].tar").splits["train"]) < 80
    assert open_shards(foreign / "*.txt", Reading(val=0.0), ClassTargets()) is None
    assert open_shards(foreign / "no*.tar", Reading(val=0.0), ClassTargets()) is None


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"0.json": b'{"labels": [{"id": 1}]}'}, r"\{'id': 1\} is no label"),
        ({"0.json": b"[[1]]"}, r"\[1\] is no label"),
        ({"0.json": b'{"label": 1.5}'}, "1.5 is no label"),
        ({"0.json": b'{"label": true}'}, "True is no label"),
        ({"0.json": b"[" * 100_000}, "is no JSON"),
        ({"0.cls": b"9" * 5000}, "has 5,000 digits"),
    ],
)
def test_what_is_no_label_is_said(files: dict[str, bytes], words: str, tmp_path: Path) -> None:
    """With the tar, the file, and what stands there."""
    write_tar(tmp_path / "tars" / "train-0.tar", {"0.png": png(0), **files})
    with pytest.raises(DataError, match=words):
        opened(tmp_path / "tars")


def test_a_label_that_is_empty_is_passed_over(tmp_path: Path) -> None:
    """The next name that has one counts; a picture that comes twice under one name is refused."""
    write_tar(
        tmp_path / "tars" / "train-0.tar", {"0.png": png(0), "0.json": b'{"label": null, "labels": ["a", "b", "a"]}'}
    )
    found = opened(tmp_path / "tars")
    assert [sample.target for sample in found.splits["train"]] == [(0, 1)]
    twice = tmp_path / "twice" / "train-0.tar"
    write_tar(twice, {"0.png": png(0), "0.cls": b"a"})
    with tarfile.open(twice, "a") as archive:
        for name, data in (("0.png", png(1)), ("0.cls", b"b")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, BytesIO(data))
    with pytest.raises(DataError, match=r"holds 0\.png twice"):
        opened(tmp_path / "twice")


def test_tars_of_others_on_a_server(foreign: Path, serve: Callable[[Path], str], tmp_path: Path) -> None:
    """A pattern of addresses: fetched once, indexed, the pictures those of the folder; within a budget too."""
    pattern = serve(foreign) + "/stripes-train-{000000..000002}.tar"
    local, remote = opened(foreign), opened(pattern)
    assert remote.classes == local.classes
    assert content(remote, "train") == content(local, "train")
    small = opened(pattern, tar_bytes=1)
    assert content(small, "train") == content(local, "train")
    assert len(list(small.folder.glob("*.tar"))) == 1
    with pytest.raises(DataError, match="the server answers 404"):
        opened(pattern.replace("000002", "000003"))
    settings = [*SETTINGS, "data.val=0.2"]
    a = train_run(foreign, load_recipe(None, settings), tmp_path / "a")
    b = train_run(pattern, load_recipe(None, settings), tmp_path / "b")
    one, two = read_model(a.last)[0], read_model(b.last)[0]
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_wrong_answer_is_not_kept(foreign: Path, serve: Callable[[Path], str]) -> None:
    """A page where a tar should be: refused, and fetched anew when the server has been put right."""
    tar = foreign / "stripes-train-000001.tar"
    whole = tar.read_bytes()
    tar.write_text("<html>please log in</html>" * 100)
    pattern = serve(foreign) + "/stripes-train-{000000..000002}.tar"
    with pytest.raises(DataError, match="not a whole tar"):
        opened(pattern)
    tar.write_bytes(whole)
    assert len(opened(pattern).splits["train"]) == 80


def test_one_tar_that_fails_costs_no_other(
    foreign: Path, serve: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was fetched before stays, and is not fetched again when the server has come back."""
    monkeypatch.setattr(remote.time, "sleep", lambda seconds: None)
    fetched: list[str] = []
    real = fetching._download

    def download(address: str, *rest: Any) -> None:
        fetched.append(address.rpartition("/")[2])
        if broken and "000002" in address:
            raise OSError("the line is dead")
        real(address, *rest)

    monkeypatch.setattr(fetching, "_download", download)
    pattern, broken = serve(foreign) + "/stripes-train-{000000..000002}.tar", True
    with pytest.raises(DataError, match="could not be fetched in 4 attempts"):
        opened(pattern)
    fetched.clear()
    broken = False
    assert len(opened(pattern).splits["train"]) == 80
    assert [name for name in fetched if name.endswith(".tar")] == ["stripes-train-000002.tar"]


def test_tars_that_were_written_anew_are_others(foreign: Path, serve: Callable[[Path], str]) -> None:
    """Under the same names: the server says that they changed, so they are fetched and indexed anew."""
    pattern = serve(foreign) + "/stripes-train-{000000..000002}.tar"
    first = opened(pattern)
    before = content(first, "train")
    tar = foreign / "stripes-train-000001.tar"
    tar.write_bytes((foreign / "stripes-train-000000.tar").read_bytes())
    os.utime(tar, (0, 0))
    second = opened(pattern)
    assert content(second, "train") == content(opened(foreign), "train") != before
    assert second.digest != first.digest


@pytest.mark.parametrize(("code", "tries"), [(405, 3), (503, 12)])
def test_a_server_that_does_not_say_is_not_asked_for_ever(
    code: int, tries: int, foreign: Path, serve: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that knows no HEAD is taken as it is; one that is overloaded is asked again, since another answer would mean
    other tars.
    """
    monkeypatch.setattr(remote.time, "sleep", lambda seconds: None)
    asked = []
    real = urllib.request.OpenerDirector.open

    def answer(opener: urllib.request.OpenerDirector, request: Any, *given: Any, **options: Any) -> Any:
        if isinstance(request, urllib.request.Request) and request.get_method() == "HEAD":
            asked.append(request.full_url)
            raise urllib.error.HTTPError(request.full_url, code, "no", Message(), None)
        return real(opener, request, *given, **options)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", answer)
    pattern = serve(foreign) + "/stripes-train-{000000..000002}.tar"
    if code == 405:
        assert len(opened(pattern).splits["train"]) == 80
    else:
        with pytest.raises(
            DataError, match="could not be asked for in 4 attempts, the last time: the server answers 503"
        ):
            opened(pattern)
    assert len(asked) == tries


def test_a_budget_below_a_window_is_said(foreign: Path, serve: Callable[[Path], str]) -> None:
    """Tars would come and go with every picture."""
    pattern = serve(foreign) + "/stripes-train-{000000..000002}.tar"
    assert any("tars will be fetched again and again" in note for note in opened(pattern, tar_bytes=1).notes)
    assert not any("again and again" in note for note in opened(pattern).notes)


def test_a_cache_that_cannot_be_written_is_not_the_servers_fault(
    foreign: Path, serve: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said at once, with the way out."""

    def download(*rest: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(fetching, "_download", download)
    monkeypatch.setattr(remote.time, "sleep", lambda seconds: pytest.fail("it was tried again"))
    with pytest.raises(DataError, match="it cannot be written; change the permissions; or let CONVNEXT_CACHE"):
        opened(serve(foreign) + "/stripes-train-{000000..000002}.tar")


def test_a_long_pattern_is_still_a_pattern(foreign: Path) -> None:
    """Longer than a file's name may be."""
    names = ",".join(f"stripes-train-{i % 3:06d}" for i in range(30))
    assert len(opened(foreign / f"{{{names}}}.tar").splits["train"]) == 80


def test_folders_of_tars_on_a_server(foreign: Path, serve: Callable[[Path], str]) -> None:
    """train/ and val/ behind an index; names that an address must quote."""
    for number, tar in enumerate(sorted(foreign.glob("*.tar"))):
        place = foreign / ("val" if number == 0 else "train")
        place.mkdir(exist_ok=True)
        tar.rename(place / f"ä {number}.tar")
    index_tars(foreign)
    here, there = opened(foreign), opened(serve(foreign))
    assert set(here.splits) == {"train", "val"}
    for split in here.splits:
        assert content(there, split) == content(here, split)


def test_two_patterns_of_one_server_do_not_meet(foreign: Path, serve: Callable[[Path], str]) -> None:
    """The tars of the one are still there for it when the other has been opened."""
    address = serve(foreign)
    names = sorted(tar.name.removesuffix(".tar") for tar in foreign.glob("*.tar"))
    first = opened(f"{address}/{{{','.join(names)}}}.tar", tar_bytes=1)
    opened(f"{address}/{names[0]}.tar", tar_bytes=1)
    assert content(first, "train") == content(opened(foreign), "train")


def test_a_server_with_a_page_for_everything_still_has_tars(foreign: Path, serve: Callable[[Path], str]) -> None:
    """It answers 200 and a page where there is no index: the tars of the pattern are indexed as if it had said so."""
    (foreign / "shards.json").write_text("<!doctype html><title>not found</title>")
    pattern = serve(foreign) + "/stripes-train-{000000..000002}.tar"
    assert len(opened(pattern).splits["train"]) == 80


@pytest.mark.parametrize("label", [b"-1", b" -12\n"])
def test_a_label_below_zero_is_refused(label: bytes, tmp_path: Path) -> None:
    """Often written for "no label"; it would become a class."""
    write_tar(tmp_path / "tars" / "train-0.tar", {"0.png": png(0), "0.cls": b"0", "1.png": png(1), "1.cls": label})
    with pytest.raises(DataError, match=r"1\.cls: label -1.*numbered from 0"):
        opened(tmp_path / "tars")


def test_edited_counts_of_several_labels_are_found(tmp_path: Path) -> None:
    """They weigh rare classes, and cannot be added up as those of single labels can."""
    files = {"0.png": png(0), "0.json": b'["a", "b"]', "1.png": png(1), "1.json": b'["a"]'}
    write_tar(tmp_path / "tars" / "train-0.tar", files)
    index_tars(tmp_path / "tars")
    meta = tmp_path / "tars" / "shards.json"
    known = json.loads(meta.read_text())
    assert counts(opened(tmp_path / "tars"), "train") == [2, 1]
    for change in ({"counts": {"train": [2, 2]}}, {"multi_label": False, "counts": {"train": [1, 1]}}):
        meta.write_text(json.dumps(known | change))
        with pytest.raises(DataError, match=r"is not what shards\.json was written for"):
            opened(tmp_path / "tars")


def test_an_address_of_something_else_is_said(serve: Callable[[Path], str], tmp_path: Path) -> None:
    """A server that answers any request with a page of its own."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "shards.json").write_text("<html>welcome</html>")
    with pytest.raises(DataError, match="the server answers something else"):
        opened(serve(tmp_path / "web"))


def test_numbers_are_places_in_the_names_that_are_given(tmp_path: Path) -> None:
    """As webdataset's .cls mostly are: data.classes says what they mean, and may know more of them."""
    files = {f"{i}.{end}": data for i in range(6) for end, data in (("png", png(i)), ("cls", b"%d" % (i % 2)))}
    write_tar(tmp_path / "tars" / "train-0.tar", files)
    found = opened(tmp_path / "tars", classes=("zebra", "ant", "bee"))
    assert found.classes == ("zebra", "ant", "bee")
    assert counts(found, "train") == [3, 3, 0]
    assert [s.target[0] for s in found.splits["train"]] == [0, 1] * 3
    with pytest.raises(DataError, match='class "0" is not one of the classes asked for'):
        opened(tmp_path / "tars", classes=("1", "2"))
    write_tar(tmp_path / "dates" / "train-0.tar", {"0.png": png(0), "0.cls": b"20261125"})
    with pytest.raises(DataError, match="label 20261125 would be the last of 20,261,126 classes"):
        opened(tmp_path / "dates")


MAKE = """
import sys
from pathlib import Path
from convnext.data.sources.reading import Reading
from convnext.data.shards.scan import index_tars
from convnext.data.shards.open import open_shards
from convnext.tasks.classify.targets import ClassTargets
found = open_shards(Path(sys.argv[1]), Reading(val=0.2), ClassTargets())
print(found.digest)
"""


def test_processes_that_start_together_make_one_index(foreign: Path) -> None:
    """As those of a distributed training do."""
    running = [
        subprocess.Popen([sys.executable, "-c", MAKE, str(foreign)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = {process.communicate()[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(said) == 1
    assert len(list((cache_dir() / "indexes").glob("*/"))) == 1
