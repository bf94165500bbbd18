"""A network that a program changed or put together itself: what it answers, how it is judged, what is written."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import convnext
from convnext.errors import PictureError, UserError, WeightsError
from convnext.nn.weights.description import describe

SEEN = convnext.Preprocessing(size=32)
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)


def network(outputs: int = 2) -> Any:
    """A network with random weights."""
    torch.manual_seed(0)
    return convnext.create_model("convnext_atto", num_classes=outputs)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file."""
    place = tmp_path_factory.mktemp("own") / "m.safetensors"
    return convnext.save(network(), place, classes=["a", "b"], preprocessing=SEEN)


def test_a_new_head_has_no_names_until_they_are_given(file: Path) -> None:
    """The names of a head that was replaced are not given to the outputs of the new one, of the same number or not."""
    for outputs in (2, 3):
        model = convnext.load(file)
        model.network.reset_classifier(outputs)
        assert model.classes == ()
        with pytest.raises(UserError, match=rf"has {outputs} outputs and knows the names of 0.*network\.classes"):
            model.predict(PICTURE)
        model.network.classes = ("x", "y", "z")[:outputs]
        assert model.predict(PICTURE)[0].label in model.classes


def test_a_head_of_another_size_is_no_answer(file: Path) -> None:
    """Where a program put another layer in the place of the head, no name is given to what has none."""
    model = convnext.load(file)
    model.network.head = nn.Linear(320, 5)
    with pytest.raises(UserError, match="gives 5 numbers for a picture, and has names for 2"):
        model.predict(PICTURE)


def test_the_network_is_shown_what_it_says(file: Path) -> None:
    """A preprocessing that is set on the network holds for predict, embed, the call and the file alike."""
    model = convnext.load(file)
    model.network.preprocessing = convnext.Preprocessing(size=64, fit="squash")
    expected = model(PICTURE).softmax(1).detach()
    assert model.predict(PICTURE)[0].probability == pytest.approx(float(expected.max()), abs=1e-5)
    again = convnext.load(model.save(file.with_name("again.safetensors")))
    assert again.preprocessing == model.preprocessing == convnext.Preprocessing(size=64, fit="squash")


@pytest.mark.parametrize("change", ["weights", "head", "names", "preprocessing"])
def test_a_changed_model_is_not_judged_as_its_file(file: Path, change: str, tmp_path: Path) -> None:
    """evaluate(model, data) refuses a model that is another one than in its file, which it would have judged."""
    model = convnext.load(file)
    assert not model.changed()
    if change == "weights":
        with torch.no_grad():
            model.network.stages[0].blocks[0].dwconv.bias[0] += 1
    elif change == "head":
        model.network.reset_classifier(2)
    elif change == "names":
        model.network.classes = ("b", "a")
    else:
        model.network.preprocessing = convnext.Preprocessing(size=64)
    with pytest.raises(UserError, match=r"another one than in .*m\.safetensors.*model\.save"):
        convnext.evaluate(model, tmp_path)


@pytest.mark.parametrize(
    "head",
    [nn.Linear(320, 3), nn.Linear(320, 2, bias=False), nn.Sequential(nn.Dropout(), nn.Linear(320, 2))],
    ids=["size", "no bias", "two layers"],
)
def test_nothing_is_written_that_could_not_be_read(head: nn.Module, tmp_path: Path) -> None:
    """A network with a part that its description cannot name is refused when it is saved, not when it is loaded."""
    net, place = network(), tmp_path / "m.safetensors"
    net.head = head
    with pytest.raises(UserError, match="could not be built from the file again, so it is not written"):
        convnext.save(net, place, classes=["a", "b"], preprocessing=SEEN)
    assert not place.exists()


def test_what_is_saved_holds_the_rules_of_a_description(tmp_path: Path) -> None:
    """Preprocessing that no file may hold is refused when it is saved."""
    for seen in (convnext.Preprocessing(size=5000), convnext.Preprocessing(size=32, crop_ratio=0.01)):
        with pytest.raises(UserError, match=r"not written: it: its description says (model|preprocessing)\."):
            convnext.save(network(), tmp_path / "m.safetensors", classes=["a", "b"], preprocessing=seen)


@pytest.mark.parametrize("names", [np.array(["a", "b"]), {"a": 0, "b": 1}, (n for n in "ab"), ("a", "b")])
def test_names_of_classes_of_any_sequence(names: Any, tmp_path: Path) -> None:
    """Lists of NumPy, tables by name and generators name classes in their order."""
    place = convnext.save(network(), tmp_path / "m.safetensors", classes=names, preprocessing=SEEN)
    assert convnext.load(place).classes == ("a", "b")


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path: Path) -> None:
    """Preprocessing takes them as Python's own, so that a model file holds them."""
    half = (0.5, 0.5, 0.5)
    expected = convnext.Preprocessing(size=32, mean=half, std=half)
    size: Any = np.int64(32)
    for values in (np.array(half, np.float32), torch.tensor(half), list(half), 0.5, np.float32(0.5)):
        given: Any = values
        seen = convnext.Preprocessing(size=size, mean=given, std=given)
        assert seen == expected
        outputs: Any = np.int64(2)
        place = convnext.save(network(outputs), tmp_path / "m.safetensors", classes=["a", "b"], preprocessing=seen)
        assert convnext.load(place).preprocessing == expected


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)}, "divide those of pictures in 0 to 255 by 255"),
        ({"mean": (0.5, 0.5), "std": (0.5, 0.5)}, "one number for each of the 3 channels"),
        ({"mean": (), "std": ()}, "one number for each of the 3 channels"),
        ({"std": "abc"}, "std is 'abc'; it must be a number for each channel"),
        ({"size": (32, 32)}, r"size is \(32, 32\); it must be a number of pixels"),
        ({"size": True}, "size is True"),
        ({"crop_ratio": "a"}, "crop_ratio is 'a'; it must be a number"),
        ({"value_range": (5, 1)}, "value_range is .*black and white, the smaller one first"),
        ({"value_range": 3}, "value_range is 3"),
        ({"in_chans": 2}, "in_chans is 2; it must be 1, 3 or 4"),
    ],
)
def test_preprocessing_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    """The message has the value and the rule; numbers of another scale are not taken for ours."""
    given: dict[str, Any] = {"size": 32} | settings
    with pytest.raises(UserError, match=said):
        convnext.Preprocessing(**given)


def test_a_file_with_a_mean_of_another_scale_is_refused() -> None:
    """The same rule in a description, whoever wrote it."""
    config = {
        "model": {"name": "convnext_atto", "num_classes": 2, "in_chans": 3, "stem_patch": 4, "layer_scale": 0},
        "classes": ["a", "b"], "multi_label": False,
        "preprocessing": SEEN.to_json() | {"mean": [124.0] * 3, "std": [58.0] * 3},
    }  # fmt: skip
    with pytest.raises(WeightsError, match=r"x\.safetensors: its description cannot be.*by 255"):
        describe(config, "x.safetensors")


def test_a_buffer_that_was_just_written_is_read_from_its_beginning() -> None:
    """As Pillow does it: it stands at its end."""
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).save(buffer, "PNG")
    assert torch.equal(SEEN(buffer), SEEN(PICTURE))
    assert torch.equal(SEEN(buffer), SEEN(PICTURE))  # and once more


def test_files_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    """A file that is closed, or open for writing."""
    path = tmp_path / "x.png"
    with path.open("wb") as file, pytest.raises(UserError, match=r"open file that cannot be read .*open\(path"):
        SEEN(file)
    with pytest.raises(UserError, match=r"open file that cannot be read .*closed"):
        SEEN(file)


def test_tensors_of_every_kind_are_taken_or_refused() -> None:
    """Those of 16 bits and with a gradient as others; what has no values of pictures by a message."""
    floats = torch.from_numpy(PICTURE).permute(2, 0, 1) / 255
    assert torch.equal(SEEN(floats.clone().requires_grad_()), SEEN(PICTURE))
    for dtype in (torch.bfloat16, torch.float16):
        assert (SEEN(floats.to(dtype)) - SEEN(PICTURE)).abs().max() < 0.05
    for odd in (floats.to("meta"), floats.to_sparse(), floats.to(torch.complex64)):
        with pytest.raises(UserError, match=r"meta device|not a plain tensor"):
            SEEN(odd)


def test_a_name_that_numpy_wrapped_is_a_name(tmp_path: Path) -> None:
    """np.array("a.png"), as iterating over a table gives it."""
    path = tmp_path / "a.png"
    Image.fromarray(PICTURE).save(path)
    wrapped: Any = np.array(str(path))
    assert torch.equal(SEEN(wrapped), SEEN(PICTURE))


@pytest.mark.parametrize("name", ["convnext_atto", "timm:resnet18"])
def test_a_head_for_no_number_of_classes(name: str) -> None:
    """reset_classifier refuses what is none, and the network stays."""
    net = convnext.create_model(name, num_classes=2)
    for outputs in (-1, "a", 2.0, True):
        with pytest.raises(UserError, match="must be a whole number, 0 to leave the head out"):
            net.reset_classifier(outputs)
    assert net.num_classes == 2


def test_a_tiff_that_pillow_has_opened_is_read_as_its_file(tmp_path: Path) -> None:
    """Turned gray ones of 16 bits, of which Pillow itself gives the wrong pixels, are those of the path."""
    gray = np.random.default_rng(1).integers(0, 65536, (20, 30)).astype(np.uint16)
    for turning in range(1, 9):
        path = tmp_path / f"{turning}.tif"
        Image.fromarray(gray).save(path, tiffinfo={274: turning})
        with Image.open(path) as picture:
            assert torch.equal(SEEN(picture), SEEN(path))
            assert torch.equal(SEEN(picture), SEEN(path))  # it is as it was
            assert picture.size == ((20, 30) if turning > 4 else (30, 20))


def test_planes_of_16_bits_that_pillow_has_opened(tmp_path: Path) -> None:
    """They are read from the file; once Pillow has loaded them, they are refused: its pixels are others."""
    colours = np.zeros((32, 32, 3), np.uint16)
    colours[..., 0], colours[:16, :, 1], colours[:, :16, 2] = 65535, 40000, 20000
    path = tmp_path / "planes.tif"
    path.write_bytes(planar_tiff(colours))
    expected = (colours / 257).round().astype(np.uint8)
    assert torch.equal(SEEN(path), SEEN(expected))
    with Image.open(path) as picture:
        assert torch.equal(SEEN(picture), SEEN(expected))
        picture.load()
        with pytest.raises(PictureError, match="which Pillow loads wrongly; give its path"):
            SEEN(picture)


def planar_tiff(colours: NDArray[np.uint16]) -> bytes:
    """An uncompressed TIFF of three planes."""
    height, width = colours.shape[:2]
    planes = [np.ascontiguousarray(colours[..., i]).astype("<u2").tobytes() for i in range(3)]
    start, size = 8 + 2 + 12 * 10 + 4, len(planes[0])
    lists = struct.pack("<3H", 16, 16, 16) + struct.pack("<3I", *(start + 30 + size * i for i in range(3)))
    lists += struct.pack("<3I", size, size, size)
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, start), (259, 3, 1, 1), (262, 3, 1, 2),
               (273, 4, 3, start + 6), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 3, start + 18),
               (284, 3, 1, 2)]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + lists + b"".join(planes)


def test_a_picture_of_pillow_that_is_closed(tmp_path: Path) -> None:
    """It is called that, whether it was loaded or not; it is not damaged."""
    path = tmp_path / "a.png"
    Image.fromarray(PICTURE).save(path)
    with Image.open(path) as lazy:
        pass
    loaded = Image.open(path)
    loaded.load()
    loaded.close()
    for picture in (lazy, loaded):
        with pytest.raises(PictureError, match="closed before it was read; give its path"):
            SEEN(picture)


@pytest.mark.parametrize("top", [0, -1, "3", 1.5])
def test_how_many_names(file: Path, top: Any) -> None:
    """It is a whole number from 1 up; nothing else is taken for one."""
    with pytest.raises(UserError, match="it must be a whole number of names, from 1 up"):
        convnext.predict(file, PICTURE, top=top)


def test_the_device_of_a_loaded_model_is_not_asked_for_in_vain(file: Path) -> None:
    """predict(model, ..., device="cuda") would have computed where the model is, in silence."""
    with pytest.raises(UserError, match=r'convnext\.load\(\.\.\., device="cuda"\)'):
        convnext.predict(convnext.load(file), PICTURE, device="cuda")


@pytest.mark.parametrize(
    "ask",
    [
        lambda place, none: convnext.train(none, epochs=1),
        lambda place, none: convnext.train(place, out=none or "", epochs=1),
        lambda place, none: convnext.evaluate(place, none or ""),
        lambda place, none: convnext.evaluate(none),
        lambda place, none: convnext.doctor(none),
        lambda place, none: convnext.compare(place, none),
        lambda place, none: convnext.load(none),
        lambda place, none: convnext.predict(none, PICTURE),
        lambda place, none: convnext.Run(none),
    ],
)
@pytest.mark.parametrize("none", ["", None, 3.5])
def test_what_is_no_name_names_no_place(
    ask: Callable[[Path, Any], object], none: Any, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is read from the working folder, or written into it, because a variable was empty."""
    (tmp_path / "class").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r'is ""; give .*is a variable empty|(NoneType|float|int) is no'):
        ask(file, none)
    assert [path.name for path in tmp_path.iterdir()] == ["class"]


@pytest.mark.parametrize("thing", [5, np.uint8(5), None, {"a": 1}.keys()])
def test_one_view_is_of_one_picture(thing: Any) -> None:
    """What is no picture is called that, also where one picture is asked for."""
    with pytest.raises(UserError, match="no picture; give paths, bytes"):
        SEEN.view(thing)


def test_a_new_network_knows_the_names_that_it_was_given(tmp_path: Path) -> None:
    """create_model(classes=...) names the outputs, so that save needs them no second time."""
    net = convnext.create_model("convnext_atto", num_classes=2, classes=["a", "b"])
    assert convnext.load(convnext.save(net, tmp_path / "m.safetensors", preprocessing=SEEN)).classes == ("a", "b")
