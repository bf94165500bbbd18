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
from convnext.tasks.words import counted, percent, points

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
    environment.filters.update(percent=percent, points=points)
    reach = max(
        (abs(end) for each in found.differences for m in each.metrics.values() for end in m["interval"]), default=0.0
    )
    environment.globals.update(counted=counted, bar=lambda metric: _bar(metric, max(reach, 1e-6)))
    page = environment.get_template("compare.html.j2").render(
        found=found, names=list(found.scores[0]), titles={score.key: score.title for score in found.kinds},
        rows=list(zip(found.runs, found.judged, found.scores, strict=True)),
    )  # fmt: skip
    return harmless(page)


def _bar(metric: dict[str, Any], reach: float) -> Markup:
    """A difference as a dot with its interval, on a scale with 0 in the middle."""
    low, high = metric["interval"]
    at = [50 + 48 * value / reach for value in (low, metric["difference"], high)]
    return Markup(
        '<svg class="bar" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true"><path class="track" '
        'd="M0 6H100"/><path class="tick" d="M50 0V12"/><path class="band" d="M{:.2f} 6H{:.2f}"/>'
        '<path class="value" d="M{:.2f} 6h0"/></svg>'
    ).format(at[0], at[2], at[1])


def _template(name: str) -> str:
    return resources.files("convnext.report").joinpath(name).read_text(encoding="utf-8")
