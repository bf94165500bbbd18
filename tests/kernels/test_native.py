"""Building and loading our kernels: once, checked, optional, and without a trace in the rest of the process."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from convnext.kernels import native, own_folder
from convnext.kernels.own_folder import BUILDING, OwnFolder
from convnext.nn.create import create_model

HERE = pytest.mark.skipif(not native.available(), reason=f"no kernels here: {native.why_not()}")


@HERE
def test_loading_leaves_subnormal_numbers_alone() -> None:
    """A library linked with -ffast-math would flush them to zero in the whole process."""
    small = np.float32(1e-40)
    assert small * np.float32(0.5) > 0
    assert float(torch.tensor(1e-40) * 0.5) > 0


@HERE
def test_what_is_in_the_cache_is_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's name says what it is made of; another compiler is another library."""

    def refuse(*_: object) -> None:
        raise AssertionError("it was built again")

    monkeypatch.setattr(native, "_build", refuse)
    assert native.built()
    target = native._target(native._compiler())
    assert os.read(native._compiled(), 1 << 30) == target.read_bytes()
    assert native._target("another compiler") != target


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; what is built there are five bytes."""
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(native, "_state", {})
    native._say_refused.cache_clear()

    def build(compiler: str, folder: OwnFolder, name: str) -> None:
        for content, at in ((b"built", name), (hashlib.sha256(b"built").hexdigest().encode(), native._seal_of(name))):
            made = folder.place / f"{BUILDING}{at}"
            made.write_bytes(content)
            folder.put(made, at)

    monkeypatch.setattr(native, "_build", build)
    return tmp_path / "cache" / "kernels"


def opened() -> bytes:
    """What would be loaded."""
    handle = native._compiled()
    try:
        return os.read(handle, 100)
    finally:
        os.close(handle)


@HERE
def test_a_damaged_library_is_built_again(cache: Path) -> None:
    """Loading half a library ends the process; what was changed, or has no seal, is not loaded."""
    target = native._target(native._compiler())
    assert target.parent == cache
    for damage in (lambda: None, lambda: target.write_bytes(b"bui"), target.with_suffix(".sha256").unlink):
        damage()
        assert not native.built()
        assert opened() == b"built"
        assert native.built()


@HERE
def test_what_is_built_is_closed_to_others(cache: Path) -> None:
    """Whatever the umask says, which on many systems lets the group write."""
    before = os.umask(0)
    try:
        assert opened() == b"built"
    finally:
        os.umask(before)
    assert cache.stat().st_mode & 0o077 == 0
    assert all(file.stat().st_mode & 0o077 == 0 for file in cache.iterdir())


def forged(cache: Path) -> Path:
    """A library of somebody else's in the place of ours, with a seal that fits."""
    target = native._target(native._compiler())
    target.write_bytes(b"theirs")
    target.with_suffix(".sha256").write_text(hashlib.sha256(b"theirs").hexdigest())
    return target


@HERE
@pytest.mark.parametrize("how", ["folder of another", "folder open to all", "folder open to the group"])
def test_from_a_folder_that_others_may_write_nothing_is_loaded(
    how: str, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither loaded nor built there: the reason is known and said in one line, once, and stock operators answer."""
    cache.mkdir(parents=True)
    target = forged(cache)
    cache.chmod({"folder open to all": 0o777, "folder open to the group": 0o770}.get(how, 0o755))
    if how == "folder of another":
        me = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    monkeypatch.setattr(native.ctypes, "CDLL", lambda *_: pytest.fail("it was loaded"))
    assert not native.available(build=False)
    assert not native.available()
    words = "belongs to user" if how == "folder of another" else "others may write to"
    assert words in native.why_not()
    assert str(cache) in native.why_not()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "our kernels are not used" in said[0]
    assert target.read_bytes() == b"theirs"
    x = torch.ones(1, 3, 32, 32)
    assert create_model("convnext_atto", num_classes=2).eval()(x).isfinite().all()


@HERE
@pytest.mark.parametrize("how", ["open to others", "link", "pipe"])
def test_a_file_that_others_may_have_written_is_built_anew(how: str, cache: Path, tmp_path: Path) -> None:
    """In a folder that was once open to others: neither a file that they may write, nor a link, nor a pipe is read."""
    cache.mkdir(parents=True, mode=0o700)
    target = forged(cache)
    if how == "open to others":
        target.chmod(0o666)
    else:
        target.unlink()
        (tmp_path / "theirs").write_bytes(b"theirs")
        target.symlink_to(tmp_path / "theirs") if how == "link" else os.mkfifo(target)
    assert not native.built()
    assert opened() == b"built"
    assert how == "open to others" or (tmp_path / "theirs").read_bytes() == b"theirs"


@HERE
def test_a_folder_that_is_swapped_meanwhile_changes_nothing(cache: Path) -> None:
    """Who may write further up can rename our folder and put another in its place: the open one is gone on with."""
    with OwnFolder(cache, make=True) as folder:
        cache.rename(cache.with_name("away"))
        cache.mkdir()
        native._build("", folder, "library.so")
        assert folder.read("library.so") == b"built"
    assert list(cache.iterdir()) == []


@HERE
def test_what_killed_builds_left_is_removed(cache: Path) -> None:
    """By the next that builds: folders of builds, and old ones of earlier versions; nothing else."""
    left = [cache / "building-abc", cache / "tmpabcdefgh"]
    kept = [cache / "tmpyoung", cache / "mine"]
    for folder in (*left, *kept):
        folder.mkdir(parents=True)
        (folder / "kernels.cpp").write_text("")
    cache.chmod(0o700)
    os.utime(left[1], (0, 0))
    opened()
    assert [folder.exists() for folder in (*left, *kept)] == [False, False, True, True]


@HERE
def test_a_held_lock_is_said_and_not_waited_for_for_ever(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a few seconds a line says what is waited for; in the end stock operators do the work."""
    monkeypatch.setattr(own_folder, "SAY_AFTER", 0.1)
    monkeypatch.setattr(own_folder, "GIVE_UP_AFTER", 0.5)
    with OwnFolder(cache, make=True) as folder, folder.alone("build.lock", "builds"):
        assert not native.available()
    assert "another process holds" in native.why_not()
    said = capsys.readouterr().err
    assert said.count("waiting for another process that builds our kernels (it holds ") == 1
    assert str(cache / "build.lock") in said


@HERE
def test_a_file_system_without_locks_is_no_obstacle(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes may then build side by side; each puts a whole library in its place."""

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(own_folder.fcntl, "flock", none)
    assert opened() == b"built"


def test_a_full_disk_is_called_that(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the last words of the linker."""
    said = "/usr/bin/ld: final link failed: No space left on device\ncollect2: error: ld returned 1 exit status\n"
    error = subprocess.CalledProcessError(1, "g++", stderr=said)
    assert native._first_line(error).endswith("is full")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [("CONVNEXT_NATIVE", "0", "CONVNEXT_NATIVE is 0"), ("ATEN_CPU_CAPABILITY", "default", "torch runs with DEFAULT"),
     ("CXX", "/nowhere/c++", "cannot be built here")],
)  # fmt: skip
def test_without_kernels_everything_works(variable: str, value: str, words: str, tmp_path: Path) -> None:
    """Turned off, on an old processor, without a compiler: the reason is known, and a network still answers."""
    code = (
        "import torch; from convnext.kernels import native; from convnext.nn.create import create_model\n"
        "m = create_model('convnext_atto'); print(m(torch.zeros(1, 3, 32, 32)).shape); print(native.why_not())"
    )
    environment = {**os.environ, variable: value, "CONVNEXT_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "torch.Size([1, 1000])" in done.stdout
    assert words in done.stdout


@HERE
def test_kernels_that_compute_something_else_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check at load compares every operator with torch."""
    monkeypatch.setattr(native, "_state", {})
    monkeypatch.setattr(native, "_agrees", lambda: False)
    assert not native.available()
    assert "something else" in native.why_not()
    assert not native.matrix_units()


@HERE
def test_narrower_vectors_are_another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """ATEN_CPU_CAPABILITY=avx2 holds for our kernels as well."""
    here = native._flags()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    wide = native._target("g++")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert native._target("g++") != wide
    assert set(native._flags()) - set(here) <= {"-mno-avx512f"}
