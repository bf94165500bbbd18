"""Building and loading our kernels: once, checked, optional, and without a trace in the rest of the process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from convnext.kernels import native

HERE = pytest.mark.skipif(not native.available(), reason=f"no kernels here: {native.why_not()}")


@HERE
def test_loading_leaves_subnormal_numbers_alone() -> None:
    """A library linked with -ffast-math would flush them to zero in the whole process."""
    small = np.float32(1e-40)
    assert small * np.float32(0.5) > 0
    assert float(torch.tensor(1e-40) * 0.5) > 0


@HERE
def test_what_is_in_the_cache_is_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's name says what it is made of; another compiler is another library."""

    def refuse(*_: object) -> None:
        raise AssertionError("it was built again")

    monkeypatch.setattr(native, "_build", refuse)
    assert native.built()
    assert native._compiled().exists()
    assert native._target("another compiler") != native._compiled()


@HERE
def test_a_damaged_library_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading half a library ends the process; what was changed, or has no seal, is not loaded."""
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path))
    monkeypatch.setattr(native, "_state", {})
    target = native._target(native._compiler())
    built = []

    def build(compiler: str, library: Path) -> None:
        built.append(compiler)
        library.write_bytes(b"a library")
        library.with_suffix(".sha256").write_text(hashlib.sha256(b"a library").hexdigest())

    monkeypatch.setattr(native, "_build", build)
    assert not native.built()
    assert native._compiled() == target
    assert native.built()
    target.write_bytes(b"a lib")
    assert not native.built()
    native._compiled()
    target.with_suffix(".sha256").unlink()
    assert not native.built()
    assert len(built) == 2


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [("CONVNEXT_NATIVE", "0", "CONVNEXT_NATIVE is 0"), ("ATEN_CPU_CAPABILITY", "default", "torch runs with DEFAULT"),
     ("CXX", "/nowhere/c++", "cannot be built here")],
)  # fmt: skip
def test_without_kernels_everything_works(variable: str, value: str, words: str, tmp_path: Path) -> None:
    """Turned off, on an old processor, without a compiler: the reason is known, and a network still answers."""
    code = (
        "import torch; from convnext.kernels import native; from convnext.nn.create import create_model\n"
        "m = create_model('convnext_atto'); print(m(torch.zeros(1, 3, 32, 32)).shape); print(native.why_not())"
    )
    environment = {**os.environ, variable: value, "CONVNEXT_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "torch.Size([1, 1000])" in done.stdout
    assert words in done.stdout


@HERE
def test_kernels_that_compute_something_else_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check at load compares every operator with torch."""
    monkeypatch.setattr(native, "_state", {})
    monkeypatch.setattr(native, "_agrees", lambda: False)
    assert not native.available()
    assert "something else" in native.why_not()
    assert not native.matrix_units()


@HERE
def test_narrower_vectors_are_another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """ATEN_CPU_CAPABILITY=avx2 holds for our kernels as well."""
    here = native._flags()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    wide = native._target("g++")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert native._target("g++") != wide
    assert set(native._flags()) - set(here) <= {"-mno-avx512f"}
