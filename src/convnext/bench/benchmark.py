"""Contestants beside each other: throughput, latency, memory, and the share of what the machine's matrix units can do.

All sides of a case take turns in one process, so that a machine whose speed drifts is unfair to nobody, and ratios are
of the same round. The most memory that a side holds is measured in a process of its own.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from convnext.bench.contestants import Case, Contestant, prepare, why_not
from convnext.bench.measure import peak_of_this_process
from convnext.errors import UserError
from convnext.nn.count import count
from convnext.run.cores import others, usage
from convnext.run.environment import describe_environment
from convnext.run.memory import keep_memory
from convnext.run.record import say

LEAST = 0.5  # seconds that a turn lasts at least
OFF = 0.05
"""Share of the largest logit that an answer may differ by from the reference, in bf16 and tf32; fp32: a thousandth."""


@dataclass
class Row:
    """What a contestant did in a case; times are of one call with a whole batch.

    Attributes:
        case: what was measured.
        contestant: who.
        median: seconds.
        p95: seconds that 95 of 100 calls stay below.
        rate: pictures per second, the median over the rounds.
        spread: of that rate, the least and the greatest round.
        gmacs: multiply-accumulates of one picture, billions; a training step counts three times as many.
        share: of the machine's matrix product in this precision.
        peak: bytes that a process of its own held at most; 0 where it was not measured.
        fastest_share: rate against the fastest peer's, the median over the rounds of this run; None for peers.
    """

    case: Case
    contestant: Contestant
    median: float
    p95: float
    rate: float
    spread: tuple[float, float]
    gmacs: float
    share: float
    peak: int = 0
    fastest_share: float | None = None


@dataclass
class Report:
    """All rows of a benchmark, with the machine."""

    machine: dict[str, Any]
    ceilings: dict[str, float]
    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    others: float = 0.0
    """Cores' worth of work that other programs did meanwhile: from a tenth on, the figures are disturbed."""

    @property
    def where(self) -> str:
        """The machine, its threads, torch and the date."""
        facts = self.machine
        place = facts["gpu"] if facts["gpu"] != "none" else f"{facts['cpu']}, {facts['threads']} threads"
        disturbed = f"; disturbed: other programs used {self.others:.1f} cores meanwhile" if self.others >= 0.1 else ""
        return f"{place}, torch {facts['torch']}, {facts['date'][:10]}{disturbed}"

    def to_json(self) -> dict[str, Any]:
        """As `convnext benchmark --json` prints it; ceilings in GFLOP/s."""
        return asdict(self)


def run(
    cases: Sequence[Case], contestants: Sequence[Contestant], rounds: int, device: torch.device, *, memory: bool = True
) -> Report:
    """Measures every contestant in every case.

    Args:
        cases: what to measure.
        contestants: who takes part; those that cannot are listed with the reason.
        rounds: turns of each side, after one to warm up.
        device: where.
        memory: measure the peak memory too, each side in a process of its own.

    Raises:
        UserError: nobody can take part in any case.
    """
    keep_memory()
    ceilings = {p: ceiling(p, device) for p in dict.fromkeys(case.precision for case in cases)}
    report = Report(describe_environment("convnext benchmark"), ceilings)
    before = usage()
    for case in cases:
        able = []
        for contestant in contestants:
            reason = why_not(contestant, case, device)
            if reason:
                report.skipped.append(f"{contestant.name}, {_title(case)}: {reason}")
            else:
                able.append(contestant)
        if not able:
            continue
        say(f"benchmark: {_title(case)}: {', '.join(c.name for c in able)}")
        try:
            report.rows += _measure(case, able, rounds, device, ceilings[case.precision], report.skipped)
        except UserError as error:  # as a picture that is too small: the other cases stand
            report.skipped.append(f"all sides, {_title(case)}: {error}")
    if not report.rows:
        raise UserError(f"nobody can take part: {'; '.join(report.skipped)}")
    if memory:
        for row in report.rows:
            row.peak = peak_memory(row.contestant, row.case, device)
    now = usage()
    if before is not None and now is not None:
        report.others = round(others(before, now), 2)
    return report


def _title(case: Case) -> str:
    return f"{case.model} {case.task} {case.precision}, batch {case.batch}, {case.size} px"


def _measure(
    case: Case, contestants: Sequence[Contestant], rounds: int, device: torch.device, top: float, skipped: list[str]
) -> list[Row]:
    works, answers = _prepared(case, contestants, device, skipped)
    for contestant, off in wrong_answers(case, answers).items():
        skipped.append(f"{contestant.name}, {_title(case)}: its logits are off by {off:.1%} of the largest")
        del works[contestant]
    calls = {c: _calls_for(work, device) for c, work in works.items()}
    times: dict[Contestant, list[list[float]]] = {c: [] for c in works}
    for _ in range(rounds):
        for contestant, turn in _round(works, calls, device).items():
            times[contestant].append(turn)
    gmacs = count(case.model, case.size).macs / 1e9 * (3 if case.task == "train" else 1)
    rates = {c: [case.batch / statistics.median(turn) for turn in turns] for c, turns in times.items()}
    rows = [_row(case, c, times[c], rates[c], gmacs, top) for c in works]
    for row in rows:
        row.fastest_share = _against_peers(row.contestant, rates)
    return rows


def _prepared(
    case: Case, contestants: Sequence[Contestant], device: torch.device, skipped: list[str]
) -> tuple[dict[Contestant, Callable[[], Any]], dict[Contestant, Any]]:
    """The work of each side, and what its first call gave; one whose code fails is left out with its error.

    Raises:
        UserError: the case cannot be measured, or all fail.
    """
    works, answers = dict[Contestant, Callable[[], Any]](), dict[Contestant, Any]()
    for contestant in contestants:
        try:
            work = prepare(contestant, case, device)
            answers[contestant] = work()
        except UserError:
            raise
        except Exception as error:
            first = (str(error).strip() or "no message").splitlines()[0][:160]
            skipped.append(f"{contestant.name}, {_title(case)}: {type(error).__name__}: {first}")
        else:
            works[contestant] = work
    if not works:
        raise UserError("all sides failed")
    return works, answers


def _round(
    works: dict[Contestant, Callable[[], Any]], calls: dict[Contestant, int], device: torch.device
) -> dict[Contestant, list[float]]:
    """Times of a round's calls; the sides take turns call by call, so that the same minute is fast or slow for all."""
    turns: dict[Contestant, list[float]] = {contestant: [] for contestant in works}
    for number in range(max(calls.values())):
        for contestant, work in works.items():
            if number < calls[contestant]:
                turns[contestant].append(seconds(work, device))
    return turns


def _row(
    case: Case, contestant: Contestant, turns: list[list[float]], rates: list[float], gmacs: float, top: float
) -> Row:
    every = sorted(t for turn in turns for t in turn)
    rate = statistics.median(rates)
    p95 = every[min(len(every) - 1, round(0.95 * (len(every) - 1)))]
    share = 2 * gmacs * rate / top
    return Row(case, contestant, statistics.median(every), p95, rate, (min(rates), max(rates)), gmacs, share)


def _against_peers(contestant: Contestant, rates: dict[Contestant, list[float]]) -> float | None:
    """The median over rounds of our rate to that of the peer that is fastest over all rounds."""
    peers = [c for c in rates if c.code != "ours"]
    if contestant.code != "ours" or not peers:
        return None
    fastest = max(peers, key=lambda c: statistics.median(rates[c]))
    return statistics.median(a / b for a, b in zip(rates[contestant], rates[fastest], strict=True))


def wrong_answers(case: Case, answers: dict[Contestant, Any]) -> dict[Contestant, float]:
    """Whose logits are not those of the others, and by how much: what is fast and wrong has not won.

    The first one is what the others are compared with.

    Raises:
        AssertionError: one of ours is wrong, or as many peers are as are right: then the first may be.
    """
    reference, off = None, dict[Contestant, float]()
    for contestant, answer in answers.items():
        if case.task == "train" or answer is None:
            continue
        logits = torch.as_tensor(answer).float().cpu()
        reference = logits if reference is None else reference
        off[contestant] = float((logits - reference).abs().max() / reference.abs().max())
    allowed = OFF / 50 if case.precision == "fp32" else OFF
    wrong = {contestant: value for contestant, value in off.items() if not value <= allowed}
    if any(contestant.code == "ours" for contestant in wrong) or 2 * len(wrong) >= max(1, len(off)):
        found = ", ".join(f"{contestant.name} by {value:.1%}" for contestant, value in wrong.items())
        raise AssertionError(f"{_title(case)}: logits differ from those of {next(iter(off)).name}: {found}")
    return wrong


def _calls_for(work: Callable[[], Any], device: torch.device) -> int:
    """Calls of a turn, after one more to warm up."""
    work()
    return max(1, round(LEAST / max(1e-6, seconds(work, device))))


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call: by the clock, on a GPU by its events."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end)) / 1e3
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def ceiling(precision: str, device: torch.device, side: int = 2048) -> float:
    """The fastest of twenty products of two square matrices, GFLOP/s."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    work = lambda: a @ b  # noqa: E731
    work()
    return 2 * side**3 / min(seconds(work, device) for _ in range(20)) / 1e9


def peak_memory(contestant: Contestant, case: Case, device: torch.device) -> int:
    """Bytes that a process which does only this holds at most; on a GPU what torch allocated there."""
    request = json.dumps({"contestant": asdict(contestant), "case": asdict(case), "device": str(device)})
    done = subprocess.run(
        [sys.executable, "-m", "convnext.bench.benchmark", request], stdout=subprocess.PIPE, check=True
    )
    return int(done.stdout.split()[-1])


def _measure_peak(request: dict[str, Any]) -> int:
    keep_memory()
    device = torch.device(request["device"])
    work = prepare(Contestant(**request["contestant"]), Case(**request["case"]), device)
    for _ in range(3):
        work()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return peak_of_this_process()


if __name__ == "__main__":
    print(_measure_peak(json.loads(sys.argv[1])))
