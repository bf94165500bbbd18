"""Finding pictures that look the same, from short fingerprints.

Two kinds of bits describe a picture (306 in all):

- 64 of the classic pHash: the picture is shrunk to 32 x 32 gray values, and each of the 64 lowest frequencies of its
  discrete cosine transform (without the mean) is above or below their median. Changes of size, quality, brightness or
  contrast flip few of them; unrelated pictures differ in about 32.
- 242 of gradients: shrunk to 12 x 12, is a place darker than its right neighbour, than the one below?

Two pictures are candidates when their pHashes differ in at most 12 bits. That alone would call all pictures of solar
cells, slides or passports equal, which share a frame. So candidates are compared by all bits *as far as they are
unusual in this data set*: the bits are centred and decorrelated (whitened) over all pictures, and the score is the
cosine between the two. What all share counts for nothing then. On data sets that were looked at by eye, pairs above
0.5 were copies, edited or retouched versions, and shots of one scene taken within seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32  # of the thumbnail for the pHash
MAX_DISTANCE = 12  # bits of 64 in which two candidates may differ
MIN_SCORE = 0.5
MAX_PAIRS = 1_000_000  # beyond this many, the search stops: the data set is a film

_LOW = 9  # frequencies 0..8 each way: 81, of which the 64 lowest by sum of the two indices are kept, without the mean
_COARSE = 12  # side for the gradients
_GRADIENTS = 2 * (_COARSE - 1) ** 2  # 242 bits
_MEAN_PRIOR = 4  # pictures' worth of belief that a bit is as often set as not
_SPREAD_PRIOR = 200  # pictures' worth of belief that bits are independent


@dataclass(frozen=True, slots=True)
class Pair:
    """Two look-alikes: their positions, first < second, and how alike they are (0.5..1)."""

    first: int
    second: int
    score: float


def thumbnail(picture: Image.Image) -> Image.Image:
    """The picture squeezed to 32 x 32, every value the mean of the area it covers."""
    return picture.resize((SIDE, SIDE), Image.Resampling.BOX)


def fingerprint(gray: NDArray[np.generic]) -> int:
    """The 64 bits of the pHash, from the thumbnail's gray values (32, 32)."""
    basis, order = _transform()
    low = basis @ gray.astype(np.float64) @ basis.T  # (32, 32) -> (9, 9)
    kept = low.reshape(-1)[order]
    ranked = np.sort(kept)
    return _packed(kept > (ranked[31] + ranked[32]) / 2)


def gradients(picture: Image.Image) -> int:
    """The 242 bits of the gradients, of a gray picture ("L") of any size."""
    coarse = np.asarray(picture.resize((_COARSE, _COARSE), Image.Resampling.BOX)).astype(np.int16)
    right = coarse[:-1, 1:] > coarse[:-1, :-1]
    down = coarse[1:, :-1] > coarse[:-1, :-1]
    return _packed(np.concatenate([right.reshape(-1), down.reshape(-1)]))


def look_alikes(fingerprints: Sequence[int], gradient_bits: Sequence[int]) -> list[Pair]:
    """All pairs of pictures that look alike, the most alike first; at most `MAX_PAIRS` of them."""
    hashes = np.array(fingerprints, dtype=np.uint64)
    bits = np.hstack([_unpacked(fingerprints, 64), _unpacked(gradient_bits, _GRADIENTS)])
    unusual = _whitened(bits) if len(bits) > 1 else bits
    pairs: list[Pair] = []
    for first, second in _candidates(hashes):
        for part in range(0, len(first), 2**16):
            a, b = first[part : part + 2**16], second[part : part + 2**16]
            scores = np.einsum("ij,ij->i", unusual[a], unusual[b])
            alike = scores >= MIN_SCORE
            found = zip(a[alike].tolist(), b[alike].tolist(), scores[alike].tolist(), strict=True)
            pairs.extend(Pair(i, j, min(round(score, 3), 1.0)) for i, j, score in found)
        if len(pairs) > MAX_PAIRS:
            break
    return sorted(pairs[:MAX_PAIRS], key=lambda pair: (-pair.score, pair.first, pair.second))


def _candidates(hashes: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """All (i, j), i < j, whose pHashes differ in few bits, tile by tile: a tile fits into the processor's cache."""
    rows, columns = 64, 1024
    for top in range(0, len(hashes), rows):
        for left in range(top, len(hashes), columns):
            differing = np.bitwise_count(hashes[top : top + rows, None] ^ hashes[None, left : left + columns])
            near = np.flatnonzero(differing <= MAX_DISTANCE)
            if near.size:
                first, second = near // differing.shape[1] + top, near % differing.shape[1] + left
                yield first[second > first], second[second > first]


def _whitened(bits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bits (n, 306) centred and decorrelated over the n pictures, each row of length 1.

    With few pictures the statistics are drawn towards even, independent bits.
    """
    n, width = bits.shape
    centred = bits - (bits.sum(0) + _MEAN_PRIOR / 2) / (n + _MEAN_PRIOR)
    spread = (centred.T @ centred + _SPREAD_PRIOR * 0.25 * np.eye(width, dtype=np.float32)) / (n + _SPREAD_PRIOR)
    values, vectors = np.linalg.eigh(spread.astype(np.float64))
    white = centred @ (vectors / np.sqrt(values)).astype(np.float32)
    length = np.linalg.norm(white, axis=1, keepdims=True)
    out: NDArray[np.float32] = white / np.maximum(length, np.finfo(np.float32).tiny)
    return out


def _packed(bits: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _unpacked(numbers: Sequence[int], width: int) -> NDArray[np.float32]:
    """The bits of whole numbers, (n, width), as 0.0 and 1.0."""
    size = -(-width // 8)
    data = np.frombuffer(b"".join(number.to_bytes(size, "big") for number in numbers), dtype=np.uint8)
    return np.unpackbits(data.reshape(len(numbers), size), axis=1)[:, :width].astype(np.float32)


@cache
def _transform() -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The first 9 rows of the DCT-II of length 32, and which 64 of the 9 x 9 products are kept, lowest first."""
    steps = np.arange(SIDE)
    rows = np.arange(_LOW)[:, None]
    basis = np.cos(np.pi * (2 * steps[None, :] + 1) * rows / (2 * SIDE))
    vertical, horizontal = np.divmod(np.arange(_LOW * _LOW), _LOW)
    order = np.lexsort((vertical, np.maximum(vertical, horizontal), vertical + horizontal))
    return basis, order[1:65]  # without the mean, which comes first
