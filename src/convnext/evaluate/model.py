"""`convnext.load`: one object that names pictures, and knows its classes, its preprocessing and its network."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convnext.data.feed.given import Picture, Pictures
from convnext.data.feed.preprocessing import Preprocessing
from convnext.data.names import named
from convnext.errors import PictureError, UserError
from convnext.evaluate.predict import find_pictures, predictions_of
from convnext.nn.network import Network
from convnext.run.environment import find_device
from convnext.run.load import Loaded, load_all
from convnext.run.save import save
from convnext.tasks.classify.answers import Prediction
from convnext.tasks.collect import EVAL_BATCH
from convnext.tasks.table import kind_of


class Model:
    """A trained model: its network, and everything that is needed to use it. `convnext.load` gives one.

    What it does not have itself it takes from its network, as `features`, `state_dict` or `parameters`; where a torch
    module is wanted, as by torch.compile, give it `network`. Called with pictures it gives the network's logits.

    Attributes:
        network: the torch module, in eval mode.
        classes: names in the order of the outputs.
        multi_label: whether a picture may have several of them.
        preprocessing: what the network must be shown.
        path: the model file.

    Examples:
        >>> import convnext
        >>> model = convnext.load("runs/photos")
        >>> model.classes
        ('narrow', 'wide')
        >>> model.predict("photos/wide/wide-000.png")[0].label in model.classes
        True
        >>> model.embed(["photos/wide/wide-000.png", "photos/narrow/narrow-000.png"]).shape
        torch.Size([2, 320])
    """

    _loaded: Loaded
    _device: str

    def __init__(self, loaded: Loaded, device: str = "cpu") -> None:
        self._set("_loaded", loaded)
        self._set("_device", device)
        loaded.inform()
        loaded.model.to(find_device(device))

    @property
    def network(self) -> Network:
        """The torch module."""
        return self._loaded.model

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the outputs; () where the network's head was replaced and nobody named the new ones."""
        return tuple(self.network.classes)

    @property
    def multi_label(self) -> bool:
        """Whether a picture may have several classes."""
        return self.network.multi_label

    @property
    def preprocessing(self) -> Preprocessing:
        """What the network must be shown; callable, as a Dataset's `transform`."""
        return self.network.preprocessing or self._loaded.preprocessing

    @property
    def path(self) -> Path:
        """The model file."""
        return self._loaded.path

    def predict(self, pictures: Pictures, *, top: int = 5) -> list[Prediction]:
        """Names with probabilities, one for each picture that is given, in order; see `convnext.predict`.

        Raises:
            UserError: something is no picture, or nothing that is named is there; or the network has a new head whose
                outputs have no names.
        """
        return predictions_of(self._as_it_is(), find_pictures(pictures), top=top, device=self._device)

    def _as_it_is(self) -> Loaded:
        """The network with what belongs to it now: a program may have given it a new head or other preprocessing.

        Raises:
            UserError: its outputs are others now, and nobody said what they mean.
        """
        task = kind_of(self._loaded.task.name).of_network(self.network, self._loaded.task)
        return replace(self._loaded, task=task, preprocessing=self.preprocessing)

    def changed(self) -> bool:
        """Whether the network is another one than in its file: trained on, with a new head, or shown otherwise."""
        file = load_all(self.path)
        mine, its = self.network.state_dict(), file.model.state_dict()
        now = (self.classes, self.multi_label, self.network.thresholds, self.preprocessing)
        if now != (file.classes, file.multi_label, file.thresholds, file.preprocessing) or mine.keys() != its.keys():
            return True
        return not all(mine[key].dtype == its[key].dtype and torch.equal(mine[key].cpu(), its[key]) for key in its)

    @torch.no_grad()
    def embed(self, pictures: Pictures) -> Tensor:
        """What the head sees of each picture, float32 (N, network.num_features), on the processor; N = 1 for one.

        Raises:
            PictureError: one cannot be read or is not there: a row would be missing.
            UserError: something is no picture.
        """
        asked = find_pictures(pictures)
        if missing := next((one.error for one in asked if one.error), ""):
            raise PictureError(missing)
        rows, device = [], find_device(self._device)
        for first in range(0, len(asked), EVAL_BATCH):
            some: list[Picture] = [one.picture for one in asked[first : first + EVAL_BATCH]]
            rows.append(self.network.pooled(self.preprocessing.prepare(some).to(device)).float().cpu())
        return torch.cat(rows) if rows else torch.empty(0, self.network.num_features)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the model as one file, which every command takes as it takes the run; see `convnext.save`."""
        return save(self.network, path)

    def __call__(self, pictures: Any) -> Tensor:
        """The network's logits, (N, classes), of pictures of any kind or of a batch that is prepared already."""
        out: Tensor = self.network(pictures)
        return out

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.network, name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise UserError(f"{name} is not changed here; the network itself is .network: set .network.{name}")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        name, asked = self._loaded.config["model"]["name"], self._loaded.task.describe()
        return f"<Model {name}, {asked}, {self.preprocessing.size} pixels, {self.path}>"


def load(source: str | os.PathLike[str], *, device: str = "cpu") -> Model:
    """The model of a run folder, or of one model file.

    Args:
        source: a run folder (of which the weights are taken that its result judged), or a file that a run or
            `convnext.save` wrote.
        device: where to compute.

    Raises:
        RunError: the folder holds no run, or the run has no model yet.
        WeightsError: the file is damaged, or it is a bare weight file (use `create_model(name, weights=file)`).

    Examples:
        >>> import convnext
        >>> model = convnext.load("runs/photos")
        >>> len(model.predict(["photos/wide/wide-000.png", "photos/narrow/narrow-000.png"]))
        2
    """
    return Model(load_all(named(source)), device)
