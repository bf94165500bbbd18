"""The verdict on a classification: its main score beside always saying the same."""

from __future__ import annotations

from convnext.tasks.classify.baseline import baseline_of, gain_of, has_several, main_key, settled
from convnext.tasks.reporting import Followed, Json, RunTables, Verdict
from convnext.tasks.verdicts import Headline, ends_of, interval_of, unfinished, verdict_of
from convnext.tasks.words import PERCENT, counted, number, percent, points, quoted_names

_HARDER = "varied pictures, softened labels"


def verdict(run: RunTables) -> Verdict:
    """The result in one sentence, worded with care where the pictures do not settle it."""
    if not run.result:
        return unfinished(run, followed(run))
    key, result = main_key(run), run.result
    name = "Micro-F1" if key == "micro_f1" else "Top-1"
    ends, baseline, where = interval_of(result, key), baseline_of(result, key), settled(result, key)
    score = f"{name} {percent(number(result.get(key)))}{f' ({PERCENT.span(ends)})' if ends else ''}"
    if where is None or baseline is None:
        return verdict_of(run, Headline(score, None))
    trivial, gets = _trivial(run, baseline)
    return verdict_of(run, Headline(score, where, trivial, gets, _difference(result, key, where)))


def followed(run: RunTables) -> Followed:
    """The score of the log: top-1, or micro-F1 when pictures have several labels."""
    if has_several(run) or any("val_micro_f1" in row for row in run.log):
        why = "F1 over all labels after each epoch; higher is better."
        return Followed("micro_f1", "micro-F1", "Micro-F1", why, harder=_HARDER)
    largest = _largest_share(run)
    below = "the dashed line always names validation's largest class" if largest is not None else "higher is better"
    why = f"The share of right answers after each epoch; {below}."
    return Followed("top1", "top-1", "Accuracy", why, baseline=largest, harder=_HARDER)


def _largest_share(run: RunTables) -> float | None:
    """The validation accuracy of always naming its largest class."""
    counts = (run.data.get("counts") or {}).get("val")
    return max(counts) / sum(counts) if isinstance(counts, list) and counts and sum(counts) else None


def _trivial(run: RunTables, baseline: float) -> tuple[str, str]:
    """What the trivial answer says, and what it gets."""
    result = run.result
    if not has_several(run):
        majority = result.get("majority_class")
        return (f"\u201c{majority}\u201d" if majority is not None else "one class"), percent(baseline)
    known, gets = number(result.get("micro_f1_baseline")), percent(baseline)
    best = [str(name) for name in result.get("constant_labels") or []]
    if known is None or not best or baseline <= known + 1e-9:
        return "the commonest set of labels", gets
    return "the commonest set of labels", f"{percent(known)} (and always saying {quoted_names(best, 3)} {gets})"


def _difference(result: Json, key: str, where: int) -> str:
    gain = gain_of(result, key)
    if gain is None:
        return ""
    ends = ends_of(gain.get("interval"))
    if ends is None:
        return ""
    text = f"On the same pictures that is {points(gain['value'])} points"
    text += f", 95 % interval {points(ends[0])} to {points(ends[1])}"
    disagree, p = int(gain.get("won") or 0) + int(gain.get("lost") or 0), number(gain.get("p"))
    if where == 0 and (ends[0] > 0 or ends[1] < 0) and p is not None:
        text += f"; but the two differ on {counted(disagree, 'picture')} only, where chance does as much ({percent(p)})"
    elif where == 0:
        text += ": chance may do that"
    others = [name for name in ("balanced_accuracy", "macro_f1") if where < 1 and settled(result, name) == 1]
    if others:
        names = " and ".join(name.replace("_", " ").replace(" f1", " F1") for name in others)
        text += f". By {names} it is clearly better: it finds the rarer classes"
    return text + "."
