"""What goes wrong outside of training: each is said in one line, with the remedy, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convnext.__main__ import main
from convnext.config import load_recipe
from convnext.data.loader import PictureCache
from convnext.data.sources import read_dataset
from convnext.data.transforms import eval_view
from convnext.errors import DataError, NonFiniteLoss, RunError, UserError
from convnext.evaluate.evaluate import evaluate_run
from convnext.run.folder import RunFolder
from convnext.tasks.classify import MultiLabel
from convnext.train import train as training
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
    metrics = MultiLabel(("a", "b")).metrics(np.full((1, 2), np.nan, np.float32), np.ones((1, 2), np.float32))
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
    assert (eval_view(strip, 64, 0.875, "bicubic") == 200).all()
    wide = torch.randint(0, 255, (3, 40, 300), dtype=torch.uint8)
    long = torch.cat([torch.zeros(3, 40, 50, dtype=torch.uint8), wide, torch.zeros(3, 40, 50, dtype=torch.uint8)], 2)
    assert torch.equal(eval_view(wide, 35, 0.875, "bicubic"), eval_view(long, 35, 0.875, "bicubic"))


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
