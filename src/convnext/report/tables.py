"""What the report says in words and numbers: the verdict, the headline tiles, the facts, the rows of the tables."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convnext.report.files import Json, RunFiles
from convnext.report.text import weights_judged
from convnext.report.words import counted, duration, number, percent, show, span

SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Verdict:
    """One sentence on the result and what must be said with it. `tone` is "good", "doubtful" or "open"."""

    tone: str
    label: str
    sentence: str
    caveat: str = ""


@dataclass(frozen=True)
class Tile:
    """A headline number: a fraction with its interval and, where there is one, the level of the trivial answer."""

    key: str
    label: str
    value: float
    interval: tuple[float, float] | None
    baseline: float | None
    note: str


def interval_of(metrics: Json, key: str) -> tuple[float, float] | None:
    """The interval of one metric, None when it is missing or not made of two numbers."""
    ends = (metrics.get("intervals") or {}).get(key)
    if not isinstance(ends, list | tuple) or len(ends) != 2 or any(number(end) is None for end in ends):
        return None
    return float(ends[0]), float(ends[1])


def verdict(run: RunFiles) -> Verdict:
    """The result in one sentence, worded with care where the interval does not settle it."""
    if not run.result:
        return _unfinished(run)
    result, multi = run.result, run.multi_label
    key, name = ("micro_f1", "Micro-F1") if multi else ("top1", "Top-1")
    value, baseline = number(result.get(key)), number(result.get("micro_f1_baseline" if multi else "majority_top1"))
    where = counted(int(result.get("n", 0)), f"{SPLIT_WORDS.get(str(result.get('split')), 'evaluation')} picture")
    ends = interval_of(result, key)
    score = f"{name} {percent(value)}{f' ({span(ends)})' if ends else ''} on {where}"
    majority = result.get("majority_class")
    trivial = (
        "the commonest set of labels" if multi else f"\u201c{majority}\u201d" if majority is not None else "one class"
    )
    caveat = _split_caveat(result)
    if value is None or baseline is None:
        return Verdict("open", "No comparison", f"{score}; there is no trivial answer to compare it with.", caveat)
    if (ends and ends[1] < baseline) or (not ends and value < baseline):
        text = f"{score} is worse than always saying {trivial}, which gets {percent(baseline)}."
        return Verdict("doubtful", "Worse than the trivial answer", text, caveat)
    if (ends and ends[0] <= baseline) or (not ends and value == baseline):
        text = f"{score} is not clearly better than always saying {trivial}, which gets {percent(baseline)}."
        return Verdict("doubtful", "Not clearly better than the trivial answer", text, caveat)
    text = f"{score}; always saying {trivial} gets {percent(baseline)}."
    if caveat:
        return Verdict("open", "Validation pictures only", text, caveat)
    return Verdict("good", "Better than the trivial answer", text)


def _split_caveat(result: Json) -> str:
    if result.get("split") != "val":
        return ""
    if result.get("weights") == "best":
        return (
            "There is no test split, and the same validation pictures chose the best epoch: "
            "expect a little less on new pictures."
        )
    return (
        "There is no test split. These validation pictures were watched during training: "
        "check with pictures that were not."
    )


def _unfinished(run: RunFiles) -> Verdict:
    if not run.log:
        return Verdict("open", "Not finished", "This run has not finished its first epoch yet.")
    last, key = run.log[-1], metric_key(run)
    name = "micro-F1" if key == "micro_f1" else "top-1"
    epoch, planned = run.epochs
    text = f"{counted(epoch, 'epoch')} of {planned} done"
    if epoch >= planned:
        text = f"All {counted(planned, 'epoch')} done, the final evaluation is missing"
    scored = [(score, int(row["epoch"])) for row in run.log if (score := validation_score(row, key)) is not None]
    if not scored:
        return Verdict("open", "Not finished", text + ".")
    best, best_epoch = max(scored, key=lambda pair: (pair[0], -pair[1]))
    caveat = "These are validation numbers from training, without intervals. A final result follows when the run ends."
    now = validation_score(last, key)
    text += f"; validation {name} now {percent(now)}, best {percent(best)} at epoch {best_epoch}."
    return Verdict("open", "Not finished", text, caveat)


def metric_key(run: RunFiles) -> str:
    """The accuracy that the log follows: "top1", or "micro_f1" when pictures have several labels."""
    return "micro_f1" if run.multi_label or any("val_micro_f1" in row for row in run.log) else "top1"


def validation_score(row: Json, key: str) -> float | None:
    """One epoch's validation score: the better of the plain and the averaged weights."""
    scores = [number(row.get(f"val_{key}")), number(row.get(f"ema_val_{key}"))]
    return max((score for score in scores if score is not None), default=None)


def tiles(result: Json) -> list[Tile]:
    """The headline numbers that the result has, the main one first."""
    n, correct = result.get("n"), result.get("correct")
    right = f"{correct:,} of {n:,} pictures right" if isinstance(correct, int) and isinstance(n, int) else ""
    wanted = [
        ("top1", "Top-1 accuracy", "majority_top1", right),
        ("micro_f1", "Micro-F1", "micro_f1_baseline", "F1 over all labels together"),
        ("mean_average_precision", "Mean average precision", "", "how well each class is ranked"),
        ("exact_match", "Exact match", "exact_match_baseline", "every label of the picture right"),
        ("balanced_accuracy", "Balanced accuracy", "", "every class counts the same"),
        ("macro_f1", "Macro F1", "", "precision and recall, mean over classes"),
        ("top5", "Top-5 accuracy", "", "the truth is among five guesses"),
        ("calibration_error", "Calibration error", "", "confidence against truth; lower is better"),
    ]
    out = []
    for key, label, baseline, note in wanted:
        if (value := number(result.get(key))) is not None:
            out.append(Tile(key, label, value, interval_of(result, key), number(result.get(baseline)), note))
    return out


def facts(run: RunFiles) -> list[tuple[str, str]]:
    """What was trained on what, as pairs of a name and a value; what is not known is left out."""
    kind = "several labels a picture" if run.multi_label else "one label a picture"
    classes = f"{counted(len(run.classes), 'class')}, {kind}" if run.classes else ""
    size = (run.recipe.get("data") or {}).get("size")
    params = number(run.result.get("params"))
    rows = [
        ("Data", "/".join(Path(run.data_root).parts[-2:]).lstrip("/")),
        ("Classes", classes),
        ("Pictures", _pictures(run)),
        ("Model", model_name(run) + (f", {params / 1e6:.1f} million parameters" if params else "")),
        ("Starting point", starting_point(run)),
        ("Picture size", f"{size} \u00d7 {size} pixels" if isinstance(size, int) else show(size) if size else ""),
        *_training_facts(run),
        ("Weights judged", weights_judged(run.result) if run.result else ""),
        ("Seed", show(run.result["seed"]) if "seed" in run.result else ""),
        ("Machine", _machine(run.environment)),
    ]
    return [(name, value) for name, value in rows if value]


def _pictures(run: RunFiles) -> str:
    totals = run.data.get("pictures") or {split: sum(counts) for split, counts in splits(run)}
    return " \u00b7 ".join(f"{totals[s]:,}\u00a0{word}" for s, word in SPLIT_WORDS.items() if totals.get(s))


def _training_facts(run: RunFiles) -> list[tuple[str, str]]:
    if not run.log:
        return []
    last = run.log[-1]
    seconds = number(run.result.get("train_seconds")) or number(last.get("seconds"))
    done, planned = run.epochs
    speeds = [speed for row in run.log if (speed := number(row.get("images_per_second"))) is not None]
    waits = [wait for row in run.log if (wait := number(row.get("data_wait"))) is not None]
    pace = f"{statistics.median(speeds):,.0f} pictures/s" if speeds else ""
    if pace and waits:
        pace += f", {100 * statistics.fmean(waits):.0f} % of the time spent waiting for data"
    return [
        ("Epochs", f"{done} of {planned}" if done < planned else str(done)),
        ("Training time", duration(seconds) if seconds is not None else ""),
        ("Speed", pace),
    ]


def _machine(environment: Json) -> str:
    gpu, cpu = environment.get("gpu"), environment.get("cpu")
    cores = environment.get("cores")
    words = [show(gpu)] if gpu and gpu != "none" else []
    if cpu:
        words.append(show(cpu) + (f", {counted(cores, 'core')}" if isinstance(cores, int) else ""))
    return " \u00b7 ".join(words)


def model_name(run: RunFiles) -> str:
    """The model's name from the result, or from the recipe while there is none."""
    return str(run.result.get("model") or (run.recipe.get("model") or {}).get("name") or "model")


def starting_point(run: RunFiles) -> str:
    """Pretrained or from scratch: the plan knows what was reached, the recipe only what was asked for."""
    planned = [row.get("value") for row in run.plan if row.get("key") == "weights"]
    weights = str(planned[-1] if planned else run.recipe.get("weights", ""))
    if weights == "none":
        return "from scratch, random weights"
    if weights == "auto":
        return "pretrained weights if they could be reached"
    return f"pretrained: {weights}" if weights else ""


def sureness(result: Json) -> str:
    """One sentence that compares the mean confidence with the share of right answers, if there are both."""
    bins, right = result.get("reliability") or {}, number(result.get("top1"))
    weights = [int(count) for count in bins.get("count") or []]
    if right is None or not sum(weights):
        return ""
    sure = sum(count * mean for count, mean in zip(weights, bins["confidence"], strict=True) if count) / sum(weights)
    text = f"On average it is {percent(sure)} sure and right for {percent(right)} of the pictures"
    points = f"{100 * abs(sure - right):.1f} points"
    if points == "0.0 points":
        return text + "."
    return f"{text}: too {'sure' if sure > right else 'modest'} by {points}."


def splits(run: RunFiles) -> list[tuple[str, list[int]]]:
    """Pictures per class of each split that has any; a picture with two labels counts in both classes."""
    counts = run.data.get("counts") or {}
    return [(split, [int(c) for c in counts[split]]) for split in SPLIT_WORDS if sum(counts.get(split) or []) > 0]


def class_histogram(run: RunFiles) -> list[Json]:
    """One row a class, in the model's order: name, sum, and for each split its count and bar length in per cent."""
    parts = splits(run)
    totals = [sum(column) for column in zip(*(counts for _, counts in parts), strict=True)]
    longest = max(totals, default=0) or 1
    rows = []
    for index, total in enumerate(totals):
        counts = [(split, values[index], round(100 * values[index] / longest, 3)) for split, values in parts]
        name = run.classes[index] if index < len(run.classes) else str(index)
        rows.append({"name": name, "total": total, "counts": counts})
    return rows


def class_columns(result: Json) -> list[tuple[str, str]]:
    """Keys and titles of the per-class table's metric columns."""
    names = [("precision", "Precision"), ("recall", "Recall"), ("f1", "F1"), ("average_precision", "Avg. precision")]
    return [pair for pair in names if any(pair[0] in row for row in result.get("per_class") or [])]


def common_mistakes(matrix: Sequence[Sequence[int]], classes: Sequence[str], most: int = 8) -> list[Json]:
    """The commonest confusions: truth, prediction, their count and the size of the truth's class."""
    pairs = [
        (-count, truth, guess, sum(row))
        for truth, row in zip(classes, matrix, strict=True)
        for guess, count in zip(classes, row, strict=True)
        if guess != truth and count > 0
    ]
    return [
        {"truth": truth, "predicted": guess, "count": -count, "total": total}
        for count, truth, guess, total in sorted(pairs)[:most]
    ]


def commands(run: RunFiles) -> list[tuple[str, str]]:
    """What to type to go on with this run, each with the purpose it serves; paths are quoted for the shell."""
    folder, data = shlex.quote(str(run.folder)), shlex.quote(run.data_root or "DATA")
    again = shlex.quote(f"{run.folder if run.folder.name else run.folder.resolve()}-again")
    recipe = shlex.quote(str(run.folder / "recipe.toml"))
    rows = [
        ("Evaluate again", f"convnext evaluate {folder}"),
        ("Evaluate on other data", f"convnext evaluate {folder} DATA"),
        ("Predict new pictures", f"convnext predict {folder} FILES"),
        ("Go on after an interruption", f"convnext train --resume --out {folder}"),
        ("Train the same again", f"convnext train {data} {recipe} --out {again}"),
    ]
    if command := run.environment.get("command"):
        text = shlex.join(map(str, command)) if isinstance(command, list) else str(command)
        rows.append(("This run was started with", text))
    return rows


def title(run: RunFiles) -> str:
    """Model and data in a few words."""
    data = Path(run.data_root).name if run.data_root else ""
    return f"{model_name(run)} on {data}" if data else model_name(run)


def labels_text(value: Any) -> str:
    """Truth or prediction of a mistake: a name, or the names of a multi-label picture."""
    return show(value) if value not in (None, "", []) else "nothing"
