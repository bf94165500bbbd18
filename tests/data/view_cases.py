"""Pictures, recipes and seeds whose augmented and judged pictures are recorded in view_golden.json.

To record anew, after a change that is meant to change pixels: `python tests/data/view_cases.py`.
"""

from __future__ import annotations

import hashlib
import json
import platform
import random
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convnext.data.feed.augment import TrainTransform, draw_view
from convnext.data.feed.preprocessing import Preprocessing
from convnext.data.feed.view import View
from convnext.data.pictures.decode import MODES
from convnext.data.pictures.transforms import from_pixels
from convnext.recipe import AugmentRecipe, DataRecipe

GOLDEN = Path(__file__).with_name("view_golden.json")
SEEDS = range(4)


def made(height: int, width: int, channels: int = 3) -> Tensor:
    """Waves with noise, no part like another: uint8 (C, H, W), channels last in memory."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(height * 1000 + width).integers(-40, 41, (height, width, channels))
    waves = [(x * (c + 2) + y * (5 - c) + x * y // 37) % 240 for c in range(channels)]
    return from_pixels((np.stack(waves, axis=-1) + noise).clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Training:
    """Some draws of the training transform.

    `augment` changes a recipe that only crops; `grown` is the size that a call names; `mean` is the data's.
    """

    augment: dict[str, Any] = field(default_factory=dict)
    fit: str = "crop"
    shape: tuple[int, int] = (61, 83)
    in_chans: int = 3
    size: int = 32
    grown: int | None = None
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = ()

    def transform(self) -> TrainTransform:
        """The transform that is recorded."""
        std = (0.25,) * len(self.mean)
        data = DataRecipe(fit=self.fit, interpolation=self.interpolation, mean=self.mean, std=std)  # type: ignore[arg-type]
        return TrainTransform(data, self.recipe(), self.size, self.in_chans)

    def recipe(self) -> AugmentRecipe:
        """What is drawn."""
        return AugmentRecipe(**({"flip": 0.0, "color_jitter": 0.0} | self.augment))

    def picture(self) -> Tensor:
        """The decoded picture."""
        return made(*self.shape, self.in_chans)

    def views(self) -> list[View]:
        """One for each seed."""
        transform, size = self.transform(), self.grown or self.size
        drawn = (random.Random(seed) for seed in SEEDS)
        return [draw_view(d, self.recipe(), self.fit, transform.mean, *self.shape, size) for d in drawn]

    def results(self) -> list[Tensor]:
        """One for each seed."""
        transform, picture = self.transform(), self.picture()
        return [transform(picture, seed, self.grown) for seed in SEEDS]


@dataclass(frozen=True)
class Judging:
    """Evaluation's picture; `jpeg` reads a JPEG, whose decoder reduces large pictures."""

    fit: str = "crop"
    shape: tuple[int, int] = (61, 83)
    in_chans: int = 3
    size: int = 32
    crop_ratio: float = 0.875
    interpolation: str = "bicubic"
    jpeg: bool = False

    def preprocessing(self) -> Preprocessing:
        """What is recorded."""
        return Preprocessing(
            self.size, self.crop_ratio, self.interpolation, (0.4, 0.5, 0.6), (0.2,) * 3, self.in_chans, self.fit
        )

    def picture(self) -> Tensor:
        """The decoded picture."""
        return made(*self.shape, self.in_chans)

    def views(self) -> list[View]:
        """The one view."""
        return [self.preprocessing().view_of(*self.shape)]

    def results(self) -> list[Tensor]:
        """The one picture."""
        picture = self.picture()
        if not self.jpeg:
            return [self.preprocessing().view(picture.permute(1, 2, 0).numpy())]
        buffer = BytesIO()
        rows = picture.permute(1, 2, 0).numpy()
        Image.fromarray(rows if self.in_chans > 1 else rows[..., 0], MODES[self.in_chans]).save(buffer, "JPEG")
        return [self.preprocessing().view(buffer.getvalue())]


ALL = {"flip": 0.5, "vertical_flip": 0.5, "rotation": 25.0, "quarter_turns": 0.75}
TURNS = {"flip": 0.5, "vertical_flip": 0.5, "quarter_turns": 0.75}
PAPER = "rand-m9-mstd0.5-inc1"

CASES: dict[str, Training | Judging] = {
    "crop": Training(),
    "crop-of-all": Training({"crop_min": 1.0}),
    "crop-small": Training({"crop_min": 0.05}),
    "crop-tall": Training(shape=(90, 41)),
    "crop-strip": Training(shape=(12, 200)),
    "crop-enlarges": Training(shape=(17, 23)),
    "crop-one-row": Training(shape=(1, 40)),
    "crop-bilinear": Training(interpolation="bilinear"),
    "crop-gray": Training(in_chans=1),
    "crop-alpha": Training(in_chans=4),
    "flip": Training({"flip": 0.5}),
    "flip-always": Training({"flip": 1.0}),
    "vertical-flip": Training({"vertical_flip": 0.5}),
    "quarter-turns": Training({"quarter_turns": 0.75}),
    "quarter-turns-always": Training({"quarter_turns": 1.0}, shape=(50, 50)),
    "mirrors-and-turns": Training(TURNS),
    "rotation": Training({"rotation": 20.0}),
    "rotation-any": Training({"rotation": 180.0}),
    "rotation-bilinear": Training({"rotation": 45.0}, interpolation="bilinear"),
    "rotation-gray": Training({"rotation": 45.0}, in_chans=1),
    "rotation-alpha": Training({"rotation": 45.0}, in_chans=4),
    "rotation-strip": Training({"rotation": 30.0}, shape=(11, 150)),
    "rotation-of-all": Training({"rotation": 90.0, "crop_min": 1.0}, shape=(64, 64)),
    "everything": Training(ALL),
    "everything-gray": Training(ALL, in_chans=1, shape=(40, 90)),
    "everything-jitter": Training(ALL | {"color_jitter": 0.4}),
    "jitter": Training({"color_jitter": 0.4, "flip": 0.5}),
    "jitter-gray": Training({"color_jitter": 0.4}, in_chans=1),
    "jitter-alpha": Training({"color_jitter": 0.4}, in_chans=4),
    "randaugment": Training({"randaugment": PAPER, "flip": 0.5}),
    "randaugment-gray": Training({"randaugment": PAPER}, in_chans=1),
    "randaugment-jitter": Training({"randaugment": PAPER, "color_jitter": 0.3} | TURNS),
    "randaugment-colour": Training({"randaugment": "rand-m9-n2-t3a"} | TURNS),
    "erasing": Training({"erasing": 0.5, "flip": 0.5}),
    "erasing-rotation": Training({"erasing": 1.0} | ALL),
    "randaugment-erasing": Training({"randaugment": PAPER, "erasing": 0.5, "color_jitter": 0.3}),
    "grown": Training(ALL, size=48, grown=24),
    "grown-pad": Training(TURNS, fit="pad", size=48, grown=20),
    "squash": Training({"flip": 0.5}, fit="squash"),
    "squash-wide": Training({"flip": 0.5}, fit="squash", shape=(40, 200)),
    "squash-tall-rotation": Training(ALL, fit="squash", shape=(150, 30)),
    "squash-alpha": Training(TURNS, fit="squash", shape=(30, 100), in_chans=4),
    "pad": Training(fit="pad"),
    "pad-odd": Training({"crop_min": 0.8}, fit="pad", shape=(48, 83)),
    "pad-tall": Training(TURNS, fit="pad", shape=(90, 31)),
    "pad-strip": Training({"crop_min": 0.1}, fit="pad", shape=(5, 160)),
    "pad-one-row": Training(fit="pad", shape=(1, 60)),
    "pad-gray": Training(TURNS, fit="pad", in_chans=1, shape=(33, 70), mean=(0.3,)),
    "pad-alpha": Training(TURNS, fit="pad", in_chans=4, shape=(33, 70)),
    "pad-rotation": Training({"rotation": 30.0}, fit="pad", shape=(40, 81)),
    "pad-everything": Training(ALL, fit="pad", shape=(77, 40), mean=(0.9, 0.5, 0.1), interpolation="bilinear"),
    "pad-square": Training(ALL, fit="pad", shape=(56, 56)),
    "judge-crop": Judging(),
    "judge-crop-odd": Judging(shape=(67, 100), size=31, crop_ratio=0.8),
    "judge-crop-tall-gray": Judging(shape=(100, 45), in_chans=1),
    "judge-crop-alpha": Judging(in_chans=4, interpolation="bilinear"),
    "judge-strip": Judging(shape=(9, 300)),
    "judge-strip-tall": Judging(shape=(301, 9), crop_ratio=1.0),
    "judge-enlarges": Judging(shape=(10, 14)),
    "judge-squash": Judging(fit="squash"),
    "judge-squash-all": Judging(fit="squash", crop_ratio=1.0, shape=(30, 120)),
    "judge-pad": Judging(fit="pad", crop_ratio=1.0, shape=(30, 121)),
    "judge-pad-cut": Judging(fit="pad", crop_ratio=0.7, shape=(90, 61)),
    "judge-pad-gray": Judging(fit="pad", crop_ratio=1.0, shape=(121, 30), in_chans=1),
    "judge-pad-strip": Judging(fit="pad", crop_ratio=1.0, shape=(2, 230)),
    "judge-jpeg-reduced": Judging(shape=(301, 401), jpeg=True),
    "judge-jpeg-reduced-pad": Judging(shape=(299, 501), jpeg=True, fit="pad", crop_ratio=1.0),
    "judge-jpeg-reduced-gray": Judging(shape=(401, 301), jpeg=True, in_chans=1),
}


def hash_of(results: list[Tensor]) -> str:
    """Of values, types and shapes."""
    digest = hashlib.sha256()
    for result in results:
        digest.update(repr((result.dtype, tuple(result.shape))).encode() + result.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def hash_of_views(views: list[View]) -> str:
    """Of all that they say; it is the same on every machine."""
    return hashlib.sha256(repr(views).encode()).hexdigest()[:16]


def machine() -> dict[str, str]:
    """What the bits of torch's and Pillow's resampling follow."""
    import PIL

    return {
        "torch": torch.__version__, "pillow": PIL.__version__, "numpy": np.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(), "machine": platform.machine(),
    }  # fmt: skip


if __name__ == "__main__":
    found = {
        "machine": machine(),
        "views": {name: hash_of_views(case.views()) for name, case in CASES.items()},
        "pictures": {name: hash_of(case.results()) for name, case in CASES.items()},
    }
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
