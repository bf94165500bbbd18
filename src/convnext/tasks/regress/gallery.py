"""The worst answers of a regression's page, with their pictures."""

from __future__ import annotations

from collections.abc import Sequence

from convnext.tasks.blocks import Exhibit, Gallery, Group, Section, Span, Words
from convnext.tasks.regress.judged import Judged
from convnext.tasks.reporting import Json, RunTables
from convnext.tasks.words import PLAIN, counted, number, show

_INTRO = (
    "The answers that are farthest from the truth, the worst first. Look for wrong values in the table, unusual "
    "pictures and things that the network may be looking at instead. A picture opens when it is pressed."
)


def worst(run: RunTables, targets: Sequence[Judged]) -> Section | None:
    """The kept answers by target, and whether they are too large or too small; None where none are kept."""
    groups: dict[tuple[str, bool], list[Json]] = {}
    for row in run.mistakes:
        error = number(row.get("error"))
        if error is not None:
            groups.setdefault((str(row.get("target") or ""), error > 0), []).append(row)
    if not groups:
        return None
    by_name = {each.name: each for each in targets}
    shown = tuple(
        Group(
            f"w-{at}",
            _title(name, above, len(targets) > 1),
            tuple(_exhibit(run, row, by_name.get(name)) for row in rows),
            f"{counted(len(rows), 'picture')} of the {len(run.mistakes)} worst",
        )
        for at, ((name, above), rows) in enumerate(groups.items())
    )
    return Section("worst", "The worst errors", _INTRO, (Gallery(shown),), "Worst errors")


def _title(name: str, above: bool, several: bool) -> Words:
    way = Span("too large" if above else "too small", "wrong")
    return (f"{name}: ", way) if several else ("Answers that are ", way)


def _exhibit(run: RunTables, row: Json, judged: Judged | None) -> Exhibit:
    truth, said, error = show(row.get("truth") or ""), show(row.get("answer") or ""), number(row.get("error")) or 0.0
    unit = judged.unit if judged else PLAIN
    off = f"{unit.change(error)}\u00a0{unit.of_change}".rstrip()
    outside = row.get("outside")
    told = "" if outside is None else ", outside its interval" if outside else ", within its interval"
    return Exhibit(
        picture=row.get("picture"),
        alt=f"truth {truth}, said {said}",
        lines=(("truth", truth, False), ("said", said, False), ("off", off + told, outside is not False)),
        path=str(row.get("path", "")),
        name=run.place_of(row.get("path")),
    )
