"""Whole runs on small generated pictures: learning, stopping, resuming, failing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convnext.__main__ import main
from convnext.config import load_recipe
from convnext.errors import DataError, NonFiniteLoss, RunError
from convnext.evaluate.evaluate import evaluate_run, judge_run
from convnext.nn.weights.load import read_model
from convnext.report.finish import finish_run
from convnext.run.folder import locked
from convnext.run.load import load
from convnext.run.state import previous
from convnext.train import loop as loops
from convnext.train.resume import resume_run
from convnext.train.train import train_run

StripesWriter = Callable[..., Path]
QUICK = [
    "weights=none", "model.name=convnext_atto", "data.size=32", "model.stem_patch=4", "train.batch=8",
    "data.workers=0", "train.lr=1e-3", "augment.color_jitter=0", "train.precision=fp32", "augment.crop_min=0.8",
]  # fmt: skip


def states(run: Path) -> dict[str, torch.Tensor]:
    """All weights of the last epoch."""
    return read_model(run / "last.safetensors")[0]


def test_a_run_learns_and_leaves_everything_behind(stripes: Path, tmp_path: Path) -> None:
    """Two easy classes are told apart; the folder has every file that later commands need, and the log is complete."""
    recipe = load_recipe(None, [*QUICK, "train.epochs=6"])
    run = train_run(stripes, recipe, tmp_path / "run")
    result = judge_run(run.path)
    names = "recipe.toml environment.json data.json plan.json log.jsonl result.json mistakes.json batch.json"
    for name in [*names.split(), "last.state.pt", "last.safetensors", "best.safetensors", "pictures/batch.jpg"]:
        assert (run.path / name).exists(), name
    assert list((run.path / "tensorboard").glob("events.*"))
    log = run.read_log()
    assert [row["epoch"] for row in log] == [1, 2, 3, 4, 5, 6]
    assert log[-1]["train_loss"] < log[0]["train_loss"]
    assert result["top1"] >= 0.9
    assert result["split"] == "test"
    assert result["weights"] == "best"
    assert result["n"] == sum(map(sum, result["confusion"]))
    assert result["majority_top1"] < 0.7
    model = load(run.path)
    assert model.classes == ("narrow", "wide")
    assert model.preprocessing is not None
    assert model.preprocessing.size == 32


def test_the_same_seed_gives_the_same_weights_with_any_number_of_workers(stripes: Path, tmp_path: Path) -> None:
    """Bit for bit: no worker, one worker, no cache, a cache on disk; another seed gives other weights."""
    runs = {}
    for name, extra in {
        "a": [], "b": ["data.workers=1"], "c": ["data.cache_gb=0"], "d": ["train.seed=1"],
        "e": ["data.cache_gb=0", "data.disk_cache_gb=0.1", "data.workers=1"],
    }.items():  # fmt: skip
        recipe = load_recipe(None, [*QUICK, "train.epochs=2", "augment.mixup=0.4", "model.drop_path=0.2", *extra])
        runs[name] = states(train_run(stripes, recipe, tmp_path / name).path)
    for name in "bce":
        assert all(torch.equal(runs["a"][k], runs[name][k]) for k in runs["a"]), name
    assert not torch.equal(runs["a"]["head.weight"], runs["d"]["head.weight"])


def test_accumulated_gradients_are_those_of_the_whole_batch(stripes: Path, tmp_path: Path) -> None:
    """A batch of 8 in micro-batches of 2 gives the gradients of one forward pass, to float tolerance."""
    gradients = {}
    for micro in (8, 2):
        model, step = one_step(stripes, tmp_path / str(micro), f"train.micro_batch={micro}")
        step()
        gradients[micro] = [g.clone() for g in model.caught]  # type: ignore[attr-defined]
    for whole, parts in zip(gradients[8], gradients[2], strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)
    assert max(float(g.abs().max()) for g in gradients[8]) > 1e-3


def one_step(data: Path, out: Path, *settings: str) -> tuple[torch.nn.Module, Callable[[], object]]:
    """A model whose gradients at the first optimizer step are kept in `caught`, and the run that takes that step."""
    holder = torch.nn.Module()
    original = torch.optim.AdamW.step

    def catch(self: torch.optim.AdamW, *args: object) -> None:
        if not hasattr(holder, "caught"):
            holder.caught = [p.grad for g in self.param_groups for p in g["params"]]
        original(self, *args)  # type: ignore[arg-type]

    def run() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.optim.AdamW, "step", catch)
            train_run(data, load_recipe(None, [*QUICK, "train.epochs=1", "model.drop_path=0", *settings]), out)

    return holder, run


def test_bf16_stays_close_to_fp32(stripes: Path, tmp_path: Path) -> None:
    """The losses of an epoch in bf16 autocast are those of fp32 to 2 %."""
    losses = {}
    for precision in ("fp32", "bf16"):
        recipe = load_recipe(None, [*QUICK, "train.epochs=1", f"train.precision={precision}"])
        losses[precision] = train_run(stripes, recipe, tmp_path / precision).read_log()[0]["train_loss"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)
    assert losses["bf16"] != losses["fp32"]


def test_stopping_and_resuming_changes_nothing(stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the middle of the second epoch and resumed: the weights of the uninterrupted run, bit for bit."""
    settings = [
        *QUICK,
        "train.epochs=3",
        "augment.cutmix=1.0",
        "model.drop_path=0.2",
        "data.size=48",
        "data.start_size=32",
    ]
    whole = train_run(stripes, load_recipe(None, settings), tmp_path / "whole")
    steps = {"done": 0}
    original = loops.Loop._step

    def step(self: loops.Loop, *args: object) -> bool:
        found = original(self, *args)  # type: ignore[arg-type]
        steps["done"] += 1
        if steps["done"] == self.steps.per_epoch + 3:
            os.kill(os.getpid(), signal.SIGINT)
        return found

    monkeypatch.setattr(loops.Loop, "_step", step)
    with pytest.raises(KeyboardInterrupt):
        train_run(stripes, load_recipe(None, settings), tmp_path / "cut")
    monkeypatch.undo()
    assert len((tmp_path / "cut" / "log.jsonl").read_text().splitlines()) == 1
    torch.manual_seed(123)
    resumed = resume_run(tmp_path / "cut")
    a, b = states(whole.path), states(resumed.path)
    assert all(torch.equal(a[k], b[k]) for k in a)
    losses = [[row["train_loss"] for row in run.read_log()] for run in (whole, resumed)]
    assert losses[0] == losses[1]
    finish_run(resumed.path)
    with pytest.raises(RunError, match="is finished"):
        resume_run(resumed.path)


def test_a_killed_run_goes_on(stripes: Path, tmp_path: Path) -> None:
    """kill -9 at some moment after the first epoch: --resume ends with every epoch that was asked for."""
    run = tmp_path / "run"
    settings = [*QUICK, "train.epochs=4", "data.workers=2"]  # loader processes outlive a killed parent by seconds
    command = [sys.executable, "-m", "convnext", "train", str(stripes), *settings, "--out", str(run)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not (run / "last.state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = subprocess.run(
        [sys.executable, "-m", "convnext", "train", "--resume", "--out", str(run)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    epochs = [json.loads(line)["epoch"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3, 4]
    assert "going on with" in done.stderr
    assert (run / "report.html").exists()


def test_a_run_killed_in_its_first_epoch_starts_again(stripes: Path, tmp_path: Path) -> None:
    """There is a recipe and no state yet: --resume begins at the beginning, and ends as the run would have."""
    run = train_run(stripes, load_recipe(None, [*QUICK, "train.epochs=2"]), tmp_path / "run")
    expected = states(run.path)
    for name in ("last.state.pt", "last.safetensors", "best.safetensors", "log.jsonl"):
        (run.path / name).unlink()
    again = states(resume_run(run.path).path)
    assert all(torch.equal(expected[k], again[k]) for k in expected)


def test_a_run_from_before_the_choice_of_initial_weights_goes_on(stripes: Path, tmp_path: Path) -> None:
    """Its recipe has no `init`: it started from the paper's weights, and does so again."""
    run = train_run(stripes, load_recipe(None, [*QUICK, "train.epochs=1", "model.init=paper"]), tmp_path / "run")
    expected = states(run.path)
    for name in ("last.state.pt", "last.safetensors", "best.safetensors", "log.jsonl"):
        (run.path / name).unlink()
    lines = (run.path / "recipe.toml").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("init = ")]
    assert len(kept) == len(lines) - 1
    (run.path / "recipe.toml").write_text("".join(kept))
    again = states(resume_run(run.path).path)
    assert all(torch.equal(expected[k], again[k]) for k in expected)


def test_a_run_stopped_before_it_was_judged_is_judged_on_resume(stripes: Path, tmp_path: Path) -> None:
    """The last step of the main job can be repeated, without its weight file and without training again."""
    start = train_run(stripes, load_recipe(None, [*QUICK, "train.epochs=1"]), tmp_path / "start")
    recipe = load_recipe(None, [*QUICK[1:], "train.epochs=1", f"weights={start.last}"])
    run = train_run(stripes, recipe, tmp_path / "run")
    start.last.unlink()
    before = run.last.stat().st_mtime_ns
    assert main(["train", "--resume", "--out", str(run.path)]) == 0
    assert run.last.stat().st_mtime_ns == before
    assert run.result.exists()
    assert main(["train", "--resume", "--out", str(run.path)]) == 2


def test_resuming_needs_no_start_weights(stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state holds all weights: the file that the run started from may be gone."""
    start = train_run(stripes, load_recipe(None, [*QUICK, "train.epochs=1"]), tmp_path / "start")
    monkeypatch.setattr(loops.Loop, "finished", property(lambda self: self.state.progress.epoch >= 1))
    recipe = load_recipe(None, [*QUICK[1:], "train.epochs=2", f"weights={start.last}"])
    run = train_run(stripes, recipe, tmp_path / "run")
    monkeypatch.undo()
    start.last.unlink()
    assert len(resume_run(run.path).read_log()) == 2


def test_a_run_inside_its_data_is_refused(stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would become a class; and data inside a run folder could be overwritten with it."""
    recipe = load_recipe(None, [*QUICK, "train.epochs=1"])
    with pytest.raises(RunError, match="lies inside the data"):
        train_run(stripes, recipe, stripes / "runs" / "a")
    monkeypatch.chdir(stripes)
    assert main(["train", ".", *QUICK]) == 2
    assert sorted(p.name for p in stripes.iterdir()) == ["narrow", "wide"]
    (tmp_path / "recipe.toml").write_text("")
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(RunError, match="lies inside --out"):
        train_run(stripes, recipe, tmp_path, overwrite=True)


def test_two_processes_do_not_share_a_run_folder(stripes: Path, tmp_path: Path) -> None:
    """While one holds it, another can neither resume nor overwrite."""
    run = train_run(stripes, load_recipe(None, [*QUICK, "train.epochs=1"]), tmp_path / "run")
    run.state.unlink()
    with locked(run):
        with pytest.raises(RunError, match="another process"):
            resume_run(run.path)
        with pytest.raises(RunError, match="another process"):
            train_run(stripes, load_recipe(None, QUICK), run.path, overwrite=True)


def test_the_state_of_another_run_is_refused(stripes: Path, tmp_path: Path) -> None:
    """The same data, model, batch and seed, but another rate: copied in by hand, it would go on as its own."""
    runs = [
        train_run(stripes, load_recipe(None, [*QUICK, "train.epochs=2", f"train.lr={rate}"]), tmp_path / rate)
        for rate in ("1e-3", "2e-3")
    ]
    for run in runs:
        run.recipe.write_text(run.recipe.read_text().replace("\nepochs = 2 ", "\nepochs = 3 "))
    own = runs[0].state.read_bytes()
    runs[0].state.write_bytes(runs[1].state.read_bytes())
    with pytest.raises(RunError, match="is the state of another run"):
        resume_run(runs[0].path)
    runs[0].state.write_bytes(own)
    assert len(resume_run(runs[0].path).read_log()) == 3


def test_a_process_that_waits_for_the_folder_has_not_read_its_state(stripes: Path, tmp_path: Path) -> None:
    """Held by another process, a run is refused before anything is read: what was read would be old by then."""
    run = train_run(stripes, load_recipe(None, [*QUICK, "train.epochs=1"]), tmp_path / "run")
    run.state.write_bytes(b"half a state")
    previous(run.state).unlink(missing_ok=True)
    with locked(run), pytest.raises(RunError, match="another process"):
        resume_run(run.path)
    with pytest.raises(RunError, match="is damaged"):
        resume_run(run.path)


def test_too_few_pictures_for_a_validation_are_refused(tmp_path: Path, write_stripes: StripesWriter) -> None:
    """Two classes of two pictures: nothing could be held out."""
    data = write_stripes(tmp_path / "data", {"a": 2, "b": 2})
    with pytest.raises(DataError, match="3 different pictures"):
        train_run(data, load_recipe(None, [*QUICK, "train.epochs=1"]), tmp_path / "run")


def test_names_that_are_not_utf8_and_a_linked_table_are_no_obstacle(tmp_path: Path) -> None:
    """File names as old disks have them, and a CSV that is a symbolic link to another folder."""
    rng = np.random.default_rng(0)
    rows = ["path,label"]
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(24):
        pixels = rng.integers(0, 99, (40, 40, 3), dtype=np.uint8)
        pixels[..., i % 2] += 90
        name = f"{i}.png"
        Image.fromarray(pixels).save(folder / name)
        rows.append(f"pictures/{name},{'rouge' if i % 2 else 'bläu 青'}")
    (tmp_path / "table.csv").write_text("\n".join(rows), encoding="utf-8")
    (folder / "0.png").rename(os.fsdecode(os.fsencode(folder) + b"/\xff.png"))
    (folder / "0.png").symlink_to(os.fsdecode(os.fsencode(folder) + b"/\xff.png"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "pictures.csv").symlink_to(tmp_path / "table.csv")
    recipe = load_recipe(None, [*QUICK, "train.epochs=1"])
    run = train_run(tmp_path / "pictures.csv", recipe, tmp_path / "run")
    assert judge_run(run.path)["n"] > 0
    shutil.copytree(folder, tmp_path / "classes" / "a")
    (tmp_path / "classes" / "b").mkdir()
    for i in range(8):
        Image.effect_noise((40, 40), 30 + i).save(tmp_path / "classes" / "b" / f"{i}.png")
    Path(os.fsdecode(os.fsencode(tmp_path / "classes" / "b") + b"/\xfe.jpg")).write_bytes(b"broken")
    run = train_run(tmp_path / "classes", recipe, tmp_path / "run2")
    assert judge_run(run.path)["n"] > 0
    assert len(run.read_json("data.json")["broken"]) == 1


def test_judging_a_saved_run_again_gives_the_same_numbers(stripes: Path, tmp_path: Path) -> None:
    """In another process too: `evaluate --json` prints result.json's numbers."""
    run = train_run(stripes, load_recipe(None, [*QUICK, "train.epochs=2"]), tmp_path / "run")
    first = judge_run(run.path)
    again = evaluate_run(run.path).result
    assert again == first
    out = subprocess.run(
        [sys.executable, "-m", "convnext", "evaluate", str(run.path), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(out.stdout) == json.loads((run.path / "result.json").read_text())


def test_a_time_budget_becomes_epochs_that_are_written_down(stripes: Path, tmp_path: Path) -> None:
    """`train.minutes` alone: the measured number of epochs is in recipe.toml, and the run keeps near its budget."""
    run = train_run(stripes, load_recipe(None, [*QUICK, "train.minutes=0.1"]), tmp_path / "run")
    written = load_recipe(run.path / "recipe.toml", [])
    log = run.read_log()
    assert written.train.minutes == 0.1
    choices = json.loads((run.path / "plan.json").read_text())
    assert [choice["value"] for choice in choices if choice["key"] == "train.epochs"] == [written.train.epochs]
    assert log[-1]["epoch"] == log[-1]["epochs"] == len(log) >= 1
    if not written.train.replanned:
        assert len(log) == written.train.epochs


def test_a_loss_that_is_not_a_number_stops_the_run(stripes: Path, tmp_path: Path) -> None:
    """With the step and the remedy; the state of the last whole epoch is still there."""
    settings = [*QUICK, "train.epochs=3", "train.lr=9e8", "train.warmup_epochs=0", "train.ema=false"]
    with pytest.raises(NonFiniteLoss, match=r"step \d+.*Lower train\.lr"):
        train_run(stripes, load_recipe(None, settings), tmp_path / "run")


def test_weights_that_diverge_in_the_last_step_of_an_epoch_are_not_saved(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training loss was still a number, the validation's is not: the state and models of the epoch before stay."""
    original = loops.Loop._validate

    def diverge(self: loops.Loop, number: int) -> object:
        if number == 2:
            with torch.no_grad():
                next(self.state.model.parameters()).fill_(float("nan"))
        return original(self, number)

    monkeypatch.setattr(loops.Loop, "_validate", diverge)
    with pytest.raises(NonFiniteLoss, match="the state after epoch 1 is kept"):
        train_run(stripes, load_recipe(None, [*QUICK, "train.epochs=3"]), tmp_path / "run")
    monkeypatch.undo()
    for name in ("last.safetensors", "best.safetensors"):
        state, config = read_model(tmp_path / "run" / name)
        assert all(bool(t.isfinite().all()) for t in state.values())
        assert config is not None
        assert config["epoch"] == 1
    assert len(resume_run(tmp_path / "run").read_log()) == 3


def test_without_a_test_split_the_last_epoch_is_judged_on_validation(
    tmp_path: Path, write_stripes: StripesWriter
) -> None:
    """Never the best one, which was chosen there."""
    for split, pictures in (("train", 16), ("val", 8)):
        write_stripes(tmp_path / "data" / split, {"a": pictures, "b": pictures}, seed=len(split))
    run = train_run(tmp_path / "data", load_recipe(None, [*QUICK, "train.epochs=2"]), tmp_path / "run")
    result = judge_run(run.path)
    assert (result["split"], result["weights"], result["n"]) == ("val", "last", 16)
    assert result["last_val"]["val_top1"] == run.read_log()[-1]["val_top1"]
    source = "ema_val_top1" if result["source"] == "ema" else "val_top1"
    assert result["top1"] == pytest.approx(run.read_log()[-1][source])


def test_early_stop_ends_a_run_that_no_longer_improves(stripes: Path, tmp_path: Path) -> None:
    """A learning rate of nearly nothing: patience 2 ends it long before the 50 epochs."""
    settings = [*QUICK, "train.epochs=50", "train.patience=2", "train.lr=1e-9", "train.batch=32"]
    run = train_run(stripes, load_recipe(None, settings), tmp_path / "run")
    assert 3 <= len(run.read_log()) <= 20
    finish_run(run.path)
    with pytest.raises(RunError, match="is finished"):
        resume_run(run.path)


def test_several_labels_a_picture(tmp_path: Path) -> None:
    """A CSV with a|b labels trains with one sigmoid a class and is judged by F1."""
    rng = np.random.default_rng(0)
    rows = ["path,label"]
    for i in range(80):
        top, left = i % 2 == 0, i % 3 == 0
        pixels = rng.integers(0, 50, (40, 40, 3), dtype=np.uint8)
        pixels[:20, :, 0] += 200 * top
        pixels[:, :, 2] += 200 * left
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{'|'.join(['top'] * top + ['blue'] * left) or 'plain'}")
    (tmp_path / "data.csv").write_text("\n".join(rows))
    recipe = load_recipe(None, [*QUICK, "train.epochs=8", "augment.flip=0.5"])
    run = train_run(tmp_path / "data.csv", recipe, tmp_path / "run")
    result = judge_run(run.path)
    assert result["multi_label"] is True
    assert result["micro_f1"] > 0.8
    assert {entry["name"] for entry in result["per_class"]} == {"blue", "plain", "top"}


def test_files_that_break_later_are_left_out_and_named(
    stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture that was fine at the check and unreadable during training does not stop the run."""
    import convnext.train.train as training

    original = training.make_loop

    def spoil(*args: object) -> object:
        made = original(*args)  # type: ignore[arg-type]
        victim = made.train_batches.dataset.samples[0].path  # type: ignore[attr-defined]
        victim.write_bytes(b"not a picture any more")
        return made

    monkeypatch.setattr(training, "make_loop", spoil)
    recipe = load_recipe(None, [*QUICK, "train.epochs=1", "data.cache_gb=0"])
    run = train_run(stripes, recipe, tmp_path / "run")
    assert len(run.read_log()) == 1
    assert capsys.readouterr().err.count("left out:") == 1


def test_changed_data_is_noticed_on_resume(stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another number of training pictures cannot go on where the old ones stopped."""
    monkeypatch.setattr(loops.Loop, "finished", property(lambda self: self.state.progress.epoch >= 1))
    run = train_run(stripes, load_recipe(None, [*QUICK, "train.epochs=3"]), tmp_path / "run")
    monkeypatch.undo()
    for path in sorted((stripes / "wide").iterdir())[:20]:
        path.unlink()
    with pytest.raises(RunError, match="are not those that the run started with"):
        resume_run(run.path)


def test_a_disk_that_is_too_small_is_refused_before_the_first_step(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what is needed and what there is; nothing is written, and a run in --out stays."""
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**6))
    with pytest.raises(RunError, match=r"needs about \d+ MB, its disk has 1 MB left"):
        train_run(stripes, load_recipe(None, [*QUICK, "train.epochs=1"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_data_of_one_class_and_folders_in_use_are_refused_before_anything_is_written(
    stripes: Path, tmp_path: Path
) -> None:
    """An --out that holds another run or other files stays as it is."""
    recipe = load_recipe(None, QUICK)
    (tmp_path / "one" / "only").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(tmp_path / "one" / "only" / "a.png")
    with pytest.raises(DataError, match="single class"):
        train_run(tmp_path / "one", recipe, tmp_path / "never")
    assert not (tmp_path / "never").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="holds other files"):
        train_run(stripes, recipe, other, overwrite=True)
    (other / "recipe.toml").write_text("")
    with pytest.raises(RunError, match="holds other files"):
        train_run(stripes, recipe, other, overwrite=True)
    (other / "log.jsonl").write_text("")
    with pytest.raises(RunError, match="holds another run"):
        train_run(stripes, recipe, other)
    train_run(stripes, load_recipe(None, [*QUICK, "train.epochs=1"]), other, overwrite=True)
    assert (other / "thesis.txt").read_text() == "years of work"
