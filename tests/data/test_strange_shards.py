"""Tars, labels and indices that a stranger made: each is read right, or refused with the reason, and at once."""

from __future__ import annotations

import copy
import json
import struct
import tarfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from convnext.data.pictures.tarball import member_path, members, open_member
from convnext.data.shards.check import check_records
from convnext.data.shards.meta import ALWAYS, RECORD, parse_meta
from convnext.data.shards.open import open_shards
from convnext.data.shards.read import digest_of, read_sharded
from convnext.data.shards.scan import index_tars
from convnext.data.sources.reading import Reading
from convnext.errors import DataError
from convnext.tasks.classify.meaning import counts
from convnext.tasks.classify.targets import ClassTargets

FUZZ = settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def png(shade: int) -> bytes:
    """A tiny picture."""
    buffer = BytesIO()
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    """A tar of files, as Python writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, BytesIO(data))
    return path


def labelled(labels: list[bytes], ending: str = "cls") -> dict[str, bytes]:
    """A picture for each content of a file of labels."""
    return {
        name: data for i, label in enumerate(labels) for name, data in ((f"{i}.png", png(i)), (f"{i}.{ending}", label))
    }


def header(name: bytes, size: bytes, kind: bytes) -> bytes:
    """A header as it stands in a tar, with a sum that is right."""
    block = bytearray(512)
    block[: len(name)] = name
    block[124 : 124 + len(size)] = size
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_tarfile_finds(form: int, tmp_path: Path) -> None:
    """Short and long names, not ASCII, empty files, folders and links: the same files at the same places."""
    long = "folder/" * 13 + "n" * 90
    files = {"a.png": b"1" * 700, long: b"2", "ordner/ä.png": b"", "z": b"3" * 512}
    tar = write_tar(tmp_path / "a.tar", files, form)
    with tarfile.open(tar, "a", format=form) as archive:
        for name, kind in (("f", tarfile.DIRTYPE), ("l", tarfile.SYMTYPE), ("h", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "a.png"
            archive.addfile(info)
        info = tarfile.TarInfo("after.png")
        info.size, info.pax_headers = 5, {"comment": "x" * 3000, "LIBARCHIVE.xattr": "y=z"}
        archive.addfile(info, BytesIO(b"after"))
    with tarfile.open(tar) as archive:
        wanted = [(i.name, i.offset_data, i.size) for i in archive if i.isfile()]
    assert [(m.name, m.offset, m.length) for m in members(tar)] == wanted
    assert len(wanted) == 5


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (header(b"././@LongLink", b"\x80" + (1 << 40).to_bytes(11, "big"), b"L"), "announces 1,099,511,627,776 bytes"),
        (header(b"pax", b"\x80" + (1 << 40).to_bytes(11, "big"), b"x"), "announces 1,099,511,627,776 bytes"),
        (header(b"pax", b"\x80" + (1 << 40).to_bytes(11, "big"), b"g"), "announces 1,099,511,627,776 bytes"),
        (header(b"0.png", b"\x80" + (1 << 80).to_bytes(11, "big"), b"0"), "ends inside 0.png"),
        (header(b"0.png", b"\xff" * 12, b"0"), "damaged header"),
        (header(b"0.png", b"99999999999\0", b"0"), "damaged header"),
        (header(b"pax", b"00000000010\0", b"x") + b"9 a".ljust(512, b"\0"), "damaged pax records"),
        (header(b"pax", b"00000000030\0", b"x") + b"24 size=-000000000000005\n".ljust(512, b"\0"), "damaged pax"),
        (header(b"0.png", b"00000000010\0", b"S") + bytes(512), "stored in pieces"),
        (header(b"pax", b"00000000010\0", b"x") + bytes(512), "ends after a header without a file"),
        (header(b"pax", b"00000000000\0", b"x") * 100, "more than 64 headers for one file"),
        (b"\x1f\x8b" + bytes(1000), "is compressed"),
        (b"no tar" * 200, "begins with no header of a tar"),
        (b"", "ends without a mark"),
    ],
)
def test_what_a_header_announces_is_not_believed(head: bytes, words: str, tmp_path: Path) -> None:
    """Sizes beyond the file, negative ones, broken maps of sparse files, endless chains: said at once, in one line."""
    tar = tmp_path / "train-0.tar"
    tar.write_bytes(head + bytes(1024 if head else 0))
    start = time.monotonic()
    with pytest.raises(DataError, match=words):
        list(members(tar))
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_a_sparse_file_is_refused_whatever_its_map_says(version: str, tmp_path: Path) -> None:
    """GNU's three ways of leaving out zeros, with maps that are no numbers: its bytes are not where they seem."""
    keys = {
        "0.0": {"GNU.sparse.size": "x", "GNU.sparse.numblocks": "-1"},
        "0.1": {"GNU.sparse.map": "0,9,x"},
        "1.0": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "q"},
    }[version]
    with tarfile.open(tmp_path / "train-0.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("0.png")
        info.size, info.pax_headers = 4, keys
        archive.addfile(info, BytesIO(b"9999"))
    with pytest.raises(DataError, match=r"0\.png is stored in pieces.*without --sparse"):
        list(members(tmp_path / "train-0.tar"))


@seed(16)
@FUZZ
@given(st.binary(max_size=600), st.integers(0, 2047), st.sampled_from([b"x", b"g", b"L", b"S", b"0", b"5", b"7"]))
def test_damaged_headers_are_read_or_refused(junk: bytes, at: int, kind: bytes) -> None:
    """Bytes of a good tar overwritten, headers of each kind with any content: files as tarfile's, or a DataError."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        good = write_tar(Path(folder, "a.tar"), {"0.png": b"p" * 30, "0.cls": b"1"}).read_bytes()
        spoilt = good[:at] + junk + good[at + len(junk) :]
        strange = header(b"strange", b"%011o\0" % len(junk), kind) + junk + bytes(-len(junk) % 512) + good
        for content in (spoilt, strange):
            tar = Path(folder, "b.tar")
            tar.write_bytes(content)
            try:
                found = list(members(tar))
            except DataError:
                continue
            assert all(0 <= m.offset <= m.offset + m.length <= len(content) for m in found)


def test_what_macos_puts_into_tars_is_passed_over(tmp_path: Path) -> None:
    """`._NAME` and __MACOSX come between a picture and its label, with the picture's own ending."""
    files = {}
    for name, data in labelled([b"0", b"1", b"1"]).items():
        files |= {f"._{name}": b"\0\5\x16\7" + b"x" * 80, f"__MACOSX/._{name}": b"x", name: data}
    write_tar(tmp_path / "tars" / "train-0.tar", files)
    found = open_shards(tmp_path / "tars", Reading(val=0.0), ClassTargets())
    assert found is not None
    assert [sample.target for sample in found.splits["train"]] == [(0,), (1,), (1,)]
    assert not any(note.startswith("left out") for note in found.notes)


def test_dots_in_names_are_explained(tmp_path: Path) -> None:
    """A key ends at the first dot: where that leaves no picture, name, key and a better name are said."""
    write_tar(tmp_path / "all" / "train-0.tar", {"cat.7.b.png": png(0), "cat.7.b.cls": b"1"})
    with pytest.raises(DataError, match=r'cat\.7\.b\.png has more than one dot.*"cat".*as cat-7-b\.png'):
        open_shards(tmp_path / "all", Reading(val=0.0), ClassTargets())
    mask = {"5.jpg": png(5), "5.seg.png": png(6), "5.cls": b"0"}
    write_tar(tmp_path / "some" / "train-0.tar", labelled([b"0", b"1"]) | mask | {"x.1.png": png(1), "x.1.cls": b"1"})
    found = open_shards(tmp_path / "some", Reading(val=0.0), ClassTargets())
    assert found is not None
    assert len(found.splits["train"]) == 3
    assert [note for note in found.notes if "dot" in note][0].startswith("left out: 1 picture, the first")  # noqa: RUF015


def test_leading_zeros_and_classes_without_pictures_are_explained(tmp_path: Path) -> None:
    """01 and 1 are one class, numbers as they are; classes below the highest number that nothing has are counted."""
    write_tar(tmp_path / "a" / "train-0.tar", labelled([b"01", b"1", b"0", b"\xef\xbb\xbf2"]))
    found = open_shards(tmp_path / "a", Reading(val=0.0), ClassTargets())
    assert found is not None
    assert [sample.target[0] for sample in found.splits["train"]] == [1, 1, 0, 2]
    assert any('"01" is class 1; "01" and "1" are the same class' in note for note in found.notes)
    write_tar(tmp_path / "b" / "train-0.tar", labelled([b"001", b"003"]))
    found = open_shards(tmp_path / "b", Reading(val=0.0), ClassTargets())
    assert found is not None
    assert any("4 classes, but 2 of them have no picture, the first 0" in note for note in found.notes)
    write_tar(tmp_path / "c" / "train-0.tar", labelled([b"01", b"1"], "json"))
    with pytest.raises(DataError, match="is no JSON"):
        open_shards(tmp_path / "c", Reading(val=0.0), ClassTargets())
    write_tar(tmp_path / "d" / "train-0.tar", labelled([b'["01", "1"]', b'["0"]'], "json"))
    found = open_shards(tmp_path / "d", Reading(val=0.0), ClassTargets())
    assert found is not None
    assert [sample.target for sample in found.splits["train"]] == [(1,), (0,)]
    assert counts(found, "train") == [1, 1]


@pytest.mark.parametrize(
    ("label", "ending", "words"),
    [
        (b"999999", "cls", r"label 999999 would be the last of 1,000,000 classes.*2 pictures"),
        (b"30000", "cls", r"label 30000 would be the last of 30,001 classes"),
        (b"999999", "json", "label 999999 would be the last"),
        (b'{"label": 999999}', "json", "label 999999 would be the last"),
        (json.dumps(list(range(1_000_000))).encode(), "json", "has 1,000,000 labels; a picture may have 10,000"),
        (json.dumps([str(i) for i in range(20_000)]).encode(), "json", "has 20,000 labels"),
        (b" " * 17_000_000 + b"1", "json", "has 17,000,001 bytes; labels may take"),
        (b"9" * 4000, "json", "9999999999..."),
        (b"cat\ndog", "cls", r'"cat\\ndog" is no label'),
        (b"cat\x1b[2J", "cls", "is no label"),
        (b"n" * 1001, "cls", "is no label"),
        (b"caf\xe9", "cls", "is no text in UTF-8"),
        (rb'{"label": "\ud800"}', "json", "is no label"),
        (b'{"label": " "}', "json", "is no label"),
    ],
)
def test_a_label_that_cannot_be_one_is_refused_at_once(label: bytes, ending: str, words: str, tmp_path: Path) -> None:
    """Classes are bounded by the pictures that there are; lists and names by what people write."""
    write_tar(tmp_path / "train-0.tar", labelled([b"1", label], ending))
    start = time.monotonic()
    with pytest.raises(DataError, match=words):
        open_shards(tmp_path, Reading(val=0.0), ClassTargets())
    assert time.monotonic() - start < 10


def test_blanks_around_a_label_are_none_of_it(tmp_path: Path) -> None:
    """A .json is read as a .cls is: " b" and "b" are one class."""
    write_tar(tmp_path / "train-0.tar", labelled([b'{"label": " b"}', b'{"label": "b "}', b'{"label": "a"}'], "json"))
    found = open_shards(tmp_path, Reading(val=0.0), ClassTargets())
    assert found is not None
    assert found.classes == ("a", "b")


def test_the_highest_class_of_imagenet_22k_is_one(tmp_path: Path) -> None:
    """A debugging set of a few pictures of ImageNet-22K keeps its numbers; more pictures may have more classes."""
    write_tar(tmp_path / "train-0.tar", labelled([b"1", b"21840"]))
    found = open_shards(tmp_path, Reading(val=0.0), ClassTargets())
    assert found is not None
    assert len(found.classes) == 21_841
    assert len(found.classes) < ALWAYS


@pytest.fixture
def indexed(tmp_path: Path) -> Path:
    """Two tars with their index, one label a picture."""
    for split, labels in (("train", [b"a", b"b", b"a"]), ("val", [b"b", b"a"])):
        write_tar(tmp_path / "shards" / f"{split}-0.tar", labelled(labels))
    index_tars(tmp_path / "shards")
    return tmp_path / "shards"


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """A tar with its index, several labels a picture."""
    write_tar(tmp_path / "several" / "train-0.tar", labelled([b'["a", "b"]', b'["b"]', b"[]"], "json"))
    index_tars(tmp_path / "several")
    return tmp_path / "several"


def forge(folder: Path, change: Callable[[dict[str, Any], Any], None]) -> None:
    """Changes list and index, and seals them as a stranger would who knows how."""
    meta = json.loads((folder / "shards.json").read_text())
    rows = np.fromfile(folder / "index.bin", RECORD)
    change(meta, rows)
    rows.tofile(folder / "index.bin")
    (folder / "shards.json").write_text(json.dumps(meta))
    known = parse_meta((folder / "shards.json").read_bytes(), "")
    digest = digest_of(known.classes, known.shards, folder, known.counts if known.multi_label else None)
    (folder / "shards.json").write_text(json.dumps(meta | {"fingerprint": digest}))


def setter(field: str, at: int, value: int) -> Callable[[dict[str, Any], Any], None]:
    """A change of one number of the index."""

    def change(meta: dict[str, Any], rows: Any) -> None:
        rows[field][at] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (setter("label", 1, 2), "record 1 has a label that is none of the 2 classes"),
        (setter("label", 4, 2**32 - 1), "record 4 has a label"),
        (setter("label", 1, 0), '2 pictures of class "a" in train, but there are 3'),
        (setter("shard", 2, 7), "record 2 is not of tar 0, train-0.tar"),
        (setter("shard", 2, 1), "record 2 is not of tar 0"),
        (setter("shard", 3, 0), "record 3 is not of tar 1, val-0.tar"),
        (setter("offset", 0, 2**63 + 5), "record 0 leads beyond train-0.tar"),
        (setter("offset", 0, 10**6), "record 0 leads beyond train-0.tar"),
        (setter("length", 3, 2**32 - 1), "record 3 leads beyond val-0.tar"),
    ],
)
def test_an_index_that_leads_elsewhere_is_refused_before_use(
    change: Callable[[dict[str, Any], Any], None], words: str, indexed: Path
) -> None:
    """Beyond classes, tars or the file, or with counts that are not its own, though its seal is right."""
    assert open_shards(indexed, Reading(val=0.0), ClassTargets()) is not None
    forge(indexed, change)
    with pytest.raises(DataError, match=words):
        open_shards(indexed, Reading(val=0.0), ClassTargets())


@pytest.mark.parametrize("words", [[5, 0, 1, 1, 1, 0], [2, 0, 9, 1, 1, 0], [2, 1, 1, 1, 1, 0], [2**32 - 1]])
def test_labels_that_lead_to_no_class_are_refused(words: list[int], several: Path) -> None:
    """Sets of labels that go beyond their file, name classes that there are not, or one twice."""
    forge(several, lambda meta, rows: None)
    assert open_shards(several, Reading(val=0.0), ClassTargets()) is not None
    (several / "labels.bin").write_bytes(struct.pack(f"<{len(words)}I", *words))
    forge(several, lambda meta, rows: None)
    with pytest.raises(DataError, match=r"the labels at place 0 of labels\.bin are none of 2 classes"):
        open_shards(several, Reading(val=0.0), ClassTargets())


def test_a_label_in_the_midst_of_a_set_is_refused(several: Path) -> None:
    """A record must lead to the beginning of a set."""
    forge(several, setter("label", 0, 1))
    with pytest.raises(DataError, match="record 0 has a label that is none"):
        open_shards(several, Reading(val=0.0), ClassTargets())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": ["a", "a"]}, 'class "a" stands in it 2 times'),
        ({"classes": [str(i) for i in range(40_000)]}, "40,000 classes for 5 pictures"),
        ({"version": [1]}, r"is of version \[1\]"),
        ({"version": "9" * 5000}, "is of version 9999"),
    ],
)
def test_a_list_that_contradicts_itself_is_refused(change: dict[str, Any], words: str, indexed: Path) -> None:
    """Two classes of one name, more classes than pictures can have, no version."""
    meta = json.loads((indexed / "shards.json").read_text())
    (indexed / "shards.json").write_text(json.dumps(meta | change))
    with pytest.raises(DataError, match=words):
        open_shards(indexed, Reading(val=0.0), ClassTargets())


def test_a_list_without_end_is_not_read(indexed: Path) -> None:
    """64 MB hold some 300,000 tars; a file of holes is longer without taking any disk."""
    with (indexed / "shards.json").open("ab") as file:
        file.truncate(10**11)
    with pytest.raises(DataError, match="more than 64,000,000 bytes"):
        open_shards(indexed, Reading(val=0.0), ClassTargets())


def test_the_check_is_of_what_lies_there_now(indexed: Path) -> None:
    """An index that was checked once and changed since is checked again."""
    read_sharded(indexed, targets=ClassTargets())
    meta = parse_meta((indexed / "shards.json").read_bytes(), "")
    rows = np.fromfile(indexed / "index.bin", RECORD)
    rows["label"][0] = 5
    rows.tofile(indexed / "index.bin")
    with pytest.raises(DataError, match="record 0 has a label"):
        check_records(meta, indexed)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@seed(16)
@settings(FUZZ, max_examples=30)
@given(st.data())
def test_damaged_lists_and_indices_are_read_or_refused(data: st.DataObject) -> None:
    """Any value in any place of shards.json, any numbers in the index: a data set that can be read, or a DataError."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "shards")
        write_tar(folder / "train-0.tar", labelled([b"a", b"b"]))
        index_tars(folder)
        good = json.loads((folder / "shards.json").read_text())
        meta = copy.deepcopy(good)
        place: Any = meta["shards"][0] if data.draw(st.booleans()) else meta
        key = data.draw(st.sampled_from(sorted(place)))
        place[key] = data.draw(JSON)
        rows = np.fromfile(folder / "index.bin", RECORD)
        field = data.draw(st.sampled_from(["shard", "label", "offset", "length"]))
        rows[field][data.draw(st.integers(0, 1))] = data.draw(st.integers(0, 2**32 - 1))
        for forged, numbers in ((meta, None), (good, rows)):
            if numbers is not None:
                numbers.tofile(folder / "index.bin")
            (folder / "shards.json").write_text(json.dumps(forged))
            try:
                known = parse_meta((folder / "shards.json").read_bytes(), "")
                digest = digest_of(known.classes, known.shards, folder, known.counts if known.multi_label else None)
                (folder / "shards.json").write_text(json.dumps(forged | {"fingerprint": digest}))
                found = open_shards(folder, Reading(val=0.0), ClassTargets())
            except DataError:
                continue
            assert found is not None
            for samples in found.splits.values():
                assert all(label < len(found.classes) for sample in samples for label in sample.target)
                assert all(open_member(sample.path) is not None for sample in samples)


def test_a_place_before_the_first_header_has_a_name(tmp_path: Path) -> None:
    """The name of a member comes from the header before it; an index may say that there is none."""
    from convnext.data.pictures.tarball import member_name

    tar = write_tar(tmp_path / "a.tar", {"0.png": b"x"})
    assert member_name(member_path(tar, 512, 1)) == "0.png"
    assert member_name(member_path(tar, 5, 1)) == "0.png"
