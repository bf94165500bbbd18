"""Servers that drip or never end, links in the places of temporary files, disks without locks."""

from __future__ import annotations

import errno
import gzip
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import convnext.data.pictures.fetch as fetching
import convnext.data.shards.remote as remote
import convnext.data.shards.server as pace
from convnext.data import alone as locks
from convnext.data.shards import open as shard_source
from convnext.data.shards.open import open_shards, shard_names
from convnext.data.shards.read import check_tars, list_shards, read_sharded
from convnext.data.shards.scan import index_tars
from convnext.data.shards.writer import write_shards
from convnext.data.sources.reading import Reading
from convnext.errors import DataError, SourceLost, UserError
from convnext.tasks.classify.targets import ClassTargets, read_dataset

KEPT = b"a file of mine"
Answer = Callable[[socket.socket], None]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A file outside, to which links lead."""
    (tmp_path / "mine.txt").write_bytes(KEPT)
    return tmp_path / "mine.txt"


@pytest.fixture
def answering() -> Iterator[Callable[[Answer], str]]:
    """The function that starts a server which answers every connection so, and gives its address."""
    listening: list[socket.socket] = []

    def start(answer: Answer) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)

        def work(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.recv(65536)
                answer(connection)

        def listen() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=work, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=listen, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}"

    yield start
    for server in listening:
        server.close()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds pass a hundred times as fast: a wait is said after 0.1 s and ends after 0.6 s."""
    monkeypatch.setattr(pace, "TOLD", 0.1)
    monkeypatch.setattr(fetching, "TOLD", 0.1)
    monkeypatch.setattr(pace, "PATIENCE", 0.6)
    monkeypatch.setattr(fetching, "BLOCK", 1 << 20)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def drip(connection: socket.socket, text: bytes = b"x") -> None:
    """A byte at a time, for ever."""
    pause = threading.Event()
    while not pause.wait(0.02):
        connection.sendall(text)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        lambda c: (c.sendall(HEAD), drip(c)),  # the content
        lambda c: (c.sendall(b"HTTP/1.1 200 OK\r\nX-"), drip(c)),  # a line of the headers
        lambda c: (c.sendall(b"HTTP/1.1 200 OK\r\n"), drip(c, b"a: b\r\n")),  # headers
        lambda c: drip(c, b"HTTP/1.1 100 Continue\r\n\r\n"),  # what comes before the headers
        lambda c: (c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), drip(c, b"1\r\nx\r\n")),
        lambda c: (c.sendall(HEAD), threading.Event().wait(60)),  # nothing more
    ],
)
def test_a_server_that_drips_is_waited_for_aloud_and_not_for_ever(
    answer: Answer,
    answering: Callable[[Answer], str],
    hurried: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever it is that comes a byte at a time: the wait is said, ends, and nothing is left of what came."""
    address = answering(answer)
    start = time.monotonic()
    with pytest.raises(DataError, match=r"given up: it sends next to nothing \(.* bytes in the last"):
        fetching.fetch(f"{address}/a.tar", tmp_path / "a.tar", 1_000_000, "")
    assert time.monotonic() - start < 10
    assert f"waiting for {address}/a.tar: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_question_that_is_answered_slowly_ends(
    answering: Callable[[Answer], str], hurried: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that drips its answer to HEAD: asked four times as any other that fails, each time aloud."""
    address = answering(lambda c: (c.sendall(b"HTTP/1.1 200 OK\r\nX-"), drip(c)))  # type: ignore[func-returns-value,arg-type,return-value]
    with pytest.raises(DataError, match="could not be asked for in 4 attempts, the last time: no whole answer came"):
        remote.stamps([f"{address}/a.tar"])
    assert f"waiting for {address}/a.tar: no whole answer" in capsys.readouterr().err


def test_a_server_that_keeps_a_slow_pace_is_heard_to_its_end(
    answering: Callable[[Answer], str], hurried: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the least rate, for longer than the patience with one that drips: it is slow, not broken."""
    monkeypatch.setattr(pace, "LEAST", 1000)
    body = bytes(range(250)) * 40

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        for at in range(0, len(body), 250):
            connection.sendall(body[at : at + 250])
            threading.Event().wait(0.03)

    fetching.fetch(f"{answering(answer)}/a", tmp_path / "a", len(body), "")
    assert (tmp_path / "a").read_bytes() == body


def flood(connection: socket.socket) -> None:
    """An answer without a length, and without an end."""
    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"[" * 65536)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (flood, "goes on after 64,000,000 bytes"),
        (lambda c: c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 70000000\r\n\r\n["), "announces 70,000,000 bytes"),
        (lambda c: c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 10**17), "the disk is full"),
    ],
)
def test_a_list_without_end_is_not_fetched(
    answer: Answer, words: str, answering: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """shards.json has 64 MB at most, whether its server gives a length or none."""
    for module in (remote, fetching):
        monkeypatch.setattr(module, "TRIES", 1)
    with pytest.raises(DataError, match=words):
        open_shards(Path(answering(answer)), Reading(val=0.0), ClassTargets())


def test_an_index_has_the_length_that_its_list_says(
    stripes: Path, tmp_path: Path, serve: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a longer one is taken, nor one that no disk could hold asked for."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    shards = tmp_path / "shards"
    write_shards(read_dataset(stripes), shards)
    with (shards / "index.bin").open("ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match=r"index\.bin: could not be fetched in 4 attempts.*(goes on after|ended after)"):
        open_shards(Path(serve(shards)), Reading(val=0.0), ClassTargets())


def links(folder: Path, names: list[str], mine: Path) -> None:
    """Links to a file outside in the places of these files."""
    for name in names:
        (folder / name).symlink_to(mine)


OLD_PARTS = [".train.records.part", ".val.records.part", ".index.bin.part", ".shards.json.part", ".labels.bin.part"]


def test_links_in_the_places_of_parts_lead_nowhere(stripes: Path, tmp_path: Path, mine: Path) -> None:
    """Writing shards, and an index beside tars of others, with links in the places of all that is written meanwhile."""
    out = tmp_path / "shards"
    out.mkdir()
    (out / ".writing").touch()
    links(out, [*OLD_PARTS, ".train-000000.tar.part", ".val-000000.tar.part", ".names.csv.gz.part"], mine)
    links(out, ["train-000000.tar", "index.bin", "names.csv.gz"], mine)
    write_shards(read_dataset(stripes), out)
    check_tars(out)
    assert not any(item.is_symlink() for item in out.iterdir())
    for name in ("shards.json", "index.bin"):
        (out / name).unlink()
    links(out, [*OLD_PARTS, "index.bin"], mine)
    index_tars(out)
    check_tars(out)
    assert not (out / "index.bin").is_symlink()
    assert mine.read_bytes() == KEPT


def test_a_link_in_the_place_of_the_mark_is_refused(stripes: Path, tmp_path: Path, mine: Path) -> None:
    """`.writing` is a lock: a file outside would be emptied through it."""
    out = tmp_path / "shards"
    out.mkdir()
    links(out, [".writing"], mine)
    with pytest.raises(UserError, match=r"\.writing could not be written \(this is a link to another place"):
        write_shards(read_dataset(stripes), out)
    assert mine.read_bytes() == KEPT
    assert [item.name for item in out.iterdir()] == [".writing"]


def test_links_in_the_cache_of_a_servers_tars_lead_nowhere(
    stripes: Path, tmp_path: Path, serve: Callable[[Path], str], mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its old temporary names, the lock of a tar, and whole folders of it that lead to others."""
    shards = tmp_path / "shards"
    write_shards(read_dataset(stripes), shards)
    address = serve(shards)
    home = remote.place_of(address)
    home.mkdir(parents=True)
    links(home, [f".shards.json.{os.getpid()}.part", "shards.json"], mine)
    found = open_shards(Path(address), Reading(val=0.0), ClassTargets())
    assert found is not None
    folder = found.folder
    names = [f".{n}.{os.getpid()}.part" for n in ("index.bin", "train-000000.tar", "shards.json", ".source.json")]
    links(folder, [*names, ".train-000000.tar.lock"], mine)
    monkeypatch.setattr(fetching, "_STALE", -1)
    assert found.splits["train"][0].path.parent.name == "train-000000.tar"
    from convnext.data.pictures.decode import read_pixels

    assert read_pixels(found.splits["train"][0].path).shape == (40, 40, 3)
    assert mine.read_bytes() == KEPT

    others = tmp_path / "others"
    others.mkdir()
    (others / "precious.tar").write_bytes(KEPT)
    import shutil

    shutil.rmtree(home)
    home.symlink_to(others, target_is_directory=True)
    with pytest.raises(OSError, match="link to another place"):
        open_shards(Path(address), Reading(tar_bytes=1), ClassTargets())
    assert (others / "precious.tar").read_bytes() == KEPT
    assert len(list(others.iterdir())) == 1


def test_a_lock_that_nobody_holds_is_waited_for_aloud(
    stripes: Path, tmp_path: Path, serve: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A tar that another process fetches: the wait is said; a link to nowhere in the place of its lock ends it too."""
    shards = tmp_path / "shards"
    write_shards(read_dataset(stripes), shards)
    found = open_shards(Path(serve(shards)), Reading(val=0.0), ClassTargets())
    assert found is not None
    monkeypatch.setattr(fetching, "TOLD", 0.3)
    monkeypatch.setattr(fetching, "_STALE", 1)
    (found.folder / ".train-000000.tar.lock").symlink_to(tmp_path / "nowhere")
    fetching.fetch_tar(found.folder / "train-000000.tar", found.folder)
    assert (found.folder / "train-000000.tar").read_bytes() == (shards / "train-000000.tar").read_bytes()
    assert "waiting for another process, which fetches train-000000.tar" in capsys.readouterr().err


def test_a_disk_without_locks_ends_nothing(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """NFS without its lock service answers ENOLCK: tars are indexed and shards written all the same, and it is said."""

    def flock(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    assert locks.fcntl is not None
    monkeypatch.setattr(locks.fcntl, "flock", flock)
    shards = tmp_path / "shards"
    write_shards(read_dataset(stripes), shards)
    assert "its disk has no locks (no locks available)" in capsys.readouterr().err
    for name in ("shards.json", "index.bin"):
        (shards / name).unlink()
    found = open_shards(shards, Reading(val=0.0), ClassTargets())
    assert found is not None
    assert sum(map(len, found.splits.values())) == 80
    assert capsys.readouterr().err.count("its disk has no locks") == 1


def test_an_index_that_another_process_made_meanwhile_is_taken(stripes: Path, tmp_path: Path) -> None:
    """Two that list the same tars at once, without locks: the first to end has the place, and both read it."""
    shards = tmp_path / "shards"
    write_shards(read_dataset(stripes), shards)
    for name in ("shards.json", "index.bin"):
        (shards / name).unlink()

    def list_them(into: Path) -> None:
        index_tars(shards, tars=shard_source.tars_in(shards), into=into)

    def overtaken(into: Path) -> None:
        inner.append(shard_source._kept(("k",), list_them))
        list_them(into)

    inner: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locks, "fcntl", None)
        place = shard_source._kept(("k",), overtaken)
    assert inner == [place]
    assert len(list_shards(place)) == 3
    assert not list(place.parent.glob("*.part"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no gzip", "not a gzipped file"),
        (gzip.compress(b"tar,name,path\n" * 3, mtime=0)[:-9], "ended before the end"),
        (gzip.compress(b"tar,name,path\na,b\n", mtime=0), "line 2 has 2 cells, not 3"),
        (gzip.compress(b"t,n,p\n" * 500, mtime=0), "more lines than the 80 pictures"),
        (gzip.compress(b"x" * 1_000_000, mtime=0), "a line of more than 20,000 bytes"),
        (gzip.compress(b"\xff,n,p\n", mtime=0), "can't decode"),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\x07" * 50, "is damaged"),
    ],
)
def test_a_list_of_old_names_that_is_damaged_is_said_to_be(
    content: bytes, words: str, stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is wrong with names.csv.gz, pictures are called by their tars and the reason is one line."""
    shards = tmp_path / "shards"
    write_shards(read_dataset(stripes), shards)
    (shards / "names.csv.gz").write_bytes(content)
    name = shard_names(shards)(read_sharded(shards, targets=ClassTargets()).splits["train"][0].path)
    assert name == "train-000000.tar/00000000.png"
    err = capsys.readouterr().err
    assert "names.csv.gz is damaged (" in err
    assert words in err
    assert err.count("\n") == 1


def test_a_picture_of_a_server_that_drips_is_a_source_that_is_lost(
    stripes: Path, tmp_path: Path, serve: Callable[[Path], str], answering: Callable[[Answer], str], hurried: None
) -> None:
    """Training stops and can go on: that is what `SourceLost` stands for."""
    shards = tmp_path / "shards"
    write_shards(read_dataset(stripes), shards)
    found = open_shards(Path(serve(shards)), Reading(val=0.0), ClassTargets())
    assert found is not None
    slow = answering(lambda c: (c.sendall(HEAD), drip(c)))  # type: ignore[func-returns-value,arg-type,return-value]
    remote.name_source(found.folder, slow, 10**9, list_shards(found.folder))
    with pytest.raises(SourceLost, match="given up: it sends next to nothing"):
        fetching.fetch_tar(found.folder / "train-000000.tar", found.folder)


@pytest.mark.parametrize(
    "target", ["ftp://127.0.0.1:{port}/x", "file:///etc/hostname", "data:,x", "FTP:/x", "gopher://x/"]
)
@pytest.mark.parametrize("ask", [remote._stamp, lambda address: fetching.fetch(address, Path("never"), 0, "")])
def test_a_server_leads_to_other_servers_of_http_alone(
    ask: Callable[[str], object], target: str, answering: Callable[[Answer], str], hurried: None,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Neither a question nor a download goes on to another scheme, at the second hop either; nobody is called there."""
    monkeypatch.chdir(tmp_path)
    for module in (remote, fetching):
        monkeypatch.setattr(module, "TRIES", 1)
    monkeypatch.setenv("ftp_proxy", "http://127.0.0.1:9/")
    called: list[bool] = []
    other = answering(lambda connection: called.append(True)).rpartition(":")[2]
    away = b"HTTP/1.1 302 Found\r\nLocation: " + target.format(port=other).encode() + b"\r\nContent-Length: 0\r\n\r\n"
    second = answering(lambda connection: connection.sendall(away))
    hop = b"HTTP/1.1 307 Temporary\r\nLocation: " + second.encode() + b"/b\r\nContent-Length: 0\r\n\r\n"
    first = answering(lambda connection: connection.sendall(hop))
    with pytest.raises(DataError, match=r"leads to an address of (ftp|file|data|gopher), and only http is followed"):
        ask(f"{first}/a.tar")
    assert not called
    assert list(tmp_path.iterdir()) == []


def test_what_comes_with_a_redirection_is_not_read(
    answering: Callable[[Answer], str], tmp_path: Path, hurried: None
) -> None:
    """A redirection with a body without end is followed at once, and fills no memory."""
    sent: list[int] = []
    there = answering(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"))

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: " + there.encode() + b"/a\r\n\r\n")
        while sum(sent) < 200_000_000:
            connection.sendall(bytes(1 << 20))
            sent.append(1 << 20)

    fetching.fetch(f"{answering(answer)}/a", tmp_path / "a", 4, "")
    assert (tmp_path / "a").read_bytes() == b"good"
    assert sum(sent) < 50_000_000


@pytest.mark.parametrize("held", ["of the future", "a folder", "of another user"])
def test_a_lock_that_cannot_be_removed_is_named_and_one_of_the_future_is_no_life(
    held: str, stripes: Path, tmp_path: Path, serve: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody touches the lock of a tar: it is taken away, whatever time it says; or what keeps it is named."""
    shards = tmp_path / "shards"
    write_shards(read_dataset(stripes), shards)
    found = open_shards(Path(serve(shards)), Reading(val=0.0), ClassTargets())
    assert found is not None
    monkeypatch.setattr(fetching, "_STALE", 0.5)
    lock, tar = found.folder / ".train-000000.tar.lock", found.folder / "train-000000.tar"
    lock.mkdir() if held == "a folder" else lock.touch()
    if held == "of the future":
        os.utime(lock, (4e9, 4e9))
        fetching.fetch_tar(tar, found.folder)
        assert tar.read_bytes() == (shards / "train-000000.tar").read_bytes()
        return
    if held == "of another user":

        def refuse(self: Path, missing_ok: bool = False) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted", str(self))

        monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(SourceLost, match=r"nobody is at work on it, but .*\.train-000000\.tar\.lock: .*CONVNEXT_CACHE"):
        fetching.fetch_tar(tar, found.folder)


def test_a_lock_that_is_never_given_back_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever may read a lock's file can hold it: that is said again and again, and then the work goes on without."""
    import fcntl

    monkeypatch.setattr(locks, "TOLD", 0.2)
    monkeypatch.setattr(locks, "PATIENCE", 0.7)
    lock = tmp_path / "x.lock"
    with lock.open("wb") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        with locks.alone(lock):
            pass
    said = capsys.readouterr().err
    assert "x.lock: 0 s" in said
    assert said.rstrip().endswith("x.lock is still held after 0 min; the work goes on without it")
