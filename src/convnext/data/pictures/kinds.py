"""Kinds of pictures and videos that are whole, and that nothing here reads: by how a file begins, their name."""

from __future__ import annotations

import re
from typing import IO

from convnext.data.pictures.jpeg import unusual_jpeg
from convnext.data.pictures.tiff import tiff_kind

_BEGINNINGS = (
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"gimp xcf", "GIMP (XCF)"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?R", "Radiance HDR"),
    (b"SIMPLE  =", "FITS"),
    (b"\x89HDF", "HDF5"),
    (b"\x00\x00\x01\x00", "icon (ICO)"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"\x8aMNG", "MNG"),
    (b"\x8bJNG", "JNG"),
    (b"P7\n", "PAM"),
    (b"DDS ", "DirectDraw (DDS)"),
    (b"qoif", "QOI"),
    (b"BPG\xfb", "BPG"),
    (b"AT&TFORM", "DjVu"),
    (b"FUJIFILMCCD-RAW", "camera raw (RAF)"),
    (b"IIRO", "camera raw (ORF)"),
    (b"IIRS", "camera raw (ORF)"),
    (b"IIU\x00", "camera raw (RW2)"),
    (b"FOVb", "camera raw (X3F)"),
    (b"Rar!", "packed archive (RAR)"),
    (b"\x1aE\xdf\xa3", "video (Matroska)"),
)
_BRANDS = re.compile(rb"ftyp(crx |isom|iso[2-9]|mp4[12]|avc1|qt  |M4V |3gp.)", re.DOTALL)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_REMEDY = "convert it, as to PNG"


def unread_kind(file: IO[bytes], begun: bool = False) -> str:
    """The sentence about a file of such a kind; "" for any other. `begun`: a decoder knew it, and failed later."""
    file.seek(0)
    head = file.read(256)
    for beginning, name in _BEGINNINGS:
        if head.startswith(beginning):
            return f"{_article(name)} {name} file, which is not read here; {_REMEDY}"
    if head[128:132] == b"DICM":
        return f"a DICOM file, which is not read here; {_REMEDY}"
    if found := _BRANDS.match(head[4:]):
        name = "camera raw (CR3)" if found[1] == b"crx " else "video"
        return f"a {name} file, which is not read here; {_REMEDY}"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "a video (AVI) file, which is not read here"
    if head[:4] in _TIFF and head[8:10] == b"CR":
        return f"a camera raw (CR2) file, which is not read here; {_REMEDY}"
    if head[:8] == b"\x89PNG\r\n\x1a\n" and head[12:16] == b"CgBI":
        return f"a PNG in Apple's own form for phones (CgBI), which is not read here; {_REMEDY}"
    if head[:4] in _TIFF:
        kind = tiff_kind(file)  # of which what comes later is damage, but for one
        return kind if not begun or kind.find("JPEG as of") > 0 else ""
    if head[:3] == b"\xff\xd8\xff":
        file.seek(0)
        kind = unusual_jpeg(file.read(1 << 20))
        return f"a JPEG of a kind that is not read here: {kind}; {_REMEDY}" if kind else ""
    return ""


def _article(name: str) -> str:
    return "an" if name[0] in "aeiouFHMO" and not name.startswith(("HE", "MA")) else "a"
