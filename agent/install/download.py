"""Downloads over HTTP: resumed after interruptions, hashed on the fly, in place only when complete and verified.

Standard library alone, so that the base install does not grow. Independent of what the files are for.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import IO, BinaryIO, TypeVar
from urllib.parse import urlsplit

from agent.install.notes import CHUNK
from market.errors import DataInvalid, NotReady, Transient

T = TypeVar("T")
_AGAIN = "Run the same command again; it goes on from there."
_MOST_TRIES = 200
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_BROKEN = (TimeoutError, ConnectionError, http.client.HTTPException, ssl.SSLError)


class DownloadInterrupted(Transient):
    """The server stopped answering, or asked for a pause; `wait` is in seconds."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class DownloadPolicy:
    """Retry policy: `timeout` in seconds without a byte, `tries` without progress, and the `pause` between them."""

    timeout: float = 30.0
    tries: int = 6
    pause: Callable[[float], None] = field(default=time.sleep)

    def read(self, url: str, limit: int) -> tuple[bytes, Message]:
        """A small body and its headers. Raises NotReady when it cannot be fetched, DataInvalid when it is too large."""

        def once() -> tuple[bytes, Message]:
            with _opened(url, 0, self.timeout) as answer, _unbroken():
                body, announced = answer.read(limit + 1), answer.headers.get("Content-Length", "")
            if announced.isdecimal() and len(body) < min(int(announced), limit):
                raise DownloadInterrupted(f"it stopped at {len(body)} of {announced} bytes")
            return body, answer.headers

        body, headers = self._patiently(url, lambda: 0, once)
        if len(body) > limit:
            raise DataInvalid(f"{url} is larger than the {limit} bytes expected.")
        return body, headers

    def fetch(self, url: str, target: Path, size: int, sha256: str, progress: Callable[[int], None]) -> None:
        """Download a file of known size and hash to `target`; `progress` receives the bytes present so far.

        A partial file stays as `.part` for the next attempt. Raises NotReady when the rest cannot be fetched, and
        DataInvalid, having deleted it, when its content is not the file. OSError where the disk fails.
        """
        part = target.with_name(f"{target.name}.part")
        resumed = part.exists() and part.stat().st_size > 0
        try:
            self._bring(url, part, size, sha256, progress)
        except DataInvalid:
            if not resumed:
                raise
            self._bring(url, part, size, sha256, progress)  # the old beginning may be corrupt: once from zero
        part.replace(target)

    def _bring(self, url: str, part: Path, size: int, sha256: str, progress: Callable[[int], None]) -> None:
        with part.open("ab+") as file:
            coming = _Coming(file, size, progress)
            try:
                self._patiently(url, lambda: coming.have, lambda: coming.more(url, self.timeout))
                coming.check(url, sha256)
            except DataInvalid:
                part.unlink()
                raise

    def _patiently(self, url: str, progress: Callable[[], int], once: Callable[[], T]) -> T:
        failures = 0
        for _ in range(_MOST_TRIES):
            before = progress()
            try:
                return once()
            except DownloadInterrupted as error:
                # Only tries without progress count: a large file over a poor line may be interrupted many times.
                failures = 1 if progress() > before else failures + 1
                if failures >= self.tries:
                    raise NotReady(f"{url} could not be fetched: {error}.", next_step=_AGAIN) from error
                self.pause(error.wait or min(2.0**failures, 30.0))
        raise NotReady(f"{url} could not be fetched: it was interrupted {_MOST_TRIES} times.", next_step=_AGAIN)


WIRE = DownloadPolicy()


class _Coming:
    """A partial file with the hash of its content so far."""

    def __init__(self, file: BinaryIO, size: int, progress: Callable[[int], None]) -> None:
        self._file = file
        self._size = size
        self._progress = progress
        self._seen = hashlib.sha256()
        self.have = 0
        file.seek(0)
        while chunk := file.read(CHUNK):
            self._take(chunk)
        if self.have > size:
            self._restart()

    def more(self, url: str, timeout: float) -> None:
        """Request the rest until it is complete. Raises DownloadInterrupted when it ends too early."""
        if self.have == self._size:
            return
        with _opened(url, self.have, timeout) as answer:
            self._place(url, answer)
            while chunk := _chunk(answer):
                if self.have + len(chunk) > self._size:
                    raise DataInvalid(f"{url} is larger than the {self._size} bytes listed.")
                self._file.write(chunk)
                self._file.flush()  # a killed process loses nothing that arrived
                self._take(chunk)
        if self.have < self._size:
            raise DownloadInterrupted(f"it stopped at {self.have} of {self._size} bytes")

    def check(self, url: str, sha256: str) -> None:
        if self._seen.hexdigest() != sha256:
            raise DataInvalid(f"{url} is not the file expected: its hash differs.")
        os.fsync(self._file.fileno())

    def _place(self, url: str, answer: http.client.HTTPResponse) -> None:
        """Check that the response continues at our offset; start over where the server ignores ranges."""
        if answer.status == http.client.PARTIAL_CONTENT:
            if answer.headers.get("Content-Range") != f"bytes {self.have}-{self._size - 1}/{self._size}":
                raise DataInvalid(f"{url} is not of the {self._size} bytes listed.")
        elif self.have:
            self._restart()  # this server sends whole files only

    def _take(self, chunk: bytes) -> None:
        self._seen.update(chunk)
        self.have += len(chunk)
        self._progress(self.have)

    def _restart(self) -> None:
        self._file.truncate(0)
        self._seen, self.have = hashlib.sha256(), 0


def _chunk(answer: http.client.HTTPResponse) -> bytes:
    with _unbroken():
        return answer.read1(CHUNK)


@contextmanager
def _unbroken() -> Iterator[None]:
    """Turn a broken connection into DownloadInterrupted."""
    try:
        yield
    except _BROKEN as error:
        raise DownloadInterrupted(f"the connection broke ({error or type(error).__name__})") from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects to https, or between loopback addresses, only."""

    max_redirections = 5

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != "https" and not (loopback(req.full_url) and loopback(newurl)):
            message = f"{req.full_url} sends us to {newurl}, which is not a safe address."
            raise NotReady(message, next_step="Do not use it.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def loopback(url: str) -> bool:
    """True if the URL is plain HTTP to the loopback interface."""
    parts = urlsplit(url)
    try:
        inside = parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        inside = False
    return parts.scheme == "http" and inside


def _opened(url: str, start: int, timeout: float) -> http.client.HTTPResponse:
    """The response from byte `start` on. Raises DownloadInterrupted where a retry may help, NotReady where it will
    not."""
    if urlsplit(url).scheme != "https" and not loopback(url):
        raise NotReady(f"{url} is not a safe address.", next_step="Use https.")
    # A proxy of the environment cannot reach this machine's loopback.
    proxies = urllib.request.ProxyHandler({} if loopback(url) else None)
    headers = {"User-Agent": "edgeclaw", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - https or loopback, checked above
    opener = urllib.request.build_opener(proxies, _Redirects)
    try:
        with _unbroken():
            answer: http.client.HTTPResponse = opener.open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        raise _refusal(url, error) from error
    except urllib.error.URLError as error:
        # A retry would meet the same certificate.
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise NotReady(f"{url} does not prove who it is.", next_step="Check this box's certificates.") from error
        raise DownloadInterrupted(f"no connection ({error.reason})") from error
    return answer


def _refusal(url: str, error: urllib.error.HTTPError) -> DownloadInterrupted | NotReady:
    if error.code in _BUSY:
        asked = error.headers.get("Retry-After", "")
        return DownloadInterrupted(
            f"the server answered {error.code}", min(float(asked), 60.0) if asked.isdecimal() else 0.0
        )
    return NotReady(f"{url} could not be fetched: the server answered {error.code}.", next_step="Check the address.")
