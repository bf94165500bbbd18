"""The runs that are recorded: how their data is made, and the commands, in the words of the command line alone.

Nothing of the package is imported here, so that the same file records any version of it.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

FIXED = [
    "weights=none", "model.name=convnext_atto", "model.stem_patch=4", "data.size=32", "train.batch=32",
    "train.micro_batch=32", "train.precision=fp32", "train.device=cpu", "data.workers=0", "train.epochs=2",
    "train.lr=0.002", "train.warmup_epochs=0",
]  # fmt: skip
"""What a time or a machine would otherwise choose."""


@dataclass(frozen=True)
class Scenario:
    """One recorded run.

    Attributes:
        name: its folder and its key in the record.
        data: makes the data in an empty folder and gives what `train` takes; gets the folder of real data sets too.
        commands: words after `convnext`; {data}, {run} and {work} are filled in. By default one training.
        settings: added to `FIXED`.
        runs: run folders to record, below the scenario's folder.
        real: needs the real data sets.
    """

    name: str
    data: Callable[[Path, Path], Path]
    settings: tuple[str, ...] = ()
    commands: tuple[tuple[str, ...], ...] = (("train", "{data}", "{settings}", "--out", "{run}"),)
    runs: tuple[str, ...] = ("run",)
    real: bool = False


def squares(folder: Path, classes: int = 3, each: int = 24, seed: int = 0) -> Path:
    """Class folders of small noisy pictures whose colour and place of a square tell the class."""
    rng = np.random.default_rng(seed)
    for label in range(classes):
        (folder / f"kind-{label}").mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(0, 90, (40, 44, 3))
            x, y = rng.integers(2, 20, 2)
            pixels[y : y + 16, x : x + 16, label % 3] += 100 + 10 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"kind-{label}" / f"p{number:03d}.png")
    return folder


def folders(work: Path, real: Path) -> Path:
    """Class folders, split by us."""
    return squares(work / "data")


def table(work: Path, real: Path) -> Path:
    """A table with columns path, label and split."""
    files = sorted(squares(work / "data", each=20).rglob("*.png"))
    rows = [(f.relative_to(work / "data").as_posix(), f.parent.name, ("train", "train", "val", "test")[i % 4])
            for i, f in enumerate(files)]  # fmt: skip
    return write_table(work / "data" / "table.csv", ["path", "label", "split"], rows)


def several(work: Path, real: Path) -> Path:
    """A table of several labels a picture, separated by a vertical bar."""
    files = sorted(squares(work / "data").rglob("*.png"))
    rows = [(f.relative_to(work / "data").as_posix(), "|".join(
        name for name, on in ((f.parent.name, True), ("odd", i % 2), ("third", i % 3 == 0)) if on))
        for i, f in enumerate(files)]  # fmt: skip
    return write_table(work / "data" / "table.csv", ["path", "label"], rows)


def flowers(work: Path, real: Path) -> Path:
    """The flowers, as they come: train/ and val/."""
    return real / "flowers"


def beside(work: Path, real: Path) -> Path:
    """A link to the flowers in `work`: paths below it are the same wherever the flowers lie."""
    (work / "flowers").symlink_to(real / "flowers", target_is_directory=True)
    return work / "flowers"


def flowers_table(work: Path, real: Path) -> Path:
    """The flowers as a table without a split."""
    files = sorted(beside(work, real).glob("*/*/*.jpg"))
    rows = [(f.relative_to(work).as_posix(), f.parent.name) for f in files]
    return write_table(work / "flowers.csv", ["path", "label"], rows)


def flowers_several(work: Path, real: Path) -> Path:
    """The flowers as a table of several labels: the flower, and whether the picture is wide or light."""
    rows = []
    for file in sorted(beside(work, real).glob("*/*/*.jpg")):
        with Image.open(file) as picture:
            names = [file.parent.name] + ["wide"] * (picture.width > picture.height) + ["large"] * (picture.width > 300)
        rows.append((file.relative_to(work).as_posix(), "|".join(names)))
    return write_table(work / "several.csv", ["path", "label"], rows)


def cells(work: Path, real: Path) -> Path:
    """The solar cells: a table with groups."""
    shutil.copytree(work.parent / "elpv-sample", work / "elpv", symlinks=True)
    return work / "elpv" / "data.csv"


def write_table(path: Path, header: list[str], rows: list[tuple[str, ...]]) -> Path:
    """A CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


TRAIN = ("train", "{data}", "{settings}", "--out", "{run}")
EVALUATE = ("evaluate", "{run}")
SHARDED = (("data", "shard", "{data}", "{work}/shards"), ("train", "{work}/shards", "{settings}", "--out", "{run}"))
TWO = (("train", "{data}", "{settings}", "--out", "{run}", "--gpus", "2"),)
RESUMED = (
    ("train", "{data}", "{settings}", "train.keep_state=true", "--out", "{run}"),
    ("train", "--resume", "--out", "{run}", "train.epochs=3"),
)
TUNED = (
    ("tune", "{data}", "{settings}", "--space", "{work}/space.toml", "--sampler", "random", "--trials", "2",
     "--pruner", "none", "--out", "{work}/study"),
)  # fmt: skip
FOLDS = (("train", "{data}", "{settings}", "--folds", "2", "--out", "{run}"),)
RICH = ("augment.mixup=0.4", "augment.cutmix=1.0", "augment.randaugment=rand-m5-mstd0.5-inc1", "augment.erasing=0.25",
        "augment.color_jitter=0.2", "train.ema=true", "model.drop_path=0.1")  # fmt: skip

SCENARIOS = (
    Scenario("folders", folders, RICH, (TRAIN, EVALUATE)),
    Scenario("table", table, ("train.class_balance=0.5", "augment.rotation=20")),
    Scenario("several", several, ("train.ema=true", "augment.mixup=0.2")),
    Scenario("shards", folders, (), SHARDED),
    Scenario("two", folders, (), TWO),
    Scenario("resumed", folders, (), RESUMED),
    Scenario("tuned", folders, ("train.epochs=1",), TUNED, ("study",)),
    Scenario("folds", folders, ("train.epochs=1",), FOLDS, ("run/fold-1", "run/fold-2")),
    Scenario("flowers", flowers, RICH, (TRAIN, EVALUATE), real=True),
    Scenario("flowers-table", flowers_table, (), real=True),
    Scenario("flowers-several", flowers_several, ("train.ema=true",), real=True),
    Scenario("flowers-shards", flowers, (), SHARDED, real=True),
    Scenario("flowers-two", flowers, (), TWO, real=True),
    Scenario("flowers-resumed", flowers, (), RESUMED, real=True),
    Scenario("elpv", cells, (), real=True),
    Scenario("elpv-tuned", cells, ("train.epochs=1",), TUNED, ("study",), real=True),
)
