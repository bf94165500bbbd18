"""The quick reader of JPEGs: the same pixels as Pillow's, and every odd file left to Pillow."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.data.pictures.decode import read_picture, read_pixels
from convnext.data.pictures.jpeg import factor_for, read_header, read_jpeg
from convnext.errors import PictureError

ORIENTATION = 0x0112


def picture(width: int = 211, height: int = 157, mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 255, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def saved(path: Path, image: Image.Image, orientation: int = 1, **options: object) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(path, "JPEG", exif=exif, **options)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("at_least", [None, 30, 60, 157])
def test_pixels_are_those_of_pillow_turned_and_reduced(tmp_path: Path, orientation: int, at_least: int | None) -> None:
    """For every EXIF orientation and reduction; the quick way was taken."""
    file = saved(tmp_path / "a.jpg", picture(), orientation)
    header = read_header(file.read_bytes())
    assert header is not None
    assert header.orientation == orientation
    expected = np.asarray(read_picture(file, at_least=at_least))
    np.testing.assert_array_equal(read_pixels(file, at_least=at_least), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2},
        {"progressive": True},
        {"quality": 5},
        {"quality": 100},
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_are_those_of_pillow_however_it_was_saved(tmp_path: Path, options: dict[str, object], mode: str) -> None:
    """Subsampling, progressive files, gray files."""
    file = saved(
        tmp_path / "a.jpg", picture(mode=mode), **({} if mode == "L" and "subsampling" in options else options)
    )
    assert read_header(file.read_bytes()) is not None
    for at_least in (None, 40):
        expected = np.asarray(read_picture(file, at_least=at_least))
        np.testing.assert_array_equal(read_pixels(file, at_least=at_least), expected)


def test_the_factor_is_that_of_pillows_drafts() -> None:
    """Over many sizes: the draft has as many pixels as ours."""
    for width, height, at_least in (
        (100, 40, 40),
        (100, 79, 40),
        (100, 80, 40),
        (97, 161, 20),
        (97, 161, 12),
        (64, 64, 1),
    ):
        data = io.BytesIO()
        picture(width, height).save(data, "JPEG")
        header = read_header(data.getvalue())
        assert header is not None
        image = Image.open(io.BytesIO(data.getvalue()))
        image.draft(None, (at_least, at_least))
        factor = factor_for(header, at_least)
        assert image.size == (-(-width // factor), -(-height // factor))


@pytest.mark.parametrize("kind", ["CMYK", "png", "adobe rgb", "raw text", "not baseline"])
def test_odd_files_are_left_to_pillow(tmp_path: Path, kind: str) -> None:
    """No header for them, and `read_pixels` gives what Pillow gives."""
    file = tmp_path / "a.jpg"
    if kind == "CMYK":
        picture(mode="CMYK").save(file, "JPEG")
    elif kind == "png":
        picture().save(file, "PNG")
    elif kind == "adobe rgb":
        picture().save(file, "JPEG", keep_rgb=True)
    elif kind == "raw text":
        file.write_bytes(b"\xff\xd8\xff hello")
    else:
        saved(file, picture())
        data = file.read_bytes()
        at = data.index(b"\xff\xc0")
        file.write_bytes(data[: at + 1] + b"\xc9" + data[at + 2 :])  # arithmetic coding
    assert read_header(file.read_bytes()) is None
    if kind == "raw text":
        with pytest.raises(PictureError):
            read_pixels(file)
    else:
        np.testing.assert_array_equal(read_pixels(file), np.asarray(read_picture(file)))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_cut_off_file_is_found(tmp_path: Path, share: float) -> None:
    """The quick reader refuses it, and the message is that of `read_picture`."""
    file = saved(tmp_path / "a.jpg", picture())
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    header = read_header(file.read_bytes())
    assert header is None or read_jpeg(file.read_bytes(), header, 1) is None
    with pytest.raises(PictureError) as quick:
        read_pixels(file)
    with pytest.raises(PictureError) as slow:
        read_picture(file)
    assert str(quick.value) == str(slow.value)


def test_every_real_picture_has_the_same_pixels(shared_data: Path) -> None:
    """A few hundred files of real data sets, whole and reduced."""
    files = sorted(p for p in shared_data.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))[::23]
    assert len(files) > 100
    for file in files:
        for at_least in (None, 64):
            np.testing.assert_array_equal(
                read_pixels(file, at_least=at_least), np.asarray(read_picture(file, at_least=at_least))
            )
