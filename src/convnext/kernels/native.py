"""Our own kernels in C++, compiled on first use for this processor, kept in the cache, and never needed.

`available` is false, with the reason in `why_not`, where there is no compiler, no x86 processor with AVX2, or no MKL in
torch; then stock operators do the same work. `CONVNEXT_NATIVE=0` turns the kernels off. A library is a program: what is
built, kept and loaded belongs to this user, in a folder that nobody else may write; see `own_folder`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
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
from torch.nn import functional

from convnext.data.aside import aside
from convnext.kernels.own_folder import BUILDING, NotOurs, OwnFolder
from convnext.places import cache_dir

_FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros")
"""Not -ffast-math: a library that is linked with it turns subnormal numbers off in the whole process."""

_BUILD = ("-fopenmp", "-std=c++20", "-fPIC", "-shared")
_state: dict[str, str] = {}
_lock = threading.Lock()


def available(*, build: bool = True) -> bool:
    """Whether `torch.ops.convnext` has the kernels; the first call loads them, and compiles them first if it may."""
    with _lock:
        if "why" not in _state:
            if not build and not built():
                return False
            _state["why"] = _load()
    return not _state["why"]


def built() -> bool:
    """Whether the kernels are there without compiling: loaded, or in the cache."""
    if "why" in _state:
        return not _state["why"]
    compiler = _compiler()
    if not compiler or os.environ.get("CONVNEXT_NATIVE") == "0":
        return False
    target = _target(compiler)
    try:
        with OwnFolder(target.parent) as folder:
            return _sound(folder, target.name)
    except NotOurs as error:
        _say_refused(str(error.strerror))
    except OSError:  # nothing was ever built
        pass
    return False


def library() -> str:
    """The name of the kernels of this machine, which says what they are made of; "" without a compiler."""
    compiler = _compiler()
    return _name(compiler, _flags()) if compiler else ""


def matrix_units() -> bool:
    """Whether the processor has matrix units for bf16."""
    return available() and bool(torch.ops.convnext.matrix_units())


def dot_products() -> bool:
    """Whether the processor multiplies pairs of bf16 and adds the products up in one instruction."""
    return available() and bool(torch.ops.convnext.dot_products())


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
        library = _compiled()
        with torch._ops.dl_open_guard():  # the open file itself: a path could lead elsewhere by now
            ctypes.CDLL(f"/proc/self/fd/{library}")
    except NotOurs as error:
        _say_refused(str(error.strerror))
        return str(error.strerror)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return f"the kernels cannot be built here: {_first_line(error)}"
    return "" if _agrees() else "the kernels compute something else than torch on this machine"


@functools.cache
def _say_refused(reason: str) -> None:
    aside(f"our kernels are not used: {reason}. Stock operators do their work")


def _compiled() -> int:
    """The library for this source, torch, compiler and processor, open; built if it is not in the cache.

    It stays open as long as the process lives: another file must not get its number, by which it is known when loaded.
    """
    compiler = _compiler()
    if not compiler:
        raise FileNotFoundError("there is no C++ compiler (g++ or clang++)")
    target = _target(compiler)
    with OwnFolder(target.parent, make=True) as folder:
        if not _sound(folder, target.name):
            with folder.alone("build.lock", "builds our kernels"):  # of several processes one builds them
                if not _sound(folder, target.name):
                    aside("building our kernels for this processor (once, about a minute)")
                    folder.clean()
                    _build_or_say(compiler, folder, target.name)
        return folder.open(target.name)


def _build_or_say(compiler: str, folder: OwnFolder, name: str) -> None:
    try:
        _build(compiler, folder, name)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        aside(f"they cannot be built here ({_first_line(error)}): stock operators do their work")
        raise


def _compiler() -> str:
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++") or ""


def _target(compiler: str) -> Path:
    """Where the library for this source, torch, compiler and processor is kept."""
    return cache_dir() / "kernels" / _name(compiler, _flags())


@functools.cache
def _name(compiler: str, flags: tuple[str, ...]) -> str:
    key = "\n".join((*_sources().values(), torch.__version__, compiler, *flags, processor()))
    return f"kernels-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"


def _sources() -> dict[str, str]:
    folder = files("convnext.kernels").joinpath("csrc")
    found = (file for file in folder.iterdir() if file.name.endswith((".cpp", ".h")))
    return {file.name: file.read_text(encoding="utf-8") for file in sorted(found, key=lambda file: file.name)}


def _flags() -> tuple[str, ...]:
    """Those for this processor, with no wider vectors than torch itself uses (ATEN_CPU_CAPABILITY)."""
    narrow = ("-mno-avx512f",) if torch.backends.cpu.get_cpu_capability() == "AVX2" else ()
    return (*_FLAGS, *_BUILD, *narrow)


def _build(compiler: str, folder: OwnFolder, name: str) -> None:
    """Compiles beside the library's place and renames, so that two processes do not meet."""
    home = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory(prefix=BUILDING, dir=folder.place) as at:
        inside = Path(at)
        for file, text in _sources().items():
            (inside / file).write_text(text, encoding="utf-8")
        made = inside / "kernels.so"
        command = [
            compiler, *_flags(), f"-I{home / 'include'}", f"-I{home / 'include/torch/csrc/api/include'}",
            str(inside / "kernels.cpp"), "-o", str(made), f"-L{home / 'lib'}", "-ltorch_cpu", "-lc10", "-ltorch",
            "-DAT_PARALLEL_OPENMP=1", f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
        seal = inside / "seal"
        seal.write_text(hashlib.sha256(made.read_bytes()).hexdigest(), encoding="ascii")
        folder.put(seal, _seal_of(name))
        folder.put(made, name)


def _seal_of(name: str) -> str:
    return str(Path(name).with_suffix(".sha256"))


def _sound(folder: OwnFolder, name: str) -> bool:
    """Whether a library is there as it was built: loading half a one would end the process."""
    try:
        return hashlib.sha256(folder.read(name)).hexdigest() == folder.read(_seal_of(name)).decode("ascii")
    except (OSError, ValueError):
        return False


def processor() -> str:
    """What -march=native looks at."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return "\n".join(dict.fromkeys(line for line in lines if line.startswith(("model name", "flags"))))
    return platform.processor()


def _first_line(error: Exception) -> str:
    said = getattr(error, "stderr", None) or getattr(error, "strerror", None) or str(error)
    if "No space left on device" in said:
        return f"the disk of the cache ({cache_dir()}) or of temporary files ({tempfile.gettempdir()}) is full"
    return next((line for line in said.splitlines() if "error" in line), said.splitlines()[0] if said else "")[:200]


def _agrees() -> bool:
    """Every operator once, small, against torch."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 24, 9, 10, generator=generator).contiguous(memory_format=torch.channels_last)
    dw, w1, w2 = (torch.randn(shape, generator=generator) for shape in ((24, 1, 7, 7), (96, 24), (24, 96)))
    kernel, kernels = dw.flatten(1).t().contiguous(), torch.ops.convnext
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        y = functional.conv2d(x, dw, padding=3, groups=24)
        rows = functional.layer_norm(y.permute(0, 2, 3, 1), (24,), eps=1e-6)
        wanted = x + (functional.gelu(rows @ w1.t()) @ w2.t()).permute(0, 3, 1, 2)
        none1, none2 = torch.zeros(128), torch.zeros(64)
        packed = kernels.pack(w1, False, False), none1, kernels.pack(w2, False, True), none2
        pairs = [
            (kernels.depthwise(x, kernel, None, None), y),
            (kernels.mlp(y.contiguous(memory_format=torch.channels_last), x, w1, none1[:96], w2, none2[:24], None,
                         1e-6, True)[0], wanted),
            (kernels.block(x, kernel, none2[:24], *packed, 1e-6), wanted),
        ]  # fmt: skip
        half = kernels.pack_half(w1, False, False), none1, kernels.pack_half(w2, False, True), none2
        taps = kernels.pack_depthwise(kernel, none2[:24], False)[0], kernel, none2[:24]
        in_half = kernels.train_half(x, *taps, *half, None, 96, 1e-6, False)[0]
    off = float((in_half - wanted).norm() / wanted.norm())
    return off < 2e-2 and all(torch.allclose(found, expected, rtol=1e-3, atol=1e-3) for found, expected in pairs)
