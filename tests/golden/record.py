"""Records what runs give, to the last bit, so that a change of the code that should change nothing can be shown to.

    python tests/golden/record.py NEW.json [--source OTHER/src] [--real DATA] [--keep FOLDER] [NAME ...]
    python tests/golden/record.py --compare OLD.json NEW.json

Weights follow the processor and torch's version to the last bit, so a record is compared with one of the same machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from scenarios import FIXED, SCENARIOS, Scenario

SOURCE = Path(__file__).resolve().parents[2] / "src"
SPACE = '["train.lr"]\nlow = 1e-4\nhigh = 1e-2\nlog = true\n["augment.mixup"]\nchoices = [0.0, 0.2]\n'
CLOCKS = {"seconds", "epoch_seconds", "images_per_second", "data_wait", "time", "threads", "others", "budget",
          "train_seconds"}  # fmt: skip
"""Keys of what a clock or a load says."""


def machine() -> dict[str, str]:
    """What bits follow."""
    capability = torch.backends.cpu.get_cpu_capability()
    mkldnn = hashlib.sha256(json.dumps(sorted(cpu_flags())).encode()).hexdigest()[:12]
    return {"torch": torch.__version__, "capability": capability, "flags": mkldnn, "machine": platform.machine()}


def cpu_flags() -> list[str]:
    """The processor's flags as Linux gives them; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
    return next((line.split(":")[1].split() for line in lines if line.startswith("flags")), [])


def record(scenario: Scenario, work: Path, real: Path, source: Path, cache: Path) -> dict[str, Any]:
    """Runs a scenario in the empty folder `work` and gives what came out."""
    work.mkdir(parents=True)
    (work / "space.toml").write_text(SPACE, encoding="utf-8")
    data = scenario.data(work, real)
    settings = [*FIXED, *scenario.settings]
    for words in scenario.commands:
        filled = []
        for word in words:
            filled += settings if word == "{settings}" else [word.format(data=data, run=work / "run", work=work)]
        call(filled, source, cache)
    found = {name: read_run(work / name, work, source, cache) for name in scenario.runs}
    return json.loads(json.dumps(found).replace(str(real), "REAL")) if scenario.real else found


def call(words: list[str], source: Path, cache: Path) -> str:
    """Standard output of `convnext WORDS` in a process of one thread."""
    env = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "CONVNEXT_CACHE": str(cache)}
    done = subprocess.run([sys.executable, "-m", "convnext", *words], env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"convnext {' '.join(words)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def read_run(run: Path, work: Path, source: Path, cache: Path) -> dict[str, Any]:
    """Weights as hashes; result, log and predictions as they are, without what a clock says; a study's trials."""
    found: dict[str, Any] = {}
    for file in sorted(run.rglob("*.safetensors")):
        found[file.relative_to(run).as_posix()] = tensors(file)
    if (run / "tune.json").exists():
        trials = json.loads((run / "tune.json").read_text(encoding="utf-8"))["trials"]
        keys = ("number", "params", "value", "state")
        return found | {"trials": [{key: trial.get(key) for key in keys} for trial in trials]}
    found["result"] = without_clocks(json.loads((run / "result.json").read_text(encoding="utf-8")), work)
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    found["log"] = [without_clocks(json.loads(line), work) for line in lines]
    named = (run / "predictions.csv").read_text(encoding="utf-8").replace(str(work), "WORK")
    found["predictions"] = hashlib.sha256(named.encode()).hexdigest()
    data = json.loads((run / "data.json").read_text(encoding="utf-8"))
    found["data"] = {key: data[key] for key in ("classes", "multi_label", "counts", "majority", "fingerprint")}
    pictures = sorted(work.rglob("*.png"))[:7] or sorted(work.rglob("*.jpg"))[:7]
    if pictures:
        said = call(["predict", str(run), *map(str, pictures), "--json"], source, cache)
        found["predict"] = hashlib.sha256(said.replace(str(work), "WORK").encode()).hexdigest()
    return found


def tensors(file: Path) -> str:
    """A hash of all tensors of a file: names, kinds, shapes and bits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(file).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def without_clocks(value: Any, work: Path) -> Any:
    """The same value without what a clock says, and without the folder's place."""
    if isinstance(value, dict):
        return {key: without_clocks(item, work) for key, item in value.items() if key not in CLOCKS}
    if isinstance(value, list):
        return [without_clocks(item, work) for item in value]
    return value.replace(str(work), "WORK") if isinstance(value, str) else value


def differences(old: Any, new: Any, where: str = "", *, exact: bool = True) -> list[str]:
    """Where two records differ. A key that is only in the new one is no difference: records grow.

    Without `exact`, as between processors, only what the data are, how many and the losses are compared, these to 1 %.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        lost = [f"{where}/{key} is gone" for key in old if key not in new]
        return lost + [
            d for key in old if key in new for d in differences(old[key], new[key], f"{where}/{key}", exact=exact)
        ]
    if isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            return [f"{where}: {len(old)} items, now {len(new)}"]
        return [
            d
            for i, (a, b) in enumerate(zip(old, new, strict=True))
            for d in differences(a, b, f"{where}[{i}]", exact=exact)
        ]
    if exact or "/data/" in where or where.endswith(("/n", "/params")):
        return [] if old == new else [f"{where}: {old!r}, now {new!r}"]
    far = where.endswith("loss") and abs(old - new) > 0.01 * abs(old)
    return [f"{where}: {old!r}, now {new!r}"] if far else []


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="the file to write, then names; or with --compare two records")
    parser.add_argument("--source", type=Path, default=SOURCE)
    parser.add_argument("--real", type=Path, help="the folder of real data sets: the real scenarios too")
    parser.add_argument("--keep", type=Path, help="leave the runs in this folder")
    parser.add_argument("--compare", action="store_true")
    given = parser.parse_args()
    if given.compare:
        old, new = (json.loads(Path(word).read_text(encoding="utf-8")) for word in given.words)
        found = differences(old, new)
        print("\n".join(found) or f"the same, bit for bit: {', '.join(old['runs'])}")
        sys.exit(bool(found))
    with tempfile.TemporaryDirectory() as temporary:
        kept = given.keep or Path(temporary)
        runs = record_all(given.words[1:], kept, given.real, given.source.resolve())
    text = json.dumps({"machine": machine(), "runs": runs}, indent=1, ensure_ascii=False)
    Path(given.words[0]).write_text(text + "\n", encoding="utf-8")


def record_all(names: list[str], kept: Path, real: Path | None, source: Path) -> dict[str, Any]:
    """The record of the scenarios named, or of all that the data allow."""
    runs = {}
    if real is not None and not (kept / "elpv-sample").exists():
        call(["sample", "elpv", str(kept / "elpv-sample")], source, kept / "cache")
    for scenario in SCENARIOS:
        if (names and scenario.name not in names) or (scenario.real and real is None):
            continue
        runs[scenario.name] = record(scenario, kept / scenario.name, real or Path(), source, kept / "cache")
        print(scenario.name, flush=True)
    return runs


if __name__ == "__main__":
    main()
