"""docs/python.md, from the docstrings of the public names: `python -m convnext.reference > docs/python.md`."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any

import convnext
from convnext import api

GROUPS = {
    "Train, judge, look": ("train", "Run", "evaluate", "compare", "doctor"),
    "Use a model": ("load", "Model", "predict", "Prediction", "Preprocessing", "save"),
    "Networks": ("create_model", "ConvNeXt", "list_models", "optimize"),
    "What these stand on": (
        "Recipe", "read_dataset", "diagnose", "train_run", "evaluate_run", "write_report", "UserError",
    ),
}  # fmt: skip
"""Every public name, in the order in which one meets them."""
HEAD = """# The Python interface

Every function says more by `help(...)`, from which this page is made (`make docs`). Where pictures are taken, they may
be paths, the bytes of a file, open files, PIL pictures, or arrays and tensors, uint8 or floats in [0, 1], (H, W),
(H, W, C) or (C, H, W); one, or many. Colours are red, green, blue: turn OpenCV's pictures by `array[..., ::-1]`. What
the user can put right is a `convnext.UserError`. Importing `convnext` loads no torch.
"""
_SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Examples")


def render() -> str:
    """The page."""
    parts = [HEAD]
    for title, names in GROUPS.items():
        parts.append(f"## {title}\n")
        parts += [_entry(name) for name in names]
    return "\n".join(parts).rstrip() + "\n"


def named(name: str) -> Any:
    """A public name's object; for the folders that are called, the function behind them."""
    return getattr(api, name) if hasattr(api, name) else getattr(convnext, name)


def _entry(name: str) -> str:
    thing = named(name)
    lines = [f"### {name}", "", f"```python\n{_signature(name, thing)}\n```", "", *_body(inspect.getdoc(thing) or "")]
    if inspect.isclass(thing):
        lines += _members(thing)
    return "\n".join(lines).rstrip() + "\n"


def _signature(name: str, thing: Any) -> str:
    """As one writes it; one argument a line where it is long."""
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return f"convnext.{name}(message)"
    shown = inspect.signature(thing)
    arguments = [re.sub(r"\bconvnext(\.\w+)+\.|\bpathlib\.|\bcollections\.abc\.", "", str(p)) for p in _marked(shown)]
    arguments = [re.sub(r": '([^']+)'", r": \1", argument) for argument in arguments]
    back = "" if inspect.isclass(thing) else f" -> {shown.return_annotation}"
    line = f"convnext.{name}({', '.join(arguments)}){back}"
    if len(line) <= 100:
        return line
    return f"convnext.{name}(\n" + "".join(f"    {one},\n" for one in arguments) + f"){back}"


def _marked(signature: inspect.Signature) -> list[Any]:
    """Parameters, with `*` where those begin that are named."""
    found: list[Any] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not any(str(one).startswith("*") for one in found):
            found.append("*")
        found.append(parameter)
    return found


def _members(thing: type) -> list[str]:
    """Methods and properties of a class of ours that have something to say, one line each."""
    lines = []
    for key, value in vars(thing).items():
        doc = inspect.getdoc(value) if not key.startswith("_") and (callable(value) or _is_property(value)) else None
        if doc:
            call = "" if _is_property(value) else "(...)"
            lines.append(f"- `.{key}{call}`: {_joined(doc.split(chr(10) * 2)[0])}")
    return ["", *lines] if lines else []


def _is_property(value: Any) -> bool:
    return isinstance(value, property)


def _body(doc: str) -> list[str]:
    """A docstring's paragraphs, its sections as lists, its examples as code."""
    lines: list[str] = []
    section = ""
    for block in re.split(r"\n\n+", doc):
        head, _, rest = block.partition("\n")
        if head.rstrip(":") in _SECTIONS and head.endswith(":"):
            section = head.rstrip(":")
            block = textwrap.dedent(rest)
            if section != "Examples":
                lines += [f"{section}:", ""]
        if section == "Examples":
            lines += ["```pycon", block, "```", ""]
        elif section:
            lines += [*_items(block), ""]
        else:
            lines += [block, ""]
    return lines


def _items(block: str) -> list[str]:
    """`name: what it is`, with lines that go on, as a list."""
    items: list[str] = []
    for line in block.splitlines():
        if line.startswith(" ") and items:
            items[-1] += f" {line.strip()}"
        else:
            items.append(line.strip())
    return ["- " + re.sub(r"^(\w+):", r"`\1`:", item) for item in items]


def _joined(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    print(render(), end="")
