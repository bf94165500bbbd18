"""The registry of published weights: what there is, under which licence, how good, and where it lies."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convnext.errors import UserError, WeightsError
from convnext.nn.tables.baseline_specs import TIMM
from convnext.nn.tables.published import PUBLISHED, allows_commerce
from convnext.nn.tables.variants import MODELS, closest
from convnext.nn.weights.download import Remote, fetch_or_explain, find_cached, locate, starts
from convnext.nn.weights.places import tell


def weights_row(entry: str) -> dict[str, Any]:
    """What is known of published weights: entry, address, licence, published accuracy, preprocessing.

    `sha256` holds the first digits of the checksum where the publisher gives one; `cached` the file on this computer.
    """
    remote = locate(entry)
    cached = find_cached(remote)
    row: dict[str, Any] = {
        "entry": entry, "url": remote.url, "sha256": remote.sha256 or None, "file": str(remote.file),
        "cached": None if cached is None else str(cached),
    }  # fmt: skip
    known = PUBLISHED.get(entry)
    if known is None:  # one of timm's networks
        return row | _timm_row(entry)
    return row | {
        "model": known.model, "trained_on": known.trained_on, "licence": known.licence, "commercial": known.commercial,
        "size": known.size, "crop_ratio": known.crop_ratio, "interpolation": known.interpolation,
        "squash": known.squash, "normalization": "imagenet",
        "classes": known.classes, "top1": known.top1,
    }  # fmt: skip


def _timm_row(entry: str) -> dict[str, Any]:
    """What timm says of weights of its own."""
    from convnext.nn.others.baselines import timm_config

    config = timm_config(entry.removeprefix(TIMM)) if entry.startswith(TIMM) else None
    if config is None:
        raise WeightsError(
            f'weights "{entry}" are neither in our list nor in timm\'s; `convnext weights list` has ours'
        )
    licence = str(config.license or "not stated")
    return {
        "model": f"timm:{config.architecture}", "trained_on": config.tag, "licence": licence,
        "commercial": allows_commerce(licence), "size": int(config.input_size[-1]), "crop_ratio": config.crop_pct,
        "interpolation": config.interpolation, "mean": list(config.mean), "std": list(config.std),
        "classes": config.num_classes, "top1": None,
    }  # fmt: skip


def list_weights(pattern: str = "*", *, commercial: bool = False) -> list[dict[str, Any]]:
    """Rows of the published weights whose entry or model matches a name, a part of one, or a shell pattern.

    Args:
        pattern: what to look for.
        commercial: leave out those whose licence forbids commercial use.

    Raises:
        UserError: none matches.
    """
    wide = pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"
    entries = [entry for entry in PUBLISHED if fnmatch.fnmatchcase(entry, wide)]
    rows = [weights_row(entry) for entry in entries if PUBLISHED[entry].commercial or not commercial]
    if not rows:
        allowed = " for commercial use" if commercial and entries else ""
        raise UserError(f'no published weights match "{pattern}"{allowed}; `convnext weights list` has all')
    return rows


def get_weights(wanted: str, *, commercial: bool = False, say: Callable[[str], None] = tell) -> Path:
    """The file of published weights, fetched if it is not on this computer.

    Args:
        wanted: an entry, or a model for the first of its entries.
        commercial: refuse weights whose licence forbids commercial use.
        say: is given the licence, and a line before a download.

    Raises:
        WeightsError: the licence does not allow it, or the file cannot be had; the message says what to put where.
    """
    entry = wanted
    if wanted in MODELS:
        candidates = [e for e in starts(wanted) if PUBLISHED[e].commercial or not commercial]
        if not candidates:
            raise WeightsError(f"no weights of {wanted} allow commercial use: {PUBLISHED[starts(wanted)[0]].licence}")
        entry = candidates[0]
    elif wanted.startswith(TIMM) and "." not in wanted:
        found = starts(wanted)
        if not found:
            raise WeightsError(f"no weights are published for {wanted}")
        entry = found[0]
    elif ":" not in wanted:
        close = closest(wanted)
        hint = f' Did you mean "{close}"?' if close else ""
        raise WeightsError(f'weights "{wanted}": give a model or an entry of `convnext weights list`.{hint}')
    row = weights_row(entry)
    if commercial and not row["commercial"]:
        raise WeightsError(f"{entry} is under {row['licence']}, which forbids commercial use")
    say(f"{entry}: licence {row['licence']}")
    remote = locate(entry)
    path = find_cached(remote) or fetch_or_explain(remote, say)
    _check_contents(path, remote, row["model"])
    return path


def _check_contents(path: Path, remote: Remote, model: str) -> None:
    """A file that was put into the cache by hand may be anything."""
    from convnext.nn.weights.load import model_of, read_state, recognise

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(remote.sha256):
        raise WeightsError(f"{path} is not {remote.entry}: its SHA-256 does not begin with {remote.sha256}; remove it")
    state = read_state(path)
    if model in MODELS:
        held = model_of(recognise(state, str(path))[1])
        if held != model:
            raise WeightsError(f"{path} holds {held or 'another network'}, not {model}; remove it")


def to_text(rows: list[dict[str, Any]]) -> str:
    """The list as aligned lines."""
    lines = [f"{'entry':<48}{'size':>5}{'top-1':>8}  {'licence':<14}trained on"]
    for row in rows:
        top1 = "-" if row["top1"] is None else f"{row['top1']:.1f} %"
        here = "  (on this computer)" if row["cached"] else ""
        lines.append(
            f"{row['entry']:<48}{row['size']:>5}{top1:>8}  {row['licence'].split(' ')[0]:<14}{row['trained_on']}{here}"
        )
    lines.append("top-1: ImageNet-1k, as the publisher gives it; -: not given. --json has addresses and preprocessing.")
    return "\n".join(lines)
