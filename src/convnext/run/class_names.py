"""Names for the outputs of weights that name none: from a text, a JSON file, a run, or a folder of class folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from convnext.data.names import in_order
from convnext.errors import UserError
from convnext.nn.weights.head_rows import classes_of
from convnext.nn.weights.load import read_header
from convnext.run.folder import open_run
from convnext.run.load import weights_of

_LARGEST = 100_000_000  # bytes of a list of names


def read_classes(path: Path) -> tuple[str, ...]:
    """The names of classes in the order of the outputs.

    Args:
        path: a text with a name a line; JSON, a list of names, or a table of number to name (or to a list that ends in
            it, as ImageNet's class index has) or of name to number; a run folder or its model file; or a folder with
            one folder a class, whose names count in the order in which training has them.

    Raises:
        UserError: it is none of these, or names a class twice.
    """
    path = path.expanduser()
    if path.is_dir() and (path / "recipe.toml").is_file():
        path = weights_of(open_run(path))
    try:
        names = _of_folder(path) if path.is_dir() else _of_file(path)
    except OSError as error:
        raise UserError(f"--classes {path} cannot be read: {error.strerror}") from None
    if not names:
        raise UserError(f"--classes {path} names no classes")
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) != len(names) else set()
    if twice:
        raise UserError(f'--classes {path} names "{min(twice)}" more than once')
    return tuple(names)


def _of_folder(path: Path) -> list[str]:
    return in_order(item.name for item in path.iterdir() if item.is_dir() and not item.name.startswith((".", "__")))


def _of_file(path: Path) -> list[str]:
    with path.open("rb") as file:
        head = file.read(9)
        if head[8:] == b"{" and (known := classes_of(read_header(path)[1], str(path))):
            return list(known)
        content = head + file.read(_LARGEST)
    try:
        text = content.decode("utf-8-sig")
        if path.suffix.lower() != ".json" and not text.lstrip().startswith(("[", "{")):
            return [line.strip() for line in text.splitlines() if line.strip()]
        found = _of_json(json.loads(text))
    except (ValueError, RecursionError):
        found = None
    if found is None:
        raise UserError(
            f"--classes {path}: give a text with a name a line, JSON with a list of names or a table of number to "
            "name, a run, or a folder with one folder a class"
        )
    return found


def _of_json(content: Any) -> list[str] | None:
    """Names in a list or a table, None for anything else."""
    if isinstance(content, list):
        return content if all(isinstance(name, str) for name in content) else None
    if not isinstance(content, dict):
        return None
    pairs = [(value, key) if isinstance(value, int) else (key, _last(value)) for key, value in content.items()]
    table = {int(number): name for number, name in pairs if str(number).isdecimal()}
    if len(table) != len(pairs) or sorted(table) != list(range(len(table))):
        return None
    return [table[i] for i in range(len(table))] if all(isinstance(name, str) for name in table.values()) else None


def _last(value: Any) -> Any:
    return value[-1] if isinstance(value, list) and value else value
