"""Pictures for the report: a training batch as the network saw it."""

from __future__ import annotations

import io

import torch
from PIL import Image
from torch import Tensor

from convnext.data.feed.loader import TrainPictures
from convnext.data.feed.preprocessing import Preprocessing
from convnext.data.pictures.transforms import mix_seed
from convnext.data.shards.read import glimpse
from convnext.data.sources.dataset import Dataset
from convnext.recipe import Recipe
from convnext.run.folder import RunFolder, write_bytes

COLUMNS, SHOWN, GAP = 6, 12, 4


def save_batch(
    run: RunFolder, pictures: TrainPictures, preprocessing: Preprocessing, recipe: Recipe, dataset: Dataset
) -> None:
    """Writes pictures/batch.jpg, a grid of twelve augmented training pictures, and batch.json, their classes."""
    shown, labels = [], []
    for index in glimpse(pictures.samples, SHOWN):
        picture, found, _, _ = pictures[(index, mix_seed(recipe.train.seed, 0, index), int(recipe.data.size))]
        if picture is None:
            continue
        shown.append(as_picture(picture, preprocessing))
        labels.append(dataset.meaning.caption(found))
    if not shown:
        return
    side = shown[0].shape[-1]
    rows = -(-len(shown) // COLUMNS)
    grid = Image.new("RGB", (COLUMNS * (side + GAP) - GAP, rows * (side + GAP) - GAP), "white")
    for place, picture in enumerate(shown):
        at = (place % COLUMNS * (side + GAP), place // COLUMNS * (side + GAP))
        grid.paste(to_image(picture), at)
    write_bytes(run.folder("pictures") / "batch.jpg", jpeg(grid))
    run.write_json("batch.json", {"labels": labels})


def as_picture(picture: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Undoes the normalisation of a float picture; a uint8 one is given back as it is."""
    if picture.dtype == torch.uint8:
        return picture
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    return (picture.float() * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8)


def to_image(picture: Tensor) -> Image.Image:
    """uint8 (C, H, W) of 1, 3 or 4 channels -> an RGB picture."""
    array = picture.permute(1, 2, 0).contiguous().numpy()  # (C, H, W) -> (H, W, C)
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).convert("RGB")


def jpeg(picture: Image.Image, quality: int = 88) -> bytes:
    """A picture as JPEG bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
