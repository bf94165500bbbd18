"""What a network is, said once: recipe, model file, `create_model` and the trial of the time build the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import convnext
from convnext.config import load_recipe
from convnext.errors import UserError
from convnext.nn.convnext.backbone import Block
from convnext.nn.create import create_model
from convnext.nn.spec import NetworkSpec, spec_of
from convnext.nn.weights.files import read_header
from convnext.train.train import train_run

SETTINGS = [
    "weights=none", "model.name=convnext_atto", "data.size=32", "model.stem_patch=2", "train.batch=8",
    "train.epochs=1", "data.workers=0", "train.device=cpu", "model.drop_path=0.25", "model.layer_scale=0.5",
    "model.init=paper", "model.head_init_scale=0.25",
]  # fmt: skip


def test_a_recipe_and_create_model_speak_of_the_same_network() -> None:
    """Same parts, same shapes, and from one seed the same numbers."""
    spec = spec_of(load_recipe(None, SETTINGS), 7)
    torch.manual_seed(3)
    ours = spec.build()
    torch.manual_seed(3)
    theirs = create_model(
        "convnext_atto", num_classes=7, stem_patch=2, drop_path=0.25, layer_scale=0.5, head_init_scale=0.25
    )
    assert repr(ours) == repr(theirs)
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name]), name
    assert set(ours.stages[0].blocks[0].gamma.tolist()) == {0.5}


def test_what_is_left_open_is_the_models_own() -> None:
    """Stem and layer scale of each family; what was complete stays as it is; a file's words give the same again."""
    expected = {"convnext_tiny": (4, 1e-6), "convnext_isotropic_small": (16, None), "convnextv2_atto": (4, 0.0)}
    for name, (patch, scale) in expected.items():
        spec = NetworkSpec(name).complete()
        assert spec.stem_patch == patch
        assert scale is None or spec.layer_scale == scale
        assert spec.complete() == spec == replace(NetworkSpec(**spec.kept()))


@pytest.mark.parametrize(
    ("field", "value"),
    [("stem_patch", 3), ("drop_path", 1.0), ("drop_path", float("nan")), ("layer_scale", -1), ("num_classes", True),
     ("in_chans", 0), ("size", 0), ("form", "x"), ("init", "x"), ("head_init_scale", -1.0)],
)  # fmt: skip
def test_a_field_out_of_range_is_refused(field: str, value: Any) -> None:
    """By its name and value, and by `create_model` in the same words."""
    with pytest.raises(UserError, match=f"{field} is {value!r}; it must be") as one:
        NetworkSpec("convnext_atto", **{field: value}).complete()
    with pytest.raises(UserError) as other:
        create_model("convnext_atto", **{field: value})
    assert str(one.value) == str(other.value)


def test_every_network_of_a_run_is_the_one_it_trains(
    tmp_path: Path, write_stripes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the time is measured on has the run's drop path, layer scale, stem, channels and outputs; the model file
    says the same."""
    data = write_stripes(tmp_path / "data", {"a": 12, "b": 12, "c": 12})
    real, built = NetworkSpec.build, []

    def build(spec: NetworkSpec) -> nn.Module:
        built.append(spec)
        return real(spec)

    monkeypatch.setattr(NetworkSpec, "build", build)
    timed = [word.replace("train.epochs=1", "train.minutes=0.1") for word in SETTINGS]
    run = train_run(data, load_recipe(None, timed), tmp_path / "run")
    full = [spec for spec in built if spec.num_classes == 3]
    assert len(full) >= 2, "the trial and the run"
    assert {replace(spec, size=32).complete() for spec in full} == {full[-1].complete()}
    assert (full[-1].drop_path, full[-1].layer_scale) == (0.25, 0.5)
    assert NetworkSpec(**read_header(run.last)[1]["model"]).complete().kept() == full[-1].kept()
    rates = [part.drop_path.p for part in real(full[0]).modules() if isinstance(part, Block)]
    assert rates[-1] == pytest.approx(0.25)
    assert convnext.load(run.path).network.name == "convnext_atto"
