"""The commands about data sets on disk: shard, index, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convnext.cli.parts import print_out

data = typer.Typer(help="Write data sets as tar shards, and check them.", no_args_is_help=True)


@data.command()
def shard(
    source: Annotated[Path, typer.Argument(metavar="DATA", help="Image folder, CSV table, or tars.")],
    out: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="A recipe and data.key=value settings: how DATA is read, as for train.")
    ] = None,
    shard_size: Annotated[int, typer.Option(help="Megabytes of a tar, at most about.", min=1)] = 500,
    side: Annotated[int, typer.Option(help="Reduce larger pictures to this short side, pixels; 0: as is.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Of the order in which pictures are written.", min=0)] = 0,
    val: Annotated[float, typer.Option(help="Of tars of classes: share for validation.", min=0.0, max=0.5)] = 0.01,
) -> int:
    """Write a data set as tar shards (webdataset's layout); `train` takes the folder, or its address on a server.

    DATA may also be a folder of CLASS.tar files, or one tar of them, as ImageNet-22K comes: they are not unpacked.
    """
    from tempfile import TemporaryDirectory

    from convnext.config import load_recipe, split_settings
    from convnext.data.pictures.tarball import is_tars
    from convnext.data.shards.writer import write_shards
    from convnext.data.sources.dataset import Dataset
    from convnext.data.sources.reading import Reading
    from convnext.errors import DataError, RecipeError
    from convnext.report.commands import quoted
    from convnext.run.reading import read_data
    from convnext.run.record import progress, say
    from convnext.tasks.classify.tars import read_tars
    from convnext.tasks.table import decided, targets_of

    if idle := [word for word in settings or () if "=" in word and not word.strip().startswith("data.")]:
        raise RecipeError(f"{idle[0]} changes nothing in shards; settings say how DATA is read: data.path_column=")
    recipe = load_recipe(*split_settings(settings or []))
    with TemporaryDirectory(prefix="convnext-") as index:
        dataset: Dataset
        if is_tars(source):
            if settings:
                raise RecipeError(f"{source} holds tars: they are read as they are (--val), without {settings[0]}")
            with progress("listing", 1, "tars") as bar:
                dataset = read_tars(source.expanduser().absolute(), val, Path(index), bar.update)
        else:
            recipe = decided(recipe, source)
            if why := targets_of(recipe).unpackable:
                raise DataError(f"{source}: {why}")
            dataset = read_data(source, Reading.of(recipe.data), targets_of(recipe))
        with progress("writing", 1) as bar:
            done = write_shards(dataset, out, megabytes=shard_size, seed=seed, side=side, progress=bar.update)
    for text in done.left_out[:10]:
        say(f"left out: {text}")
    lost = len(done.left_out) + len(dataset.broken)
    without = f" ({lost:,} left out)" if lost else ""
    print_out(f"{done.pictures:,} pictures in {done.tars} tars{without}: convnext train {quoted(out)}")
    return 0


@data.command()
def index(folder: Annotated[Path, typer.Argument(help="A folder of tars in webdataset's layout.")]) -> int:
    """Write an index beside tars that others wrote, for a folder that goes to a server or to many machines.

    `train` makes one by itself, in its cache, where there is none.
    """
    from convnext.data.shards.scan import index_tars
    from convnext.report.commands import quoted
    from convnext.run.record import progress

    with progress("listing", 1, "tars") as bar:
        count = index_tars(folder, bar.update)
    print_out(f"{count:,} pictures: convnext train {quoted(folder)}")
    return 0


@data.command()
def check(folder: Annotated[Path, typer.Argument(help="A folder of shards.")]) -> int:
    """Read every tar and compare it with the hash that was taken when it was written; exit code 2 when one differs."""
    from convnext.data.names import address_of
    from convnext.data.shards.read import check_tars, is_sharded, list_shards
    from convnext.data.shards.writer import verify
    from convnext.errors import UserError
    from convnext.run.record import progress

    if address_of(folder):
        raise UserError("data check reads tars on disk; from a server each is compared with its hash as it is fetched")
    if not is_sharded(folder):
        raise UserError(f"{folder} holds no shards with their index; `convnext data shard DATA {folder}` writes some")
    check_tars(folder)
    shards = list_shards(folder)
    with progress("reading", len(shards), "tars") as bar:
        wrong = verify(folder, shards, bar.update)
    if wrong:
        print_out("\n".join(wrong))
        return 2
    unknown = sum(not shard.sha256 for shard in shards)
    more = f"; of {unknown} no hash was ever taken, only their length is known" if unknown else ""
    print_out(f"{len(shards)} tars are as they were written{more}")
    return 0
