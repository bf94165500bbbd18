"""The recipe: every knob of a training run, declared once, with its meaning and unit.

A recipe is a complete TOML file with one table for each class below and the top-level key `weights`. `"auto"` asks
`convnext train` to choose for the data and the machine; what it chose is written into the run's `recipe.toml`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, Predicate

Auto = Literal["auto"]
Fraction = Annotated[float, Ge(0), Le(1)]
Probability = Annotated[float, Ge(0), Lt(1)]
Positive = Annotated[float, Gt(0), Lt(1e9)]
NonNegative = Annotated[float, Ge(0), Lt(1e9)]
Count = Annotated[int, Ge(1), Le(10_000_000)]
Side = Annotated[int, Ge(8), Le(4096)]
Scale = Literal["linear", "log"]

NORMALIZATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and deviation by name: ImageNet's, pictures in [0, 1], pictures in [-1, 1]."""


_RANDAUGMENT = {
    "m": r"\d{1,2}", "n": r"[1-9]|1\d|20", "mstd": r"\d{1,3}(\.\d*)?", "mmax": r"[1-9]\d?", "p": r"0(\.\d*)?|1(\.0*)?",
    "inc": "[01]", "t": "weights|3aw?",
}  # fmt: skip
"""timm's words for RandAugment, and their values: timm itself leaves out what it does not know without a word."""


def is_randaugment(text: str) -> bool:
    """Whether timm takes every word of a RandAugment string as it is meant; "" is none."""
    first, *words = text.split("-")
    if text and (first != "rand" or len(words) > len(_RANDAUGMENT)):
        return False
    found: dict[str, str] = {}
    for word in words:
        key = next((key for key, value in _RANDAUGMENT.items() if re.fullmatch(f"{key}({value})", word, re.ASCII)), "")
        if not key or key in found:
            return False
        found[key] = word.removeprefix(key)
    return float(found.get("m", 0)) <= float(found.get("mmax", 10))


def knob(default: Any, doc: str) -> Any:
    """A field of a recipe, with the sentence that explains it (written beside the key in `recipe.toml`)."""
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True)
class TaskRecipe:
    """What is asked of a picture."""

    kind: str = knob("auto", "the kind of question: classify (which class?), regress (how much?); auto: by the data")
    targets: tuple[str, ...] = knob((), "regress: columns of the numbers; empty: data.label_column, or target")
    unit: str | tuple[str, ...] = knob("", "regress: what the number is counted in, as months; of several a list")
    range: tuple[float, ...] = knob((), "regress: smallest and largest possible value, as [0, 192]; of several in turn")
    scale: Scale | tuple[Scale, ...] = knob("linear", "regress: linear, or log: errors are ratios; of several a list")
    loss: Literal["l1", "huber", "mse", "gaussian", "distribution", "ordinal"] = knob(
        "huber", "regress: l1, huber, mse; with a spread of its own: gaussian, distribution, ordinal (over bins)"
    )
    coverage: Probability = knob(0.9, "regress: share of the intervals that shall hold the truth; 0 for no intervals")
    balance: Fraction = knob(0.0, "regress: weight of rare values in the loss: 0 as they come, 1 by inverse density")
    within: tuple[Positive, ...] = knob((), "regress: tells the share of answers within so many units; empty: chosen")


@dataclass(frozen=True)
class ModelRecipe:
    """Which network, and its regularisation."""

    name: str = knob("auto", "a name that `convnext models` lists, timm:NAME, or roadmap:REGIME:STEP")
    in_chans: Literal[1, 3, 4] = knob(3, "channels of a picture: 1 gray, 3 RGB, 4 RGBA")
    stem_patch: Literal["auto", 1, 2, 4, 8, 16] = knob(
        "auto", "patch size of the stem: 4 (paper; isotropic 16), or a smaller power of 2 for small pictures"
    )
    drop_path: Probability | Auto = knob("auto", "stochastic depth of the last block, linear from 0 (Table 5)")
    layer_scale: NonNegative | Auto = knob("auto", "initial layer scale; 0 for none (Table 5: 1e-6)")
    init: Literal["auto", "paper", "fan_in"] = knob(
        "auto", "initial weights: paper (deviation 0.02, Table 5), or fan_in for short runs from scratch"
    )
    head_init_scale: NonNegative = knob(1.0, "factor on the head's initial weights (Table 6: 0.001)")
    checkpointing: bool = knob(False, "recompute blocks in the backward pass: less memory, more time")


@dataclass(frozen=True)
class DataRecipe:
    """Where the pictures are and how they reach the network."""

    root: str = knob("", "image folder or CSV table")
    size: Side | Auto = knob("auto", "side of the training pictures, pixels")
    start_size: Side | Auto = knob("auto", "side in the first epoch; grows to size over three quarters of the run")
    eval_size: Side | Auto = knob("auto", "side of the pictures in evaluation and prediction, pixels")
    fit: Literal["crop", "squash", "pad"] = knob(
        "crop", "evaluation and prediction crop the middle, squash all into a square, or pad it to one"
    )
    value_range: Literal["auto", "bits"] | tuple[float, float] = knob(
        "auto",
        "black and white where values have more than 8 bits, as [0, 4095]; bits: by the file format",
    )
    crop_ratio: Annotated[float, Ge(0.05), Le(1)] = knob(
        0.875, "fit = crop: share of the short side that the central crop keeps"
    )
    interpolation: Literal["bicubic", "bilinear"] = knob("bicubic", "resampling filter, with antialiasing")
    normalization: Literal["auto", "imagenet", "unit", "symmetric"] = knob(
        "auto", "imagenet: its mean and deviation; unit: [0, 1]; symmetric: [-1, 1]"
    )
    mean: tuple[Fraction, ...] = knob((), "own mean of each channel, of pictures in [0, 1], instead of normalization")
    std: tuple[Annotated[float, Gt(0), Le(1)], ...] = knob((), "own deviation of each channel; with mean")
    val: Annotated[float, Gt(0), Lt(0.9)] = knob(0.15, "share of pictures for validation where the data has no split")
    test: Annotated[float, Ge(0), Lt(0.9)] = knob(0.15, "share of pictures for the test where the data has no split")
    folds: Annotated[int, Ge(0), Le(1000)] = knob(
        0, "so many folds, one of them the test; 0 for none (see train --folds)"
    )
    fold: Annotated[int, Ge(0), Le(1000)] = knob(0, "the fold that is held out, from 1 to data.folds")
    classes: tuple[str, ...] = knob((), "class names in the order of the outputs; empty: as found, sorted")
    path_column: str = knob("path", "column of a CSV table that holds the file's path")
    label_column: str = knob("label", "column that holds the class; a|b means both a and b")
    label_separator: str = knob("", "sign between two labels of a cell, or comma, space, none ...; empty: a bar")
    split_column: str = knob("split", "column that holds train, val or test, where there is one")
    val_fold: int | str = knob("", "the fold that validates, where split_column or the folders hold folds")
    test_fold: int | str = knob("", "the fold that tests, where split_column or the folders hold folds")
    group_column: str = knob("", "column of what belongs together (a patient, a slide) and is never split")
    ignore_columns: tuple[str, ...] = knob((), "columns that mean nothing, though they look like splits or groups")
    workers: Annotated[int, Ge(0)] | Auto = knob("auto", "processes that load pictures; 0: none of their own")
    cache_gb: NonNegative | Auto = knob("auto", "memory for decoded pictures, GB; 0 decodes anew every epoch")
    disk_cache_gb: NonNegative = knob(0.0, "disk for decoded pictures that the memory does not hold, GB; 0 for none")


@dataclass(frozen=True)
class AugmentRecipe:
    """How training pictures are varied. 0, or an empty string, switches a step off."""

    crop_min: Annotated[float, Gt(0), Le(1)] = knob(0.35, "smallest area of a random crop, as a share of the picture")
    flip: Fraction = knob(0.5, "probability of a mirror image, left to right")
    vertical_flip: Fraction = knob(0.0, "probability of turning upside down; for pictures without an up")
    quarter_turns: Fraction = knob(0.0, "probability of a turn by 90, 180 or 270 degrees, exact; 0.75: all four alike")
    rotation: Annotated[float, Ge(0), Le(180)] = knob(0.0, "largest random rotation to either side, degrees")
    color_jitter: NonNegative = knob(0.3, "strength of random brightness, contrast and saturation")
    randaugment: Annotated[str, Predicate(is_randaugment)] = knob(
        "", "timm's RandAugment string, as rand-m9-mstd0.5-inc1 (the paper's)"
    )
    erasing: Fraction = knob(0.0, "probability of erasing a random rectangle (Table 5: 0.25)")
    mixup: NonNegative = knob(0.0, "alpha of mixup (Table 5: 0.8)")
    cutmix: NonNegative = knob(0.0, "alpha of cutmix (Table 5: 1.0)")
    mix_probability: Fraction = knob(1.0, "probability that a batch is mixed at all, where mixup or cutmix is on")
    mix_switch: Fraction = knob(0.5, "where both are on: probability that a mixed batch takes cutmix, not mixup")
    label_smoothing: Probability = knob(0.1, "share of the label spread over all classes")


@dataclass(frozen=True)
class TrainRecipe:
    """Optimisation, length and numerics."""

    epochs: Count | Auto = knob("auto", "passes over the training pictures")
    minutes: Positive | Auto = knob("auto", "time budget from which epochs are chosen; epochs, where given, wins")
    replanned: tuple[tuple[Annotated[int, Ge(0)], Count], ...] = knob(
        (), "changes of length that kept the budget, [step, steps in all] each; a run records them, none for a new one"
    )
    batch: Count | Auto = knob("auto", "pictures in one optimizer step (the effective batch)")
    micro_batch: Count | Auto = knob("auto", "pictures in one forward pass; the rest of the batch is accumulated")
    lr: Positive | Auto = knob("auto", "peak learning rate, for a batch of lr_batch, or for the batch as it is")
    lr_batch: Annotated[int, Ge(0), Le(10_000_000)] = knob(
        0, "batch that lr is meant for; another batch scales it linearly; 0: lr is taken as it is"
    )
    layer_decay: Annotated[float, Gt(0), Le(1)] = knob(
        1.0, "factor on the rate from one group of three blocks to the one before it (Table 6: 0.7, 0.8); 1 for none"
    )
    min_lr: NonNegative = knob(0.0, "learning rate at the end of the cosine")
    warmup_epochs: NonNegative | Auto = knob("auto", "epochs of linear warm-up, counted in steps")
    freeze: Annotated[int, Ge(0), Le(1000)] | Literal["backbone"] = knob(
        0, "what keeps its weights: backbone (all but the head), or the first n groups (stem, then three blocks each)"
    )
    freeze_epochs: Annotated[int, Ge(0), Le(1_000_000)] = knob(
        0, "after so many epochs all weights learn: until then the head warms up; 0: frozen to the end"
    )
    optimizer: Literal["adamw", "adam", "nadam", "radam", "rmsprop", "sgd"] = knob(
        "adamw", "adamw (the paper's), adam, nadam, radam, rmsprop, sgd: torch's"
    )
    weight_decay: NonNegative | Auto = knob("auto", "weight decay; never on vectors and biases (Table 5: 0.05)")
    betas: tuple[Probability, Probability] = knob((0.9, 0.999), "momentum terms of adamw, adam, nadam and radam")
    momentum: Probability = knob(0.9, "momentum of sgd and rmsprop")
    class_balance: Fraction = knob(0.0, "weight of rare classes in the loss: 0 as they come, 1 fully balanced")
    thresholds: Literal["f1", "balanced_accuracy", "fixed"] = knob(
        "f1", "with several labels: for what each one's threshold is chosen on validation; fixed: one half"
    )
    clip_grad: NonNegative = knob(0.0, "largest norm of the gradient; 0 does not clip")
    ema: bool = knob(True, "keep an exponential moving average of the weights and judge it too")
    ema_decay: Probability | Auto = knob("auto", "decay of the average per step (Table 5: 0.9999)")
    ema_warmup: bool = knob(True, "the decay starts small and grows; false: the same from the first step (the paper)")
    patience: Annotated[int, Ge(0)] = knob(0, "stop after so many epochs without a better validation; 0 never")
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = knob(
        "auto", "fp32, tf32, bf16, fp16 (scaled), or auto: bf16 where it is at least 1.5 times as fast"
    )
    compile: bool = knob(False, "compile the network by torch.compile: slow to start, then quicker on a GPU")
    channels_last: bool = knob(True, "memory format of the maps; false: channels first")
    sharding: Literal["ddp", "fsdp2"] = knob(
        "ddp", "with several processes: ddp holds the network in each, fsdp2 a share of it (XL)"
    )
    logger: Literal["", "tensorboard", "mlflow", "wandb"] = knob(
        "tensorboard", "who is told of every epoch beside log.jsonl: tensorboard, mlflow, wandb; empty: nobody"
    )
    save_every: NonNegative = knob(10.0, "minutes between saved states within an epoch; 0: at the end of epochs only")
    keep_last: Annotated[int, Ge(1), Le(1000)] = knob(1, "how many states of ended epochs are kept, the newest ones")
    keep_state: bool = knob(False, "keep the optimizer's state of a finished run, by which it can be prolonged")
    device: str = knob("auto", "cpu, cuda, cuda:1, mps; auto takes the best there is")
    seed: Annotated[int, Ge(0), Lt(2**63)] = knob(0, "seed of the initial weights, the order and the augmentation")


@dataclass(frozen=True)
class Recipe:
    """A complete recipe. Derived values are properties of the plan, never stored twice.

    Examples:
        >>> import convnext
        >>> from convnext.recipe import TrainRecipe
        >>> convnext.Recipe(weights="none", train=TrainRecipe(epochs=20)).train.epochs
        20
    """

    weights: str = knob("auto", "auto, none, a file, timm:NAME, official:NAME or torchvision:NAME")
    task: TaskRecipe = field(default_factory=TaskRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    data: DataRecipe = field(default_factory=DataRecipe)
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
