"""What others wrote into a cache on a shared disk is believed where it can be, and made anew where it cannot."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convnext.data.feed.disk_cache import DiskBudget, DiskCache
from convnext.data.names import printable
from convnext.data.pictures.fetch import SOURCE
from convnext.data.pictures.picture_file import make_room
from convnext.data.pictures.tarball import open_member
from convnext.data.sources import check as checked
from convnext.data.sources.check import check_files
from convnext.errors import SourceLost


def png(shade: int) -> bytes:
    """A tiny picture."""
    buffer = BytesIO()
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two pictures, and an empty cache."""
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    found = [tmp_path / "data" / f"{n}.png" for n in range(2)]
    for number, path in enumerate(found):
        path.write_bytes(png(40 * number))
    return found


ENTRIES: list[Any] = [
    5, None, {}, [], "x", [1], ["sha256", "a" * 64], ["width", -1], ["height", 1 << 40], ["fingerprint", 1 << 80],
    ["fingerprint", -1], ["gradients", 1 << 9000], ["contrast", float("nan")],
    ["high", float("inf")], ["sha256", "../x"],
]  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES)
def test_facts_that_cannot_be_are_found_anew(entry: Any, pictures: list[Path]) -> None:
    """Values of other kinds, and those that no picture has."""
    root = pictures[0].parent
    true = check_files(pictures, root=root)
    (file,) = (root.parent / "cache" / "checked").iterdir()
    content = json.loads(file.read_text())
    kept = content["files"][str(pictures[0])]
    if isinstance(entry, list) and len(entry) == 2 and entry[0] in content["rules"][1]:
        kept[4 + content["rules"][1].index(entry[0])] = entry[1]
    else:
        content["files"][str(pictures[0])] = entry
    file.write_text(json.dumps(content))
    found = check_files(pictures, root=root)
    assert found[pictures[1]] == true[pictures[1]]
    if entry == ["sha256", "a" * 64]:  # this one could be: whoever may write to a cache is believed
        assert found[pictures[0]].sha256 == "a" * 64
    else:
        assert found == true


@pytest.mark.parametrize("content", ["[" * 100_000, '{"rules": 1}', "pipe", "link"])
def test_a_file_of_facts_that_is_none_is_made_anew(content: str, pictures: list[Path]) -> None:
    """Brackets without end; a pipe that nobody writes to; a link, whose file stays as it is."""
    root = pictures[0].parent
    true = check_files(pictures, root=root)
    (file,) = (root.parent / "cache" / "checked").iterdir()
    mine = root.parent / "mine.json"
    mine.write_bytes(file.read_bytes())
    file.unlink()
    if content == "pipe":
        os.mkfifo(file)
    elif content == "link":
        file.symlink_to(mine)
    else:
        file.write_text(content)
    before = mine.read_bytes()
    assert check_files(pictures, root=root) == true
    assert mine.read_bytes() == before
    assert json.loads(file.read_text())["rules"][0] == checked._RULES
    assert not file.is_symlink()


def sealed(made_of: bytes, stamp: bytes, start: int, shape: tuple[int, int, int], pixels: bytes) -> bytes:
    """A file of decoded pictures whose sums are all right."""
    index = struct.pack("<16sqiiiI", stamp, start, *shape, zlib.crc32(pixels)) + made_of
    tail = struct.pack("<8sQQ32s", b"cnxtpix1", 1, len(made_of), hashlib.sha256(index).digest())
    return pixels + index + tail + struct.pack("<I", zlib.crc32(tail))


@pytest.mark.parametrize(
    ("start", "shape"),
    [
        (-8, (2, 2, 5)),
        (12, (0, 2, 3)),
        (13, (1, 1, -1)),
        (0, (2, 2, 30)),
        (0, (1 << 30, 1 << 30, 1 << 6)),
        (0, (2, 2, 3)),
    ],
)
def test_pixels_that_cannot_be_are_decoded_anew(start: int, shape: tuple[int, int, int], pictures: list[Path]) -> None:
    """Places before and behind the file, and sides that no picture has; only the last one is sound."""
    budget = DiskBudget(str(pictures[0].parent), 10**6)
    cache = DiskCache(pictures[:1], (2, "RGB"), budget)
    assert cache.file is not None
    cache.file.parent.mkdir(parents=True)
    cache.file.write_bytes(sealed(cache.made_of.encode(), cache.stamps[0], start, shape, bytes(range(12))))
    again = DiskCache(pictures[:1], (2, "RGB"), budget)
    sound = shape == (2, 2, 3)
    found = again.get(0) if again.holds(0) else None
    assert (found is not None) == sound
    if found is not None:
        assert np.array_equal(found.ravel(), np.arange(12))


def test_pipes_among_decoded_pictures_are_not_waited_for(pictures: list[Path]) -> None:
    """In the place of a data set's own file, of another one's, and of what a killed process left."""
    budget = DiskBudget(str(pictures[0].parent), 10**6)
    cache = DiskCache(pictures, (2, "RGB"), budget)
    assert cache.file is not None
    cache.file.parent.mkdir(parents=True)
    for name in (cache.file.name, "other.pixels", "left.tmp"):
        os.mkfifo(cache.file.parent / name)
    again = DiskCache(pictures, (2, "RGB"), budget)
    assert again.add(0, np.zeros((2, 2, 3), np.uint8))
    again.finish()
    assert again.holds(0)
    make_room(cache.file, 10**7, budget)


def test_a_folder_of_shards_sends_this_computer_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That tars come from a server is believed in the cache alone: no address is asked, and no tar removed."""
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "mine.tar").write_bytes(bytes(1024))
    (tmp_path / "secret").write_bytes(b"a file of mine" * 100)
    source = {"address": f"file://{tmp_path}", "budget": 0, "tars": {"secret": [1400, ""]}}
    (shards / SOURCE).write_text(json.dumps(source))
    with pytest.raises(SourceLost, match=f"{printable(shards / 'secret')}: cannot be read: no such file"):
        open_member(shards / "secret" / "@0+14")
    assert sorted(item.name for item in shards.iterdir()) == [SOURCE, "mine.tar"]
