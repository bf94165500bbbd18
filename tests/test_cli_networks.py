"""The commands about networks and weights, as programs and people read them."""

from __future__ import annotations

import json

import pytest

from convnext import paper
from convnext.__main__ import main

Captured = pytest.CaptureFixture[str]


def printed(capsys: Captured, *words: str) -> str:
    """What a command that succeeds prints on standard output."""
    assert main(list(words)) == 0
    return capsys.readouterr().out


def test_models_as_json_have_the_papers_numbers(capsys: Captured) -> None:
    """Parameters and multiply-accumulates of Tables 1 and 2, with weights that name address and licence."""
    rows = {row["name"]: row for row in json.loads(printed(capsys, "models", "--json"))}
    wanted = {
        "tiny": (28.6, 4.46), "small": (50.2, 8.68), "base": (88.6, 15.35), "large": (197.8, 34.36),
        "xlarge": (350.2, 60.92),
    }  # fmt: skip
    for size, (params, gmacs) in wanted.items():
        row = rows[f"convnext_{size}"]
        assert round(row["params"] / 1e6, 1) == params
        assert round(row["gmacs"], 2) == gmacs
        assert all(w["url"].startswith("https://") and w["licence"] for w in row["weights"])
    for size, (params, gmacs) in {"small": (22, 4.3), "base": (87, 16.9), "large": (306, 59.7)}.items():
        row = rows[f"convnext_isotropic_{size}"]
        assert (round(row["params"] / 1e6), round(row["gmacs"], 1)) == (params, gmacs)
    tiny = {(p["table"], p["pretraining"], p["size"]): p["top1"] for p in rows["convnext_tiny"]["published"]}
    assert tiny["table1", "1k", 224] == 82.1


def test_models_takes_a_pattern(capsys: Captured) -> None:
    """A part of a name, or of the name in the paper."""
    names = [line.split()[0] for line in printed(capsys, "models", "isotropic").splitlines()[1:-3]]
    assert names == [f"convnext_isotropic_{size}" for size in ("small", "base", "large")]
    assert "timm:swin_tiny_patch4_window7_224" in printed(capsys, "models", "swin-t")


def test_the_summary_adds_up_for_programs_and_people(capsys: Captured) -> None:
    """Layer rows sum to the totals; the text has one line for each."""
    found = json.loads(printed(capsys, "summary", "convnext_atto", "--size", "96", "--json"))
    assert found["size"] == 96
    for key in ("params", "macs", "activations"):
        assert sum(layer[key] for layer in found["layers"]) == found[key]
    text = printed(capsys, "summary", "convnext_atto", "--size", "96").splitlines()
    assert len(text) == len(found["layers"]) + 3


@pytest.mark.parametrize(("regime", "table"), [("resnet50", "table10"), ("resnet200", "table11")])
def test_the_roadmap_as_json_is_the_papers_table(regime: str, table: str, capsys: Captured) -> None:
    """17 rows, published numbers beside counted ones: equal to two decimals but where the print errs."""
    road = json.loads(printed(capsys, "roadmap", "--regime", regime, "--json"))
    rows = paper.rows(table)[:-1]  # the last one is a Swin
    assert road["regime"] == regime
    assert len(road["steps"]) == 17
    different = []
    for step, row in zip(road["steps"], rows, strict=True):
        assert {"step", "adopted", "params", "gmacs", "published_gmacs", "published_top1"} <= set(step)
        assert (step["published_gmacs"], step["published_top1"]) == (row["flops"], row["top1"])
        if f"{step['gmacs']:.2f}" != f"{row['flops']:.2f}":
            different.append((step["step"], f"{step['gmacs']:.2f}"))
    misprints = [("BN to LN", "4.15"), ("separate d.s. conv (ConvNeXt-T)", "4.46")]
    assert different == ([] if regime == "resnet200" else misprints)


def test_the_weights_list_says_who_may_use_them(capsys: Captured) -> None:
    """V2's are not for commerce; --commercial leaves them out."""
    everything = json.loads(printed(capsys, "weights", "list", "v2", "--json"))
    assert everything
    assert {row["commercial"] for row in everything} == {False}
    assert main(["weights", "list", "convnextv2", "--commercial"]) == 2
    assert "for commercial use" in capsys.readouterr().err
    assert "top-1" in printed(capsys, "weights", "list", "tiny", "--commercial")
