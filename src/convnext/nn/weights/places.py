"""Where weights lie on this computer: a file, one set in it, a run folder, or a folder that another code saved."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from convnext.data.aside import aside
from convnext.errors import WeightsError
from convnext.files import read_own

_SAVED = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""What transformers and timm call the weights in a folder that they save."""


def tell(line: str) -> None:
    """Prints a line to stderr."""
    aside(line)


def split_part(path: Path) -> tuple[Path, str]:
    """`FILE#NAME` as the file and which of its sets of weights is meant, "" for none; a file may have "#" in its name.

    The "~" of a home folder is spelled out.
    """
    with contextlib.suppress(RuntimeError):  # there is no such home
        path = path.expanduser()
    name, mark, part = path.name.rpartition("#")
    if not mark or not name or not part or path.exists():
        return path, ""
    return path.with_name(name), part


def is_weight_file(path: Path) -> bool:
    """Whether weights are in a file of this name, which no run folder is; "#NAME" may be behind it."""
    return split_part(path)[0].is_file()


def weight_file(path: Path) -> Path:
    """The file of weights in a folder; a file is its own.

    Of a run the model that its result judged, or the best so far; else what transformers and timm save.

    Raises:
        WeightsError: there is nothing at this place, or the folder has no weights, or several.
    """
    if not path.is_dir():
        return path
    if (path / "recipe.toml").is_file():
        return path / f"{_judged(path)}.safetensors" if _has_models(path) else _no_model(path)
    for name in _SAVED:
        if (path / name).is_file():
            return path / name
    inside = sorted(
        p.name for p in path.iterdir() if p.suffix.lower() in (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
    )
    example = f", such as {path / inside[0]}" if inside else "; there is none in it"
    raise WeightsError(
        f"{path} is a folder; give the weight file itself{example}. Neither is it a run (no recipe.toml), nor a folder "
        f"that transformers saved (no {_SAVED[0]})"
    )


def _has_models(run: Path) -> bool:
    return any((run / f"{name}.safetensors").is_file() for name in ("best", "last"))


def _no_model(run: Path) -> Path:
    raise WeightsError(f"{run} is a run without a model yet: no epoch was finished; train it first, or give a file")


def _judged(run: Path) -> str:
    """Which model of a run stands for it: "best" or "last"."""
    there = [name for name in ("best", "last") if (run / f"{name}.safetensors").is_file()]
    try:
        result = json.loads(read_own(run / "result.json"))
    except FileNotFoundError:
        return there[0]
    except (OSError, ValueError, RecursionError):
        raise WeightsError(
            f"{run / 'result.json'} is damaged, so nothing says which model stands for the run; give one of "
            f"{', '.join(str(run / f'{name}.safetensors') for name in there)}"
        ) from None
    wanted = result.get("weights") if isinstance(result, dict) else None
    if wanted in ("best", "last") and wanted not in there:
        raise WeightsError(
            f"{run} was judged by its {wanted}.safetensors, which is not there any more; give the other one"
        )
    return wanted if wanted in there else there[0]
