"""`convnext compare`: against scipy's tests and differences computed by hand, on runs made of their files."""

from __future__ import annotations

import csv
import doctest
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

import convnext
from convnext.__main__ import main
from convnext.data.pictures.tarball import open_member
from convnext.data.shards.read import read_sharded
from convnext.errors import RunError, UserError
from convnext.evaluate.compare import LEAST, compare
from convnext.evaluate.judged import answers_of
from convnext.metrics.paired import holm
from convnext.tasks.classify.targets import ClassTargets

CLASSES = ("a", "b, too", "c|d")
Captured = pytest.CaptureFixture[str]


def write_run(
    path: Path,
    truth: np.ndarray,
    probs: np.ndarray,
    *,
    root: Path,
    split: str = "test",
    classes: tuple[str, ...] = CLASSES,
    names: list[str] | None = None,
) -> Path:
    """A judged run, as far as it speaks of its predictions; `truth` is (n,) for one label, (n, k) bool for several."""
    path.mkdir(parents=True)
    (path / "recipe.toml").write_text("")
    several = truth.ndim == 2
    rows = [{"name": name} for name in classes]
    result = {"n": len(truth), "split": split, "data_root": str(root), "multi_label": several, "per_class": rows}
    (path / "result.json").write_text(json.dumps(result))
    with (path / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "truth", "named", *(f"p_{name}" for name in classes)])
        for i, values in enumerate(probs):
            labels = np.flatnonzero(truth[i]) if several else [truth[i]]
            named = np.flatnonzero(values >= 0.5) if several else [values.argmax()]
            cells = ["|".join(classes[c] for c in chosen) or "|" for chosen in (labels, named)]
            writer.writerow([names[i] if names else f"x/{i:04d}.jpg", *cells, *(f"{value:.4f}" for value in values)])
    return path


def answers(truth: np.ndarray, right: np.ndarray, k: int = 3) -> np.ndarray:
    """Probabilities of a model that is right where it is said to be, and else names the next class."""
    probs = np.full((len(truth), k), 0.1)
    probs[np.arange(len(truth)), np.where(right, truth, (truth + 1) % k)] = 0.8
    return probs


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Three runs on 300 pictures: the second is a little better than the first, the third as good as it."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 300)
    first = rng.random(300) < 0.75
    right = [first, first | (rng.random(300) < 0.2), np.where(rng.random(300) < 0.1, ~first, first)]
    return [
        write_run(tmp_path / name, truth, answers(truth, r), root=tmp_path)
        for name, r in zip("abc", right, strict=True)
    ]


def test_the_help_has_an_example_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of a run is neither better nor worse, from Python as it stands in the help of `convnext.compare`."""
    truth = np.arange(30) % 3
    write_run(tmp_path / "runs/photos", truth, answers(truth, truth == 0), root=tmp_path)
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest(convnext.compare.__doc__ or "", {}, "compare", None, 0)
    assert len(test.examples) == 4
    assert doctest.DocTestRunner().run(test).failed == 0


def test_differences_are_those_of_the_pictures(three: list[Path]) -> None:
    """The difference, its interval by hand, won and lost pictures, scipy's p value, and Holm's correction of two."""
    found = compare(*three)
    own = [answers_of(run) for run in three]
    hits = [1.0 - item.task.errors(item.records) for item in own]
    for index, each in enumerate(found.differences, 1):
        apart = hits[index] - hits[0]
        won, lost = int((apart > 0).sum()), int((apart < 0).sum())
        assert (each.won, each.lost) == (won, lost)
        assert each.p == pytest.approx(binomtest(won, won + lost).pvalue)
        top1 = each.metrics["top1"]
        assert top1["difference"] == pytest.approx(apart.mean())
        drawn = np.random.default_rng(7).choice(apart, (4000, 300)).mean(1)
        assert top1["interval"] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.008)
    assert [each.corrected for each in found.differences] == holm([each.p for each in found.differences])
    assert [each.verdict for each in found.differences] == ["better", "not settled"]
    assert [scores["top1"] for scores in found.scores] == pytest.approx([hit.mean() for hit in hits])
    back = compare(three[1], three[0]).differences[0]
    assert (back.verdict, back.won, back.lost) == ("worse", found.differences[0].lost, found.differences[0].won)


def test_intervals_that_overlap_settle_nothing(tmp_path: Path) -> None:
    """70 and 74.5 % of 200 pictures: own intervals overlap far, yet 9 won and none lost is p = 1/256."""
    truth = np.arange(200) % 3
    right = np.arange(200) < 140
    runs = [write_run(tmp_path / n, truth, answers(truth, r), root=tmp_path)
            for n, r in (("a", right), ("b", np.arange(200) < 149))]  # fmt: skip
    (each,) = compare(*runs).differences
    assert (each.won, each.lost, each.p, each.verdict) == (9, 0, 2 / 2**9, "better")


def test_several_labels(tmp_path: Path) -> None:
    """Micro F1 and exact match are scikit-learn's; a run that is right on far more labels is better."""
    from sklearn.metrics import accuracy_score, average_precision_score, f1_score

    rng = np.random.default_rng(1)
    truth = rng.random((150, 2)) < 0.4
    probs = [np.clip(truth * 0.5 + rng.random((150, 2)) * wide, 0, 1) for wide in (0.9, 0.55)]
    runs = [
        write_run(tmp_path / n, truth, p, root=tmp_path, classes=("x", "y")) for n, p in zip("ab", probs, strict=True)
    ]
    found = compare(*runs)
    for scores, p in zip(found.scores, probs, strict=True):
        p = np.array([[float(f"{v:.4f}") for v in row] for row in p])
        assert scores["micro_f1"] == pytest.approx(f1_score(truth, p >= 0.5, average="micro"), abs=0.01)
        assert scores["exact_match"] == pytest.approx(accuracy_score(truth, p >= 0.5), abs=0.01)
        assert scores["mean_average_precision"] == pytest.approx(average_precision_score(truth, p), abs=1e-9)
    assert found.differences[0].verdict == "better"


def test_the_pictures_in_common_are_compared(tmp_path: Path, capsys: Captured) -> None:
    """Half of each run's pictures were judged by both: on these, in any order; it is said how many."""
    truth = np.arange(60) % 3
    right = np.arange(60) % 2 == 0
    names = [f"{i}.jpg" for i in range(60)]
    order = np.random.default_rng(0).permutation(40)
    a = write_run(tmp_path / "a", truth[:40], answers(truth, right)[:40], root=tmp_path, names=names[:40])
    b = write_run(tmp_path / "b", truth[20:][order], answers(truth, ~right)[20:][order], root=tmp_path,
                  names=[names[20:][i] for i in order])  # fmt: skip
    found = compare(a, b)
    assert (found.n, found.judged) == (20, (40, 40))
    assert (found.differences[0].won, found.differences[0].lost) == (10, 10)
    assert f"20 pictures were judged by all (40 by {a}, 40 by {b})" in capsys.readouterr().err


def test_other_pictures_are_refused(tmp_path: Path) -> None:
    """Nothing in common, another split of the same data, too little in common: refused, with how many there are."""
    truth = np.arange(30) % 3
    probs = answers(truth, truth == 0)
    a = write_run(tmp_path / "a", truth, probs, root=tmp_path)
    other = write_run(tmp_path / "b", truth, probs, root=tmp_path, names=[f"y/{i}.jpg" for i in range(30)])
    val = write_run(tmp_path / "c", truth, probs, root=tmp_path, split="val")
    few = write_run(tmp_path / "d", truth, probs, root=tmp_path,
                    names=[f"x/{i:04d}.jpg" if i < LEAST - 1 else f"z/{i}.jpg" for i in range(30)])  # fmt: skip
    for run, common in ((other, 0), (val, 0), (few, LEAST - 1)):
        with pytest.raises(RunError, match=rf"judged on other pictures, with {common} in common .*--data DATA"):
            compare(a, run)


def test_folds_of_one_training_are_not_compared(tmp_path: Path, capsys: Captured) -> None:
    """Each judged what the other learned: their summary is named, and no --data, which would flatter each."""
    runs, truth = [tmp_path / "folds" / f"fold-{i}" for i in (1, 2)], np.arange(30) % 3
    for i, run in enumerate(runs):
        write_run(run, truth, answers(truth, truth > 0), root=tmp_path, names=[f"{i}-{at}.jpg" for at in range(30)])
    (tmp_path / "folds" / "folds.json").write_text('{"folds": 2, "data": "/data"}')
    with pytest.raises(RunError, match="are folds of one training: each was judged on pictures that the others") as e:
        compare(*runs)
    assert f"{tmp_path / 'folds' / 'result.json'} has the mean" in str(e.value)
    assert "--data" not in str(e.value)
    shutil.rmtree(runs[1])  # now both judged the same, as with --data
    write_run(runs[1], truth, answers(truth, truth < 2), root=tmp_path, names=[f"0-{at}.jpg" for at in range(30)])
    capsys.readouterr()
    assert "folds of one training" in " ".join(compare(*runs).notes)
    assert "folds of one training" in capsys.readouterr().err


def test_other_truths_and_other_questions_are_refused(tmp_path: Path) -> None:
    """A relabelled picture, other classes, several labels against one: each refused with what differs."""
    truth = np.arange(30) % 3
    probs = answers(truth, truth == 0)
    a = write_run(tmp_path / "a", truth, probs, root=tmp_path)
    relabelled = truth.copy()
    relabelled[7] = 2
    b = write_run(tmp_path / "b", relabelled, probs, root=tmp_path)
    with pytest.raises(RunError, match=r"1 picture of 30 .* as x/0007.jpg: b, too, then c\|d"):
        compare(a, b)
    c = write_run(tmp_path / "c", truth, probs, root=tmp_path, classes=("a", "b, too", "e"))
    with pytest.raises(RunError, match=r"other classes: c\|d, e is in one"):
        compare(a, c)
    d = write_run(tmp_path / "d", np.eye(3, dtype=bool)[truth], probs, root=tmp_path, classes=("a", "b, too", "e"))
    with pytest.raises(RunError, match="any number of them"):
        compare(a, d)
    with pytest.raises(UserError, match="two runs or more, not 1"):
        compare(a)
    with pytest.raises(UserError, match="same run twice"):
        compare(a, tmp_path / "." / "a")


def test_classes_in_another_order_are_matched_by_name(tmp_path: Path) -> None:
    """The same answers with the classes the other way round: no difference at all."""
    truth = np.arange(30) % 3
    probs = answers(truth, truth != 1)
    a = write_run(tmp_path / "a", truth, probs, root=tmp_path)
    b = write_run(tmp_path / "b", 2 - truth, probs[:, ::-1], root=tmp_path, classes=CLASSES[::-1])
    found = compare(a, b)
    assert found.scores[0] == found.scores[1]
    assert (found.differences[0].won, found.differences[0].lost, found.differences[0].p) == (0, 0, 1.0)
    assert found.differences[0].verdict == "not settled"


def test_data_in_two_places_is_joined_by_content(tmp_path: Path, capsys: Captured) -> None:
    """Copies under other names are the same pictures; other pictures of the same names are not."""
    first, second = tmp_path / "one", tmp_path / "two"
    rng = np.random.default_rng(0)
    for i in range(12):
        for home in (first, second):
            home.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(first / f"{i}.png")
        shutil.copy(first / f"{i}.png", second / f"copy-{11 - i}.png")
    truth = np.arange(12) % 3
    probs = answers(truth, truth != 1)
    a = write_run(tmp_path / "a", truth, probs, root=first, names=[f"{i}.png" for i in range(12)])
    b = write_run(tmp_path / "b", truth, probs, root=second, names=[f"copy-{11 - i}.png" for i in range(12)])
    found = compare(a, b)
    assert (found.joined, found.n, found.differences[0].won) == ("content", 12, 0)
    for i in range(12):  # the names of the first, the pictures of nobody
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(second / f"{i}.png")
    c = write_run(tmp_path / "c", truth, probs, root=second, names=[f"{i}.png" for i in range(12)])
    with pytest.raises(RunError, match="with 0 in common"):
        compare(a, c)
    shutil.rmtree(second)
    assert compare(a, c).joined == "path"
    assert "joined by their names alone" in capsys.readouterr().err


def test_shards_are_joined_with_the_folder_that_they_were_made_of(tmp_path: Path) -> None:
    """A picture in a tar is known by its content: the very file, wherever it stands in the other run's table."""
    folder = tmp_path / "data"
    rng = np.random.default_rng(0)
    for i in range(24):
        home = folder / ("train" if i % 3 == 0 else "test") / "ab"[i % 2]
        home.mkdir(exist_ok=True, parents=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(home / f"{i}.png")
    assert main(["data", "shard", str(folder), str(tmp_path / "shards")]) == 0
    tested = read_sharded(tmp_path / "shards", targets=ClassTargets()).splits["test"]
    paths = [sample.path for sample in tested]
    names = {file.read_bytes(): str(file.relative_to(folder)) for file in folder.rglob("*.png")}
    was = [names[member.read()] for path in paths if (member := open_member(path)) is not None]
    truth = np.array([sample.target[0] for sample in tested])
    order = rng.permutation(len(was))
    probs = answers(truth, truth == 0, 2)
    a = write_run(
        tmp_path / "a", truth[order], probs[order], root=folder, classes=("a", "b"), names=[was[i] for i in order]
    )
    b = write_run(
        tmp_path / "b", truth, probs, root=tmp_path / "shards", classes=("a", "b"),
        names=[str(path.relative_to(tmp_path / "shards")) for path in paths],
    )  # fmt: skip
    found = compare(a, b)
    assert (found.joined, found.n) == ("content", len(was))
    assert (found.differences[0].won, found.differences[0].lost) == (0, 0)


def test_all_of_a_data_set_holds_its_splits(tmp_path: Path, capsys: Captured) -> None:
    """One run judged on the test pictures, one on all: the former are in common, and it is said how many."""
    truth = np.arange(60) % 3
    probs = answers(truth, truth != 1)
    names = [f"{i}.png" for i in range(60)]
    a = write_run(tmp_path / "a", truth[:20], probs[:20], root=tmp_path, names=names[:20])
    b = write_run(tmp_path / "b", truth, probs, root=tmp_path, names=names, split="all")
    assert compare(a, b).n == 20
    assert "20 pictures were judged by all (20 by" in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage", ["a,b", 'path,truth,named,p_a\n"open', "path,truth,named,p_a,p_b\nx,zzz,a,1,0\n", ""]
)
def test_damaged_predictions_are_refused(tmp_path: Path, damage: str) -> None:
    """A table that is cut, open, of other classes or empty: an error that names it, no traceback."""
    truth = np.arange(20) % 2
    runs = [
        write_run(tmp_path / n, truth, answers(truth, truth == 0, 2), root=tmp_path, classes=("a", "b")) for n in "ab"
    ]
    (runs[1] / "predictions.csv").write_text(damage)
    with pytest.raises(RunError, match=r"b.predictions\.csv is damaged"):
        compare(*runs)


def test_the_command(three: list[Path], tmp_path: Path, capsys: Captured) -> None:
    """A table on the terminal, JSON, a page that needs nothing else; one run alone is the user's mistake."""
    names = list(map(str, three))
    assert main(["compare", *names]) == 0
    text = capsys.readouterr().out
    assert "300 pictures (test) that all 3 runs judged" in text
    assert "better than" in text
    assert "after Holm's correction for 2" in text
    assert main(["compare", *names, "--json", "--page", str(tmp_path / "page.html")]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in told["runs"]] == names
    assert told["differences"][0]["verdict"] == "better"
    page = (tmp_path / "page.html").read_text()
    assert names[1] in page
    assert "//" not in page
    assert "<script" not in page
    assert ".compared .scale { display: none; }" in page  # on a phone, where the interval would else be cut off
    assert main(["compare", names[0]]) == 2
    assert main(["compare", *names, "--page", str(tmp_path / "page.pdf")]) == 2
    assert "ends in .html" in capsys.readouterr().err
