"""Which tensors of a checkpoint are the network's: what training codes put around them is taken off, and said.

A checkpoint may hold two sets of weights, the raw ones and their moving average. The average is taken, as timm does;
`FILE#NAME` chooses, where NAME is the key under which a set lies, the prefix of its names, "ema" or "model".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from torch import Tensor

from convnext.errors import WeightsError

_WRAPPERS = (
    "module", "_orig_mod", "model", "net", "network", "student", "teacher", "ema_model", "model_ema", "ema",
    "ema_net", "net_ema", "swa_model", "averaged_model", "average_model", "avg_model", "_forward_module",
)  # fmt: skip
"""First parts of names that stand for a whole network inside a program of somebody's: DistributedDataParallel's,
torch.compile's, those of Lightning modules, averages."""
_INSIDE = re.compile(r"(?<=\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Left in the middle of names where only a part of a network was wrapped."""
_COUNTERS = ("n_averaged", "steps", "step", "num_updates", "updates", "decay", "initted")
"""Numbers that averages carry along with the tensors."""
_AVERAGE = re.compile(r"(^|_)(ema|avg|average|averaged|swa|polyak)(_|$)")
_NOT_WEIGHTS = re.compile(
    r"optim|sched|scaler|rng|random|criterion|loss|callback|loops|hyper|hparam|(^|_)(opt|amp|meta)(_|$)"
)
"""Tables in a checkpoint that hold tensors, but none of the network's."""
_RAW, _MEAN = ("model", "raw"), ("ema", "average", "avg")  # what FILE#NAME may say instead of a set's own name
_DEPTH = 4  # tables within tables
_FEWEST = 4  # tensors called as those of layers that make a table of other things a network's too
_MOST, _ENTRIES = 100, 1_000_000  # sets of weights in a file, and entries of all of its tables


@dataclass(frozen=True)
class WeightSet:
    """One set of weights in a checkpoint.

    Attributes:
        name: where it lies: the keys, and the prefixes of its names, joined by ".".
        average: whether it is a moving average.
        state: names and tensors, without the prefixes.
        beside: names of tensors that lie with it and belong to no network, such as those of a loss.
    """

    name: str
    average: bool
    state: dict[str, Tensor]
    beside: tuple[str, ...] = ()


def choose(found: object, part: str, source: str) -> tuple[dict[str, Tensor], str]:
    """The tensors of one set of weights in what a file holds.

    Args:
        found: what the file holds.
        part: what the user wants of it, "" for the only one, or the average.
        source: what to call the file in messages.

    Returns:
        Names and tensors, and a line about what was chosen or left out, "" where there is nothing to say.

    Raises:
        WeightsError: there is no table of tensors, or several and nothing says which.
    """
    if not isinstance(found, Mapping):
        raise WeightsError(f"{source} holds a {type(found).__name__}, not a table of tensors. Save model.state_dict()")
    seen: Counter[str] = Counter()
    sets = list(islice(_sets(found, "", 0, seen), _MOST + 1))
    if len(sets) > _MOST or seen["entries"] > _ENTRIES:
        raise WeightsError(f"{source} holds more tables than weights have; save those of one network alone")
    if not sets:
        _refuse(found, source)
    chosen = _wanted(sets, part, source) if part else _usual(sets, source)
    said = [_say(chosen, sets, part, source), "" if chosen.average or part else _unnamed_average(found, source)]
    return chosen.state, "; ".join(filter(None, said))


def _unnamed_average(table: Mapping[object, object], source: str) -> str:
    """A line about an average that is a list of tensors, as torch_ema and diffusers keep it: it has no names."""
    for key, value in table.items():
        inside = value.values() if isinstance(value, Mapping) else (value,)
        if _AVERAGE.search(str(key).lower()) and any(
            isinstance(one, list | tuple) and one and all(isinstance(item, Tensor) for item in one) for one in inside
        ):
            return (
                f'{source}: its average "{key}" is a list of tensors without names, so the raw weights are taken; to '
                "use it, copy it into the network by the program that made it, and save state_dict()"
            )
    return ""


def _sets(table: Mapping[object, object], name: str, depth: int, seen: Counter[str]) -> Iterator[WeightSet]:
    """All sets of weights in a table, and in the tables in it; none where there are more entries than can be meant.

    (A few bytes of a pickle can put one table a thousand times into another, and that into the next.)
    """
    seen["entries"] += len(table)
    if seen["entries"] > _ENTRIES:
        return
    if table and all(isinstance(value, Tensor) for value in table.values()):
        yield from _peel({str(key): value for key, value in table.items() if isinstance(value, Tensor)}, name, depth)
        return
    inner = {str(key): value for key, value in table.items() if isinstance(value, Mapping)}
    raw = False
    for key, value in inner.items():
        if depth < _DEPTH and not _NOT_WEIGHTS.search(key.lower()):
            for found in _sets(value, _join(name, key), depth + 1, seen):
                found = _swapped(found, table, key)
                raw = raw or not found.average
                yield found
    if not raw:
        yield from _flat(table, name, depth)


def _flat(table: Mapping[object, object], name: str, depth: int) -> Iterator[WeightSet]:
    """The tensors of a table that has numbers and other things beside them, as `{**state_dict, "epoch": 3}`."""
    state = {str(key): value for key, value in table.items() if isinstance(value, Tensor)}
    if sum(key.endswith((".weight", ".bias")) for key in state) < _FEWEST:
        return
    others = tuple(str(key) for key, value in table.items() if not isinstance(value, Tensor))
    for found in _peel(state, name, depth):
        yield replace(found, beside=(*found.beside, *others))


def _swapped(found: WeightSet, table: Mapping[object, object], key: str) -> WeightSet:
    """MMEngine and Lightning put the average into "state_dict", and the raw weights beside it, the former under a name
    that says the reverse.
    """
    meta = table.get("meta")
    mm = "ema_state_dict" in table and isinstance(meta, Mapping) and "mmengine_version" in meta
    if (mm or "current_model_state" in table) and key in ("state_dict", "ema_state_dict", "current_model_state"):
        return replace(found, average=key == "state_dict")
    return found


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _peel(state: dict[str, Tensor], name: str, depth: int) -> Iterator[WeightSet]:
    """Takes off counters and prefixes; a table of several networks gives a set for each."""
    counted = {key for key, tensor in state.items() if key in _COUNTERS and tensor.numel() == 1}
    average = any(_AVERAGE.search(key) for key in name.lower().split("."))
    state = {key: tensor for key, tensor in state.items() if key not in counted}
    plain = {_INSIDE.sub("", key): tensor for key, tensor in state.items()}
    state = plain if len(plain) == len(state) else state
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        first, _, rest = key.partition(".")
        groups.setdefault(first if rest else "", {})[rest or key] = tensor
    average = average or ("n_averaged" in counted and len(groups) == 1)
    wrapped = [key for key in groups if key in _WRAPPERS and depth < 2 * _DEPTH]
    if not wrapped:
        if state and (depth == 0 or any("." in key for key in state)):  # an optimizer's tables have plain names
            yield WeightSet(name, average, state)
        return
    beside = tuple(key for key in state if key.partition(".")[0] not in wrapped)
    for key in wrapped:
        silent = key in ("module", "_orig_mod", "_forward_module") and len(groups) == 1
        for found in _peel(groups[key], name if silent else _join(name, key), depth + 1):
            yield replace(found, average=found.average or average, beside=(*beside, *found.beside))


def _refuse(found: Mapping[object, object], source: str) -> None:
    if any(isinstance(value, Tensor) for value in found.values()):
        others = [str(key) for key, value in found.items() if not isinstance(value, Tensor)]
    else:
        others = [str(key) for key in found]
    raise WeightsError(
        f"{source} is not a table of tensors; it holds {', '.join(others[:4]) or 'nothing'}. "
        "The weights are looked for at the top and in the tables that it holds, as under model or state_dict"
    )


def _usual(sets: list[WeightSet], source: str) -> WeightSet:
    """The only set; of raw weights and their average the average.

    Raises:
        WeightsError: there are others.
    """
    if len(sets) == 1:
        return sets[0]
    averages = [found for found in sets if found.average]
    if len(averages) == 1 and len(sets) == 2:
        return averages[0]
    names = ", ".join(f"{source}#{found.name}" for found in sets[:6])
    raise WeightsError(f"{source} holds {len(sets)} sets of weights; say which: {names}")


def _wanted(sets: list[WeightSet], part: str, source: str) -> WeightSet:
    """The set that the user names: by its whole name, a part of it, or what it is."""
    kinds = [found for found in sets if (part in _MEAN and found.average) or (part in _RAW and not found.average)]
    parts = [found for found in sets if part in found.name.split(".")]
    for fitting in ([found for found in sets if found.name == part], parts, kinds):
        if len(fitting) == 1:
            return fitting[0]
    within = [
        replace(found, name=_join(found.name, part), state=inside)
        for found in sets
        if (inside := {k.removeprefix(f"{part}."): v for k, v in found.state.items() if k.startswith(f"{part}.")})
    ]
    if len(within) == 1:
        return within[0]
    there = ", ".join(f'"{found.name}"' for found in sets if found.name) or "one set, without a name: leave the # out"
    raise WeightsError(f'{source} holds no one set of weights "{part}"; it has {there}')


def _say(chosen: WeightSet, sets: list[WeightSet], part: str, source: str) -> str:
    said = []
    if len(sets) == 2 and not part:
        other = next(found for found in sets if found is not chosen)
        said.append(
            f'{source} holds two sets of weights: "{chosen.name}", the moving average, is taken; '
            f'"{source}#{other.name or "model"}" takes the raw ones'
        )
    elif part:
        name = f'the weights "{chosen.name}"' if chosen.name else "its only weights"
        said.append(f"{source}: {name} are taken{', a moving average' * chosen.average}")
    if beside := chosen.beside:
        more = f" and {len(beside) - 3} more" if len(beside) > 3 else ""
        said.append(f"{source}: left out, since they are beside the network: {', '.join(beside[:3])}{more}")
    return "; ".join(said)
