"""The split rule: which pictures are learnt from, which choose the model (val), which judge it (test).

Every picture draws a number in [0, 1) from the SHA-256 of its *content*. Below `test` it goes to test, below
`test + val` to val, otherwise to train. So:

- equal files are always in the same split, also when they lie in different strata (classes, ranges of a number);
- renaming, moving or copying files changes nothing, and adding files moves no other one.

Small strata need one exception. A stratum with three or more distinct pictures has at least one in every split that is
wanted: where the draw gave none, the picture with the smallest number among those that can be spared moves to test,
the next to val (and the largest back to train). One with fewer than three stays in train altogether. Only such
moves can change when files are added.

Where pictures belong to groups, each group draws its number from the SHA-256 of its name, and goes as a whole.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

_ENOUGH = 3  # distinct pictures that a stratum needs to be in every split


def draw(sha256: str) -> float:
    """The number in [0, 1) that belongs to a content: its SHA-256 (hexadecimal) as a binary fraction, to 53 bits."""
    return float((int(sha256[:16], 16) >> 11) / 2**53)


def join_groups(pictures: Sequence[tuple[str, str]]) -> list[str]:
    """What each picture is split by: the SHA-256 of its content, or that of its group's name.

    Groups that share a content are one: its copies may not be parted. Of their numbers the smallest counts.

    Args:
        pictures: (SHA-256 of the content, group or "") of each.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    keys = [(sha256, hashlib.sha256(group.encode("utf-8", "surrogateescape")).hexdigest() if group else "")
            for sha256, group in pictures]  # fmt: skip
    for sha256, group in keys:
        if group:
            parent[root(f"content {sha256}")] = root(f"group {group}")
    names: dict[str, list[str]] = defaultdict(list)
    for group in {group for _, group in keys if group}:
        names[root(f"group {group}")].append(group)
    return [min(names[root(f"content {sha256}")], default=sha256) for sha256, _ in keys]


def stable_split(strata: Mapping[str, Iterable[str]], *, val: float, test: float) -> dict[str, str]:
    """The split of every content.

    Args:
        strata: for each SHA-256, all the strata in which that content occurs.
        val: share for val, 0 for none.
        test: share for test, 0 for none.

    Returns:
        for each SHA-256, "train", "val" or "test".
    """
    strata_of = {sha256: frozenset(names) for sha256, names in strata.items()}
    members: dict[str, list[str]] = defaultdict(list)
    for sha256 in sorted(strata_of):
        for name in strata_of[sha256]:
            members[name].append(sha256)
    splits = {sha256: _by_draw(draw(sha256), val, test) for sha256 in strata_of}
    pinned = {sha256 for contents in members.values() if len(contents) < _ENOUGH for sha256 in contents}
    splits.update(dict.fromkeys(pinned, "train"))
    wanted = [split for split, share in (("test", test), ("val", val), ("train", 1.0)) if share > 0]
    held = {name: Counter(splits[sha256] for sha256 in contents) for name, contents in members.items()}
    for name in sorted(members, key=lambda name: (len(members[name]), name)):
        if len(members[name]) < _ENOUGH:
            continue
        for split in wanted:
            if held[name][split] == 0:
                _move_one([item for item in members[name] if item not in pinned], split, strata_of, splits, held)
    return splits


def _by_draw(number: float, val: float, test: float) -> str:
    if number < test:
        return "test"
    return "val" if number < test + val else "train"


def _move_one(
    contents: list[str],
    split: str,
    strata_of: Mapping[str, frozenset[str]],
    splits: dict[str, str],
    held: dict[str, Counter[str]],
) -> None:
    """Moves one of the contents to `split`, the first that leaves no stratum of its own without a picture where it was.

    The contents come with the smallest number first; for train the largest is taken, and if none can be spared the
    largest all the same, since nothing can be learnt of a stratum without training pictures.
    """
    order = contents[::-1] if split == "train" else contents
    spared = [item for item in order if all(held[name][splits[item]] >= 2 for name in strata_of[item])]
    for sha256 in (spared or (order if split == "train" else []))[:1]:
        for name in strata_of[sha256]:
            held[name][splits[sha256]] -= 1
            held[name][split] += 1
        splits[sha256] = split
