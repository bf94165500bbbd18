"""What all commands share: how a result is printed, and the options that several have."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto for the best there is.")]


def print_out(text: str) -> None:
    """Prints a result; a reader that has gone away, as `head` does, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
