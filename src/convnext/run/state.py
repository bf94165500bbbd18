"""The whole state of a training run in one object, saved atomically, and the moving average of the weights."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convnext.errors import RunError
from convnext.run.folder import write_bytes


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
    """Sums of the unfinished epoch: loss, hits, pictures, seconds, seconds of waiting for data."""
    stopped_early: bool = False


class EMA:
    """Exponential moving average of a model's weights: average = decay * average + (1 - decay) * weights.

    The decay warms up as min(decay, (1 + t) / (10 + t)), so that the first steps do not keep the initial weights alive.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.average = {name: p.detach().clone() for name, p in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """One step, after the optimizer's."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
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
    """All that resuming needs: weights, optimizer, average, progress and random state."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: EMA | None
    progress: Progress

    def save(self, path: Path) -> None:
        """Writes everything to `path`, whole or not at all.

        Raises:
            RunError: the disk is full or the folder cannot be written; the last good state is still there.
        """
        content = {
            "version": 1,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "progress": asdict(self.progress),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_bytes(path, buffer.getvalue())

    def load(self, path: Path) -> None:
        """Puts back what `save` wrote.

        Raises:
            RunError: there is no state, it is damaged, or it belongs to another model.
        """
        content = read_state_file(path)
        try:
            self.model.load_state_dict(content["model"])
            self.optimizer.load_state_dict(content["optimizer"])
            if self.ema is not None and content["ema"] is not None:
                self.ema.load_state_dict(content["ema"])
            names = {f.name for f in fields(Progress)}
            self.progress = Progress(**{k: v for k, v in content["progress"].items() if k in names})
            torch.set_rng_state(content["rng"])
            if content["cuda_rng"] and torch.cuda.is_available():
                torch.cuda.set_rng_state_all(content["cuda_rng"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RunError(
                f"{path} is damaged, or does not fit this run's recipe ({first}). If recipe.toml was changed, "
                "change it back; else start the run anew"
            ) from None


def read_state_file(path: Path) -> dict[str, Any]:
    """The content of a state file, read without running any code from it.

    Raises:
        RunError: there is none, or it is damaged.
    """
    if not path.exists():
        raise RunError(f"{path} does not exist: the run stopped before its first epoch was saved; start it anew")
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RunError(f"{path} is damaged ({type(error).__name__}); start the run anew") from None
    done = content.get("progress") if isinstance(content, dict) else None
    if not isinstance(done, dict) or not isinstance(done.get("epoch"), int):
        raise RunError(f"{path} is damaged: it does not say how far the run is; start the run anew")
    return content


def averaged_state(state: TrainState) -> dict[str, Tensor]:
    """The weights to judge and to keep: the average where there is one, else the model's own."""
    return dict(state.ema.average) if state.ema is not None else dict(state.model.state_dict())
