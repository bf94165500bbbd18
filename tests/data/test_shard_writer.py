"""Writing shards: reduced pictures, files that break, a disk that is full, memory that does not grow."""

from __future__ import annotations

import csv
import errno
import gzip
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.__main__ import main
from convnext.data.alone import alone
from convnext.data.pictures.decode import read_pixels
from convnext.data.shards.read import check_tars, read_sharded
from convnext.data.shards.writer import MARK, reduced, write_shards
from convnext.data.sources.columns import Columns
from convnext.errors import UserError
from convnext.tasks.classify.meaning import counts
from convnext.tasks.classify.targets import ClassTargets, read_dataset


def photo(size: tuple[int, int], kind: str, mode: str = "RGB", orientation: int = 1) -> bytes:
    """A smooth picture of (width, height) as a file."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    picture = Image.fromarray(np.stack([x, y, (x + y) / 2], -1).astype(np.uint8)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = BytesIO()
    picture.save(out, kind, exif=exif)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_large_pictures_are_reduced_as_pillow_reduces_them(kind: str) -> None:
    """The short side is what was asked for, upright; the pixels are Pillow's own, but for the JPEG."""
    data = photo((300, 200), kind, orientation=6)
    small = Image.open(BytesIO(reduced(data, Path("x"), 100)))
    assert small.size == (100, 150)
    assert small.format == kind
    upright = Image.open(BytesIO(data)).transpose(Image.Transpose.ROTATE_270)
    wanted = np.asarray(upright.resize((100, 150), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(np.asarray(small).astype(int) - wanted).max() <= (12 if kind == "JPEG" else 1)


def test_small_pictures_and_transparency_stay() -> None:
    """A file that is small enough stays byte for byte; alpha is kept; gray in colour is gray."""
    data = photo((120, 100), "JPEG")
    assert reduced(data, Path("x"), 100) == data
    clear = Image.new("RGBA", (200, 200), (10, 20, 30, 40))
    out = BytesIO()
    clear.save(out, "PNG")
    small = Image.open(BytesIO(reduced(out.getvalue(), Path("x"), 100)))
    found = np.array(small.getpixel((50, 50)))
    assert np.abs(found - (10, 20, 30, 40)).max() <= 3  # Pillow multiplies by alpha and back
    assert found[3] == 40
    gray = Image.open(BytesIO(reduced(photo((200, 200), "PNG", "L"), Path("x"), 50))).convert("L")
    assert gray.size == (50, 50)


def test_the_command_reduces(stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures of 40 pixels to 20; said where the data is read; the hashes hold."""
    assert main(["data", "shard", str(stripes), str(tmp_path / "shards"), "--side", "20"]) == 0
    assert "80 pictures in 3 tars: convnext train" in capsys.readouterr().out
    assert main(["data", "check", str(tmp_path / "shards")]) == 0
    found = read_sharded(tmp_path / "shards", targets=ClassTargets())
    assert {read_pixels(s.path).shape for s in found.splits["train"]} == {(20, 20, 3)}
    assert "larger pictures were reduced to a short side of 20 pixels" in found.notes


def test_a_picture_that_goes_away_meanwhile_is_named(stripes: Path, tmp_path: Path) -> None:
    """It is left out, and every other is there."""
    source = read_dataset(stripes)
    lost = source.splits["train"][3].path
    lost.unlink()
    done = write_shards(source, tmp_path / "shards")
    assert done.pictures == 79
    assert done.left_out == [f"{lost}: no such file"]
    found = read_sharded(tmp_path / "shards", targets=ClassTargets())
    assert len(found.splits["train"]) == len(source.splits["train"]) - 1
    assert any(str(lost) in note for note in found.notes)


def test_a_full_disk_is_said_and_writing_starts_again(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a data set is never taken for a whole one."""
    import convnext.data.shards.writer as writer

    add, calls = writer._Tar.add, 0

    def full(self: writer._Tar, name: str, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        return add(self, name, data)

    monkeypatch.setattr(writer._Tar, "add", full)
    out = tmp_path / "shards"
    with pytest.raises(UserError, match=r"no space left on device.*free some space, then start again"):
        write_shards(read_dataset(stripes), out, megabytes=0.03)
    assert not (out / "shards.json").exists()
    (out / "mine.tar").write_bytes(b"of somebody else")
    monkeypatch.setattr(writer._Tar, "add", add)
    assert write_shards(read_dataset(stripes), out, megabytes=1).tars == 3
    check_tars(out)
    assert len(list(out.glob("*.tar"))) == 4
    assert (out / "mine.tar").read_bytes() == b"of somebody else"


def test_every_picture_can_be_found_by_its_old_name(stripes: Path, tmp_path: Path) -> None:
    """names.csv.gz has a row for each, with the file that it was."""
    out = tmp_path / "shards"
    done = write_shards(read_dataset(stripes), out, megabytes=0.03)
    with gzip.open(out / "names.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == done.pictures
    for row in rows:
        with tarfile.open(out / row["tar"]) as archive:
            held = archive.extractfile(row["name"])
            assert held is not None
            assert held.read() == (stripes / row["path"]).read_bytes()


def test_two_processes_do_not_write_into_one_folder(stripes: Path, tmp_path: Path) -> None:
    """The second would take the first for one that was killed, and remove its tars."""
    out = tmp_path / "shards"
    out.mkdir()
    with alone(out / MARK), pytest.raises(UserError, match="another process is writing shards into"):
        write_shards(read_dataset(stripes), out)
    assert write_shards(read_dataset(stripes), out).pictures > 0
    assert not (out / MARK).exists()


def test_the_order_is_mixed_and_follows_from_the_seed(stripes: Path, tmp_path: Path) -> None:
    """The same tars, bit for bit, from the same seed; each has pictures of both classes."""
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_shards(read_dataset(stripes), tmp_path / name, megabytes=0.03, seed=seed)
    names = sorted(tar.name for tar in (tmp_path / "a").glob("*.tar"))
    assert len(names) > 5
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in [*names, "names.csv.gz"])
    assert (tmp_path / "a" / names[-2]).read_bytes() != (tmp_path / "c" / names[-2]).read_bytes()
    with tarfile.open(tmp_path / "a" / "train-000000.tar") as archive:
        labels = [archive.extractfile(m).read() for m in archive if m.name.endswith(".cls")]  # type: ignore[union-attr]
    assert set(labels) == {b"0", b"1"}


MEASURE = """
import resource, sys
from pathlib import Path
from convnext.data.shards.scan import index_tars
from convnext.tasks.classify.tars import read_tars
root, into = Path(sys.argv[1]), Path(sys.argv[2])
print(index_tars(root, into=into), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_while_an_index_is_made(tmp_path: Path) -> None:
    """Fifty times as many pictures, in as many tars, in as much memory."""
    peaks = []
    for pictures in (600, 30_000):
        folder, into = tmp_path / f"{pictures}", tmp_path / f"{pictures}-index"
        folder.mkdir()
        into.mkdir()
        for tar in range(3):
            with tarfile.open(folder / f"train-{tar}.tar", "w") as archive:
                for number in range(pictures // 3):
                    for name, data in ((f"{number}.png", b"a picture"), (f"{number}.cls", b"%d" % (number % 7))):
                        info = tarfile.TarInfo(name)
                        info.size = len(data)
                        archive.addfile(info, BytesIO(data))
                        archive.members = []  # type: ignore[attr-defined]
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(folder), str(into)], capture_output=True, text=True, check=True
        )
        found, peak = map(int, done.stdout.split())
        assert found == pictures
        peaks.append(peak / 1024)
    assert peaks[1] - peaks[0] < 6, peaks


def test_a_table_is_sharded_by_the_settings_that_train_takes(
    stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Odd columns, labels joined by commas and a share for test; what would change nothing is refused, as are words."""
    table = tmp_path / "odd.csv"
    files = sorted(stripes.rglob("*.png"))
    rows = [f'{file.relative_to(tmp_path)},"{file.parent.name},striped"' for file in files]
    table.write_text("\n".join(["Foto,Sorte", *rows]) + "\n")
    columns = ["data.path_column=Foto", "data.label_column=Sorte", "data.label_separator=comma", "data.test=0.3"]
    out = tmp_path / "shards"
    assert main(["data", "shard", str(table), str(out), *columns]) == 0
    found = read_sharded(out, targets=ClassTargets())
    assert found.classes == ("narrow", "striped", "wide")
    assert found.multi_label
    plain = read_dataset(table, test=0.3, columns=Columns("Foto", "Sorte", separator="comma"))
    assert {split: counts(found, split) for split in ("train", "val", "test")} == {
        split: counts(plain, split) for split in ("train", "val", "test")
    }
    capsys.readouterr()
    assert main(["data", "shard", str(table), str(tmp_path / "other"), *columns, "train.epochs=3"]) == 2
    assert "train.epochs=3 changes nothing in shards" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
