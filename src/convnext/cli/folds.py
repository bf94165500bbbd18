"""`convnext train DATA --folds K`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from convnext.cli.parts import print_out
from convnext.config import load_recipe, split_settings
from convnext.data.names import name_of
from convnext.errors import Stopped, UserError
from convnext.report.page import write_report
from convnext.report.text import trivial_lines
from convnext.run.record import say
from convnext.study.folds import describe_folds, has_folds, resume_folds, train_folds

__all__ = ["has_folds", "run_folds"]


def run_folds(
    data: Path | None, settings: list[str], out: Path | None, folds: int, *, resume: bool, overwrite: bool, alone: bool
) -> int:
    """Trains the folds, or goes on with them, and prints their table."""
    if not alone or os.environ.get("WORLD_SIZE", "1") not in ("", "1"):
        raise UserError(
            "--folds trains one fold after the other in this process, without --gpus, --nodes, --slurm, --dry-run "
            "and torchrun; "
            "train a fold by itself with data.folds=5 data.fold=1, data.fold=2 and so on"
        )

    def report(run: Path) -> None:
        print_out(f"report: {write_report(run)}")

    if resume:
        place = out or data
        if place is None or not has_folds(place) or folds or settings or overwrite:
            raise UserError(
                "--resume takes the folder of the folds and nothing else: convnext train --resume --out RUNS"
            )
    elif data is None:
        raise UserError("train needs DATA: a folder with one folder of pictures a class, or a CSV table")
    else:
        place = out or Path("runs") / f"{name_of(data)}-folds"
    try:
        if resume:
            summary = resume_folds(place, after=report)
        else:
            recipe = load_recipe(*split_settings(settings))
            summary = train_folds(data or "", recipe, place, folds, overwrite=overwrite, after=report)
    except Stopped:
        say(f"go on with: convnext train --resume --out {shlex.quote(str(place))}")
        raise
    print_out("\n".join([describe_folds(summary), *trivial_lines(summary["out_of_fold"])]))
    print_out(f"every picture as it was judged unseen: {place / 'predictions.csv'}")
    return 0
