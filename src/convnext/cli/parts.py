"""What all commands share: how a result is printed, and the options that several have."""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer

from convnext.data.names import harmless
from convnext.run.messages import hang_up

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto for the best there is.")]


def print_out(text: str) -> None:
    """Prints a result, in which no name commands a terminal; a reader that has gone, as `head` does, is no error."""
    print_as_is(harmless(text))


def print_as_is(text: str) -> None:
    """The same for a table that another program reads, whose names must stay what they are."""
    try:
        print(text, flush=True)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):  # EIO: the terminal is closed
            raise
        hang_up(sys.stdout)
