"""The roadmap as a table: every step counted, the paper's figures beside it, and ours where steps were trained."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from convnext import paper
from convnext.errors import RunError, UserError
from convnext.nn.count import count
from convnext.nn.others.roadmap import SHORT, Step, designs, find_step, get_regime, name_of

RESULT = "roadmap.json"


@dataclass
class Row:
    """One step of a road.

    Attributes:
        step: the paper's name of the step.
        name: what `--steps` takes.
        model: what `create_model` takes.
        change: the change in one line.
        adopted: whether the steps after it build on it.
        params: number of parameters with 1000 classes.
        gmacs: billions of multiply-accumulates at 224 pixels, counted, not rounded.
        published_gmacs: what the paper's table prints; None in a shrunken regime.
        published_top1: ImageNet-1k accuracy in percent; None in a shrunken regime.
        published_deviation: over three seeds, where the paper gives it.
        agrees: whether the printed MACs are the counted ones, to two decimals; None where there is nothing to compare.
        measured: accuracies of our own runs by seed, fractions, where there are any.
    """

    step: str
    name: str
    model: str
    change: str
    adopted: bool
    params: int
    gmacs: float
    published_gmacs: float | None = None
    published_top1: float | None = None
    published_deviation: float | None = None
    agrees: bool | None = None
    measured: dict[int, float] = field(default_factory=dict)

    @property
    def mean(self) -> float | None:
        """Mean of the measured accuracies."""
        return statistics.mean(self.measured.values()) if self.measured else None

    @property
    def deviation(self) -> float | None:
        """Their standard deviation over seeds, from two on."""
        return statistics.stdev(self.measured.values()) if len(self.measured) > 1 else None


@dataclass
class Road:
    """The table of a regime.

    Attributes:
        regime: a key of `nn.roadmap.REGIMES`.
        scale: 1, or below 1 for a shrunken road.
        steps: the rows.
        experiment: what the measured accuracies were measured on, in one line; "" where there are none.
    """

    regime: str
    scale: float
    steps: list[Row]
    experiment: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `convnext roadmap --json` prints it."""
        rows = []
        for row in self.steps:
            cells = asdict(row)
            measured = cells.pop("measured")
            if measured:
                cells |= {"measured": measured, "measured_mean": row.mean, "measured_deviation": row.deviation}
            rows.append(cells)
        return {"regime": self.regime, "scale": self.scale, "steps": rows}


def tabulate(regime: str, scale: float = 1.0) -> Road:
    """Every step with its counts, and the paper's figures beside them.

    Raises:
        UserError: no such regime, or a scale outside (0, 1].
    """
    published = {row["step"]: row for row in paper.rows(get_regime(regime).table)}
    rows = []
    for step, design in designs(regime, scale):
        model = name_of(regime, step, scale)
        counted = count(model, 224)
        row = Row(step.row, step.name, model, step.told(design), step.adopted, counted.params, counted.macs / 1e9)
        if scale == 1:
            _add_published(row, published[step.row])
        rows.append(row)
    return Road(regime, scale, rows)


def _add_published(row: Row, printed: dict[str, Any]) -> None:
    row.published_gmacs, row.published_top1 = float(printed["flops"]), float(printed["top1"])
    deviation = float(printed.get("deviation", math.nan))
    row.published_deviation = None if math.isnan(deviation) else deviation
    row.agrees = f"{row.gmacs:.2f}" == f"{row.published_gmacs:.2f}"


def choose_steps(regime: str, asked: str, scale: float = 1.0) -> list[Step]:
    """The steps that a comma-separated list names; all adopted networks of the road for "".

    The two first rows are one network under two recipes; here there is one recipe, so they count once.

    Raises:
        UserError: a name is not on the road.
    """
    if not asked:
        return [step for step, _ in designs(regime, scale) if step.adopted and step.name != "recipe"]
    found = {
        step.name: step for step in (find_step(regime, name, scale)[0] for name in asked.split(",") if name.strip())
    }
    if not found:
        raise UserError(f'steps "{asked}" names no step; leave it out for all adopted ones')
    return list(found.values())


def add_measured(road: Road, out: Path) -> None:
    """Adds the accuracies of an earlier experiment of the same road, if `out` has one."""
    known = read_record(out)
    if known is None or (known.get("regime"), known.get("scale")) != (road.regime, road.scale):
        return
    try:
        measured = {row["name"]: row.get("measured", {}) for row in known["steps"]}
        for row in road.steps:
            row.measured |= {int(seed): _share(value) for seed, value in measured.get(row.name, {}).items()}
        road.experiment = one_line(known)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{out / RESULT} is damaged ({error!r}); remove it, then go on with --train") from None


def read_record(out: Path) -> dict[str, Any] | None:
    """What an earlier experiment left in `out`, if there was one.

    Raises:
        RunError: the file is damaged.
    """
    try:
        known = json.loads((out / RESULT).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"{out / RESULT} cannot be read: {error}") from None
    if not isinstance(known, dict):
        raise RunError(
            f"{out / RESULT} is damaged: it holds a {type(known).__name__}; remove it, then go on with --train"
        )
    return known


def _share(value: object) -> float:
    share = float(str(value))
    if not 0 <= share <= 1:
        raise ValueError(f"an accuracy of {value}")
    return share


def one_line(record: dict[str, Any]) -> str:
    """What was trained on, for the table and the figure; "" before anything was."""
    if not record["pictures"]:
        return ""
    return (
        f"{record['pictures']} {record['judged_on']} pictures (one is {100 / record['pictures']:.2g} points) of "
        f"{Path(record['data']).name}, {record['size']} px, {record['epochs']} epochs"
    )


def to_text(road: Road) -> str:
    """The table as aligned lines."""
    lines = [f"{road.regime}: from {road.steps[0].step} to {get_regime(road.regime).end}"]
    if road.scale == 1:
        lines[0] += "; top-1 on ImageNet-1k and printed GMACs are the paper's"
    else:
        lines[0] += f", widths x {road.scale!r} and depths divided by {SHORT}"
    lines.append("parameters and GMACs: with 1,000 classes, at 224 pixels")
    if road.experiment:
        lines.append(f"measured: top-1 on {road.experiment}")
    full = road.scale == 1
    head = f"{'step':<23}{'change':<48}{'params':>8}{'GMACs':>7}" + (f"{'printed':>9}{'top-1':>14}" if full else "")
    lines.append(head + ("  measured" if road.experiment else ""))
    for row in road.steps:
        name = row.name if row.adopted else f"({row.name})"
        line = f"{name:<23}{row.change:<48}{row.params / 1e6:>6.1f} M{row.gmacs:>7.{2 if full else 3}f}"
        lines.append((line + _published_cells(row) + _measured_cell(row)).rstrip())
    lines.append("(in brackets: tried, not adopted)")
    if any(row.agrees is False for row in road.steps):
        lines.append("* the paper prints another number than its own convolutions and linear layers add up to")
    return "\n".join(lines)


def _published_cells(row: Row) -> str:
    if row.published_gmacs is None:
        return ""
    printed = f"{row.published_gmacs:.2f}{'' if row.agrees else '*'}"
    spread = "" if row.published_deviation is None else f" ± {row.published_deviation:.2f}"
    return f"{printed:>9}{f'{row.published_top1:.2f}':>7}{spread:<7}"


def _measured_cell(row: Row) -> str:
    if row.mean is None:
        return ""
    spread = "" if row.deviation is None else f" ± {100 * row.deviation:.1f}"
    return f"  {100 * row.mean:.1f} %{spread}"
