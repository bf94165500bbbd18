"""A benchmark as a table for people, as a picture, and as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convnext.bench import growth
from convnext.bench.benchmark import Report, Row
from convnext.bench.contestants import Case
from convnext.bench.presets import BARS, TRAINING_BAR
from convnext.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

from convnext.run.folder import write_text


def to_markdown(report: Report) -> str:
    """One table for each case, fastest first, with the machine above."""
    tops = ", ".join(f"{precision} {top:.0f} GFLOP/s" for precision, top in report.ceilings.items())
    lines = [f"{report.where}; a matrix product alone: {tops}"]
    for case in dict.fromkeys(row.case for row in report.rows):
        lines += ["", f"**{title(case)}**", "", *_table([row for row in report.rows if row.case == case])]
    lines += bars(report)
    if report.skipped:
        lines += ["", "Not measured:", "", *(f"- {text}" for text in _grouped(report.skipped))]
    return "\n".join(lines)


def _grouped(skipped: Sequence[str]) -> list[str]:
    """Each side and reason once, with the number of its cases: texts are "side, case: reason"."""
    found: dict[tuple[str, str], list[str]] = {}
    for text in skipped:
        side, _, rest = text.partition(", ")
        case, _, reason = rest.partition(": ")
        found.setdefault((side, reason), []).append(case)
    return [
        f"{side}: {reason} ({cases[0] if len(cases) == 1 else f'{len(cases)} cases'})"
        for (side, reason), cases in found.items()
    ]


def bars(report: Report) -> list[str]:
    """What we aim for beside what was reached, for the cases that have a bar; nothing where none was measured."""
    found = []
    for case in dict.fromkeys(row.case for row in report.rows):
        rows = [row for row in report.rows if row.case == case and row.fastest_share is not None]
        if (bar := BARS.get((case.task, case.batch, case.precision))) and rows and case.size == 224:
            best = max(rows, key=lambda row: row.fastest_share or 0.0)
            found.append((title(case), best.contestant.name, best.fastest_share or 0.0, bar))
    steps = [row for row in report.rows if (row.case.task, row.case.batch, row.case.size) == ("train", 16, 224)]
    ours, peers = ([row for row in steps if (row.contestant.code == "ours") == own] for own in (True, False))
    if ours and peers:
        best, other = (max(rows, key=lambda row: row.rate) for rows in (ours, peers))
        name = f"{best.case.model}, a training step, batch 16, the best precision of each"
        share = best.fastest_share if best.case == other.case else best.rate / other.rate
        found.append((name, f"{best.contestant.name} {best.case.precision}", share or 0.0, TRAINING_BAR))
    if not found:
        return []
    lines = ["", "| | ours | to the fastest peer | aimed for |", "|---|---|---|---|"]
    return lines + [f"| {name} | {who} | {share:.2f} | {bar} |" for name, who, share, bar in found]


def title(case: Case) -> str:
    """What a case is, in words."""
    task = "inference" if case.task == "infer" else "a training step"
    return f"{case.model}, {task}, {case.precision}, batch {case.batch}, {case.size} pixels"


def _table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| | pictures/s | least to most | median, ms | p95, ms | of the ceiling | peak, MB | to the fastest peer |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: -row.rate):
        peak = f"{row.peak / 1e6:.0f}" if row.peak else ""
        ratio = "" if row.fastest_share is None else f"{row.fastest_share:.2f}"
        lines.append(
            f"| {row.contestant.name} | {row.rate:.1f} | {row.spread[0]:.1f} to {row.spread[1]:.1f} | "
            f"{1e3 * row.median:.1f} | {1e3 * row.p95:.1f} | {row.share:.0%} | {peak} | {ratio} |"
        )
    return lines


def write(report: Report, folder: Path, axis: str = "") -> None:
    """benchmark.json, benchmark.md and benchmark.png; with `axis`, "size" or "batch", growth.md and growth.png too."""
    make_folder(folder)
    write_text(folder / "benchmark.json", json.dumps(report.to_json(), indent=1) + "\n")
    write_text(folder / "benchmark.md", to_markdown(report) + "\n")
    draw(report).savefig(folder / "benchmark.png")
    if axis:
        write_text(folder / "growth.md", growth.to_markdown(report, axis) + "\n")
        growth.draw(report, axis).savefig(folder / "growth.png")


def make_folder(folder: Path) -> None:
    """Makes the folder of the results, before the hours in which they are measured.

    Raises:
        UserError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UserError(f"--out {folder} cannot be written ({error.strerror}); give a folder of yours") from None


def draw(report: Report) -> Figure:
    """Bars of pictures per second, a panel for each case; ours in colour, with the least and the greatest round."""
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(row.case for row in report.rows))
    most = max(sum(row.case == case for row in report.rows) for case in cases)
    figure = Figure(figsize=(8.5, len(cases) * (0.34 * most + 0.9)), dpi=160, layout="constrained", facecolor="white")
    for axis, case in zip(figure.subplots(len(cases), 1, squeeze=False)[:, 0], cases, strict=True):
        rows = sorted((row for row in report.rows if row.case == case), key=lambda row: row.rate)
        for at, row in enumerate(rows):
            colour = "#7a4fb5" if row.contestant.code == "ours" else "#b8bfc9"
            errors = [[row.rate - row.spread[0]], [row.spread[1] - row.rate]]
            axis.barh(at, row.rate, height=0.66, color=colour, xerr=errors, ecolor="#1f2933", capsize=2)
            axis.text(row.spread[1], at, f"  {row.rate:.1f}", va="center", fontsize=8)
        axis.set_yticks(range(len(rows)), [row.contestant.name for row in rows], fontsize=8)
        axis.set_title(f"{title(case)}: pictures/s", fontsize=9, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.1)
    figure.supxlabel(
        f"pictures per second (ours purple, peers gray; lines: least to most) on {report.where}", fontsize=7
    )
    return figure
