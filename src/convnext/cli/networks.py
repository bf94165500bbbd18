"""The commands about networks and weights: models, summary, roadmap, convert, weights, figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from convnext.cli.parts import Json, print_out

networks = typer.Typer()

Commercial = Annotated[bool, typer.Option("--commercial", help="Refuse weights that forbid commercial use.")]


@networks.command()
def models(
    pattern: Annotated[str, typer.Argument(help="A name, a part of it, or a pattern such as '*tiny*'.")] = "*",
    as_json: Json = False,
) -> int:
    """List the models: parameters, multiply-accumulates, the paper's figures, published weights."""
    from convnext.nn.listing import list_all, to_text

    rows = list_all(pattern)
    print_out(json.dumps([row.to_json() for row in rows], indent=1) if as_json else to_text(rows))
    return 0


@networks.command()
def summary(
    model: Annotated[str, typer.Argument(help="A name of `convnext models`, or timm:NAME.")],
    size: Annotated[int | None, typer.Option(help="Picture size, pixels.", min=1)] = None,
    as_json: Json = False,
) -> int:
    """Print the layer table of a model: output, parameters, multiply-accumulates, activations."""
    from convnext.nn.count import summarize, summary_text

    found = summarize(model, size)
    print_out(json.dumps(found.to_json(), indent=1) if as_json else summary_text(found))
    return 0


@networks.command()
def roadmap(
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="With --train: the one recipe.")
    ] = None,
    regime: Annotated[str, typer.Option(help="resnet50 or resnet200.")] = "resnet50",
    scale: Annotated[float, typer.Option(help="Below 1: a shrunken road, widths times this, depths a third.")] = 1.0,
    train: Annotated[Path | None, typer.Option(help="Train the steps on this folder or table.")] = None,
    steps: Annotated[str, typer.Option(help="Steps to train, comma-separated; default: all adopted ones.")] = "",
    seeds: Annotated[int, typer.Option(help="How many seeds each.", min=1)] = 3,
    out: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs/roadmap"),
    figure: Annotated[Path | None, typer.Option(help="Draw the paper's Figure 2 into this file.")] = None,
    as_json: Json = False,
) -> int:
    """Walk from a ResNet to a ConvNeXt, one change at a time; train the steps with --train DATA."""
    from convnext.config import split_settings
    from convnext.errors import Stopped, UserError
    from convnext.run.messages import tell
    from convnext.study import roadmap as study

    if settings and train is None:
        raise UserError(f'"{settings[0]}": a recipe and settings belong to --train DATA')
    if figure is not None:
        from convnext.report.plots import check_suffix

        check_suffix(figure)
    file, overrides = split_settings(settings or [])
    chosen = study.choose_steps(regime, steps, scale)
    road = study.tabulate(regime, scale)
    if train is not None:
        from convnext.study.roadmap_training import make_recipe, train_steps

        try:
            train_steps(train, road, chosen, seeds, out, make_recipe(file, overrides))
        except (Stopped, KeyboardInterrupt):
            tell("go on with the same command; what is finished stays")
            raise
    else:
        study.add_measured(road, out)
    if figure is not None:
        from convnext.report.plots import draw_roadmap

        draw_roadmap(road, figure)
    print_out(json.dumps(road.to_json(), indent=1) if as_json else study.to_text(road))
    return 0


@networks.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="A weight file of any known format, a folder of transformers, or a run."),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write: .safetensors, or .pth, .pt, .bin.")],
    to: Annotated[str, typer.Option(help="official, timm, torchvision, transformers, mmpretrain or convnext.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")] = False,
) -> int:
    """Write weights in another code's format; the format of IN is recognised."""
    from convnext.run.convert import convert as convert_weights

    print_out(str(convert_weights(source, target, to, overwrite=overwrite)))
    return 0


@networks.command()
def figure(
    number: Annotated[int, typer.Argument(help="1: accuracy against its time; 2: the roadmap.")],
    out: Annotated[Path | None, typer.Option(help="The file: .png, .svg or .pdf.")] = None,
    regime: Annotated[str, typer.Option(help="For figure 2: resnet50 or resnet200.")] = "resnet50",
) -> int:
    """Draw a figure of the paper from its published numbers."""
    from convnext.errors import UserError
    from convnext.report.plots import draw_figure1, draw_roadmap
    from convnext.study.roadmap import tabulate

    if number not in (1, 2):
        raise UserError(f"figure {number} is not drawn here; there are 1 and 2")
    path = out or Path(f"figure{number}.png")
    print_out(str(draw_figure1(path) if number == 1 else draw_roadmap(tabulate(regime), path)))
    return 0


weights = typer.Typer(help="Published weights: what there is, and fetching it.", no_args_is_help=True)
networks.add_typer(weights, name="weights")


@weights.command("list")
def weights_list(
    pattern: Annotated[str, typer.Argument(help="A model, an entry, or a part of it.")] = "*",
    commercial: Commercial = False,
    as_json: Json = False,
) -> int:
    """List published weights with licence, published accuracy and preprocessing."""
    from convnext.nn.weights.registry import list_weights, to_text

    rows = list_weights(pattern, commercial=commercial)
    print_out(json.dumps(rows, indent=1) if as_json else to_text(rows))
    return 0


@weights.command("get")
def weights_get(
    entry: Annotated[str, typer.Argument(help="An entry of `convnext weights list`, or a model for its first one.")],
    commercial: Commercial = False,
) -> int:
    """Fetch published weights into the cache and print where they are."""
    from convnext.nn.weights.registry import get_weights

    print_out(str(get_weights(entry, commercial=commercial)))
    return 0
