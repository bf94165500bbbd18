"""`python -m convnext.bench.coverage RUN`: how many intervals of a regression hold the truth, over random resplits.

One test split of some eighty pictures says little about a promise of 90 %: its coverage varies by three points and
more. So the pictures that a run held out (its test split, and the validation pictures that it set aside for
calibration) are parted at random again and again into a half that calibrates and a half that is judged, and the mean
over all of it is told (Angelopoulos & Bates, "A Gentle Introduction to Conformal Prediction", 2021, section 3).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from convnext.config import load_complete
from convnext.data.sources.reading import Reading
from convnext.errors import UserError
from convnext.evaluate.evaluate import evaluate_run
from convnext.run.folder import open_run
from convnext.run.reading import read_data
from convnext.tasks.records import TRUTH
from convnext.tasks.regress.conformal import calibrate
from convnext.tasks.regress.regressor import Regressor
from convnext.tasks.regress.scoring import VALUE
from convnext.tasks.table import targets_of, task_of


def coverage_of(run: Path, resplits: int = 200, seed: int = 0) -> tuple[int, float, float, float]:
    """Held-out pictures of a run, the coverage that was wanted, and its mean and deviation over the resplits.

    Intervals have one width for all pictures here, also where the run scales them by a predicted spread.

    Raises:
        UserError: the run is no regression of one target with intervals, or has no test split.
    """
    recipe = load_complete(open_run(run).recipe)
    reading = Reading.of(recipe.data, settled=True)
    data = read_data(Path(recipe.data.root), reading, targets_of(recipe), quiet=True)
    task = task_of(recipe, data)
    if not isinstance(task, Regressor) or len(task.names) != 1 or not task.level or "test" not in data.splits:
        raise UserError(f"{run}: this is for a regression of one target, with intervals and a test split")
    test = evaluate_run(run).predictions
    val = evaluate_run(run, split="val", which="best").predictions
    aside = np.isin(val.indices, sorted(task.aside))
    truth, value = (
        task.scaling.standardise(np.concatenate([test.records[key], val.records[key][aside]])) for key in (TRUTH, VALUE)
    )
    draw, found = np.random.default_rng(seed), []
    for _ in range(resplits):
        order = draw.permutation(len(truth))
        mine, theirs = order[: len(order) // 2], order[len(order) // 2 :]
        (known,) = calibrate(truth[mine], value[mine], None, task.level)
        if known.absolute is None:
            raise UserError(f"{run}: {known.shortage(task.names[0])}")
        found.append(float((np.abs(truth[theirs] - value[theirs]) <= known.absolute).mean()))
    return len(truth), task.level, float(np.mean(found)), float(np.std(found))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--resplits", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    pictures, level, mean, deviation = coverage_of(given.run, given.resplits, given.seed)
    print(
        f"{pictures} held-out pictures, {given.resplits} resplits: {100 * mean:.1f} % of the {100 * level:g} % "
        f"intervals hold the truth on average, {100 * deviation:.1f} points of deviation from one resplit to another"
    )


if __name__ == "__main__":
    main()
