"""The roadmap as a table and as an experiment."""

from __future__ import annotations

import errno
import json
import shutil
import statistics
from pathlib import Path

import pytest
from PIL import Image

from convnext.__main__ import main
from convnext.errors import RecipeError, RunError, UserError
from convnext.report import plots
from convnext.report.plots import draw_figure1, draw_roadmap
from convnext.run.folder import RunFolder, locked
from convnext.study.roadmap import choose_steps, tabulate, to_text
from convnext.study.roadmap_training import FIXED, make_recipe, train_steps

TINY = ["data.size=32", "train.epochs=2", "train.batch=8", "data.workers=0", "train.warmup_epochs=0.5"]


def test_the_command_prints_the_papers_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """17 rows with the promised keys; MACs unrounded; the published figures beside them."""
    assert main(["roadmap", "--json"]) == 0
    road = json.loads(capsys.readouterr().out)
    assert road["regime"] == "resnet50"
    assert len(road["steps"]) == 17
    for row in road["steps"]:
        assert {"step", "adopted", "params", "gmacs", "published_gmacs", "published_top1"} <= row.keys()
    last = road["steps"][-1]
    assert (last["step"], last["params"], last["published_top1"]) == (
        "separate d.s. conv (ConvNeXt-T)",
        28_589_128,
        81.97,
    )
    assert last["gmacs"] == pytest.approx(4.4555, abs=1e-4)
    assert last["published_gmacs"] == 4.49


def test_rows_where_the_print_disagrees_show_both(capsys: pytest.CaptureFixture[str]) -> None:
    """The two last rows of Table 10 are marked, with both numbers; Table 11 has none."""
    assert main(["roadmap"]) == 0
    marked = [line for line in capsys.readouterr().out.splitlines() if "*" in line]
    assert [line.split()[0] for line in marked] == ["bn-to-ln", "separate-downsampling", "*"]
    assert "4.15" in marked[0]
    assert "4.46*" in marked[0]
    assert "*" not in to_text(tabulate("resnet200"))


def test_training_adds_accuracy_with_its_spread_and_goes_on_where_it_was(stripes: Path, tmp_path: Path) -> None:
    """Two steps, two seeds; a second call repeats no run; the table and the file have mean and deviation."""
    road = tabulate("resnet50", 0.125)
    steps = choose_steps("resnet50", "relu-to-gelu,separate-downsampling", 0.125)
    recipe = make_recipe(None, TINY)
    train_steps(stripes, road, steps, 2, tmp_path / "road", recipe)
    row = road.steps[-1]
    assert sorted(row.measured) == [0, 1]
    assert row.mean == pytest.approx(statistics.mean(row.measured.values()))
    saved = json.loads((tmp_path / "road" / "roadmap.json").read_text())
    assert saved["steps"][-1]["measured_deviation"] == pytest.approx(statistics.stdev(row.measured.values()))
    assert saved["epochs"] == 2
    stamp = (tmp_path / "road" / "relu-to-gelu-1" / "result.json").stat().st_mtime_ns
    again = tabulate("resnet50", 0.125)
    train_steps(stripes, again, steps, 2, tmp_path / "road", recipe)
    assert again.steps[-1].measured == row.measured
    assert (tmp_path / "road" / "relu-to-gelu-1" / "result.json").stat().st_mtime_ns == stamp
    assert f"{100 * row.mean:.1f} % ±" in to_text(again)
    svg = draw_roadmap(again, tmp_path / "figure.svg").read_text()
    assert "widths x 0.125" in svg
    assert f"points) of {stripes.name}, 32 px, 2 epochs" in svg
    assert "patchify stem" not in svg  # was not trained
    draw_roadmap(again, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        assert min(picture.size) > 300
    other = make_recipe(None, [*TINY[:-1], "train.warmup_epochs=0.5", "train.lr=0.01"])
    kernel = choose_steps("resnet50", "kernel-5", 0.125)
    for scale, chosen, settings, message in [
        (0.125, steps, other, r"holds an experiment with train.lr = 0.001, now 0.01 is asked for"),
        (0.125, kernel, other, r"holds an experiment with train.lr = 0.001, now 0.01 is asked for"),
        (0.25, kernel, recipe, r"holds an experiment with scale = 0.125, now 0.25 is asked for"),
    ]:
        with pytest.raises(RunError, match=message):
            train_steps(stripes, tabulate("resnet50", scale), chosen, 2, tmp_path / "road", settings)
    shutil.copytree(stripes, tmp_path / "others")
    with pytest.raises(RunError, match=r"holds an experiment with data = .*, now .*others is asked for"):
        train_steps(tmp_path / "others", tabulate("resnet50", 0.125), kernel, 2, tmp_path / "road", recipe)
    with (
        locked(RunFolder(tmp_path / "road")),
        pytest.raises(RunError, match=r"another process is working in .*road"),
    ):
        train_steps(stripes, tabulate("resnet50", 0.125), kernel, 2, tmp_path / "road", recipe)
    assert json.loads((tmp_path / "road" / "roadmap.json").read_text()) == saved


def test_an_experiment_that_never_began_binds_nobody(stripes: Path, tmp_path: Path) -> None:
    """Data that cannot be used leaves a folder that the right data can have."""
    (tmp_path / "empty").mkdir()
    steps, recipe = choose_steps("resnet50", "relu-to-gelu", 0.125), make_recipe(None, TINY)
    with pytest.raises(UserError):
        train_steps(tmp_path / "empty", tabulate("resnet50", 0.125), steps, 1, tmp_path / "road", recipe)
    road = train_steps(stripes, tabulate("resnet50", 0.125), steps, 1, tmp_path / "road", recipe)
    assert [row.name for row in road.steps if row.measured] == ["relu-to-gelu"]


NAN = {"regime": "resnet50", "scale": 0.125, "steps": [{"name": "recipe", "measured": {"0": "NaN"}}]}


@pytest.mark.parametrize(
    "damage", ["{", "[1]", '{"regime": "resnet50", "scale": 0.125, "steps": [{"step": 1}]}', json.dumps(NAN)]
)
def test_a_damaged_record_is_named(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text that is no JSON, JSON without the rows, accuracies that are none: the file is named, exit code 2."""
    (tmp_path / "roadmap.json").write_text(damage)
    assert main(["roadmap", "--scale", "0.125", "--out", str(tmp_path)]) == 2
    assert str(tmp_path / "roadmap.json") in capsys.readouterr().err


def test_all_steps_share_one_recipe() -> None:
    """No average and no layer scale, whatever is given; a setting that would differ between steps is refused."""
    recipe = make_recipe(None, ["train.epochs=3"])
    assert (recipe.train.ema, recipe.model.layer_scale, recipe.train.epochs) == (False, 0.0, 3)
    assert set(FIXED) == {"train.ema", "model.layer_scale", "model.stem_patch"}
    for setting in ("train.ema=true", "model.name=convnext_tiny", "train.seed=4", "train.minutes=3"):
        with pytest.raises(UserError, match="the roadmap sets this itself"):
            make_recipe(None, [setting])
    with pytest.raises(RecipeError, match="epoch"):
        make_recipe(None, ["train.epoch=3"])


def test_all_adopted_networks_are_the_default() -> None:
    """13 networks: the enhanced recipe is no network of its own, the other kernels were not adopted."""
    names = [step.name for step in choose_steps("resnet50", "")]
    assert len(names) == 13
    assert names[0] == "resnet50"
    assert names[-1] == "separate-downsampling"
    assert "kernel-9" not in names


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_figures_are_drawn_in_every_format(suffix: str, tmp_path: Path) -> None:
    """Figure 1 and Figure 2 as a file that begins as such a file does."""
    begins = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    for path in (draw_figure1(tmp_path / f"1{suffix}"), draw_roadmap(tabulate("resnet50"), tmp_path / f"2{suffix}")):
        assert path.read_bytes().startswith(begins)


def test_figures_have_their_numbers(tmp_path: Path) -> None:
    """The published numbers are in the picture as text."""
    svg = draw_roadmap(tabulate("resnet50"), tmp_path / "2.svg").read_text()
    for text in (
        ">81.97<",
        ">4.46*<",
        ">78.28<",
        ">2.35<",
        "counted 4.15, the paper prints 4.46",
        "hatched: tried, not adopted",
        "move up depthwise conv",
        "Swin-T",
        "Swin-B",
    ):
        assert text in svg
    with pytest.raises(UserError, match="a shrunken road has no published accuracies"):
        draw_roadmap(tabulate("resnet50", 0.25), tmp_path / "3.png")


def test_a_figure_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole or not at all: a full disk leaves what was there, and no rubbish; a link stays a link."""
    target = tmp_path / "real.svg"
    target.write_text("keep")
    (tmp_path / "link.svg").symlink_to(target)

    def disk_full(path: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", disk_full)
        with pytest.raises(RunError, match=r"real.svg could not be written: the disk is full"):
            plots.draw_figure1(tmp_path / "link.svg")
    assert target.read_text() == "keep"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.svg", "real.svg"]
    plots.draw_figure1(tmp_path / "link.svg")
    assert (tmp_path / "link.svg").is_symlink()
    assert target.read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["roadmap", "--regime", "resnet34"], 'regime "resnet34" is not known'),
        (["roadmap", "--scale", "0"], "scale is 0; it must be above 0"),
        (["roadmap", "--figure", "x.bmp"], "a figure is written as .png"),
        (["roadmap", "--train", "/nowhere", "--steps", ","], 'steps "," names no step'),
        (["roadmap", "--train", "/nowhere", "--steps", "nothing"], 'step "nothing" is not on the road'),
        (["roadmap", "train.epochs=3"], "belong to --train DATA"),
        (["figure", "3"], "figure 3 is not drawn here"),
        (["summary", "convnext_tinny"], 'Did you mean "convnext_tiny"'),
        (["models", "vgg"], 'no model matches "vgg"'),
        (["weights", "get", "tiny"], "give a model or an entry"),
    ],
)
def test_mistakes_are_answered(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and one line that helps."""
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
