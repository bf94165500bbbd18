"""The command about speed: benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from convnext.cli.parts import Device, Json, print_out

benches = typer.Typer()


@benches.command()
def benchmark(
    context: typer.Context,
    models: Annotated[list[str] | None, typer.Argument(help="Models; default: convnext_tiny.")] = None,
    preset: Annotated[
        str,
        typer.Option(
            help="readme: everybody; paper: Table 12, Swin beside ConvNeXt; size, batch: how cost grows; memory."
        ),
    ] = "",
    task: Annotated[str, typer.Option(help="infer, train, or both with a comma.")] = "infer",
    batch: Annotated[str, typer.Option(help="Batch sizes, with commas.")] = "16",
    size: Annotated[str, typer.Option(help="Sides of the pictures, pixels, with commas.")] = "224",
    precision: Annotated[
        str, typer.Option(help="fp32, bf16, tf32 (NVIDIA), with commas; auto: what the machine is made for.")
    ] = "auto",
    code: Annotated[str, typer.Option(help="ours, timm, torchvision, transformers, with commas.")] = "ours,timm",
    engine: Annotated[
        str, typer.Option(help="eager, optimized (ours), checkpointing (ours), compile, onnxruntime, openvino.")
    ] = "eager,optimized",
    rounds: Annotated[int, typer.Option(help="Turns of each side.", min=1)] = 5,
    memory: Annotated[bool, typer.Option(help="Measure the peak memory too.")] = True,
    out: Annotated[Path | None, typer.Option(help="Folder for benchmark.json, .md and .png.")] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> int:
    """Measure speed and memory, ours beside the peers in one run; --preset readme has all of them."""
    from convnext.bench import growth, presets, published
    from convnext.bench.benchmark import run
    from convnext.bench.tables import make_folder, to_markdown, write
    from convnext.run.environment import find_device
    from convnext.run.folder import write_text

    place = find_device(device)
    if preset:
        presets.refuse_beside(preset, [name for name in presets.OPTIONS if _given(context, name)])
        cases, contestants = presets.named(preset, models or [], place)
    else:
        cases, contestants = presets.chosen(
            models or ["convnext_tiny"], tasks=task, batches=batch, sizes=size, precisions=precision, codes=code,
            engines=engine, device=place,
        )  # fmt: skip
    if out is not None:
        make_folder(out)
    report = run(cases, contestants, rounds, place, memory=memory)
    axis = presets.GROWS.get(preset, "")
    if out is not None:
        write(report, out, axis)
    text = growth.to_markdown(report, axis) if axis else to_markdown(report)
    if preset == "paper":
        text = published.to_markdown(report)
        if out is not None:
            write_text(out / "paper.md", text + "\n")
    print_out(json.dumps(report.to_json(), indent=1) if as_json else text)
    return 0


def _given(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
