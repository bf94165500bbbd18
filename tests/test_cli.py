"""The command line as people meet it: exit codes, messages without tracebacks, output for programs."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from convnext.__main__ import main
from convnext.tasks.classify.targets import diagnose

QUICK = [
    "weights=none", "model.name=convnext_atto", "data.size=32", "model.stem_patch=4", "train.batch=8",
    "data.workers=0", "train.lr=1e-3", "augment.color_jitter=0", "train.epochs=2", "train.precision=fp32",
]  # fmt: skip
Captured = pytest.CaptureFixture[str]


def refused(capsys: Captured, *words: str | Path) -> str:
    """Runs a command that must end with 2 and a message instead of a traceback; gives the message."""
    assert main([str(word) for word in words]) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "convnext: " in err
    return err


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on generated pictures, trained through the command line."""
    import numpy as np

    root = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    for name, colour in (("red", 0), ("blue", 2)):
        (root / "data" / name).mkdir(parents=True)
        for i in range(24):
            pixels = rng.integers(0, 90, (36, 36, 3), dtype=np.uint8)
            pixels[..., colour] += 120
            Image.fromarray(pixels).save(root / "data" / name / f"{i}.png")
    os.environ["CONVNEXT_CACHE"] = str(root / "cache")
    assert main(["train", str(root / "data"), *QUICK, "--out", str(root / "run")]) == 0
    return root / "run"


def test_training_ends_with_a_verdict_and_a_report(run: Path) -> None:
    """The report stands in the run folder and the trivial answer beside the result."""
    assert (run / "report.html").stat().st_size > 10_000
    result = json.loads((run / "result.json").read_text())
    assert 0 <= result["majority_top1"] <= 1
    assert result["top1"] > 0.8


def test_evaluate_prints_the_result_for_programs_and_for_people(run: Path, capsys: Captured) -> None:
    """--json gives result.json's keys; without it a table; other data of the same classes can be judged."""
    assert main(["evaluate", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((run / "result.json").read_text())
    assert main(["evaluate", str(run), str(run.parent / "data" / ".." / "data"), "--split", "train"]) == 0
    assert "train pictures" in capsys.readouterr().out
    other = run.parent / "other"
    shutil.copytree(run.parent / "data" / "red", other / "red", dirs_exist_ok=True)
    assert main(["evaluate", str(run), str(other), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["n"] == 24
    assert result["confusion"][0] == [0, 0]


def test_evaluate_judges_a_bare_weight_file(run: Path, tmp_path: Path, capsys: Captured) -> None:
    """The same network, stripped of its description, gives the same accuracy when it is named."""
    import torch

    from convnext.nn.weights.load import from_native, read_model

    state, _ = read_model(run / "last.safetensors")
    torch.save(from_native(state, "timm"), tmp_path / "bare.pth")
    words = ["evaluate", str(tmp_path / "bare.pth"), str(run.parent / "data"), "--size", "32", "--json"]
    assert main([*words, "--model", "convnext_atto"]) == 0
    bare = json.loads(capsys.readouterr().out)
    assert (
        main(["evaluate", str(run), str(run.parent / "data"), "--split", "train", "--weights", "last", "--json"]) == 0
    )
    assert bare["n"] == 48
    assert bare["top1"] == pytest.approx(json.loads(capsys.readouterr().out)["top1"], abs=0.1)
    assert "--model" in refused(capsys, "evaluate", tmp_path / "bare.pth", run.parent / "data")
    assert "weights of another model" in refused(capsys, *words, "--model", "convnext_femto")


def test_evaluate_says_what_it_cannot_judge(run: Path, tmp_path: Path, capsys: Captured) -> None:
    """Several labels with a single-label model, an unknown split, unknown weights, other column names."""
    red = run.parent / "data" / "red"
    table = tmp_path / "t.csv"
    table.write_text(f"path,label\n{red}/1.png,red|blue\n{red}/2.png,red\n")
    assert "several labels" in refused(capsys, "evaluate", run, table)
    assert 'no split "tset"' in refused(capsys, "evaluate", run, "--split", "tset")
    assert '"best" and "last"' in refused(capsys, "evaluate", run, "--weights", "bset")
    table.write_text(f"path,colour\n{red}/1.png,red\n")
    assert "colour" in refused(capsys, "evaluate", run, table)
    assert "this machine has cpu" in refused(capsys, "predict", run, red, "--device", "gpu")


def test_predict_names_files_folders_and_patterns(run: Path, tmp_path: Path, capsys: Captured) -> None:
    """CSV and JSON agree; unreadable files are listed and do not stop the others."""
    red = run.parent / "data" / "red"
    (tmp_path / "broken.jpg").write_text("no picture")
    words = ["predict", str(run), str(red), str(tmp_path / "broken.jpg"), f"{red.parent}/blue/1*.png"]
    assert main([*words, "--top", "2"]) == 0
    got = capsys.readouterr()
    lines = got.out.splitlines()
    assert lines[0] == "path,label,probability,label_2,probability_2,error"
    assert len(lines) == 1 + 24 + 1 + 11
    assert "broken.jpg" in got.err
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["predictions"]) == 35
    assert found["unreadable"][0]["path"].endswith("broken.jpg")
    assert [p["label"] for p in found["predictions"]] == [
        line.split(",")[1] for line in lines[1:] if "broken" not in line
    ]
    assert main([*words, "--out", str(tmp_path / "names.json")]) == 0
    assert json.loads((tmp_path / "names.json").read_text()) == found


def test_predict_explains_what_it_cannot_do(run: Path, tmp_path: Path, capsys: Captured) -> None:
    """No such file, an empty folder, nothing readable, no run."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("x")
    assert "matches none" in refused(capsys, "predict", run, tmp_path / "nothing-*.jpg")
    assert "holds no pictures" in refused(capsys, "predict", run, tmp_path / "empty")
    assert "none of the files" in refused(capsys, "predict", run, tmp_path / "text.jpg")
    assert "there is no run folder" in refused(capsys, "predict", tmp_path / "gone", tmp_path / "text.jpg")
    assert "no recipe.toml" in refused(capsys, "predict", tmp_path / "empty", tmp_path / "text.jpg")


def test_bad_data_is_explained(
    stripes: Path, tmp_path: Path, capsys: Captured, write_stripes: Callable[..., Path]
) -> None:
    """A missing folder, one class, an empty class, a CSV without the column: each with a remedy."""
    out = tmp_path / "run"
    assert "no such folder" in refused(capsys, "train", tmp_path / "missing", "--out", out)
    one = write_stripes(tmp_path / "one", {"only": 4})
    assert "single class" in refused(capsys, "train", one, "--out", out)
    (stripes / "empty").mkdir()
    assert "no pictures in this class folder" in refused(capsys, "train", stripes, "--out", out)
    table = tmp_path / "t.csv"
    table.write_text("path,lable\na.png,x\n")
    assert "label" in refused(capsys, "train", table, "--out", out)
    assert 'did you mean "lable"?' in refused(capsys, "train", table, "--out", out)
    assert not out.exists()


def test_files_that_are_no_pictures_are_left_out_with_their_reason(
    stripes: Path, tmp_path: Path, capsys: Captured
) -> None:
    """A text named .jpg, a truncated JPEG and a decompression bomb do not stop a training run."""
    bad = stripes / "wide"
    (bad / "text.jpg").write_text("this is no picture")
    Image.effect_noise((64, 64), 50).convert("RGB").save(bad / "cut.jpg")
    (bad / "cut.jpg").write_bytes((bad / "cut.jpg").read_bytes()[:700])
    info = PngImagePlugin.PngInfo()
    Image.new("1", (20_000, 20_000)).save(bad / "bomb.png", pnginfo=info)
    assert main(["train", str(stripes), *QUICK, "--out", str(tmp_path / "run")]) == 0
    broken = json.loads((tmp_path / "run" / "data.json").read_text())["broken"]
    assert {Path(entry["path"]).name for entry in broken} == {"text.jpg", "cut.jpg", "bomb.png"}
    assert capsys.readouterr().err.count("left out:") >= 3
    main(["doctor", str(stripes)])
    assert "bomb.png" in capsys.readouterr().out


def test_bad_recipes_are_explained(stripes: Path, tmp_path: Path, capsys: Captured) -> None:
    """Unknown keys and values, with the nearest name, all at once; a class that the recipe spells differently."""
    out = tmp_path / "run"
    err = refused(capsys, "train", stripes, "train.epoch=3", "model.nam=convnext_tiny", "--out", out)
    assert 'did you mean "train.epochs"?' in err
    assert 'did you mean "model.name"?' in err
    assert 'Did you mean "convnext_tiny"?' in refused(
        capsys, "train", stripes, "model.name=convnext_tyni", "weights=none", "--out", out
    )
    assert "did you mean" in refused(capsys, "train", stripes, "data.classes=['narow','wide']", "--out", out)
    assert "there is no recipe" in refused(capsys, "train", stripes, "nothing.toml", "--out", out)
    assert "is not understood" in refused(capsys, "train", stripes, *QUICK, "augment.randaugment=rand-x9", "--out", out)
    assert not out.exists()


def test_a_folder_in_use_and_a_folder_that_cannot_be_written_are_refused(
    run: Path, stripes: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--out with another run stays as it is; an unwritable place is named."""
    before = (run / "result.json").read_bytes()
    assert "holds another run" in refused(capsys, "train", stripes, *QUICK, "--out", run)
    assert (run / "result.json").read_bytes() == before
    (tmp_path / "file").write_text("")
    assert "is a file" in refused(capsys, "train", stripes, *QUICK, "--out", tmp_path / "file")
    assert "cannot be written" in refused(capsys, "train", stripes, *QUICK, "--out", "/proc/nowhere")


def test_weights_of_another_architecture_are_refused(
    run: Path, stripes: Path, tmp_path: Path, capsys: Captured
) -> None:
    """A checkpoint of another network says what it is and what was wanted."""
    words = ["train", stripes, *QUICK[1:], f"weights={run / 'last.safetensors'}", "--out", tmp_path / "r"]
    assert "another model" in refused(capsys, *words, "model.name=convnext_pico")
    assert main([str(word) for word in words]) == 0


def test_wrong_usage_is_the_users_mistake(capsys: Captured) -> None:
    """An unknown command, a missing argument, --resume without a run: 2, one line."""
    assert "No such command" in refused(capsys, "trian")
    assert "DATA" in refused(capsys, "train")
    assert "run folder" in refused(capsys, "train", "--resume")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("convnext 0.")


def test_a_fault_of_ours_is_1(capsys: Captured, monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    """An unexpected exception shows its traceback, says whose fault it is, and exits with 1."""
    monkeypatch.setattr("convnext.report.page.write_report", lambda path: 1 / 0)
    assert main(["report", str(run)]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "a fault of this program" in err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["Python's", "the system's", "torch's"],
)
def test_little_memory_is_no_fault_of_ours(
    error: Exception, capsys: Captured, monkeypatch: pytest.MonkeyPatch, run: Path
) -> None:
    """Memory that runs out, whoever says it, is called that, with what to do, and is the user's to put right."""

    def fails(path: Path) -> None:
        raise error

    monkeypatch.setattr("convnext.report.page.write_report", fails)
    assert main(["report", str(run)]) == 2
    err = capsys.readouterr().err
    assert "the memory is full: close other programs" in err
    assert "Traceback" not in err
    assert "a fault of this program" not in err


def test_doctor_speaks_text_and_json(shared_data: Path, capsys: Captured) -> None:
    """On the flowers it finds the picture that has two labels in two splits, and exits with 2."""
    assert main(["doctor", str(shared_data / "flowers"), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert "15922772266_1167a06620" in json.dumps(found)
    assert not diagnose(shared_data / "flowers").ok
