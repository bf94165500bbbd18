"""What to do next, each with the command that does it: a task says what it has seen, commands are written here."""

from __future__ import annotations

from convnext.report.commands import command_of
from convnext.report.files import RunFiles
from convnext.tasks.blocks import Step
from convnext.tasks.reporting import reporting_of


def advise(run: RunFiles, *, own: bool = True) -> list[Step]:
    """What to do next, the most pressing first; never empty for a run that was judged.

    Args:
        run: the folder's files, with the result to be explained.
        own: the result is of the run's own data; otherwise the training is not spoken of.

    Raises:
        RunError: the run is of a task that this version does not know.
    """
    found = reporting_of(run.task).advise(run, own)
    return [Step(item.text, command_of(run, item.action) if item.action else "", item.kind) for item in found]
