"""Pictures that would take more memory than there is: known by the header, and refused or reduced, in words."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.data.pictures import room
from convnext.data.pictures.decode import picture_of, pixels_of, read_picture, read_pixels
from convnext.data.pictures.opened import read_size
from convnext.data.sources.check import check_file
from convnext.errors import PictureError

SIDE = 13000  # squared it is 169 million, below the line for decompression bombs


def png_head(colour: int, bits: int) -> bytes:
    """A PNG of a few bytes that announces 13,000 x 13,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def tiff_head(**more: int) -> bytes:
    """The same as a TIFF, 16 bits in three planes, or with `tile`, small but in one huge tile."""
    side, bits = more.get("side", SIDE), more.get("bits", 16)
    tags = {256: side, 257: side, 258: bits, 259: 8, 262: 2, 277: 3, 284: more.get("planar", 2)}
    tags |= {322: more["tile"], 323: more["tile"], 324: 8, 325: 4} if "tile" in more else {273: 8, 278: side, 279: 4}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 12) + bytes(4) + struct.pack("<H", len(tags)) + entries + bytes(4)


def webp_head(kind: bytes) -> bytes:
    size = SIDE - 1
    body = {
        b"VP8X": b"\x10\0\0\0" + size.to_bytes(3, "little") * 2,
        b"VP8L": b"\x2f" + (size | size << 14).to_bytes(4, "little") + bytes(9),
        b"VP8 ": bytes([0x30, 0, 0, 0x9D, 1, 0x2A]) + struct.pack("<HH", SIDE, SIDE) + bytes(9),
    }[kind]
    chunk = kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def gif_head() -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", SIDE, SIDE, 0x80, 0, 0)
        + bytes(6)
        + b","
        + struct.pack("<HHHHBB", 0, 0, SIDE, SIDE, 0, 2)
        + b"\x02\x4c\x01\0;"
    )


def saved(format: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, format, **options)
    return out.getvalue()


def jpeg_head(progressive: bool) -> bytes:
    """A JPEG whose frame header announces more than it has."""
    data = saved("JPEG", progressive=progressive)
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", SIDE, SIDE) + data[at + 4 :]


def jp2_head() -> bytes:
    data = saved("JPEG2000")
    return data.replace(struct.pack(">II", 64, 64), struct.pack(">II", SIDE, SIDE))


BOMBS = {
    "gray.png": png_head(0, 8), "rgb.png": png_head(2, 8), "rgba16.png": png_head(6, 16), "gray16.png": png_head(0, 16),
    "planes.tif": tiff_head(), "plain.tif": tiff_head(bits=8, planar=1), "x.gif": gif_head(), "x.jp2": jp2_head(),
    "progressive.jpg": jpeg_head(True), "baseline.jpg": jpeg_head(False),
    "x.bmp": b"BM" + struct.pack("<IHHI", 60, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 24, *[0] * 6),
    "x.ppm": b"P6 13000 13000 255\n" + bytes(99),
    **{f"{kind.decode().strip()}.webp": webp_head(kind) for kind in (b"VP8X", b"VP8L", b"VP8 ")},
}  # fmt: skip


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container of 3 GB, of which 2 GB are free, that one process uses."""
    monkeypatch.setattr(room, "total_memory", lambda: 3_000_000_000)
    monkeypatch.setattr(room, "available_memory", lambda: 2_000_000_000)
    monkeypatch.setattr(room, "PATIENCE", 0.3)


@pytest.mark.usefixtures("small_machine")
@pytest.mark.parametrize("name", BOMBS)
def test_a_few_bytes_of_a_huge_picture_are_refused_by_their_header(tmp_path: Path, name: str) -> None:
    """Every reader says how much it takes and how much there is, and allocates nothing like it."""
    path = tmp_path / name
    path.write_bytes(BOMBS[name])
    said = r"13,000 x 13,000 pixels: decoding takes \d[\d.]* GB, the memory is 3 GB.*scale it down"
    for read in (
        lambda: read_picture(path, mode="L"),
        lambda: read_pixels(path),
        lambda: pixels_of(path.read_bytes()),
        lambda: picture_of(io.BytesIO(path.read_bytes()), mode="RGBA"),
    ):
        with pytest.raises(PictureError, match=said):
            read()
    if name.endswith(".webp") or "jpg" not in name:
        facts = check_file(path)
        assert "13,000 x 13,000 pixels: decoding takes" in facts.reason
        assert facts.sha256 == ""  # with more memory it may be read
    if not name.endswith(".webp"):
        assert read_size(path) == (SIDE, SIDE)


@pytest.mark.usefixtures("small_machine")
def test_a_huge_jpeg_is_reduced(tmp_path: Path) -> None:
    """100 million pixels fit when an eighth of them each way is enough, and not as a whole."""
    path = tmp_path / "x.jpg"
    Image.new("L", (10000, 10000), 77).save(path)
    assert read_pixels(path, at_least=224).shape == (1250, 1250, 3)
    assert check_file(path).reason == ""
    with pytest.raises(PictureError, match=r"10,000 x 10,000 pixels: decoding takes 1\.8 GB"):
        read_pixels(path)


@pytest.mark.parametrize("data", [tiff_head(side=64, tile=60000), tiff_head(side=64, tile=60000, bits=8, planar=1)])
def test_a_small_picture_in_a_huge_tile_is_a_bomb(data: bytes) -> None:
    """Of a TIFF the tile counts as well: it is decompressed whole."""
    with pytest.raises(PictureError, match=r"60,000 x 60,000 pixels.*refused as a decompression bomb"):
        pixels_of(data)


@pytest.mark.usefixtures("small_machine")
def test_processes_that_load_share_the_memory() -> None:
    """With three of them a picture of 800 MB is refused that one alone would take."""
    with room.held():
        room.take(800_000_000, "x")
    room.share_with(3)
    try:
        with pytest.raises(room.NoRoom, match="for 3 processes that decode"), room.held():
            room.take(800_000_000, "x")
    finally:
        room._ledger.sharers = 0


@pytest.mark.usefixtures("small_machine")
def test_threads_wait_for_each_other() -> None:
    """Never more than the budget at once, and all of them get their turn; what a thread took is given back."""
    most, lock, now = 0, threading.Lock(), 0

    def decode() -> None:
        nonlocal most, now
        with room.held():
            room.take(600_000_000, "x")
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.02)
            with lock:
                now -= 1

    threads = [threading.Thread(target=decode) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == 2
    assert room._ledger.taken == 0


@pytest.mark.usefixtures("small_machine")
def test_memory_that_others_have_taken_is_waited_for_and_then_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that would fit is refused in the end where other programs leave too little."""
    monkeypatch.setattr(room, "available_memory", lambda: 100_000_000)
    start = time.monotonic()
    with pytest.raises(room.NoRoom, match=r"takes 1 GB, 0\.09 GB are free"), room.held():
        room.take(1_000_000_000, "x")
    assert time.monotonic() - start >= 0.3
    assert room._ledger.taken == 0


def test_a_system_that_says_nothing_is_asked_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the memory is not known nothing is refused for lack of it."""
    monkeypatch.setattr(room, "total_memory", lambda: 0)
    monkeypatch.setattr(room, "available_memory", lambda: 0)
    with room.held():
        room.take(10**12, "x")
    assert room._ledger.taken == 0


MEASURE = """
import io, sys
from pathlib import Path
import numpy as np
from PIL import Image
from convnext.data.pictures import decode
from convnext.data.pictures import room
path, mode = Path(sys.argv[1]), sys.argv[2]
taken = []
plain = room.take
def spy(need, what):
    taken.append(need)
    plain(need, what)
import convnext.data.pictures.opened as opened
decode.take = opened.take = spy
value_range = (0, 1) if "float" in path.name else None
decode.read_pixels(path.with_name("small" + path.suffix), mode=mode, value_range=value_range)
taken.clear()
def peak():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")) * 1024
open("/proc/self/clear_refs", "w").write("5")
before = peak()
pixels = decode.read_pixels(path, mode=mode, value_range=value_range)
print(sum(taken), peak() - before)
"""


@pytest.mark.full
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize(
    "name",
    [
        *("rgb.png", "rgba.png", "gray16.png", "p.gif", "rgb.webp", "rgba.webp", "rgb.avif", "rgb.jp2", "rgb.bmp"),
        *("rgb.tif", "lzw.tif", "rgb.jpg", "progressive.jpg", "float.tif", "trns.png"),
    ],
)
def test_no_more_is_taken_than_was_reckoned(tmp_path: Path, name: str, mode: str) -> None:
    """The process's peak while it decodes 12 million pixels, turned on their side, is below what it asked for."""
    values = np.random.default_rng(0).integers(0, 255, (300, 400, 4), dtype=np.uint8)
    picture = Image.fromarray(values).resize((4000, 3000))
    exif = Image.Exif()
    exif[0x0112] = 6
    options: dict[str, object] = {} if name.endswith((".bmp", ".jp2", ".gif")) else {"exif": exif}
    if not name.startswith("rgba"):
        picture = picture.convert("RGB")
    if name == "gray16.png":
        picture = Image.fromarray(np.asarray(picture)[..., 0].astype(np.uint16) * 257)
    if name == "float.tif":
        picture = Image.fromarray(np.asarray(picture)[..., 0].astype(np.float32) / 255)
    if name == "trns.png":
        picture, options["transparency"] = picture.convert("L"), 3
    options |= {"progressive": True} if name == "progressive.jpg" else {}
    options |= {"compression": "tiff_lzw"} if name == "lzw.tif" else {}
    for where, size in ((name, picture.size), ("small" + Path(name).suffix, (40, 30))):
        picture.resize(size, Image.Resampling.NEAREST).save(tmp_path / where, **options)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / name), mode], capture_output=True, text=True, check=True
    )
    reckoned, peak = map(int, done.stdout.split())
    assert peak <= reckoned
