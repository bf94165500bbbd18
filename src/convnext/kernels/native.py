"""Our own kernels in C++, compiled on first use for this processor, kept in the cache, and never needed.

`available` is false, with the reason in `why_not`, where there is no compiler, no x86 processor with AVX2, or no MKL in
torch; then stock operators do the same work. `CONVNEXT_NATIVE=0` turns the kernels off.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from importlib.resources import files
from pathlib import Path

import torch

_FLAGS = ("-O3", "-march=native", "-ffast-math", "-fno-finite-math-only", "-fopenmp", "-std=c++20", "-fPIC", "-shared")
_state: dict[str, str] = {}
_lock = threading.Lock()


def available() -> bool:
    """Whether `torch.ops.convnext` has the kernels; the first call compiles or loads them."""
    with _lock:
        if "why" not in _state:
            _state["why"] = _load()
    return not _state["why"]


def why_not() -> str:
    """Why they are not available, or ""."""
    available()
    return _state["why"]


def _load() -> str:
    """Loads the kernels; the reason why not, or ""."""
    if os.environ.get("CONVNEXT_NATIVE") == "0":
        return "CONVNEXT_NATIVE is 0"
    if platform.machine() not in ("x86_64", "AMD64") or sys.platform != "linux":
        return "the kernels are for Linux on x86"
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return f"torch runs with {torch.backends.cpu.get_cpu_capability()} only"
    if not torch.backends.mkl.is_available():
        return "torch was built without MKL"
    try:
        torch.ops.load_library(_compiled())
    except (OSError, subprocess.SubprocessError) as error:
        return f"the kernels cannot be built here: {_first_line(error)}"
    return "" if _agrees() else "the kernels compute something else than torch on this machine"


def _compiled() -> Path:
    """The library for this source, torch, compiler and processor; built if it is not in the cache."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        raise FileNotFoundError("there is no C++ compiler (g++ or clang++)")
    source = files("convnext.kernels").joinpath("csrc/block.cpp").read_text(encoding="utf-8")
    key = "\n".join((source, torch.__version__, compiler, *_FLAGS, _processor()))
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "convnext" / "kernels"
    target = folder / f"block-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        print("building our kernels for this processor (once, about half a minute)", file=sys.stderr)
        _build(compiler, source, target)
    return target


def _build(compiler: str, source: str, target: Path) -> None:
    """Compiles beside the target and renames, so that two processes do not meet."""
    home = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        file, made = Path(folder) / "block.cpp", Path(folder) / "block.so"
        file.write_text(source, encoding="utf-8")
        command = [
            compiler, *_FLAGS, f"-I{home / 'include'}", f"-I{home / 'include/torch/csrc/api/include'}", str(file),
            "-o", str(made), f"-L{home / 'lib'}", "-ltorch_cpu", "-lc10", "-ltorch", "-DAT_PARALLEL_OPENMP=1",
            f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
        made.replace(target)


def _processor() -> str:
    """What -march=native looks at."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return "\n".join(dict.fromkeys(line for line in lines if line.startswith(("model name", "flags"))))
    return platform.processor()


def _first_line(error: Exception) -> str:
    said = getattr(error, "stderr", None) or str(error)
    return next((line for line in said.splitlines() if "error" in line), said.splitlines()[0] if said else "")[:200]


def _agrees() -> bool:
    """One small forward and backward pass against torch."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 24, 9, 10, generator=generator).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(24, 1, 7, 7, generator=generator)
    with torch.inference_mode():
        found = torch.ops.convnext.dwconv(x, weight.flatten(1).t().contiguous(), None, None)
        expected = torch.nn.functional.conv2d(x, weight, padding=3, groups=24)
        rows = torch.randn(2, 24, 3, 3, generator=generator).contiguous(memory_format=torch.channels_last)
        w1, w2 = torch.randn(96, 24, generator=generator), torch.randn(24, 96, generator=generator)
        out, _, _ = torch.ops.convnext.mlp(rows, rows, w1, torch.zeros(96), w2, torch.zeros(24), None, 1e-6, True)
        normed = torch.nn.functional.layer_norm(rows.permute(0, 2, 3, 1), (24,), eps=1e-6)
        wanted = rows + (torch.nn.functional.gelu(normed @ w1.t()) @ w2.t()).permute(0, 3, 1, 2)
    return torch.allclose(found, expected, rtol=1e-3, atol=1e-3) and torch.allclose(out, wanted, rtol=1e-3, atol=1e-3)
