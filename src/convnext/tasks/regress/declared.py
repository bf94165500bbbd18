"""The scores of regression: errors in the unit of the target, of which less is better, and shares."""

from __future__ import annotations

import math
from dataclasses import replace

from convnext.tasks.score import Score

_MEDIAN = "always the median"
_MEAN = "always the mean"

MAE = Score("mae", "MAE", "", False, _MEDIAN, "Mean size of the errors.", 3)
RMSE = Score("rmse", "RMSE", "", False, _MEAN, "Root of the mean squared error: large errors weigh more.", 3)
MEDIAN_ERROR = Score("median_error", "median error", "", False, _MEDIAN, "Half of the errors are smaller.", 3)
R2 = Score("r2", "R²", "", baseline=_MEAN, note="Share of the variance that is explained.", digits=3)
SPEARMAN = Score(
    "spearman", "Spearman", "", baseline="no order", note="Whether the order is right, 1 at best.", digits=3
)
COVERAGE = Score(
    "coverage", "coverage", note="Share of the intervals that hold the truth.", needs="intervals", minor=True
)
WIDTH = Score("width", "interval width", "", False, note="Mean width of the intervals.", digits=3, needs="intervals",
              minor=True)  # fmt: skip
BIAS = Score("bias", "bias", "", False, note="Mean of answer - truth.", digits=3, minor=True)
ERROR = Score("error", "mean error", "deviations", False, _MEDIAN, "Mean over the targets of MAE / deviation.", 3)
ALL = (MAE, RMSE, MEDIAN_ERROR, R2, SPEARMAN, COVERAGE, WIDTH, BIAS, ERROR)
"""Everything that a verdict may be told by; the shares within k units stand beside them, as the k are of the target."""


def of_target(unit: str, deviation: float) -> tuple[Score, ...]:
    """The scores of one target, the mean absolute error first.

    Args:
        unit: of the target.
        deviation: of the training pictures, from which the decimals follow.
    """
    digits = digits_of(deviation)
    mae, rmse, median, width, bias = (
        replace(score, unit=unit, digits=digits) for score in (MAE, RMSE, MEDIAN_ERROR, WIDTH, BIAS)
    )
    return (mae, rmse, median, R2, SPEARMAN, COVERAGE, width, bias)


def digits_of(deviation: float) -> int:
    """Decimals that tell differences of a hundredth of the deviation."""
    return min(9, max(0, 2 - math.floor(math.log10(deviation)))) if deviation > 0 else 3
