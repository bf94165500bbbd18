"""Every model with its numbers, the figures that the paper gives for it, and the weights that are published for it."""

from __future__ import annotations

import fnmatch
import math
from dataclasses import asdict, dataclass
from typing import Any

from convnext import paper
from convnext.errors import UserError
from convnext.nn.tables.baseline_specs import BASELINES, TIMM
from convnext.nn.tables.published import PUBLISHED
from convnext.nn.tables.variants import MODELS
from convnext.nn.weights.registry import weights_row

_LETTERS = {"tiny": "T", "small": "S", "base": "B", "large": "L", "xlarge": "XL"}


@dataclass(frozen=True)
class Published:
    """What a table of the paper says about a model: `pretraining` is "1k" or "22k", `gmacs` its column FLOPs, `top1` in
    percent. Table 9 has no accuracies: there `pretraining` is empty and `top1` nan.
    """

    table: str
    pretraining: str
    size: int
    params: float
    gmacs: float
    top1: float


@dataclass(frozen=True)
class Listed:
    """A model as `convnext models` shows it.

    Attributes:
        name: what `create_model` takes.
        paper: its name in the paper, "" if it is not there.
        size: side of the picture that `gmacs` is counted for, pixels.
        params: number of parameters with 1000 classes.
        gmacs: billions of multiply-accumulates of convolutions and linear layers for one picture.
        published: what the paper says about it.
        weights: entries of published weights.
    """

    name: str
    paper: str
    size: int
    params: int
    gmacs: float
    published: tuple[Published, ...]
    weights: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As `convnext models --json` prints it."""
        row = asdict(self)
        row["weights"] = [weights_row(entry) for entry in self.weights]
        for published in row["published"]:
            published["top1"] = None if math.isnan(published["top1"]) else published["top1"]
        return row


def list_all(pattern: str = "*") -> list[Listed]:
    """The models of our table and the baselines whose name, or name in the paper, matches a shell pattern.

    Raises:
        UserError: none does.
    """
    found = [row for row in _rows() if _matches(row, pattern)]
    if not found and pattern.startswith(TIMM) and not set(pattern) & set("*?["):
        from convnext.nn.count import count, default_size
        from convnext.nn.weights.download import starts

        size = default_size(pattern)
        counted = count(pattern, size)
        return [Listed(pattern, "", size, counted.params, round(counted.macs / 1e9, 2), (), starts(pattern))]
    if not found:
        raise UserError(
            f'no model matches "{pattern}"; `convnext models` lists ours and the baselines of the paper, '
            "`convnext models timm:NAME` shows any of timm's, `convnext roadmap` the steps of the road"
        )
    return found


def _matches(row: Listed, pattern: str) -> bool:
    wide = pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"
    return any(fnmatch.fnmatchcase(name.lower(), wide.lower()) for name in (row.name, row.paper) if name)


def _rows() -> list[Listed]:
    rows = []
    for name, spec in MODELS.items():
        entries = tuple(entry for entry, weights in PUBLISHED.items() if weights.model == name)
        called = _paper_name(name)
        rows.append(Listed(name, called, 224, spec.params, spec.gmacs, _published(called), entries))
    for name, baseline in BASELINES.items():
        published = tuple(row for row in _published(baseline.paper) if row.size == baseline.size)
        rows.append(
            Listed(name, baseline.paper, baseline.size, baseline.params, baseline.gmacs, published, baseline.pretrained)
        )
    return rows


def _paper_name(model: str) -> str:
    """ "convnext_tiny" -> "ConvNeXt-T", "convnext_isotropic_small" -> "ConvNeXt-S (iso.)"."""
    family, _, size = model.rpartition("_")
    if size not in _LETTERS or family not in ("convnext", "convnext_isotropic"):
        return ""
    return f"ConvNeXt-{_LETTERS[size]}" + (" (iso.)" if family.endswith("isotropic") else "")


def _published(name: str) -> tuple[Published, ...]:
    found = []
    for table in ("table1", "table2"):
        for row in paper.rows(table):
            if row["model"] == name:
                pretraining, size = row.get("pretraining", "1k"), int(row.get("size", 224))
                found.append(Published(table, pretraining, size, row["params"], row["flops"], row["top1"]))
    architecture = {row["stage"]: row.get(name) for row in paper.rows("table9")}
    params, flops = architecture["params (1e6)"], architecture["FLOPs (1e9)"]
    if params is not None and flops is not None:
        found.append(Published("table9", "", 224, float(params), float(flops), math.nan))
    return tuple(found)


def to_text(rows: list[Listed]) -> str:
    """The list as aligned lines: name, parameters, MACs, and the paper's best known row."""
    lines = [f"{'model':<40}{'params':>9}{'GMACs':>8}  at   {'published (paper)':<34} weights"]
    for row in rows:
        said = "; ".join(f"{p.top1:.1f} % ({p.pretraining}, {p.size})" for p in _best(row.published))
        numbers = f"{row.params / 1e6:>7.1f} M{row.gmacs:>8.2f}  {row.size:<4}"
        lines.append(f"{row.name:<40}{numbers} {said or '-':<34} {len(row.weights)}")
    lines.append("published: best ImageNet-1k top-1 without and with ImageNet-22k, at which size; --json has all rows.")
    lines.append("`convnext weights list` has the weights of ours, --json those of timm's networks, of which these are")
    lines.append("the ones in the paper's tables; `convnext models timm:NAME` shows any other.")
    return "\n".join(lines)


def _best(published: tuple[Published, ...]) -> list[Published]:
    known = [p for p in published if not math.isnan(p.top1)]
    groups = [[p for p in known if p.pretraining == data] for data in ("1k", "22k")]
    return [max(group, key=lambda p: p.top1) for group in groups if group]
