"""Fixtures that many tests use."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convnext.places import cache_dir

os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
"""Results are compared bit for bit: the number of threads must not follow what else the machine does."""

KERNELS = cache_dir() / "kernels"
"""Compiled kernels are named by what they are made of, so tests may share them with everybody."""

SHARED = Path(__file__).resolve().parents[2] / "shared"


def share_kernels(cache: Path) -> None:
    """A cache of its own for a test, but for the compiled kernels: building them takes half a minute."""
    KERNELS.parent.mkdir(parents=True, exist_ok=True)
    KERNELS.mkdir(mode=0o700, exist_ok=True)  # closed to others, or nothing is loaded from it
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "kernels").symlink_to(KERNELS, target_is_directory=True)


@pytest.fixture(autouse=True, scope="session")
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What several tests share, made before the first of them, has a cache of its own too."""
    cache = tmp_path_factory.mktemp("shared-cache")
    share_kernels(cache / "convnext")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVNEXT_CACHE", str(cache / "convnext"))
        patch.setenv("HF_HOME", str(cache / "hf"))
        yield


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test reads or writes the user's caches, and none reaches for a weight hub."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CONVNEXT_CACHE", str(cache / "convnext"))
    share_kernels(cache / "convnext")
    monkeypatch.setenv("HF_HOME", str(cache / "hf"))
    monkeypatch.setattr("convnext.run.cores.PAUSE", 0.0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    shutil.rmtree(cache, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the checkout."""
    data = Path(os.environ.get("CONVNEXT_TEST_DATA", SHARED / "data"))
    if not data.is_dir():
        pytest.skip(f"the real data sets are not at {data} (set CONVNEXT_TEST_DATA)")
    return data


def _write_stripes(root: Path, classes: dict[str, int], side: int = 40, seed: int = 0) -> Path:
    """Class folders of pictures that are easy to tell apart: each class has stripes of its own width and colour."""
    rng = np.random.default_rng(seed)
    for index, (name, pictures) in enumerate(classes.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(pictures):
            pixels = rng.integers(0, 60, (side, side, 3))
            period = 4 + 4 * index
            shift = int(rng.integers(period))
            rows = (np.arange(side) + shift) % period < period // 2
            pixels[rows, :, index % 3] += 150
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{name}-{number:03d}.png")
    return root


@pytest.fixture
def write_stripes() -> Callable[..., Path]:
    """The function that writes such folders: (root, {class: pictures}, side, seed) -> root."""
    return _write_stripes


@pytest.fixture
def stripes(tmp_path: Path) -> Path:
    """An image folder of two easy classes, 40 pictures each."""
    return _write_stripes(tmp_path / "stripes", {"narrow": 40, "wide": 40})


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """The function that puts a folder on a server on this machine and gives its address."""
    running: list[tuple[http.server.ThreadingHTTPServer, threading.Thread]] = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    def start(folder: Path) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()
