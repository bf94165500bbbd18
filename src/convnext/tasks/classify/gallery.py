"""The mistakes of a classification's page: the surest, by what was taken for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from convnext.tasks.blocks import Exhibit, Gallery, Group, Section, Span, Words
from convnext.tasks.classify.baseline import class_names
from convnext.tasks.reporting import Json, RunTables
from convnext.tasks.words import counted, number, percent, show

_INTRO = (
    "Where the network was surest and wrong, by what it took for what. Look for wrong labels, unusual pictures and "
    "things it may be looking at instead. A picture opens when it is pressed."
)


@dataclass
class _Kind:
    """Mistakes of one kind, while they are gathered."""

    link: str
    title: Words
    count: int = 0
    total: int = 0
    rows: list[Json] = field(default_factory=list)

    @property
    def note(self) -> str:
        """How many there are in all, where the matrix knows it."""
        if not self.count:
            return ""
        of = f"{self.count} of {counted(self.total, 'picture')} ({percent(self.count / self.total)})"
        return of + (f"; the {len(self.rows)} surest" if len(self.rows) < self.count else "")


def mistakes(run: RunTables) -> Section | None:
    """The kept mistakes, the commonest kind first; with several labels by the label that was missed or added."""
    counts, names = square_of(run), class_names(run)
    kinds: dict[tuple[str, str], _Kind] = {}
    for row in run.mistakes:
        truth, said = labels_text(row.get("truth")), labels_text(row.get("predicted"))
        one_label = row.get("kind") in ("missed", "added")
        key = (str(row["kind"]), str(row.get("label"))) if one_label else (truth, said)
        if key not in kinds:
            kinds[key] = _Kind(f"m-x{len(kinds)}", _title(key, one_label))
            if key[0] in names and key[1] in names and counts and not row.get("kind"):
                at = names.index(key[0]), names.index(key[1])
                kinds[key].link, kinds[key].count = f"m-{at[0]}-{at[1]}", counts[at[0]][at[1]]
                kinds[key].total = sum(counts[at[0]])
        kinds[key].rows.append(row)
    if not kinds:
        return None
    ordered = sorted(kinds.values(), key=lambda kind: -(kind.count or len(kind.rows)))
    groups = [Group(k.link, k.title, tuple(_exhibit(run, row) for row in k.rows), k.note) for k in ordered]
    return Section("mistakes", "The most confident mistakes", _INTRO, (Gallery(tuple(groups)),), "Mistakes")


def square_of(run: RunTables) -> list[list[int]]:
    """The confusion counts, where there are as many rows as classes; else empty."""
    counts: list[list[int]] = run.result.get("confusion") or []
    return counts if len(counts) == len(class_names(run)) else []


def linked_cells(section: Section | None) -> dict[tuple[int, int], str]:
    """The cells (truth, named) of the matrix whose pictures are on the page, with the name of their group there."""
    blocks = () if section is None else section.blocks
    links = [group.link for block in blocks if isinstance(block, Gallery) for group in block.groups]
    return {(int(link.split("-")[1]), int(link.split("-")[2])): link for link in links if not link.startswith("m-x")}


def arrow(truth: str, said: str | Span) -> tuple[str | Span, ...]:
    """What is taken for what."""
    return truth, " ", Span("\u2192", "arrow", "taken for"), " ", said


def labels_text(value: Any) -> str:
    """Truth or prediction of a mistake: a name, or the names of a multi-label picture."""
    return show(value) if value not in (None, "", []) else "nothing"


def _title(key: Sequence[str], one_label: bool) -> Words:
    if one_label:
        return f"{key[1]}: {'missed' if key[0] == 'missed' else 'not there'}"
    return arrow(key[0], Span(key[1], "wrong"))


def _exhibit(run: RunTables, row: Json) -> Exhibit:
    truth, said = labels_text(row.get("truth")), labels_text(row.get("predicted"))
    sure = number(row.get("confidence"))
    return Exhibit(
        picture=row.get("picture"),
        alt=f"{truth} taken for {said}",
        lines=(("truth", truth, False), ("said", said, True)),
        path=str(row.get("path", "")),
        name=run.place_of(row.get("path")),
        meter=None if sure is None else (sure, percent(sure)),
    )
