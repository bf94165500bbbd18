"""Tars that hold a class each, as ImageNet-22K comes: a folder of them, or one tar of them. Read in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from convnext.data.names import count, in_order, listed, printable
from convnext.data.pictures.decode import PICTURE_SUFFIXES
from convnext.data.pictures.tar_headers import Member
from convnext.data.pictures.tarball import members, nested
from convnext.data.shards.index_writer import IndexWriter, draw
from convnext.data.shards.read import ShardedDataset, read_sharded
from convnext.errors import DataError, UserError
from convnext.tasks.classify.targets import ClassTargets


def read_tars(root: Path, val: float, into: Path, progress: Callable[[int, int], None] | None = None) -> ShardedDataset:
    """The pictures of tars that hold a class each, without unpacking or opening them.

    Args:
        root: a folder of CLASS.tar files, or one tar of them (as ImageNet-22K comes).
        val: share of the pictures for validation, decided by each one's name.
        into: an empty folder for the index, 20 bytes a picture.
        progress: called with (tars listed, tars in all).

    Raises:
        DataError: a tar is damaged, or there are no pictures.
        UserError: the index cannot be written.
    """
    tars = sorted(root.glob("*.tar")) if root.is_dir() else [root]
    names: list[str] = []
    empty: list[str] = []
    writer = IndexWriter(into)
    try:
        for number, tar in enumerate(tars, 1):
            for name, found in _of(tar, root.is_dir()):
                before = writer.pictures
                for member in found:
                    if Path(member.name).suffix.lower() in PICTURE_SUFFIXES:
                        split = "val" if draw(f"{name}/{member.name}") < val else "train"
                        writer.add(split, (name,), member.offset, member.length)
                (names if writer.pictures > before else empty).append(name)
                writer.end_tar(tar.name, tar.stat().st_size)
            if progress:
                progress(number, len(tars))
        _refuse(root, names)
        classes = in_order(names)
        place = {name: number for number, name in enumerate(classes)}
        notes = [f"{len(classes):,} classes from tars"]
        if empty:
            notes.append(f"left out: {count(len(empty), 'class', 'classes')} without pictures: {listed(empty)}")
        writer.finish(classes, place, False, notes)
    except OSError as error:
        raise UserError(f"{into} cannot be written ({(error.strerror or str(error)).lower()})") from None
    finally:
        writer.drop()
    return read_sharded(root, root if root.is_dir() else root.parent, into, targets=ClassTargets())


def _refuse(root: Path, names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise DataError(f"{printable(root)}: a class is in more than one tar; put its pictures into one")
    if len(names) < 2:
        raise DataError(
            f"{printable(root)}: {count(len(names), 'class', 'classes')} in it; a classifier needs two or more"
        )


def _of(tar: Path, single: bool) -> Iterator[tuple[str, Iterator[Member]]]:
    """(class, its files) of a tar that is a class, or of a tar of such tars."""
    if single:
        return iter([(tar.stem, members(tar))])
    return ((Path(inner).stem, found) for inner, found in nested(tar))
