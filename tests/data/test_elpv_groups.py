"""The groups of look-alike solar cells: the search by itself, and the table that is shipped."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from convnext.data.samples.elpv import GROUPS, package_folder, write_elpv
from convnext.data.samples.elpv_groups import THRESHOLD, connected, pairs, patterns, scores, search, shrunken, table

needs_package = pytest.mark.skipif(
    find_spec("elpv_dataset") is None, reason="the package elpv-dataset is not installed"
)


def _groups() -> dict[str, list[str]]:
    with GROUPS.open(newline="", encoding="utf-8") as file:
        groups = defaultdict(list)
        for row in csv.DictReader(file):
            groups[row["group"]].append(Path(row["path"]).stem)
        return groups


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A hundred drawn cells; eight of them again, their crystals turned in the eight ways, blurred, cracked; two blank.

    Over the crystals lie busbars and, stronger than they, a mixture of twelve frames that all cells share.
    """
    folder, rng = tmp_path_factory.mktemp("cells"), np.random.default_rng(0)
    crystals, frames = rng.standard_normal((100, 30, 30)), rng.standard_normal((12, 30, 30))
    turned = [np.rot90(crystals[i].T if i < 4 else crystals[i], i % 4) for i in range(8)]
    for i, own in enumerate([*crystals, *turned, None, None]):
        frame = np.tensordot(rng.standard_normal(12), frames, axes=1) * 1.4 / 12**0.5
        gray = np.full((30, 30), 90.0 * (i - 108)) if own is None else 128 + 15 * (own + frame)
        picture = Image.fromarray(gray.clip(0, 255).astype(np.uint8)).resize((300, 300))
        if own is not None:
            picture.paste(picture.filter(ImageFilter.GaussianBlur(4 if i >= 100 else 0)))
            for top in (50, 145, 240):
                picture.paste(30, (0, top, 300, top + 8))
        if 100 <= i < 108:
            picture.paste(0, (100, 60, 107, 140))
        picture.save(folder / f"{i:03}.png")
    return sorted(folder.iterdir())


def test_a_twin_is_found_however_it_is_turned(cells: list[Path]) -> None:
    """Blurred, cracked, turned or mirrored it is one group with its twin; the others and blank ones stay alone."""
    alike = scores(patterns(np.stack([shrunken(Image.open(path)) for path in cells])))
    assert connected(pairs(alike), len(cells)) == [*range(100), *range(8), 108, 109]
    np.testing.assert_allclose(alike, alike.T, atol=1e-6)
    assert np.diag(alike)[:108] == pytest.approx(1.0)


def test_a_picture_is_shrunk_to_means(cells: list[Path]) -> None:
    """As Pillow's reduction by 6, up to its rounding."""
    with Image.open(cells[3]) as picture:
        expected = np.asarray(picture.reduce(6), dtype=float)
        np.testing.assert_allclose(shrunken(picture), expected, atol=0.51)


@given(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
def test_groups_are_the_connected_components(links: list[tuple[int, int]]) -> None:
    """As scipy finds them, each named by its first member."""
    graph = np.zeros((30, 30), dtype=bool)
    for a, b in links:
        graph[a, b] = True
    _, labels = connected_components(csr_array(graph), directed=False)
    assert connected(links, 30) == [int(np.flatnonzero(labels == label)[0]) for label in labels]


def test_the_module_photographed_twice() -> None:
    """Cells 1735 to 1784 lie in one group each with 2277 to 2326, which show the same cells blurred."""
    group = {cell: name for name, members in _groups().items() for cell in members}
    for i in range(1735, 1785):
        assert group[f"cell{i:04}"] == group[f"cell{i + 542:04}"]


def test_the_shipped_groups_are_well_formed() -> None:
    """Named by their first member, of two or more, none large, no cell twice, in the order of the package."""
    groups = _groups()
    sizes = Counter({name: len(members) for name, members in groups.items()})
    assert (len(sizes), sizes.total()) == (277, 1229)
    assert min(sizes.values()) == 2
    assert max(sizes.values()) == 38
    assert all(name == members[0] for name, members in groups.items())
    assert len({cell for members in groups.values() for cell in members}) == 1229
    assert all(a < b for members in groups.values() for a, b in pairwise(members))


@needs_package
@pytest.mark.full
def test_the_search_gives_the_shipped_table(tmp_path: Path) -> None:
    """From the real pictures the same file comes, byte for byte; no score is near the threshold; no pair is split."""
    found = search(package_folder())
    first = connected(found.links, len(found.paths))
    assert table(found.paths, found.contents, first) == GROUPS.read_bytes().decode()
    assert np.abs(found.alike - THRESHOLD).min() > 1e-5
    rows = list(csv.DictReader(write_elpv(tmp_path).read_text(encoding="utf-8").splitlines()))
    assert len(found.links) == 3406
    assert all(rows[a]["split"] == rows[b]["split"] for a, b in found.links)
