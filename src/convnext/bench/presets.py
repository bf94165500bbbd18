"""Which cases and contestants a benchmark has: from the options of the command, or by the name of a preset."""

from __future__ import annotations

from pathlib import Path

import torch

from convnext.bench.contestants import CODES, ENGINES, OURS_ONLY, PRECISIONS, TASKS, Case, Contestant
from convnext.bench.published import table12
from convnext.errors import UserError
from convnext.nn.spec import outline

PRESETS = ("readme", "paper", "size", "batch", "memory")
OPTIONS = ("task", "batch", "size", "precision", "code", "engine")
"""What a preset decides itself."""
GROWS = {"size": "size", "batch": "batch", "memory": "size"}
"""What grows in a preset about growth."""

SIZES, BATCHES, TRAIN_SIZES = (64, 96, 128, 224, 384, 512, 768, 1024), (1, 2, 4, 8, 16, 32), (64, 128, 224, 384)
BARS = {("infer", 16, "fp32"): 1.1, ("infer", 1, "fp32"): 1.0, ("infer", 16, "bf16"): 1.3, ("infer", 1, "bf16"): 1.0}
"""How many times the fastest peer's pictures per second we aim for, by task, batch and precision."""

TRAINING_BAR = 1.8
"""The same for a training step, in the best precision of each side."""

EVERYONE = (
    Contestant("ours", "optimized"),
    *(Contestant(code, "eager") for code in CODES),
    *(Contestant("timm", engine) for engine in ("compile", "onnxruntime", "openvino")),
)


def chosen(
    models: list[str],
    *,
    tasks: str,
    batches: str,
    sizes: str,
    precisions: str,
    codes: str,
    engines: str,
    device: torch.device,
) -> tuple[list[Case], list[Contestant]]:
    """Every combination of what was asked for.

    Raises:
        UserError: a value is not known.
    """
    models = list(dict.fromkeys(models))
    for model in models:
        outline(model)
    wanted = native_precisions(device) if precisions == "auto" else _words("precision", precisions, PRECISIONS)
    cases = [
        Case(model, task, n, side, precision)
        for model in models
        for task in _words("task", tasks, TASKS)
        for precision in wanted
        for n in _numbers("batch", batches)
        for side in _numbers("size", sizes)
    ]
    several = _words("code", codes, CODES), _words("engine", engines, ENGINES)
    contestants = [Contestant(code, engine) for code in several[0] for engine in several[1]]
    possible = [c for c in contestants if c.code == "ours" or c.engine not in OURS_ONLY]
    return cases, possible or contestants


def refuse_beside(preset: str, options: list[str]) -> None:
    """Raises a UserError for options that would say something else than the preset does."""
    if options:
        raise UserError(
            f"--preset {preset} has its own {', '.join(f'--{name}' for name in options)}; leave out one or the other"
        )


def named(preset: str, models: list[str], device: torch.device) -> tuple[list[Case], list[Contestant]]:
    """A preset: "readme" compares with everyone; "paper" is Table 12; "size", "batch" and "memory" show how cost grows.

    Without `models` the first has ConvNeXt-T, "paper" the table's networks with Swin beside ConvNeXt, in TF32 on a
    GPU, the growing ones ViT-S and Swin-T beside it, and "memory" a training step of ConvNeXt-T with and without
    recomputing.

    Raises:
        UserError: no such preset.
    """
    precisions = native_precisions(device)
    for model in models:
        outline(model)
    if preset == "readme":
        first = models[0] if models else "convnext_tiny"
        cases = [Case(first, "infer", n, 224, p) for p in precisions for n in (16, 1)]
        return cases + [Case(first, "train", 16, 224, p) for p in precisions], list(EVERYONE)
    ours = [Contestant("ours", "eager")]
    if preset == "paper":
        batch, precision = (64, "tf32") if device.type == "cuda" else (4, precisions[0])
        wanted = [(name, size) for name, size, _ in table12() if not models or name in models]
        return [Case(name, "infer", batch, size, precision) for name, size in wanted], ours
    several = models or ["convnext_tiny", "timm:vit_small_patch16_224", "timm:swin_tiny_patch4_window7_224"]
    if preset == "size":
        return [Case(m, "infer", 1, s, precisions[0]) for m in several for s in SIZES], ours
    if preset == "batch":
        return [Case(m, "infer", n, 224, precisions[0]) for m in several for n in BATCHES], ours
    if preset == "memory":
        cases = [Case(m, "train", 4, s, precisions[0]) for m in models or ["convnext_tiny"] for s in TRAIN_SIZES]
        return cases, [*ours, Contestant("ours", "checkpointing")]
    raise UserError(f'preset "{preset}" is not known; it must be one of {", ".join(PRESETS)}')


def native_precisions(device: torch.device) -> list[str]:
    """fp32, and bf16 (on a GPU tf32 too) where there are units for it: elsewhere it is emulated, and only slow."""
    if device.type == "cuda":
        return ["fp32", "tf32", "bf16"] if torch.cuda.is_bf16_supported() else ["fp32"]
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        flags = ""
    return ["fp32", "bf16"] if "avx512_bf16" in flags or "amx_bf16" in flags or " bf16 " in flags else ["fp32"]


def _words(key: str, text: str, known: tuple[str, ...]) -> list[str]:
    found = [word.strip() for word in text.split(",") if word.strip()]
    wrong = [word for word in found if word not in known]
    if wrong or not found:
        raise UserError(f'{key} "{", ".join(wrong) or text}" is not known; it must be of {", ".join(known)}')
    return list(dict.fromkeys(found))


def _numbers(key: str, text: str) -> list[int]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isascii() and word.isdigit() and 0 < int(word) <= 8192 for word in words):
        raise UserError(f'{key} "{text}": it must be numbers from 1 to 8192, with commas between them')
    return list(dict.fromkeys(int(word) for word in words))
