"""The page of a comparison: one HTML file that needs nothing else, in the style of a run's report."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FunctionLoader
from markupsafe import Markup

from convnext.data.names import harmless
from convnext.errors import UserError
from convnext.run.folder import write_output
from convnext.tasks.words import counted

if TYPE_CHECKING:
    from convnext.evaluate.compare import Comparison


def write_comparison(found: Comparison, path: str | Path) -> Path:
    """Writes a comparison as one HTML file and returns its path.

    Raises:
        UserError: the file does not end in .html, or its folder does not exist.
        RunError: it cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise UserError(f'{target}: the page is HTML; give a name that ends in .html, not in "{target.suffix}"')
    if not target.parent.is_dir():
        raise UserError(f"{target}: the folder {target.parent} does not exist; make it first")
    write_output(target, render(found).encode("utf-8", "backslashreplace"))
    return target


def render(found: Comparison) -> str:
    """The page's HTML."""
    environment = Environment(loader=FunctionLoader(_template), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    kinds = {score.key: score for score in found.kinds}
    reach = {unit: max(_reach(found, unit), 1e-6) for unit in {score.unit for score in found.kinds}}
    units = {score.points for score in found.kinds}
    environment.globals.update(
        counted=counted, bar=lambda name, metric: _bar(metric, reach[kinds[name].unit], kinds[name].gain(1.0))
    )
    page = environment.get_template("compare.html.j2").render(
        found=found, names=list(kinds), titles={key: score.title for key, score in kinds.items()},
        units={key: score.written for key, score in kinds.items()}, unit=next(iter(units)) if len(units) == 1 else "",
        rows=list(zip(found.runs, found.judged, found.scores, strict=True)),
    )  # fmt: skip
    return harmless(page)


def _reach(found: Comparison, unit: str) -> float:
    """The largest difference of scores of one unit, intervals counted."""
    ends = [
        abs(end)
        for each in found.differences
        for score in found.kinds
        if score.unit == unit
        for end in each.metrics[score.key]["interval"]
    ]
    return max(ends, default=0.0)


def _bar(metric: dict[str, Any], reach: float, sign: float) -> Markup:
    """A difference as a dot with its interval, on a scale with 0 in the middle and what is better at the right."""
    low, high = sorted(sign * end for end in metric["interval"])
    at = [50 + 48 * value / reach for value in (low, sign * metric["difference"], high)]
    return Markup(
        '<svg class="bar" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true"><path class="track" '
        'd="M0 6H100"/><path class="tick" d="M50 0V12"/><path class="band" d="M{:.2f} 6H{:.2f}"/>'
        '<path class="value" d="M{:.2f} 6h0"/></svg>'
    ).format(at[0], at[2], at[1])


def _template(name: str) -> str:
    return resources.files("convnext.report").joinpath(name).read_text(encoding="utf-8")
