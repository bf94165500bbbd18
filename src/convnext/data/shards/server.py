"""Requests to a server that keeps its pace: one that drips, or says nothing, is waited for aloud and not for ever."""

from __future__ import annotations

import queue
import select
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from io import BufferedReader, RawIOBase
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from convnext.data.aside import aside

LEAST = 10_000
"""Bytes a second below which a server counts as one that drips."""
TOLD, PATIENCE = 10.0, 60.0
"""Seconds after which that is said, and after which it ends."""
TIMEOUT = 60.0
"""Seconds for a connection, and for one answer of its socket."""
_SPARE = 10_000_000  # bytes of headers and of the parts that chunks come in

T = TypeVar("T")


class TooSlow(OSError):
    """A server that sends next to nothing."""


class Pace:
    """Watches over what a server sends.

    Args:
        address: for messages.
        most: bytes that may come.
        timeout: seconds for a connection, and for one answer of its socket; None for the usual ones.
    """

    def __init__(self, address: str, most: float, timeout: float | None = None) -> None:
        self.address, self.most, self.timeout = address, most, TIMEOUT if timeout is None else timeout
        self.bytes = 0
        self.since, self.before = time.monotonic(), 0  # of the stretch that is looked at
        self.slow_for = 0.0

    def got(self, count: int) -> None:
        """So many bytes more have come.

        Raises:
            TooSlow: they come too slowly, and have for long.
            ValueError: more have come than may.
        """
        self.bytes += count
        if self.bytes > self.most + _SPARE:
            raise ValueError(f"it sends more than {self.most:,.0f} bytes")
        self.look()

    def look(self) -> None:
        """Compares what came in the last seconds with the least."""
        passed = time.monotonic() - self.since
        if passed < TOLD:
            return
        came = self.bytes - self.before
        self.since, self.before = time.monotonic(), self.bytes
        if came >= LEAST * passed:
            self.slow_for = 0.0
            return
        self.slow_for += passed
        if self.slow_for >= PATIENCE:
            raise TooSlow(f"it sends next to nothing ({came:,} bytes in the last {passed:.0f} s)")
        aside(f"waiting for {self.address}: {came:,} bytes in the last {passed:.0f} s")

    def await_bytes(self, sock: Any) -> None:
        """Waits until a socket has something, and says so meanwhile."""
        end = time.monotonic() + self.timeout
        if getattr(sock, "pending", lambda: 0)():
            return
        poll = select.poll() if hasattr(select, "poll") else None
        if poll is None:  # Windows: its socket's own timeout must do
            return
        poll.register(sock, select.POLLIN)
        while not poll.poll(1000 * min(1.0, TOLD, self.timeout)):
            self.look()
            if time.monotonic() > end:
                raise TimeoutError(f"timed out: nothing came for {self.timeout:.3g} s")


class _Watched(RawIOBase):
    """What a socket gives, at a pace."""

    def __init__(self, inner: Any, sock: Any, pace: Pace) -> None:
        self.inner, self.sock, self.pace = inner, sock, pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.pace.await_bytes(self.sock)
        count = int(self.inner.raw.readinto(buffer) or 0)
        self.pace.got(count)
        return count

    def close(self) -> None:
        self.inner.close()
        super().close()


def _refuse_scheme(address: str) -> None:
    scheme = urlsplit(address).scheme.lower()
    if scheme not in ("http", "https"):
        raise urllib.error.URLError(f"it leads to an address of {scheme or 'no scheme'}, and only http is followed")


class _ByHttpAlone(urllib.request.HTTPRedirectHandler):
    """Follows a server to other addresses of http and https, and to nothing else: no ftp, no file of this computer."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        fp.close()  # what comes with a redirection is never wanted, and may be without end
        target = headers.get("location") or headers.get("uri")
        if target:
            _refuse_scheme(urljoin(req.full_url, target))
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def open_paced(address: str | urllib.request.Request, pace: Pace) -> Any:
    """The answer to a request, of which every byte, of its headers too, comes under the eye of `pace`.

    Raises:
        OSError: the server cannot be reached, answers an error (`HTTPError`), or is too slow.
        http.client.HTTPException: its answer is none.
    """

    class Response(HTTPResponse):
        def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
            super().__init__(sock, *args, **options)
            self.fp = BufferedReader(_Watched(self.fp, sock, pace))

    class Plain(HTTPConnection):
        response_class = Response

    class Secure(HTTPSConnection):
        response_class = Response

    class ByHttp(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> Any:
            return self.do_open(Plain, req)

    class ByHttps(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> Any:
            return self.do_open(Secure, req)

    return _open(address, pace.timeout, ByHttp, ByHttps)


def open_head(address: str) -> Any:
    """What a server says of a file without sending it. Raises as `open_paced`; watch it by `in_time`."""
    return _open(urllib.request.Request(address, method="HEAD"), TIMEOUT)


def _open(address: str | urllib.request.Request, timeout: float, *handlers: type[urllib.request.BaseHandler]) -> Any:
    _refuse_scheme(address if isinstance(address, str) else address.full_url)
    return urllib.request.build_opener(_ByHttpAlone, *handlers).open(address, timeout=timeout)


def in_time(address: str, ask: Callable[[], T]) -> T:
    """What a short question to a server gives; that it takes long is said, and ends with a `TooSlow`.

    The question is asked by a thread, which is left to itself when it takes too long.
    """
    answers: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue()

    def work() -> None:
        try:
            answers.put((ask(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    start = time.monotonic()
    while True:
        try:
            value, error = answers.get(timeout=TOLD)
        except queue.Empty:
            passed = time.monotonic() - start
            if passed >= PATIENCE:
                raise TooSlow(f"no whole answer came in {passed:.0f} s") from None
            aside(f"waiting for {address}: no whole answer in {passed:.0f} s")
            continue
        if error is not None:
            try:
                raise error
            finally:
                del error  # whose traceback leads here: it would keep its connection
        return value  # type: ignore[return-value]
