"""Several processes that train one model: torch's own engine, started by torchrun, srun or `convnext train --nodes`.

Each process (rank) takes its part of every batch, gradients are averaged, and so the weights stay the same everywhere.
Rank 0 alone decides, writes and speaks. A process that dies ends all others with a message.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.fsdp import FSDPModule
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from convnext.errors import RecipeError, RunError, Silenced, UserError
from convnext.run.environment import launched, usable_cores
from convnext.run.messages import tell
from convnext.run.state import RandomState, TrainState, random_state

T = TypeVar("T")
SILENCE = 40.0
"""Seconds without a sign of life after which a process counts as dead."""
BEAT = 5.0
"""Seconds between two signs of life."""
PATIENCE = timedelta(hours=2)
"""How long the others wait while one works alone, as for reading the data; the dead are found by their silence."""


@dataclass
class Ranks:
    """This process among all that train together. Alone, everything here does nothing.

    Attributes:
        rank: number of this process, from 0.
        world: how many there are.
        local: number of this process on its machine.
        here: how many there are on this machine.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    here: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def together(self, work: Callable[[], T]) -> T:
        """What rank 0 finds by `work`, for all; a mistake of the user that it meets ends all, and is said once."""
        if self.world == 1:
            return work()
        found: list[Any] = [None, None]
        if self.first:
            try:
                found[0] = work()
            except UserError as error:
                found[1] = str(error)
                dist.broadcast_object_list(found)
                raise
        dist.broadcast_object_list(found)
        if found[1] is not None:
            raise Silenced(found[1])
        result: T = found[0]
        return result

    def agree(self, work: Callable[[], T]) -> T:
        """What each finds by `work`; a mistake of the user that any of them meets ends all, and is said once."""
        if self.world == 1:
            return work()
        found: T | None = None
        said = ""
        try:
            found = work()
        except UserError as error:
            said = str(error)
        first = next((text for text in self.gather(said) if text), "")
        if first:
            raise UserError(first) if self.first else Silenced(first)
        return cast("T", found)

    def gather(self, value: T) -> list[T]:
        """The value of every process, in their order."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def refuse_different(self, value: str, what: str) -> None:
        """Ends all, with one message, where the processes do not have the same.

        Raises:
            UserError: `what` differs.
        """
        found = self.gather(value)
        other = [rank for rank, theirs in enumerate(found) if theirs != found[0]]
        if other:
            who = f"process {other[0]} has" if len(other) == 1 else f"processes {', '.join(map(str, other))} have"
            text = f"{what}: {who} others than process 0"
            raise UserError(text) if self.first else Silenced(text)

    def total(self, values: list[float], device: torch.device) -> list[float]:
        """Sums over all processes, the same bits everywhere."""
        if self.world == 1:
            return values
        sums = torch.tensor(values, dtype=torch.float64, device=device if device.type == "cuda" else "cpu")
        dist.all_reduce(sums)
        return sums.tolist()

    def wait(self) -> None:
        """Until all have come here."""
        if self.world > 1:
            dist.barrier()

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model with gradients that are averaged over all processes."""
        if self.world == 1:
            return model
        for parameter in model.parameters():  # kernels of one channel may be strided either way; gradients are plain
            if parameter.is_contiguous():
                parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        ids = [torch.cuda.current_device()] if device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)


def alone() -> Ranks:
    """One process."""
    return Ranks()


@contextlib.contextmanager
def joined(device: str = "auto") -> Iterator[Ranks]:
    """This process among those that torchrun, srun or submitit started; alone where nobody did.

    Args:
        device: the recipe's: with "cpu" the processes speak by gloo, else by NCCL where there is a GPU for each.

    Raises:
        UserError: the environment names some, but not all, of RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, or the
            others do not come.
    """
    world = launched("WORLD_SIZE", 1, least=1)
    if world == 1:
        yield Ranks()
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UserError(
            f"WORLD_SIZE is {world}, but {', '.join(missing)} is not set; start by "
            "`torchrun --nproc-per-node N -m convnext train ...`, or unset WORLD_SIZE to train alone"
        )
    rank, local = launched("RANK", 0, most=world - 1), launched("LOCAL_RANK", 0, most=world - 1)
    launched("MASTER_PORT", 29500, least=0, most=65535)
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        if local >= torch.cuda.device_count():
            raise UserError(
                f"process {local} of this machine has no GPU: it has {torch.cuda.device_count()}; start as many "
                "processes as there are GPUs, or set train.device=cpu"
            )
        torch.cuda.set_device(local)
    else:
        _share_cores()
    try:
        store, rank, world = next(iter(rendezvous("env://", rank, world, timeout=timedelta(minutes=5))))
        store.set_timeout(PATIENCE)
        dist.init_process_group(
            "nccl" if cuda else "gloo", store=PrefixStore("convnext", store), rank=rank, world_size=world,
            timeout=PATIENCE,
        )  # fmt: skip
    except (RuntimeError, ValueError, OSError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"process {rank} of {world} could not join the others at {os.environ['MASTER_ADDR']}:"
            f"{os.environ['MASTER_PORT']} ({first}); are all of them started, and is the port free?"
        ) from None
    watch = Watch(PrefixStore("watch", store.clone()), rank, world)  # a connection of its own: it must never wait
    watch.start()
    ranks = Ranks(rank, world, local, here())
    try:
        yield ranks
        ranks.wait()
        watch.stop()
    except (KeyboardInterrupt, Silenced):  # all of them end alike, each when it has done its part
        watch.stop()
        raise
    except BaseException as error:
        watch.stop(failed=True)
        if _is_of_the_network(error):
            watch.end("another process is gone")
        if rank and isinstance(error, UserError):  # a mistake that this process alone has met
            tell(f"convnext: process {rank} of {world}: {error}")
            raise Silenced(str(error)) from None
        raise
    finally:
        with contextlib.suppress(RuntimeError, ValueError):
            dist.destroy_process_group()


def _is_of_the_network(error: BaseException) -> bool:
    """Whether an exchange between processes failed, as it does when one of them dies."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _share_cores() -> None:
    """The processes of a machine share its cores; torchrun leaves them one each, whatever there are."""
    torch.set_num_threads(max(1, usable_cores() // here()))


def planned(gpus: int, nodes: int) -> Ranks:
    """The first of so many processes as are asked for, or as torchrun has started."""
    world = launched("WORLD_SIZE", 1, least=1)
    return Ranks(world=world, here=here()) if world > 1 else Ranks(world=gpus * nodes, here=gpus)


def here() -> int:
    """How many processes of this training this machine has, as torchrun and submitit say."""
    return launched("LOCAL_WORLD_SIZE", 1, least=1)


class Watch(threading.Thread):
    """Signs of life: each process counts up in the common store, and reads the others' counts.

    A process whose count stands still is dead, or cannot be reached: this process then ends too, at once, since its own
    main thread may wait for the dead one for ever. A process that fails says so, which is quicker.
    """

    def __init__(self, store: Store, rank: int, world: int, beat: float = BEAT, silence: float = SILENCE) -> None:
        super().__init__(name="convnext-watch", daemon=True)
        self.store, self.rank, self.world, self.beat, self.silence = store, rank, world, beat, silence
        self.ending = threading.Event()
        self.seen = {other: (-1, time.monotonic()) for other in range(world) if other != rank}

    def run(self) -> None:
        """Until `stop`; ends the whole process when another one is gone."""
        while not self.ending.wait(self.beat):
            try:
                self.store.add(f"beat-{self.rank}", 1)
                gone = self._silent()
            except (RuntimeError, ValueError) as error:  # the store went with the process that held it
                gone = f"the process that holds them together is gone ({str(error).splitlines()[0][:80]})"
            if gone and not self.ending.is_set():
                self.end(gone)

    def _silent(self) -> str:
        """Who has not been heard of for too long, in words; "" when all are there."""
        for other, (count, since) in self.seen.items():
            if self.store.add(f"ended-{other}", 0) == 1:
                continue
            if self.store.add(f"failed-{other}", 0):
                return f"process {other} stopped with an error"
            now = self.store.add(f"beat-{other}", 0)
            if now != count:
                self.seen[other] = (now, time.monotonic())
            elif time.monotonic() - since > self.silence:
                return f"process {other} has not been heard of for {self.silence:.0f} s"
        return ""

    def end(self, why: str) -> None:
        """Ends this process: exit code 1, one line."""
        tell(
            f"convnext: process {self.rank} of {self.world}: {why}; all stop. The last saved state is intact: go on "
            "by --resume"
        )
        os._exit(1)

    def stop(self, *, failed: bool = False) -> None:
        """No more signs of life from here; the others are told why. Rank 0 may hold the store, so it goes last."""
        self.ending.set()
        with contextlib.suppress(RuntimeError, ValueError):
            self.store.add(f"{'failed' if failed else 'ended'}-{self.rank}", 1)
            until = time.monotonic() + 2 * self.beat
            while self.rank == 0 and not failed and time.monotonic() < until:
                if all(self.store.add(f"ended-{other}", 0) for other in self.seen):
                    break
                time.sleep(0.05)


def part_of(batch: int, ranks: Ranks) -> int:
    """How many pictures of an effective batch each process takes.

    Raises:
        RecipeError: the processes cannot share the batch evenly.
    """
    if batch % ranks.world:
        near = max(ranks.world, round(batch / ranks.world) * ranks.world)
        raise RecipeError(
            f"train.batch = {batch} cannot be shared evenly by {ranks.world} processes; set it to {near}, or start "
            "another number of processes"
        )
    return batch // ranks.world


def refuse_uneven(batch: int, ranks: Ranks) -> None:
    """A run that began with this batch goes on with it: other processes must be able to share it.

    Raises:
        RunError: they cannot; the message has the numbers of processes that can.
    """
    if batch % ranks.world:
        good = [n for n in range(1, min(batch, 4 * ranks.world) + 1) if batch % n == 0]
        raise RunError(
            f"the run has batches of {batch} pictures, which {ranks.world} processes cannot share evenly; go on with "
            f"{', '.join(map(str, good))}"
        )


def averaged(model: nn.Module, last: bool) -> contextlib.AbstractContextManager[Any]:
    """The context of a micro-batch's backward pass: gradients are exchanged in the last one of a step only."""
    if isinstance(model, DistributedDataParallel) and not last:
        return model.no_sync()
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
    return contextlib.nullcontext()


def random_states(ranks: Ranks) -> list[RandomState] | None:
    """The random state of every process, None when there is one only."""
    return None if ranks.world == 1 else ranks.gather(random_state())


def equal_buffers(state: TrainState, ranks: Ranks) -> None:
    """Gives all processes rank 0's running statistics, as of batch norm, and their averages.

    Each process has seen pictures of its own, and would judge other weights. Parameters are equal by themselves.
    """
    if ranks.world == 1:
        return
    for name, buffer in state.model.named_buffers():
        dist.broadcast(buffer.data, 0)
        if state.ema is not None and name in state.ema.average:
            dist.broadcast(state.ema.average[name], 0)
