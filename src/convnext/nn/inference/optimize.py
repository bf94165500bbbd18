"""`convnext.optimize`: the same network, faster, for inference on a processor."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import time
from pathlib import Path

import torch
from torch import Tensor

from convnext.errors import UserError
from convnext.files import read_own, write_whole
from convnext.kernels import native
from convnext.nn.inference.folded import can_fold, fold
from convnext.nn.inference.inference import DTYPES, Inference
from convnext.nn.network import Network
from convnext.places import cache_dir

ENGINES = ("native", "layers", "eager")
"""Our own kernels; stock operators on folded weights; the network as it is."""

_ALSO = {
    "float32": "fp32", "float": "fp32", "bfloat16": "bf16", "torch.float32": "fp32", "torch.bfloat16": "bf16",
}  # fmt: skip

TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2}
"""How far the logits may be from those of the network itself in fp32, as a share of the largest one."""

MANY = 64
"""Pictures of a batch in a long job."""

ROUNDS = 5
MARGIN = 0.95
"""An engine is taken before one that stands earlier in `ENGINES` if it needs at most this share of its time."""


def optimize(
    model: Network,
    *,
    dtype: str | torch.dtype = "fp32",
    engine: str = "auto",
    size: int | None = None,
    batch: int = 8,
    build: bool = True,
    measure: bool = True,
) -> Network:
    """A network for inference that gives the same answers faster. The one that is given stays as it is, and may change.

    Norms and layer scale are folded into the linear layers, stochastic depth is removed, and of the engines that can
    run the network the quickest is taken. It is measured once on this machine for this network, size and batch, and
    remembered in the cache. The result is compared with the network on the spot: an engine whose logits are further off
    than `TOLERANCE` is not used. What was chosen stands in the attribute `engine` of the result.

    Networks other than ConvNeXt (and ConvNeXt V2, whose response normalisation stands between the products) run as they
    are. The result takes fp32 pictures and gives fp32 logits; it cannot be trained, and is made anew from a saved
    network rather than saved itself. One that was optimised already comes back as it is.

    Args:
        model: on the processor, in fp32.
        dtype: "fp32" or "bf16" (torch.float32, torch.bfloat16), what weights and maps are kept in.
        engine: "auto", or one of `ENGINES`.
        size: side of the pictures that it is made for, pixels; by default the network's only one, that of its
            preprocessing, or 224. Others work too.
        batch: pictures at once that it is made for.
        build: compile our kernels if they are not in the cache (once on a machine, about a minute).
        measure: measure which engine is the quickest; else the first of `ENGINES` that can run the network is taken.

    Raises:
        UserError: this is no network of ours, or its answers are no numbers; the dtype, engine, size or batch cannot
            be; or the named engine cannot run this network here.

    Examples:
        >>> import torch, convnext
        >>> network = convnext.create_model("convnext_atto", num_classes=2).eval()
        >>> fast = convnext.optimize(network, engine="layers", size=64)
        >>> x = torch.randn(1, 3, 64, 64)
        >>> torch.allclose(fast(x), network(x), atol=1e-4)
        True
    """
    model = getattr(model, "network", model)  # what `convnext.load` gives
    word = _ALSO.get(str(dtype), str(dtype))
    _refuse_words(model, word, engine, batch)
    if isinstance(model, Inference):
        if model.dtype != word or engine not in ("auto", model.engine):
            raise UserError(f"this network was optimised already ({model.engine}, {model.dtype}); give the original")
        return model
    if any(p.device.type != "cpu" or p.dtype != torch.float32 for p in model.parameters()):
        raise UserError("only a network in fp32 on the cpu can be optimised; use model.float().cpu()")
    side = _side(model, size)
    own = copy.deepcopy(model).eval().requires_grad_(False)  # nobody can change it, nor see what is done to it
    reasons = {name: why_not(name, own, word, build=build) for name in ENGINES}
    if engine != "auto":
        if reasons[engine]:
            raise UserError(f'engine "{engine}" cannot run this network here: {reasons[engine]}')
        return _checked(own, engine, word, side)
    able = [name for name in ENGINES if not reasons[name]]
    return _checked(own, _quickest(own, able, word, side, batch) if measure else able[0], word, side)


def _refuse_words(model: Network, dtype: str, engine: str, batch: int) -> None:
    if not isinstance(model, Network):
        inside = " as it was before torch.compile" if hasattr(model, "_orig_mod") else ""
        raise UserError(
            f"optimize takes a network that create_model or load gave{inside}, not a {type(model).__name__}"
        )
    if dtype not in DTYPES:
        raise UserError(f'dtype "{dtype}" is not known; it must be one of {", ".join(DTYPES)}')
    if engine not in ("auto", *ENGINES):
        raise UserError(f'engine "{engine}" is not known; it must be auto or one of {", ".join(ENGINES)}')
    if not isinstance(batch, int) or batch < 1:
        raise UserError(f"batch = {batch}: it must be a whole number from 1 on")


def _side(model: Network, size: int | None) -> int:
    """The side of the pictures that a network is made for."""
    only = getattr(model, "fixed_size", None)
    side = size if size is not None else only or (model.preprocessing.size if model.preprocessing else 224)
    least = model.strides[-1]
    if not isinstance(side, int) or side < least or (only and side != only):
        other = f"a whole number from {least} on, the side of square pictures; others may be shown to it all the same"
        rule = f"{only}, the network's only size" if only else other
        raise UserError(f"size = {side}: it must be {rule}")
    return side


def for_pictures(model: Network, count: int, size: int) -> Network:
    """The network as it is best run on so many pictures in fp32: what takes longer than it saves is left out."""
    return optimize(model, size=size, batch=min(count, MANY), build=count >= 4 * MANY, measure=count >= 8 * MANY)


def why_not(engine: str, model: Network, dtype: str, *, build: bool = True) -> str:
    """Why an engine cannot run a network on this machine, or ""."""
    if engine == "eager":
        return ""
    if not can_fold(model):
        return "it is not a plain ConvNeXt"
    if engine == "layers":
        return ""
    if any(channels % 8 for channels in model.channels):
        return f"its channels {model.channels} are not multiples of 8"
    if not build and not native.built():
        return "our kernels have not been built yet"
    reason = native.why_not()
    if not reason and dtype == "bf16" and not (native.matrix_units() or native.dot_products()):
        return "this processor has neither matrix units nor dot products for bf16"
    return reason


def _made(model: Network, engine: str, dtype: str) -> Network:
    net: Network
    if engine == "eager":
        net = copy.deepcopy(model).to(DTYPES[dtype], memory_format=torch.channels_last)  # type: ignore[call-overload]
    else:
        net = fold(model, native=engine == "native", dtype=DTYPES[dtype])  # type: ignore[arg-type]
    return Inference(net, engine, dtype)


def _checked(model: Network, engine: str, dtype: str, side: int) -> Network:
    """The network by this engine, or by the next one that gives the same answers."""
    wanted = _answers(model, side)
    if not wanted.isfinite().all():
        raise UserError("this network's answers are no numbers (NaN or infinite); its weights are damaged")
    for name in (engine, *(e for e in ENGINES if e != engine)):
        if why_not(name, model, dtype, build=False) and name != engine:
            continue
        made = _made(model, name, dtype)
        off = float((_answers(made, side) - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))
        if off <= TOLERANCE[dtype]:
            return made
    raise UserError(f"in {dtype} this network's answers are too far from those in fp32; use dtype='fp32'")


def _pictures(model: Network, side: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, model.in_chans, side, side, generator=generator)
    return x.contiguous(memory_format=torch.channels_last)


def _answers(model: Network, side: int) -> Tensor:
    with torch.inference_mode():
        out: Tensor = model(_pictures(model, side, 2))
        return out


def _quickest(model: Network, able: list[str], dtype: str, side: int, batch: int) -> str:
    """The engine that was quickest here before, or that is now."""
    if len(able) == 1:
        return able[0]
    key = _key(model, able, dtype, side, batch)
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, RuntimeError):
        file = cache_dir() / "engines.json"  # RuntimeError: there is no home folder
        known = json.loads(read_own(file)).get(key)
        if known in able:
            return str(known)
    times = _times(model, able, dtype, side, batch)
    found = able[0]
    for name in able[1:]:
        found = name if times[name] < MARGIN * times[found] else found
    with contextlib.suppress(OSError, RuntimeError):
        _remember(cache_dir() / "engines.json", key, found)
    return found


def _times(model: Network, able: list[str], dtype: str, side: int, batch: int) -> dict[str, float]:
    """Seconds that each engine takes for a batch: the best of some rounds, in turn."""
    x = _pictures(model, side, batch)
    made = {name: _made(model, name, dtype) for name in able}
    times = dict.fromkeys(able, float("inf"))
    with torch.inference_mode():
        for _ in range(ROUNDS + 1):
            for name, candidate in made.items():
                start = time.perf_counter()
                candidate(x)
                times[name] = min(times[name], time.perf_counter() - start)
    return times


def _key(model: Network, able: list[str], dtype: str, side: int, batch: int) -> str:
    shapes = [tuple(p.shape) for p in model.parameters()]
    facts = (type(model).__name__, shapes, able, dtype, side, batch, torch.get_num_threads(), torch.__version__)
    return hashlib.sha256(repr((*facts, native.processor())).encode()).hexdigest()[:24]


def _remember(path: Path, key: str, engine: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    known: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        known = dict(json.loads(read_own(path)))
    write_whole(path, json.dumps({**known, key: engine}, indent=1).encode())
