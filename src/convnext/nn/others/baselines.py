"""timm's networks behind our features contract: the ones that the paper and the report compare ConvNeXt with.

Any of timm's models can be had as "timm:NAME"; `baseline_specs` lists those of the paper's tables and of the report.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import timm
from timm.layers.drop import DropPath
from torch import Tensor, nn

from convnext.errors import UserError, WeightsError
from convnext.nn.convnext.layers import count_pictures_once
from convnext.nn.network import Network, check_outputs
from convnext.nn.tables.baseline_specs import TIMM
from convnext.nn.weights.files import refuse_odd
from convnext.nn.weights.head_rows import Names, follow

OWN = "net."  # what the names of a `Baseline` begin with


class Baseline(Network):
    """One of timm's networks, trainable and loadable as ours are.

    Args:
        model: its name in timm.
        in_chans: channels of the picture.
        num_classes: size of the head; 0 leaves it out.
        drop_path: stochastic depth, where the network has it.
        checkpointing: recompute blocks in the backward pass, where the network can.
        size: side of the pictures, pixels, for networks with one size (ViT, Swin); None for timm's.
        state: pretrained tensors of the same network under timm's names; a stem of other channels is adapted, a head
            for another number of classes is replaced by a new one.

    Raises:
        UserError: timm has no such model, or cannot build it so.
        WeightsError: the tensors are of another network.
    """

    def __init__(
        self,
        model: str,
        *,
        in_chans: int = 3,
        num_classes: int = 1000,
        drop_path: float = 0.0,
        checkpointing: bool = False,
        size: int | None = None,
        state: Mapping[str, Tensor] | None = None,
    ) -> None:
        settings: dict[str, Any] = {"in_chans": in_chans}
        if drop_path > 0:
            settings["drop_path_rate"] = drop_path
        if size is not None and fixed_size(model) is not None:
            settings["img_size"] = size
        trained: int | None = None
        adapted: tuple[str, ...] = ()
        if state is None:
            net = _build(model, settings | {"num_classes": num_classes})
        else:
            net, trained, adapted = _build_with(model, settings, num_classes, state)
        if drop_path == 0:
            _switch_off_drop_path(net)
        channels, strides = _maps_of(net)
        super().__init__(in_chans, num_classes, channels, strides, checkpointing=checkpointing)
        self.net, self.trained_classes, self.adapted = net, trained, adapted
        if checkpointing:
            _checkpoint(net, model)
            count_pictures_once(net)
        self.fixed_size = fixed_size(model, size)

    @property
    def loaded(self) -> str:
        """What became of the pretrained tensors, in one line."""
        if self.trained_classes is None:
            return "random weights"
        adapted = f", {', '.join(self.adapted)} adapted to this size and these channels" if self.adapted else ""
        if self.trained_classes == self.num_classes:
            return f"all tensors loaded (timm format){adapted}"
        had = f"for {self.trained_classes} classes" if self.trained_classes else "not in the file"
        new = f"a new one for {self.num_classes} is initialised" if self.num_classes else "it is left out"
        return f"all other tensors loaded (timm format){adapted}; the head was {had}, {new}"

    def features(self, x: Tensor) -> list[Tensor]:
        """The last four maps of the network; see `Network.features`."""
        self.check_input(x)
        wanted = _last_maps(self.net)
        maps: Sequence[Tensor] = self.net.forward_intermediates(x, indices=wanted, intermediates_only=True)
        return list(maps)

    def pooled(self, x: Tensor) -> Tensor:
        """What timm's classifier sees, (N, F): most networks have F = channels[-1], EfficientNet has more."""
        self.check_input(x)
        out: Tensor = self.net.forward_head(self.net.forward_features(x), pre_logits=True)
        return out

    def forward(self, x: Tensor) -> Tensor:
        self.check_input(x)
        out: Tensor = self.net(x)
        return out

    @property
    def num_features(self) -> int:
        """Numbers that timm's classifier sees of a picture."""
        return int(getattr(self.net, "head_hidden_size", None) or self.net.num_features)

    def forward_features(self, x: Tensor) -> Tensor:
        """timm's own, in the layout of the network."""
        self.check_input(x)
        out: Tensor = self.net.forward_features(x)
        return out

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """timm's own."""
        out: Tensor = self.net.forward_head(x, pre_logits=pre_logits)
        return out

    def reset_classifier(self, num_classes: int) -> None:
        """timm's own; what the old outputs were called is forgotten."""
        check_outputs(num_classes)
        self.net.reset_classifier(num_classes)
        self.num_classes, self.classes, self.multi_label, self.thresholds = num_classes, (), False, ()

    def classifier(self) -> nn.Module:
        """timm's classifier."""
        layer: nn.Module = self.net.get_classifier()
        return layer

    def check_input(self, x: Tensor) -> None:
        """Refuses pictures of another size than the network's, where it has one."""
        super().check_input(x)
        if self.fixed_size is not None and tuple(x.shape[2:]) != (self.fixed_size, self.fixed_size):
            raise UserError(
                f"the picture is {x.shape[3]}x{x.shape[2]} pixels; this network takes {self.fixed_size} x "
                f"{self.fixed_size} only. Set data.size, or build it with another size"
            )

    def follow_names(self, names: Names, state: Mapping[str, Tensor], source: str, scale: float) -> str:
        """Puts the head's rows in the order of the class names, once the weights are loaded; new ones get `scale`.

        Args:
            names: the classes of the weights and of this network.
            state: the weights that were given.
            source: what to call them in messages.
            scale: factor on the initial weights of new rows.

        Returns:
            What is to be said, "" where nothing has changed.
        """
        if not self.num_classes or not self.trained_classes:
            return ""
        own = {name.removeprefix(OWN): tensor for name, tensor in state.items()}
        layer = self.net.get_classifier()
        place = next((name for name, module in self.net.named_modules() if module is layer), "")
        rows = [own[key] for key in (f"{place}.weight", f"{place}.bias") if key in own]
        if names.found and names.wanted and names.found != names.wanted:
            self.net.reset_classifier(self.num_classes)
            layer = self.net.get_classifier()
            for parameter in layer.parameters():
                parameter.data.mul_(scale)
        new = list(layer.parameters())
        if len(rows) != len(new) or any(a.shape[1:] != b.shape[1:] for a, b in zip(rows, new, strict=True)):
            return "the head is new: its rows cannot follow the names of the classes" if names.found else ""
        head, said = follow(names, rows, new, source)
        if len(head[0]) == len(new[0]):
            for parameter, tensor in zip(new, head, strict=True):
                parameter.data.copy_(tensor)
        return said

    def no_weight_decay(self) -> set[str]:
        """Parameters that timm spares from weight decay (position embeddings, class tokens)."""
        names = getattr(self.net, "no_weight_decay", set)
        return {f"net.{name}" for name in names()}


def timm_config(model: str) -> Any:
    """What timm knows of a model's weights and preprocessing; None where it knows nothing.

    Raises:
        UserError: timm has no such model, or no such tag of it.
    """
    if not timm.is_model(model.partition(".")[0]):
        close = difflib.get_close_matches(model, timm.list_models(), n=3)
        hint = f" Did you mean {', '.join(TIMM + name for name in close)}?" if close else ""
        raise UserError(f'model "{TIMM}{model}": timm has no such model.{hint}')
    try:
        return timm.get_pretrained_cfg(model)
    except RuntimeError as error:
        tags = ", ".join(TIMM + name for name in timm.list_pretrained(f"{model.partition('.')[0]}.*")[:5])
        raise UserError(f'model "{TIMM}{model}": {error} There are {tags or "none"}') from None


def fixed_size(model: str, size: int | None = None) -> int | None:
    """The one size of a network that has one (ViT, Swin), else None. Raises as `timm_config`."""
    config = timm_config(model)
    if config is None or not config.fixed_input_size:
        return None
    return size if size is not None else int(config.input_size[-1])


def _build(model: str, settings: dict[str, Any]) -> Any:
    timm_config(model)
    try:
        with _quiet():
            net = timm.create_model(model, **settings)
    except (RuntimeError, KeyError, AssertionError, ValueError, TypeError) as error:
        lines = (str(error) or type(error).__name__).splitlines()
        if "pretrained_cfg_overlay" in settings:
            detail = " ".join(" ".join(line.split()) for line in lines[1:3] or lines)[:300]
            raise WeightsError(f"the weights are of another network than {TIMM}{model}: {detail}") from error
        raise UserError(f'model "{TIMM}{model}" cannot be built so: {lines[0]}') from error
    if not hasattr(net, "forward_intermediates") or not hasattr(net, "feature_info"):
        raise UserError(f'model "{TIMM}{model}" gives no feature maps in timm; choose another')
    return net


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """timm's own remarks about adapting weights; what it did is told by `Baseline.loaded`."""
    logger = logging.getLogger("timm")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _build_with(
    model: str, settings: dict[str, Any], num_classes: int, state: Mapping[str, Tensor]
) -> tuple[Any, int, tuple[str, ...]]:
    """A network with pretrained tensors, all of them: the head as it was trained, replaced afterwards if need be.

    Returns:
        The network, the number of classes of the head in the file (0 if it has none), and the names that were adapted.
    """
    tensors = dict(state)
    if all(name.startswith(OWN) for name in tensors):  # a file of ours
        tensors = {name.removeprefix(OWN): tensor for name, tensor in tensors.items()}
    refuse_odd(tensors, "the weights")
    config = timm_config(model)
    layer = config.classifier if config is not None and isinstance(config.classifier, str) else "head"
    head = tensors.get(f"{layer}.weight")
    trained = 0 if head is None else int(head.shape[0])
    overlay = {"state_dict": tensors, "num_classes": trained, "label_offset": 0}
    net = _build(model, settings | {"num_classes": trained, "pretrained": True, "pretrained_cfg_overlay": overlay})
    net.pretrained_cfg.pop("state_dict", None)  # timm keeps a copy of all tensors there
    adapted = _adapted(net, tensors)
    if trained != num_classes:
        net.reset_classifier(num_classes)
    return net, trained, adapted


def _adapted(net: Any, tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Tensors that timm resampled or summed up, those of another shape than in the file; each kind of table once."""
    found: dict[str, None] = {}
    for name, tensor in net.state_dict().items():
        if name in tensors and tensors[name].shape != tensor.shape:
            found[name.rpartition(".")[2] if "table" in name else name] = None
    return tuple(found)


def _switch_off_drop_path(net: Any) -> None:
    """Some of timm's networks, such as Swin, have stochastic depth unless they are told otherwise."""
    for layer in net.modules():
        if isinstance(layer, DropPath):
            layer.drop_prob = 0.0


def _checkpoint(net: Any, model: str) -> None:
    try:
        net.set_grad_checkpointing(True)
    except (AssertionError, AttributeError, NotImplementedError) as error:
        raise UserError(f"{TIMM}{model} cannot recompute its blocks in timm; set checkpointing to false") from error


def _last_maps(net: Any) -> list[int]:
    """Indices of the network's last four maps; a plain transformer gives its last four blocks."""
    return list(range(max(0, len(net.feature_info) - 4), len(net.feature_info)))


def _maps_of(net: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and strides of the maps that `features` gives."""
    info = [net.feature_info[i] for i in _last_maps(net)]
    return tuple(int(row["num_chs"]) for row in info), tuple(int(row["reduction"]) for row in info)
