"""What lies in a tar, from its headers alone (POSIX.1-2001 pax, ustar, GNU and the format before them).

A header may come from a stranger: whatever it announces is compared with what there is before it is read or believed,
and no header costs more than its own bytes. (Python's tarfile allocates what a header announces, takes broken sparse
maps for its own faults, and gives sparse files a place that is not theirs.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

BLOCK = 512
"""Bytes that everything in a tar is a multiple of."""
_LONGEST = 1 << 20  # bytes of a long name, or of a member's pax records
_CHAIN = 64  # headers that describe one member
_FILES = frozenset("0\x007")  # plain files, the old kind, and contiguous ones
_WITHOUT_CONTENT = frozenset("123456")  # links, devices, folders, pipes: whatever size they announce
_SPARSE = "S"


class TarDamage(ValueError):
    """What is wrong with a tar, as the end of a sentence that begins with its name."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar: its name there, and where its bytes begin and how many they are."""

    name: str
    offset: int
    length: int


@dataclass
class _Known:
    """What the headers before a member's own say of it."""

    name: str | None = None
    size: int | None = None
    sparse: bool = False


def plain_files(file: IO[bytes], start: int, end: int) -> Iterator[Member]:
    """The plain files of the tar that lies in `file` from byte `start` to `end`, in order; offsets count from byte 0.

    What macOS puts beside a file (`._NAME`, `__MACOSX/`) is no file of the user's and passed over.

    Raises:
        TarDamage: it is no tar, it is damaged or cut off, or a file in it is stored in pieces.
        OSError: it cannot be read.
    """
    place, everywhere = start, _Known()
    while (found := _next(file, place, start, end, everywhere)) is not None:
        member, kind, place = found
        if kind in _FILES and not is_litter(member.name):
            yield member


def is_litter(name: str) -> bool:
    """Whether a file in an archive is one that macOS puts beside another: it has that one's name, and no picture."""
    folder, _, last = name.rpartition("/")
    return last.startswith("._") or "__MACOSX" in folder.split("/")


def _next(file: IO[bytes], place: int, start: int, end: int, everywhere: _Known) -> tuple[Member, str, int] | None:
    """The member whose first header is at `place`, its kind, and where the next one begins; None at the end."""
    known = _Known(everywhere.name, everywhere.size, everywhere.sparse)
    for number in range(_CHAIN):
        header = _header(file, place, start, end)
        if header is None:
            if number:
                raise TarDamage(f"it ends after a header without a file at byte {place:,}")
            return None
        kind, content = chr(header[156]), place + BLOCK
        size = _number(header[124:136], place)
        if kind in "LKxXg":
            _describe(kind, _extra(file, content, size, end, place), known, everywhere, place)
            place = content + _padded(size)
            continue
        name = _name(header, kind) if known.name is None else known.name
        size = size if known.size is None else known.size
        if kind in "0\x00" and name.endswith("/"):
            kind = "5"
        if kind == _SPARSE or (known.sparse and kind in _FILES):
            raise TarDamage(f"{name} is stored in pieces, without its zeros; write it anew without --sparse")
        if kind in _WITHOUT_CONTENT:
            return Member(name, content, 0), kind, content
        if content + size > end:
            raise TarDamage(f"it ends inside {name}")
        return Member(name, content, size), kind, content + _padded(size)
    raise TarDamage(f"more than {_CHAIN} headers for one file at byte {place:,}")


def _header(file: IO[bytes], place: int, start: int, end: int) -> bytes | None:
    """The header at `place`; None for a block of zeros, which ends a tar."""
    file.seek(place)
    block = file.read(max(0, min(BLOCK, end - place)))
    if len(block) < BLOCK:
        raise TarDamage(f"it ends without a mark at byte {place:,}")
    if not block.strip(b"\0"):
        return None
    text = block[148:156].split(b"\0")[0].strip()
    rest = block[:148] + b" " * 8 + block[156:]
    signed = sum(rest) - 256 * sum(byte > 127 for byte in rest)
    if not text or not text.isdigit() or b"8" in text or b"9" in text or int(text, 8) not in (sum(rest), signed):
        if place > start:
            raise TarDamage(f"it has a damaged header at byte {place:,}")
        packed = block.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
        raise TarDamage("it is compressed; unpack it first" if packed else "it begins with no header of a tar")
    return block


def _extra(file: IO[bytes], content: int, size: int, end: int, place: int) -> bytes:
    if content + size > end:
        raise TarDamage(f"its header at byte {place:,} announces {size:,} bytes, more than there are")
    if size > _LONGEST:
        raise TarDamage(f"its header at byte {place:,} announces a name of {size:,} bytes")
    file.seek(content)
    return file.read(size)


def _describe(kind: str, content: bytes, known: _Known, everywhere: _Known, place: int) -> None:
    """Takes what a header of its own says of the member after it, or (`g`) of all members after it."""
    if kind == "L":
        known.name = _text(content)
    elif kind != "K":  # the name of a link
        for target in (known, everywhere) if kind == "g" else (known,):
            _take_records(content, target, place)


def _take_records(content: bytes, known: _Known, place: int) -> None:
    """Reads pax records, `LENGTH KEY=VALUE\\n` each."""
    damage = TarDamage(f"it has damaged pax records at byte {place:,}")
    at = 0
    while at < len(content):
        digits, space, _ = content[at : at + 10].partition(b" ")
        if not space or not digits.isdigit():
            if not content[at:].strip(b"\0"):
                return
            raise damage
        record = content[at : at + int(digits)]
        if int(digits) <= len(digits) + 1 or len(record) < int(digits) or not record.endswith(b"\n"):
            raise damage
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not equals:
            raise damage
        if key == b"path":
            known.name = _text(value).rstrip("/") or None
        elif key == b"size":
            if not value.isdigit() or len(value) > 20:
                raise damage
            known.size = int(value)
        known.sparse = known.sparse or key.startswith(b"GNU.sparse.")
        at += int(digits)


def _name(header: bytes, kind: str) -> str:
    name, folder = _text(header[:100]), _text(header[345:500])
    return f"{folder}/{name}" if folder and kind != _SPARSE else name


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "surrogateescape")


def _number(field: bytes, place: int) -> int:
    """A number of a header: octal digits, or 2^(8k) notation after a first byte of 0x80."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.split(b"\0")[0].strip() or b"0"
    if not text.isdigit() or b"8" in text or b"9" in text:
        raise TarDamage(f"it has a damaged header at byte {place:,}")
    return int(text, 8)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
