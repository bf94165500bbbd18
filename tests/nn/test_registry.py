"""The list of models and the registry of weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

from convnext import paper
from convnext.errors import UserError, WeightsError
from convnext.nn.create import create_model
from convnext.nn.listing import list_all, to_text
from convnext.nn.others.baselines import timm_config
from convnext.nn.tables.baseline_specs import BASELINES
from convnext.nn.tables.published import PUBLISHED, allows_commerce
from convnext.nn.weights.download import TORCHVISION_FILES, _torch_hub, locate
from convnext.nn.weights.registry import get_weights, list_weights, weights_row


def test_every_convnext_and_baseline_of_table_1_is_listed_with_its_figures() -> None:
    """Each row of Tables 1 and 2 is shown with a model that we can build, its size and pretraining kept."""
    shown = {(row.paper, p.pretraining, p.size): p for row in list_all() for p in row.published}
    for row in paper.rows("table1"):
        found = shown[row["model"], row["pretraining"], row["size"]]
        assert (found.top1, found.gmacs, found.params) == (row["top1"], row["flops"], row["params"])
    for row in paper.rows("table2"):
        if row["family"] == "convnet":
            found = shown[row["model"], "1k", 224]
            assert (found.top1, found.gmacs, found.params) == (row["top1"], row["flops"], row["params"])
    assert shown["ResNet-50", "", 224].gmacs == 4.1  # Table 9


def test_counted_and_published_numbers_are_close() -> None:
    """Within 4 % for all networks but two, whose published MACs are for another size or count than they say."""
    far = set()
    for row in list_all():
        for p in row.published:
            if p.size == row.size and abs(row.gmacs / p.gmacs - 1) > 0.04:
                far.add(row.paper)
    assert far == {"EffNetV2-L", "EffNetV2-XL"}


def test_patterns_find_models_by_either_name() -> None:
    """A part of a name, a shell pattern, the paper's name; nothing found is an error."""
    assert [row.name for row in list_all("isotropic")] == [
        f"convnext_isotropic_{s}" for s in ("small", "base", "large")
    ]
    assert [row.name for row in list_all("Swin-T")] == ["timm:swin_tiny_patch4_window7_224"]
    assert len(list_all("*v2*")) >= 10
    with pytest.raises(UserError, match='no model matches "vgg"'):
        list_all("vgg")


def test_the_list_as_text_has_a_line_a_model() -> None:
    """Parameters, MACs, and what the paper says."""
    line = next(text for text in to_text(list_all()).splitlines() if text.startswith("convnext_tiny "))
    assert "28.6 M" in line
    assert "4.46" in line
    assert "82.1 % (1k, 224)" in line


def test_rows_have_address_licence_and_preprocessing() -> None:
    """For the official ones, timm's, and one that only timm knows."""
    official = weights_row("official:convnextv2_nano_22k_384_ema")
    assert official["url"].endswith("/convnext/convnextv2/im22k/convnextv2_nano_22k_384_ema.pt")
    assert (official["licence"], official["commercial"]) == ("CC-BY-NC-4.0", False)
    assert (official["size"], official["crop_ratio"], official["top1"]) == (384, 1.0, 83.4)
    resnet = weights_row("timm:resnet50.a1_in1k")
    assert (resnet["licence"], resnet["commercial"], resnet["size"]) == ("apache-2.0", True, 224)


def test_the_same_weights_at_two_publishers_have_the_same_accuracy() -> None:
    """timm repackages the authors' files: what its cards say rounds to what the papers print, within 0.12 points."""
    compared = 0
    for entry, weights in PUBLISHED.items():
        tag = entry.rpartition(".")[2]
        if not (entry.startswith("timm:") and tag.startswith(("fb_", "fcmae_"))):
            continue
        twins = [
            w.top1
            for e, w in PUBLISHED.items()
            if e.startswith("official:") and (w.model, w.size, w.trained_on, w.classes)
            == (weights.model, weights.size, weights.trained_on, 1000)
        ]  # fmt: skip
        assert len(twins) == 1, entry
        assert weights.top1 == pytest.approx(twins[0], abs=0.12), entry
        compared += 1
    assert compared == 32


def test_commercial_leaves_out_what_forbids_it() -> None:
    """No V2 weights are left; V1 weights are."""
    entries = [row["entry"] for row in list_weights(commercial=True)]
    assert entries
    assert not any("convnextv2" in entry for entry in entries)
    with pytest.raises(UserError, match='no published weights match "convnextv2" for commercial use'):
        list_weights("convnextv2", commercial=True)
    with pytest.raises(WeightsError, match=r"is under CC-BY-NC-4.0, which forbids commercial use"):
        get_weights("timm:convnextv2_atto.fcmae_ft_in1k", commercial=True)
    with pytest.raises(WeightsError, match="no weights of convnextv2_atto allow commercial use"):
        get_weights("convnextv2_atto", commercial=True)


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [("Apache-2.0", True), ("MIT", True), ("BSD-3-Clause", True), ("CC-BY-NC-4.0", False), ("cc-by-nc-4.0", False),
     ("fair-noncommercial-research-license", False), ("not stated", False)],
)  # fmt: skip
def test_licences(licence: str, allowed: bool) -> None:
    """What is not known to allow commercial use does not."""
    assert allows_commerce(licence) is allowed


def test_cached_weights_are_found_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that lies where the message says is used without a network, and listed as being here."""
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path))
    entry = "official:convnext_iso_small_1k_224_ema"
    row = weights_row(entry)
    assert row["cached"] is None
    Path(row["file"]).parent.mkdir(parents=True)
    torch.save({"model": create_model("convnext_atto").state_dict()}, row["file"])
    with pytest.raises(WeightsError, match="holds convnext_atto, not convnext_isotropic_small; remove it"):
        get_weights("convnext_isotropic_small", say=lambda _: None)
    torch.save({"model": create_model("convnext_isotropic_small").state_dict()}, row["file"])
    said: list[str] = []
    assert get_weights("convnext_isotropic_small", say=said.append) == Path(row["file"])
    assert said == [f"{entry}: licence MIT"]
    assert weights_row(entry)["cached"] == row["file"]


def test_what_is_written_down_of_the_peers_is_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Default weights of the baselines, addresses of torchvision, torch.hub's folder: known without importing them."""
    for name, spec in BASELINES.items():
        config = timm_config(spec.model)
        hub = config.hf_hub_id or ""
        assert spec.pretrained == ((f"timm:{hub.removeprefix('timm/')}",) if hub else ()), name
    for name in TORCHVISION_FILES:
        url = torchvision.models.get_model_weights(name)["DEFAULT"].url
        assert locate(f"torchvision:{name}").url == url
    monkeypatch.delenv("TORCH_HOME", raising=False)
    for cache in ("", "/elsewhere"):
        monkeypatch.setenv("XDG_CACHE_HOME", cache) if cache else monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        assert _torch_hub() == Path(torch.hub.get_dir())


def test_a_file_with_another_checksum_is_not_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put there by hand: checked where the publisher gives a checksum; networks without weights have no address."""
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path))
    file = Path(weights_row("torchvision:convnext_tiny")["file"])
    file.parent.mkdir(parents=True)
    torch.save(create_model("convnext_tiny").state_dict(), file)
    with pytest.raises(WeightsError, match=r"its SHA-256 does not begin with 983f1562"):
        get_weights("torchvision:convnext_tiny", say=lambda _: None)
    with pytest.raises(WeightsError, match="no weights are published for timm:resnet200"):
        get_weights("timm:resnet200")
    for name in ("official:..", "official:.a", "timm:a.--b", "timm:a." + "a" * 91):
        with pytest.raises(WeightsError, match=r"must be of letters"):
            get_weights(name)
    with pytest.raises(WeightsError, match='Did you mean "convnext_tiny"'):
        get_weights("convnext_tinyy")


def test_any_network_of_timm_can_be_looked_up() -> None:
    """Also those that are in no table of the paper; what is nowhere is refused with what there is."""
    (row,) = list_all("timm:resnet34")
    assert (row.params, row.gmacs, row.weights) == (21_797_672, 3.66, ("timm:resnet34.a1_in1k",))
    with pytest.raises(UserError, match="`convnext roadmap` the steps of the road"):
        list_all("roadmap")


def test_every_entry_has_a_row() -> None:
    """All of them, with an address and a licence."""
    rows = list_weights()
    assert len(rows) == len(PUBLISHED)
    assert all(row["url"].startswith("https://") and row["licence"] for row in rows)
