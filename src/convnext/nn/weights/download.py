"""Finds published weights: in the caches of this computer first, on the network only if they are not there.

Nothing is downloaded without a line that says so. A server that does not answer is given up after a few seconds.

Where files are kept: `$CONVNEXT_CACHE/weights` (default `~/.cache/convnext/weights`); timm's files in the Hugging Face
cache that timm itself uses, or in `$CONVNEXT_CACHE/huggingface` when the variable is set. Files that torch.hub or timm
have downloaded before are found and used.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import urlsplit

from convnext.data.shards.server import Pace, TooSlow, open_paced
from convnext.errors import WeightsError
from convnext.files import Part
from convnext.nn.tables.baseline_specs import BASELINES, TIMM
from convnext.nn.tables.published import PUBLISHED
from convnext.nn.tables.variants import ROADMAP, get_spec
from convnext.nn.weights.places import split_part, tell, weight_file
from convnext.places import cache_dir

TIMEOUT = 5.0  # seconds without an answer
OFFICIAL_URL = "https://dl.fbaipublicfiles.com/convnext"
TIMM_FILE = "model.safetensors"
TORCHVISION_FILES = {  # model to the first digits of its file's checksum, which are part of the file's name
    "convnext_tiny": "983f1562",
    "convnext_small": "0c510722",
    "convnext_base": "6075fbad",
    "convnext_large": "ea097f82",
}
PLACES = ("timm", "official", "torchvision")

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST}
_CHUNK = 1 << 20  # bytes
_SAY_EVERY = 10.0  # seconds


class UnreachableError(WeightsError):
    """The server did not answer: no network, or the server is down."""


@dataclass(frozen=True)
class Remote:
    """Where one set of published weights is.

    Attributes:
        entry: what the user writes, such as "timm:convnext_tiny.fb_in1k".
        url: address of the file.
        file: its path in our own cache.
        sha256: first digits of the checksum that the file must have; "" when none is published.
        hub: the repository on the Hugging Face hub, "" for a plain download.
    """

    entry: str
    url: str
    file: Path
    sha256: str = ""
    hub: str = ""


class Found(NamedTuple):
    """A weight file on this computer, and what to call it in messages.

    `path` may end in "#NAME", for one of several sets of weights in the file; `given` is whether the user named a place
    on this computer.
    """

    path: Path
    source: str
    given: bool = False


def resolve_weights(model_name: str, weights: str, say: Callable[[str], None] = tell) -> Path | None:
    """The file that `weights` means, downloaded if need be; see `find_weights`."""
    found = find_weights(model_name, weights, say)
    return None if found is None else found.path


def find_weights(model_name: str, weights: str, say: Callable[[str], None] = tell) -> Found | None:
    """The file that `weights` means, downloaded if need be.

    Args:
        model_name: the model that the weights are for.
        weights: "none"; "auto" for the first of the model's published weights that is cached or reachable; an entry
            "timm:NAME", "official:NAME" or "torchvision:NAME"; or the path of a file, a run, or a folder that
            transformers saved, with "#NAME" behind it for one of several sets of weights.
        say: is given one line before a download, and one when "auto" finds nothing.

    Returns:
        None for "none", and for "auto" when nothing is within reach.

    Raises:
        WeightsError: what was asked for by name cannot be had.
    """
    if weights == "none":
        return None
    if weights == "auto":
        return _first_within_reach(model_name, say)
    if weights.partition(":")[0] in PLACES:
        remote = locate(weights)
        return Found(find_cached(remote) or fetch_or_explain(remote, say), weights)
    place, part = split_part(Path(weights))
    if not weights or not place.exists():
        what = "an address is not fetched; download the file yourself" if "://" in weights else "there is no such file"
        raise WeightsError(
            f'weights "{weights}": {what}. Give a path, "auto", "none", or an entry such as '
            '"timm:convnext_tiny.fb_in1k"'
        )
    file = weight_file(place)
    named = file.with_name(f"{file.name}#{part}") if part else file
    return Found(named, str(named) if place.is_dir() else weights, given=True)


def locate(entry: str) -> Remote:
    """Where the weights of an entry "timm:NAME", "official:NAME" or "torchvision:NAME" are."""
    place, _, name = entry.partition(":")
    if not re.fullmatch(r"\w+([.-]\w+)*", name, re.ASCII) or len(name) > 90:
        raise WeightsError(
            f'weights "{entry}": the name after "{place}:" must be of letters, digits and "_", with single "." and "-" '
            "between them, and no longer than 90"
        )
    folder = cache_dir() / "weights"
    if place == "timm":
        from huggingface_hub import hf_hub_url

        repo = f"timm/{name}"
        return Remote(entry, hf_hub_url(repo, TIMM_FILE), folder / f"timm_{name}.safetensors", hub=repo)
    url = _torchvision_url(entry, name) if place == "torchvision" else _official_url(name)
    file = url.rpartition("/")[2]
    digits = re.search(r"-([0-9a-f]{8,64})\.\w+$", file)
    return Remote(entry, url, folder / file, sha256=digits.group(1) if digits else "")


def _official_url(name: str) -> str:
    """V1 files lie together, V2 files in a folder for what they were trained on."""
    if not name.startswith("convnextv2_"):
        return f"{OFFICIAL_URL}/{name}.pth"
    return f"{OFFICIAL_URL}/convnextv2/{'im22k' if '_22k_' in name else 'im1k'}/{name}.pt"


def starts(model_name: str) -> tuple[str, ...]:
    """Entries of published weights for a model, the best start for fine-tuning first; none for a step of the roadmap.

    Raises:
        UserError: no model has this name.
    """
    if model_name.startswith(ROADMAP):
        return ()
    if model_name in BASELINES:
        return BASELINES[model_name].pretrained
    if not model_name.startswith(TIMM):
        return get_spec(model_name).pretrained
    from convnext.nn.others.baselines import timm_config

    config = timm_config(model_name.removeprefix(TIMM))
    hub = None if config is None else config.hf_hub_id
    return (f"timm:{hub.removeprefix('timm/')}",) if hub and hub.startswith("timm/") else ()


def _torchvision_url(entry: str, name: str) -> str:
    if name not in TORCHVISION_FILES:
        raise WeightsError(f'weights "{entry}": torchvision has no such model.{_did_you_mean(entry)}')
    return f"https://download.pytorch.org/models/{name}-{TORCHVISION_FILES[name]}.pth"


def find_cached(remote: Remote) -> Path | None:
    """The file if it is on this computer: in our cache, in torch.hub's, or in the Hugging Face cache."""
    for path in (remote.file, _torch_hub() / "checkpoints" / remote.file.name):
        if path.is_file():
            return path
    if remote.hub:
        from huggingface_hub import constants, try_to_load_from_cache

        for folder in (_hub_cache(), Path(constants.HF_HUB_CACHE)):
            cached = try_to_load_from_cache(remote.hub, TIMM_FILE, cache_dir=folder)
            if isinstance(cached, str):
                return Path(cached)
    return None


def _torch_hub() -> Path:
    """torch.hub's folder by its documented rule; torch itself would have to be imported to be asked."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return Path(os.environ.get("TORCH_HOME") or caches / "torch").expanduser() / "hub"


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return cache_dir() / "huggingface" if os.environ.get("CONVNEXT_CACHE") else Path(constants.HF_HUB_CACHE)


def _first_within_reach(model_name: str, say: Callable[[str], None]) -> Found | None:
    reasons: list[str] = []
    silent: set[str] = set()  # hosts that did not answer; they are not asked again
    for entry in starts(model_name):
        remote = locate(entry)
        host = urlsplit(remote.url).netloc
        try:
            path = find_cached(remote) or (None if host in silent else fetch(remote, say))
        except WeightsError as error:
            reasons.append(str(error))
            if isinstance(error, UnreachableError):
                silent.add(host)
            continue
        if path is not None:
            return Found(path, entry)
    why = "; ".join(reasons) or "none are published for it"
    help = f". `convnext weights get {model_name}` says what to download and where to put it" if reasons else ""
    say(f"no pretrained weights for {model_name} within reach, so it keeps its random weights ({why}){help}")
    return None


def fetch_or_explain(remote: Remote, say: Callable[[str], None]) -> Path:
    """Downloads published weights; when that fails, says what to download and where to put it."""
    try:
        return fetch(remote, say)
    except WeightsError as error:
        raise WeightsError(
            f'weights "{remote.entry}" are not on this computer and could not be downloaded: {error}. '
            f"Download {remote.url} elsewhere, and save it as {remote.file} or give its path as the weights."
            f"{_did_you_mean(remote.entry)}"
        ) from error


def _did_you_mean(entry: str) -> str:
    close = [] if entry in PUBLISHED else difflib.get_close_matches(entry, PUBLISHED, n=1, cutoff=0.8)
    return f' Did you mean "{close[0]}"?' if close else ""


def fetch(remote: Remote, say: Callable[[str], None]) -> Path:
    """Downloads published weights and says so.

    Raises:
        UnreachableError: the server does not answer.
        WeightsError: the server has no such file, or sent something else.
    """
    if remote.hub:
        return _fetch_from_hub(remote, say)
    return download(remote.url, remote.file, remote.sha256, say)


def _fetch_from_hub(remote: Remote, say: Callable[[str], None]) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    host, folder = urlsplit(remote.url).netloc, _hub_cache()
    try:
        size = get_hf_file_metadata(remote.url, timeout=TIMEOUT).size
        say(f"downloading {remote.url} ({_megabytes(size)}) to {folder}")
        return Path(hf_hub_download(remote.hub, TIMM_FILE, cache_dir=folder, etag_timeout=TIMEOUT))
    except HfHubHTTPError as error:
        raise WeightsError(f"{host}: the server answered {error.response.status_code} for {remote.url}") from error
    except Exception as error:  # the errors of the hub's HTTP library have no base class that we could name
        raise _explained(error, host, folder) from error


def _explained(error: Exception, host: str, target: Path) -> WeightsError:
    """The error of a download in our words: the disk's fault or the network's."""
    reason = getattr(error, "reason", None) or error
    line = (str(reason) or type(reason).__name__).splitlines()[0]
    if getattr(error, "errno", None) in _DISK_ERRORS:
        return WeightsError(f"{target} cannot be written: {line}")
    return UnreachableError(f"{host} cannot be reached: {line}")


def download(url: str, target: Path, sha256: str, say: Callable[[str], None]) -> Path:
    """Downloads a file to `target`, all of it or nothing.

    Args:
        url: its address.
        target: where it goes; folders are made.
        sha256: first digits of the checksum that the content must have, or "" when none is known.
        say: is given a line at the start, and one every ten seconds.

    Raises:
        UnreachableError: the server does not answer, or stops in the middle.
        WeightsError: the server refuses, sends a web page or another content, or the file cannot be written.
    """
    host = urlsplit(url).netloc
    request = urllib.request.Request(url, headers={"User-Agent": "convnext"})
    try:
        with open_paced(request, Pace(url, _most(target), TIMEOUT)) as response:
            return _save_response(response, url, target, sha256, say)
    except TooSlow as error:
        raise UnreachableError(f"{host}: the download was given up: {error}") from None
    except urllib.error.HTTPError as error:
        raise WeightsError(f"{host}: the server answered {error.code} for {url}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise _explained(error, host, target) from error


def _most(target: Path) -> float:
    """Bytes that a download may have: what the disk has left, where it says so."""
    place = next(parent for parent in target.absolute().parents if parent.exists())
    usage = shutil.disk_usage(place)
    return usage.free if usage.total else float("inf")


def _save_response(response: HTTPResponse, url: str, target: Path, sha256: str, say: Callable[[str], None]) -> Path:
    if response.headers.get_content_type() == "text/html":
        raise WeightsError(f"{url} is a web page, not a weight file; a proxy or a login page may be in between")
    length = response.headers.get("Content-Length", "")
    size = int(length) if length.isdecimal() else None
    unchecked = "" if sha256 else "; no checksum is published for it"
    say(f"downloading {url} ({_megabytes(size)}{unchecked}) to {target}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with Part(target) as part:
        found, received = _copy(response, part.file, size, say)
        if size is not None and received != size:
            raise UnreachableError(f"{url}: the connection ended after {received} of {size} bytes; try again")
        if not found.startswith(sha256):
            raise WeightsError(
                f"{url}: the checksum of what arrived is {found[: len(sha256)]}, it must be {sha256}; "
                "the file was removed"
            )
    return target


def _copy(response: HTTPResponse, file: IO[bytes], size: int | None, say: Callable[[str], None]) -> tuple[str, int]:
    """Writes the response to a file; returns its SHA-256 and its number of bytes."""
    digest, received, said = hashlib.sha256(), 0, time.monotonic()
    while chunk := response.read(_CHUNK):
        file.write(chunk)
        digest.update(chunk)
        received += len(chunk)
        if time.monotonic() - said > _SAY_EVERY:
            said = time.monotonic()
            say(f"  {_megabytes(received)} of {_megabytes(size)}")
    return digest.hexdigest(), received


def _megabytes(size: int | None) -> str:
    return "size not known" if size is None else f"{size / 1e6:.1f} MB"
