"""`python -m convnext`, and the command `convnext`: runs a subcommand and turns errors into exit codes.

0: done. 2: something the user can put right. 1: a fault of this program. 3: a model below the bound that
`evaluate --fail-under` was given. 130: stopped by Ctrl-C, SIGTERM or SIGHUP, state saved.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TextIO, cast


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    from convnext.run.cores import CORES
    from convnext.run.memory import keep_memory
    from convnext.run.messages import Listener
    from convnext.run.signals import as_interrupts

    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123
        elif hasattr(stream, "reconfigure"):  # a name that is not UTF-8 is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    keep_memory()
    CORES.note()
    before, sys.stderr = sys.stderr, cast("TextIO", Listener(sys.stderr))
    try:
        with as_interrupts():
            return _run(arguments)
    finally:
        sys.stderr.flush()
        sys.stderr = before


def _run(arguments: list[str] | None) -> int:
    from convnext.cli.app import app
    from convnext.errors import Silenced, UserError
    from convnext.run.environment import is_first_process
    from convnext.run.messages import tell

    if (after := _empty_name(sys.argv[1:] if arguments is None else arguments)) is not None:
        where = f" after {after}" if after else ""
        tell(f'convnext: a name{where} is empty (""); is a variable not set?')
        return 2
    try:
        code = app(args=arguments, prog_name="convnext", standalone_mode=False)
        if code == _STOPPED:  # typer makes this of a KeyboardInterrupt
            raise KeyboardInterrupt
        return int(code) if isinstance(code, int) else 0
    except UserError as error:
        if is_first_process() and not isinstance(error, Silenced):
            tell(f"convnext: {error}")
        return 2
    except KeyboardInterrupt:
        if is_first_process():
            tell("convnext: stopped")
        return _STOPPED
    except OSError as error:  # the system's word on a file: no permission, a name too long, a disk gone read-only
        if error.errno == errno.ENOSPC:
            tell(f"convnext: {error.filename or 'the output'} cannot be written: the disk is full")
            return 2
        if error.errno == errno.ENOMEM:
            tell(f"convnext: {_NO_MEMORY}")
            return 2
        if error.filename is None:
            return _fault(error)
        tell(f"convnext: {error.filename}: {(error.strerror or str(error)).lower()}")
        return 2
    except MemoryError as error:
        tell(f"convnext: {_NO_MEMORY}{f' ({error})' if str(error) else ''}")
        return 2
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            tell(str(error))
            return 2
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # a click usage error
            said = error.format_message().rstrip(".")
            hint = "`convnext --help` lists the commands"
            if "no such option" in said.lower():
                hint = "settings of a run are written key=value, as train.epochs=50"
            tell(f"convnext: {said}; {hint}")
            return 2
        if "can't allocate memory" in str(error) or type(error).__name__ == "OutOfMemoryError":  # torch's words
            tell(f"convnext: {_NO_MEMORY} ({(str(error).splitlines() or [''])[0]})")
            return 2
        return _fault(error)


_STOPPED = 130
_NO_MEMORY = (
    "the memory is full: close other programs or give the container more, or take less at once (train.batch, "
    "train.micro_batch, data.size, data.workers, data.cache_gb)"
)


def _empty_name(arguments: list[str]) -> str | None:
    """The word before an empty argument, which would stand for the folder that one is in; None where there is none.

    Names of columns may be empty.
    """
    for before, word in zip(["", *arguments], arguments, strict=False):
        if word == "" and not before.endswith("-column"):
            return before
    return None


def _fault(error: Exception) -> int:
    import traceback

    from convnext.run.messages import tell

    tell("".join(traceback.format_exception(error)).rstrip("\n"))
    tell(f"convnext: a fault of this program, not yours ({type(error).__name__}); please report it")
    return 1


if __name__ == "__main__":
    sys.exit(main())
