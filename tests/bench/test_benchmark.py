"""The benchmark: who takes part, that all compute the same, and that the figures follow from the times."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from convnext.__main__ import main
from convnext.bench import benchmark, published
from convnext.bench.contestants import CODES, Case, Contestant, network, prepare, realistic, why_not
from convnext.bench.presets import chosen, named, native_precisions
from convnext.bench.tables import to_markdown
from convnext.errors import UserError
from convnext.nn.count import count
from convnext.nn.create import create_model

CPU = torch.device("cpu")
QUICK = Case("convnext_tiny", "infer", 1, 32, "fp32")
OURS, TIMM = Contestant("ours", "eager"), Contestant("timm", "eager")


@pytest.mark.parametrize("code", CODES)
def test_all_codes_compute_the_same(code: str) -> None:
    """The same weights in every code give the same logits, and none of the branches has vanished."""
    reference = prepare(OURS, QUICK, CPU)()
    answer = prepare(Contestant(code, "eager"), QUICK, CPU)()
    torch.testing.assert_close(answer, reference, rtol=1e-4, atol=1e-4)
    assert reference.std() > 0.1


def test_weights_are_those_of_a_trained_network() -> None:
    """Layer scale is not 1e-6, norms are not 1 and 0; matrices stay as they were."""
    model = create_model("convnext_atto")
    matrices = {n: p.clone() for n, p in model.named_parameters() if p.ndim > 1}
    realistic(model)
    gammas = torch.cat([p.flatten() for n, p in model.named_parameters() if n.endswith("gamma")])
    assert 0.2 < gammas.mean() < 0.4
    assert all(torch.equal(dict(model.named_parameters())[n], p) for n, p in matrices.items())


@pytest.mark.parametrize(
    ("code", "engine", "case", "reason"),
    [
        ("torchvision", "eager", Case("convnext_atto", "infer", 1, 32, "fp32"), "torchvision has no such model"),
        ("timm", "openvino", Case("convnext_atto", "train", 1, 32, "fp32"), "inference only"),
        ("transformers", "eager", Case("timm:resnet18", "infer", 1, 32, "fp32"), "a network of timm's"),
        ("transformers", "eager", Case("convnext_isotropic_small", "infer", 1, 32, "fp32"), "has no such model"),
        ("timm", "eager", Case("convnext_isotropic_small", "infer", 1, 32, "fp32"), "timm has no such model"),
        ("timm", "eager", Case("timm:resnet18", "infer", 1, 32, "fp32"), ""),
        ("ours", "eager", Case("timm:resnet18", "infer", 1, 32, "fp32"), ""),
    ],
)
def test_who_cannot_take_part_is_told_why(code: str, engine: str, case: Case, reason: str) -> None:
    """With a reason, instead of an error in the middle of a long run."""
    found = why_not(Contestant(code, engine), case)
    assert reason in found
    assert bool(found) == bool(reason)


def test_figures_follow_from_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock of our own: rate, percentile, share of the ceiling, and the ratio to the fastest peer."""
    times = {"ours": 0.1, "timm": 0.2, "torchvision": 0.4}
    works = {code: (lambda code=code: code) for code in times}
    monkeypatch.setattr(benchmark, "prepare", lambda contestant, case, device: works[contestant.code])
    monkeypatch.setattr(benchmark, "wrong_answers", lambda case, works: {})
    monkeypatch.setattr(benchmark, "seconds", lambda work, device: times[work()])
    monkeypatch.setattr(benchmark, "ceiling", lambda precision, device: 100.0)
    case = Case("convnext_tiny", "train", 2, 224, "fp32")
    report = benchmark.run([case], [Contestant(code, "eager") for code in times], 3, CPU, memory=False)
    ours, timm, _ = report.rows
    assert (ours.median, ours.p95, ours.rate) == pytest.approx((0.1, 0.1, 20.0))
    assert ours.share == pytest.approx(2 * 3 * count("convnext_tiny", 224).macs / 1e9 * 20 / 100)
    assert ours.fastest_share == pytest.approx(2.0)
    assert timm.fastest_share is None
    assert "| ours eager | 20.0 | 20.0 to 20.0 | 100.0 |" in to_markdown(report)


def test_a_wrong_network_wins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A side whose answer differs from the others' is left out, with its name; unless nobody knows who is right."""

    def wrong(contestant: Contestant, case: Case) -> torch.nn.Module:
        model = network(contestant, case)
        if contestant == TIMM:
            model.head.fc.weight.data.mul_(1.1)
        return model

    monkeypatch.setattr("convnext.bench.contestants.network", wrong)
    other = Contestant("transformers", "eager")
    report = benchmark.run([QUICK], [OURS, TIMM, other], 1, CPU, memory=False)
    assert [row.contestant for row in report.rows] == [OURS, other]
    assert "timm eager" in report.skipped[0]
    assert "its logits are off by" in report.skipped[0]
    with pytest.raises(AssertionError, match="logits differ from those of ours eager: timm eager by"):
        benchmark.run([QUICK], [OURS, TIMM], 1, CPU, memory=False)


def test_the_command_measures_writes_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A small case from end to end: inference and training, memory, three files."""
    words = "benchmark convnext_atto --task infer,train --batch 2 --size 32 --precision fp32 --rounds 2 --json --out"
    assert main([*words.split(), str(tmp_path / "b")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "b" / "benchmark.json").read_text())
    assert [(row["case"]["task"], row["contestant"]["code"]) for row in found["rows"]] == [
        *(("infer", code) for code in ("ours", "ours", "timm")), *(("train", code) for code in ("ours", "timm"))
    ]  # fmt: skip
    for row in found["rows"]:
        assert row["spread"][0] <= row["rate"] <= row["spread"][1]
        assert row["median"] <= row["p95"]
        assert row["peak"] > 50e6
        assert 0 < row["share"] < 1.5
    assert "convnext_atto, a training step" in (tmp_path / "b" / "benchmark.md").read_text()
    with Image.open(tmp_path / "b" / "benchmark.png") as picture:
        assert picture.width > 800


def test_what_fails_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that is too small, or a peer whose code fails: the others' figures stand, the reason beside them."""
    words = "benchmark convnext_atto --size 32,16 --batch 1 --precision fp32 --rounds 1 --no-memory --code ours --out"
    assert main([*words.split(), str(tmp_path / "b")]) == 0
    found = json.loads((tmp_path / "b" / "benchmark.json").read_text())
    assert {row["case"]["size"] for row in found["rows"]} == {32}
    assert [row["contestant"]["engine"] for row in found["rows"]] == ["eager", "optimized"]
    assert "16 px: the picture is 16x16 pixels" in found["skipped"][0]
    assert "- all sides: the picture is 16x16 pixels" in (tmp_path / "b" / "benchmark.md").read_text()

    def failing(contestant: Contestant, case: Case, device: torch.device) -> Callable[[], Any]:
        if contestant == TIMM:
            raise RuntimeError("no compiler\nmore")
        return prepare(contestant, case, device)

    monkeypatch.setattr(benchmark, "prepare", failing)
    report = benchmark.run([QUICK], [OURS, TIMM], 1, CPU, memory=False)
    assert [row.contestant for row in report.rows] == [OURS]
    assert report.skipped[0].endswith("RuntimeError: no compiler")
    with pytest.raises(UserError, match="RuntimeError: no compiler"):
        benchmark.run([QUICK], [TIMM], 1, CPU, memory=False)


def test_a_preset_takes_no_other_options(capsys: pytest.CaptureFixture[str]) -> None:
    """They would be ignored."""
    assert main(["benchmark", "--preset", "size", "--size", "64", "--engine", "compile"]) == 2
    assert "--preset size has its own --size, --engine" in capsys.readouterr().err


def test_the_papers_throughput_stands_beside_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row of Table 12 is a network of ours or timm's; published ratios are those of the printed figures."""
    cases, sides = named("paper", [], CPU)
    assert sides == [OURS]
    assert len(cases) == 14
    assert [(case.model, case.size) for case in cases[:2]] == [
        ("timm:swin_tiny_patch4_window7_224", 224), ("convnext_tiny", 224),
    ]  # fmt: skip
    times = {"convnext_tiny": 0.1, "timm:swin_tiny_patch4_window7_224": 0.25}
    monkeypatch.setattr(benchmark, "prepare", lambda contestant, case, device: lambda: None)
    monkeypatch.setattr(benchmark, "ceiling", lambda precision, device: 100.0)
    current: list[str] = []
    monkeypatch.setattr(benchmark, "say", lambda text: current.append(text.split()[1]))
    monkeypatch.setattr(benchmark, "seconds", lambda work, device: times[current[-1]])
    report = benchmark.run(cases[:2], sides, 1, CPU, memory=False)
    text = published.to_markdown(report)
    assert "| convnext_tiny, 224 | 40.0 | 1943.5 | 774.7 | 2.50 | 1.47 | 1.02 |" in text
    assert "| timm:swin_tiny_patch4_window7_224, 224 | 16.0 | 1325.6 | 757.9 |  |  |  |" in text


def test_tf32_is_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a processor it would be fp32 under another name."""
    case, gpu = Case("convnext_atto", "infer", 1, 32, "tf32"), torch.device("cuda")
    assert "NVIDIA" in why_not(OURS, case)
    assert why_not(OURS, case, gpu) == ""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    (first, *_), _ = named("paper", ["convnext_tiny"], gpu)
    assert (first.precision, first.batch) == ("tf32", 64)
    assert native_precisions(gpu) == ["fp32", "tf32", "bf16"]


def test_presets_and_options() -> None:
    """The readme's has both tasks and everyone; growth has one side; mistakes are answered."""
    cases, everyone = named("readme", ["convnext_tiny"], CPU)
    assert {(case.task, case.batch) for case in cases} == {("infer", 16), ("infer", 1), ("train", 16)}
    assert {case.precision for case in cases} == set(native_precisions(CPU))
    assert {c.code for c in everyone} == set(CODES)
    assert [case.size for case in named("size", ["convnext_tiny"], CPU)[0]][-1] == 1024
    options = {
        "tasks": "infer",
        "batches": "1",
        "sizes": "32",
        "precisions": "fp32",
        "codes": "ours",
        "engines": "eager",
    }
    for key, value, message in [
        ("tasks", "learn", 'task "learn" is not known'), ("batches", "0", 'batch "0"'), ("sizes", "a", 'size "a"'),
        ("codes", "", 'code "" is not known'), ("engines", "tvm", 'engine "tvm"'),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=message):
            chosen(["convnext_tiny"], **(options | {key: value}), device=CPU)
    with pytest.raises(UserError, match='preset "all" is not known'):
        named("all", ["convnext_tiny"], CPU)


def test_the_peak_is_that_of_a_process_of_its_own() -> None:
    """However much the process that asks holds itself, which the system would count in."""
    held = torch.ones(400_000_000)  # 1.6 GB
    assert 100e6 < benchmark.peak_memory(OURS, QUICK, CPU) < 4 * held.numel()


def test_mistakes_are_found_before_anything_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be made, and a case in which nobody can take part, with the reasons."""
    monkeypatch.setattr(benchmark, "_measure", lambda *_: pytest.fail("it measured"))
    (tmp_path / "file").write_text("")
    words = ["benchmark", "convnext_atto", "--size", "32", "--no-memory"]
    assert main([*words, "--out", str(tmp_path / "file" / "b")]) == 2
    assert main([*words, "--code", "torchvision"]) == 2  # it has no atto
    with pytest.raises(UserError, match=r"nobody can take part: torchvision eager.*torchvision has no such model"):
        benchmark.run([Case("convnext_atto", "infer", 1, 32, "fp32")], [Contestant("torchvision", "eager")], 1, CPU)
