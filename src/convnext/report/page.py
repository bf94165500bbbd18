"""The report of a run: one HTML file that needs nothing else, offline, on any screen and on paper.

What was trained, how training went, its choices, files and machine are the report's own. The verdict, the scores and
the sections on them are what the run's task declares; they are drawn here without knowing what they are about.
"""

from __future__ import annotations

from pathlib import Path

from convnext.data.names import harmless
from convnext.report import facts, words
from convnext.report.advice import advise
from convnext.report.blocks import Drawer, environment
from convnext.report.commands import commands, folder_files
from convnext.report.curves import epochs_table, training_charts
from convnext.report.files import RunFiles, read_run
from convnext.report.pictures import BATCH, picture_uri
from convnext.run.folder import write_text
from convnext.tasks.blocks import Steps, Tiles
from convnext.tasks.reporting import reporting_of
from convnext.tasks.verdicts import split_word
from convnext.tasks.words import counted, show


def write_report(run: str | Path) -> Path:
    """Write RUN/report.html and return its path.

    The page holds what the folder holds: an unfinished run gives a page without the final numbers. The same folder
    gives the same bytes.

    Args:
        run: the run folder, as `convnext train --out` wrote it. Commands on the page name it as given here.

    Raises:
        RunError: not a run folder, a damaged file in it, or the page cannot be written.

    Examples:
        >>> import convnext
        >>> convnext.write_report("runs/photos").name
        'report.html'
    """
    target = Path(run) / "report.html"
    write_text(target, render(read_run(Path(run))))
    return target


def render(run: RunFiles) -> str:
    """The page's HTML.

    Raises:
        RunError: the run is of a task that this version does not know.
    """
    told, drawer, templates = reporting_of(run.task).declare(run), Drawer(run.folder), environment()
    templates.filters.update(show=show, unbroken=words.unbroken)
    templates.globals.update(counted=counted, draw=drawer.draw, section=drawer.section)
    page = templates.get_template("page.html.j2").render(
        run=run,
        told=told,
        title=facts.title(run),
        advice=Steps(tuple(advise(run))),
        tiles=Tiles(told.tiles),
        facts=facts.facts(run, told.facts),
        charts=training_charts(run, told.followed),
        split=split_word(run.result),
        commands=commands(run),
        files=folder_files(run, told.files),
        epochs_table=epochs_table(run, told.followed),
        batch=picture_uri(run.folder, "pictures/batch.jpg", side=BATCH),
    )
    return harmless(page)
