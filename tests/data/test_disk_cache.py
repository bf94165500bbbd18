"""Decoded pictures on disk: the same pixels, within the budget, and never trusted when they should not be."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from convnext.data.feed import disk_cache, loader
from convnext.data.feed.augment import TrainTransform
from convnext.data.feed.disk_cache import DiskBudget
from convnext.data.feed.loader import Collate, EpochSampler, TrainPictures, train_loader
from convnext.data.pictures import picture_file
from convnext.data.sources.dataset import Sample
from convnext.places import cache_dir
from convnext.recipe import AugmentRecipe, DataRecipe
from convnext.tasks.classify.meaning import Classes

COUNT = 12
SIDE = 20
PICTURE = 3 * SIDE * (SIDE + 4)
"""Bytes of one decoded picture of `root`."""
ENTRY = 40


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of small pictures of noise."""
    return write_pictures(tmp_path / "data")


def write_pictures(folder: Path, count: int = COUNT, seed: int = 0) -> Path:
    """Lossless pictures, all of one size."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for number in range(count):
        pixels = rng.integers(0, 256, (SIDE, SIDE + 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return folder


def pictures(root: Path, short_side: int = SIDE, in_chans: int = 3) -> TrainPictures:
    """The pictures of a folder, not enlarged or reduced unless `short_side` is smaller."""
    transform = TrainTransform(DataRecipe(), AugmentRecipe(color_jitter=0.0), 16, in_chans)
    return TrainPictures([Sample(path, (0,)) for path in sorted(root.iterdir())], transform, short_side, "bicubic")


def filled(
    root: Path, budget: float = 1e9, memory: int = 0, said: list[str] | None = None, short_side: int = SIDE
) -> TrainPictures:
    """The same, with decoded pictures in memory and on disk."""
    made = pictures(root, short_side)
    say = (lambda text: None) if said is None else said.append
    made.fill_cache(memory, 2, disk=DiskBudget(str(root), int(budget), say))
    return made


def held(made: TrainPictures) -> tuple[int, int]:
    """How many pictures are in memory and on disk."""
    assert made.cache is not None
    return made.cache.count()


def files() -> list[Path]:
    """Everything in the folder of decoded pictures."""
    folder = cache_dir() / "pictures"
    return sorted(folder.iterdir()) if folder.exists() else []


def decoded_by_pillow(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)


def assert_exact(made: TrainPictures) -> None:
    """Every picture is what Pillow reads from its file now, wherever it comes from."""
    assert made.cache is not None
    for index, sample in enumerate(made.samples):
        found = made.cache.get(index)
        picture = made.decode(index) if found is None else found
        assert torch.equal(picture, decoded_by_pillow(sample.path)), index


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded, as it happens."""
    names: list[str] = []

    def read(path: Path, **kind: object) -> object:
        names.append(path.name)
        return original(path, **kind)

    original = loader.read_pixels
    monkeypatch.setattr(loader, "read_pixels", read)
    return names


def test_pictures_from_disk_are_those_that_pillow_decodes(root: Path) -> None:
    """All on disk, some in memory and the rest on disk, some decoded anew: the same pixels, and the same augmented."""
    fresh = pictures(root)
    made = {
        (0, COUNT): filled(root),
        (4, COUNT - 4): filled(root, memory=4 * PICTURE + 5),
        (2, 3): filled(root, 3 * (PICTURE + ENTRY) + 1000, memory=2 * PICTURE),
    }
    for expected, kept in made.items():
        assert held(kept) == expected
        assert_exact(kept)
        for index in range(COUNT):
            assert torch.equal(kept[index, 7, 16][0], fresh[index, 7, 16][0])  # type: ignore[arg-type]


def test_reduced_and_gray_pictures_have_files_of_their_own(root: Path) -> None:
    """Short side and mode decide the pixels: each has its file, and gives what is decoded for it."""
    budget = DiskBudget(str(root), 10**9)
    for short_side, in_chans in ((SIDE, 3), (10, 3), (SIDE, 1)):
        made = pictures(root, short_side, in_chans)
        made.fill_cache(0, 2, disk=budget)
        assert made.cache is not None
        for index in range(COUNT):
            found = made.cache.get(index)
            assert found is not None
            assert torch.equal(found, made.decode(index))
            assert found.shape[0] == in_chans
            assert min(found.shape[1:]) == short_side
    assert len(files()) == 3


def test_the_next_run_decodes_nothing(root: Path, decoded: list[str]) -> None:
    """Neither while it is filled nor while it is read; the file stays as it is."""
    filled(root)
    assert sorted(decoded) == sorted(path.name for path in root.iterdir())
    before = files()[0].read_bytes()
    decoded.clear()
    again = filled(root)
    batches = [again[index, 3, 16] for index in range(COUNT)]
    assert decoded == []
    assert all(picture is not None and not failed for picture, _, _, failed in batches)
    assert files()[0].read_bytes() == before
    assert held(filled(root, memory=10**6)) == (COUNT, 0)  # memory is filled from the disk, too
    assert decoded == []
    assert_exact(again)


def test_the_file_is_the_same_each_time(root: Path) -> None:
    """Its bytes depend on the pictures alone, whatever thread was first."""
    filled(root)
    first = files()[0].read_bytes()
    files()[0].unlink()
    filled(root)
    assert files()[0].read_bytes() == first


@pytest.mark.parametrize("budget", [0, 100, 1500, 5000, COUNT * (PICTURE + ENTRY), 10**6])
def test_no_file_is_larger_than_the_budget(root: Path, budget: int) -> None:
    """And as many pictures are in it as fit; what is beyond is decoded, in the next run as well."""
    for _ in range(2):
        made = filled(root, budget)
        size = sum(path.stat().st_size for path in files())
        assert size <= budget
        kept = held(made)[1]
        assert kept == min(COUNT, max(0, budget - 300) // (PICTURE + ENTRY))
        assert_exact(made)


def test_a_smaller_budget_makes_a_smaller_file(root: Path) -> None:
    """The old file goes when it is too large, and that is said with the knob."""
    filled(root)
    said: list[str] = []
    made = filled(root, 3 * (PICTURE + ENTRY) + 400, said=said)
    assert files()[0].stat().st_size <= 3 * (PICTURE + ENTRY) + 400
    assert held(made) == (0, 3)
    assert len(said) == 1
    assert re.search(r"removed the decoded pictures of .*data.disk_cache_gb = 4\.\d+e-06", said[0])
    assert_exact(made)


def test_changed_pictures_are_decoded_anew_and_the_others_are_not(root: Path, decoded: list[str]) -> None:
    """By path, by size, and by time of change; new files come in, those that are gone go out of the file."""
    filled(root)
    paths = sorted(root.iterdir())
    times = paths[0].stat()
    Image.new("RGB", (SIDE + 4, SIDE), "red").save(paths[0])
    os.utime(paths[0], ns=(times.st_atime_ns, times.st_mtime_ns))  # another size alone
    data = bytearray(paths[1].read_bytes())
    paths[1].write_bytes(data)
    os.utime(paths[1], (1e9, 1e9))  # another time alone
    paths[2].rename(root / "new.png")
    paths[3].unlink()
    decoded.clear()
    made = filled(root)
    assert sorted(decoded) == ["00.png", "01.png", "new.png"]
    assert held(made) == (0, COUNT - 1)
    assert files()[0].stat().st_size < (COUNT - 1) * (PICTURE + ENTRY) + 400
    assert_exact(made)
    decoded.clear()
    filled(root)
    assert decoded == []


@pytest.mark.parametrize("where", [0, 3 * PICTURE + 11, -10, -70, -130, -400])
def test_a_damaged_byte_is_found(root: Path, where: int) -> None:
    """In pixels, in the index, in the tail: the pixels that are given are right, and the next run has a whole file."""
    filled(root)
    file = files()[0]
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[where] ^= 0x40
    file.write_bytes(damaged)
    assert_exact(filled(root))
    made = filled(root)
    assert files()[0].read_bytes() == whole
    assert held(made) == (0, COUNT)
    assert_exact(made)


@pytest.mark.parametrize(
    "content", ["cut", "longer", "hole", "empty", "foreign", "other rules", "tail alone", "folder"]
)
def test_a_file_that_is_not_whole_or_not_ours_is_made_anew(
    root: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off, with bytes too many or too few, empty, of another program or version; a folder there is no error."""
    filled(root)
    file = files()[0]
    whole = file.read_bytes()
    if content == "other rules":
        with monkeypatch.context() as patch:
            patch.setattr(disk_cache, "_RULES", 99)
            file.unlink()
            filled(root)
    elif content == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(
            {
                "cut": whole[:-50], "longer": whole + b"x", "hole": whole[:100] + whole[101:], "empty": b"",
                "foreign": b"\x89PNG" * 2000, "tail alone": whole[-60:],
            }[content]
        )  # fmt: skip
    said: list[str] = []
    made = filled(root, said=said)
    assert_exact(made)
    if content == "folder":
        assert len(said) == 1
        assert held(made) == (0, 0)
        assert [path.name for path in files()] == [file.name]
    else:
        assert said == []
        assert file.read_bytes() == whole
        assert held(made) == (0, COUNT)


class FullDisk:
    """A file on a disk that takes `room` bytes."""

    def __init__(self, file: object, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: bytes) -> None:
        self.room -= memoryview(data).nbytes
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.file.write(data)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 3 * PICTURE, (COUNT - 1) * PICTURE + 10])
def test_a_disk_that_is_full_costs_the_file_and_nothing_else(
    root: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first picture, in the middle, at the index: one line with value, rule and remedy, and right pixels."""
    original = picture_file.NamedTemporaryFile
    monkeypatch.setattr(picture_file, "NamedTemporaryFile", lambda **kind: FullDisk(original(**kind), room))
    said: list[str] = []
    made = filled(root, memory=PICTURE, said=said)
    assert len(said) == 1
    assert "\n" not in said[0]
    assert re.search(r"No space left.*data.disk_cache_gb = 1 .*CONVNEXT_CACHE", said[0])
    assert held(made) == (1, 0)
    assert files() == []
    assert_exact(made)


def test_what_the_disk_had_survives_a_failed_addition(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file is still used when there is no room for the new one."""
    filled(root)
    Image.new("RGB", (SIDE + 4, SIDE), "red").save(root / "zz.png")
    original = picture_file.NamedTemporaryFile
    monkeypatch.setattr(picture_file, "NamedTemporaryFile", lambda **kind: FullDisk(original(**kind), 5 * PICTURE))
    said: list[str] = []
    made = filled(root, said=said)
    assert len(said) == 1
    assert held(made) == (0, COUNT)
    assert len(files()) == 1
    assert_exact(made)


def test_a_disk_without_enough_free_space_is_not_filled_up(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written when what is needed would leave less than a twentieth of the disk, or 2 GB."""
    need = COUNT * (PICTURE + ENTRY)
    for free, expected in ((need + 1000, 0), (need + 60_000, COUNT)):
        usage = SimpleNamespace(total=1_000_000, used=0, free=free)
        monkeypatch.setattr(picture_file.shutil, "disk_usage", lambda path, usage=usage: usage)
        said: list[str] = []
        made = filled(root, said=said)
        assert held(made) == (0, expected)
        assert len(said) == (0 if expected else 1)
        assert len(files()) == (1 if expected else 0)
        if said:
            assert re.search(r"GB needed, .* GB free.*Make room there, lower it", said[0])
        assert_exact(made)


def test_without_a_place_to_write_training_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No home folder, or a file where the folder should be: said once."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    (cache_dir() / "pictures").write_bytes(b"")
    said: list[str] = []
    assert held(filled(root, said=said)) == (0, 0)
    assert len(said) == 1

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(disk_cache, "cache_dir", no_home)
    assert held(filled(root, said=said)) == (0, 0)
    assert len(said) == 2
    assert "home directory" in said[1]


def test_the_least_recently_used_data_set_goes_first(tmp_path: Path) -> None:
    """Three sets share room for two: the one not used for longest is removed, and named; what still fits stays."""
    roots = [write_pictures(tmp_path / name, seed=seed) for seed, name in enumerate("abc")]
    room = 2 * (COUNT * (PICTURE + ENTRY) + 500)
    said: list[str] = []
    for age, root in zip((300, 200), roots, strict=False):
        filled(root, room, said=said)
        newest = max(files(), key=lambda path: path.stat().st_mtime)
        os.utime(newest, (newest.stat().st_mtime - age,) * 2)
    filled(roots[0], room, said=said)  # used again: now b is the oldest
    assert said == []
    filled(roots[2], room, said=said)
    assert len(said) == 1
    assert f"removed the decoded pictures of {roots[1]} " in said[0]
    assert sum(path.stat().st_size for path in files()) <= room
    said.clear()
    for root in (roots[0], roots[2]):
        assert held(filled(root, room, said=said)) == (0, COUNT)
    assert said == []
    assert_exact(filled(roots[1], room, said=said))
    assert len(said) == 1


def test_few_missing_pictures_are_not_worth_copying_all(root: Path, decoded: list[str]) -> None:
    """A file is written anew when what comes in is at least a hundredth of what must be copied for it."""
    template = (root / "00.png").read_bytes()
    for number in range(250):
        (root / f"more-{number:03d}.png").write_bytes(template)
    filled(root)
    before = files()[0].stat()
    (root / "zz-1.png").write_bytes(template)
    assert held(filled(root)) == (0, 262)
    assert files()[0].stat().st_ino == before.st_ino
    for number in range(2, 5):
        (root / f"zz-{number}.png").write_bytes(template)
    decoded.clear()
    assert held(filled(root)) == (0, 266)
    assert sorted(decoded) == [f"zz-{number}.png" for number in range(1, 5)]
    assert files()[0].stat().st_ino != before.st_ino


def test_an_interruption_keeps_what_was_decoded(root: Path, decoded: list[str]) -> None:
    """Ctrl-C after the first pictures: they are in a whole file, and the next run decodes the others only."""
    template = (root / "00.png").read_bytes()
    for number in range(300):
        (root / f"more-{number:03d}.png").write_bytes(template)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    made = pictures(root)
    with pytest.raises(KeyboardInterrupt):
        made.fill_cache(0, 2, interrupt, DiskBudget(str(root), 10**9))
    decoded.clear()
    assert_exact(filled(root))
    assert len(decoded) == 312 - 256


FILL = """
import os, signal, sys
from pathlib import Path
from convnext.data.feed.augment import TrainTransform
from convnext.data.feed.disk_cache import DiskBudget
from convnext.data.feed.loader import TrainPictures
from convnext.data.sources.dataset import Sample
from convnext.recipe import AugmentRecipe, DataRecipe

def memory(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024

root = Path(sys.argv[1])
transform = TrainTransform(DataRecipe(), AugmentRecipe(color_jitter=0.0), 16, 3)
made = TrainPictures([Sample(path, (0,)) for path in sorted(root.iterdir())], transform, int(sys.argv[2]), "bicubic")
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own that runs FILL and then `code`."""
    words = [sys.executable, "-W", "error", "-c", FILL + code, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def test_a_killed_process_leaves_nothing_that_is_trusted(root: Path) -> None:
    """Killed after the last byte, before the file has its name: what it wrote is not read, and goes later."""
    kill = """
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
made.fill_cache(0, 1, disk=DiskBudget(str(root), 10**9))
"""
    process = start(kill, root, SIDE)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert [path.suffix for path in files()] == [".tmp"]
    rest = files()[0]
    assert rest.stat().st_size > COUNT * PICTURE
    os.utime(rest, (1e9, 1e9))
    made = filled(root)
    assert [path.suffix for path in files()] == [".pixels"]
    assert held(made) == (0, COUNT)
    assert_exact(made)


def test_what_another_process_is_writing_stays(root: Path) -> None:
    """A temporary file whose lock is held is not a leftover, however old it seems."""
    budget = DiskBudget("other", 10**9)
    target = cache_dir() / "pictures" / "other.pixels"
    writer = picture_file.PictureWriter(target, "other", budget)
    os.utime(writer.file.name, (1e9, 1e9))
    filled(root)
    assert Path(writer.file.name) in files()
    writer.discard()
    assert Path(writer.file.name) not in files()


def test_two_processes_at_once_do_not_disturb_each_other(root: Path) -> None:
    """Both fill the same file and read while the other replaces it: right pixels in both, and a whole file."""
    work = """
import numpy as np, torch
from PIL import Image
print("ready", flush=True)
input()
for turn in range(20):
    if turn % 3 == 2:
        [path.unlink(missing_ok=True) for path in Path(sys.argv[3]).glob("*.pixels")]
    made.fill_cache(0, 2, disk=DiskBudget(str(root), 10**9))
    for index, sample in enumerate(made.samples):
        found = made.cache.get(index)
        assert found is not None, index
        assert torch.equal(found.permute(1, 2, 0), torch.from_numpy(np.array(Image.open(sample.path))))
print("right")
"""
    both = [start(work, root, SIDE, cache_dir() / "pictures") for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in both:
        assert process.communicate(timeout=120)[0] == "right\n"
        assert process.returncode == 0
    assert [path.suffix for path in files()] == [".pixels"]
    assert held(filled(root)) == (0, COUNT)


def test_a_run_goes_on_reading_what_another_removed(tmp_path: Path) -> None:
    """A second data set takes the room while the first one trains: its pictures stay, right to the pixel."""
    first, second = (write_pictures(tmp_path / name, seed=seed) for seed, name in enumerate("ab"))
    room = COUNT * (PICTURE + ENTRY) + 500
    made = filled(first, room)
    os.utime(files()[0], (1e9, 1e9))
    filled(second, room)
    assert len(files()) == 1
    assert held(made) == (0, COUNT)
    assert_exact(made)


def test_a_pickled_copy_opens_the_file_and_carries_no_pixels(root: Path, decoded: list[str]) -> None:
    """What spawned workers get: small, with the same pixels, and right even when the file has changed or gone."""
    made = filled(root, said=[])
    sent = pickle.dumps(made)
    assert len(sent) < COUNT * PICTURE / 2
    decoded.clear()
    copy = pickle.loads(sent)
    assert held(copy) == (0, COUNT)
    assert_exact(copy)
    assert decoded == []
    Image.new("RGB", (SIDE + 4, SIDE), "red").save(root / "00.png")
    filled(root)  # another file, whose pictures are at other places
    copy = pickle.loads(sent)
    assert held(copy) == (0, COUNT - 1)
    assert_exact(copy)
    files()[0].unlink()
    assert held(pickle.loads(sent)) == (0, 0)


def test_workers_load_from_disk_however_they_are_started(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forked or spawned, they give the batches of none; only pictures in memory would be copied to spawned ones."""
    made = filled(root)
    sampler, collate = EpochSampler(COUNT, 4, 0, 16), Collate(Classes(("a",)))
    alone = [batch.pictures for batch in train_loader(made, sampler, collate, 0, False)]
    forked = train_loader(made, sampler, collate, 2, False)
    assert forked.num_workers == 2
    if multiprocessing.get_start_method() == "fork":
        assert all(torch.equal(a, b.pictures) for a, b in zip(alone, forked, strict=True))
    spawned = DataLoader(
        made, batch_sampler=sampler, collate_fn=collate, num_workers=1, multiprocessing_context="spawn"
    )
    assert all(torch.equal(a, b.pictures) for a, b in zip(alone, spawned, strict=True))
    monkeypatch.setattr(loader.multiprocessing, "get_start_method", lambda: "spawn")
    assert train_loader(made, sampler, collate, 2, False).num_workers == 2
    assert train_loader(filled(root, memory=PICTURE), sampler, collate, 2, False).num_workers == 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_the_memory_of_a_process_does_not_grow_with_the_set(tmp_path: Path) -> None:
    """Filling 158 MB and reading them twice adds at most 80 MB at any time; kept in memory they add themselves."""
    folder = tmp_path / "many"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(1600):
        Image.fromarray(rng.integers(0, 256, (180, 183, 3), dtype=np.uint8)).save(folder / f"{number:04d}.bmp")
    work = """
made[0, 0, 16]
before = memory("VmRSS")
on_disk = sys.argv[3] == "disk"
made.fill_cache(0 if on_disk else 10**9, 2, disk=DiskBudget(str(root), 10**9) if on_disk else None)
for seed in range(2):
    for index in range(len(made)):
        assert made.cache.get(index) is not None
print(memory("VmHWM") - before)
"""
    grown = {}
    for side in ("disk", "memory"):
        process = start(work, folder, 180, side)
        grown[side] = int(process.communicate(timeout=240)[0])
    pixels = 1600 * 180 * 183 * 3
    assert grown["memory"] > pixels
    assert grown["disk"] < 80e6, json.dumps(grown)


def test_the_knob_fills_memory_first_and_the_disk_with_the_rest(
    root: Path, write_stripes: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the recipe has it, and it is said where the pictures are."""
    from convnext.config import load_recipe
    from convnext.tasks.classify.targets import read_dataset
    from convnext.train.distributed import Ranks
    from convnext.train.parts import make_parts
    from convnext.train.prepare import fill_caches

    data = read_dataset(write_stripes(tmp_path / "stripes", {"a": 20, "b": 20}))
    train = len(data.splits["train"])
    settings = [
        "model.name=convnext_atto", "data.size=32", "data.eval_size=32", "data.cache_gb=2.4e-5",
        "data.disk_cache_gb=0.00007", f"data.root={data.root}",
    ]  # fmt: skip
    parts = make_parts(load_recipe(None, settings), data)
    fill_caches(parts, load_recipe(None, settings), Ranks())
    memory, disk = held(parts.train_set)
    assert (memory, disk) == (24_000 // 4800, (70_000 - 300) // 4840)
    assert_exact(parts.train_set)
    half = make_parts(load_recipe(None, settings), data)
    fill_caches(half, load_recipe(None, settings), Ranks(here=2))
    assert held(half.train_set)[0] == 12_000 // 4800, "two processes on a machine have half of its memory each"
    line = f"decoded pictures: {memory} in memory, {disk} on disk, {train - memory - disk} decoded every epoch"
    assert line in capsys.readouterr().err
