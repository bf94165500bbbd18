"""Predictions line up with what was asked, whatever it was; the files that hold them hold the numbers themselves."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import convnext
from convnext.__main__ import main
from convnext.data.feed import given
from convnext.data.feed.preprocessing import Preprocessing
from convnext.errors import DataError, UserError
from convnext.evaluate import predict as predicting
from convnext.evaluate.evaluate import list_predictions
from convnext.evaluate.predict import Asked, predictions_of, to_csv, to_json
from convnext.evaluate.verdict import Judged
from convnext.run.load import load_all
from convnext.tasks.classify.answers import Prediction, decimals
from convnext.tasks.classify.multi import MultiLabel
from convnext.tasks.collect import Predictions
from convnext.tasks.records import Records

SIDE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of an untrained network, and three pictures that it tells apart."""
    place = tmp_path_factory.mktemp("predict")
    torch.manual_seed(0)
    network = convnext.create_model("convnext_atto", num_classes=3, head_init_scale=3.0)
    seen = Preprocessing(SIDE)
    convnext.save(network, place / "model.safetensors", classes=["a", "b", "c"], preprocessing=seen)
    rng = np.random.default_rng(0)
    for name in ("one", "two", "three"):
        pixels = rng.integers(0, 256, (40, 52, 3), dtype=np.uint8) // (1 + len(name))
        Image.fromarray(pixels).save(place / f"{name}.png")
    return place


def test_each_given_file_is_answered_in_order(folder: Path) -> None:
    """The same file twice has two answers; a folder and a pattern have one for each of their pictures."""
    one, two = folder / "one.png", folder / "two.png"
    found = convnext.predict(folder / "model.safetensors", [one, two, one])
    assert [p.path for p in found] == [one, two, one]
    assert found[0] == found[2] != found[1]
    many = convnext.predict(folder / "model.safetensors", [one, folder, str(folder / "t*.png")])
    assert [p.path.name for p in many if p.path] == [
        "one.png", "one.png", "three.png", "two.png", "three.png", "two.png",
    ]  # fmt: skip
    assert {p.label for p in many if p.path == one} == {found[0].label}


def test_reasons_belong_to_the_files_that_they_are_of(folder: Path, tmp_path: Path) -> None:
    """Each unreadable file has its own reason, wherever it stands, and each readable one the answer it has alone."""
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not a picture")
    order = ["empty.png", "one.png", "gone.png", "text.jpg", "two.png", "empty.png"]
    paths = [(folder if name in ("one.png", "two.png") else tmp_path) / name for name in order]
    found = convnext.predict(folder / "model.safetensors", paths)
    for path, p in zip(paths, found, strict=True):
        assert p.path == path
        if path.parent == folder:
            alone = convnext.predict(folder / "model.safetensors", path)[0]
            assert dict(p.top) == pytest.approx(
                dict(alone.top), rel=1e-4
            )  # batches of other sizes are summed otherwise
        assert bool(p.error) is not bool(p.top)
        assert not p.error or str(path) in p.error
    assert [p.missing for p in found] == [False, False, True, False, False, False]


def test_a_missing_file_among_many_is_a_row_and_exit_code_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are named all the same; a file that is there and cannot be read is no mistake of the command."""
    words = ["predict", str(folder / "model.safetensors"), str(folder / "one.png")]
    assert main([*words, str(folder / "gone.png"), str(folder / "nothing*.png"), "--top", "1"]) == 2
    got = capsys.readouterr()
    rows = list(csv.DictReader(got.out.splitlines()))
    assert [bool(row["label"]) for row in rows] == [True, False, False]
    assert [row["path"] for row in rows][1:] == [str(folder / "gone.png"), str(folder / "nothing*.png")]
    assert all("is no file and matches none" in row["error"] for row in rows[1:])
    assert got.err.count("not read: ") == 2
    assert main([*words, str(folder / "gone.png"), "--json"]) == 2
    table = json.loads(capsys.readouterr().out)
    assert len(table["predictions"]) == len(table["unreadable"]) == 1


def test_folders_are_walked_as_in_training(folder: Path, tmp_path: Path) -> None:
    """Linked folders are followed, hidden ones and what other programs leave are not."""
    for name in ("seen", ".hidden", "__MACOSX", "@eaDir"):
        (tmp_path / "new" / name).mkdir(parents=True)
        Image.open(folder / "one.png").save(tmp_path / "new" / name / "a.png")
    (tmp_path / "new" / "._b.png").write_bytes(b"x")
    (tmp_path / "new" / "linked").symlink_to(folder, target_is_directory=True)
    (tmp_path / "new" / "ring").symlink_to(tmp_path / "new", target_is_directory=True)
    found = convnext.predict(folder / "model.safetensors", tmp_path / "new")
    assert [str(p.path.relative_to(tmp_path / "new")) for p in found if p.path] == [
        "linked/one.png", "linked/three.png", "linked/two.png", "seen/a.png",
    ]  # fmt: skip


def test_an_empty_name_is_refused(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A variable that is not set would otherwise stand for the folder that one is in, in every command."""
    for words in (["predict", str(folder / "model.safetensors"), ""], ["predict", "", "x.png"], ["report", ""],
                  ["train", ""], ["doctor", ""], ["train", str(tmp_path), "--out", ""]):  # fmt: skip
        assert main(words) == 2
        assert "empty" in capsys.readouterr().err
    for pictures in ("", [""], [folder / "one.png", ""]):
        with pytest.raises(UserError, match="names no file"):
            convnext.predict(folder / "model.safetensors", pictures)
    with pytest.raises(UserError, match="is a variable empty"):
        convnext.predict("", folder / "one.png")
    with pytest.raises(UserError, match="is a variable empty"):
        convnext.load("")


def kinds(path: Path) -> dict[str, Any]:
    """One picture in all the forms that are taken."""
    picture = Image.open(path)
    array = np.array(picture)
    return {
        "path": path, "name": str(path), "bytes": path.read_bytes(), "view": memoryview(path.read_bytes()),
        "file": io.BytesIO(path.read_bytes()), "picture": picture, "array": array,
        "channels first": np.moveaxis(array, -1, 0), "tensor": torch.from_numpy(array).permute(2, 0, 1),
        "floats": array.astype(np.float32) / 255, "doubles": torch.from_numpy(array).double().permute(2, 0, 1) / 255,
    }  # fmt: skip


def test_a_picture_is_the_same_in_every_form(folder: Path) -> None:
    """Predictions, prepared tensors and logits of all kinds are those of the path."""
    model = convnext.load(folder / "model.safetensors")
    path = folder / "three.png"
    wanted = model.predict(path)[0]
    prepared = model.preprocessing.prepare(path)
    assert prepared.shape == (1, 3, SIDE, SIDE)
    with torch.no_grad():
        logits = model(path)
        for name, picture in kinds(path).items():
            assert model.predict(picture)[0].top == wanted.top, name
        for name, picture in kinds(path).items():
            assert torch.equal(model.preprocessing(picture), prepared[0]), name
        for name, picture in kinds(path).items():
            if name != "doubles":  # a floating-point tensor is one that is prepared already
                assert torch.equal(model.network(picture), logits), name
    many = [picture for name, picture in kinds(path).items() if name != "floats"]
    for found in convnext.predict(model, many):
        assert dict(found.top) == pytest.approx(dict(wanted.top), rel=1e-4)
    stack = np.stack([np.array(Image.open(folder / f"{name}.png")) for name in ("one", "two", "three")])
    for batch in (stack, torch.from_numpy(stack), torch.from_numpy(stack).permute(0, 3, 1, 2), list(stack)):
        assert dict(model.predict(batch)[2].top) == pytest.approx(dict(wanted.top), rel=1e-4)
        assert model.predict(batch)[2].path is None
        assert model.preprocessing(batch).shape == (3, 3, SIDE, SIDE)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("in_chans", [1, 3, 4])
def test_arrays_are_read_by_the_rules_of_files(mode: str, in_chans: int, tmp_path: Path) -> None:
    """Gray, colours and transparency, for a network of any number of channels: as the PNG of the same pixels."""
    rng = np.random.default_rng(1)
    channels = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    array = rng.integers(0, 256, (40, 50, channels), dtype=np.uint8)
    picture = Image.fromarray(array[..., 0] if channels == 1 else array)
    picture.save(tmp_path / "a.png")
    seen = Preprocessing(SIDE, in_chans=in_chans)
    wanted = seen.view(tmp_path / "a.png")
    assert torch.equal(seen.view(array), wanted)
    assert torch.equal(seen.view(torch.from_numpy(array).permute(2, 0, 1)), wanted)
    assert torch.equal(seen.view(picture), wanted)
    if channels == 1:
        assert torch.equal(seen.view(array[..., 0]), wanted)


@pytest.mark.parametrize(
    ("picture", "rule"),
    [
        (np.zeros((8, 9, 3), np.float32) + 2, r"from 2 to 2; floating-point pictures must lie in \[0, 1\]"),
        (np.full((8, 9, 3), np.nan, np.float32), "must lie in"),
        (torch.randn(3, 8, 9), "before any normalisation"),
        (np.zeros((8, 9, 3), np.uint16), "holds uint16"),
        (np.zeros((8, 9, 3), bool), "holds bool"),
        (np.zeros((8, 9, 2), np.uint8), r"\(8, 9, 2\)"),
        (np.zeros((3, 9, 3), np.uint8), "could be"),
        (np.zeros((0, 9, 3), np.uint8), "a picture is"),
        (np.zeros(7, np.uint8), "a picture is"),
        (3, "int is no picture"),
        ([None], r"pictures\[0\] is a NoneType"),
        (io.StringIO("x"), 'open it by open(path, "rb")'.replace("(", r"\(").replace(")", r"\)")),
    ],
)
def test_what_is_no_picture_is_refused_with_the_rule(picture: Any, rule: str, folder: Path) -> None:
    """Nothing is guessed: wrong types, layouts, depths and ranges."""
    with pytest.raises(UserError, match=rule):
        convnext.predict(folder / "model.safetensors", picture)
    with pytest.raises(UserError, match=rule):
        Preprocessing(SIDE)(picture)


def test_floating_point_pictures_are_said_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are rounded to 8 bits: to exactly what ToTensor made them from."""
    monkeypatch.setattr(given, "_said", False)
    array = np.arange(256, dtype=np.uint8).reshape(16, 16)
    seen = Preprocessing(16, crop_ratio=1.0, in_chans=1)
    for _ in range(2):
        assert torch.equal(seen.view(array.astype(np.float32) / 255)[0], torch.from_numpy(array))
    assert capsys.readouterr().err.count("floating-point pictures are taken as values in [0, 1]") == 1


def test_preprocessing_serves_a_dataset(stripes: Path) -> None:
    """As the transform of torchvision's ImageFolder, through a loader that batches it."""
    from torchvision.datasets import ImageFolder

    seen = Preprocessing(SIDE, fit="squash")
    pictures = ImageFolder(str(stripes), transform=seen)
    batch, labels = next(iter(torch.utils.data.DataLoader(pictures, batch_size=5)))
    assert torch.equal(batch, seen.prepare([path for path, _ in pictures.samples[:5]]))
    assert labels.tolist() == [0] * 5


JUST_BELOW = np.nextafter(np.float32(0.5), np.float32(0))


def judged(values: np.ndarray, labels: np.ndarray, result: dict[str, Any], root: Path) -> Judged:
    """What `evaluate_run` gives, of these probabilities."""
    from convnext.data.sources.dataset import Sample

    samples = tuple(Sample(root / f"{i}.png", tuple(np.flatnonzero(row))) for i, row in enumerate(labels))
    records = Records({"values": values, "truth": labels})
    return Judged(result | {"data_root": str(root)}, samples, Predictions(records, np.arange(len(values)), ()))


@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.7, 0.123456, float(np.float32(0.7)), np.nextafter(0.6, 1)])
def test_a_threshold_divides_the_file_as_it_divides_the_values(threshold: float, tmp_path: Path) -> None:
    """The nearest numbers above and below it, and random ones: predictions.csv gives the reported numbers, exactly."""
    rng = np.random.default_rng(0)
    at = np.float32(threshold)
    values = rng.random((60, 3), dtype=np.float32)
    values[:3, 0] = np.nextafter(at, np.float32(0)), at, np.nextafter(at, np.float32(1))
    values[3:5, 1] = JUST_BELOW, 1e-9
    labels = (rng.random((60, 3)) < 0.5).astype(np.float32)
    records = Records({"values": values, "truth": labels})
    result = MultiLabel(("a", "b", "c")).judge(records, {}) | {"multi_label": True}
    rows = list(csv.DictReader(io.StringIO(list_predictions(judged(values, labels, result, tmp_path)))))
    read = np.array([[float(row[f"p_{name}"]) for name in "abc"] for row in rows])
    assert np.array_equal(read >= threshold, values.astype(np.float64) >= threshold)
    assert np.array_equal(read, values)
    if threshold == 0.5:
        truth = labels > 0.5
        hits = ((read >= 0.5) & truth).sum()
        assert 2 * hits / ((read >= 0.5).sum() + truth.sum()) == result["micro_f1"]
        named = [["abc"[i] for i in np.flatnonzero(row)] for row in read >= 0.5]
        assert [row["named"].strip("|").split("|") if row["named"] != "|" else [] for row in rows] == named


def test_predict_gives_the_numbers_themselves() -> None:
    """A probability just below one half is no label, in its table and its JSON either."""
    row = np.array([JUST_BELOW, 0.5, 0.25], np.float32)
    p = MultiLabel(("a", "b", "c")).answer(Records({"values": row[None]}), 0, Path("a.png"), 3)
    assert p.labels == ("b",)
    table = next(csv.DictReader(io.StringIO(to_csv([p]))))
    assert (table["label"], table["probability"]) == ("b", "0.5")
    assert float(table["probability_2"]) == float(JUST_BELOW) < 0.5
    top = json.loads(to_json([p]))["predictions"][0]["top"]
    assert [entry["probability"] >= 0.5 for entry in top] == [True, False, False]
    assert decimals(row, exact=True) == row.tolist()
    assert decimals(row, exact=False) == [0.49999997, 0.5, 0.25]


def test_many_pictures_from_memory_need_no_processes(folder: Path) -> None:
    """More than one batch, half of them broken: each answer is at its place."""
    loaded = load_all(folder / "model.safetensors")
    good = (folder / "one.png").read_bytes()
    asked = [Asked(good if i % 2 else b"broken", f"pictures[{i}]") for i in range(70)]
    found = predictions_of(loaded, asked, top=1, device="cpu")
    assert [bool(p.top) for p in found] == [bool(i % 2) for i in range(70)]
    assert all(p.error.startswith(f"pictures[{i}]: ") for i, p in enumerate(found) if not i % 2)
    assert isinstance(found[0], Prediction)


@pytest.mark.parametrize(("pictures", "looks"), [(1, 0), (64, 0), (65, 1)])
def test_a_few_pictures_wait_for_no_look_at_the_cores(
    pictures: int, looks: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for one picture after the other would wait a fifth of a second each time."""
    begun: list[float] = []
    monkeypatch.setattr(predicting.CORES, "begin", lambda: begun.append(0.0))
    picture = (folder / "one.png").read_bytes()
    asked = [Asked(picture, "a picture")] * pictures
    found = predictions_of(load_all(folder / "model.safetensors"), asked, top=1, device="cpu")
    assert all(one.label for one in found)
    assert len(begun) == looks


def test_nothing_that_is_there_is_an_error(folder: Path) -> None:
    """Where no name leads anywhere there is no table to write."""
    with pytest.raises(DataError, match="is no file and matches none"):
        convnext.predict(folder / "model.safetensors", [folder / "gone.png"])
    assert convnext.predict(folder / "model.safetensors", []) == []
