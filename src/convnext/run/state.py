"""The whole state of a training run in one object, saved atomically, and the moving average of the weights."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convnext.errors import RunError
from convnext.files import is_own_folder
from convnext.run.folder import RunFolder, share, write_bytes
from convnext.run.record import say
from convnext.tasks.checks import Damaged, count, flag, named, number, rows, table, text

RandomState = dict[str, Tensor]


@dataclass
class Progress:
    """Where a run stands. `step` counts optimizer steps from the start, `step_in_epoch` since the last full epoch."""

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    seconds: float = 0.0
    best: float = float("-inf")
    best_epoch: int = 0
    best_source: str = ""
    epoch_sums: dict[str, float] = field(default_factory=dict)
    """Sums of the unfinished epoch: loss, what the task follows, pictures, seconds, seconds of waiting for data."""
    stopped_early: bool = False
    budget: float = 0.0
    """Seconds from the first step to the end of the last epoch; 0 when there is no time budget."""
    most_steps: int = 0
    """How many steps a run with a budget may have at most."""
    replanned: list[list[int]] = field(default_factory=list)
    """Changes of the number of steps in mid-run: [step, steps in all] each."""


class EMA:
    """Exponential moving average of a model's weights: average = decay * average + (1 - decay) * weights.

    With `warmup` the decay is min(decay, (1 + t) / (10 + t)), so that the first steps do not keep the initial weights
    alive; without it, it is the same from the first step on, as in the paper's code.
    """

    def __init__(self, model: nn.Module, decay: float, *, warmup: bool = True) -> None:
        self.decay, self.updates, self.warmup = decay, 0, warmup
        self.average = {name: p.detach().clone() for name, p in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """One step, after the optimizer's."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
        current = model.state_dict()
        averages, values = [], []
        for name, average in self.average.items():
            if average.is_floating_point():
                averages.append(average)
                values.append(current[name])
            else:
                average.copy_(current[name])
        torch._foreach_lerp_(averages, values, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """Average and number of updates."""
        return {"average": self.average, "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        self.updates = int(state["updates"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)


@dataclass
class TrainState:
    """All that resuming needs: weights, optimizer, average, loss scale, progress and random states."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: EMA | None
    progress: Progress
    scaler: torch.amp.GradScaler | None = None

    def content(self, random_states: list[RandomState] | None = None) -> dict[str, Any]:
        """What a state file holds. `random_states` are those of all processes, where there are several."""
        return {
            "version": SEALED,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "progress": asdict(self.progress),
            "random": [random_state()] if random_states is None else random_states,
        }

    def weights(self, source: str) -> dict[str, Tensor]:
        """The weights of the model, or with "ema" of its moving average."""
        return dict(self.ema.average if self.ema is not None and source == "ema" else self.model.state_dict())

    def save(self, path: Path) -> None:
        """Writes everything to `path`, whole or not at all; the state that was there stays beside it.

        Raises:
            RunError: the disk is full or the folder cannot be written; the last good state is still there.
        """
        write_state_file(path, self.content())

    def load(self, path: Path, rank: int = 0) -> None:
        """Puts back what `save` wrote, with the random state of process `rank`.

        Raises:
            RunError: there is no state, it is damaged, or it belongs to another model.
        """
        content = read_state_file(path)
        try:
            self.model.load_state_dict(content["model"])
            with kept_settings(self.optimizer):
                self.optimizer.load_state_dict(content["optimizer"])
            if self.ema is not None and content["ema"] is not None:
                self.ema.load_state_dict(content["ema"])
            if self.scaler is not None and content.get("scaler"):
                self.scaler.load_state_dict(content["scaler"])
            self.progress = progress_of(content)
            self._put_back_random_state(content, rank)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RunError(
                f"{path} is damaged, or does not fit this run's recipe ({first}). If recipe.toml was changed, "
                "change it back; else start the run anew"
            ) from None

    def _put_back_random_state(self, content: Mapping[str, Any], rank: int) -> None:
        """A process that was not there when the state was saved keeps the state that its seed gave it."""
        states = content["random"] if "random" in content else _without_devices(content)
        if rank < len(states):
            torch.set_rng_state(states[rank]["cpu"])
            if "cuda" in states[rank] and torch.cuda.is_available():
                torch.cuda.set_rng_state(states[rank]["cuda"])


def progress_of(content: Mapping[str, Any]) -> Progress:
    """Where the run of a state stands; sums under the names that older versions gave them are renamed."""
    names = {f.name for f in fields(Progress)}
    progress = Progress(**{k: v for k, v in content["progress"].items() if k in names})
    progress.epoch_sums = {_SUMS_NOW.get(key, key): value for key, value in progress.epoch_sums.items()}
    return progress


_SUMS_NOW = {"hits": "train_top1"}


@contextlib.contextmanager
def kept_settings(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """What the recipe says now, as of weight decay, holds also when a state is loaded that was saved with another."""
    own = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    yield
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)


def random_state() -> RandomState:
    """What this process draws next: "cpu", and "cuda" of the device that it works on where there is one."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _without_devices(content: Mapping[str, Any]) -> list[RandomState]:
    """The random states in a file of an older version, which knew those of the first process's devices only."""
    states: list[RandomState] = [{"cpu": state} for state in content.get("rngs") or [content["rng"]]]
    if content.get("cuda_rng"):
        states[0]["cuda"] = content["cuda_rng"][0]
    return states


SEALED = 2
"""The version of state files from which on they are sealed."""
_SEAL = b"sha256 of the rest"
"""Stands at the end of a state file, before the hash of everything ahead of it."""


def previous(path: Path) -> Path:
    """Where the state before the last one is kept."""
    return path.with_name(f"previous{path.name.removeprefix('last')}")


def write_state_file(path: Path, content: dict[str, Any]) -> None:
    """Writes a state: beside the old one, flushed, read again and compared, and only then put in its place.

    Raises:
        RunError: as `run.folder.write_bytes`, or the disk gives back something else than was written.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    packed = buffer.getvalue()
    sealed = packed + _SEAL + hashlib.sha256(packed).digest()
    write_bytes(path, sealed, keep=previous(path))


def read_state_file(path: Path) -> dict[str, Any]:
    """The content of a state file, read without running any code from it; the one before it where it is damaged.

    Raises:
        RunError: there is none, or both are damaged.
    """
    if not path.exists() and not previous(path).exists():
        raise RunError(f"{path} does not exist: the run stopped before its first state was saved; start it anew")
    try:
        return _read_sealed(path)
    except RunError as error:
        try:
            content = _read_sealed(previous(path))
        except RunError:
            raise error from None
        say(f"{error}; the state before it is used")
        return content


def heal(path: Path) -> None:
    """Puts the state before the last one in the place of a damaged one, which would take its place at the next save.

    Raises:
        OSError: the disk does not do its part; both files are as they were.
    """
    before = previous(path)
    try:
        _read_sealed(path)
    except RunError:
        if before.exists():
            share(before, path)


def _read_sealed(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
        packed, seal, digest = data[: -len(_SEAL) - 32], data[-len(_SEAL) - 32 : -32], data[-32:]
        if seal != _SEAL:  # a state from before there were seals
            packed = data
        elif hashlib.sha256(packed).digest() != digest:
            raise ValueError("its hash is not the one that was written")
        content: dict[str, Any] = torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True)
        if seal != _SEAL and content.get("version", 1) >= SEALED:
            raise ValueError("its seal is broken")
    except Exception as error:
        what = str(error) if type(error) is ValueError else type(error).__name__
        raise RunError(f"{path} is damaged ({what}); start the run anew") from None
    done = content.get("progress") if isinstance(content, dict) else None
    try:
        _PROGRESS(done, "progress")
    except Damaged as error:
        raise RunError(f"{path} is damaged: it does not say how far the run is ({error}); start the run anew") from None
    return content


_PROGRESS = table(
    {
        "epoch": count, "step": count, "step_in_epoch": count, "seconds": number, "best": number, "best_epoch": count,
        "best_source": text, "epoch_sums": named(number), "stopped_early": flag,
        "budget": number, "most_steps": count, "replanned": rows(rows(count, 2)),
    },
    ("epoch",),
)  # fmt: skip


def keep_newest(state: Path, folder: Path, epoch: int, count: int) -> None:
    """Keeps the state of an ended epoch as `folder/epoch-0007.state.pt`, and of those the `count` newest.

    The file shares its bytes with `state` where the disk can do that. With a count of 1 the state itself is enough.
    """
    if count > 1:
        share(state, RunFolder(folder.parent).folder(folder.name) / f"epoch-{epoch:04d}.state.pt")
    elif not is_own_folder(folder):
        return
    kept = sorted(folder.glob("epoch-*.state.pt"))
    for old in kept[: max(0, len(kept) - count)] if count > 1 else kept:
        old.unlink(missing_ok=True)
