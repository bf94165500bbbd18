"""The command line: each subcommand parses, calls one function and prints what it gives. No logic lives here."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from convnext.cli.bench import benches
from convnext.cli.data import data as data_commands
from convnext.cli.networks import networks
from convnext.cli.parts import Device, Json, print_as_is, print_out
from convnext.cli.recipes import recipes
from convnext.cli.tune import tuning
from convnext.data.names import name_of

app = typer.Typer(
    name="convnext",
    help="ConvNeXt: from a folder of pictures to a trained, honestly judged, reported model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from convnext import __version__

        print(f"convnext {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


@app.command()
def train(
    data: Annotated[Path | None, typer.Argument(help="Image folder or CSV table; not needed with --resume.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="A recipe.toml, and settings such as train.epochs=50."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder to write; by default runs/NAME-OF-DATA.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and time 3 steps.")] = False,
    folds: Annotated[int, typer.Option(help="Train so many folds: every picture is judged unseen once.", min=0)] = 0,
    gpus: Annotated[int, typer.Option(help="Processes a machine, one a GPU; 0: this process alone.", min=0)] = 0,
    nodes: Annotated[int, typer.Option(help="Machines, for --slurm.", min=1)] = 1,
    slurm: Annotated[
        list[str] | None, typer.Option(help="Submit to SLURM: partition=NAME, time=MINUTES, ...; may be repeated.")
    ] = None,
) -> int:
    """Train a model on a folder of pictures or a CSV table, judge it, and write a report.

    Everything left open is chosen for the data and this machine, and said with the reason.
    Examples: `convnext train photos --out runs/photos`, `convnext train photos train.minutes=10 weights=none`.
    """
    from convnext.cli.folds import has_folds, run_folds
    from convnext.config import load_recipe, split_settings
    from convnext.errors import Stopped, UserError
    from convnext.report.advice import advise
    from convnext.report.files import read_run
    from convnext.report.finish import finish_run
    from convnext.report.text import describe_advice, describe_result
    from convnext.run.environment import is_first_process
    from convnext.run.folder import resuming
    from convnext.run.record import say
    from convnext.train.resume import resume_run
    from convnext.train.train import preview_run, train_run

    if folds or (resume and has_folds(out or data)):
        alone = not (gpus or nodes > 1 or slurm or dry_run)
        return run_folds(data, settings or [], out, folds, resume=resume, overwrite=overwrite, alone=alone)
    if resume:
        if data is not None and "=" in str(data) and not data.exists():  # the first word after the options
            data, settings = None, [str(data), *(settings or [])]
        file, changes = split_settings(settings or [])
        if (place := out or data) is None or file or overwrite or dry_run:
            raise UserError(
                "--resume takes the run folder, and settings that change from here on: "
                "convnext train --resume --out RUN [train.epochs=60]"
            )
        begin = partial(resume_run, place, data if out else None, changes)
    else:
        if data is None:
            raise UserError("train needs DATA: a folder with one folder of pictures a class, or a CSV table")
        recipe = load_recipe(*split_settings(settings or []))
        if dry_run:
            if is_first_process():
                print_out(preview_run(data, recipe, gpus=max(1, gpus), nodes=nodes))
            return 0
        place = out or Path("runs") / name_of(data)
        begin = partial(train_run, data, recipe, place, overwrite=overwrite)
    if gpus or nodes > 1 or slurm:
        from convnext.train.launch import launch

        return launch(sys.argv[1:], nodes=nodes, gpus=gpus, slurm=slurm or [], out=place)
    try:
        run = begin()
    except Stopped as stopped:
        if is_first_process():
            say(f"go on with: {resuming(Path(str(stopped)))}")
        raise
    if not is_first_process():
        return 0
    result, page = finish_run(run.path)
    print_out(describe_result(result))
    print_out(describe_advice(advise(read_run(run.path))))
    print_out(f"report: {page}")
    return 0


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder, or a weight file together with --model.")],
    data: Annotated[
        Path | None, typer.Argument(help="Other data with the same classes; default: the run's own.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Argument(help="What its table's columns are called, as data.label_column=class.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The network of a bare weight file.")] = None,
    split: Annotated[
        str | None, typer.Option(help="train, val or test; default: test, else val; all of other data.")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="best or last; auto: best on the run's test split, last on its train and val.")
    ] = "auto",
    size: Annotated[
        int | None,
        typer.Option(help="Picture size for a bare weight file, pixels; default: as published.", min=1),
    ] = None,
    normalization: Annotated[
        str | None, typer.Option(help="imagenet, unit or symmetric, for a bare weight file; default: as published.")
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=SHARE", help="Exit code 3 where it is lower, as top1=0.9; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Judge a run or a weight file: accuracy, F1 and calibration with 95 % intervals, and the confusion counts."""
    from convnext.errors import UserError
    from convnext.evaluate.bounds import read_bounds, shortfalls
    from convnext.evaluate.evaluate import evaluate_run, evaluate_weights
    from convnext.nn.weights.places import is_weight_file
    from convnext.report.advice import advise
    from convnext.report.files import for_result
    from convnext.report.text import describe_advice, describe_result
    from convnext.run.messages import tell

    bounds = read_bounds(fail_under or [])
    if is_weight_file(run):
        if data is None:
            raise UserError(f"{run} is a weight file: give DATA to judge it on")
        judged = evaluate_weights(
            run, model, data, size=size, normalization=normalization, split=split, settings=settings or ()
        )
    elif model or size or normalization:
        raise UserError("--model, --size and --normalization are for bare weight files; a run knows its own")
    else:
        judged = evaluate_run(run, data, split=split, which=weights, settings=settings or ())
    short = shortfalls(judged.result, bounds)
    if as_json:
        print_out(json.dumps(judged.result, indent=1, ensure_ascii=False))
    else:
        print_out(describe_result(judged.result))
        print_out(describe_advice(advise(for_result(run, judged.result), own=data is None)))
    for text in short:
        tell(f"convnext: {text}")
    return 3 if short else 0


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Run folders; with --data model files too.")],
    data: Annotated[Path | None, typer.Option(help="Judge all of them on this data now.")] = None,
    split: Annotated[str | None, typer.Option(help="Judge all of them on this split now: train, val or test.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write the comparison to this HTML file too.")] = None,
    as_json: Json = False,
) -> int:
    """Which run is better, on the pictures that all judged: paired bootstrap and exact McNemar test.

    Each is held against the first one; with several the p values are corrected by Holm's method.
    Example: `convnext compare runs/photos runs/photos-again`.
    """
    from convnext.evaluate.compare import compare as compare_runs
    from convnext.run.record import say

    found = compare_runs(*runs, data=data, split=split)
    print_out(json.dumps(found.to_json(), indent=1, ensure_ascii=False) if as_json else found.to_text())
    if page is not None:
        from convnext.report.compare_page import write_comparison

        say(f"page: {write_comparison(found, page)}")
    return 0


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A run folder, a model file, or a bare weight file with --model.")],
    files: Annotated[list[str], typer.Argument(help="Files, folders or patterns.")],
    top: Annotated[int, typer.Option(help="How many names for each picture.", min=1)] = 5,
    out: Annotated[Path | None, typer.Option(help="Write to this file instead of standard output.")] = None,
    device: Device = "cpu",
    model: Annotated[str | None, typer.Option(help="The network of a bare weight file.")] = None,
    classes: Annotated[
        Path | None,
        typer.Option(help="Names for a bare file's outputs: a line each, JSON, a run, or a folder of class folders."),
    ] = None,
    size: Annotated[int | None, typer.Option(help="For a bare weight file: picture size, pixels.", min=1)] = None,
    normalization: Annotated[
        str | None, typer.Option(help="For a bare weight file: imagenet, unit or symmetric.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Name pictures: CSV (or JSON) with the most probable classes; files that cannot be read are listed."""
    from convnext.errors import DataError
    from convnext.evaluate.predict import Bare, to_csv, to_json
    from convnext.evaluate.predict import predict as predict_files
    from convnext.run.folder import write_output
    from convnext.run.messages import tell

    bare = None
    if model or classes or size or normalization:
        from convnext.run.class_names import read_classes

        bare = Bare(model, read_classes(classes) if classes else None, size, normalization)
    found = predict_files(run, files, top=top, device=device, bare=bare)
    text = to_json(found) if as_json or (out and out.suffix == ".json") else to_csv(found)
    if out is None:
        (print_out if sys.stdout.isatty() or text.startswith("{") else print_as_is)(text.rstrip("\n"))
    else:
        if any(p.path is not None and out.resolve() == p.path.resolve() for p in found):
            raise DataError(f"--out {out} is one of the pictures; give the table a name of its own")
        write_output(out, text.encode("utf-8", "backslashreplace"))
    for p in found:
        if p.error:
            tell(f"not read: {p.error}")
    if all(p.error for p in found):
        raise DataError("none of the files can be read as a picture")
    return 2 if any(p.missing for p in found) else 0


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> int:
    """Write RUN/report.html: one file that opens anywhere, offline."""
    from convnext.report.page import write_report

    print_out(str(write_report(run)))
    return 0


@app.command()
def doctor(
    data: Annotated[Path, typer.Argument(help="Image folder or CSV table.")],
    settings: Annotated[list[str] | None, typer.Argument(help="A recipe and key=value settings, as for train.")] = None,
    path_column: Annotated[str | None, typer.Option(help="CSV column of the files; as data.path_column=.")] = None,
    label_column: Annotated[str | None, typer.Option(help="CSV column of the classes; as data.label_column=.")] = None,
    split_column: Annotated[str | None, typer.Option(help="CSV column of the splits; as data.split_column=.")] = None,
    as_json: Json = False,
) -> int:
    """Check a data set before anyone trains on it; exit code 2 when something must be mended first."""
    from convnext.config import load_recipe, split_settings
    from convnext.data.doctor.diagnose import examine
    from convnext.data.sources.reading import Reading
    from convnext.run.record import progress
    from convnext.tasks.table import decided, targets_of

    options = {"path_column": path_column, "label_column": label_column, "split_column": split_column}
    words = [f"data.{key}={value}" for key, value in options.items() if value is not None]
    recipe = decided(load_recipe(*split_settings([*(settings or []), *words])), data)
    with progress("checking pictures", 1) as bar:
        found = examine(data, Reading.of(recipe.data), targets_of(recipe), bar.update)
    print_out(json.dumps(found.to_json(), indent=1, ensure_ascii=False) if as_json else found.to_text())
    return 0 if found.ok else 2


app.add_typer(networks)
app.add_typer(benches)
app.add_typer(recipes, name="recipe")
app.add_typer(data_commands, name="data")
app.add_typer(tuning)

samples = typer.Typer(help="Write example data sets to disk.", no_args_is_help=True)
app.add_typer(samples, name="sample")


@samples.command("elpv")
def sample_elpv(out: Annotated[Path, typer.Argument(help="Folder to write.")]) -> int:
    """2,624 photographs of solar cells, functional or defective (CC BY-NC-SA 4.0), from the package elpv-dataset."""
    from convnext.data.samples.elpv import write_elpv
    from convnext.run.record import progress

    with progress("writing pictures", 1) as bar:
        print_out(str(write_elpv(out, progress=bar.update)))
    return 0
