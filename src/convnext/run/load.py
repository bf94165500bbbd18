"""From a run folder or a model file to a network that is ready to use."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from convnext.data.feed.preprocessing import Preprocessing
from convnext.errors import RunError, UserError, WeightsError
from convnext.nn.network import Network
from convnext.nn.spec import NetworkSpec
from convnext.nn.tables.baseline_specs import TIMM
from convnext.nn.tables.variants import ROADMAP
from convnext.nn.weights.description import build, describe
from convnext.nn.weights.head_rows import listed
from convnext.nn.weights.load import load_state, read_header, read_model, recognise
from convnext.nn.weights.places import is_weight_file, split_part
from convnext.nn.weights.shown import named_or, shown_as
from convnext.run.folder import RunFolder, open_run, resuming
from convnext.run.record import say
from convnext.tasks.table import FIRST, TASKS, kind_of, of_model_file, to_model_file
from convnext.tasks.task import Kind, Task


@dataclass(frozen=True)
class Loaded:
    """A network with what belongs to it; `task` says what its outputs mean."""

    model: Network
    path: Path
    classes: tuple[str, ...]
    multi_label: bool
    preprocessing: Preprocessing
    config: dict[str, Any]
    task: Task
    thresholds: tuple[float, ...] = ()
    """With several labels: from which probability on each is named, as chosen on validation; () in older files."""

    def inform(self) -> None:
        """Tells the network what its outputs mean and what it must be shown, for whoever has the network alone."""
        self.task.inform(self.model)
        self.model.meaning = {} if self.classes else to_model_file(self.task, {})
        self.model.preprocessing = self.preprocessing


def load(source: str | Path) -> Network:
    """The network of a run folder or of one of its model files, in eval mode.

    Its attributes `classes`, `multi_label` and `preprocessing` say what its outputs mean and what it must be shown:
    `model(model.preprocessing.prepare("a.jpg"))` gives the logits of a file.

    Raises:
        RunError: the folder holds no run, or the run has no model yet.
        WeightsError: the file is damaged, or it is a bare weight file (use `create_model(name, weights=file)`).
    """
    loaded = load_all(Path(source))
    loaded.inform()
    return loaded.model


def load_all(source: Path, *, which: str = "auto") -> Loaded:
    """The same with everything that belongs to the network.

    Args:
        source: a run folder or a model file that a run wrote.
        which: for a run, "best" or "last"; "auto" takes the weights that its result.json judged.
    """
    path = source if is_weight_file(source) else weights_of(open_run(source), which)
    shapes, config = read_header(path)
    if config is None:
        read_model(path)  # what is damaged, or no weight file at all, is called that
        raise WeightsError(
            f"{path} holds bare weights, without classes and preprocessing; name its network with --model, "
            "or in Python use create_model(name, weights=file)"
        )
    return _described(path, shapes, config)


def kind_of_file(path: Path) -> Kind:
    """The kind of task that a weight file is of; the first one where it does not say: whoever loads it says what is
    wrong with it."""
    try:
        config = read_header(path)[1]
    except WeightsError:
        config = None
    name = (config or {}).get("task")
    return kind_of(name if isinstance(name, str) and name in TASKS else FIRST)


def load_file(
    path: Path,
    model_name: str | None,
    classes: tuple[str, ...] | None,
    size: int | None,
    normalization_name: str | None,
) -> Loaded:
    """A weight file: one of a run, or a bare one of the network `model_name`, whose outputs are `classes` in order.

    The outputs of a bare file without classes are called by their numbers. None for the size and the normalisation of a
    bare file is what it was published with (see `nn.shown`); the file of a run has its own.

    Raises:
        UserError: a bare file without a name, or a run's file with another name, a size or a normalisation.
        WeightsError: the file is damaged, of another network, or has another number of classes.
    """
    shapes, config = read_header(path)
    if config is None:
        state = read_model(path, say)[0]
        if model_name is None:
            raise UserError(f"{path} holds bare weights: say whose they are by --model NAME")
        if classes is None:
            classes = tuple(map(str, range(_outputs(path, state, model_name))))
            say(f"{path} names no classes; its {len(classes)} outputs are called by their numbers")
        else:
            say(f"{path} names no classes; its outputs are taken for {listed(classes)}")
        return _bare(path, state, model_name, classes, size, normalization_name)
    if size or normalization_name:
        raise UserError(f"{path} is the model of a run and knows its own --size and --normalization; leave them out")
    loaded = _described(path, shapes, config)
    name = loaded.config["model"]["name"]
    if model_name not in (None, name):
        raise UserError(f"{path} is a {name} with a description of its own, not a {model_name}")
    return loaded


def _described(path: Path, shapes: Mapping[str, tuple[int, ...]], config: dict[str, Any]) -> Loaded:
    """What a run wrote: the description says how to build the network and what belongs to it."""
    described = describe(config, str(path))
    task = of_model_file(described.config, str(path))
    if task.outputs != described.spec.num_classes:
        raise WeightsError(f"{path}: its network has {described.spec.num_classes} outputs, its task {task.outputs}")
    model = build(described, shapes, str(path))
    report = load_state(model, read_model(path)[0], source=str(path))
    if report.missing or report.replaced or report.unexpected:
        raise WeightsError(f"{path} does not fit its own description: {report}")
    model.eval()
    return Loaded(
        model, path, described.classes, described.multi_label, described.preprocessing, described.config,
        task, described.thresholds,
    )  # fmt: skip


def _bare(
    path: Path,
    state: Mapping[str, Tensor],
    model_name: str,
    classes: tuple[str, ...],
    size: int | None,
    normalization_name: str | None,
) -> Loaded:
    """Bare weights, for a data set whose classes are in the order of their outputs; shown pictures as published."""
    shown = shown_as(split_part(path)[0], model_name)
    shown = named_or(normalization_name, shown.at(size or shown.size))
    model = _bare_network(path, state, model_name, len(classes), shown.size)
    model.eval()
    say(f"{path}: pictures are shown at {shown}")
    preprocessing = shown.preprocessing(model.in_chans)
    described = {"model": {"name": model_name}, "epoch": 0, "source": "model"}
    task = of_model_file({"classes": classes, "multi_label": False}, str(path))
    return Loaded(model, path, classes, False, preprocessing, described, task)


def _outputs(path: Path, state: Mapping[str, Tensor], model_name: str) -> int:
    """How many outputs bare weights are for.

    Raises:
        WeightsError: they have no head.
    """
    layer = "head"
    if model_name.startswith(TIMM):
        from convnext.nn.others.baselines import timm_config

        layer = getattr(timm_config(model_name.removeprefix(TIMM)), "classifier", layer)
    elif not model_name.startswith(ROADMAP):
        state = recognise(state, str(path))[1]
    head = state.get(f"{layer}.weight")
    if head is None or not head.ndim:
        raise WeightsError(
            f"{path} has no head, so it names nothing; train one: convnext train DATA {shlex.quote(f'weights={path}')}"
        )
    return len(head)


def _bare_network(path: Path, state: Mapping[str, Tensor], model_name: str, classes: int, size: int) -> Network:
    """The network that bare weights are of: timm's own names, or for a ConvNeXt those of any known format."""
    if model_name.startswith(TIMM):
        from convnext.nn.others.baselines import Baseline

        peer = Baseline(model_name.removeprefix(TIMM), num_classes=classes, size=size, state=state)
        _check_outputs(path, peer.trained_classes or 0, classes)
        return peer
    if model_name.startswith(ROADMAP):
        model = NetworkSpec(model_name, classes).build()
        load_state(model, state, source=str(path))
        return model
    native = recognise(state, str(path))[1]
    head = native.get("head.weight")
    _check_outputs(path, 0 if head is None else head.shape[0], classes)
    stem = native.get("stem.conv.weight")
    if stem is None:
        raise WeightsError(f"{path} is incomplete: it has no stem (stem.conv.weight); download or save it again")
    model = NetworkSpec(model_name, classes, stem.shape[1], stem.shape[-1]).build()
    load_state(model, state, source=str(path))
    return model


def _check_outputs(path: Path, outputs: int, classes: int) -> None:
    if outputs != classes:
        raise WeightsError(
            f"{path} has {outputs} outputs, the data has {classes} classes; both must agree to be compared"
        )


def weights_of(run: RunFolder, which: str = "auto") -> Path:
    """The model file of a run: what its result judged, or the best so far of a run that goes on.

    Raises:
        RunError: the run has no such model yet.
    """
    if which == "auto":
        result = run.read_table("result.json")
        which = str(result.get("weights")) if result else "best"
    if which not in ("best", "last"):
        raise RunError(f'weights "{which}": a run has "best" and "last"; "auto" takes what its result judged')
    path = run.best if which == "best" else run.last
    if not path.exists():
        raise RunError(f"{run.path} has no {path.name} yet: no epoch was finished. Go on with: {resuming(run.path)}")
    return path
