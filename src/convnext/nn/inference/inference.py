"""What `convnext.optimize` gives: any network in any precision, with the same manners."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from convnext.errors import UserError
from convnext.kernels import native
from convnext.nn.network import Network

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Inference(Network):
    """A network that is ready to be asked and nothing else: fp32 pictures in, fp32 logits out.

    `engine` says what computes them, `dtype` what weights and maps are kept in. Always in eval mode.

    Args:
        net: the network, its parameters in `dtype`; nobody else may hold it.
        engine: one of `optimize.ENGINES`.
        dtype: one of `DTYPES`.
    """

    def __init__(self, net: Network, engine: str, dtype: str) -> None:
        super().__init__(net.in_chans, net.num_classes, net.channels, net.strides)
        self.net, self.engine, self.dtype = net, engine, dtype
        self.kind = DTYPES[dtype]
        self.classes, self.multi_label, self.preprocessing = net.classes, net.multi_label, net.preprocessing
        self.name, self.thresholds, self.meaning = net.name, net.thresholds, net.meaning
        self.requires_grad_(False).eval()

    def features(self, x: Tensor) -> list[Tensor]:
        """The maps from fine to coarse, in `dtype`; raises as `forward`."""
        with self._plainly():
            return [m.to(self.kind) for m in self.net.features(self._taken(x))]

    def pooled(self, x: Tensor) -> Tensor:
        """What the head sees, in fp32; raises as `forward`."""
        with self._plainly():
            return self.net.pooled(self._taken(x)).float()

    def forward(self, x: Tensor) -> Tensor:
        """Logits in fp32.

        Raises:
            UserError: the input is no batch of pictures that the network takes, in fp32 (or `dtype`) on the processor,
                or a gradient is asked for.
        """
        with self._plainly():
            out: Tensor = self.net(self._taken(x))
            return out.float()

    def check_input(self, x: Tensor) -> None:
        """As the network itself."""
        self.net.check_input(x)

    @property
    def num_features(self) -> int:
        """As the network itself."""
        return self.net.num_features

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map before it is pooled, in `dtype`; raises as `forward`."""
        with self._plainly():
            return self.net.forward_features(self._taken(x)).to(self.kind)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """What becomes of the last map, in fp32."""
        with self._plainly():
            return self.net.forward_head(x, pre_logits).float()

    def reset_classifier(self, num_classes: int) -> None:
        """Refused: it is made anew from the network itself."""
        raise UserError("an optimised network keeps its head; reset that of the network that it was made from")

    def train(self, mode: bool = True) -> Inference:
        """Nothing: it stays in eval mode."""
        return super().train(False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"made_by": native.library()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Weights that were packed for our kernels are of use to the same kernels alone."""
        made_by = state.pop("made_by")
        super().__setstate__(state)
        if self.engine == "native" and not (native.available() and made_by == native.library()):
            raise UserError(
                "this network was optimised with other kernels than this machine has; load the network that it was "
                "made from, and optimise it here"
            )

    def _plainly(self) -> torch.autocast:
        """The precision is settled, whatever surrounds the call."""
        return torch.autocast("cpu", enabled=False)

    def _taken(self, x: Tensor) -> Tensor:
        self.check_input(x)
        if torch.is_grad_enabled() and x.requires_grad:
            raise UserError("an optimised network gives no gradients; ask the network that it was made from")
        if x.dtype not in (torch.float32, self.kind) or x.device.type != "cpu":
            raise UserError(
                f"this network was optimised for torch.float32 on the cpu; the input is {x.dtype} on {x.device}"
            )
        if self.engine == "eager":
            x = x.to(self.kind)
        return x.contiguous(memory_format=torch.channels_last)
