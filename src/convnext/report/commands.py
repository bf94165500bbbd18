"""What to type to go on with a run, quoted for the shell, and what the files of its folder are for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from convnext.report.files import RunFiles
from convnext.tasks.reporting import Action

_FILES = {
    "best.safetensors": "the model of the best epoch on validation, with all that its use takes; every command of "
    "convnext and convnext.load take it: the file to hand on",
    "last.safetensors": "the model after the last epoch",
    "predictions.csv": "what the model said of every judged picture, with the truth: for a spreadsheet, and for "
    "convnext compare",
    "result.json": "all numbers of this page",
    "mistakes.json": "the pictures that this page shows, with their whole paths",
    "splits.csv": "which picture was used for training, validation and test",
    "contents.json": "by which pictures of its training and validation are known again; nothing can be seen in it",
    "recipe.toml": "all settings as they were run: convnext train takes it again",
    "log.jsonl": "the numbers of each epoch",
    "last.state.pt": "the training itself, for --resume; needed for nothing else, and the largest file",
    "tensorboard": "the curves for TensorBoard",
}


def folder_files(run: RunFiles, told: Mapping[str, str]) -> list[tuple[str, str]]:
    """The files of the run folder that are there, each with what it is for; `told` has the task's words for some."""
    there = [(name, told.get(name, why)) for name, why in _FILES.items() if (run.folder / name).exists()]
    return [(name, why) for name, why in there if name != "last.state.pt" or has_state(run)]


def has_state(run: RunFiles) -> bool:
    """Whether the state of the training lies there and stays: without `train.keep_state` it goes when a run ends."""
    keeps = (run.recipe.get("train") or {}).get("keep_state", True)
    return bool(keeps) and (run.folder / "last.state.pt").exists()


def commands(run: RunFiles) -> list[tuple[str, str]]:
    """What to type to go on with this run, each with the purpose it serves; paths are quoted for the shell."""
    folder, data = quoted(run.folder), quoted(run.data_root or "DATA")
    again = quoted(f"{run.folder if run.folder.name else run.folder.resolve()}-again")
    rows = [
        ("Predict new pictures", f"convnext predict {folder} FILES"),
        ("Evaluate again", f"convnext evaluate {folder}"),
        ("Evaluate on other data", f"convnext evaluate {folder} DATA"),
        ("Compare with another run", f"convnext compare {folder} OTHER_RUN"),
        ("Go on after an interruption", f"convnext train --resume --out {folder}"),
        ("Train the same again", f"convnext train {data} {quoted(run.folder / 'recipe.toml')} --out {again}"),
    ]
    if command := run.environment.get("command"):
        words = list(map(str, command)) if isinstance(command, list) else _words(str(command))
        rows.append(("This run was started with", shlex.join(_named(words)) if words else str(command)))
    return rows


def command_of(run: RunFiles, action: Action) -> str:
    """The command that does what a task advises."""
    folder = quoted(run.folder)
    if action.do == "longer":
        return _train_on(run, action.epochs)
    if action.do == "again":
        return _train_again(run, *action.settings, suffix=action.suffix)
    if action.do == "look":
        return doctor(run)
    return f"convnext predict {folder} FILES" if action.do == "predict" else f"convnext evaluate {folder}"


def doctor(run: RunFiles) -> str:
    """The command that looks at the judged data, with all that it takes to read them: the run's own by its recipe, and
    others by the settings that they were judged with.

    A result of other data has these in `columns`.
    """
    columns = run.result.get("columns")
    if isinstance(columns, list):
        words = [shlex.quote(str(setting)) for setting in columns]
    else:
        words = [quoted(run.folder / "recipe.toml")] if run.recipe_text else []
    return " ".join(["convnext doctor", quoted(run.data_root or "DATA"), *words])


def quoted(path: str | Path) -> str:
    """A path as one word for the shell; one that begins with a dash is not taken for an option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return []


def _named(words: list[str]) -> list[str]:
    """The command by its name, where it was started by the path of its file."""
    program = Path(words[0]).name
    return ["convnext", *words[1:]] if program in ("__main__.py", "convnext") else words


def _train_again(run: RunFiles, *settings: str, suffix: str) -> str:
    """The command that trains the same recipe with other settings, into a folder beside this one."""
    home = run.folder if run.folder.name else run.folder.resolve()
    words = ["convnext", "train", quoted(run.data_root or "DATA"), quoted(run.folder / "recipe.toml")]
    return " ".join([*words, *map(shlex.quote, settings), "--out", quoted(f"{home}-{suffix}")])


def _train_on(run: RunFiles, epochs: int) -> str:
    """The command that trains longer: on from the state of the run where it was kept, or else anew."""
    if has_state(run):
        return f"convnext train --resume --out {quoted(run.folder)} train.epochs={epochs}"
    return _train_again(run, f"train.epochs={epochs}", suffix="longer")
