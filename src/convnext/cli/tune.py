"""The command that searches for the best recipe: tune."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated

import typer

from convnext.cli.parts import print_out
from convnext.data.names import name_of

tuning = typer.Typer()


@tuning.command()
def tune(
    data: Annotated[Path, typer.Argument(help="Image folder, CSV table, or shards.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="What is not varied.")
    ] = None,
    space: Annotated[str, typer.Option(help="A TOML file, or general, coco, ade20k.")] = "general",
    trials: Annotated[int | None, typer.Option(help="How many in all; without, until the time is over.", min=1)] = None,
    minutes: Annotated[float | None, typer.Option(help="No new trial after so long.", min=0.0)] = None,
    sampler: Annotated[str, typer.Option(help="tpe, cmaes, nsga2, random or grid.")] = "tpe",
    pruner: Annotated[str, typer.Option(help="median, hyperband or none: stops hopeless trials.")] = "median",
    repeats: Annotated[int, typer.Option("--repeat", help="The best again with so many other seeds.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Of the sampler.", min=0, max=2000)] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the study; by default runs/NAME-OF-DATA-tune.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on only: refuse to begin a new study.")] = False,
) -> int:
    """Search for the recipe with the best validation result; the same command again goes on, or joins in.

    Example: `convnext tune photos scratch/small --space general --trials 30 train.epochs=20`.
    """
    from convnext.config import load_recipe, split_settings
    from convnext.errors import UserError
    from convnext.report.tune_page import write_tune_report
    from convnext.run.record import say
    from convnext.study.space import find_space, load_space, without
    from convnext.study.subject import Search
    from convnext.study.trials import best_of, score_of_study
    from convnext.study.tune import load_study, open_study, search, trainer, with_data
    from convnext.study.tune_result import BEST, in_doubt, read_result, repeat

    if trials is None and minutes is None and sampler != "grid":
        raise UserError("tune needs an end: --trials N, or --minutes M, or both")
    file, overrides = split_settings(settings or [])
    recipe = load_recipe(file, overrides)
    place = out or Path("runs") / f"{name_of(data)}-tune"
    if resume:
        load_study(place)
    knobs = without(load_space(find_space(space), recipe), overrides)
    what = with_data(Search(data, recipe, knobs, place, sampler, pruner, seed))
    try:
        rows = search(what, trials=trials, minutes=minutes)
        again = repeat(open_study(what), what, repeats, trainer(what)) if repeats else []
    except KeyboardInterrupt:
        command = shlex.join(["convnext", *sys.argv[1:]])
        say(f"the study in {place} is saved; go on with the same command: {command}")
        raise
    score = score_of_study(load_study(place))
    best = best_of(rows, score)
    if best is None:
        raise UserError(f"no trial ended with a value; {place}/tune.json has the reasons")
    print_out(f"best of {sum(row['counts'] for row in rows)} trials: trial {best['number']}, validation "
              f"{score.text(best['value'], 2)}")  # fmt: skip
    for line in in_doubt(best, read_result(place)):
        print_out(f"  {line}")
    for key, value in best["params"].items():
        print_out(f"  {key} = {value}")
    if again:
        spread = f" ± {score.number(stdev(again), 2)}" if len(again) > 1 else ""
        expected = f"{score.number(mean(again), 2)}{spread} {score.unit}".rstrip()
        print_out(f"the same with {len(again)} other seeds: {expected}; expect that")
    print_out(f"recipe: {place / BEST}")
    print_out(f"report: {write_tune_report(place)}")
    return 0
