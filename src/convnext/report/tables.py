"""What the report says in numbers: the headline tiles, the facts, the rows of the tables."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convnext.report.files import Json, RunFiles
from convnext.report.matrix import anchor
from convnext.report.text import weights_judged
from convnext.report.verdict import SPLIT_WORDS, Verdict, baseline_of, ends_of, gain_of, interval_of, settled, verdict
from convnext.report.words import counted, duration, number, percent, points, show

__all__ = ["SPLIT_WORDS", "Tile", "Verdict", "facts", "interval_of", "tiles", "verdict"]


@dataclass(frozen=True)
class Tile:
    """A headline number: a fraction with its interval and, where there is one, the level of the trivial answer."""

    key: str
    label: str
    value: float
    interval: tuple[float, float] | None
    baseline: float | None
    note: str
    against: str = ""
    """The trivial answer and the difference to it, in words."""


def tiles(result: Json) -> list[Tile]:
    """The headline numbers that the result has, the main one first."""
    n, correct = result.get("n"), result.get("correct")
    right = f"{correct:,} of {n:,} pictures right" if isinstance(correct, int) and isinstance(n, int) else ""
    wanted = [
        ("top1", "Top-1 accuracy", right),
        ("micro_f1", "Micro-F1", "F1 over all labels together"),
        ("mean_average_precision", "Mean average precision", "how well each class is ranked"),
        ("exact_match", "Exact match", "every label of the picture right"),
        ("balanced_accuracy", "Balanced accuracy", "every class counts the same"),
        ("macro_f1", "Macro F1", "precision and recall, mean over classes"),
        ("top5", "Top-5 accuracy", "the truth is among five guesses"),
        ("calibration_error", "Calibration error", "confidence against truth; lower is better"),
    ]
    out = []
    for key, label, note in wanted:
        if key == "calibration_error" and "micro_f1" in result:
            continue  # over all pairs of picture and label; its section says more
        if (value := number(result.get(key))) is not None:
            baseline = baseline_of(result, key)
            out.append(
                Tile(key, label, value, interval_of(result, key), baseline, note, _against(result, key, baseline))
            )
    return out


def _against(result: Json, key: str, baseline: float | None) -> str:
    """The level of the tick, and whether the number is beyond it."""
    if baseline is None:
        return ""
    if key == "calibration_error":
        return f"orange tick: naming each class by its share, {percent(baseline)}"
    text = f"orange tick: trivial answer, {percent(baseline)}"
    gain, where = gain_of(result, key), settled(result, key)
    ends = ends_of(gain.get("interval")) if gain else None
    if gain is None or ends is None or where is None:
        return text
    said = {1: "clearly better", 0: "not clearly better", -1: "clearly worse"}[where]
    return f"{text}; {said}: {points(gain['value'])} ({points(ends[0])} to {points(ends[1])})"


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


def weakest_first(result: Json) -> list[Json]:
    """The classes' rows by F1, the weakest first; those without pictures, of which nothing is known, at the end."""
    rows = [row for row in result.get("per_class") or [] if isinstance(row, dict)]
    return sorted(rows, key=lambda row: (not row.get("n"), number(row.get("f1")) or 0.0))


def common_mistakes(
    matrix: Sequence[Sequence[int]], classes: Sequence[str], linked: Collection[tuple[int, int]], most: int = 8
) -> list[Json]:
    """The commonest confusions: truth, prediction, their count, the size of the truth's class, the link to pictures."""
    pairs = [
        (-count, truth, guess)
        for truth, row in enumerate(matrix)
        for guess, count in enumerate(row)
        if guess != truth and count > 0
    ]
    return [
        {"truth": classes[truth], "predicted": classes[guess], "count": -count, "total": sum(matrix[truth]),
         "link": anchor(truth, guess) if (truth, guess) in linked else ""}
        for count, truth, guess in sorted(pairs)[:most]
    ]  # fmt: skip


def thresholds(result: Json) -> Json:
    """The metrics at one half beside those at each label's own threshold, and the thresholds; {} where none are kept.

    `rows` has (name, at one half, its interval, at the thresholds, its interval); `classes` has (name, threshold, F1 at
    one half, F1 at the threshold).
    """
    kept, chosen = result.get("thresholds"), result.get("at_thresholds")
    if not isinstance(kept, dict) or not isinstance(chosen, dict):
        return {}
    names = [("micro_f1", "Micro-F1"), ("macro_f1", "Macro F1"), ("exact_match", "Exact match"),
             ("macro_precision", "Macro precision"), ("macro_recall", "Macro recall")]  # fmt: skip
    rows = [(name, number(result.get(key)), interval_of(result, key), number(chosen.get(key)), interval_of(chosen, key))
            for key, name in names if number(chosen.get(key)) is not None]  # fmt: skip
    values: Json = kept.get("values") or {}
    new = {row.get("name"): row for row in chosen.get("per_class") or [] if isinstance(row, dict)}
    classes = [
        (name, number(values.get(name)), row.get("f1"), new.get(name, {}).get("f1"))
        for row in weakest_first(result)
        for name in [str(row.get("name"))]
    ]
    return {"for": str(kept.get("for", "")).replace("_", " ").replace("f1", "F1"), "rows": rows, "classes": classes}


def mistake_groups(run: RunFiles) -> list[Json]:
    """The kept mistakes by what was taken for what: title, link, how many there are in all, and their rows.

    With several labels a picture they are grouped by the label that was missed or added.
    """
    matrix, classes = run.result.get("confusion") or [], run.classes
    square = matrix if len(matrix) == len(classes) else []
    groups: dict[tuple[str, str], Json] = {}
    for row in run.mistakes:
        truth, said = labels_text(row.get("truth")), labels_text(row.get("predicted"))
        key = (str(row["kind"]), str(row.get("label"))) if row.get("kind") in ("missed", "added") else (truth, said)
        if key not in groups:
            groups[key] = {"link": f"m-x{len(groups)}", "rows": [], "count": None, "cell": None} | _words_of(key, row)
            if key[0] in classes and key[1] in classes and square and not row.get("kind"):
                at = classes.index(key[0]), classes.index(key[1])
                cell = {"link": anchor(*at), "count": square[at[0]][at[1]], "total": sum(square[at[0]]), "cell": at}
                groups[key] |= cell
        groups[key]["rows"].append(row)
    return sorted(groups.values(), key=lambda group: -(group["count"] or len(group["rows"])))


def _words_of(key: tuple[str, str], row: Json) -> Json:
    if row.get("kind") in ("missed", "added"):
        return {"truth": "", "predicted": "", "title": f"{key[1]}: {'missed' if key[0] == 'missed' else 'not there'}"}
    return {"truth": key[0], "predicted": key[1], "title": ""}


def place_of(run: RunFiles, path: Any) -> str:
    """A picture's whole name below the data, or as it is where it lies elsewhere."""
    text, root = str(path).replace("\\", "/"), run.data_root.rstrip("/") + "/"
    return text.removeprefix(root) if len(root) > 1 else text


def title(run: RunFiles) -> str:
    """Model and data in a few words."""
    data = Path(run.data_root).name if run.data_root else ""
    return f"{model_name(run)} on {data}" if data else model_name(run)


def labels_text(value: Any) -> str:
    """Truth or prediction of a mistake: a name, or the names of a multi-label picture."""
    return show(value) if value not in (None, "", []) else "nothing"
