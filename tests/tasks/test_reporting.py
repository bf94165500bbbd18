"""Every task of the table has words for people, from an empty run folder on."""

from __future__ import annotations

import inspect

import pytest

from convnext.tasks.reporting import Reporting, RunTables, Verdict, reporting_of
from convnext.tasks.table import TASKS, kind_of

OWN = {"next", "verdict", "facts", "training", "data", "settings", "commands"}
"""Names on the page that the report's own parts have."""


@pytest.mark.parametrize("name", TASKS)
def test_every_task_reports_an_empty_run(name: str) -> None:
    """Each member of the protocol is there; nothing is claimed of a run without an epoch, and nothing advised."""
    reporting = reporting_of(name)
    for member, _ in inspect.getmembers(Reporting, inspect.isfunction):
        assert member.startswith("_") or callable(getattr(reporting, member))
    told = reporting.declare(RunTables())
    assert told.verdict == Verdict("open", "Not finished", "This run has not finished its first epoch yet.")
    assert (told.tiles, told.sections) == ((), ())
    assert reporting.advise(RunTables(), True) == []
    assert {"n", "split", "weights"} <= set(reporting.SHOWN)


@pytest.mark.parametrize("name", TASKS)
def test_the_curve_is_that_of_a_score_of_the_task(name: str) -> None:
    """What is followed on the page is a score by which the task chooses epochs, in its direction."""
    followed = reporting_of(name).followed(RunTables())
    (score,) = [score for score in kind_of(name).SCORES if score.key == followed.key]
    assert followed.higher_is_better == score.higher_is_better
    assert followed.unit.name == score.written.name


def test_names_of_sections_do_not_hide_the_reports_own() -> None:
    """A task's sections are reached by names of their own."""
    row = {"name": "a", "n": 1, "precision": 1.0, "recall": 1.0, "f1": 1.0}
    result = {"n": 1, "per_class": [row], "confusion": [[1]]}
    sections = reporting_of("classify").declare(RunTables(result=result)).sections
    keys = [section.key for section in sections]
    assert keys == ["confusion", "classes"]
    assert not set(keys) & OWN
