"""The layers that ConvNeXt is made of and that torch does not have."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a map: (N, C, H, W) -> (N, C, H, W).

    Each position is normalised by the mean and deviation of its own C channels. On a channels-last tensor both permutes
    are free.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., 2016): drops the whole residual branch of a sample with probability `p`.

    Branches that stay are scaled by 1 / (1 - p), so the expected value is unchanged. Does nothing in eval mode.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"drop path is {p}; it must be at least 0 and below 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if self.p == 0.0 or not self.training:
            return x
        return x * self.factors(x).to(x.dtype).view(-1, *(1,) * (x.ndim - 1))

    def factors(self, x: Tensor) -> Tensor:
        """What each sample's branch is multiplied by, drawn anew: (N,), 0 or 1 / (1 - p), in fp32 whatever `x` is."""
        keep = 1.0 - self.p
        return torch.empty(x.shape[0], dtype=torch.float32, device=x.device).bernoulli_(keep) / keep

    def extra_repr(self) -> str:
        return f"p={self.p:.3f}"


class GlobalResponseNorm(nn.Module):
    """Global response normalisation (Woo et al., ConvNeXt V2, 2023, section 3.2): (N, H, W, C) -> (N, H, W, C).

    With g_c the Euclidean norm of channel c over all positions, x becomes x + weight * x * g_c / mean(g) + bias:
    channels compete. Both parameters (C,) start at 0, so a new layer changes nothing.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        response = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)  # (N, 1, 1, C)
        share = response / (response.mean(-1, keepdim=True) + self.eps)
        return torch.addcmul(self.bias, self.weight, x * share) + x


def run_checkpointed(module: nn.Module, x: Tensor) -> Tensor:
    """`module(x)` that keeps no activation and computes them anew in the backward pass; see `count_pictures_once`."""
    out: Tensor = checkpoint(module, x, use_reentrant=False)
    return out


def drop_rates(depths: tuple[int, ...], last: float) -> list[list[float]]:
    """Stochastic depth of every block, by stage: from 0 in the first one linearly to `last` (Appendix A.1)."""
    rates = torch.linspace(0, last, sum(depths), device="cpu")
    return [stage.tolist() for stage in torch.split(rates, list(depths))]


def count_pictures_once(model: nn.Module) -> None:
    """Makes the batch norms of a network that recomputes its blocks leave their statistics alone in the second pass."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.register_forward_pre_hook(_keep_statistics)
            norm.register_forward_hook(_put_statistics_back, always_call=True)  # the second pass may stop inside it


def _keep_statistics(norm: nn.Module, _inputs: object) -> None:
    recomputing = torch._C._current_graph_task_id() != -1  # as torch.utils.checkpoint tells: inside a backward pass
    if norm.training and recomputing:
        norm.__dict__["kept"] = [(buffer, buffer.clone()) for buffer in norm.buffers()]


def _put_statistics_back(norm: nn.Module, _inputs: object, _output: object) -> None:
    with torch.no_grad():
        for buffer, value in norm.__dict__.pop("kept", ()):
            buffer.copy_(value)
