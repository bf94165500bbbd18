"""A network too large for one GPU: each process holds a share of weights, gradients and optimizer (FSDP2).

The state that is saved is whole, as with `ddp`, so that another number of processes can go on with it. Each block is
gathered when it computes, and let go afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from convnext.errors import RunError
from convnext.run.state import (
    SEALED,
    RandomState,
    TrainState,
    kept_settings,
    progress_of,
    random_state,
    read_state_file,
)
from convnext.train.distributed import Ranks

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def shard(model: nn.Module, ranks: Ranks, device: torch.device) -> nn.Module:
    """Shares the network out, in place: block by block, then the rest."""
    model = model.to(memory_format=torch.contiguous_format)  # weights; maps stay as they are
    mesh = init_device_mesh(device.type, (ranks.world,))
    for module in list(model.modules()):
        if type(module).__name__.endswith("Block"):
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


class ShardedState(TrainState):
    """The state of a network that is shared out. All processes call `content` and `load` together."""

    def content(self, random_states: list[RandomState] | None = None) -> dict[str, Any]:
        """What a state file holds: whole tensors, gathered."""
        model, optimizer = get_state_dict(self.model, self.optimizer, options=WHOLE)
        return {
            "version": SEALED, "sharding": "fsdp2", "model": model, "optimizer": optimizer,
            "ema": None if self.ema is None else {"average": gathered(self.ema.average), "updates": self.ema.updates},
            "scaler": None, "progress": asdict(self.progress),
            "random": [random_state()] if random_states is None else random_states,
        }  # fmt: skip

    def load(self, path: Path, rank: int = 0) -> None:
        """Puts back what `content` gave, each process its share.

        Raises:
            RunError: there is no state, it is damaged, or it belongs to another model.
        """
        content = read_state_file(path)
        if content.get("sharding") != "fsdp2":
            raise RunError(f'{path} was written with train.sharding = "ddp"; go on with that')
        try:
            with kept_settings(self.optimizer):
                set_state_dict(
                    self.model, self.optimizer, model_state_dict=content["model"],
                    optim_state_dict=content["optimizer"], options=StateDictOptions(full_state_dict=True),
                )  # fmt: skip
            if self.ema is not None and content["ema"] is not None:
                self.ema.updates = int(content["ema"]["updates"])
                for name, value in content["ema"]["average"].items():
                    own = self.ema.average[name]
                    if isinstance(own, DTensor):
                        value = distribute_tensor(value.to(own.device), own.device_mesh, own.placements)
                    own.copy_(value)
            self.progress = progress_of(content)
            self._put_back_random_state(content, rank)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RunError(f"{path} is damaged, or does not fit this run's recipe ({first})") from None

    def weights(self, source: str) -> dict[str, Tensor]:
        """The whole weights of the model, or of its moving average."""
        average = self.ema.average if self.ema is not None and source == "ema" else self.model.state_dict()
        return gathered(average)


def gathered(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors from shares; everybody gets all of them."""
    return {name: w.full_tensor() if isinstance(w, DTensor) else w for name, w in weights.items()}
