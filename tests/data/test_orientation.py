"""Which way up a picture is: one rule, whatever reads it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.data.pictures.decode import picture_of, pixels_of, read_picture, read_pixels
from convnext.data.pictures.opened import read_size
from convnext.data.pictures.orientation import orientation
from convnext.data.shards.writer import reduced
from convnext.data.sources.check import check_file

TAG = 0x0112
SIZE = (48, 32)
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
"""What the EXIF standard says of where row 0 and column 0 are, for the stored pixels."""


def opened(path: Path, mode: str) -> np.ndarray:
    """By Pillow's own object, which is its opener's to close."""
    with Image.open(path) as image:
        return np.asarray(picture_of(image, mode=mode))


READERS: dict[str, Callable[[Path, str], np.ndarray]] = {
    "file": lambda path, mode: np.asarray(read_picture(path, mode=mode)),
    "quick": lambda path, mode: read_pixels(path, mode=mode),
    "reduced": lambda path, mode: read_pixels(path, mode=mode, at_least=min(SIZE)),
    "bytes": lambda path, mode: pixels_of(path.read_bytes(), mode=mode),
    "open file": lambda path, mode: np.asarray(picture_of(io.BytesIO(path.read_bytes()), mode=mode)),
    "of Pillow": opened,
    "shard": lambda path, mode: pixels_of(reduced(path.read_bytes(), path, min(SIZE)), mode=mode),
}


def stored() -> np.ndarray:
    """Pixels whose four corners differ: any turn or flip shows, in gray as well."""
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    return np.stack([x * 255 // SIZE[0], y * 255 // SIZE[1], 255 - y * 255 // SIZE[1]], 2).astype(np.uint8)


def xmp(number: object, form: str = '"') -> bytes:
    """An XMP block with the orientation as an attribute in either kind of quotes, or as an element."""
    said = f"tiff:Orientation={form}{number}{form}"
    inside = f"<rdf:Description {said}/>" if form != "<" else f"<tiff:Orientation>{number}</tiff:Orientation>"
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>{inside}</rdf:RDF></x:xmpmeta>'.encode()


def exif(number: int) -> bytes:
    block = Image.Exif()
    block[TAG] = number
    return block.tobytes()


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


def save(path: Path, number: int, where: str) -> None:
    """Writes the stored pixels with an orientation in EXIF, in XMP, or one in each of two EXIF blocks."""
    picture = Image.fromarray(stored())
    xmp_block = xmp(number, '"' if number % 2 else "'")
    options: dict[str, object] = {}
    if where == "xmp" and path.suffix == ".png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp_block.decode())
        options = {"pnginfo": info}
    elif where == "xmp":
        options = {"tiffinfo": {700: xmp_block}} if path.suffix == ".tif" else {"xmp": xmp_block}
    elif where == "exif":
        options = {"exif": exif(number)}
    if path.suffix == ".webp":
        options["lossless"] = True
    if path.suffix == ".jpg":
        options |= {"quality": 95, "subsampling": 0}
    picture.save(path, **options)
    if where == "exif twice":
        data = path.read_bytes()
        two = (
            segment(0xE1, exif(number))
            + segment(0xE1, exif(number % 8 + 1))
            + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(number % 8 + 1))
        )
        path.write_bytes(data[:2] + two + data[2:])


PLACES = [(s, w) for s in (".jpg", ".png", ".webp", ".tif") for w in ("exif", "xmp")] + [(".jpg", "exif twice")]


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize(("suffix", "where"), PLACES)
def test_every_reader_turns_it_the_same_way(tmp_path: Path, suffix: str, where: str, number: int) -> None:
    """Orientation in EXIF, in XMP alone, and in the first of two EXIF blocks; for 1, 3 and 4 channels."""
    path = tmp_path / f"x{suffix}"
    save(path, number, where)
    expected = UPRIGHT[number](stored()).astype(int)
    assert read_size(path) == expected.shape[1::-1]
    facts = check_file(path)
    assert (facts.width, facts.height) == expected.shape[1::-1]
    for name, read in READERS.items():
        for mode in ("L", "RGB", "RGBA"):
            found = read(path, mode)
            if mode == "L":
                gray = np.asarray(Image.fromarray(expected.astype(np.uint8)).convert("L")).astype(int)
                assert np.abs(found.reshape(gray.shape) - gray).max() <= 12, (name, mode)
            else:
                assert np.abs(found[..., :3] - expected).max() <= 12, (name, mode)


def test_the_first_block_that_means_something_counts() -> None:
    """EXIF before XMP; a damaged EXIF block, and a number outside 1 to 8, leave it to XMP; nothing is upright."""
    broken = b"Exif\0\0MM\0*\0\0\0\x08\0\x05broken"
    assert orientation(exif(3), xmp(6)) == 3
    assert orientation(exif(1), xmp(6)) == 1
    assert orientation(broken, xmp(6)) == 6
    assert orientation(exif(0), xmp(6)) == orientation(exif(9), xmp(6, "<")) == orientation(b"", xmp(6, "'")) == 6
    assert (
        orientation(b"", b"") == orientation(b"", xmp(9)) == orientation(exif(0), b"") == orientation(broken, b"") == 1
    )


def test_metadata_behind_the_frame_header_counts(tmp_path: Path) -> None:
    """An EXIF block may stand after the frame header of a JPEG; both readers find it."""
    path = tmp_path / "x.jpg"
    save(path, 1, "none")
    data = path.read_bytes()
    scan = data.index(b"\xff\xda")
    path.write_bytes(data[:scan] + segment(0xE1, exif(6)) + data[scan:])
    assert read_pixels(path).shape == np.asarray(read_picture(path)).shape == (SIZE[0], SIZE[1], 3)


def test_a_picture_of_pillow_stays_as_it_is(tmp_path: Path) -> None:
    """It is turned in the answer alone: asked twice it gives the same, and its own pixels and metadata are kept."""
    path = tmp_path / "x.png"
    save(path, 6, "exif")
    with Image.open(path) as picture:
        first, second = picture_of(picture), picture_of(picture)
        assert picture.size == SIZE
        assert picture.getexif()[TAG] == 6
    np.testing.assert_array_equal(np.asarray(first), np.asarray(second))
    np.testing.assert_array_equal(np.asarray(first), UPRIGHT[6](stored()))
