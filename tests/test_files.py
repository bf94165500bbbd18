"""Files that are made without following links, and put in their place whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from convnext.files import (
    Part,
    is_own_folder,
    left_parts,
    new_file,
    open_own,
    open_plain,
    open_text,
    own_folder,
    write_whole,
)

KEPT = b"a file of mine"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A file outside, to which links lead."""
    file = tmp_path / "mine.txt"
    file.write_bytes(KEPT)
    return file


def test_a_part_is_renamed_when_it_is_whole_and_gone_when_something_fails(tmp_path: Path) -> None:
    """The place holds the old content until the new one is whole; after a failure nothing else is left."""
    place = tmp_path / "result.json"
    write_whole(place, b"old")
    with pytest.raises(TypeError), Part(place) as part:
        part.file.write("half")  # type: ignore[call-overload]
    assert place.read_bytes() == b"old"
    with Part(place) as part:
        part.file.write(b"new")
        assert part.path.parent == tmp_path
        assert place.read_bytes() == b"old"
    assert place.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [place]
    assert place.stat().st_mode & 0o777 == 0o666 & ~_umask()


def test_a_link_in_the_place_is_replaced_and_never_written_through(tmp_path: Path, mine: Path) -> None:
    """A link where a file goes gives way to it; the file that it leads to keeps its content."""
    place = tmp_path / "folder" / "best.safetensors"
    place.parent.mkdir()
    place.symlink_to(mine)
    write_whole(place, b"weights")
    assert place.read_bytes() == b"weights"
    assert not place.is_symlink()
    assert mine.read_bytes() == KEPT


def test_two_parts_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """Two processes that write one file write two parts; the last to finish has the place."""
    first, second = Part(tmp_path / "a.bin"), Part(tmp_path / "a.bin")
    assert {first.path, second.path} == set(left_parts(tmp_path / "a.bin"))
    assert left_parts(tmp_path / "a") == []
    first.file.write(b"1")
    second.file.write(b"2")
    second.commit()
    first.commit()
    assert (tmp_path / "a.bin").read_bytes() == b"1"
    assert left_parts(tmp_path / "a.bin") == []


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    """The part of the longest name that a file may have is no longer than that."""
    write_whole(tmp_path / ("n" * 255), b"content")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"content"


def test_new_files_and_own_files_follow_no_link(tmp_path: Path, mine: Path) -> None:
    """A link to a file, to nothing or to a device is refused, and what it leads to is neither emptied nor made."""
    for target in (mine, tmp_path / "nowhere", Path(os.devnull)):
        place = tmp_path / ".lock"
        place.symlink_to(target)
        with pytest.raises(FileExistsError):
            new_file(place)
        with pytest.raises(OSError, match="this is a link to another place, which is not followed; remove it"):
            open_own(place)
        place.unlink()
    assert mine.read_bytes() == KEPT
    assert not (tmp_path / "nowhere").exists()


def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(tmp_path: Path) -> None:
    """A pipe without a reader would hold whoever opens it for ever."""
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(OSError, match="no plain file"):
        open_own(tmp_path / ".lock")


def test_an_own_file_keeps_its_content(tmp_path: Path, mine: Path) -> None:
    """A file that is there is not emptied; appended to, it grows at its end; a missing one is made."""
    with open_own(mine) as file:
        assert file.read() == KEPT
    with open_own(mine, append=True) as file:
        file.write(b", and more")
    assert mine.read_bytes() == KEPT + b", and more"
    open_own(tmp_path / "new").close()
    assert (tmp_path / "new").read_bytes() == b""


def test_a_link_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder is made or taken as it is; a link to one, or a file, is refused and named so."""
    assert own_folder(tmp_path / "pictures") == own_folder(tmp_path / "pictures")
    (tmp_path / "linked").symlink_to(tmp_path / "pictures", target_is_directory=True)
    with pytest.raises(OSError, match="link to another place"):
        own_folder(tmp_path / "linked")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="no folder"):
        own_folder(tmp_path / "file")
    assert [is_own_folder(tmp_path / name) for name in ("pictures", "linked", "file", "none")] == [True, *[False] * 3]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("place", ["pipe", "folder"])
def test_what_is_no_plain_file_is_not_waited_for(place: str, tmp_path: Path, mine: Path) -> None:
    """A pipe that nobody writes to, and a folder, are refused at once; a link to a file is that file."""
    path = tmp_path / place
    if place == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(OSError, match=r"no plain file|[Ii]s a directory"):
        open_plain(path)
    (tmp_path / "link").symlink_to(mine)
    with open_plain(tmp_path / "link") as file, open_text(mine) as text:
        assert file.read() == KEPT == text.read().encode()
