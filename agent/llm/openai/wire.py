"""HTTP client of one model server: JSON in, a checked JSON object out, every failure one plain sentence.

No redirects, no proxies or credentials from the environment, no cookies, no compression, no retry, and a limit on
every wait and every body. Independent of models.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NoReturn

import aiohttp

from agent.llm.openai.address import Address, OwnNetwork
from market.errors import EngineTimeout, EngineUnavailable

BODY_LIMIT = 4 << 20
"""Maximum size of an answer in bytes."""
_KEEP = 4.0
"""Seconds an idle connection is kept: less than the five after which such servers close theirs."""


class NeverBegun(EngineUnavailable):
    """The server did not accept the request: it processed nothing."""


class RequestRefused(NeverBegun):
    """The server is well, and rejects the request as wrong."""


class ServerWire:
    """A connection pool to `where`. `timeout` is the limit in seconds of any answer, where the caller sets no lower
    one."""

    def __init__(self, where: Address, *, api_key: str = "", timeout: float = 30.0, parallel: int = 4) -> None:
        self.where = where
        self._timeout = timeout
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=OwnNetwork(where.allow_remote),
                limit=parallel + 1,
                keepalive_timeout=_KEEP,
                # Each connection resolves and checks the name again, so that it cannot be pointed elsewhere later.
                use_dns_cache=False,
            ),
            headers={"Accept-Encoding": "identity", **({"Authorization": f"Bearer {api_key}"} if api_key else {})},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            # The size limit counts bytes as received: a compressed body could expand beyond it.
            auto_decompress=False,
            trust_env=False,
        )

    async def aclose(self) -> None:
        await self._session.close()

    @property
    def closed(self) -> bool:
        return self._session.closed

    async def post(self, path: str, body: Mapping[str, Any], *, deadline: float | None = None) -> dict[str, Any]:
        """The JSON object that answers `body`. EngineTimeout at the caller's deadline, else EngineUnavailable."""
        return _object(await self._request("POST", path, body, deadline))

    async def get(self, path: str, *, deadline: float | None = None) -> dict[str, Any]:
        return _object(await self._request("GET", path, None, deadline))

    async def alive(self, path: str, within: float) -> bool:
        """True if the server answers `path` with 200 within the given seconds."""
        try:
            await self._request("GET", path, None, within)
        except EngineUnavailable:
            return False
        return True

    async def _request(self, verb: str, path: str, body: Mapping[str, Any] | None, deadline: float | None) -> bytes:
        if self.closed:
            raise EngineUnavailable("The engine is closed.")
        if deadline is not None and deadline <= 0:
            raise EngineTimeout("The model was given no time.")
        limit = self._timeout if deadline is None else min(deadline, self._timeout)
        try:
            async with asyncio.timeout(limit):
                return await self._exchange(verb, path, body)
        except TimeoutError:
            if deadline is not None and deadline <= self._timeout:
                raise EngineTimeout("The model was stopped at its deadline.") from None
            raise EngineUnavailable(f"The model server did not answer within {limit:g} s.") from None
        except (aiohttp.ClientError, OSError) as error:
            why = f"{type(error).__name__}: {error}".rstrip(": ")
            kind = NeverBegun if isinstance(error, aiohttp.ClientConnectorError) else EngineUnavailable
            raise kind(
                f"The model server at {self.where.short} cannot be reached ({why}).",
                next_step="Start it, or correct edge.remote.url.",
            ) from error

    async def _exchange(self, verb: str, path: str, body: Mapping[str, Any] | None) -> bytes:
        url = f"{self.where.base}{path}"
        sent = None if body is None else json.dumps(body, allow_nan=False).encode()
        headers = {} if sent is None else {"Content-Type": "application/json"}
        async with self._session.request(verb, url, data=sent, headers=headers, allow_redirects=False) as reply:
            taken = bytearray()
            async for chunk in reply.content.iter_chunked(1 << 16):
                taken += chunk
                if len(taken) > BODY_LIMIT:
                    raise EngineUnavailable(f"The model server's answer is longer than {BODY_LIMIT >> 20} MB.")
            if reply.status != 200:
                _refuse(reply.status, bytes(taken))
            return bytes(taken)


def _refuse(status: int, body: bytes) -> NoReturn:
    said = _said(body.decode("utf-8", "replace").strip())
    if 300 <= status < 400:
        raise NeverBegun(f"The model server answers with a redirect ({status}), which is not followed.")
    if status in (401, 403):
        raise NeverBegun(
            f"The model server requires an API key ({status}).",
            next_step="Put it into the file edge.remote.api_key_file.",
        )
    kind = RequestRefused if 400 <= status < 500 else EngineUnavailable
    raise kind(f"The model server failed ({status}): {said or 'it does not say why'}.")


def _said(text: str) -> str:
    """Message of an error body: JSON of several shapes, a JSON string that holds JSON, or plain text."""
    value: Any = text
    for _ in range(2):
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                break
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and key in value:
            value = value[key]
    return " ".join(str(value).split())[:200].rstrip(".")


def strict_json(text: str | bytes) -> Any:
    """Any JSON value. Raises ValueError for invalid JSON, for too deep nesting, and for NaN or Infinity."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = strict_json(body)
    except ValueError as error:
        raise EngineUnavailable(f"The model server's answer is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise EngineUnavailable("The model server's answer is not a JSON object.")
    return value
