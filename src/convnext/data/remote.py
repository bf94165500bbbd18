"""Shards on a server: the index is fetched at once, each tar when a picture of it is first wanted, into a cache."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from convnext.data.shards import INDEX, META
from convnext.data.tarball import SOURCE
from convnext.errors import DataError, PictureError
from convnext.places import cache_dir

TRIES = 4
"""Attempts at a download, with 1, 2 and 4 seconds between them."""
BLOCK = 1 << 20


def address_of(root: Path | str) -> str:
    """The address that a user gave as the data, or "" for a place on disk. (A path swallows a slash of it.)"""
    text = str(root)
    for scheme in ("http", "https"):
        if text.startswith(f"{scheme}:/"):
            return f"{scheme}://{text.removeprefix(f'{scheme}:').lstrip('/')}".rstrip("/").removesuffix(f"/{META}")
    return ""


def open_remote(address: str, budget: int) -> Path:
    """The folder of the cache in which a server's shards appear; index and list of tars are there.

    Args:
        address: of the folder that holds shards.json.
        budget: bytes that the tars may take; the one not used for longest goes first.

    Raises:
        DataError: the index cannot be had.
    """
    folder = cache_dir() / "shards" / hashlib.sha256(address.encode()).hexdigest()[:24]
    folder.mkdir(parents=True, exist_ok=True)
    fetch(f"{address}/{META}", folder / META, 0, "")
    meta = json.loads((folder / META).read_text(encoding="utf-8"))
    wanted = sum(int(row["pictures"]) for row in meta["shards"]) * 20
    if not (folder / INDEX).is_file() or (folder / INDEX).stat().st_size != wanted:
        fetch(f"{address}/{INDEX}", folder / INDEX, wanted, "")
    tars = {row["name"]: [row["bytes"], row["sha256"]] for row in meta["shards"]}
    text = json.dumps({"address": address, "budget": budget, "tars": tars})
    part = folder / f"{SOURCE}.part"
    part.write_text(text, encoding="utf-8")
    part.replace(folder / SOURCE)
    return folder


def fetch_tar(tar: Path) -> None:
    """Fetches a tar that is not in the cache; several processes may ask for the same one.

    Raises:
        PictureError: it cannot be had; the message has the address.
    """
    if tar.exists():
        return
    source = json.loads((tar.parent / SOURCE).read_text(encoding="utf-8"))
    size, sha256 = source["tars"][tar.name]
    lock = tar.with_name(f".{tar.name}.lock")
    while True:
        try:
            lock.touch(exist_ok=False)
            break
        except FileExistsError:
            if tar.exists():
                return
            with suppress(OSError):
                if time.time() - lock.stat().st_mtime > 60:  # its process was killed
                    lock.unlink()
            time.sleep(0.2)
    try:
        if not tar.exists():
            _make_room(tar.parent, int(source["budget"]), int(size))
            fetch(f"{source['address']}/{tar.name}", tar, int(size), str(sha256), lock)
    except DataError as error:
        raise PictureError(str(error)) from None
    finally:
        lock.unlink(missing_ok=True)


def _make_room(folder: Path, budget: int, need: int) -> None:
    """Removes the tars that were not used for longest until another one fits."""
    tars = sorted(folder.glob("*.tar"), key=lambda tar: tar.stat().st_atime)
    held = sum(tar.stat().st_size for tar in tars)
    while tars and held + need > budget:
        held -= tars[0].stat().st_size
        tars.pop(0).unlink(missing_ok=True)


def fetch(address: str, target: Path, size: int, sha256: str, alive: Path | None = None) -> None:
    """Downloads a file, whole or not at all.

    Args:
        address: where it is.
        target: where it goes.
        size: bytes that it must have; 0 when not known.
        sha256: that it must have; "" when not known.
        alive: a file to touch meanwhile.

    Raises:
        DataError: it is not there, it ends too early, or it is another file.
    """
    part = target.with_name(f".{target.name}.part")
    for attempt in range(TRIES):
        try:
            _download(address, part, size, sha256, alive)
            part.replace(target)
            return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise DataError(
                    f"{address}: the server answers {error.code} ({error.reason}); is the address right?"
                ) from None
            problem = f"the server answers {error.code}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = str(error) or type(error).__name__
        finally:
            part.unlink(missing_ok=True)
        if attempt + 1 < TRIES:
            time.sleep(2**attempt)
    raise DataError(f"{address}: could not be fetched in {TRIES} attempts, the last time: {problem}")


def _download(address: str, part: Path, size: int, sha256: str, alive: Path | None) -> None:
    found, have = hashlib.sha256(), 0
    with urllib.request.urlopen(address, timeout=60) as answer, part.open("wb") as file:
        while block := answer.read(BLOCK):
            file.write(block)
            found.update(block)
            have += len(block)
            if alive is not None:
                alive.touch()
    if size and have != size:
        raise ValueError(f"it ended after {have:,} of {size:,} bytes")
    if sha256 and found.hexdigest() != sha256:
        raise ValueError("its content is not what was written")
