"""One linear loop: forward, backward, step, average, log, save. It knows no task; all of its state is one object."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from convnext.config import get
from convnext.data.feed.feed import Loader, end_processes
from convnext.data.feed.loader import Batch, EpochSampler
from convnext.data.feed.mixing import Mixing
from convnext.data.feed.preprocessing import Preprocessing
from convnext.data.pictures.transforms import normalize
from convnext.errors import DataError, NonFiniteLoss, Silenced, StoppedWaiting
from convnext.recipe import Recipe
from convnext.run.cores import CORES
from convnext.run.folder import RunFolder
from convnext.run.record import Bar, Record, clock, progress, say
from convnext.run.signals import AT_ONCE, STOPPING
from convnext.run.state import TrainState, keep_newest, write_state_file
from convnext.tasks.collect import autocast
from convnext.tasks.task import Task
from convnext.train.course import Changes, Course, Pace, to_changes
from convnext.train.distributed import Ranks, averaged, equal_buffers, random_states
from convnext.train.freeze import Freezing
from convnext.train.judging import Judge, describe_epoch
from convnext.train.plan import Steps, rate_at
from convnext.train.schedule import size_at

FIXED = ("model.name", "train.batch", "train.seed", "train.optimizer")
"""Keys of the recipe that a run keeps to its end: with others the place in the epoch would mean other pictures."""
SaveModel = Callable[[str, dict[str, Tensor], int, str], None]
"""(file name, weights, epoch, "ema" or "model"): writes a model file with its meaning and preprocessing."""


@dataclass
class Loop:
    """A run in progress: everything the loop needs, made by `train.train_run`."""

    run: RunFolder
    recipe: Recipe
    steps: Steps
    task: Task
    state: TrainState
    device: torch.device
    preprocessing: Preprocessing
    mixing: Mixing
    sampler: EpochSampler
    train_batches: DataLoader[Batch]
    judge: Judge
    save_model: SaveModel
    ranks: Ranks
    freezing: Freezing
    after_epoch: Callable[[dict[str, Any]], None] | None = None
    """Is given each epoch's line of the log; what it raises ends the run, whose state is saved by then."""
    after_change: Callable[[Changes], None] | None = None
    """Is given the changes of the number of steps, each time that there is one more."""

    def __post_init__(self) -> None:
        self.failed: list[str] = []
        self.stop_asked, self.asked_at = False, 0.0
        self.saved_at = time.monotonic()
        self._wrap()
        self.identity = self.run.identity if self.ranks.first else ""
        self.pace = Pace(0.0, 0)
        self.course = Course(self.steps)
        self.wanted = 0

    def run_all(self) -> None:
        """Trains from where the state stands to the end, an early stop, or a request to stop.

        Raises:
            NonFiniteLoss: the loss is not a number; the last good state is on disk.
            KeyboardInterrupt: Ctrl-C or a termination signal; the state is on disk.
        """
        done = self.state.progress
        record = Record(self.run, done.epoch, self.recipe) if self.ranks.first else None
        self.course = Course(self.steps, to_changes(done.replanned))
        self.pace = Pace(done.budget if self.ranks.first else 0.0, done.most_steps)
        self.pace.begin(done.step, done.seconds)
        try:
            with self._stop_on_signals():
                for batches in (self.train_batches, getattr(self.judge, "batches", None)):
                    if isinstance(batches, Loader):
                        batches.stop = lambda: self.ranks.world == 1 and self.stop_asked
                while not self.finished:
                    try:
                        self._epoch(record)
                    except StoppedWaiting:  # for a batch, so that the state stands between two steps
                        self._save()
                        raise KeyboardInterrupt from None
                    if self._stop_agreed():
                        raise KeyboardInterrupt
        finally:
            if record is not None:
                record.close(finished=self.finished)
            end_workers(self.train_batches)

    @property
    def finished(self) -> bool:
        """Whether all steps are done and judged, or the run stopped early."""
        return is_finished(asdict(self.state.progress), int(self.recipe.train.epochs))

    def _epoch(self, record: Record | None) -> None:
        done, number, start = self.state.progress, self.state.progress.epoch + 1, time.monotonic()
        self._set_sampler()
        if self.freezing.begin(self.state.model, done.epoch):
            say(f"epoch {number}: all weights learn from here on")
            self._wrap()
        batch_size, left = int(self.recipe.train.batch), self._left()
        with progress(f"epoch {number}/{self.course.epochs}", (done.step_in_epoch + left) * batch_size) as bar:
            bar.advance(done.step_in_epoch * batch_size)
            for batch in self.train_batches if left else ():
                waited = time.monotonic() - start
                stop = self._step(batch, bar) or (self.ranks.world == 1 and self.stop_asked)
                start = self._count(waited, start)
                changed = self._change(self.wanted)
                if stop or changed or self._save_is_due():
                    self._save()
                if stop:
                    raise KeyboardInterrupt
                if done.step >= self.course.total:
                    break
        row = self._row(number, done.epoch_sums) | self._validate(number)
        done.seconds, start = done.seconds + time.monotonic() - start, time.monotonic()
        row["seconds"] = round(done.seconds, 2)
        done.epoch, done.step_in_epoch, done.epoch_sums = number, 0, {}
        fitting = float(self.pace.after_epoch(self.course, done.step, done.seconds))
        if self._change(int(self.ranks.total([fitting], self.device)[0])):
            row |= {"epochs": self.course.epochs, "replanned": self.course.changes[-1]}
        patience = self.recipe.train.patience
        done.stopped_early = bool(patience) and done.epoch - done.best_epoch >= patience
        last = self.state.weights(self.source)
        if record is not None:
            self.save_model("last.safetensors", last, number, self.source)
            record.epoch(row)  # before the state: a row too many is dropped on resuming, a missing one is lost
        self._save()
        if self.ranks.first:
            keep_newest(self.run.state, self.run.states, number, self.recipe.train.keep_last)
        done.seconds += time.monotonic() - start
        say(describe_epoch(row, self.task))
        if self.after_epoch is not None:
            self.after_epoch(row)
        if done.stopped_early:
            say(f"no better validation result for {patience} epochs: stopped early")

    def _wrap(self) -> None:
        """What computes the outputs: the model itself, compiled or shared out; or wrapped for several processes.

        The wrapper knows who learns when it is made.
        """
        model, shared = self.state.model, self.recipe.train.sharding == "fsdp2"
        self.forward = model if shared else self.ranks.wrap(model, self.device)

    def _set_sampler(self) -> None:
        """Which pictures come next, and how large they are at this point of the schedule."""
        done = self.state.progress
        self.sampler.epoch, self.sampler.first = done.epoch, done.step_in_epoch
        at = self.course.at(done.step - done.step_in_epoch) / max(1, self.steps.per_epoch)
        self.sampler.size = size_at(self.recipe, at, int(self.recipe.train.epochs))

    def _left(self) -> int:
        """Steps of this epoch that are still to be made."""
        done = self.state.progress
        return max(0, min(self.steps.per_epoch - done.step_in_epoch, self.course.total - done.step))

    def _change(self, total: int) -> bool:
        """Makes it `total` steps in all from here on, where rank 0 wants so; whether it did."""
        done = self.state.progress
        if not total or done.step >= self.course.total:
            return False
        total = max(total, done.step + 1)
        before, self.course = self.course, self.course.changed(done.step, total)
        done.replanned = [list(change) for change in self.course.changes]
        per_epoch = max(1, self.steps.per_epoch)
        say(
            f"the {clock(done.budget)} for training would not be {'kept' if total < before.total else 'used'} at the "
            f"present speed: {total / per_epoch:.3g} epochs instead of {before.total / per_epoch:.3g}"
        )
        if self.after_change is not None:
            self.after_change(self.course.changes)
        return True

    def _save(self) -> None:
        """The whole state, written by rank 0 with the random states of all."""
        content = self.state.content(random_states(self.ranks))
        content["fixed"], content["run"] = {key: get(self.recipe, key) for key in FIXED}, self.identity
        if self.ranks.first:
            write_state_file(self.run.state, content)
        self.saved_at = time.monotonic()

    def _save_is_due(self) -> bool:
        """Whether rank 0's clock says that the last state is too old; the same answer everywhere."""
        every = self.recipe.train.save_every
        if not every:
            return False
        due = self.ranks.first and time.monotonic() - self.saved_at > 60 * every
        return self.ranks.total([float(due)], self.device)[0] > 0

    def _stop_agreed(self) -> bool:
        """Whether any process was asked to stop."""
        return self.ranks.total([float(self.stop_asked)], self.device)[0] > 0

    def _step(self, batch: Batch, bar: Bar) -> bool:
        """One optimizer step over the effective batch, in micro-batches; whether a process was asked to stop.

        `wanted` is then the number of steps in all that rank 0 would have, or 0.
        """
        self._note_failed(batch.failed)
        if len(batch.indices) == 0:
            raise DataError(f"no picture of a whole batch can be read any more, the first: {batch.failed[0]}")
        state, recipe, done = self.state, self.recipe, self.state.progress
        rate = rate_at(recipe, self.steps, self.course.at(done.step))
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        total, followed = self._backward(batch)
        wanted = self.pace.within_epoch(self.course, done.step, done.seconds)
        parts = [total, len(batch.indices), self.stop_asked, float(wanted), *followed.values()]
        sums = self.ranks.total(parts, self.device)
        total = sums[0] / self.ranks.world
        if not math.isfinite(total):
            self._refuse(total, f"step {done.step + 1}")
        self._update()
        values = {"loss": total, "pictures": sums[1], "steps": 1, "lr": rate}
        for key, value in (values | dict(zip(followed, sums[4:], strict=True))).items():
            done.epoch_sums[key] = done.epoch_sums.get(key, 0.0) * (key != "lr") + value
        done.step += 1
        done.step_in_epoch += 1
        bar.advance(int(sums[1]), f"loss {done.epoch_sums['loss'] / done.epoch_sums['steps']:.3f}")
        self.wanted = int(sums[3])
        return sums[2] > 0

    def _backward(self, batch: Batch) -> tuple[float, dict[str, float]]:
        """Gradients of this process's part of a batch, averaged over all: its loss, and sums of what is followed."""
        recipe, done = self.recipe, self.state.progress
        pictures = normalize(batch.pictures.to(self.device), self.preprocessing.mean, self.preprocessing.std)
        targets = self.task.targets(batch.targets).to(self.device)
        pictures, targets = self.mixing(pictures, targets, done.epoch, done.step_in_epoch)
        micro, total = int(recipe.train.micro_batch), 0.0
        followed = {f"train_{key}": 0.0 for key in self.task.followed}
        if not recipe.train.channels_last:
            pictures = pictures.contiguous()
        for at in range(0, len(pictures), micro):
            x, y = (part[at : at + micro] for part in (pictures, targets))
            with averaged(self.forward, last=at + micro >= len(pictures)):
                losses = self.task.losses(self._forward, x, y)
                loss = losses["loss"] * (len(x) / len(pictures))
                (loss if self.state.scaler is None else self.state.scaler.scale(loss)).backward()
            total += loss.item()
            for key in self.task.followed:
                followed[f"train_{key}"] += losses[key].item() if key in losses else math.nan
        return total, followed

    def _forward(self, pictures: Tensor) -> Tensor:
        """The network's outputs in the run's precision."""
        with autocast(self.device, self.recipe.train.precision):
            outputs: Tensor = self.forward(pictures)
        return outputs

    def _update(self) -> None:
        """Clips, steps, averages. In fp16 torch's scaler leaves out a step whose scaled gradients overflowed."""
        state, clip = self.state, self.recipe.train.clip_grad
        if clip > 0:
            if state.scaler is not None:
                state.scaler.unscale_(state.optimizer)
            nn.utils.clip_grad_norm_(state.model.parameters(), clip)
        if state.scaler is None:
            state.optimizer.step()
        else:
            state.scaler.step(state.optimizer)
            state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        if state.ema is not None:
            state.ema.update(state.model)

    def _count(self, waited: float, start: float) -> float:
        """Adds a step's time to the clocks; returns the moment at which the next step starts."""
        now, done = time.monotonic(), self.state.progress
        done.epoch_sums["wait"] = done.epoch_sums.get("wait", 0.0) + waited
        done.epoch_sums["seconds"] = done.epoch_sums.get("seconds", 0.0) + now - start
        done.seconds += now - start
        CORES.step(now - start - waited)
        return now

    def _row(self, number: int, sums: dict[str, float]) -> dict[str, Any]:
        """The training half of an epoch's log line."""
        mixed = self.mixing.probability > 0 and (self.mixing.mixup > 0 or self.mixing.cutmix > 0)
        followed = {
            key: sums[key] / sums["pictures"] if not mixed and math.isfinite(sums[key]) else None
            for key in (f"train_{name}" for name in self.task.followed)
        }
        return {
            "epoch": number, "epochs": self.course.epochs, "step": self.state.progress.step, "seconds": 0.0,
            "epoch_seconds": round(sums["seconds"], 2),
            "images_per_second": round(sums["pictures"] / max(sums["seconds"], 1e-9), 1),
            "data_wait": round(sums["wait"] / max(sums["seconds"], 1e-9), 4),
            "threads": torch.get_num_threads(), "others": round(CORES.taken, 2), "size": self.sampler.size,
            "lr": sums["lr"], "train_loss": sums["loss"] / sums["steps"],
            **followed,
        }  # fmt: skip

    @property
    def source(self) -> str:
        """Which weights are judged and kept after an epoch: the moving average, or the model's own."""
        return "ema" if self.state.ema is not None else "model"

    def _validate(self, number: int) -> dict[str, Any]:
        """The validation half: the model and its average are both measured, the better one may become the best."""
        row: dict[str, Any] = {}
        equal_buffers(self.state, self.ranks)
        candidates = [("val", "model"), ("ema_val", "ema")][: 1 + (self.state.ema is not None)]
        done, score, better = self.state.progress, self.task.scores[0], None
        for prefix, source in candidates:
            weights = self.state.weights(source)
            metrics, failed = self.judge(weights, source)
            self._note_failed(failed)
            if source == "model" and not math.isfinite(metrics["loss"]):
                self._refuse(metrics["loss"], "its validation")
            row |= {f"{prefix}_{k}": v for k, v in metrics.items()}
            if math.isfinite(metrics["loss"]) and score.better(metrics[score.key], done.best):
                done.best, done.best_epoch, done.best_source = metrics[score.key], number, source
                better = (weights, source)
        if better is not None and self.ranks.first:
            self.save_model("best.safetensors", better[0], number, better[1])
        return row | {"best": better is not None, "time": datetime.now().astimezone().isoformat("T", "seconds")}

    def _refuse(self, loss: float, where: str) -> None:
        done = self.state.progress
        if not self.ranks.first:
            raise Silenced("the loss is not finite")
        kept = f"the state after epoch {done.epoch} is kept" if self.run.state.exists() else "no epoch was finished yet"
        raise NonFiniteLoss(
            f"the loss is {loss} in epoch {done.epoch + 1}, {where}: training stopped, {kept}. "
            f"Lower train.lr (now {self.recipe.train.lr:g}), set train.clip_grad = 1, or use train.precision = fp32: "
            f"in {self.run.recipe} to go on from there by --resume, or on the command line for a new run"
        )

    def _note_failed(self, failed: list[str]) -> None:
        """Says once, for each file that breaks while the run goes on, that it was left out."""
        for text in failed:
            if text not in self.failed:
                self.failed.append(text)
                say(f"left out: {text}")

    @contextlib.contextmanager
    def _stop_on_signals(self) -> Iterator[None]:
        """Ctrl-C, SIGTERM and SIGHUP ask the loop to stop after the current step; a second one stops at once.

        A signal that the caller ignores, as nohup does with SIGHUP, stays ignored.
        """

        def ask(number: int, frame: Any) -> None:
            if self.stop_asked and time.monotonic() - self.asked_at < AT_ONCE:
                return  # torchrun sends both signals at once
            if self.stop_asked:
                raise KeyboardInterrupt
            self.stop_asked, self.asked_at = True, time.monotonic()
            say("stopping after this step, once the state is saved")

        try:
            heard = [s for s in STOPPING if signal.getsignal(s) != signal.SIG_IGN or s == signal.SIGINT]
            old = {s: signal.signal(s, ask) for s in heard}
        except ValueError:  # not the main thread: signals are the caller's
            yield
            return
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def is_finished(progress: Mapping[str, Any], epochs: int) -> bool:
    """Whether a run of so many epochs, by the progress in its state, has made and judged all the steps planned now."""
    if progress.get("stopped_early"):
        return True
    if changes := progress.get("replanned"):
        return bool(progress["step"] >= changes[-1][1] and not progress["step_in_epoch"])
    return bool(progress["epoch"] >= epochs)


def end_workers(batches: DataLoader[Batch]) -> None:
    """Ends the loader's processes now: they ignore the signals that Python's own clean-up would send at exit."""
    end_processes(getattr(batches, "_iterator", None))
