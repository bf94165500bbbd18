"""The paper's throughput (Table 12, an A100 in TF32; Table 1, a V100) beside what this machine does."""

from __future__ import annotations

import math

from convnext.bench.benchmark import Report
from convnext.nn.tables.baseline_specs import BASELINES
from convnext.paper import rows, title

_SIZES = {"T": "tiny", "S": "small", "B": "base", "L": "large", "XL": "xlarge"}


def table12() -> list[tuple[str, int, float]]:
    """(model, side of the picture, published pictures per second) of each row, in the table's order."""
    return [(_model(row["model"], row["size"]), int(row["size"]), float(row["throughput"])) for row in rows("table12")]


def _model(name: str, size: int) -> str:
    """Our name for a network of the paper."""
    if name.startswith("ConvNeXt-"):
        return f"convnext_{_SIZES[name.removeprefix('ConvNeXt-')]}"
    return next(model for model, spec in BASELINES.items() if spec.paper == name and spec.size == size)


def to_markdown(report: Report) -> str:
    """Each network's pictures per second, and each ConvNeXt's to those of the Swin of its size: measured, published."""
    measured = {(row.case.model, row.case.size): row.rate for row in report.rows}
    a100 = {(model, size): rate for model, size, rate in table12()}
    v100 = {
        (_model(row["model"], row["size"]), int(row["size"])): float(row["throughput"])
        for row in rows("table1")
        if row["model"].startswith(("ConvNeXt-", "Swin-")) and not math.isnan(row["throughput"])
    }
    case = report.rows[0].case
    lines = [
        f"{report.where}; {case.precision}, batch {case.batch}. Published: {title('table12')}; Table 1 on a V100.",
        "",
        "| network, side | here | A100, published | V100, published | to Swin: here | A100, published | V100 |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, rate in measured.items():
        other = _swin(key)
        ratios = [
            f"{rates[key] / rates[other]:.2f}" if other in rates and key in rates else ""
            for rates in (measured, a100, v100)
        ]
        published = [f"{rates[key]:.1f}" if key in rates else "" for rates in (a100, v100)]
        lines.append(f"| {key[0]}, {key[1]} | {rate:.1f} | {' | '.join(published)} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def _swin(key: tuple[str, int]) -> tuple[str, int] | None:
    """The Swin that the paper sets beside a ConvNeXt."""
    letter = next((letter for letter, size in _SIZES.items() if key[0] == f"convnext_{size}"), "")
    found = [model for model, spec in BASELINES.items() if (spec.paper, spec.size) == (f"Swin-{letter}", key[1])]
    return (found[0], key[1]) if found else None
