"""The scores of classification."""

from __future__ import annotations

from dataclasses import replace

from convnext.tasks.score import Score

_LARGEST = "always the largest class"
_COMMONEST = "always the commonest labels"

TOP1 = Score("top1", "top-1", baseline=_LARGEST, note="Share of pictures whose most probable class is right.",
             counted=True)  # fmt: skip
TOP5 = Score("top5", "top-5", baseline="always the five largest classes", note="The truth is among five answers.",
             needs="more than five classes", minor=True)  # fmt: skip
BALANCED_ACCURACY = Score("balanced_accuracy", "balanced accuracy", baseline=_LARGEST, note="Mean recall of classes.")
MACRO_F1 = Score("macro_f1", "macro F1", baseline=_LARGEST, note="Mean F1 of the classes.")
MACRO_PRECISION = Score("macro_precision", "macro precision", baseline=_LARGEST, note="Mean precision of the classes.")
MACRO_RECALL = Score("macro_recall", "macro recall", baseline=_LARGEST, note="Mean recall of the classes.")
NLL = Score("nll", "log loss", "", False, digits=3, note="Mean of -log p(truth), in nats.", minor=True)
CALIBRATION = Score("calibration_error", "calibration error", higher_is_better=False,
                    note="Gap between how sure it is and how often it is right.")  # fmt: skip
MICRO_F1 = Score("micro_f1", "micro F1", baseline=_COMMONEST, note="F1 over all pairs of picture and label.")
EXACT_MATCH = Score("exact_match", "exact match", baseline=_COMMONEST, note="Share of pictures with every label right.")
AVERAGE_PRECISION = Score("mean_average_precision", "mean avg. precision", baseline="by chance",
                          note="How well pictures of each label are ranked above the others.")  # fmt: skip

SINGLE = (TOP1, BALANCED_ACCURACY, MACRO_F1, TOP5, NLL, CALIBRATION)
"""Of one class a picture; top-5 only where there are more than five."""
SEVERAL = (MICRO_F1, EXACT_MATCH, MACRO_F1, AVERAGE_PRECISION, CALIBRATION)
"""Of any number of labels a picture."""

AT = "at_thresholds."
"""Ahead of the key of a score of several labels: at the thresholds chosen on validation instead of one half."""
ALL = (
    TOP1, TOP5, BALANCED_ACCURACY, MACRO_F1, MACRO_PRECISION, MACRO_RECALL, MICRO_F1, EXACT_MATCH, AVERAGE_PRECISION,
    NLL, CALIBRATION,
    *(replace(score, key=AT + score.key) for score in (MICRO_F1, MACRO_F1, MACRO_PRECISION, MACRO_RECALL, EXACT_MATCH)),
)  # fmt: skip
"""Everything that a verdict may have."""
