"""The walk that training and prediction share: links, rings, depth, what is passed over."""

from __future__ import annotations

import os
from pathlib import Path

from convnext.data.sources.walk import walk


def test_links_are_followed_once_and_leavings_are_passed_over(tmp_path: Path) -> None:
    """As `find -L` without hidden names finds them; a ring of links ends, a link to nowhere is a file to be told."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    for name in ("b/2.png", "b/10.JPG", "__MACOSX/b/._2.png", ".hidden/3.png", "b/.4.png", "@eaDir/5.png", "b/x.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "6.webp").touch()
    (root / "a").symlink_to(outside)
    (outside / "ring").symlink_to(root)
    (root / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (root / "folder.png").mkdir()
    found = walk(root)
    assert [path.relative_to(root).as_posix() for path in found.pictures] == [
        "a/deep/6.webp", "b/10.JPG", "b/2.png", "gone.png",
    ]  # fmt: skip
    assert found.unreadable == [(root / "folder.png", "a folder, not a picture")]
    assert dict(found.others) == {".txt": 1}


def test_folders_may_lie_as_deep_as_the_system_allows(tmp_path: Path) -> None:
    """1,500 folders in one another are no RecursionError."""
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(1500):
            os.mkdir("d", dir_fd=here)
            inner = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
        os.close(os.open("x.png", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        assert [path.name for path in walk(tmp_path).pictures] == ["x.png"]
        os.unlink("x.png", dir_fd=here)
        for _ in range(1500):  # pytest, which takes the folders of passed tests away, would not get as deep
            upper = os.open("..", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = upper
            os.rmdir("d", dir_fd=here)
    finally:
        os.close(here)
