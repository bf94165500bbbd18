"""Pictures that a run was trained on are known again wherever they are judged, and a score on them is called that."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import convnext
from convnext.__main__ import main
from convnext.config import load_recipe
from convnext.errors import RunError
from convnext.evaluate.evaluate import evaluate_run, judge_run
from convnext.report.commands import doctor
from convnext.report.files import read_run
from convnext.report.finish import finish_run
from convnext.tasks.classify.verdict import verdict
from convnext.train.resume import resume_run
from convnext.train.train import train_run
from tests.conftest import _write_stripes

QUICK = [
    "weights=none", "model.name=convnext_atto", "model.stem_patch=4", "data.size=32", "train.batch=8",
    "data.workers=0", "train.epochs=1", "train.precision=fp32", "train.logger=",
]  # fmt: skip
Captured = pytest.CaptureFixture[str]
StripesWriter = Callable[..., Path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Pictures of stripes, and a judged run on them."""
    place = tmp_path_factory.mktemp("seen")
    data = _write_stripes(place / "stripes", {"narrow": 40, "wide": 40})
    path = train_run(str(data), load_recipe(None, QUICK), str(place / "run")).path
    judge_run(path)
    return data, path


@pytest.fixture
def stripes(trained: tuple[Path, Path]) -> Path:
    return trained[0]


@pytest.fixture
def run(trained: tuple[Path, Path]) -> Path:
    return trained[1]


def of_split(run: Path, split: str) -> list[str]:
    """The paths of a split, as the run's splits.csv has them."""
    rows = [line.split(",") for line in (run / "splits.csv").read_text().splitlines()[1:]]
    return [row[0] for row in rows if row[1] == split]


def copied(paths: list[str], home: Path, to: Path) -> Path:
    """The same pictures elsewhere, under other names."""
    for number, path in enumerate(paths):
        (to / Path(path).parent).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(home / path, to / Path(path).parent / f"other-{number}.png")
    return to


def test_pictures_of_the_training_are_known_by_their_content(
    run: Path, stripes: Path, write_stripes: StripesWriter, tmp_path: Path, capsys: Captured
) -> None:
    """Copies under other names are counted exactly, in the result and in a line; new pictures are none; by the model
    file in its run they are known too, and by the file alone nothing is said."""
    train, val, test = (of_split(run, split) for split in ("train", "val", "test"))
    result = evaluate_run(run).result
    assert (result["in_training"], result["in_validation"]) == (0, 0)

    known = copied(train[:9] + train[-9:], stripes, tmp_path / "known")
    capsys.readouterr()
    assert main(["evaluate", str(run), str(known)]) == 0
    out = capsys.readouterr().out
    assert "The model was trained on all of these pictures: the score says what it remembers" in out
    assert "Judge it on pictures that it was not trained on." in out
    twin = shutil.copytree(run, tmp_path / "twin")
    notes = " ".join(convnext.compare(run, twin, data=known).notes)
    assert f"{run}: the model was trained on all of these pictures" in notes

    mixed = copied(train[:3] + val[:2] + test[:4] + train[-3:] + test[-4:], stripes, tmp_path / "mixed")
    for place in (run, run / "best.safetensors"):
        found = convnext.evaluate(place, mixed).result
        assert (found["n"], found["in_training"], found["in_validation"]) == (16, 6, 2)
    assert main(["evaluate", str(run), str(mixed)]) == 0
    assert "The model was trained on 6 of these 16 pictures (the same files)" in capsys.readouterr().out

    new = write_stripes(tmp_path / "new", {"narrow": 5, "wide": 5}, seed=7)
    assert convnext.evaluate(run, new).result["in_training"] == 0
    assert main(["evaluate", str(run), str(new)]) == 0
    assert "The model was trained" not in capsys.readouterr().out
    alone = shutil.copyfile(run / "best.safetensors", tmp_path / "best.safetensors")
    assert "in_training" not in convnext.evaluate(alone, mixed).result


def test_a_run_from_before_says_nothing_of_what_it_saw(run: Path, tmp_path: Path) -> None:
    """Without contents.json nothing is claimed; a damaged one is named."""
    run = shutil.copytree(run, tmp_path / "before")
    (run / "contents.json").unlink()
    assert "in_training" not in evaluate_run(run, split="train").result
    (run / "contents.json").write_text('{"train": "AAAA"}')
    with pytest.raises(RunError, match=r"contents\.json is damaged: train is no list of hashes"):
        evaluate_run(run)
    (run / "contents.json").write_text('{"train": 3}')
    with pytest.raises(RunError, match="damaged"):
        evaluate_run(run)


def test_a_given_test_split_that_was_trained_on_earns_no_verdict(write_stripes: StripesWriter, tmp_path: Path) -> None:
    """The page says which pictures, and does not call the run better than the trivial answer."""
    root = tmp_path / "data"
    for split in ("train", "val", "test"):
        write_stripes(root / split, {"narrow": 20, "wide": 20})  # the same pictures
    path = train_run(str(root), load_recipe(None, QUICK), str(tmp_path / "leak")).path
    finish_run(path)
    result = json.loads((path / "result.json").read_text())
    assert result["in_training"] == result["n"] == 40
    said = verdict(read_run(path))
    assert said.tone != "good"
    assert "The model was trained on all of these pictures" in said.caveat
    assert "The model was trained on all of these pictures" in (path / "report.html").read_text()


def test_the_advice_on_a_table_runs_as_it_is_printed(
    run: Path, stripes: Path, tmp_path: Path, capsys: Captured
) -> None:
    """Other data as a table whose columns are named by settings, in a folder with a space: the printed doctor command
    holds them; and that of a run's own table its recipe. Words that TOML would read as something else stay words."""
    place = tmp_path / "a folder"
    place.mkdir()
    pictures = sorted(stripes.rglob("*.png"))[20:60]
    lines = [f"{path},{['narrow', 'wide'][i % 2]},{path.parent.name}" for i, path in enumerate(pictures)]
    table = place / "others.csv"
    table.write_text("\n".join(["file,1,2", *lines]) + "\n")
    words = ["data.path_column=file", 'data.label_column="1"', 'data.ignore_columns=["2"]']
    before = shutil.copytree(run, tmp_path / "before")
    (before / "contents.json").unlink()
    assert main(["evaluate", str(before), str(table), *words]) == 0
    out = capsys.readouterr().out
    assert "Do not use this model yet" in out
    command = next(line.strip() for line in out.splitlines() if line.strip().startswith("convnext doctor"))
    assert main(shlex.split(command)[1:]) in (0, 2)  # 2: what it finds; not that a column is missing
    assert "in 2 classes (csv)" in (told := capsys.readouterr()).out, told.err

    own = train_run(str(table), load_recipe(None, [*QUICK, *words]), str(tmp_path / "own")).path
    judge_run(own)
    command = doctor(read_run(own))
    assert f"{own}/recipe.toml" in command
    capsys.readouterr()
    assert main(shlex.split(command)[1:]) in (0, 2)
    assert "in 2 classes (csv)" in (told := capsys.readouterr()).out, told.err


def test_the_same_table_by_another_column_is_judged_by_that_column(stripes: Path, tmp_path: Path) -> None:
    """Not by the labels of the training, in silence: here the other column says the opposite."""
    pictures = sorted(stripes.rglob("*.png"))
    other = {"narrow": "wide", "wide": "narrow"}
    lines = [f"{path},{path.parent.name},{other[path.parent.name]}" for path in pictures]
    table = tmp_path / "both.csv"
    table.write_text("\n".join(["path,label,second", *lines]) + "\n")
    path = train_run(str(table), load_recipe(None, QUICK), str(tmp_path / "both")).path
    first = evaluate_run(path, table).result
    second = evaluate_run(path, table, settings=["data.label_column=second"]).result
    assert (first["split"], second["split"], second["n"]) == ("test", "all", len(pictures))
    assert second["top1"] == pytest.approx(
        1 - evaluate_run(path, table, settings=["data.split_column="]).result["top1"]
    )
    assert second["in_training"] > 0


def test_what_is_kept_is_short_and_in_an_order_that_says_nothing(run: Path) -> None:
    """Eight letters a picture, sorted: neither names nor their order."""
    kept = json.loads((run / "contents.json").read_text())
    assert [len(kept[split]) for split in ("train", "val")] == [8 * len(of_split(run, s)) for s in ("train", "val")]
    assert str(run.parent) not in (run / "contents.json").read_text()


def test_pictures_replaced_under_their_names_are_refused_on_resume(
    write_stripes: StripesWriter, tmp_path: Path, capsys: Captured
) -> None:
    """Place, label and split are the same, the content is not: the run does not go on as if nothing was; judging it
    says so. A run from before, which kept no contents, goes on."""
    root = tmp_path / "given"
    for split, seed in (("train", 1), ("val", 2), ("test", 3)):
        write_stripes(root / split, {"narrow": 8, "wide": 8}, seed=seed)
    recipe = load_recipe(None, [*QUICK, "train.keep_state=true"])
    path = train_run(str(root), recipe, str(tmp_path / "replaced")).path
    judge_run(path)
    before = (root / "train" / "wide" / "wide-003.png").read_bytes()
    new = write_stripes(tmp_path / "new", {"narrow": 8, "wide": 8}, seed=9) / "wide" / "wide-003.png"
    new.replace(root / "train" / "wide" / "wide-003.png")
    with pytest.raises(RunError, match=r"replaced under their names since the run started \(1 of those for training\)"):
        resume_run(path, settings=["train.epochs=2"])
    capsys.readouterr()
    evaluate_run(path)
    assert "has changed since the run was trained" in capsys.readouterr().err
    (root / "train" / "wide" / "wide-003.png").write_bytes(before)
    data = json.loads((path / "data.json").read_text())
    assert len(resume_run(path, settings=["train.epochs=2"]).read_log()) == 2
    del data["contents"]
    (path / "data.json").write_text(json.dumps(data))
    (root / "train" / "wide" / "wide-003.png").write_bytes((root / "train" / "wide" / "wide-004.png").read_bytes())
    assert len(resume_run(path, settings=["train.epochs=3"]).read_log()) == 3
