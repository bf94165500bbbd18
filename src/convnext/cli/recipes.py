"""The commands about recipes: list, show, check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from convnext.cli.parts import Json, print_out

recipes = typer.Typer(help="List, show and check recipes.", no_args_is_help=True)


@recipes.command("list")
def list_recipes(as_json: Json = False) -> int:
    """List the recipes that come with the package; `convnext train DATA NAME` takes one."""
    from convnext.train.recipes import list_shipped

    rows = list_shipped()
    text = "\n".join(f"{row['name']:<38}{row['title']}" for row in rows)
    print_out(json.dumps(rows, indent=1) if as_json else text)
    return 0


@recipes.command()
def show(
    settings: Annotated[list[str], typer.Argument(metavar="RECIPE [KEY=VALUE]...", help="A file or a shipped name.")],
    pictures: Annotated[int, typer.Option(help="Training pictures, for the schedule.", min=1)] = 1_281_167,
    as_json: Json = False,
) -> int:
    """Print a recipe, its parameter groups with their share of the rate, and its schedule in steps."""
    from convnext.config import load_recipe, split_settings
    from convnext.train.recipes import describe, groups_of

    file, overrides = split_settings(settings)
    recipe = load_recipe(file, overrides)
    print_out(json.dumps(groups_of(recipe), indent=1) if as_json else describe(recipe, pictures))
    return 0


@recipes.command()
def check(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE]... [KEY=VALUE]...", help="Files or shipped names; default: all shipped."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Check against this data and this machine too.")] = None,
) -> int:
    """Check recipes: every key, the network with its groups, and with --data what `train` would choose and repair."""
    from convnext.train.recipes import check_all

    names = [word for word in words or [] if "=" not in word]
    found = check_all(names, data, [word for word in words or [] if "=" in word])
    for row in found:
        print_out(f"{'ok  ' if row.good else 'BAD '} {row.name}" + "".join(f"\n       {line}" for line in row.said))
    return 0 if all(row.good for row in found) else 2
