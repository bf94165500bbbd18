"""Pictures that a run keeps for its report: those of which the model was most wrong, as its task sees it."""

from __future__ import annotations

from typing import Any

from PIL import Image

from convnext.data.pictures.decode import read_picture
from convnext.data.pictures.levels import Range
from convnext.errors import PictureError
from convnext.evaluate.verdict import Judged
from convnext.run.folder import RunFolder, write_bytes
from convnext.run.sample import jpeg

KEPT = 60
"""Mistakes kept in all."""
THUMBNAIL = 400
"""Longest side of a kept picture, pixels: large enough to be looked at, small enough for a page with all of them."""


def keep_mistakes(run: RunFolder, judged: Judged, value_range: Range | None) -> None:
    """Saves mistakes.json, and small pictures of the mistakes, in the order that the task gives them.

    `value_range` is the data set's, where its files hold other values than 0 to 255.
    """
    rows: list[dict[str, Any]] = []
    for position, row in judged.task.worst(judged.predictions.records, KEPT):
        sample = judged.samples[int(judged.predictions.indices[position])]
        name = f"mistake-{len(rows):02d}.jpg"
        try:
            thumbnail = read_picture(sample.path, at_least=THUMBNAIL, value_range=value_range)
        except PictureError:
            continue
        thumbnail.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        write_bytes(run.folder("pictures") / name, jpeg(thumbnail))
        rows.append({"path": str(sample.path), **row, "picture": f"pictures/{name}"})
    run.write_json("mistakes.json", rows)
