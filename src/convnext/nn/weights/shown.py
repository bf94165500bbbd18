"""How published weights want to be shown pictures: size, fit, crop, filter, mean and deviation as they were judged.

For bare weights there are three places that know, in this order: a `config.json` of timm's beside the file, our table
where the file is one that we fetched, and timm for its own networks. Without any, the rule of the ConvNeXt authors'
`datasets.py` holds: below 384 pixels the short side is resized to size x 256 / 224 and the middle cropped; from 384 on
the whole picture is warped to the square.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convnext.data.feed.preprocessing import Preprocessing
from convnext.data.pictures.transforms import normalization, per_channel
from convnext.errors import UserError, WeightsError
from convnext.nn.tables.baseline_specs import TIMM
from convnext.nn.tables.published import PUBLISHED
from convnext.recipe import NORMALIZATIONS

WARPED_FROM = 384
"""Side from which on the authors warp instead of cropping, pixels."""
_FITS = {None: "crop", "center": "crop", "squash": "squash", "border": "pad"}
_FILTERS = ("bicubic", "bilinear")


@dataclass(frozen=True)
class Shown:
    """How weights were shown pictures when they were judged, and who says so.

    `crop` is the share that the central crop keeps; sides are rounded down as the authors and timm do.
    """

    size: int
    crop: float
    fit: str
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str

    def at(self, size: int) -> Shown:
        """The same at another size, by the same share; for the authors' weights by their rule."""
        return authors_way(size) if self.source == AUTHORS else replace(self, size=size)

    def preprocessing(self, in_chans: int) -> Preprocessing:
        """For a network with so many channels."""
        mean, std = per_channel(self.mean, self.std, in_chans)
        ratio = floored_ratio(self.size, self.crop)
        return Preprocessing(self.size, ratio, self.interpolation, mean, std, in_chans, self.fit)

    def __str__(self) -> str:
        way = {"crop": f"{100 * self.crop:.1f} % crop", "squash": "squashed to the square", "pad": "padded"}
        named = next((n for n, v in NORMALIZATIONS.items() if v == (self.mean, self.std)), "")
        colours = named or f"mean {', '.join(f'{m:.3g}' for m in self.mean)}"
        return f"{self.size} pixels, {way[self.fit]}, {self.interpolation}, {colours} ({self.source})"


AUTHORS = "as the ConvNeXt authors judge"


def authors_way(size: int) -> Shown:
    """The rule of the authors' `datasets.py`."""
    mean, std = NORMALIZATIONS["imagenet"]
    if size >= WARPED_FROM:
        return Shown(size, 1.0, "squash", "bicubic", mean, std, AUTHORS)
    return Shown(size, 224 / 256, "crop", "bicubic", mean, std, AUTHORS)


def floored_ratio(size: int, crop_ratio: float) -> float:
    """The ratio by which `eval_resize` gives the side of the authors and of timm: size / crop_ratio, rounded down."""
    return size / math.floor(size / crop_ratio + 1e-6)


def shown_as(file: Path, model: str) -> Shown:
    """How the weights in `file`, of the network `model`, were shown pictures.

    Raises:
        WeightsError: the config.json beside the file cannot be what it says it is.
        UserError: timm has no such model.
    """
    return _beside(file) or _fetched(file, model) or _of_timm(model) or authors_way(224)


def shown_by_entry(entry: str) -> Shown | None:
    """The same of published weights by their name, such as "timm:convnext_tiny.fb_in1k"; None for another name."""
    known = PUBLISHED.get(entry)
    if known is None:
        return _of_timm(entry) if entry.startswith(TIMM) else None
    mean, std = NORMALIZATIONS["imagenet"]
    fit = "squash" if known.squash else "crop"
    source = AUTHORS if entry.startswith("official:") else f"as {entry} was judged"
    return Shown(known.size, known.crop_ratio, fit, known.interpolation, mean, std, source)


def _fetched(file: Path, model: str) -> Shown | None:
    """Of a file that is one of the published ones on this computer."""
    from convnext.nn.weights.download import find_cached, locate

    place = file.resolve()
    for entry, known in PUBLISHED.items():
        if known.model == model:
            cached = find_cached(locate(entry))
            if cached is not None and cached.resolve() == place:
                return shown_by_entry(entry)
    return None


def _of_timm(model: str) -> Shown | None:
    if not model.startswith(TIMM):
        return None
    from convnext.nn.others.baselines import timm_config

    config = timm_config(model.removeprefix(TIMM))
    return None if config is None else _from_config(vars(config), f"as timm judges {model}")


def _beside(file: Path) -> Shown | None:
    """From timm's `config.json` beside the file, as its repositories on the Hugging Face hub have."""
    path = file.parent / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None  # it may be of anything
    config = found.get("pretrained_cfg") if isinstance(found, dict) else None
    if not isinstance(config, dict):
        return None
    try:
        return _from_config(config, f"as {path} says")
    except (TypeError, ValueError, LookupError) as error:
        raise WeightsError(
            f"{path}: pretrained_cfg says how the pictures must be, but not in words that are known ({error}); mend it "
            "or take it away"
        ) from None


def _from_config(config: dict[str, Any], source: str) -> Shown:
    """From timm's words: input_size, crop_pct, crop_mode, interpolation, mean, std."""
    size, crop = int(config["input_size"][-1]), float(config.get("crop_pct") or 0.875)
    mean, std = (tuple(float(v) for v in config[key]) for key in ("mean", "std"))
    mode, interpolation = config.get("crop_mode"), str(config.get("interpolation", "bicubic"))
    if mode not in _FITS:
        raise ValueError(f'crop_mode "{mode}"')
    if not (1 <= size <= 10_000 and 0.05 <= crop <= 1 and mean and len(mean) == len(std)):
        raise ValueError(f"input_size {size}, crop_pct {crop}, mean {mean}, std {std}")
    if not all(math.isfinite(m) and math.isfinite(s) and s > 0 for m, s in zip(mean, std, strict=True)):
        raise ValueError(f"mean {mean}, std {std}")
    if interpolation not in _FILTERS:
        source += f"; {interpolation} is replaced by bicubic"
        interpolation = "bicubic"
    return Shown(size, crop, _FITS[mode], interpolation, mean, std, source)


def named_or(name: str | None, shown: Shown) -> Shown:
    """The same with the mean and deviation of that name, where one is given.

    Raises:
        UserError: there is no such normalisation.
    """
    if name is None:
        return shown
    if name not in NORMALIZATIONS:
        raise UserError(f'normalization "{name}": it is one of {", ".join(NORMALIZATIONS)}')
    mean, std = normalization(name, 3)
    return replace(shown, mean=mean, std=std)
