"""Cells and names that stand for nothing: what programs write where a value is missing, and what people write.

An empty label is refused, so a cell that a program writes for an empty one (`nan`, `<NA>`, `NULL`) is refused too,
unless the user names it among the classes. Words that may be the name of a class as well (`None`, `unknown`) are
classes, and that is said.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from convnext.data.names import listed

_CERTAIN = frozenset(
    ["nan", "-nan", "+nan", "<na>", "nat", "na", "n/a", "#n/a", "#na", "#n/a n/a", "null", "(null)", "\\n", "1.#qnan",
     "-1.#ind", "1.#ind", "#null!", "#value!", "#ref!", "#name?", "#div/0!"]
)  # fmt: skip
"""What pandas, R, databases and spreadsheets write for a value that is missing, in any case."""
_LIKELY = frozenset(
    ["none", "nil", "?", "??", "???", "-", "--", ".", "unknown", "unk", "missing", "undefined", "unlabeled",
     "unlabelled", "unclassified", "not available", "not labeled", "not labelled", "no label", "nolabel", "todo", "tbd",
     "unsure", "uncertain"]
)  # fmt: skip
"""What people write for it, and what may be the name of a class."""


def is_missing(cell: str) -> bool:
    """Whether a program wrote this for a value that is missing."""
    return cell.casefold() in _CERTAIN


def missing_classes(names: Iterable[str], known: Collection[str] = ()) -> list[str]:
    """A remark about classes whose names may stand for a missing label; none about those that are `known`."""
    odd = sorted({n for n in names if n.casefold() in _LIKELY or is_missing(n)} - set(known))
    if not odd:
        return []
    shown = listed(f'"{name}"' for name in odd)
    what = "the names of classes" if len(odd) > 1 else "the name of a class"
    return [f"{shown}: taken for {what}; if it means that there is no label, take these pictures out"]
