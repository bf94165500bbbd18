"""What the program gives does not change unless somebody means it to: recorded runs, and files of older versions.

To record anew, after a change that is meant to change results:
`python tests/golden/record.py tests/golden/golden.json --real DATA`.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import convnext
from convnext.__main__ import main

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from record import SOURCE, differences, machine, record, record_all  # noqa: E402
from scenarios import SCENARIOS, folders, several  # noqa: E402

GOLDEN = json.loads((HERE / "golden.json").read_text(encoding="utf-8"))
"""Recorded at the version before the house was rebuilt."""
EXACT = GOLDEN["machine"] == machine()
"""Bits follow the processor and torch's version; elsewhere what is not their business is compared."""
QUICK = ("folders", "several")
MADE = [scenario.name for scenario in SCENARIOS if not scenario.real]


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in MADE]
)
def test_a_run_gives_what_it_gave(name: str, tmp_path: Path) -> None:
    """Weights, log, result and predictions of a recorded run, bit for bit on the machine that recorded it."""
    scenario = next(s for s in SCENARIOS if s.name == name)
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "cache" / "kernels").symlink_to(_kernels(), target_is_directory=True)
    new = record(scenario, tmp_path / name, Path(), SOURCE, tmp_path / "cache")
    assert differences(GOLDEN["runs"][name], json.loads(json.dumps(new)), exact=EXACT) == []


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [scenario.name for scenario in SCENARIOS if scenario.real])
def test_a_run_on_real_data_gives_what_it_gave(name: str, tmp_path: Path, shared_data: Path) -> None:
    """The same on the flowers and the solar cells: folders, tables, several labels, shards, two processes, resume."""
    pytest.importorskip("elpv_dataset")
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "cache" / "kernels").symlink_to(_kernels(), target_is_directory=True)
    new = json.loads(json.dumps(record_all([name], tmp_path, shared_data, SOURCE)))
    assert differences({name: GOLDEN["runs"][name]}, new, exact=EXACT) == []


def _kernels() -> Path:
    from convnext.places import cache_dir

    folder = cache_dir() / "kernels"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def old_run(name: str, work: Path) -> Path:
    """The run folder of an older version, its model file as it was written then, but with other weights.

    The weights are drawn anew: 13 MB of them would teach nothing.
    """
    run = work / "run"
    shutil.copytree(HERE / "old" / name, run)
    for file in run.iterdir():
        file.write_text(file.read_text(encoding="utf-8").replace("WORK", str(work)), encoding="utf-8")
    described = json.loads((run / "model.json").read_text(encoding="utf-8"))
    draw = torch.Generator().manual_seed(3)
    tensors = {key: 0.05 * torch.randn(shape, generator=draw) for key, (_, shape) in described["tensors"].items()}
    for file in ("best.safetensors", "last.safetensors"):
        save_file(tensors, run / file, described["metadata"])
    return run


@pytest.mark.parametrize("name", ["folders", "several"])
def test_a_run_of_an_older_version_is_still_a_run(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is judged on the pictures that it had, answers, and its report is drawn; its settings are what they were."""
    data = {"folders": folders, "several": several}[name](tmp_path, Path())
    run = old_run(name, tmp_path)
    before = json.loads((run / "data.json").read_text(encoding="utf-8"))
    assert main(["evaluate", str(run), "--split", "test", "--json"]) == 0
    judged = json.loads(capsys.readouterr().out)
    assert judged["n"] == before["pictures"]["test"]
    assert [row["name"] for row in judged["per_class"]] == before["classes"]
    model = convnext.load(run)
    assert list(model.classes) == before["classes"]
    with (run / "predictions.csv").open(newline="", encoding="utf-8") as lines:
        files = [(data if data.is_dir() else data.parent) / row["path"] for row in csv.DictReader(lines)]
    assert len(files) == before["pictures"]["test"]
    with torch.inference_mode():
        outputs = model.network(torch.stack([model.preprocessing(file) for file in files]))
    expected = outputs.sigmoid() if before["multi_label"] else outputs.softmax(-1)
    for answer, values in zip(model.predict(files, top=len(model.classes)), expected, strict=True):
        assert dict(answer.top) == pytest.approx(dict(zip(model.classes, values.tolist(), strict=True)), abs=1e-5)
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").stat().st_size > 20_000
