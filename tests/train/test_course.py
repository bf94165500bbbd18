"""The schedule of a run whose length is changed in mid-run, and the clock that asks for it."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from convnext.config import check_recipe, load_complete, load_recipe, override
from convnext.errors import RecipeError
from convnext.recipe import Recipe
from convnext.train import course as courses
from convnext.train.course import Course, Pace
from convnext.train.plan import Steps, rate_at
from convnext.train.resume import resume_run
from convnext.train.train import train_run

STEPS = Steps(10, 100, 10)
RECIPE = override(Recipe(), {"train.lr": 1.0, "train.batch": 1, "train.epochs": 10, "train.min_lr": 0.01})


def test_without_a_change_the_position_is_the_step() -> None:
    """A run that nobody disturbs has today's rates, to the bit."""
    course = Course(STEPS, ((0, 100),))
    assert [course.at(step) for step in range(100)] == list(range(100)) == [Course(STEPS).at(s) for s in range(100)]
    assert course.total == 100
    assert course.epochs == 10


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 400)), max_size=5).map(
        lambda c: sorted(c, key=lambda x: x[0])
    )
)
def test_after_any_changes_the_rate_goes_on_and_ends_where_it_was_to_end(wanted: list[tuple[int, int]]) -> None:
    """The position never falls nor jumps back, and the last step has the last rate of the original plan."""
    course = Course(STEPS)
    for step, more in wanted:
        if step < course.total:
            before, again = course.at(step), bool(course.changes) and course.changes[-1][0] == step
            course = course.changed(step, step + more)
            if more > 1 and not again:  # the last step alone jumps to the end
                assert course.at(step) == pytest.approx(before)
    positions = [course.at(step) for step in range(course.total)]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(positions))
    assert positions[-1] == pytest.approx(99)
    assert rate_at(RECIPE, STEPS, positions[-1]) == pytest.approx(rate_at(RECIPE, STEPS, 99))
    again = Course(STEPS, course.changes)
    assert [again.at(step) for step in range(course.total)] == positions


def test_half_the_steps_that_were_left_pass_the_schedule_at_twice_the_pace() -> None:
    """From the middle with half of the rest: each step moves on by (99 - 50) / (74 - 50)."""
    course = Course(STEPS).changed(50, 75)
    assert course.at(51) == pytest.approx(50 + 49 / 24)
    assert course.epochs == 8


@pytest.mark.parametrize(
    "changes", [((0, 99),), ((0, 100), (50, 50)), ((0, 100), (60, 90), (60, 95)), ((0, 100), (70, 90), (60, 95))]
)
def test_changes_that_cannot_be_are_refused(changes: courses.Changes) -> None:
    """Of another run, without a step left, twice at a step, or out of order."""
    with pytest.raises(RecipeError, match=r"train\.replanned=\[\]"):
        Course(STEPS, changes)


def run_of_steps(pace: Pace, seconds: Callable[[int, float], float]) -> tuple[Course, float]:
    """Runs through a schedule by a clock that `seconds` of (step, time so far) moves; the course and the end."""
    course, step, clock = Course(STEPS), 0, 0.0
    pace.begin(0, 0.0)
    while step < course.total:
        clock += seconds(step, clock)
        step += 1
        pace.looked -= 1e9  # a look at every step
        wanted = pace.within_epoch(course, step, clock)
        if not wanted and step % STEPS.per_epoch == 0:
            wanted = pace.after_epoch(course, step, clock)
        if wanted and step < course.total:
            course = course.changed(step, max(wanted, step + 1))
    return course, clock


def test_on_a_steady_machine_nothing_changes() -> None:
    """Steps that differ by a tenth, and an end within the budget's margin: the plan stays."""
    course, clock = run_of_steps(Pace(102.0, 1000), lambda step, _: 1.1 if step % 2 else 0.9)
    assert course.changes == ()
    assert clock == pytest.approx(100)


@pytest.mark.parametrize("at", [5.0, 33.0, 50.0, 77.0])
def test_a_fifth_of_the_speed_in_mid_run_ends_within_a_seventh_of_the_budget(at: float) -> None:
    """The bar: 15 % of the budget."""
    course, clock = run_of_steps(Pace(100.0, 1000), lambda _, now: 1.0 if now < at else 5.0)
    assert course.total < 100
    assert clock == pytest.approx(100, rel=0.15)


def test_a_machine_that_becomes_free_is_used() -> None:
    """Twice the speed from the middle on: more steps, up to what the run may have."""
    course, clock = run_of_steps(Pace(100.0, 1000), lambda _, now: 1.0 if now < 50 else 0.5)
    assert course.total > 140
    assert clock == pytest.approx(100, rel=0.1)
    capped, _ = run_of_steps(Pace(100.0, 120), lambda _, now: 1.0 if now < 50 else 0.5)
    assert capped.total == 120


TINY = {
    "model.name": "convnext_atto", "data.size": 32, "data.eval_size": 32, "data.start_size": 32, "train.batch": 8,
    "model.stem_patch": 4, "train.precision": "fp32", "weights": "none", "data.workers": 0, "train.warmup_epochs": 1.0,
}  # fmt: skip


def slow_down(monkeypatch: pytest.MonkeyPatch, after: int, seconds: float) -> None:
    """From one step on every step waits so long."""
    from convnext.train.loop import Loop

    original = Loop._backward

    def slow(self: Loop, batch: object) -> tuple[float, float]:
        if self.state.progress.step >= after:
            time.sleep(seconds)
        return original(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Loop, "_backward", slow)


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of a run of seconds."""
    monkeypatch.setattr(courses, "WINDOW", 0.2)
    monkeypatch.setattr(courses, "LOOK_EVERY", 0.1)
    monkeypatch.setattr(courses, "EVIDENCE", 0.2)


@pytest.mark.usefixtures("quick_looks")
def test_a_run_that_is_late_is_shortened_and_its_recipe_repeats_it(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with a budget that becomes slow ends early at the lowest rate; its recipe gives the same weights again."""
    recipe = override(check_recipe({}), TINY | {"train.minutes": 0.15})
    slow_down(monkeypatch, after=20, seconds=0.25)
    out = tmp_path / "run"
    train_run(stripes, recipe, out)
    done = load_complete(out / "recipe.toml")
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    state = torch.load(out / "last.state.pt", weights_only=True)["progress"]
    assert len(done.train.replanned) > 1
    assert state["replanned"] == [list(change) for change in done.train.replanned]
    planned = [total for _, total in done.train.replanned]  # on a busy machine the first plan may be the shortest
    assert state["step"] == planned[-1] < max(planned)
    assert rows[-1]["epoch"] == rows[-1]["epochs"]
    assert any("replanned" in row for row in rows) or state["step"] % 7
    monkeypatch.undo()
    again = load_recipe(out / "recipe.toml")
    assert again == done
    twin = train_run(stripes, again, tmp_path / "again")
    for name, tensor in load_file(out / "last.safetensors").items():
        assert torch.equal(tensor, load_file(twin.last)[name]), name
    with pytest.raises(RecipeError, match="recorded by a run of"):
        train_run(stripes, override(again, {"train.epochs": 1}), tmp_path / "other")


def test_a_new_length_forgets_the_changes_of_the_old_one(tmp_path: Path) -> None:
    """With other epochs, minutes or batch on the command line, recorded changes do not hold."""
    file = tmp_path / "r.toml"
    file.write_text("[train]\nepochs = 4\nreplanned = [[0, 40], [10, 30]]\n")
    assert load_recipe(file).train.replanned == ((0, 40), (10, 30))
    for setting in ("train.epochs=5", "train.minutes=3", "train.batch=4"):
        assert load_recipe(file, [setting]).train.replanned == ()


@pytest.mark.usefixtures("quick_looks")
def test_a_stop_in_a_shortened_run_changes_nothing(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after its change of plan and resumed, the run ends at the steps that were planned by then."""
    recipe = override(check_recipe({}), TINY | {"train.minutes": 0.15})
    slow_down(monkeypatch, after=12, seconds=0.25)
    out, stopped = tmp_path / "run", []

    def stop(row: dict[str, object]) -> None:
        if "replanned" in row or row["epochs"] != rows_before.setdefault("epochs", row["epochs"]):
            stopped.append(row)
            raise KeyboardInterrupt

    rows_before: dict[str, object] = {}
    with pytest.raises(KeyboardInterrupt):
        train_run(stripes, recipe, out, after_epoch=stop)
    assert stopped
    planned = torch.load(out / "last.state.pt", weights_only=True)["progress"]["replanned"]
    resume_run(out)
    done = torch.load(out / "last.state.pt", weights_only=True)["progress"]
    assert done["replanned"][: len(planned)] == planned
    assert done["step"] == done["replanned"][-1][1]
