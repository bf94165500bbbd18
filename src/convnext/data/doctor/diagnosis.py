"""What the doctor found, and the same as text: plain ASCII but for names, at most 100 columns where names allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import wrap
from typing import Any

from convnext.data.doctor.findings import LEVELS, Case, Finding, Overview
from convnext.data.names import count, printable

WIDTH = 100
CASES = {"error": 10, "warning": 5, "note": 3}  # shown of each finding
FILES = 5  # shown of each case
ROWS = 12  # shown in the table


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found.

    Attributes:
        root: the data set.
        findings: the gravest first.
        layout: "class folders", "split folders" or "csv"; empty, like all below, when the data set cannot be used.
        overview: of the targets; what its facts name, as `classes`, is had from the diagnosis too.
        splits: names.
        pictures: readable ones.
        broken: files that cannot be read.
        short_sides: smallest, median and largest short side in pixels.
        notes: remarks of the reader, such as how the data were split.
    """

    root: Path
    findings: tuple[Finding, ...]
    layout: str = ""
    overview: Overview = field(default_factory=Overview)
    splits: tuple[str, ...] = ()
    pictures: int = 0
    broken: int = 0
    short_sides: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        """What the overview knows."""
        facts = {} if name.startswith("__") or name == "overview" else self.overview.facts
        if name not in facts:
            raise AttributeError(f"a diagnosis has no {name}")
        found = facts[name]
        return tuple(found) if isinstance(found, list) else found

    @property
    def ok(self) -> bool:
        """Whether there are no errors (there may be warnings)."""
        return all(finding.level != "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Everything, for `json.dumps`; all cases included."""
        return {
            "root": printable(self.root),
            "ok": self.ok,
            "layout": self.layout,
            **self.overview.facts,
            "pictures": self.pictures,
            "broken": self.broken,
            "short_sides": dict(self.short_sides),
            "notes": list(self.notes),
            "findings": [finding.to_json() for finding in self.findings],
        }

    def to_text(self) -> str:
        """For people: a summary, the findings with their first cases and advice, and a last line with the verdict."""
        return _text(self)


def _text(diagnosis: Diagnosis) -> str:
    """Summary, table of targets, findings, verdict."""
    blocks: list[list[str]] = []
    if diagnosis.layout:
        remarks = [line for note in (_summary(diagnosis), *diagnosis.notes) for line in _wrapped(note, "  ")]
        blocks += [[printable(diagnosis.root), *remarks], _table(diagnosis)]
    told: list[tuple[Case, ...]] = []
    for finding in diagnosis.findings:
        blocks.append(_finding(finding, repeated=bool(finding.cases) and finding.cases in told))
        told.append(finding.cases)
    blocks.append(_wrapped(_verdict(diagnosis)))
    return "\n\n".join("\n".join(block) for block in blocks)


def _summary(diagnosis: Diagnosis) -> str:
    low, middle, high = (diagnosis.short_sides[key] for key in ("smallest", "median", "largest"))
    sides = f"{low:,} px" if low == high else f"{low:,} to {high:,} px, half of them {middle:,} or more"
    return (
        f"{count(diagnosis.pictures, 'picture')} in {diagnosis.overview.told} ({diagnosis.layout}); short side {sides}"
    )


def _table(diagnosis: Diagnosis) -> list[str]:
    """Pictures of each row and split; of many rows the largest and the smallest."""
    splits, rows = diagnosis.splits, list(diagnosis.overview.rows)
    if not rows:
        return []
    totals = [sum(row[at] for row in rows) for at in range(1, len(splits) + 1)]
    if len(rows) > ROWS:
        rows.sort(key=lambda row: -sum(row[1:]))
        half = ROWS // 2
        left_out = f"... {len(rows) - 2 * half:,} more"
        rows = [*rows[:half], (left_out, *[""] * len(splits)), *rows[-half:]]
    if diagnosis.overview.totals:
        rows.append(("all", *totals))
    wide = min(max(len(row[0]) for row in rows), 40)
    return [
        f"  {name[:wide]:{wide}}" + "".join(f"{cell:>9,}" if isinstance(cell, int) else f"{cell:>9}" for cell in cells)
        for name, *cells in [("", *splits), *rows]
    ]


def _finding(finding: Finding, repeated: bool) -> list[str]:
    """What, where, what to do. `repeated`: another finding showed the same cases before."""
    lines = _wrapped(f"{finding.level.upper()}: {finding.message} [{finding.kind}]", "", "    ")
    shown = CASES[finding.level]
    if repeated:
        lines.append("    (the same as above)")
    else:
        sign = "~" if finding.kind.startswith("near_") else "="
        for case in finding.cases[:shown]:
            lines += _case(case, sign)
        if len(finding.cases) > shown:
            lines.append(f"    ... and {len(finding.cases) - shown:,} more")
    return lines + _wrapped(f"Do: {finding.advice}", "  ", "      ")


def _case(case: Case, sign: str) -> list[str]:
    """One line when it fits, else one a file; `sign` stands between files that belong together."""
    names = [*case.files[:FILES], *([f"{len(case.files) - FILES:,} more"] if len(case.files) > FILES else [])]
    remark = f"  ({case.remark})" if case.remark else ""
    line = f"    {f'  {sign}  '.join(names)}{remark}"
    if len(line) <= WIDTH or len(names) == 1:
        return [line]
    first, *rest = names
    rest[-1] += remark
    return [f"    {first}", *(f"      {sign} {name}" for name in rest)]


def _verdict(diagnosis: Diagnosis) -> str:
    levels = [finding.level for finding in diagnosis.findings]
    tally = ", ".join(count(levels.count(level), level) for level in LEVELS if level in levels)
    cut = any(len(finding.cases) > CASES[finding.level] for finding in diagnosis.findings)
    more = " --json lists every case." if cut else ""
    if not diagnosis.ok:
        return f"{tally}: put the errors right before you train.{more}"
    return f"{tally}: nothing that forbids training.{more}" if levels else "Nothing to complain about."


def _wrapped(line: str, indent: str = "", hanging: str | None = None) -> list[str]:
    rest = indent if hanging is None else hanging
    return wrap(
        line, WIDTH, initial_indent=indent, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
