"""State files: sealed, proven before they replace the last one, and never lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from convnext.errors import RunError
from convnext.run import folder
from convnext.run.state import (
    Progress,
    TrainState,
    heal,
    keep_newest,
    previous,
    progress_of,
    random_state,
    read_state_file,
    write_state_file,
)


def content(step: int) -> dict[str, Any]:
    """A state in small."""
    return {"version": 2, "progress": {"epoch": step}, "model": {"w": torch.full((3,), float(step))}}


def test_a_state_comes_back_and_the_one_before_it_is_kept(tmp_path: Path) -> None:
    """Two are written: the second is read, the first lies beside it."""
    path = tmp_path / "last.state.pt"
    for step in (1, 2):
        write_state_file(path, content(step))
    assert read_state_file(path)["progress"]["epoch"] == 2
    assert read_state_file(previous(path))["progress"]["epoch"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.state.pt", "previous.state.pt"]


def test_sums_of_an_older_version_are_found_under_their_names_of_today() -> None:
    """A run that was stopped within an epoch has counted hits; keys that nobody knows any more are left out."""
    older = {"progress": {"epoch": 1, "step": 9, "epoch_sums": {"hits": 7.0, "loss": 2.0}, "gone": 1, "best": 0.5}}
    found = progress_of(older)
    assert found.epoch_sums == {"train_top1": 7.0, "loss": 2.0}
    assert (found.epoch, found.step, found.best) == (1, 9, 0.5)


@pytest.mark.parametrize("where", [0, 100, -1, -40])
def test_one_flipped_bit_is_noticed_and_the_state_before_is_used(
    where: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the beginning, in the middle, in the seal."""
    path = tmp_path / "last.state.pt"
    for step in (1, 2):
        write_state_file(path, content(step))
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    assert read_state_file(path)["progress"]["epoch"] == 1
    assert "the state before it is used" in capsys.readouterr().err
    previous(path).write_bytes(b"")
    with pytest.raises(RunError, match="is damaged"):
        read_state_file(path)


def test_a_disk_that_forgets_what_was_written_does_not_cost_the_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new file is read again before it takes the place of the old one."""
    path = tmp_path / "last.state.pt"
    write_state_file(path, content(1))
    monkeypatch.setattr(folder.os, "fsync", lambda handle: os.ftruncate(handle, 10))
    with pytest.raises(RunError, match="gives back something else"):
        write_state_file(path, content(2))
    monkeypatch.undo()
    assert read_state_file(path)["progress"]["epoch"] == 1


def test_the_newest_states_are_kept(tmp_path: Path) -> None:
    """Three of five; with a count of one none beside the last."""
    path, states = tmp_path / "last.state.pt", tmp_path / "states"
    for epoch in range(1, 6):
        write_state_file(path, content(epoch))
        keep_newest(path, states, epoch, 3)
    assert sorted(p.name for p in states.iterdir()) == [f"epoch-{n:04d}.state.pt" for n in (3, 4, 5)]
    assert read_state_file(states / "epoch-0003.state.pt")["progress"]["epoch"] == 3
    keep_newest(path, states, 6, 1)
    assert not list(states.iterdir())


def test_a_state_from_before_there_were_seals_is_read(tmp_path: Path) -> None:
    """As torch.save alone wrote it."""
    torch.save(content(4) | {"version": 1}, tmp_path / "last.state.pt")
    assert read_state_file(tmp_path / "last.state.pt")["progress"]["epoch"] == 4


def test_a_damaged_state_is_replaced_before_anything_is_saved(tmp_path: Path) -> None:
    """Else the next save would put it in the place of the good one before it, and a kill there would lose both."""
    path = tmp_path / "last.state.pt"
    for step in (1, 2):
        write_state_file(path, content(step))
    heal(path)
    assert (read_state_file(path)["progress"]["epoch"], read_state_file(previous(path))["progress"]["epoch"]) == (2, 1)
    path.write_bytes(path.read_bytes()[:100])
    heal(path)
    assert read_state_file(path)["progress"]["epoch"] == 1
    path.unlink()
    heal(path)
    assert path.exists()


@pytest.mark.parametrize(
    ("key", "value"), [("epoch", -1), ("step", "x"), ("best_epoch", None), ("epoch_sums", {"loss": "x"}), ("best", [])]
)
def test_a_state_that_says_nonsense_about_its_place_is_damaged(key: str, value: object, tmp_path: Path) -> None:
    """Whatever its seal says: it may be of somebody else's making."""
    path = tmp_path / "last.state.pt"
    broken = content(1)
    broken["progress"] |= {key: value}
    write_state_file(path, broken)
    with pytest.raises(RunError, match=f"does not say how far the run is.*{key}"):
        read_state_file(path)


def test_every_process_gets_its_own_random_state_back(tmp_path: Path) -> None:
    """Of three: the third draws what it would have drawn; a fourth keeps what its seed gave. So in old files."""
    states = []
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        states.append(random_state())
    model = torch.nn.Linear(2, 2)
    state = TrainState(model, torch.optim.SGD(model.parameters(), lr=0.1), None, Progress())
    path = tmp_path / "last.state.pt"
    new = state.content(states)
    old = {k: v for k, v in new.items() if k != "random"} | {"rng": states[0]["cpu"], "cuda_rng": []}
    for saved in (new, old | {"rngs": [s["cpu"] for s in states]}):
        write_state_file(path, saved)
        for rank, seed in ((0, 1), (2, 3), (3, 9)):
            torch.manual_seed(9)
            state.load(path, rank)
            assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(seed))), rank
    write_state_file(path, old | {"rngs": []})
    torch.manual_seed(9)
    state.load(path)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(1)))


def test_settings_of_the_recipe_hold_over_those_of_the_state(tmp_path: Path) -> None:
    """Weight decay was changed before the run goes on: the state's moments come back, its old settings do not."""
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.05)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    TrainState(model, optimizer, None, Progress()).save(tmp_path / "last.state.pt")
    other = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5, betas=(0.5, 0.9))
    TrainState(model, other, None, Progress()).load(tmp_path / "last.state.pt")
    assert (other.param_groups[0]["weight_decay"], other.param_groups[0]["betas"]) == (0.5, (0.5, 0.9))
    assert torch.equal(other.state[model.weight]["exp_avg"], optimizer.state[model.weight]["exp_avg"])
