"""What goes wrong outside of training: each is said in one line, with the remedy, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convnext.__main__ import main
from convnext.config import load_recipe
from convnext.data.feed.framing import central_view
from convnext.data.feed.loader import PictureCache
from convnext.data.sources.dataset import Dataset
from convnext.errors import DataError, NonFiniteLoss, RunError, UserError, WeightsError
from convnext.evaluate.evaluate import evaluate_run
from convnext.nn.create import create_model
from convnext.nn.weights.load import load_state, read_model
from convnext.run.folder import RunFolder
from convnext.tasks.classify.multi import MultiLabel
from convnext.tasks.classify.targets import read_dataset
from convnext.tasks.records import Records
from convnext.train import train as training
from convnext.train.resume import resume_run
from convnext.train.train import train_run

QUICK = [
    "weights=none", "model.name=convnext_atto", "data.size=32", "train.batch=8", "data.workers=0", "train.epochs=1",
    "train.precision=fp32",
]  # fmt: skip


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ('["narrow", "wide", "wyde"]', 'class "wyde" of data.classes has no training pictures .did you mean "wide"'),
        ('["narrow", "wide", "wide"]', 'data.classes names "wide" 2 times'),
    ],
)
def test_classes_that_nobody_can_learn_are_refused(classes: str, message: str, stripes: Path, tmp_path: Path) -> None:
    """A typo in data.classes would become an output that is never right."""
    with pytest.raises(DataError, match=message):
        train_run(stripes, load_recipe(None, [*QUICK, f"data.classes={classes}"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_cache_that_the_machine_does_not_give_is_refused() -> None:
    """With the knob to turn."""
    with pytest.raises(UserError, match=r"data.cache_gb asks for 1e\+09 GB"):
        PictureCache(1, 10**18)


def test_a_loader_process_that_is_killed_is_explained(tmp_path: Path) -> None:
    """By the system for want of memory, or for want of shared memory in a container."""
    run = RunFolder(tmp_path)
    found = training._explained(RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), run)
    assert isinstance(found, RunError)
    assert "data.workers = 0" in str(found)
    assert "--resume --out" in str(found)
    full = training._explained(torch.OutOfMemoryError("CUDA out of memory"), run)
    assert "train.micro_batch" in str(full)
    other = RuntimeError("a fault of ours")
    assert training._explained(other, run) is other


def test_predictions_that_are_not_numbers_give_a_loss_that_is_none() -> None:
    """So that the run stops as it should, with one label or with several."""
    metrics = MultiLabel(("a", "b")).metrics(
        Records({"values": np.full((1, 2), np.nan, np.float32), "truth": np.ones((1, 2), np.float32)})
    )
    assert np.isnan(metrics["loss"])


def test_a_diverged_run_with_several_labels_stops_with_the_step(tmp_path: Path) -> None:
    """A learning rate that blows the weights up in the only step of the epoch."""
    rows = ["path,label"]
    for number in range(24):
        Image.new("RGB", (32, 32), (number * 9, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'a|b' if number % 2 else 'a'}")
    (tmp_path / "data.csv").write_text("\n".join(rows))
    settings = [*QUICK, "train.lr=1e8", "train.warmup_epochs=0", "train.epochs=3"]
    with pytest.raises(NonFiniteLoss, match=r"Lower train.lr.*recipe.toml to go on from there by --resume"):
        train_run(tmp_path / "data.csv", load_recipe(None, settings), tmp_path / "run")


def test_a_strip_is_seen_without_filling_the_memory() -> None:
    """Its middle, as if the whole had been enlarged; a picture of ordinary shape is seen as ever."""
    strip = torch.zeros(3, 1, 1_000_000, dtype=torch.uint8)
    strip[:, :, 499_000:501_000] = 200
    assert (central_view(*strip.shape[1:], 64, 0.875).picture(strip, "bicubic") == 200).all()
    wide = torch.randint(0, 255, (3, 40, 300), dtype=torch.uint8)
    long = torch.cat([torch.zeros(3, 40, 50, dtype=torch.uint8), wide, torch.zeros(3, 40, 50, dtype=torch.uint8)], 2)
    first, second = (central_view(*p.shape[1:], 35, 0.875).picture(p, "bicubic") for p in (wide, long))
    assert torch.equal(first, second)


def test_pictures_in_two_given_splits_are_remarked(stripes: Path, tmp_path: Path) -> None:
    """Equal files in train and test make the result flatter; that is said at once."""
    files = sorted(stripes.rglob("*.png"))
    rows = [f"{file},{file.parent.name},{'test' if n % 4 == 0 else 'train'}" for n, file in enumerate(files)]
    copy = tmp_path / "copy.png"
    copy.write_bytes(files[1].read_bytes())
    rows.append(f"{copy},{files[1].parent.name},test")
    (tmp_path / "data.csv").write_text("path,label,split\n" + "\n".join(rows))
    notes = " ".join(read_dataset(tmp_path / "data.csv").notes)
    assert "1 picture is in more than one split, so the result flatters" in notes
    (tmp_path / "clean.csv").write_text("path,label,split\n" + "\n".join(rows[:-1]))
    assert "more than one split" not in " ".join(read_dataset(tmp_path / "clean.csv").notes)


def test_data_of_test_pictures_alone_can_be_judged(
    stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table whose rows are all "test", a folder with only test/: nothing is to be learnt from them."""
    run = train_run(stripes, load_recipe(None, QUICK), tmp_path / "run").path
    files = sorted(stripes.rglob("*.png"))[::5]
    table = tmp_path / "test.csv"
    table.write_text("path,label,split\n" + "\n".join(f"{f},{f.parent.name},test" for f in files))
    judged = evaluate_run(run, table)
    assert (judged.result["n"], judged.result["split"]) == (len(files), "test")
    for file in files:
        (tmp_path / "only" / "test" / file.parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "only" / "test" / file.parent.name / file.name).write_bytes(file.read_bytes())
    again = evaluate_run(run, tmp_path / "only")
    assert again.result["confusion"] == judged.result["confusion"]
    with pytest.raises(DataError, match="no train/"):
        read_dataset(tmp_path / "only")
    (stripes / "wide" / "new.png").write_bytes(b"no picture")
    capsys.readouterr()
    evaluate_run(run)
    assert "has changed since the run was trained" not in capsys.readouterr().err  # a broken file changes no split
    Image.new("RGB", (40, 40), (1, 2, 3)).save(stripes / "wide" / "new.png")
    evaluate_run(run)
    assert "has changed since the run was trained" in capsys.readouterr().err


def test_what_the_system_refuses_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is too long for the file system: exit code 2, no traceback."""
    assert main(["predict", "runs/none", "a" * 300]) == 2
    assert main(["report", "a" * 300]) == 2
    err = capsys.readouterr().err
    assert "too long" in err
    assert "Traceback" not in err


def test_a_seed_that_torch_cannot_take_is_refused(stripes: Path, tmp_path: Path) -> None:
    """With the rule."""
    assert main(["train", str(stripes), *QUICK, "train.seed=18446744073709551616", "--out", str(tmp_path / "r")]) == 2


def test_weights_of_the_run_that_is_replaced_are_refused(stripes: Path, tmp_path: Path) -> None:
    """They would be gone before the new run has saved anything."""
    run = train_run(stripes, load_recipe(None, QUICK), tmp_path / "run")
    recipe = load_recipe(None, [*QUICK[1:], f"weights={run.best}"])
    with pytest.raises(RunError, match="which is to be replaced"):
        train_run(stripes, recipe, run.path, overwrite=True)
    assert run.best.exists()


def test_a_finished_run_is_judged_anew_when_its_verdict_is_old(
    stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More epochs asked for afterwards, and a stop before they are judged: the old verdict is not the last word."""
    out = tmp_path / "run"
    assert main(["train", str(stripes), *QUICK, "train.keep_state=true", "--out", str(out)]) == 0
    assert main(["train", "--resume", "--out", str(out)]) == 2
    assert "is finished (1 epoch)" in capsys.readouterr().err
    recipe = out / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("epochs = 1 ", "epochs = 2 "))
    assert resume_run(out).read_table("result.json")["epochs"] == 1  # type: ignore[index]
    assert main(["train", "--resume", "--out", str(out)]) == 0
    assert "was not judged" in capsys.readouterr().err
    assert RunFolder(out).read_table("result.json")["epochs"] == 2  # type: ignore[index]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("data.json", "[]", "holds a list, no table"),
        ("recipe.toml", "", 'leaves .*train.epochs.* at "auto"'),
        ("log.jsonl", "5\n{}\n", "log.jsonl, line 1 is damaged"),
    ],
)
def test_damaged_files_of_a_run_are_named(file: str, content: str, message: str, stripes: Path, tmp_path: Path) -> None:
    """By resuming and by judging."""
    run = train_run(stripes, load_recipe(None, QUICK), tmp_path / "run").path
    recipe = (run / "recipe.toml").read_text().replace("epochs = 1 ", "epochs = 2 ")
    (run / "recipe.toml").write_text(recipe)
    (run / file).write_text(content)
    with pytest.raises(UserError, match=message):
        evaluate_run(run)
    with pytest.raises(UserError, match=message):
        resume_run(run)


def test_a_single_training_picture_trains(tmp_path: Path) -> None:
    """It is a batch of one, not an epoch without a step."""
    for number in range(2):
        Image.new("RGB", (40, 40), (number * 99, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "data.csv").write_text("path,label,split\n0.png,a|b,train\n1.png,a,val\n")
    settings = [setting for setting in QUICK if not setting.startswith("train.batch")]
    run = train_run(tmp_path / "data.csv", load_recipe(None, settings), tmp_path / "run")
    assert run.read_log()[0]["step"] == 1


def test_a_given_split_of_broken_pictures_is_not_replaced_by_another(stripes: Path, tmp_path: Path) -> None:
    """Judging something else without a word would be a lie."""
    rows = [f"{file},{file.parent.name},train" for file in sorted(stripes.rglob("*.png"))]
    (tmp_path / "bad.png").write_bytes(b"no picture")
    for split in ("val", "test"):
        (tmp_path / "data.csv").write_text("\n".join(["path,label,split", *rows, f"bad.png,wide,{split}"]))
        with pytest.raises(DataError, match=f"the {split} split: its only picture is broken"):
            read_dataset(tmp_path / "data.csv")


def test_one_picture_under_two_names_is_seen(stripes: Path, tmp_path: Path) -> None:
    """`a/../b.png` is `b.png`: with another label the table contradicts itself."""
    files = sorted(stripes.rglob("*.png"))
    rows = [f"{file},{file.parent.name}" for file in files]
    other = files[0].parent.parent / files[-1].parent.name / ".." / files[0].parent.name / files[0].name
    (tmp_path / "data.csv").write_text("\n".join(["path,label", *rows, f"{other},{files[-1].parent.name}"]))
    with pytest.raises(DataError, match=r"lines 2 and \d+"):
        read_dataset(tmp_path / "data.csv")


def test_a_folder_whose_name_is_no_text_is_refused_before_training(stripes: Path, tmp_path: Path) -> None:
    """A recipe could not name it, and the finished run could not be judged."""
    folder = tmp_path / "inv\udcffroot"
    stripes.rename(folder)
    with pytest.raises(DataError, match="not text in UTF-8"):
        read_dataset(folder)


def test_a_validation_split_that_vanishes_stops_the_run(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be said of an epoch that nobody judged."""
    original = training.make_loop

    def spoil(*args: object) -> object:
        made = original(*args)  # type: ignore[arg-type]
        for sample in made.judge.batches.dataset.samples:  # type: ignore[attr-defined]
            sample.path.unlink()
        return made

    monkeypatch.setattr(training, "make_loop", spoil)
    with pytest.raises(DataError, match="none of the validation pictures can be read any more"):
        train_run(stripes, load_recipe(None, [*QUICK, "data.cache_gb=0"]), tmp_path / "run")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    """They would name every picture alike, with a probability that is none."""
    model = create_model("convnext_atto", num_classes=2)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["head.bias"][0] = value
    with pytest.raises(WeightsError, match=r"head\.bias holds values that are not finite"):
        load_state(model, state, source="x.pth")
    state["head.bias"] = torch.zeros(2).to_sparse()
    with pytest.raises(WeightsError, match=r"head\.bias is not a plain tensor"):
        load_state(model, state, source="x.pth")


def test_closed_streams_and_full_devices_are_no_fault(stripes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`2>&-`, as services do, and an output that takes no more."""
    monkeypatch.setattr("sys.stderr", None)
    assert main(["doctor", str(stripes)]) == 0
    sys.stderr.close()
    monkeypatch.undo()
    command = [sys.executable, "-m", "convnext", "doctor", str(stripes)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert "cannot be written: the disk is full" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_table_does_not_replace_a_picture(stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`predict --out` on one of its inputs."""
    run = train_run(stripes, load_recipe(None, QUICK), tmp_path / "run").path
    picture = next(stripes.rglob("*.png"))
    before = picture.read_bytes()
    assert main(["predict", str(run), str(picture), "--out", str(picture)]) == 2
    assert "is one of the pictures" in capsys.readouterr().err
    assert picture.read_bytes() == before


def test_a_run_killed_before_it_described_its_data_is_whole_in_the_end(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its recipe and data.json: resuming writes what is missing, as if it had never been killed."""

    def killed(*anything: object) -> None:
        raise SystemExit(137)

    with monkeypatch.context() as broken:
        broken.setattr(Dataset, "describe", killed)
        with pytest.raises(SystemExit):
            train_run(stripes, load_recipe(None, QUICK), tmp_path / "run")
    assert not (tmp_path / "run" / "data.json").exists()
    (tmp_path / "run" / ".data.json.part").write_text("{")
    with pytest.raises(RunError, match="holds another run"):
        train_run(stripes, load_recipe(None, QUICK), tmp_path / "run")
    resume_run(tmp_path / "run")
    train_run(stripes, load_recipe(None, QUICK), tmp_path / "whole")
    files = [{f.name for f in (tmp_path / name).iterdir() if f.suffix != ".part"} for name in ("run", "whole")]
    assert files[0] == files[1]
    for name in ("data.json", "splits.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    one, two = (read_model(tmp_path / name / "last.safetensors")[0] for name in ("run", "whole"))
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(("key", "before", "after"), [("batch", "8", "16"), ("seed", "0", "1")])
def test_what_would_move_the_place_in_an_epoch_is_not_changed(
    key: str, before: str, after: str, stripes: Path, tmp_path: Path
) -> None:
    """Another batch or seed in the recipe of a run that goes on; the state of another run in its folder."""
    run = train_run(stripes, load_recipe(None, QUICK), tmp_path / "run")
    text = run.recipe.read_text()
    changed = text.replace("epochs = 1 ", "epochs = 2 ").replace(f"\n{key} = {before} ", f"\n{key} = {after} ")
    run.recipe.write_text(changed)
    with pytest.raises(RunError, match=rf"saved with train\.{key} = {before}, .* says {after}; change it back"):
        resume_run(run.path)
    run.recipe.write_text(text.replace("epochs = 1 ", "epochs = 2 "))
    assert len(resume_run(run.path).read_log()) == 2


def test_memory_that_is_full_is_no_fault_of_the_program(
    stripes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a dry run too; whatever else goes wrong is."""
    words = ["train", str(stripes), "model.name=convnext_atto", "data.size=32", "weights=none", "train.epochs=1"]
    told = ["DefaultCPUAllocator: can't allocate memory: you tried to allocate 32 bytes", "something else"]

    def full(*_: object) -> str:
        raise RuntimeError(told.pop(0))

    monkeypatch.setattr(training, "describe_plan", full)
    assert main([*words, "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "the memory is full" in said
    assert "data.eval_size" in said
    assert "Traceback" not in said
    assert main([*words, "--dry-run"]) == 1
