"""How far a run has come in its schedule, also when its length is changed in mid-run to keep a time budget.

Learning rate and picture size are functions of a position from 0 to the planned number of steps. Without a change the
position is the step. After a change at step `s` to `n` steps in all it runs evenly from where it stood to the planned
end, so the rate goes on without a jump and the last step always has the rate that the last step was planned to have.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from convnext.errors import RecipeError
from convnext.train.plan import Steps

Changes = tuple[tuple[int, int], ...]
"""(step, steps in all from there on), in order. A first (0, n) only says how many steps were planned at the start."""


@dataclass(frozen=True)
class Course:
    """The steps of a run as planned at its start, and the changes of their number since.

    Raises:
        RecipeError: the changes are not in order, end before they begin, or belong to a run of another length.
    """

    steps: Steps
    changes: Changes = ()

    def __post_init__(self) -> None:
        before = -1
        for step, total in self.changes:
            if step == 0 and before < 0:
                if total != self.steps.total:
                    raise RecipeError(
                        f"train.replanned was recorded by a run of {total:,} steps, and this one has "
                        f"{self.steps.total:,}: other pictures, batch or epochs; set train.replanned=[]"
                    )
            elif not before < step < total:
                raise RecipeError(
                    f"train.replanned has [{step}, {total}]: each is [step, steps in all], steps rise and lie below "
                    "the number in all; set train.replanned=[]"
                )
            before = step

    @property
    def total(self) -> int:
        """Steps in all, as planned now."""
        return self.changes[-1][1] if self.changes else self.steps.total

    @property
    def epochs(self) -> int:
        """Epochs as planned now; the last one may be cut short."""
        return math.ceil(self.total / max(1, self.steps.per_epoch))

    def at(self, step: int) -> float:
        """The position of a step, both counted from 0: between 0 and the last step of the original plan."""
        start, position, pace = 0, 0.0, 1.0
        last = self.steps.total - 1
        for change, total in self.changes:
            if step < change or change == 0:
                continue
            position += pace * (change - start)
            left = total - 1 - change
            position, pace = (position, (last - position) / left) if left else (float(last), 0.0)
            start = change
        return position + pace * (step - start)

    def changed(self, step: int, total: int) -> Course:
        """The same with `total` steps in all from `step` on; one change at a step, the last one counts."""
        kept = self.changes or ((0, self.steps.total),)
        return Course(self.steps, (*(c for c in kept if c[0] < step or c[0] == 0), (step, total)))


TOO_LONG, TOO_SHORT = 1.04, 0.9
"""Shares of the budget between which the expected end may lie without a change."""
FAR_TOO_LONG = 1.12
"""The same within an epoch, where the speed of a few steps is all that is known."""
WINDOW = 10.0
"""Seconds of work from which the present speed is taken, at least."""
LOOK_EVERY = 5.0
"""Seconds between two looks at the clock within an epoch."""
EVIDENCE = 3.0
"""Seconds of work before anything is concluded from them, at least; with a long budget a fiftieth of it."""
LEAST = 0.04
"""Share of the budget that the rest of the schedule gets in any case: a run that is late still comes to its end."""


@dataclass
class Pace:
    """Compares the clock with a budget, and says how many steps there should be in all.

    Args:
        budget: seconds from the first step to the end of the last epoch; 0 for none, then nothing is ever changed.
        most: steps that the run may have at most.
    """

    budget: float
    most: int
    marks: list[tuple[int, float]] = field(default_factory=list)
    """(step, seconds) at the ends of the latest epochs, or where the run went on."""
    looked: float = field(default_factory=time.monotonic)
    inner: tuple[int, float] = (0, 0.0)

    def begin(self, step: int, seconds: float) -> None:
        """The clock as it stands when the loop starts."""
        self.marks, self.inner, self.looked = [(step, seconds)], (step, seconds), time.monotonic()

    def after_epoch(self, course: Course, step: int, seconds: float) -> int:
        """Steps in all that keep the budget, at the end of an epoch; 0 when the plan is good as it is."""
        self.marks.append((step, seconds))
        while len(self.marks) > 2 and seconds - self.marks[1][1] >= WINDOW:
            self.marks.pop(0)
        speed = _speed(self.marks[0], (step, seconds))
        self.inner, self.looked = (step, seconds), time.monotonic()
        seen = seconds - self.marks[0][1]
        if not self.budget or step >= course.total or seen < max(EVIDENCE, 0.02 * self.budget):
            return 0
        expected = seconds + (course.total - step) / speed
        if TOO_SHORT * self.budget <= expected <= TOO_LONG * self.budget:
            return 0
        return self._fitting(course, step, seconds, speed)

    def within_epoch(self, course: Course, step: int, seconds: float) -> int:
        """The same in the middle of an epoch, which only ever shortens a plan that has become far too long."""
        now = time.monotonic()
        if not self.budget or now - self.looked < LOOK_EVERY or step - self.inner[0] < 3 or step >= course.total:
            return 0
        speed = _speed(self.inner, (step, seconds))
        self.inner, self.looked = (step, seconds), now
        if seconds + (course.total - step) / speed <= FAR_TOO_LONG * self.budget:
            return 0
        total = self._fitting(course, step, seconds, speed)
        return total if 0 < total < course.total else 0

    def _fitting(self, course: Course, step: int, seconds: float, speed: float) -> int:
        """The number of steps in all whose end meets the budget, whole epochs where one more or less is little."""
        left = max(self.budget - seconds, LEAST * self.budget)
        wanted = min(self.most, step + max(1, int(left * speed)))
        per_epoch = course.steps.per_epoch
        whole = round(wanted / per_epoch) * per_epoch
        if whole > step and abs(whole - wanted) <= 0.03 * self.budget * speed:
            wanted = min(self.most, whole)
        return 0 if wanted in (course.total, step) else wanted


def _speed(then: tuple[int, float], now: tuple[int, float]) -> float:
    """Steps a second between two marks."""
    return (now[0] - then[0]) / max(now[1] - then[1], 1e-9)


def to_changes(value: Sequence[Sequence[int]]) -> Changes:
    """Changes as they stand in a recipe or a state."""
    return tuple((int(step), int(total)) for step, total in value)
