"""Values of more than 8 bits: one range a data set, kept with the model, never a guess from one picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.config import load_complete, to_toml
from convnext.data.pictures.decode import pixels_of, read_pixels
from convnext.data.pictures.levels import Range, scale
from convnext.data.pictures.scales import beyond, range_for, range_of_recipe, scales_of
from convnext.data.shards.writer import reduced
from convnext.data.sources.check import Facts, check_file
from convnext.errors import DataError, PictureError, RecipeError
from convnext.recipe import Recipe
from convnext.tasks.classify.targets import diagnose, read_dataset


def floats(high: float, low: float = 0.0, side: int = 40) -> np.ndarray:
    return np.linspace(low, high, side * side, dtype=np.float32).reshape(side, side)


def write(root: Path, make: dict[str, list[np.ndarray]], suffix: str = ".tif") -> Path:
    for name, pictures in make.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number, values in enumerate(pictures):
            Image.fromarray(values).save(root / name / f"{number}{suffix}")
    return root


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-10.0, 300.0), (0.0, 65535.0)])
def test_all_pictures_of_a_range_are_on_one_scale(tmp_path: Path, value_range: Range) -> None:
    """(v - black) / (white - black) * 255, to the nearest, whatever else is in the picture; beyond it is cut."""
    black, white = value_range
    for values in (floats(1.0), floats(250.0), floats(300.0, -50.0)):
        Image.fromarray(values).save(tmp_path / "x.tif")
        if values.max() <= 1 < white - 254 or values.max() > 1 == white:
            continue  # refused, see below
        expected = np.clip(np.rint((values.astype(np.float64) - black) / (white - black) * 255), 0, 255)
        for found in (
            read_pixels(tmp_path / "x.tif", value_range=value_range),
            pixels_of((tmp_path / "x.tif").read_bytes(), value_range=value_range),
        ):
            np.testing.assert_array_equal(found, np.broadcast_to(expected[..., None], (*values.shape, 3)))


@pytest.mark.parametrize("kind", ["f4", "i4"])
def test_without_a_range_such_values_are_refused(tmp_path: Path, kind: str) -> None:
    """The message has the values found, and the setting."""
    Image.fromarray(np.array([[0, 250]], dtype=kind)).save(tmp_path / "x.tif")
    with pytest.raises(PictureError, match=r"32-bit \w+ values, here 0 to 250, have no fixed range.*data\.value_range"):
        read_pixels(tmp_path / "x.tif")


def test_values_of_another_scale_are_refused(tmp_path: Path) -> None:
    """Floats up to 1 for a model of 0 to 255, and 16 bits for one of 0 to 1: not all black, and not all white."""
    Image.fromarray(floats(0.9)).save(tmp_path / "x.tif")
    with pytest.raises(PictureError, match=r"32-bit float values of 0 to 0\.9 in a range of 0 to 255: .*another scale"):
        read_pixels(tmp_path / "x.tif", value_range=(0.0, 255.0))
    Image.fromarray(floats(250.0)).save(tmp_path / "x.tif")
    with pytest.raises(PictureError, match=r"of 0 to 250 in a range of 0 to 1: .*nearly all is white"):
        read_pixels(tmp_path / "x.tif", value_range=(0.0, 1.0))
    Image.fromarray(np.array([[0, 30000]], np.uint16)).save(tmp_path / "y.png")
    with pytest.raises(PictureError, match=r"16-bit values of 0 to 30,000 in a range of 0 to 1: .*another scale"):
        read_pixels(tmp_path / "y.png", value_range=(0.0, 1.0))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_twelve_bits_in_sixteen_are_as_bright_as_their_range(tmp_path: Path, suffix: str) -> None:
    """With [0, 4095] the values span 0 to 255, in gray and, all 16 bits of it, in colour."""
    gray = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(gray).save(tmp_path / f"x{suffix}")
    expected = np.rint(gray * (255 / 4095))
    found = read_pixels(tmp_path / f"x{suffix}", mode="L", value_range=(0.0, 4095.0))
    np.testing.assert_array_equal(found[..., 0], expected)
    assert read_pixels(tmp_path / f"x{suffix}", mode="L").max() == 16
    plain = np.full((4, 4), 200, np.uint8)
    Image.fromarray(plain).save(tmp_path / f"y{suffix}")
    np.testing.assert_array_equal(
        read_pixels(tmp_path / f"y{suffix}", mode="L", value_range=(0.0, 4095.0))[..., 0], plain
    )


def test_the_table_of_sixteen_bits_and_the_sums_give_the_same() -> None:
    """Scaling by a table (uint16) and by arithmetic (any other) agree."""
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for value_range in ((0.0, 65535.0), (100.0, 4095.0), (-5.0, 70000.0)):
        np.testing.assert_array_equal(scale(values, *value_range), scale(values.astype(np.int64), *value_range))


def test_not_a_number_is_black_and_infinity_white() -> None:
    """And the same without a warning."""
    values = np.array([[np.nan, -np.inf, np.inf, 0.5]], np.float32)
    data = io.BytesIO()
    Image.fromarray(values).save(data, "TIFF")
    assert pixels_of(data.getvalue(), mode="L", value_range=(0.0, 1.0)).reshape(-1).tolist() == [0, 0, 255, 128]


def test_one_range_is_decided_over_the_training_pictures(tmp_path: Path) -> None:
    """The smallest of 0..1, 0..255 and 0..65535 that holds them all, else from their smallest value to the largest."""
    for highs, expected in (((0.5, 1.0), (0, 1)), ((250.0, 90.0), (0, 255)), ((250.0, 300.0), (0, 65535))):
        root = write(
            tmp_path / str(highs), {name: [floats(h, side=9 + i) for i in range(5) for h in highs] for name in "ab"}
        )
        dataset = read_dataset(root)
        assert sum(s.pictures for s in dataset.scales) == len(dataset.splits["train"])
        chosen, why = range_for(dataset.scales)
        assert chosen == expected
        assert f"lie in 0 to {max(highs):g}" in why
    loose = scales_of([(Path("a"), Facts(kind="32-bit float", low=-1000.0, high=3071.0, full=0.0))])
    assert range_for(loose)[0] == (-1000.0, 3071.0)
    assert range_for(())[0] is None


def test_two_scales_in_one_data_set_are_refused(tmp_path: Path) -> None:
    """Floats to 1 beside floats to 250, and floats beside 16 bits: which is which is for the user to say."""
    mixed = scales_of((Path(f"{h}.tif"), Facts(kind="32-bit float", high=h, full=0.0)) for h in (0.9, 250.0, 200.0))
    with pytest.raises(DataError, match=r"1 of 3 pictures with 32-bit float values have none above 1, as 0\.9\.tif"):
        range_for(mixed)
    both = scales_of(
        [(Path("a"), Facts(kind="32-bit float", high=0.9, full=0.0)), (Path("b"), Facts(kind="16-bit", full=65535.0))]
    )
    with pytest.raises(DataError, match=r"beside 1 of 16-bit.*data\.value_range"):
        range_for(both)


@pytest.mark.parametrize("value_range", [(1.0, 0.0), (2.0, 2.0), (0.0, float("nan")), (0.0, float("inf"))])
def test_what_is_no_range_is_refused(value_range: Range) -> None:
    """Black must be below white, and both numbers."""
    with pytest.raises(RecipeError, match=r"data\.value_range = .*two numbers"):
        range_of_recipe(value_range)


def test_the_doctor_and_the_reader_say_what_is_dark_or_blank(tmp_path: Path) -> None:
    """12 bits in 16 are nearly black, with the setting that mends it; blank pictures are told without being asked."""
    rng = np.random.default_rng(0)
    root = write(
        tmp_path / "dark",
        {c: [rng.integers(0, 4096, (40, 40), dtype=np.uint16) for _ in range(4)] for c in "ab"},
        ".png",
    )
    found = {f.kind: f for f in diagnose(root).findings}
    assert "8 pictures of 16 bits are nearly black: the values end at 4,09" in found["dark"].message
    assert "data.value_range=[0, 4095]" in found["dark"].advice
    dataset = read_dataset(root)
    assert "data.value_range=[0, 4095] mends that" in beyond(dataset.scales, None)
    assert beyond(dataset.scales, (0.0, 4095.0)) == ""
    assert "cut to black and white" in beyond(dataset.scales, (0.0, 1023.0))
    assert not any("blank" in note for note in dataset.notes)
    for name in "abc":
        Image.new("L", (40, 40), 9).save(root / "a" / f"blank-{name}.png")
    assert any(note.startswith("3 of 11 pictures are blank") for note in read_dataset(root).notes)
    assert not any("blank" in note for note in diagnose(root).notes)
    for number in range(2):
        Image.fromarray(rng.integers(0, 16, (40, 40, 3), dtype=np.uint8)).save(root / "b" / f"night-{number}.png")
    assert any(note.startswith("2 of 13 pictures are nearly black") for note in read_dataset(root).notes)
    assert {f.message for f in diagnose(root).findings if f.kind == "dark"} == {
        found["dark"].message,
        "2 pictures are nearly black: no value above 1/8 of white",
    }


def test_the_check_keeps_the_values_as_they_are_stored(tmp_path: Path) -> None:
    """Kind, smallest and largest value; a float picture is no broken one."""
    write(tmp_path / "d", {"a": [floats(300.0, -7.0)]})
    facts = check_file(tmp_path / "d" / "a" / "0.tif")
    assert (facts.kind, facts.low, facts.high, facts.full, facts.reason) == ("32-bit float", -7.0, 300.0, 0.0, "")
    Image.fromarray(np.array([[3, 40000]], np.uint16)).save(tmp_path / "x.png")
    facts = check_file(tmp_path / "x.png")
    assert (facts.kind, facts.low, facts.high, facts.full) == ("16-bit", 3.0, 40000.0, 65535.0)


def test_runs_from_before_have_none(tmp_path: Path) -> None:
    """The key is not among those that a run's recipe must not leave open; what the formats say holds."""
    whole = to_toml(Recipe())
    (tmp_path / "recipe.toml").write_text("".join(row for row in whole.splitlines(True) if "value_range" not in row))
    with pytest.raises(RecipeError, match=r"leaves .*data\.size.* at \"auto\"") as told:
        load_complete(tmp_path / "recipe.toml")
    assert "value_range" not in str(told.value)
    assert range_of_recipe(Recipe().data.value_range) is None


@pytest.mark.parametrize("kind", ["u2", "f4", "i4"])
def test_shards_of_a_smaller_side_keep_the_values(tmp_path: Path, kind: str) -> None:
    """`data shard --side` does not turn them into 8 bits: a ramp is the same ramp, half as long."""
    ramp = np.add.outer(np.arange(64), np.arange(96)).astype(kind) * np.array(200, kind)
    path = tmp_path / ("x.png" if kind == "u2" else "x.tif")
    Image.fromarray(ramp).save(path)
    path.write_bytes(reduced(path.read_bytes(), path, 32))
    with Image.open(path) as picture:
        small = np.asarray(picture).astype(float)
    expected = ramp.reshape(32, 2, 48, 2).mean((1, 3), dtype=float)
    np.testing.assert_allclose(small[4:-4, 4:-4], expected[4:-4, 4:-4], atol=2)
    assert check_file(path).kind == {"u2": "16-bit"}.get(kind, "32-bit float")


def test_what_cannot_be_written_again_stays_as_it_is(tmp_path: Path) -> None:
    """Gray whose zero is white is not reduced at all, rather than turned round."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((64, 64), 7, np.uint16)).save(buffer, "TIFF", tiffinfo={262: 0})
    assert reduced(buffer.getvalue(), tmp_path / "x.tif", 32) == buffer.getvalue()
