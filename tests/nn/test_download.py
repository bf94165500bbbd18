"""Finding and fetching published weights: the real code, against a server on this computer and caches made up here."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import safetensors.torch
import torch
from huggingface_hub import constants

from convnext.data.shards import server as pace
from convnext.errors import UserError, WeightsError
from convnext.nn.create import create_model
from convnext.nn.weights import download
from convnext.nn.weights.download import UnreachableError, fetch, find_cached, find_weights, locate, resolve_weights
from convnext.nn.weights.formats import from_native
from convnext.nn.weights.load import load_pretrained

CLOSED = "http://127.0.0.1:9"  # the discard port: nobody listens
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ATTO = "timm:convnext_atto.d2_in1k"


class Lines(list):
    """Collects what is said."""

    def __call__(self, line: str) -> None:
        self.append(line)


class Server(ThreadingHTTPServer):
    """Serves `files` (path -> content) and counts the downloads; some paths misbehave."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.downloads: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.server.downloads.append(self.path)
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if "login" in self.path else "application/octet-stream")
        if "unsized" not in self.path:
            self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if not body:
            return
        if "cut" in self.path:
            content = content[: len(content) // 2]
        self.wfile.write(content)
        if "stalls" in self.path:
            self.wfile.flush()
            time.sleep(1.5)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def point_to(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Sends all three places of weights to one server."""
    monkeypatch.setattr(download, "OFFICIAL_URL", url)
    monkeypatch.setattr(download, "_torchvision_url", lambda entry, name: f"{url}/{name}-01234567.pth")
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty caches, and no way to the real servers."""
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    point_to(monkeypatch, CLOSED)


def put_in_hub_cache(folder: Path, repo: str, content: bytes) -> Path:
    """A repository as the Hugging Face library keeps it."""
    root = folder / f"models--{repo.replace('/', '--')}"
    file = root / "snapshots" / COMMIT / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    return file


# --- a plain download


def test_a_download_arrives_whole_and_is_announced(server: Server, tmp_path: Path) -> None:
    """The file is byte for byte the server's, and one line gave address, size and place before it began."""
    content = bytes(range(256)) * 5000
    server.files["/w.pth"] = content
    url, said, target = f"{server.url}/w.pth", Lines(), tmp_path / "new" / "w.pth"
    assert download.download(url, target, hashlib.sha256(content).hexdigest(), said) == target
    assert target.read_bytes() == content
    assert said == [f"downloading {url} (1.3 MB) to {target}"]
    assert list(target.parent.iterdir()) == [target]


def test_a_file_without_a_published_checksum_is_said(server: Server, tmp_path: Path) -> None:
    """Nobody should believe that a checksum was compared when there is none; a size not known is said as well."""
    server.files["/unsized.pth"] = b"weights"
    said = Lines()
    download.download(f"{server.url}/unsized.pth", tmp_path / "w.pth", "", said)
    assert "(size not known; no checksum is published for it)" in said[0]
    assert (tmp_path / "w.pth").read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("/wrong.pth", WeightsError, "the checksum of what arrived is .*, it must be 01234567; the file was removed"),
        ("/cut.pth", UnreachableError, "the connection ended after 5000 of 10000 bytes"),
        ("/stalls-cut.pth", UnreachableError, "cannot be reached: timed out"),
        ("/login.pth", WeightsError, "is a web page, not a weight file"),
        ("/missing.pth", WeightsError, "the server answered 404"),
    ],
)
def test_what_arrives_wrong_is_refused_and_removed(
    path: str, error: type[WeightsError], message: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left behind, not even a part, and the file that was there before is untouched."""
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    if "missing" not in path:
        server.files[path] = b"0123456789" * 1000
    target = tmp_path / "weights" / "w.pth"
    target.parent.mkdir()
    target.write_bytes(b"old")
    with pytest.raises(error, match=message):
        download.download(server.url + path, target, "01234567", Lines())
    assert {file.name: file.read_bytes() for file in target.parent.iterdir()} == {"w.pth": b"old"}


def test_a_place_that_cannot_be_written_is_not_blamed_on_the_network(server: Server, tmp_path: Path) -> None:
    """A file where the folder should be: the error names the target."""
    server.files["/w.pth"] = b"weights"
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match=r"file/w.pth cannot be written") as caught:
        download.download(f"{server.url}/w.pth", tmp_path / "file" / "w.pth", "", Lines())
    assert not isinstance(caught.value, UnreachableError)


def test_a_long_download_says_how_far_it_is(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines in between give the part that has arrived."""
    monkeypatch.setattr(download, "_SAY_EVERY", 0.0)
    monkeypatch.setattr(download, "_CHUNK", 250_000)
    server.files["/w.pth"] = bytes(1_000_000)
    said = Lines()
    download.download(f"{server.url}/w.pth", tmp_path / "w.pth", "", said)
    assert "  0.5 MB of 1.0 MB" in said


# --- where the weights are


def test_entries_have_the_addresses_of_their_publishers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place's address, file and checksum, as published."""
    monkeypatch.undo()
    official = locate("official:convnext_tiny_1k_224_ema")
    assert official.url == "https://dl.fbaipublicfiles.com/convnext/convnext_tiny_1k_224_ema.pth"
    assert official.sha256 == ""
    assert locate(ATTO).url == "https://huggingface.co/timm/convnext_atto.d2_in1k/resolve/main/model.safetensors"
    torchvision = locate("torchvision:convnext_tiny")
    assert torchvision.url == "https://download.pytorch.org/models/convnext_tiny-983f1562.pth"
    assert torchvision.sha256 == "983f1562"


@pytest.mark.parametrize("entry", ["official:../../etc/passwd", "timm:a/b", "official:", "timm:x y"])
def test_strange_names_never_become_addresses(entry: str) -> None:
    """A name that could leave its folder or its host is refused."""
    with pytest.raises(WeightsError, match="must be of letters, digits"):
        locate(entry)


def test_our_cache_torch_hubs_and_the_hugging_face_cache_are_searched(tmp_path: Path) -> None:
    """A file that is anywhere on this computer is found, and nothing is said or downloaded."""
    official = locate("official:convnext_tiny_1k_224_ema")
    assert find_cached(official) is None
    hub = tmp_path / "torch" / "hub" / "checkpoints" / "convnext_tiny_1k_224_ema.pth"
    hub.parent.mkdir(parents=True)
    hub.touch()
    assert find_cached(official) == hub
    ours = tmp_path / "cache" / "weights" / "convnext_tiny_1k_224_ema.pth"
    ours.parent.mkdir(parents=True)
    ours.touch()
    assert resolve_weights("convnext_tiny", official.entry, pytest.fail) == ours

    assert find_cached(locate(ATTO)) is None
    shared = put_in_hub_cache(tmp_path / "hub", "timm/convnext_atto.d2_in1k", b"shared")
    assert find_cached(locate(ATTO)) == shared
    own = put_in_hub_cache(tmp_path / "cache" / "huggingface", "timm/convnext_atto.d2_in1k", b"own")
    assert resolve_weights("convnext_atto", ATTO, pytest.fail) == own


def test_without_the_variable_timms_cache_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`$CONVNEXT_CACHE` unset: our files go below the home folder, timm's into the cache that timm itself uses."""
    monkeypatch.delenv("CONVNEXT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert download.cache_dir() == tmp_path / "home" / ".cache" / "convnext"
    assert download._hub_cache() == tmp_path / "hub"


# --- what the user asks for


def test_an_official_entry_is_downloaded_once(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call downloads and says so; the second finds the file, silently, without the server."""
    point_to(monkeypatch, server.url)
    server.files["/convnext_tiny_1k_224_ema.pth"] = b"weights"
    said = Lines()
    path = resolve_weights("convnext_tiny", "official:convnext_tiny_1k_224_ema", said)
    assert path == tmp_path / "cache" / "weights" / "convnext_tiny_1k_224_ema.pth"
    assert path.read_bytes() == b"weights"
    assert len(said) == 1
    point_to(monkeypatch, CLOSED)
    assert resolve_weights("convnext_tiny", "official:convnext_tiny_1k_224_ema", pytest.fail) == path
    assert server.downloads == ["/convnext_tiny_1k_224_ema.pth"]


def test_a_timm_entry_is_downloaded_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same through the Hugging Face library, from a server that answers as the hub does."""
    point_to(monkeypatch, server.url)
    address = "/timm/convnext_atto.d2_in1k/resolve/main/model.safetensors"
    server.files[address] = bytes(2_000_000)
    server.files[address.replace("main", COMMIT)] = server.files[address]
    said = Lines()
    path = resolve_weights("convnext_atto", ATTO, said)
    assert path is not None
    assert path.read_bytes() == server.files[address]
    assert len(said) == 1
    assert f"downloading {server.url}{address} (2.0 MB) to" in said[0]
    point_to(monkeypatch, CLOSED)
    assert resolve_weights("convnext_atto", ATTO, pytest.fail) == path
    assert server.downloads.count(address) == 1


def test_downloaded_weights_load(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """From "auto" to a model: fetched, read, renamed, the head replaced, all of it reported."""
    point_to(monkeypatch, server.url)
    torch.manual_seed(0)
    published = create_model("convnext_atto")
    content = safetensors.torch.save(
        {k: v.contiguous() for k, v in from_native(published.state_dict(), "timm").items()}, {"format": "pt"}
    )
    server.files["/timm/convnext_atto.d2_in1k/resolve/main/model.safetensors"] = content
    model, said = create_model("convnext_atto", num_classes=5), Lines()
    report = load_pretrained(model, "convnext_atto", "auto", said)
    assert report is not None
    assert (report.source, report.format) == (ATTO, "timm")
    assert "The head was for 1000 classes; a new one for 5" in str(report)
    assert torch.equal(model.stem.conv.weight, published.stem.conv.weight)
    assert len(said) == 1


def test_offline_auto_says_one_line_and_starts_from_scratch() -> None:
    """Nothing cached and no network: one line with the reason, no report, the model untouched, within seconds."""
    model, said = create_model("convnext_tiny", num_classes=5), Lines()
    before = model.stem.conv.weight.clone()
    start = time.monotonic()
    assert load_pretrained(model, "convnext_tiny", "auto", said) is None
    assert time.monotonic() - start < 10
    assert len(said) == 1
    assert "no pretrained weights for convnext_tiny within reach" in said[0]
    assert "cannot be reached" in said[0]
    assert "\n" not in said[0]
    assert torch.equal(model.stem.conv.weight, before)


def test_offline_auto_uses_a_lesser_choice_that_is_cached(tmp_path: Path) -> None:
    """Without a network the first entry of the list that is on this computer is taken."""
    file = tmp_path / "cache" / "weights" / "convnext_tiny_1k_224_ema.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    found = find_weights("convnext_tiny", "auto", pytest.fail)
    assert found is not None
    assert (found.path, found.source) == (file, "official:convnext_tiny_1k_224_ema")


def test_auto_goes_on_to_the_next_entry(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that its server no longer has is passed over."""
    point_to(monkeypatch, server.url)
    server.files["/timm/convnext_nano.d1h_in1k/resolve/main/model.safetensors"] = b"weights"
    found = find_weights("convnext_nano", "auto", Lines())
    assert found is not None
    assert found.source == "timm:convnext_nano.d1h_in1k"


def test_a_silent_server_is_given_up_quickly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts the connection and never answers costs the time limit once, not for every entry."""
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as silent:  # listens, but is never served
        point_to(monkeypatch, f"http://127.0.0.1:{silent.server_port}")
        said, start = Lines(), time.monotonic()
        assert find_weights("convnext_tiny", "auto", said) is None
        assert time.monotonic() - start < 5
    assert len(said) == 1


@pytest.mark.parametrize("entry", ["timm:convnext_tiny.fb_in22k_ft_in1k", "official:convnext_tiny_1k_224_ema"])
def test_an_explicit_entry_that_fails_says_what_to_do(entry: str, tmp_path: Path) -> None:
    """The error gives the reason, the address, and the place to put the file; and there it is found."""
    with pytest.raises(WeightsError, match="not on this computer and could not be downloaded") as caught:
        resolve_weights("convnext_tiny", entry, Lines())
    remote = locate(entry)
    assert f"Download {remote.url} elsewhere, and save it as {remote.file}" in str(caught.value)
    remote.file.parent.mkdir(parents=True)
    remote.file.write_bytes(b"weights")
    assert resolve_weights("convnext_tiny", entry, pytest.fail) == remote.file


def test_a_misspelt_entry_is_answered_with_the_right_one(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that its server does not have: the status, and the entry that was probably meant."""
    point_to(monkeypatch, server.url)
    with pytest.raises(WeightsError, match=r'answered 404 .* Did you mean "timm:convnext_tiny.in12k_ft_in1k"\?'):
        resolve_weights("convnext_tiny", "timm:convnext_tiny.in12k_ft_in", Lines())
    with pytest.raises(WeightsError, match=r'answered 404 .* Did you mean "official:convnext_tiny_1k_224_ema"\?'):
        resolve_weights("convnext_tiny", "official:convnext_tiny_1k_224_emma", Lines())


def test_a_model_that_torchvision_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision has no xlarge."""
    monkeypatch.undo()
    with pytest.raises(WeightsError, match="torchvision has no such model"):
        locate("torchvision:convnext_xlarge")


def test_none_and_paths(tmp_path: Path) -> None:
    """ "none" is None, a path is itself, a missing path is an error that lists the possibilities."""
    assert resolve_weights("convnext_tiny", "none", pytest.fail) is None
    file = tmp_path / "my.pth"
    file.touch()
    assert resolve_weights("convnext_tiny", str(file), pytest.fail) == file
    with pytest.raises(WeightsError, match=r'"tim:convnext".* no such file. Give a path, "auto", "none", or an entry'):
        resolve_weights("convnext_tiny", "tim:convnext", pytest.fail)
    with pytest.raises(UserError, match="is not known"):
        resolve_weights("convnext_teeny", "auto", pytest.fail)


def test_a_hub_in_offline_mode_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who sets HF_HUB_OFFLINE gets no attempt at the hub."""
    monkeypatch.setattr(constants, "is_offline_mode", lambda: True)
    with pytest.raises(UnreachableError):
        fetch(locate(ATTO), pytest.fail)


def test_a_download_is_written_through_no_link(server: Server, tmp_path: Path) -> None:
    """Others who may write to the folder put links into the places of the old temporary name and of the file."""
    mine = tmp_path / "mine.txt"
    mine.write_bytes(b"a file of mine")
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("w.pth", f"w.pth.{os.getpid()}.partial"):
        (folder / name).symlink_to(mine)
    server.files["/w.pth"] = b"weights"
    download.download(f"{server.url}/w.pth", folder / "w.pth", "", Lines())
    assert mine.read_bytes() == b"a file of mine"
    assert (folder / "w.pth").read_bytes() == b"weights"
    assert not (folder / "w.pth").is_symlink()


def test_a_download_that_drips_is_waited_for_aloud_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A byte at a time: that is said, and it ends; nothing is left."""
    monkeypatch.setattr(pace, "TOLD", 0.1)
    monkeypatch.setattr(pace, "PATIENCE", 0.5)

    class Dripping(Handler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(300):
                    self.wfile.write(b"x")
                    time.sleep(0.02)

    with ThreadingHTTPServer(("127.0.0.1", 0), Dripping) as slow:
        threading.Thread(target=slow.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        with pytest.raises(UnreachableError, match="given up: it sends next to nothing"):
            download.download(f"http://127.0.0.1:{slow.server_port}/w.pth", tmp_path / "w.pth", "", Lines())
        slow.shutdown()
    assert "waiting for http" in capsys.readouterr().err
    assert list(tmp_path.glob("*.p*")) == []
