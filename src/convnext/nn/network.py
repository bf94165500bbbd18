"""What the rest of the program knows of a network, whichever it is: ConvNeXt, a step of the roadmap, or a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from convnext.errors import UserError
from convnext.nn.convnext.layers import run_checkpointed

if TYPE_CHECKING:
    from convnext.data.feed.preprocessing import Preprocessing


def check_outputs(num_classes: object) -> None:
    """Raises a UserError for what is no number of outputs."""
    if not isinstance(num_classes, int) or isinstance(num_classes, bool) or num_classes < 0:
        raise UserError(f"num_classes is {num_classes!r}; it must be a whole number, 0 to leave the head out")


class Network(nn.Module):
    """A classifier and feature extractor with the features contract.

    `forward` maps pictures (N, in_chans, H, W) to logits (N, num_classes), or to what `pooled` gives when there are no
    classes. `features` gives the maps that dense tasks use, map i being
    (N, channels[i], H / strides[i], W / strides[i]).

    A network that comes from a run knows the names of its `classes`, whether a picture may have several
    (`multi_label`, and then the `thresholds` from which on each is named), and its `preprocessing`; a call with
    pictures of any kind (paths, bytes, PIL pictures, uint8 arrays and tensors) prepares them. A new one knows none, and
    takes normalised tensors alone.

    Args:
        in_chans: channels of the picture.
        num_classes: size of the head; 0 leaves it out.
        channels: channels of each map.
        strides: pixels of the picture to one position of each map.
        checkpointing: recompute blocks in the backward pass: less memory, more time, the same gradients.
    """

    head: nn.Module
    stem: nn.Module
    stages: nn.ModuleList

    def __init__(
        self,
        in_chans: int,
        num_classes: int,
        channels: tuple[int, ...],
        strides: tuple[int, ...],
        *,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.in_chans, self.num_classes = in_chans, num_classes
        self.channels, self.strides = channels, strides
        self.checkpointing = checkpointing
        self.classes: tuple[str, ...] = ()
        self.multi_label = False
        self.thresholds: tuple[float, ...] = ()
        self.meaning: Mapping[str, Any] = {}
        """What a model file says of outputs that are no classes: their task, and what they mean to it."""
        self.preprocessing: Preprocessing | None = None
        self.engine = "eager"
        self.name = ""
        """As `create_model` built it, "" for one that was built otherwise."""

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(x, Tensor):
            prepared = x.dtype != torch.uint8 or self.preprocessing is None  # what it may not be, `check_input` says
        else:
            prepared = type(x).__module__.startswith("torch.")  # a stand-in of torch's own, that traces
        if not prepared:
            x = self._prepared(x)
        return super().__call__(x, *args, **kwargs)

    def _prepared(self, pictures: Any) -> Tensor:
        """Pictures of any kind as a batch of the network's own, where its parameters are."""
        if self.preprocessing is None:
            raise UserError(
                "this network was given pictures and does not know how to prepare them: it is no model of a run. Give "
                "it normalised tensors (N, C, H, W), or set its preprocessing = convnext.Preprocessing(size=224)"
            )
        return self.preprocessing.prepare(pictures).to(next(self.parameters()).device)

    def features(self, x: Tensor) -> list[Tensor]:
        """The maps from fine to coarse.

        Raises:
            UserError: the picture is smaller than one position of the last map, or has the wrong number of channels.
        """
        raise NotImplementedError

    def pooled(self, x: Tensor) -> Tensor:
        """What the head sees, (N, channels[-1]). Raises as `features`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.pooled(x))
        return out

    def stage_maps(self, x: Tensor) -> list[Tensor]:
        """The maps after each stage, of a network that is a stem and stages. Raises as `features`."""
        self.check_input(x)
        maps = []
        x = self.stem(x)
        for stage in self.stages:
            x = self.run(stage, x)
            maps.append(x)
        return maps

    def run(self, module: nn.Module, x: Tensor) -> Tensor:
        """A part of the network on its input; with `checkpointing`, in training, without keeping its activations."""
        out: Tensor = run_checkpointed(module, x) if self.checkpointing and self.training else module(x)
        return out

    @property
    def num_features(self) -> int:
        """Numbers that the head sees of a picture: the columns of what `pooled` gives."""
        return self.channels[-1]

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map, (N, C, H, W), before it is pooled; as in timm."""
        return self.stage_maps(x)[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """What becomes of the last map: logits, or with `pre_logits` what `pooled` gives; as in timm."""
        pooled = self.pool(x)
        out: Tensor = pooled if pre_logits else self.head(pooled)
        return out

    def pool(self, x: Tensor) -> Tensor:
        """The last map (N, C, H, W) averaged over its positions, (N, C)."""
        return x.mean((2, 3))

    def get_classifier(self) -> nn.Module:
        """The layer that gives the logits; timm's name for `classifier`."""
        return self.classifier()

    def reset_classifier(self, num_classes: int) -> None:
        """A new head of so many classes, initialised as a new network's is; 0 leaves it out. As in timm.

        What the old outputs were called is forgotten.

        Raises:
            UserError: it is no number of classes.
        """
        check_outputs(num_classes)
        like = next(self.parameters())
        self.head = nn.Identity()
        if num_classes > 0:
            self.head = nn.Linear(self.num_features, num_classes).to(like.device, like.dtype)
            nn.init.trunc_normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)
        self.num_classes, self.classes, self.multi_label, self.thresholds = num_classes, (), False, ()
        self.meaning = {}

    def classifier(self) -> nn.Module:
        """The layer that gives the logits; `nn.Identity` when there is none."""
        return self.head

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that take no weight decay although they are no vectors."""
        return set()

    def check_input(self, x: Tensor) -> None:
        """Refuses what is not a batch of pictures with `in_chans` channels that reach the last map."""
        if not x.is_floating_point():
            raise UserError(
                f"the input holds {x.dtype}; the model takes normalised floating-point pictures, or uint8 "
                "pictures where it knows its preprocessing, as a run's model does"
            )
        smallest = self.strides[-1]
        if x.ndim != 4 or x.shape[1] != self.in_chans:
            raise UserError(f"the input has shape {tuple(x.shape)}; the model takes (N, {self.in_chans}, H, W)")
        if min(x.shape[2:]) < smallest:
            raise UserError(
                f"the picture is {x.shape[3]}x{x.shape[2]} pixels; both sides must be at least {smallest}, the stride "
                "of the last map. Enlarge the pictures, or use a smaller stem_patch"
            )
