"""Tar shards: every picture once, in an order that nothing but seed and epoch decides, in constant memory."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from convnext.__main__ import main
from convnext.config import load_recipe
from convnext.data.names import address_of
from convnext.data.pictures.decode import read_pixels
from convnext.data.pictures.tarball import member_path, members, nested, open_member, parse
from convnext.data.shards.order import ShardSampler
from convnext.data.shards.read import check_tars, glimpse, list_shards, read_sharded
from convnext.data.shards.remote import open_remote, place_of
from convnext.data.shards.scan import index_tars
from convnext.data.shards.writer import write_shards
from convnext.errors import DataError, SourceLost, UserError
from convnext.nn.weights.load import read_model
from convnext.tasks.classify.meaning import counts
from convnext.tasks.classify.targets import ClassTargets, read_dataset
from convnext.train.loop import Loop
from convnext.train.resume import resume_run
from convnext.train.train import train_run

SETTINGS = [
    "weights=none", "model.name=convnext_atto", "data.size=32", "model.stem_patch=4", "train.batch=8",
    "train.lr=1e-3", "train.precision=fp32", "train.epochs=2", "data.workers=0", "train.device=cpu",
]  # fmt: skip


@pytest.fixture
def shards(stripes: Path, tmp_path: Path) -> Path:
    """The stripes in small tars: half a dozen of the train split."""
    out = tmp_path / "shards"
    write_shards(read_dataset(stripes), out, megabytes=1)
    return out


def small_tars(stripes: Path, out: Path) -> Path:
    """Tars of a few pictures each."""
    write_shards(read_dataset(stripes), out, megabytes=0.03)
    return out


def test_every_picture_is_in_the_shards_byte_for_byte(stripes: Path, tmp_path: Path) -> None:
    """Splits, classes, counts and pixels are those of the folder; tarfile and the index agree on every place."""
    source = read_dataset(stripes)
    found = read_sharded(small_tars(stripes, tmp_path / "shards"), targets=ClassTargets())
    assert found.classes == source.classes
    for split in source.splits:
        assert counts(found, split) == counts(source, split)
        wanted = sorted((read_pixels(s.path).tobytes(), s.target) for s in source.splits[split])
        got = sorted((read_pixels(s.path).tobytes(), s.target) for s in found.splits[split])
        assert got == wanted
    tar = tmp_path / "shards" / "train-000001.tar"
    with tarfile.open(tar) as archive:
        for member, info in zip(members(tar), archive.getmembers(), strict=True):
            assert (member.name, member.offset, member.length) == (info.name, info.offset_data, info.size)
            inside = archive.extractfile(info)
            assert inside is not None
            place = open_member(member_path(tar, member.offset, member.length))
            assert place is not None
            assert place.read() == inside.read()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves its file open
def test_webdataset_reads_them(shards: Path) -> None:
    """The layout is webdataset's: keys with .png (or .jpg) and .cls."""
    webdataset = pytest.importorskip("webdataset")
    pictures = webdataset.WebDataset(str(shards / "train-000000.tar"), shardshuffle=False)
    samples = list(pictures)
    assert len(samples) == list_shards(shards)[0].pictures
    assert all({"png", "cls"} <= set(sample) for sample in samples)
    found = read_sharded(shards, targets=ClassTargets()).splits["train"]
    assert [int(sample["cls"]) for sample in samples] == [sample.target[0] for sample in found]


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_an_epoch_has_every_picture_once_whoever_asks(
    world: int, stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processes together have the batches of one; a resumed epoch is the rest; epochs differ, runs do not."""
    samples = read_sharded(small_tars(stripes, tmp_path / "shards"), targets=ClassTargets()).splits["train"]
    monkeypatch.setattr("convnext.data.shards.order.WINDOW", 2)
    assert len(samples.starts) > 4  # type: ignore[attr-defined]

    def batches(epoch: int, first: int = 0) -> list[list[tuple[int, int, int]]]:
        parts = []
        for rank in range(world):
            sampler = ShardSampler(samples, 12, 3, 32, rank, world)  # type: ignore[arg-type]
            sampler.epoch, sampler.first = epoch, first
            parts.append(list(sampler))
            assert len(parts[-1]) == len(sampler)
        return [list(itertools.chain(*step)) for step in zip(*parts, strict=True)]

    whole = batches(0)
    indices = [index for batch in whole for index, _, _ in batch]
    assert len(set(indices)) == len(indices) == len(samples) // 12 * 12
    alone = ShardSampler(samples, 12, 3, 32)  # type: ignore[arg-type]
    assert whole == list(alone)
    assert batches(0, 2) == whole[2:]
    assert batches(1) != whole


def test_training_on_shards_goes_on_bit_for_bit(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With loader processes and without, stopped after an epoch and resumed: the same weights."""
    whole = train_run(shards, load_recipe(None, SETTINGS), tmp_path / "whole")
    monkeypatch.setattr(Loop, "finished", property(lambda self: self.state.progress.epoch >= 1))
    settings = [*SETTINGS[:-2], "data.workers=1", "train.device=cpu"]
    run = train_run(shards, load_recipe(None, settings), tmp_path / "run")
    monkeypatch.undo()
    resume_run(run.path)
    a, b = read_model(whole.last)[0], read_model(run.last)[0]
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert "train" not in {line.split(",")[1] for line in (run.path / "splits.csv").read_text().splitlines()[1:]}


def test_the_commands_write_check_train_and_judge(
    stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a folder to shards to a judged run; a changed byte is found."""
    out = tmp_path / "shards"
    assert main(["data", "shard", str(stripes), str(out)]) == 0
    assert main(["data", "check", str(out)]) == 0
    assert main(["train", str(out), *SETTINGS, "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "report.html").exists()
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    tar = out / "train-000000.tar"
    content = bytearray(tar.read_bytes())
    content[600] ^= 1
    tar.write_bytes(content)
    capsys.readouterr()
    assert main(["data", "check", str(out)]) == 2
    assert "train-000000.tar: its content has changed" in capsys.readouterr().out


def test_what_is_wrong_with_shards_is_said(shards: Path, stripes: Path, tmp_path: Path) -> None:
    """A tar that is missing or cut off, an index of other shards, a folder that is taken."""
    with pytest.raises(UserError, match="holds shards already"):
        write_shards(read_dataset(stripes), shards)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("")
    with pytest.raises(UserError, match=r"holds other files \(letter\.txt\)"):
        write_shards(read_dataset(stripes), tmp_path / "taken")
    tar = shards / "train-000000.tar"
    content = tar.read_bytes()
    tar.write_bytes(content[:-512])
    with pytest.raises(DataError, match=r"train-000000\.tar has [\d,]+ bytes, the index says"):
        check_tars(shards)
    tar.unlink()
    with pytest.raises(DataError, match=r"train-000000\.tar is missing"):
        check_tars(shards)
    tar.write_bytes(content)
    index = shards / "index.bin"
    whole = index.read_bytes()
    index.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match="another hash"):
        check_tars(shards)
    index.write_bytes(whole[:-20])
    with pytest.raises(DataError, match="belongs to other shards"):
        read_sharded(shards, targets=ClassTargets())
    index.write_bytes(whole)
    (shards / "shards.json").write_text("{")
    with pytest.raises(DataError, match="is not what `convnext data shard` writes"):
        read_sharded(shards, targets=ClassTargets())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": 5}, "classes: '5' is no list"),
        ({"classes": ["narrow", 7]}, "classes: '7' is no str"),
        ({"counts": []}, "counts: '.*' is no dict"),
        ({"counts": {"train": [1, 2]}}, "add up to 3, its tars hold"),
        ({"counts": {"train": [1]}}, "counts of train must be 2 numbers"),
        ({"counts": {"train": ["a", 2]}}, "counts of train: 'a' is no number"),
        ({"notes": 5}, "notes: '5' is no list"),
        ({"pictures": "40"}, "pictures: '40' is no number from 0"),
        ({"bytes": -1}, "bytes: '-1' is no number from 0"),
        ({"name": "../train.tar"}, "is no name of a tar in its folder"),
        ({"name": "/train.tar"}, "is no name of a tar in its folder"),
        ({"split": "extra"}, '"extra" is no split'),
        ({"fingerprint": None}, "fingerprint: 'None' is no str"),
        ({"version": 99}, "is of version 99"),
        ({"extra": 1}, ""),
    ],
)
def test_a_list_of_tars_that_somebody_edited(change: dict[str, Any], words: str, shards: Path) -> None:
    """Is refused with what is wrong in it; a key more is no harm."""
    file = shards / "shards.json"
    meta = json.loads(file.read_text())
    for key, value in change.items():
        for table in meta["shards"] if key in meta["shards"][0] else [meta]:
            if key == "counts" and isinstance(value, dict):
                value = meta["counts"] | value
            table[key] = value
    file.write_text(json.dumps(meta))
    if words:
        with pytest.raises(DataError, match=words):
            read_sharded(shards, targets=ClassTargets())
    else:
        assert read_sharded(shards, targets=ClassTargets()).classes == ("narrow", "wide")


def test_a_damaged_tar_never_passes_for_a_shorter_one(stripes: Path, tmp_path: Path) -> None:
    """A bit in a header, or an end at any block: tarfile itself would take what is ahead of it for the whole."""
    write_shards(read_dataset(stripes), tmp_path / "shards")
    data = (tmp_path / "shards" / "val-000000.tar").read_bytes()
    tar = tmp_path / "val-0.tar"
    tar.write_bytes(data)
    found = list(members(tar))
    header = found[4].offset - 512
    broken = bytearray(data)
    broken[header + 150] ^= 1
    tar.write_bytes(bytes(broken))
    with pytest.raises(DataError, match=f"a damaged header at byte {header:,}"):
        list(members(tar))
    for end in (header, header + 100, found[4].offset, found[4].offset + 5, len(data) - 1024):
        tar.write_bytes(data[:end])
        with pytest.raises(DataError, match="not a whole tar"):
            list(members(tar))
    tar.write_bytes(data[:-512])
    assert list(members(tar)) == found, "one block of zeros is an end"


def test_a_broken_picture_in_a_tar_is_left_out(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Met in training, named once; the run goes on."""
    place = parse(next(iter(read_sharded(shards, targets=ClassTargets()).splits["train"])).path)
    assert place is not None
    tar, offset, length = place
    content = bytearray(tar.read_bytes())
    content[offset : offset + length] = b"x" * length
    tar.write_bytes(content)
    run = train_run(shards, load_recipe(None, SETTINGS), tmp_path / "run")
    assert len(run.read_log()) == 2
    assert capsys.readouterr().err.count("left out:") == 1


def test_writing_that_was_killed_starts_again(stripes: Path, tmp_path: Path) -> None:
    """What is left of it is thrown away; tars that somebody else put there are not touched."""
    out = tmp_path / "shards"
    out.mkdir()
    (out / "train-000077.tar").write_bytes(b"half")
    with pytest.raises(UserError, match=r"holds other files \(train-000077\.tar\)"):
        write_shards(read_dataset(stripes), out)
    assert (out / "train-000077.tar").read_bytes() == b"half"
    (out / ".writing").touch()
    (out / ".train-000001.tar.part").write_bytes(b"half")
    write_shards(read_dataset(stripes), out)
    check_tars(out)
    assert sorted(item.name for item in out.iterdir()) == [
        "index.bin", "names.csv.gz", "shards.json", "test-000000.tar", "train-000000.tar", "val-000000.tar",
    ]  # fmt: skip


def test_tars_of_tars_are_read_in_place(tmp_path: Path) -> None:
    """As ImageNet-22K comes: a tar that holds a tar for each class."""
    inner = tmp_path / "n01.tar"
    with tarfile.open(inner, "w") as archive:
        for number in range(3):
            info = tarfile.TarInfo(f"n01_{number}.JPEG")
            info.size = 1000 + number
            archive.addfile(info, BytesIO(bytes([number]) * info.size))
    with tarfile.open(tmp_path / "whole.tar", "w") as archive:
        archive.add(inner, "n01.tar")
        archive.add(inner, "n02.tar")
    found = [(name, member) for name, inner in nested(tmp_path / "whole.tar") for member in inner]
    assert [name for name, _ in found] == ["n01.tar"] * 3 + ["n02.tar"] * 3
    for number, (_, member) in enumerate(found):
        file = open_member(member_path(tmp_path / "whole.tar", member.offset, member.length))
        assert file is not None
        assert file.read() == bytes([number % 3]) * (1000 + number % 3)
    (tmp_path / "whole.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[:3000])
    with pytest.raises(DataError, match="not a whole tar"):
        [list(inner) for _, inner in nested(tmp_path / "whole.tar")]


@pytest.fixture
def server(shards: Path, serve: Callable[[Path], str]) -> str:
    """The shards behind a server on this machine; its address."""
    return serve(shards)


def test_shards_on_a_server_train_as_those_on_disk(server: str, shards: Path, tmp_path: Path) -> None:
    """The same weights, bit for bit; tars come when they are wanted."""
    local = train_run(shards, load_recipe(None, SETTINGS), tmp_path / "local")
    remote = train_run(server, load_recipe(None, SETTINGS), tmp_path / "remote")
    a, b = read_model(local.last)[0], read_model(remote.last)[0]
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_an_address_is_known_and_a_wrong_one_is_said(server: str) -> None:
    """A path swallows a slash of an address; 404 is the user's to put right."""
    assert address_of(Path(server)) == server == address_of(f"{server}/shards.json")
    assert address_of("/data/http") == ""
    with pytest.raises(DataError, match="the server answers 404"):
        open_remote(f"{server}/nothing", 10**9)


def test_a_tar_that_ends_early_is_not_taken(server: str, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one with another content: reading stops, and the message says why."""
    import convnext.data.shards.remote as remote

    monkeypatch.setattr(remote.time, "sleep", lambda seconds: None)
    folder = open_remote(server, 10**9)
    sample = next(iter(read_sharded(Path(server), folder, targets=ClassTargets()).splits["train"]))
    tar = shards / "train-000000.tar"
    content = tar.read_bytes()
    tar.write_bytes(content[:-512])
    with pytest.raises(SourceLost, match="it ended after"):
        read_pixels(sample.path)
    tar.write_bytes(content[:-1] + b"x")
    with pytest.raises(SourceLost, match="not what was written"):
        read_pixels(sample.path)
    tar.write_bytes(content)
    assert read_pixels(sample.path).shape == (40, 40, 3)


def test_shards_that_were_written_anew_are_fetched_anew(
    serve: Callable[[Path], str], write_stripes: Callable[..., Path], tmp_path: Path
) -> None:
    """Tars of the same names and lengths with other pictures: those in the cache are of the shards before."""
    out = tmp_path / "shards"
    address = serve(out)
    found = []
    for seed in (0, 1):
        data = tmp_path / f"data-{seed}"
        for split in ("train", "val"):
            write_stripes(data / split, {"a": 12, "b": 12}, seed=seed + 2 * (split == "val"))
        for file in data.rglob("*.png"):  # of one length, whatever is in them
            Image.open(file).save(file.with_suffix(".bmp"))
            file.unlink()
        shutil.rmtree(out, ignore_errors=True)
        write_shards(read_dataset(data), out)
        samples = read_sharded(Path(address), open_remote(address, 10**9), targets=ClassTargets()).splits["train"]
        found.append(np.stack([read_pixels(sample.path) for sample in samples]))
    assert found[0].shape == found[1].shape
    assert not np.array_equal(*found)
    assert len(list(place_of(address).rglob("train-000000.tar"))) == 2
    open_remote(address, 1)
    assert not list(place_of(address).rglob("*.tar")), "tars of shards that are gone count within the budget too"


def test_a_glimpse_opens_one_tar(stripes: Path, tmp_path: Path) -> None:
    """Sizes and the pictures of the report come from the first tar, since the others might have to be fetched."""
    samples = read_sharded(small_tars(stripes, tmp_path / "shards"), targets=ClassTargets()).splits["train"]
    names = {samples[i].path.parent.name for i in glimpse(samples, 12)}
    assert len({str(samples[i].path).partition(".tar")[0] for i in glimpse(samples, 12)}) == 1, names
    assert list(glimpse(list(samples), 7)) == [n * (len(samples) // 7) for n in range(7)]
    assert list(glimpse([], 7)) == []


MEASURE = """
import resource, sys
from pathlib import Path
import numpy as np
from convnext.data.shards.read import read_sharded
from convnext.data.shards.scan import index_tars
from convnext.data.shards.order import ShardSampler
from convnext.data.pictures.decode import read_pixels
from convnext.tasks.classify.targets import ClassTargets
samples = read_sharded(Path(sys.argv[1]), targets=ClassTargets()).splits["train"]
steps = 0
for batch in ShardSampler(samples, 64, 0, 32):
    steps += 1
    if steps <= 40:
        for index, _, _ in batch[:4]:
            read_pixels(samples[index].path)
print(len(samples), steps, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """A hundred times as many pictures (and tars): a whole epoch's order and 160 pictures, in as much memory."""
    from convnext.data.shards.meta import RECORD

    buffer = BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, "PNG")
    data = buffer.getvalue()
    peaks = []
    for tars in (10, 1000):
        folder = tmp_path / str(tars)
        folder.mkdir()
        each = 2000  # pictures of a tar: all of them the same one, so that the disk is small
        rows = np.zeros(tars * each, RECORD)
        rows["shard"], rows["length"] = np.repeat(np.arange(tars), each), len(data)
        rows.tofile(folder / "index.bin")
        shards = [
            {"name": f"train-{n:06d}.tar", "split": "train", "pictures": each, "bytes": len(data), "sha256": ""}
            for n in range(tars)
        ]
        for shard in shards:
            (folder / str(shard["name"])).write_bytes(data)
        meta = {"version": 1, "classes": ["a", "b"], "counts": {"train": [tars * each, 0]}, "shards": shards}
        (folder / "shards.json").write_text(json.dumps(meta | {"fingerprint": "x"}))
        done = subprocess.run([sys.executable, "-c", MEASURE, str(folder)], capture_output=True, text=True, check=True)
        pictures, steps, peak = map(int, done.stdout.split())
        assert (pictures, steps) == (tars * each, tars * each // 64)
        peaks.append(peak / 1024)
    assert peaks[1] - peaks[0] < 4, peaks  # the list of tars; the index alone has 40 MB


@pytest.mark.parametrize("form", ["names", "numbers", "json"])
def test_tars_that_webdataset_wrote_are_indexed(form: str, stripes: Path, tmp_path: Path) -> None:
    """Labels as names, numbers or JSON; splits by the tars' names; the pictures are those that went in."""
    webdataset = pytest.importorskip("webdataset")
    source, folder = read_dataset(stripes), tmp_path / "tars"
    folder.mkdir()
    for split, samples in source.splits.items():
        with webdataset.TarWriter(str(folder / f"stripes-{split}-000000.tar")) as writer:
            for number, sample in enumerate(samples):
                label = sample.target[0]
                name = source.classes[label]
                content = {
                    "names": {"cls": name.encode()},
                    "numbers": {"cls": label},
                    "json": {"json": {"label": name}},
                }
                writer.write({"__key__": f"{number:05d}", "png": sample.path.read_bytes(), **content[form]})
    assert main(["data", "index", str(folder)]) == 0
    found = read_sharded(folder, targets=ClassTargets())
    assert found.classes == (("0", "1") if form == "numbers" else source.classes)
    for split in source.splits:
        assert counts(found, split) == counts(source, split)
        got = [(read_pixels(s.path).tobytes(), s.target) for s in found.splits[split]]
        assert got == [(read_pixels(s.path).tobytes(), s.target) for s in source.splits[split]]
    with pytest.raises(UserError, match="has an index already"):
        index_tars(folder)


def test_a_picture_without_a_label_is_said(tmp_path: Path) -> None:
    """With its name and its tar."""
    with tarfile.open(tmp_path / "train-0.tar", "w") as archive:
        info = tarfile.TarInfo("a.jpg")
        info.size = 3
        archive.addfile(info, BytesIO(b"abc"))
    with pytest.raises(DataError, match=r"train-0\.tar: a\.jpg has no \.cls or \.json"):
        index_tars(tmp_path)
    with pytest.raises(DataError, match="no tars in it"):
        index_tars(tmp_path / "nothing")
