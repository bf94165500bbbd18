"""Shards on a server: the index is fetched at once, each tar when a picture of it is first wanted, into a cache."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
import urllib.error
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from urllib.parse import quote

from convnext.data.pictures.fetch import SOURCE, TRIES, NotThere, close, fetch, make_room
from convnext.data.shards.meta import INDEX, LABELS, META, MOST_BYTES, Shard, parse_meta
from convnext.data.shards.read import is_index_of
from convnext.data.shards.scan import index_tars
from convnext.data.shards.server import in_time, open_head
from convnext.errors import DataError
from convnext.files import own_folder, write_whole
from convnext.places import cache_dir

_AT_ONCE = 16  # questions to a server


_SAYS_NOTHING = (400, 401, 403, 404, 405, 410, 501)
"""Answers to a HEAD request that will be the same the next time."""


def place_of(address: str) -> Path:
    """The folder of the cache for what comes from an address."""
    return cache_dir() / "shards" / hashlib.sha256(address.encode()).hexdigest()[:24]


def open_remote(address: str, budget: int) -> Path:
    """The folder of the cache in which a server's shards appear; index and list of tars are there.

    Args:
        address: of the folder that holds shards.json.
        budget: bytes that the tars may take; the one not used for longest goes first.

    Raises:
        NotThere: the server has no index there.
        DataError: the index cannot be had, or is damaged.
    """
    home = place_of(address)
    home.parent.mkdir(parents=True, exist_ok=True)
    own_folder(home)
    fetch(f"{address}/{META}", home / META, 0, "", most=MOST_BYTES)
    content = (home / META).read_bytes()
    try:
        json.loads(content)
    except ValueError:
        raise NotThere(
            f"{address}/{META}: the server answers something else, as a page; is the address right?"
        ) from None
    meta = parse_meta(content, f"{address}/{META}")
    folder = home / hashlib.sha256(content).hexdigest()[:12]  # shards that were written anew have another
    own_folder(folder)
    write_whole(folder / META, content)

    if not is_index_of(meta, folder):
        wanted = sum(shard.pictures for shard in meta.shards) * 20
        fetch(f"{address}/{INDEX}", folder / INDEX, wanted, "")
        if meta.multi_label:
            most = 4 * sum(shard.pictures for shard in meta.shards) * (1 + len(meta.classes))
            fetch(f"{address}/{LABELS}", folder / LABELS, 0, "", most=most)
        if not is_index_of(meta, folder):
            raise DataError(f"{address}/{INDEX} is not what {META} was written for (another hash); upload both again")
    name_source(folder, address, budget, meta.shards)
    return folder


def name_source(folder: Path, address: str, budget: int, shards: Sequence[Shard]) -> None:
    """Writes down where the tars of a folder come from, and what they must be; those beyond the budget go."""
    make_room(folder, budget, 0)
    tars = {shard.name: [shard.bytes, shard.sha256] for shard in shards}
    write_whole(folder / SOURCE, json.dumps({"address": address, "budget": budget, "tars": tars}).encode())


def stamps(addresses: Sequence[str]) -> list[str]:
    """What a server says of files without sending them: length and time of change; "" where it says nothing.

    Files that are written anew under the same names have others. Tags are left out: they may differ between mirrors.

    Raises:
        DataError: the server cannot be asked.
    """
    found: list[str] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for first in range(0, len(addresses), _AT_ONCE):
            asked = [pool.submit(_stamp, address) for address in addresses[first : first + _AT_ONCE]]
            wait(asked)
            found += [question.result() for question in asked]
    return found


def _stamp(address: str) -> str:
    for attempt in range(TRIES):
        try:
            return in_time(address, partial(_head, address))
        except urllib.error.HTTPError as error:
            close(error)
            if error.code in _SAYS_NOTHING:  # whoever fetches it says what is wrong
                return ""
            problem = f"the server answers {error.code}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = (str(error).splitlines() or [type(error).__name__])[0]
        if attempt + 1 < TRIES:
            time.sleep(2**attempt)
    raise DataError(f"{address}: could not be asked for in {TRIES} attempts, the last time: {problem}")


def _head(address: str) -> str:
    with open_head(address) as answer:
        return "|".join(answer.headers.get(name, "") for name in ("Content-Length", "Last-Modified"))


def index_remote(
    address: str, folder: Path, names: Sequence[str], budget: int, into: Path, val: float,
    progress: Callable[[int, int], None],
) -> None:  # fmt: skip
    """Fetches tars that others wrote, once, to index them; what the budget allows stays.

    Args:
        address: of the folder of the tars.
        folder: of the cache, for the tars.
        names: of the tars.
        budget: bytes that the tars may take.
        into: an empty folder for the index.
        val: as for `index_tars`.
        progress: called with (tars fetched, tars in all).

    Raises:
        DataError: a tar cannot be had or is damaged.
    """
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    own_folder(own_folder(folder.parent) / folder.name)
    hashes: dict[str, str] = {}
    last: Path | None = None

    def fetched(name: str) -> Path:
        nonlocal last
        last, tar = None, folder / name
        if not tar.exists():
            make_room(folder, budget, 0)
            fetch(f"{address}/{quote(name)}", tar, 0, "")
        with tar.open("rb") as file:
            hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
        last = tar
        return tar

    try:
        index_tars(
            folder, progress, tars=[folder / name for name in names], into=into, val=val, hashes=hashes,
            fetch=lambda tar: fetched(tar.name),
        )  # fmt: skip
    except DataError:
        if last is not None:  # what came, as a page that asks for a password, is not kept; those before it were read
            last.unlink(missing_ok=True)
        raise
