"""Reading one picture: every format that people have, and everything that is not a picture."""

from __future__ import annotations

import io
import os
import random
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from convnext.data.names import printable
from convnext.data.pictures import opened
from convnext.data.pictures.decode import PICTURE_SUFFIXES, decode, read_picture
from convnext.data.pictures.quiet import quiet
from convnext.data.pictures.reasons import MAX_PIXELS
from convnext.errors import PictureError

Pixels = np.ndarray


def colours(width: int = 48, height: int = 32) -> Image.Image:
    """A smooth picture whose four corners differ, so that any turn or flip shows."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, 255 - x * 255 // width], 2).astype(np.uint8))


def png(values: Pixels, colour_type: int, bits: int) -> bytes:
    """A PNG written by hand, for what Pillow cannot write (16 bits in colour)."""
    height, width = values.shape[:2]
    rows = values.astype(">u2" if bits == 16 else "u1").reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def pixels(path: Path, mode: str = "RGB") -> np.ndarray:
    return np.asarray(read_picture(path, mode=mode)).astype(int)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".gif", ".avif", ".jp2", ".ppm"])
def test_every_format_gives_the_same_picture(tmp_path: Path, suffix: str) -> None:
    """All formats give the same RGB picture, exactly where they are lossless and nearly where not."""
    assert suffix in PICTURE_SUFFIXES
    path = tmp_path / f"x{suffix}"
    colours().save(path)
    worst = {".jpg": 16, ".webp": 24, ".avif": 16, ".gif": 16}.get(suffix, 0)
    read = read_picture(path)
    assert (read.mode, read.size) == ("RGB", (48, 32))
    assert np.abs(np.asarray(read).astype(int) - np.asarray(colours()).astype(int)).max() <= worst


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("source", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F", "LAB"])
def test_every_source_mode_becomes_every_mode(tmp_path: Path, source: str, mode: str) -> None:
    """Whatever a file's own mode is, the picture comes in the mode asked for and with the right gray level."""
    level = {"1": 255, "I;16": 200 * 257, "I": 200 * 257, "F": 200 / 255, "LAB": (200, 128, 128)}.get(source)
    if source in ("I;16", "I", "F", "LAB"):
        picture = Image.new(source, (8, 8), level)
    else:
        picture = Image.new("RGB", (8, 8), (200, 200, 200)).convert(source)
    path = tmp_path / "x.tif"
    picture.save(path)
    read = read_picture(path, mode=mode, value_range={"I": (0.0, 65535.0), "F": (0.0, 1.0)}.get(source))
    assert read.mode == mode
    found = np.asarray(read.convert("L")).astype(int)
    expected = np.asarray(Image.open(path).convert("L")).astype(int) if source in ("1", "P") else 200
    tolerance = {"LAB": 12, "CMYK": 1, "YCbCr": 1}.get(source, 0)
    assert np.abs(found - expected).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_exif_orientation_is_applied_once(tmp_path: Path, suffix: str, orientation: int) -> None:
    """The picture is turned as Pillow's own exif_transpose turns it, and a second turn finds nothing to do."""
    path = tmp_path / f"x{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == ".webp" else {}
    colours().save(path, exif=exif, **options)
    expected = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    read = read_picture(path)
    assert read.size == ((32, 48) if orientation >= 5 else (48, 32))
    np.testing.assert_array_equal(np.asarray(read), np.asarray(expected))
    np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(read)), np.asarray(expected))


def test_orientation_of_a_compressed_tiff(tmp_path: Path) -> None:
    """A compressed TIFF is turned as well, and its full size is reported upright."""
    path = tmp_path / "x.tif"
    exif = Image.Exif()
    exif[0x0112] = 6
    colours().save(path, exif=exif, compression="tiff_lzw")
    with path.open("rb") as file:
        picture, size = decode(file, path)
    assert picture.size == size == (32, 48)
    np.testing.assert_array_equal(np.asarray(picture), np.rot90(np.asarray(colours()), -1))


def test_damaged_exif_is_ignored(tmp_path: Path) -> None:
    """A damaged EXIF block does not cost a picture whose pixels are fine."""
    path = tmp_path / "x.jpg"
    colours().save(path, exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x05broken")
    assert read_picture(path).size == (48, 32)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    """16-bit gray (PNG, TIFF, PGM) and 16-bit RGB keep their levels: value / 257, to the nearest or the one below."""
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    for name in ("gray.png", "gray.tif", "gray.pgm", "gray.jp2"):
        Image.fromarray(ramp).save(tmp_path / name)
        np.testing.assert_allclose(pixels(tmp_path / name, "L"), ramp / 257, atol=0.51)
    colour = np.stack([ramp, ramp[::-1], ramp.T], axis=2)
    (tmp_path / "colour.png").write_bytes(png(colour, 2, 16))
    np.testing.assert_allclose(pixels(tmp_path / "colour.png"), colour / 257, atol=1.01)


def test_tiff_of_twelve_bits_and_of_ink(tmp_path: Path) -> None:
    """TIFF: where white is zero the values are turned round; 12 bits (packed) are scaled by their own range."""
    ramp = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    Image.fromarray(ramp).save(tmp_path / "ink.tif", tiffinfo={262: 0})
    np.testing.assert_array_equal(pixels(tmp_path / "ink.tif", "L"), [[255, 155, 0]])
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 3), (339, 1)]
    body = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    packed = bytes([0x80, 0x0F, 0xFF, 0])  # 0x800, 0xFFF: half and full
    (tmp_path / "twelve.tif").write_bytes(b"II*\0" + struct.pack("<I", 12) + packed + body + bytes(4))
    np.testing.assert_array_equal(pixels(tmp_path / "twelve.tif", "L"), [[128, 255]])


def test_sixteen_bits_with_alpha_lie_on_white(tmp_path: Path) -> None:
    """16-bit RGBA and gray + alpha are laid on white: v * a + 255 * (1 - a)."""
    alpha = np.array([[0, 32896, 65535]], dtype=np.uint16)
    value = np.full_like(alpha, 16448)  # 64 of 255
    opaque = alpha / 65535
    expected = 64 * opaque + 255 * (1 - opaque)
    (tmp_path / "rgba.png").write_bytes(png(np.stack([value, value, value, alpha], 2), 6, 16))
    (tmp_path / "la.png").write_bytes(png(np.stack([value, alpha], 2), 4, 16))
    for name in ("rgba.png", "la.png"):
        np.testing.assert_allclose(pixels(tmp_path / name, "L"), expected, atol=1.5)


def test_dark_sixteen_bit_picture_stays_dark(tmp_path: Path) -> None:
    """The factor is fixed: a 16-bit picture whose brightest value is 255 is nearly black, not stretched."""
    Image.fromarray(np.full((4, 4), 255, dtype=np.uint16)).save(tmp_path / "x.png")
    assert pixels(tmp_path / "x.png").max() == 1


def test_cmyk_jpeg_has_its_colours(tmp_path: Path) -> None:
    """A CMYK JPEG as Adobe writes it (inverted) gives red for no cyan, full magenta and yellow."""
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=95)
    assert b"Adobe" in (tmp_path / "x.jpg").read_bytes()
    np.testing.assert_allclose(pixels(tmp_path / "x.jpg")[8, 8], [255, 0, 0], atol=6)


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    """Alpha, transparent palette entries and a transparent colour all show white; opaque pixels keep their colour."""
    red = Image.new("RGBA", (2, 1), (200, 10, 10, 255))
    red.putpixel((0, 0), (0, 0, 0, 0))
    red.save(tmp_path / "alpha.png")
    red.quantize(2, method=Image.Quantize.FASTOCTREE).save(tmp_path / "palette.png")
    plain = Image.new("P", (2, 1), 1)
    plain.putpalette([0, 0, 0, 200, 10, 10])
    plain.putpixel((0, 0), 0)
    plain.save(tmp_path / "bytes.png", transparency=b"\x00\xff")
    plain.save(tmp_path / "one.gif", transparency=0)
    opaque = Image.new("RGB", (2, 1), (200, 10, 10))
    opaque.putpixel((0, 0), (0, 0, 0))
    opaque.save(tmp_path / "colour.png", transparency=(0, 0, 0))
    for name in ("alpha.png", "palette.png", "bytes.png", "one.gif", "colour.png"):
        assert pixels(tmp_path / name)[0].tolist() == [[255, 255, 255], [200, 10, 10]], name
        assert pixels(tmp_path / name, "RGBA")[0, :, 3].tolist() == [0, 255], name


def test_one_bit_and_first_frame(tmp_path: Path) -> None:
    """1-bit pictures are black and white, animations give their first frame."""
    bits = Image.fromarray(np.eye(8, dtype=bool))
    bits.save(tmp_path / "bits.png")
    np.testing.assert_array_equal(pixels(tmp_path / "bits.png", "L"), np.eye(8) * 255)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for name in ("x.gif", "x.webp", "x.tif", "x.png"):
        frames[0].save(
            tmp_path / name, save_all=True, append_images=frames[1:], **({"lossless": True} if "w" in name else {})
        )
        assert pixels(tmp_path / name)[4, 4].tolist() == [255, 0, 0], name


def test_at_least_decodes_smaller_but_never_too_small(tmp_path: Path) -> None:
    """A draft JPEG keeps its short side at `at_least` or more, looks the same, and other formats are left alone."""
    path = tmp_path / "x.jpg"
    colours(640, 401).save(path, quality=95)
    for at_least, size in ((50, (80, 51)), (51, (160, 101)), (200, (320, 201)), (202, (640, 401)), (9999, (640, 401))):
        assert read_picture(path, at_least=at_least).size == size
    small = read_picture(path, at_least=100).resize((40, 25), Image.Resampling.BOX)
    full = read_picture(path).resize((40, 25), Image.Resampling.BOX)
    assert np.abs(np.asarray(small).astype(int) - np.asarray(full).astype(int)).mean() < 2
    colours(640, 401).save(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png", at_least=50).size == (640, 401)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.995])
@pytest.mark.parametrize("at_least", [None, 32])
def test_a_truncated_jpeg_is_found(
    tmp_path: Path, options: dict[str, bool], share: float, at_least: int | None
) -> None:
    """A JPEG that ends early is refused, also when it is only decoded at 1/8."""
    noise = np.random.default_rng(0).integers(0, 255, (256, 320, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", **options)
    path = tmp_path / "x.jpg"
    path.write_bytes(buffer.getvalue()[: int(share * buffer.tell())])
    with pytest.raises(PictureError, match=r"x\.jpg: (cut off|damaged or cut off)"):
        read_picture(path, at_least=at_least)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".gif", ".bmp", ".tif", ".avif", ".jp2", ".ppm"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.97])
def test_other_truncated_pictures_are_found(tmp_path: Path, suffix: str, share: float) -> None:
    """Every format notices that its file ends early."""
    path = tmp_path / f"x{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(PictureError, match=f"x{suffix}: .*(cut off|damaged)"):
        read_picture(path)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), r"empty file \(0 bytes\)"),
    "text": (lambda path: path.write_text("<!DOCTYPE html>\n<html>"), "it is a web page, perhaps in place"),
    "bytes": (lambda path: path.write_bytes(bytes(range(200, 232))), "it is of another kind"),
    "zeros": (lambda path: path.write_bytes(bytes(5000)), "unfinished download"),
    "folder": (lambda path: path.mkdir(), "a folder, not a picture"),
    "missing": (lambda path: None, "no such file"),
    "dangling": (lambda path: path.symlink_to(path.parent / "nowhere"), "a link to a file that does not exist"),
    "ring": (lambda path: path.symlink_to(path), "too many levels of symbolic links"),
    "pipe": (_pipe, "not a regular file"),
    "postscript": (
        lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "a PostScript document",
    ),
    "secret": (lambda path: path.write_bytes(b"P5\nTOPSECRET 9 255\n"), "^((?!SECRET).)*$"),
    "chunk": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\nTOPSECRET"), "^((?!SECRET).)*$"),
    "header only": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "begins like a PNG"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_picture_says_why(tmp_path: Path, kind: str) -> None:
    """Each kind of bad file raises PictureError: the path, then the reason in plain words."""
    make, reason = BAD[kind]
    path = tmp_path / "x.jpg"
    make(path)
    with pytest.raises(PictureError, match=reason) as caught:
        read_picture(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_heic_without_the_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A HEIC file names the package that reads it when that is not installed."""
    monkeypatch.setattr(opened, "has_heif", lambda: False)
    opened._formats.cache_clear()
    path = tmp_path / "x.heic"
    path.write_bytes(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64))
    with pytest.raises(PictureError, match="HEIC picture: reading it needs the package pillow-heif"):
        read_picture(path)
    opened._formats.cache_clear()


def test_heic_is_read_when_the_package_is_there(tmp_path: Path) -> None:
    """With pillow-heif installed a HEIC file reads like any other, turned upright once."""
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed (extra heic)")
    heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    colours(64, 48).save(tmp_path / "x.heic", quality=95, exif=exif.tobytes())
    expected = np.rot90(np.asarray(colours(64, 48)), -1).astype(int)
    assert np.abs(pixels(tmp_path / "x.heic") - expected).mean() < 6


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read says so (faked, because the superuser may read everything)."""
    path = tmp_path / "x.jpg"
    colours().save(path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PictureError, match="no permission to read it"):
        read_picture(path)


@pytest.mark.parametrize(("width", "height"), [(13378, 13378), (60000, 60000), (2**31 - 1, 1)])
def test_decompression_bombs_are_refused_unopened(tmp_path: Path, width: int, height: int) -> None:
    """A tiny file that claims more than MAX_PIXELS pixels is refused from its header alone."""
    path = tmp_path / "x.png"
    header = png(np.zeros((1, 1)), 0, 8)
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(header[:12] + body + struct.pack(">I", zlib.crc32(body)) + header[33:])
    assert width * height > MAX_PIXELS
    with pytest.raises(PictureError, match="refused as a decompression bomb"):
        read_picture(path)


def test_large_pictures_below_the_limit_give_no_warning(tmp_path: Path) -> None:
    """Between Pillow's warning and its error (89 to 178 million pixels) a picture reads in silence."""
    path = tmp_path / "x.png"
    Image.new("1", (10000, 9000)).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_picture(path, mode="L").size == (10000, 9000)


def test_warnings_of_others_stay_and_filters_are_restored(tmp_path: Path) -> None:
    """Reading in several threads leaves the warning filters as they were."""
    path = tmp_path / "x.tif"
    colours().save(path, compression="tiff_lzw")
    path.write_bytes(path.read_bytes()[:-60])  # Pillow warns about the cut-off tags
    before = list(warnings.filters)

    def read() -> None:
        for _ in range(20):
            with pytest.raises(PictureError):
                read_picture(path)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
    with pytest.warns(UserWarning, match="ours"), quiet:
        warnings.warn("ours", UserWarning, stacklevel=1)


def test_odd_file_names(tmp_path: Path) -> None:
    """Unicode names and names that are not UTF-8 are read, and show printably in messages."""
    for name in (b"\xc3\xa9t\xc3\xa9 \xe8\x8a\xb1.JPG", b"caf\xe9\n.jpg"):
        path = tmp_path / os.fsdecode(name)
        try:
            colours().save(path, "JPEG")
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
        assert read_picture(path).size == (48, 32)
        path.write_bytes(b"")
        with pytest.raises(PictureError, match="empty file") as caught:
            read_picture(path)
        assert str(caught.value).isprintable()
        str(caught.value).encode("utf-8")
    assert printable("caf\udce9\n") == "caf\\udce9\\n"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".gif", ".jp2", ".avif"])
def test_damaged_files_read_or_raise_a_picture_error(tmp_path: Path, suffix: str) -> None:
    """Whatever bytes are changed, the outcome is a picture or a PictureError, never another exception or a warning."""
    path = tmp_path / f"x{suffix}"
    colours().save(path)
    good, dice = path.read_bytes(), random.Random(0)
    outcomes = set()
    for _ in range(150):
        bad = bytearray(good)
        for _ in range(dice.randint(1, 8)):
            bad[dice.randrange(len(bad))] = dice.randrange(256)
        path.write_bytes(bad)
        try:
            outcomes.add(read_picture(path, at_least=16).mode)
        except PictureError:
            outcomes.add("refused")
    assert outcomes == {"RGB", "refused"}


def test_an_unknown_mode_is_a_programming_mistake(tmp_path: Path) -> None:
    """A mode outside MODES is refused before the file is decoded."""
    colours().save(tmp_path / "x.png")
    with pytest.raises(ValueError, match="'HSV' is not one of L, RGB, RGBA"):
        read_picture(tmp_path / "x.png", mode="HSV")
