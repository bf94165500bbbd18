"""Which solar cells look alike: the groups that `write_elpv` keeps in one split.

Neighbouring slices of one block of silicon have the same pattern of crystals, and cells printed with one worn screen
the same broken lines; one module was photographed twice, sharp and blurred. The search of the doctor
(`data.pictures.phash`) sees a quarter of it: all cells share a frame and its lines, slices may be turned in the module,
and defects cover the pattern. So a second search goes deeper, with the same idea, that what all share counts for
nothing:

1. A picture is shrunk to 50 x 50 means. Its own blur is taken away (shading), then the median of every row and column
   (the grid lines); loud rows, columns and places (busbars, cracks) are turned down. The border is left out.
2. The 12 directions in which all these patterns vary most (frames, lines, corners) are taken out of them.
3. The score of two pictures is the correlation of their patterns, the highest of the 8 ways to turn and mirror one.

Pairs from `THRESHOLD` on look alike, the doctor's too, and groups are what such pairs connect. Of the pairs looked at,
nearly all from 0.45 on were slices of one block or cells with the same printing faults; between 0.35 and 0.45 chance
ones mix in, two clean or two cracked monocrystalline cells. 0.40 joins rather too many than too few, and the largest
group has 38 pictures.

The groups are kept in elpv_groups.csv, so that they are the same on every machine and need no search when the pictures
are written. `python -m convnext.data.samples.elpv_groups` (15 seconds) makes the file again from the installed package.
"""

from __future__ import annotations

import csv
import hashlib
import io
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.data.pictures.phash import fingerprint, gradients, look_alikes, thumbnail
from convnext.data.samples.elpv import GROUP_COLUMNS, GROUPS, package_folder, read_cells

THRESHOLD = 0.40

_SIDE = 50  # of the shrunken picture
_BLUR = 4.0  # standard deviations of the blurs: of the shading taken away,
_SMOOTH = 0.5  # and against noise
_BORDER = 3
_LOUD = 3.0  # times a picture's mean deviation: what is above counts as much
_SHARED = 12  # directions
_SMALL = 1e-9

Array = NDArray[np.float64]


def shrunken(picture: Image.Image) -> Array:
    """The gray values of a picture ("L", 300 x 300) as the means of 50 x 50 squares."""
    gray = np.asarray(picture, dtype=np.float32)
    sums = np.kron(np.eye(_SIDE, dtype=np.float32), np.ones(len(gray) // _SIDE, dtype=np.float32))  # (50, 300)
    means: Array = (sums @ gray @ sums.T).astype(np.float64) / (len(gray) // _SIDE) ** 2
    return means


def patterns(small: Array) -> Array:
    """What is left of shrunken pictures (n, 50, 50) without shading and grid lines: (n, 44, 44), rows of length 1."""
    smooth, blur = _blurring(_SMOOTH), _blurring(_BLUR)
    left = smooth @ small @ smooth.T - blur @ small @ blur.T
    left = left[:, _BORDER:-_BORDER, _BORDER:-_BORDER]
    for axis in (2, 1):
        left = left - np.median(left, axis=axis, keepdims=True)
    for axis in (2, 1):
        loudness = np.abs(left).mean(axis=axis, keepdims=True)
        left = left / np.maximum(loudness, np.median(loudness, axis=3 - axis, keepdims=True) + _SMALL)
    left = np.clip(left / (np.abs(left).mean(axis=(1, 2), keepdims=True) + _SMALL), -_LOUD, _LOUD)
    flat = left.reshape(len(left), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    _, vectors = np.linalg.eigh(flat.T @ flat)
    shared = vectors[:, -_SHARED:]
    flat = flat - (flat @ shared) @ shared.T
    unit: Array = flat / (np.linalg.norm(flat, axis=1, keepdims=True) + _SMALL)
    return unit.reshape(left.shape)


def scores(pattern: Array) -> NDArray[np.float32]:
    """How alike any two are, (n, n): the highest correlation over the 8 ways to turn and mirror one of them."""
    square = pattern.astype(np.float32)
    flat = square.reshape(len(square), -1)
    best = np.full((len(square), len(square)), -1.0, dtype=np.float32)
    for turned in (square, square.transpose(0, 2, 1)):
        for quarter in range(4):
            way = np.ascontiguousarray(np.rot90(turned, quarter, axes=(1, 2)))
            np.maximum(best, flat @ way.reshape(flat.shape).T, out=best)
    return best


def pairs(alike: NDArray[np.float32]) -> list[tuple[int, int]]:
    """All (first, second), first < second, with a score from the threshold on."""
    first, second = np.nonzero(np.triu(alike >= THRESHOLD, 1))
    return list(zip(first.tolist(), second.tolist(), strict=True))


def connected(links: Iterable[tuple[int, int]], number: int) -> list[int]:
    """For each of `number` pictures the first one of its group: those that pairs connect, in one step or several."""
    parent = list(range(number))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for first, second in links:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    return [root(item) for item in range(number)]


def table(paths: Sequence[str], contents: Sequence[str], first: Sequence[int]) -> str:
    """The text of elpv_groups.csv: every picture of a group of two or more, and the group, named by its first picture.

    The first 16 digits of the content's SHA-256 are there to notice when a picture is not the one that was compared.
    """
    sizes = Counter(first)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(GROUP_COLUMNS)
    for path, content, group in zip(paths, contents, first, strict=True):
        if sizes[group] > 1:
            writer.writerow((path, content[:16], Path(paths[group]).stem))
    return text.getvalue()


@dataclass(frozen=True)
class Search:
    """What was found among the pictures that labels.csv names: in its order, their paths, SHA-256s and scores."""

    paths: list[str]
    contents: list[str]
    alike: NDArray[np.float32]
    links: list[tuple[int, int]]  # all pairs that look alike, by either search


def search(folder: Path) -> Search:
    """Compare all pictures of the package with one another."""
    paths = [path for path, _, _ in read_cells(folder / "labels.csv")]
    contents, small, fingerprints, bits = [], [], [], []
    for path in paths:
        content = (folder / path).read_bytes()
        contents.append(hashlib.sha256(content).hexdigest())
        with Image.open(io.BytesIO(content)) as picture:
            gray = picture.convert("L")
        small.append(shrunken(gray))
        fingerprints.append(fingerprint(np.asarray(thumbnail(gray))))
        bits.append(gradients(gray))
    alike = scores(patterns(np.stack(small)))
    doctors = [(pair.first, pair.second) for pair in look_alikes(fingerprints, bits)]
    return Search(paths, contents, alike, sorted({*pairs(alike), *doctors}))


def main() -> None:
    """Make elpv_groups.csv again."""
    found = search(package_folder())
    first = connected(found.links, len(found.paths))
    GROUPS.write_text(table(found.paths, found.contents, first), encoding="utf-8", newline="")
    large = sorted((size for size in Counter(first).values() if size > 1), reverse=True)
    sys.stdout.write(f"{GROUPS}: {sum(large)} of {len(first)} pictures in {len(large)} groups; largest {large[:12]}\n")


def _blurring(deviation: float) -> Array:
    """The matrix that blurs the columns of a shrunken picture; at the border the weights still sum to 1."""
    steps = np.arange(_SIDE)
    weights = np.exp(-((steps[:, None] - steps) ** 2) / (2 * deviation**2))
    blurring: Array = weights / weights.sum(axis=1, keepdims=True)
    return blurring


if __name__ == "__main__":
    main()
