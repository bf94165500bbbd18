"""What a model file says of itself: how its network is built, what the outputs mean, what it must be shown.

A description may come from anybody, so all of it is checked here before anything is built, allocated or computed. The
tables below have a row a field: what it must be, and what a file means that lacks it. A new field is a row (and an
attribute of `Preprocessing`, for those under "preprocessing", whose attributes have the names of the fields).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from convnext.data.feed.preprocessing import Preprocessing
from convnext.data.pictures.transforms import FITS
from convnext.errors import UserError, WeightsError
from convnext.nn.network import Network
from convnext.nn.spec import NetworkSpec
from convnext.nn.tables.baseline_specs import TIMM

Shape = tuple[int, ...]
Rule = Callable[[Any], Any]
"""Gives the value as it is used, or raises ValueError with what it must be."""

REQUIRED = object()
MOST_CLASSES = 1_000_000
LONGEST_SIDE = 4096  # pixels, as in a recipe


class Field(NamedTuple):
    """A row of a table: the rule, and the value of a file that lacks the field."""

    rule: Rule
    missing: Any = REQUIRED


def text(longest: int) -> Rule:
    """A string of 1 to `longest` characters."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or not 1 <= len(value) <= longest:
            raise ValueError(f"must be a text of 1 to {longest} characters")
        return value

    return check


def whole(low: int, high: int) -> Rule:
    """A whole number in a range."""

    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return check


def number(low: float, high: float) -> Rule:
    """A finite number in a range."""

    def check(value: Any) -> float:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not low <= value <= high or not math.isfinite(value):
            raise ValueError(f"must be a finite number from {low:g} to {high:g}")
        return float(value)

    return check


def one_of(*choices: Any) -> Rule:
    """One of a few values, and of their type."""

    def check(value: Any) -> Any:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise ValueError(f"must be one of {', '.join(map(str, choices))}")
        return value

    return check


def several(rule: Rule, low: int, high: int, of: str) -> Rule:
    """A list of `low` to `high` values of one kind; gives a tuple."""

    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or not low <= len(value) <= high:
            raise ValueError(f"must be a list of {low} to {high} {of}")
        try:
            return tuple(rule(item) for item in value)
        except ValueError as error:
            raise ValueError(f"must be a list of {of}, each of which {error}") from None

    return check


def optional(rule: Rule) -> Rule:
    """The same, or nothing."""
    return lambda value: None if value is None else rule(value)


def growing(value: Any) -> tuple[float, float]:
    """Two finite numbers, the smaller one first."""
    low, high = several(number(-1e30, 1e30), 2, 2, "numbers")(value)
    if not low < high:
        raise ValueError("must be two numbers, the smaller one first")
    return low, high


def boolean(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def meaning(value: Any) -> dict[str, Any]:
    """What outputs mean in the words of a task, which checks it: a table, of no more than a few levels."""
    if not isinstance(value, Mapping) or not _is_plain(value, 6):
        raise ValueError("must be a table of texts, finite numbers, lists and tables")
    return dict(value)


def _is_plain(value: Any, levels: int) -> bool:
    if isinstance(value, Mapping):
        return levels > 0 and all(isinstance(key, str) and _is_plain(item, levels - 1) for key, item in value.items())
    if isinstance(value, list | tuple):
        return levels > 0 and all(_is_plain(item, levels - 1) for item in value)
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


MODEL = {
    "name": Field(text(200)),
    "num_classes": Field(whole(1, MOST_CLASSES)),
    "in_chans": Field(one_of(1, 3, 4)),
    "stem_patch": Field(one_of(1, 2, 4, 8, 16)),
    "layer_scale": Field(number(0, 1e9)),
    "size": Field(optional(whole(1, LONGEST_SIDE)), None),
}
PREPROCESSING = {
    "size": Field(whole(1, LONGEST_SIDE)),
    "crop_ratio": Field(number(0.05, 1)),
    "interpolation": Field(one_of("bicubic", "bilinear")),
    "mean": Field(several(number(-1e3, 1e3), 1, 4, "numbers")),
    "std": Field(several(number(1e-6, 1e6), 1, 4, "numbers")),
    "in_chans": Field(one_of(1, 3, 4)),
    "fit": Field(one_of(*FITS), "crop"),
    "value_range": Field(optional(growing), None),
}
WHOLE = {
    "classes": Field(several(text(10_000), 1, MOST_CLASSES, "names")),
    "multi_label": Field(boolean),
    "thresholds": Field(several(number(0, 1), 0, MOST_CLASSES, "numbers"), ()),
    "thresholds_for": Field(text(100), ""),
    "thresholds_few": Field(several(whole(0, MOST_CLASSES), 0, MOST_CLASSES, "numbers of classes"), ()),
    "epoch": Field(whole(0, 10**9), 0),
    "source": Field(text(100), "model"),
}
OTHER = {"task": Field(text(100)), "meaning": Field(meaning), "epoch": WHOLE["epoch"], "source": WHOLE["source"]}
"""In place of `WHOLE` in a file whose outputs are no classes; its task knows what `meaning` must be."""


@dataclass(frozen=True)
class Description:
    """A description that was checked.

    Attributes:
        spec: the network.
        classes: names of the outputs, in order; () where they are no classes.
        multi_label: whether a picture may have several.
        preprocessing: what the network must be shown.
        thresholds: with several labels, from which probability on each is named; () where none were chosen.
        config: all of it as a table, with what older files mean where they lack a field.
    """

    spec: NetworkSpec
    classes: tuple[str, ...]
    multi_label: bool
    preprocessing: Preprocessing
    thresholds: tuple[float, ...]
    config: dict[str, Any]


def fault_of(config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> str:
    """Why a file with this description and tensors of these shapes would be refused when it is read; "" for nothing."""
    try:
        described = describe(config, "it")
        timms = described.spec.name.startswith(TIMM)  # they cannot be built without memory
        _compare(described.spec, shapes, "it", "cpu" if timms else "meta")
    except WeightsError as error:
        return str(error).partition(". It is damaged")[0]
    return ""


def describe(config: Mapping[str, Any], source: str) -> Description:
    """Checks a description; nothing is allocated for it.

    Args:
        config: what `read_model` or `read_header` gave.
        source: what to call the file in messages.

    Raises:
        WeightsError: a field is missing, not known, or not what it must be, or two contradict each other.
    """
    try:
        model, seen = (_checked(_table(config, key), rows, f"{key}.") for key, rows in _TABLES.items())
        beside = {key: value for key, value in config.items() if key not in _TABLES}
        rest = _checked(beside, OTHER if "meaning" in beside else WHOLE, "")
        _agree(model, seen, rest)
        preprocessing = Preprocessing(**seen)
    except UserError as error:
        raise WeightsError(f"{source}: its description cannot be: {error}") from None
    except ValueError as error:
        raise WeightsError(
            f"{source}: its description {error}. It is damaged, or was not written by this version of the program"
        ) from None
    return Description(
        NetworkSpec(**model), rest.get("classes", ()), rest.get("multi_label", False), preprocessing,
        rest.get("thresholds", ()),
        {"model": model, "preprocessing": seen, **rest},
    )  # fmt: skip


_TABLES = {"model": MODEL, "preprocessing": PREPROCESSING}


def _table(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = config.get(key)
    if value is None:
        raise ValueError(f"lacks {key}")
    if not isinstance(value, Mapping):
        raise ValueError(f"says {key} = {_short(value)}; it must be a table")
    return value


def _checked(table: Mapping[str, Any], rows: Mapping[str, Field], where: str) -> dict[str, Any]:
    """The fields of a table by its rows."""
    strange = [key for key in table if key not in rows]
    if strange:
        raise ValueError(f"has a field that is not known here: {where}{_short(strange[0])}")
    checked = {}
    for key, row in rows.items():
        if key not in table:
            if row.missing is REQUIRED:
                raise ValueError(f"lacks {where}{key}")
            checked[key] = row.missing
            continue
        try:
            checked[key] = row.rule(table[key])
        except (ValueError, OverflowError) as error:
            raise ValueError(f"says {where}{key} = {_short(table[key])}; it {error}") from None
    return checked


def _agree(model: Mapping[str, Any], seen: Mapping[str, Any], rest: Mapping[str, Any]) -> None:
    """Fields that speak of the same thing must say the same."""
    classes: Sequence[str] = rest.get("classes", ())
    if "classes" in rest and len(classes) != model["num_classes"]:
        raise ValueError(f"says {model['num_classes']} outputs and names {len(classes)} classes")
    if len(set(classes)) != len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise ValueError(f'names the class "{twice}" twice')
    if len(rest.get("thresholds", ())) not in (0, len(classes)):
        raise ValueError(f"has {len(rest['thresholds'])} thresholds for {len(classes)} classes")
    if seen["in_chans"] != model["in_chans"]:
        raise ValueError(f"shows {seen['in_chans']} channels to a network of {model['in_chans']}")
    for key in ("mean", "std"):
        if len(seen[key]) != seen["in_chans"]:
            raise ValueError(f"has {len(seen[key])} values of preprocessing.{key} for {seen['in_chans']} channels")


def _short(value: Any) -> str:
    shown = repr(value[:200] if isinstance(value, str | list | tuple) else value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def build(described: Description, shapes: Mapping[str, Shape], source: str) -> Network:
    """The network that a description asks for, with random weights.

    Before it takes memory it is compared with the tensors that there are: so a few bytes cannot ask for more than the
    file's own tensors do.

    Args:
        described: what `describe` gave.
        shapes: shape of every tensor of the file.
        source: what to call the file in messages.

    Raises:
        WeightsError: no network is called so or can be built so, or the file's tensors are those of another one.
    """
    spec = described.spec
    if spec.name.startswith(TIMM):  # timm knows the sizes of its networks, all but those of the head
        if not any(shape[:1] == (spec.num_classes,) for shape in shapes.values()):
            raise WeightsError(
                f"{source} does not fit its own description: no tensor is for {len(described.classes)} classes"
            )
    else:
        _compare(spec, shapes, source)
    try:
        return spec.build()
    except UserError as error:
        raise WeightsError(f"{source}: its description asks for a network that cannot be: {error}") from None


def _compare(spec: NetworkSpec, shapes: Mapping[str, Shape], source: str, device: str = "meta") -> None:
    """Builds the network, by default without memory; all names and shapes must agree."""
    try:
        with torch.device(device):
            network = spec.build()
    except UserError as error:
        raise WeightsError(f"{source}: its description asks for a network that cannot be: {error}") from None
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    missing, beside = wanted.keys() - shapes.keys(), shapes.keys() - wanted.keys()
    odd = sorted(key for key in wanted.keys() & shapes.keys() if tuple(shapes[key]) != wanted[key])
    if missing or beside or odd:
        some = f"{odd[0]} is {tuple(shapes[odd[0]])}, not {wanted[odd[0]]}" if odd else min(missing or beside)
        raise WeightsError(
            f"{source} does not fit its own description: {len(missing)} tensors are missing, {len(beside)} are not "
            f"part of the network, {len(odd)} have another shape ({some}). It is damaged, or was put together by hand"
        )
