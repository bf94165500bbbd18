"""The exceptions a user can meet. Each message gives the value found, the rule it breaks and the remedy."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can put right. The command prints the message without a traceback and exits with 2.

    Examples:
        >>> import convnext
        >>> try:
        ...     convnext.create_model("convnext_tini")
        ... except convnext.UserError as error:
        ...     print("Did you mean" in str(error))
        True
    """


class DataError(UserError):
    """The data cannot be used as it is: a missing folder, a single class, a table without the column."""


class SourceLost(DataError):
    """Data that was there is not to be had any more, as when a server is down: training stops and can go on later."""

    def __init__(self, text: str) -> None:
        super().__init__(text.rpartition("SourceLost: ")[2].strip())  # torch hands it on with a loader's traceback


class PictureError(UserError):
    """One picture cannot be read. Commands that go over many pictures collect these instead of stopping."""


class RecipeError(UserError):
    """The recipe has mistakes; the message lists all of them, each with its key."""


class WeightsError(UserError):
    """A weight file cannot be used: damaged, of another architecture, or not reachable."""


class RunError(UserError):
    """A run folder cannot be used: it holds another run, it is incomplete, or it cannot be written."""


class MemoryFull(RunError):
    """The network and its batch do not fit into the memory of the device."""


class Stopped(KeyboardInterrupt):
    """Training was asked to stop. The message is the run folder, from which `--resume` goes on."""


class NonFiniteLoss(UserError):
    """Training met a loss that is not a number; the last good state is kept."""


class Silenced(UserError):
    """Another process of the same training says what is wrong; this one ends without a word."""


class LoaderLost(UserError):
    """The processes that load pictures are of no use any more: ended from outside, stopped, or hanging.

    Attributes:
        cause: what happened.
    """

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"{cause}; run it again, with more shared memory where that is small (docker: --shm-size), or with "
            "data.workers = 0 where it is a run's own"
        )
        self.cause = cause


class StoppedWaiting(Exception):
    """Whoever waits for pictures was asked to stop."""
