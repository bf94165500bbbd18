"""What comes after training: the verdict, the page, and then the run is made small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convnext.config import load_complete
from convnext.evaluate.evaluate import judge_run
from convnext.report.page import write_report
from convnext.run.folder import drop_state, is_judged, locked, open_run
from convnext.run.record import say
from convnext.tasks.reporting import RunTables, reporting_of


def finish_run(path: Path) -> tuple[dict[str, Any], Path]:
    """Judges a trained run and writes its report, as far as that is not done; gives the verdict and the page.

    Then the optimizer's state goes, unless `train.keep_state` is set: it is several times as large as the model.

    Raises:
        UserError: as `judge_run` and `write_report`.
    """
    run = open_run(path)
    result = (run.read_table("result.json") or {}) if is_judged(run) else {}
    if any(key not in result for key in reporting_of(RunTables(result=result).task).SHOWN):
        result = judge_run(path)
    page = write_report(path)
    if not load_complete(run.recipe).train.keep_state and run.state.exists():
        with locked(run):
            size = run.state.stat().st_size
            drop_state(run)
        say(f"the optimizer's state is removed ({size / 1e6:.0f} MB; train.keep_state=true keeps it for more epochs)")
    return result, page
