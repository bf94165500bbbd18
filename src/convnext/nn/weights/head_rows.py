"""The rows of a head follow the names of the classes, not their places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from convnext.errors import WeightsError


class Names(NamedTuple):
    """Classes of a weight file and of the network that takes it, in the order of the outputs; empty where not known."""

    found: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()


def classes_of(config: Mapping[str, Any] | None, source: str) -> tuple[str, ...]:
    """The classes that a model file names; none for bare weights.

    Raises:
        WeightsError: they are no list of different names.
    """
    if config is None:
        return ()
    classes = config.get("classes", [])
    good = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if not good or len(set(classes)) != len(classes):
        raise WeightsError(f"{source}: its description names no list of different classes; it is damaged")
    return tuple(classes)


def follow(names: Names, rows: Sequence[Tensor], new: Sequence[Tensor], source: str) -> tuple[list[Tensor], str]:
    """A head for the wanted classes, each with the row that the file has for its name, or a new row.

    Args:
        names: the classes of both; when the file's are not known, its rows are taken in their order.
        rows: the file's head, weight (K, ...) and bias (K,).
        new: a new head of the network, of the same shapes but for the number of classes.
        source: what to call the file in messages.

    Returns:
        The tensors, and what is to be said, "" where nothing has changed.

    Raises:
        WeightsError: the file names another number of classes than its head has rows.
    """
    if not names.found:
        same = names.wanted and len(rows[0]) == len(new[0])
        return list(
            rows
        ), f"It names no classes, so its outputs are taken in their order: {listed(names.wanted)}." if same else ""
    if len(names.found) != len(rows[0]):
        raise WeightsError(
            f"{source} names {len(names.found)} classes and has a head for {len(rows[0])}; it is damaged"
        )
    if not names.wanted or names.found == names.wanted:
        return list(rows), ""
    place = {name: row for row, name in enumerate(names.found)}
    pairs = [(row, place[name]) for row, name in enumerate(names.wanted) if name in place]
    head = [tensor.detach().clone().to(old.dtype) for tensor, old in zip(new, rows, strict=True)]
    if pairs:
        to, taken = torch.tensor(pairs).T
        for tensor, old in zip(head, rows, strict=True):
            tensor[to] = old[taken]
    return head, _say(names, [names.wanted[row] for row, _ in pairs])


def _say(names: Names, known: list[str]) -> str:
    new = [name for name in names.wanted if name not in names.found]
    gone = [name for name in names.found if name not in names.wanted]
    if not known:
        return f"None of its classes ({_some(gone)}) is among these ({_some(new)}): the head is new."
    said = f"The rows of the head follow the names of the classes: {len(known)} taken over"
    if known != [name for name in names.found if name in known]:
        said += ", in another order"
    said += f"; new rows for {_some(new)}" if new else ""
    said += f"; left out: {_some(gone)}" if gone else ""
    return f"{said}."


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def listed(classes: Sequence[str], most: int = 12) -> str:
    """Which output is which class: "0 daisy, 1 rose"; of many the first and the last."""
    pairs = [f"{number} {name}" for number, name in enumerate(classes)]
    return ", ".join(pairs if len(pairs) <= most else [*pairs[: most - 2], "…", *pairs[-1:]])
