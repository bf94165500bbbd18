"""Who takes part in a benchmark: ours, the peers' own code and the paper's baselines, each by one of several engines.

All codes get the same weights, as large as training leaves them: layer scale far from its initial 1e-6, norms that are
not 1 and 0. A network whose branches vanish looks faster than it is.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnext.errors import UserError
from convnext.nn.create import create_model
from convnext.nn.inference.optimize import optimize
from convnext.nn.network import Network
from convnext.nn.tables.baseline_specs import TIMM
from convnext.nn.tables.variants import MODELS, get_spec
from convnext.nn.weights.formats import from_native

CODES = ("ours", "timm", "torchvision", "transformers")
ENGINES = ("eager", "optimized", "checkpointing", "compile", "onnxruntime", "openvino")
OURS_ONLY = ("optimized", "checkpointing")
PRECISIONS = ("fp32", "tf32", "bf16")
TASKS = ("infer", "train")


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        model: a name of our table, or "timm:NAME".
        task: "infer" for a forward pass without gradients, "train" for a whole step with AdamW.
        batch: pictures at once.
        size: side of the pictures, pixels.
        precision: "fp32"; "tf32" the same with products of fewer bits, on NVIDIA's GPUs; "bf16" casts the network for
            inference, and is autocast in training.
    """

    model: str
    task: str
    batch: int
    size: int
    precision: str


@dataclass(frozen=True)
class Contestant:
    """One side of a comparison: whose code, run by which engine."""

    code: str
    engine: str

    @property
    def name(self) -> str:
        """As tables show it."""
        return f"{self.code} {self.engine}"


def why_not(contestant: Contestant, case: Case, device: torch.device | None = None) -> str:
    """Why a contestant cannot take part in a case (on a device, else on the processor), or ""."""
    own = case.model in MODELS
    if case.precision == "tf32" and (device is None or device.type != "cuda"):
        return "tf32 is for NVIDIA's GPUs"
    if contestant.engine == "optimized" and (contestant.code != "ours" or case.task == "train"):
        return "ours only" if contestant.code != "ours" else "inference only"
    if contestant.engine == "checkpointing" and (contestant.code != "ours" or case.task == "infer"):
        return "ours only" if contestant.code != "ours" else "training only"
    if contestant.engine in ("onnxruntime", "openvino"):
        if case.task == "train":
            return "inference only"
        if find_spec(contestant.engine) is None or (
            contestant.engine == "onnxruntime" and find_spec("onnxscript") is None
        ):
            return "not installed (pip install '.[deploy]')"
        if contestant.engine == "onnxruntime" and case.precision != "fp32":
            return "fp32 only on a processor"
    if contestant.code == "timm":
        import timm

        known = timm.is_model(case.model.removeprefix(TIMM))
        return "" if known else "timm has no such model"
    if not own:
        return "a network of timm's" if contestant.code != "ours" else ""
    if contestant.code == "torchvision" and case.model not in {
        f"convnext_{s}" for s in ("tiny", "small", "base", "large")
    }:
        return "torchvision has no such model"
    if contestant.code == "transformers" and (find_spec("transformers") is None or "isotropic" in case.model):
        return "not installed" if find_spec("transformers") is None else "transformers has no such model"
    return ""


def realistic(model: nn.Module, seed: int = 0) -> None:
    """Draws norms, biases and layer scale anew, as large as training leaves them; in place."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and not name.endswith(("gamma", "layer_scale", "layer_scale_parameter")):
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        scale = name.endswith("weight") or "gamma" in name or "layer_scale" in name
        parameter.data.copy_(0.3 + 0.1 * noise if scale else 0.1 * noise)


def network(contestant: Contestant, case: Case) -> nn.Module:
    """The network of a contestant, with the weights that all have."""
    torch.manual_seed(0)
    if case.model not in MODELS:
        return _baseline(contestant, case)
    ours = create_model(case.model)
    realistic(ours)
    if contestant.code == "ours":
        return ours
    spec = get_spec(case.model)
    theirs: nn.Module
    if contestant.code == "timm":
        import timm

        theirs = timm.create_model(case.model)
    elif contestant.code == "torchvision":
        import torchvision

        theirs = torchvision.models.get_model(case.model, weights=None)
        for module in theirs.modules():  # the same stochastic depth for all: none
            if isinstance(module, torchvision.ops.StochasticDepth):
                module.p = 0.0
    elif contestant.code == "transformers":
        theirs = _Logits(_transformers(spec.depths, spec.dims, grn=spec.grn))
    else:
        raise UserError(f'code "{contestant.code}" is not known; it must be one of {", ".join(CODES)}')
    inner = theirs.model if isinstance(theirs, _Logits) else theirs
    inner.load_state_dict(from_native(ours.state_dict(), contestant.code))
    return theirs


def _baseline(contestant: Contestant, case: Case) -> nn.Module:
    """A network that is no ConvNeXt: timm's own, or the same behind our contract."""
    import timm

    from convnext.nn.others.baselines import fixed_size

    name = case.model.removeprefix(TIMM)
    model: nn.Module
    if contestant.code == "ours":
        model = create_model(case.model, size=case.size)
    elif fixed_size(name) is not None:
        model = timm.create_model(name, img_size=case.size)
    else:
        model = timm.create_model(name)
    realistic(model)
    return model


def _transformers(depths: tuple[int, ...], dims: tuple[int, ...], *, grn: bool) -> nn.Module:
    import transformers

    kind = "ConvNextV2" if grn else "ConvNext"
    config = getattr(transformers, f"{kind}Config")(
        depths=list(depths), hidden_sizes=list(dims), num_labels=1000, layer_norm_eps=1e-6
    )
    model: nn.Module = getattr(transformers, f"{kind}ForImageClassification")(config)
    return model


class _Logits(nn.Module):
    """A network of transformers, whose answer is a record, as one that gives logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x).logits
        return out


def prepare(contestant: Contestant, case: Case, device: torch.device) -> Callable[[], Any]:
    """The work of a contestant on one batch, to be called again and again; what a call gives is its logits, or nothing.

    Raises:
        UserError: it cannot take part.
    """
    reason = why_not(contestant, case, device)
    if reason:
        raise UserError(f"{contestant.name} with {case.model}: {reason}")
    if device.type == "cuda":  # the same for all sides of a case
        torch.set_float32_matmul_precision("highest" if case.precision == "fp32" else "high")
        torch.backends.cudnn.allow_tf32 = case.precision != "fp32"
    model: nn.Module = network(contestant, case)
    if contestant.engine == "optimized" and device.type == "cpu":
        model = optimize(cast("Network", model), dtype=case.precision, size=case.size, batch=case.batch)
    else:
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(case.batch, 3, case.size, case.size, generator=torch.Generator().manual_seed(1)).to(device)
    x = x.contiguous(memory_format=torch.channels_last)
    if case.task == "train":
        if contestant.engine == "checkpointing":
            cast("Network", model).checkpointing = True
        return _training(contestant, case, model.train(), x)
    model = model.eval()
    if contestant.engine == "onnxruntime":
        return _onnxruntime(model, x)
    if contestant.engine == "openvino":
        return _openvino(model, x, case.precision)
    return _forward(contestant, case, model, x)


def _forward(contestant: Contestant, case: Case, model: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    if case.precision == "bf16" and contestant.engine != "optimized":
        model, x = model.bfloat16(), x.bfloat16()
    compiled: Callable[[Tensor], Tensor] = torch.compile(model) if contestant.engine == "compile" else model

    def work() -> Tensor:
        with torch.inference_mode():
            return compiled(x)

    return work


def _training(contestant: Contestant, case: Case, model: nn.Module, x: Tensor) -> Callable[[], None]:
    labels = torch.randint(0, 1000, (case.batch,), generator=torch.Generator().manual_seed(2)).to(x.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    compiled: Callable[[Tensor], Tensor] = torch.compile(model) if contestant.engine == "compile" else model

    def work() -> None:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=case.precision == "bf16"):
            loss = F.cross_entropy(compiled(x), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return work


def _onnxruntime(model: nn.Module, x: Tensor) -> Callable[[], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        with contextlib.redirect_stdout(None):
            torch.onnx.export(model, (x,), file, dynamo=True, external_data=False)
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.contiguous().numpy()}
    return lambda: session.run(None, feed)[0]


def _openvino(model: nn.Module, x: Tensor, precision: str) -> Callable[[], Any]:
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's, about the tracing that OpenVINO uses
        converted = openvino.convert_model(model, example_input=x, input=[tuple(x.shape)])
    settings = {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
    }  # fmt: skip
    request = openvino.compile_model(converted, "CPU", settings).create_infer_request()
    picture = x.contiguous().numpy()
    return lambda: request.infer([picture])[0]
