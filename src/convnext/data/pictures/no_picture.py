"""What a file is that is no picture, in our own words.

None of its bytes is shown: a table of a stranger may name any file, and messages go to terminals, logs and pages.
"""

from __future__ import annotations

_OTHERS = (
    (b"<!doctype html", "a web page, perhaps in place of a download"),
    (b"<html", "a web page, perhaps in place of a download"),
    (b"version https://git-lfs", "a Git LFS pointer: fetch the file itself by `git lfs pull`"),
    (b"<svg", "an SVG drawing, which has no pixels"),
    (b"<?xml", "an XML file"),
    (b"%pdf", "a PDF document"),
    (b"%!ps", "a PostScript document"),
    (b"pk\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "packed by gzip"),
    (b"8bps", "a Photoshop file"),
    (b"\x93numpy", "a NumPy array"),
)
"""How other files begin, in lower case."""


def kind_of(head: bytes) -> str:
    """What a file is that begins so, to go on with after "it is"."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, name in _OTHERS:
        if start.startswith(magic):
            return name
    text = all(32 <= byte < 127 or byte in b"\t\n\r\f" for byte in head)
    return "text" if text else "of another kind"
