"""The shipped recipes: the paper's tables to the letter, complete, and each of them runs."""

from __future__ import annotations

import json
import math
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from convnext.__main__ import main
from convnext.config import all_keys, find_recipe, get, load_recipe, override, shipped, shipped_names, to_toml
from convnext.data.feed.mixing import Mixing, cut_mix
from convnext.errors import RecipeError
from convnext.nn.spec import outline
from convnext.recipe import Recipe
from convnext.run.environment import usable_cores
from convnext.run.state import EMA
from convnext.train.doctor import examine, has_batch_norm
from convnext.train.plan import Plan, Steps, count_steps, peak_rate, rate_at
from convnext.train.resume import resume_run
from convnext.train.train import train_run

SIZES = ("tiny", "small", "base", "large", "xlarge")
TABLES = Path(__file__).resolve().parents[3] / "shared" / "paper" / "tables.toml"


def column(table: str, name: str) -> dict[str, str]:
    """Settings and values of a column of the paper's Table 5 or 6."""
    if not TABLES.is_file():
        pytest.skip(f"the paper's tables are not at {TABLES}")
    found = tomllib.loads(TABLES.read_text(encoding="utf-8"))[table]
    at = found["columns"].index(name)
    return {row[0]: row[at] for row in found["rows"]}


def shipped_recipe(name: str) -> Recipe:
    """By its name."""
    return load_recipe(find_recipe(name))


def common(recipe: Recipe, table: dict[str, str]) -> None:
    """What Tables 5 and 6 say in the same words."""
    train, augment = recipe.train, recipe.augment
    assert (train.lr, train.lr_batch) == (float(table["base learning rate"]), int(table["batch size"]))
    assert train.batch == int(table["batch size"])
    assert train.weight_decay == float(table["weight decay"])
    assert list(train.betas) == [float(b) for b in table["optimizer momentum"].split(",")]
    assert train.epochs == int(table["training epochs"])
    assert train.warmup_epochs == (0 if table["warmup epochs"] == "none" else int(table["warmup epochs"]))
    assert table["randaugment"] == "(9, 0.5)"
    assert augment.randaugment == "rand-m9-mstd0.5-inc1"
    for key, value in (("mixup", augment.mixup), ("cutmix", augment.cutmix)):
        assert value == (0.0 if table[key] == "none" else float(table[key]))
    assert augment.erasing == float(table["random erasing"])
    assert augment.label_smoothing == float(table["label smoothing"])
    assert (augment.mix_switch, augment.mix_probability) == (0.5, 1.0)
    assert train.clip_grad == 0.0
    assert table["gradient clip"] == "none"
    assert recipe.data.interpolation == "bicubic"


@pytest.mark.parametrize("size", SIZES[:4])
def test_imagenet_1k_is_table_5(size: str) -> None:
    """Every line of its first column."""
    recipe, table = shipped_recipe(f"imagenet1k/convnext_{size}"), column("table5", "imagenet_1k")
    common(recipe, table)
    rates = dict(zip("TSBL", map(float, table["stochastic depth"].split()[1].split("/")), strict=True))
    assert recipe.model.drop_path == rates[size[0].upper()]
    assert recipe.model.layer_scale == float(table["layer scale"])
    assert (recipe.train.ema, recipe.train.ema_decay, recipe.train.ema_warmup) == (True, float(table["EMA"]), False)
    assert (recipe.train.layer_decay, recipe.model.head_init_scale, recipe.weights) == (1.0, 1.0, "none")
    assert (recipe.data.size, recipe.data.crop_ratio) == (224, 0.875)


@pytest.mark.parametrize("size", SIZES)
def test_imagenet_22k_is_table_5(size: str) -> None:
    """Every line of its second column."""
    recipe, table = shipped_recipe(f"imagenet22k/convnext_{size}"), column("table5", "imagenet_22k")
    common(recipe, table)
    rates = dict(zip(SIZES, map(float, table["stochastic depth"].split()[1].split("/")), strict=True))
    assert recipe.model.drop_path == rates[size]
    assert not recipe.train.ema
    assert table["EMA"] == "none"


@pytest.mark.parametrize(("size", "at"), [("base", 0), ("large", 1)])
def test_fine_tuning_from_1k_is_table_6(size: str, at: int) -> None:
    """Its first column, at 384 with a crop ratio of 1."""
    recipe, table = shipped_recipe(f"finetune1k/convnext_{size}_1k_384"), column("table6", "from_1k_to_384")
    common(recipe, table)
    assert recipe.model.drop_path == float(table["stochastic depth"].split("/")[at])
    assert recipe.train.layer_decay == float(table["layer-wise lr decay"])
    assert recipe.model.head_init_scale == float(table["head init scale"])
    assert (recipe.data.size, recipe.data.eval_size, recipe.data.crop_ratio) == (384, 384, 1.0)
    assert not recipe.train.ema


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [224, 384])
def test_fine_tuning_from_22k_is_table_6(size: str, side: int) -> None:
    """Its second column; XL alone has a moving average."""
    recipe = shipped_recipe(f"finetune1k/convnext_{size}_22k_{side}")
    table = column("table6", "from_22k_to_224_and_384")
    common(recipe, table)
    assert recipe.model.drop_path == float(table["stochastic depth"].split("/")[SIZES.index(size)])
    assert recipe.train.layer_decay == float(table["layer-wise lr decay"])
    assert recipe.train.ema == (size == "xlarge")
    assert (recipe.data.size, recipe.data.crop_ratio) == (side, 0.875 if side == 224 else 1.0)
    assert recipe.weights == f"official:convnext_{size}_22k_224"


def test_the_roadmap_has_the_1k_column_without_an_average() -> None:
    """And the stochastic depth of the ConvNeXt that the road leads to."""
    for regime, size in (("resnet50", "tiny"), ("resnet200", "base")):
        recipe, end = shipped_recipe(f"roadmap/{regime}"), shipped_recipe(f"imagenet1k/convnext_{size}")
        differ = {key for key in all_keys() if get(recipe, key) != get(end, key)}
        assert differ <= {"model.name", "model.layer_scale", "model.stem_patch", "train.ema"}
        assert not recipe.train.ema


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_recipe_is_complete_and_says_what_it_is(name: str) -> None:
    """As the program itself writes it, below a header with command, cost and expectation."""
    text = find_recipe(name).read_text(encoding="utf-8")
    header = [line for line in text.splitlines() if line.startswith("#")]
    for word in ("Command: ", "Cost: ", "Expect: "):
        assert any(line.startswith(f"# {word}") for line in header), word
    body = text[text.index("\nweights = ") :].strip()
    assert body == to_toml(load_recipe(find_recipe(name))).strip()


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_recipe_runs_when_it_is_shrunk(name: str, stripes: Path, tmp_path: Path) -> None:
    """Two steps of the smallest network of its kind on generated pictures; all else is as the recipe has it."""
    recipe = shipped_recipe(name)
    small = "convnext_atto" if recipe.model.name.startswith("convnext") else f"{recipe.model.name}:0.125"
    layer_scale = recipe.model.layer_scale
    shrunk = override(recipe, {
        "model.name": small, "model.stem_patch": "auto" if small != "convnext_atto" else 4, "weights": "none",
        "model.layer_scale": layer_scale, "data.size": 32, "data.start_size": 32, "data.eval_size": 32,
        "train.batch": 24, "train.epochs": 1, "train.warmup_epochs": 0.0 if recipe.train.warmup_epochs == 0 else 0.5,
        "data.workers": 0, "train.precision": "fp32", "train.lr": 1e-3,
        "train.lr_batch": 24, "train.min_lr": 0.0, "train.minutes": "auto",
    })  # fmt: skip
    run = train_run(_data_of(recipe, stripes, tmp_path), shrunk, tmp_path / "run")
    row = run.read_log()[0]
    assert row["step"] == 2
    assert math.isfinite(row["train_loss"])


def _data_of(recipe: Recipe, stripes: Path, place: Path) -> Path:
    """Pictures of classes, or for a recipe of numbers a table of the same pictures with a number each."""
    if recipe.task.kind != "regress":
        return stripes
    files = sorted(stripes.rglob("*.png"))
    low, high = recipe.task.range or (0.0, 190.0)
    rows = [f"{file},{low + (high - low) * (3 * at % 191) / 191:.4g}" for at, file in enumerate(files)]
    column = recipe.task.targets[0] if recipe.task.targets else "target"
    (place / "numbers.csv").write_text("\n".join([f"path,{column}", *rows]) + "\n")
    return place / "numbers.csv"


def test_the_pet_recipe_has_the_reports_figures() -> None:
    """Range, unit, size and length as the report says, and its six published errors in the header."""
    recipe, text = shipped_recipe("regress/pet_age"), find_recipe("regress/pet_age").read_text(encoding="utf-8")
    assert (recipe.task.kind, recipe.task.unit, recipe.task.range) == ("regress", "months", (0.0, 192.0))
    assert (recipe.train.epochs, recipe.data.size, recipe.task.loss) == (20, 224, "l1")
    assert (recipe.augment.mixup, recipe.augment.cutmix) == (0.0, 0.0)
    published = dict(re.findall(r"^# +([A-Z]\S+) +\d+ M.* (\d\d\.\d{4})$", text, re.M))
    assert published == {
        "ResNet18": "22.7002", "ResNet50": "21.9790", "ViT": "29.6323", "Swin-B": "29.8819", "ConvNeXt-B": "21.4573",
        "ConvNeXt-L": "20.6912",
    }  # fmt: skip


def test_recipes_are_found_by_name_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without the ending; a file of one's own comes first; a near miss is named."""
    monkeypatch.chdir(tmp_path)
    assert find_recipe("imagenet1k/convnext_tiny") == shipped() / "imagenet1k" / "convnext_tiny.toml"
    Path("mine.toml").write_text("")
    assert find_recipe("mine") == Path("mine.toml")
    with pytest.raises(RecipeError, match='did you mean "imagenet1k/convnext_tiny"'):
        find_recipe("imagenet1k/convnext_tny")


def test_the_schedule_is_timms() -> None:
    """Linear warm-up per step and a cosine, at every 97th step of the 1K recipe: timm's scheduler, shifted by a step.

    timm's warm-up starts at 0 and ours at the first step's share, as the authors' code does.
    """
    from timm.scheduler import CosineLRScheduler

    recipe = shipped_recipe("imagenet1k/convnext_tiny")
    steps = count_steps(recipe, 1_281_167)
    assert steps == Steps(312, 312 * 300, 312 * 20)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=4e-3)
    theirs = CosineLRScheduler(
        optimizer, t_initial=steps.total - steps.warmup, lr_min=1e-6, warmup_t=steps.warmup, warmup_prefix=True,
        t_in_epochs=False,
    )  # fmt: skip
    for step in range(0, steps.total, 97):
        if step < steps.warmup:
            expected = 4e-3 * (step + 1) / steps.warmup
        else:
            theirs.step_update(step)
            expected = optimizer.param_groups[0]["lr"]
        assert rate_at(recipe, steps, step) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_the_rate_follows_the_batch_once(stripes: Path, tmp_path: Path) -> None:
    """4e-3 for 4096 is 1.5625e-5 for 16; the run's own recipe keeps both numbers, so that it comes out again."""
    recipe = override(shipped_recipe("scratch/small"), {
        "train.batch": 16, "train.lr": 4e-3, "train.lr_batch": 4096, "train.epochs": 2, "data.size": 32,
        "data.start_size": 32, "data.eval_size": 32, "train.warmup_epochs": 0.0, "data.workers": 0,
    })  # fmt: skip
    assert peak_rate(recipe) == pytest.approx(4e-3 / 256)
    run = train_run(stripes, recipe, tmp_path / "run")
    again = load_recipe(run.recipe)
    assert peak_rate(again) == pytest.approx(4e-3 / 256)
    choices = {choice["key"]: choice["why"] for choice in json.loads((run.path / "plan.json").read_text())}
    assert "1.56e-05 at a batch of 16" in choices["train.lr"]
    assert run.read_log()[0]["lr"] < 4e-3 / 256
    assert peak_rate(load_recipe(resume_run(run.path).recipe)) == pytest.approx(4e-3 / 256)


def test_the_average_without_warm_up_is_timms() -> None:
    """The same decay from the first step on."""
    from timm.utils import ModelEmaV3

    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    ours, theirs = EMA(model, 0.9, warmup=False), ModelEmaV3(model, decay=0.9)
    for _ in range(5):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3))
        ours.update(model)
        theirs.update(model)
    torch.testing.assert_close(ours.average["weight"], theirs.module.weight.data)


def test_a_mixed_batch_is_timms() -> None:
    """With the same share and box: pictures and soft targets of mixup and of CutMix as timm's Mixup makes them."""
    from timm.data.mixup import Mixup, rand_bbox

    pictures, labels = torch.randn(8, 3, 32, 32), torch.arange(8) % 5
    targets = torch.nn.functional.one_hot(labels, 5).float()
    theirs = Mixup(mixup_alpha=0.8, cutmix_alpha=0.0, label_smoothing=0.0, num_classes=5)
    theirs._params_per_batch = lambda: (0.3, False)  # type: ignore[method-assign]
    wanted, wanted_targets = theirs(pictures.clone(), labels)
    torch.testing.assert_close(pictures * 0.3 + pictures.flip(0) * 0.7, wanted)
    torch.testing.assert_close(targets * 0.3 + targets.flip(0) * 0.7, wanted_targets)
    found, share = cut_mix(pictures, 0.5, 0.5, 0.5)
    (top, bottom, left, right) = rand_bbox((32, 32), 0.5)
    assert (bottom - top, right - left) <= (23, 23)
    changed = (found != pictures).any(1)[0]
    rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
    assert 1 - share == pytest.approx(len(rows) * len(columns) / 32**2)
    draws = [Mixing(0.8, 1.0, 1.0, 0, switch)(pictures, targets, 0, 0)[0] for switch in (0.0, 1.0)]
    assert not torch.equal(draws[0], draws[1])


def plan_of(**settings: Any) -> Plan:
    """A complete plan of the small recipe with other settings, after the doctor."""
    changed = {key.replace("__", "."): value for key, value in settings.items()}
    recipe = override(shipped_recipe("scratch/small"), {
        "data.workers": 1, "train.micro_batch": 32, "train.ema_decay": 0.99, "train.device": "cpu", **changed,
    })  # fmt: skip
    plan = Plan(recipe)
    examine(plan, 3306, torch.device("cpu"))
    return plan


def test_the_doctor_repairs_with_the_reason() -> None:
    """More workers than cores, an average longer than the run, BatchNorm with an average."""
    why = {choice["key"]: choice["why"] for choice in plan_of(data__workers=500).choices}
    assert "core" in why["data.workers"]
    plan = plan_of(data__workers=8)
    plan.recipe = override(plan.recipe, {"data.workers": 8})
    examine(plan, 3306, torch.device("cpu"), 4, 4)
    assert int(plan.recipe.data.workers) == max(1, usable_cores() // 4), "four processes share the cores"
    plan = plan_of(train__ema_decay=0.99999, train__epochs=1)
    assert float(plan.recipe.train.ema_decay) < 0.99
    assert "the run has 103" in plan.choices[0]["why"]
    plan = plan_of(model__name="timm:resnet18", model__layer_scale=0.0, model__init="paper")
    assert plan.recipe.train.ema is False
    assert not plan_of().choices


def test_the_doctor_warns_of_a_rate_for_another_batch() -> None:
    """The paper's 4e-3 at a batch of 8 is far above the usual; with lr_batch it is scaled, and that is said."""
    (choice,) = plan_of(train__lr=0.01, train__lr_batch=0, train__batch=8, train__micro_batch=8).choices
    assert "warning" in choice["why"]
    assert "train.lr_batch" in choice["why"]
    (choice,) = plan_of(train__lr=4e-3, train__lr_batch=4096).choices
    assert "3.13e-05 at a batch of 32" in choice["why"]


def test_a_recipe_of_the_paper_on_few_pictures_scales_the_end_of_the_rate_too(
    stripes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The batch of 512 becomes a small one, and the peak with it: it would lie below the rate at the end."""
    assert main(["recipe", "check", "finetune1k/convnext_base_22k_384", "--data", str(stripes)]) == 0
    assert "train.min_lr = " in capsys.readouterr().out
    words = ["finetune1k/convnext_base_22k_384", "train.min_lr=1", "--data", str(stripes)]
    assert main(["recipe", "check", *words]) == 2
    assert "must not be above the peak" in capsys.readouterr().out


def test_the_small_recipe_is_that_of_the_flowers() -> None:
    """So that its accuracy in docs/results.md holds under both names; the rate's batch is the batch itself."""
    small, flowers = shipped_recipe("scratch/small"), shipped_recipe("flowers")
    differ = {key for key in all_keys() if get(small, key) != get(flowers, key)}
    assert differ <= {"train.lr_batch", "task.kind"}
    assert small.train.lr_batch == small.train.batch
    assert peak_rate(small) == peak_rate(flowers)


def test_what_cannot_run_is_refused_before_a_folder_is_made(stripes: Path, tmp_path: Path) -> None:
    """A network shared out by one process; layer-wise decay of a network whose blocks nobody knows."""
    settings = ["train.sharding=fsdp2", "weights=none", "train.epochs=1", "data.size=32"]
    assert main(["train", str(stripes), *settings, "--out", str(tmp_path / "run")]) == 2
    settings = ["train.layer_decay=0.8", "model.name=timm:test_vit", "weights=none", "train.epochs=1"]
    assert main(["train", str(stripes), *settings, "--out", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run").exists()


def test_batch_norm_is_found() -> None:
    """Where it is, and where it is not."""
    recipe = shipped_recipe("roadmap/resnet50")
    assert has_batch_norm(recipe)
    assert not has_batch_norm(override(recipe, {"model.name": "roadmap:resnet50:separate-downsampling"}))


def test_the_memory_of_a_step_is_measured_where_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """With little memory free the micro-batch is lowered to what fits, by two measured steps."""
    from convnext.train import doctor

    monkeypatch.setattr(doctor, "available_memory", lambda: 400_000_000)
    monkeypatch.setattr(doctor, "step_bytes", lambda recipe, pictures, device: 100_000_000 + pictures * 30_000_000)
    monkeypatch.setattr(doctor, "estimated_bytes", lambda recipe: 20e6)
    plan = plan_of()
    assert plan.recipe.train.micro_batch == 4  # (0.8 x 400 - 100) / 30 = 7.3, and it must divide 32
    assert "30 MB a picture and 100 MB besides" in plan.choices[-1]["why"]


def test_a_step_is_measured_in_a_process_of_its_own() -> None:
    """More pictures take more; the figure is of the size of the activations, not of the process."""
    from convnext.train.doctor import step_bytes

    recipe = override(shipped_recipe("scratch/small"), {"train.precision": "fp32"})
    few, many = (step_bytes(recipe, n, torch.device("cpu")) for n in (1, 64))
    assert 0 < few < many < 4e9


def test_the_commands_list_show_and_check(capsys: pytest.CaptureFixture[str], stripes: Path) -> None:
    """Groups and schedule as tables; a recipe with a mistake is found; with data, what train would choose."""
    assert main(["recipe", "list"]) == 0
    assert "imagenet22k/convnext_xlarge" in capsys.readouterr().out
    assert main(["recipe", "show", "finetune1k/convnext_base_22k_224", "train.epochs=3"]) == 0
    out = capsys.readouterr().out
    assert f"{0.8**13:.4g}" in out
    assert "epochs = 3 " in out
    assert "2,502 an epoch" in out
    assert "outlast" not in out
    assert main(["recipe", "show", "imagenet1k/convnext_tiny", "train.epochs=5"]) == 0
    assert "a warm-up of 20 epochs would outlast the run of 5: train shortens it" in capsys.readouterr().out
    assert main(["recipe", "show", "imagenet1k/convnext_tiny", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert main(["recipe", "check", "scratch/small", "--data", str(stripes)]) == 0
    assert "data.root" not in capsys.readouterr().out
    assert main(["recipe", "check", "scratch/small", "train.epochs=3", "--data", str(stripes)]) == 0
    assert "train.ema_decay" in capsys.readouterr().out
    assert main(["recipe", "check", "scratch/small", "train.epochs=-3"]) == 2
    assert "the recipe with these settings has 1 mistake" in capsys.readouterr().out
    assert main(["recipe", "check", "scratch/smal"]) == 2
    assert 'did you mean "scratch/small"' in capsys.readouterr().out


def test_every_shipped_recipe_passes_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    """`convnext recipe check` without a name."""
    assert main(["recipe", "check"]) == 0
    out = capsys.readouterr().out
    assert out.count("ok   ") == len(shipped_names())
    assert outline("convnext_tiny").published


def test_a_measurement_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run begins without it."""
    import subprocess

    from convnext.train.doctor import step_bytes

    def hang(command: list[str], **more: Any) -> None:
        raise subprocess.TimeoutExpired(command, 600)

    monkeypatch.setattr(subprocess, "run", hang)
    assert step_bytes(plan_of().recipe, 2, torch.device("cpu")) == 0
