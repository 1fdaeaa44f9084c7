"""Public REST API of the venue: discovery, books, resolutions, history, time. Reads only.

Every request is idempotent and is retried when the network or the venue fails; a lasting failure is `VenueUnavailable`,
and so is an answer that is none: an HTML page, or something of another shape. A market's record that cannot be decoded
is `DataInvalid` and concerns that market alone. Nothing is guessed at.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import msgspec
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from market.clock import EPOCH, Clock, from_ms
from market.errors import DataInvalid, EdgeclawError, VenueUnavailable
from market.polymarket.frames import Snapshot, snapshot_of
from market.polymarket.gamma import GammaMarket, MarketPage, read_market, read_page
from market.polymarket.hosts import Hosts
from market.types import PayoutSource, Resolution

TIMEOUT = 10.0
"""Seconds of system time for one answer."""
ATTEMPTS = 3
_MOST_BYTES = 64 * 1024 * 1024
_AGENT = {"User-Agent": "edgeclaw/0.1"}
"""Some of the venue's hosts answer 403 to requests without a user agent."""


class _Retryable(Exception):
    """A failure that a retry may cure."""


class _ResolutionRow(msgspec.Struct):
    condition_id: str
    status: str = ""
    payouts: list[Decimal] | None = None


class _ResolutionPage(msgspec.Struct):
    data: list[_ResolutionRow]


class _Point(msgspec.Struct):
    timestamp: int
    price: Decimal


class _Paging(msgspec.Struct):
    has_more: bool = False
    next_cursor: str | None = None


class _Points(msgspec.Struct):
    data: list[_Point]
    pagination: _Paging = msgspec.field(default_factory=_Paging)


class _Block(msgspec.Struct):
    blocked: bool
    country: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class Geoblock:
    """The venue's view of our location, and if it accepts orders from there."""

    blocked: bool
    country: str
    region: str


@dataclass(frozen=True, slots=True)
class PricePoint:
    """A token's price at an instant from the venue's history; dollars a share."""

    at: datetime
    price: Decimal


class VenueReader:
    """REST client. `clock` is the venue's time, for stamps of receipt."""

    def __init__(self, hosts: Hosts, session: aiohttp.ClientSession, clock: Clock) -> None:
        self.hosts, self._session, self._clock = hosts, session, clock

    async def time(self) -> datetime:
        """The venue's time, to the second."""
        raw = await self._must(f"{self.hosts.clob}/time")
        return EPOCH + timedelta(seconds=_decoded(raw, int, "time"))

    async def version(self) -> int:
        """Version of orders that the venue accepts."""
        raw = await self._must(f"{self.hosts.clob}/version")
        return int(_decoded(raw, dict[str, int], "version").get("version", 0))

    async def place(self) -> Geoblock:
        """Geoblock status of this network address."""
        said = _decoded(await self._must(self.hosts.geoblock), _Block, "geoblock")
        return Geoblock(said.blocked, said.country, said.region)

    async def market(self, slug: str) -> GammaMarket | None:
        """A market by its slug; None if it is not listed yet."""
        raw = await self._get(f"{self.hosts.gamma}/markets/slug/{slug}")
        return None if raw is None else read_market(raw)

    async def page(self, cursor: str = "", limit: int = 100, **filters: str) -> MarketPage:
        """One page of the open markets; `filters` are Gamma's own."""
        asked = {"limit": str(limit), "closed": "false", **filters} | ({"after_cursor": cursor} if cursor else {})
        return read_page(await self._must(f"{self.hosts.gamma}/markets/keyset", asked))

    async def book(self, token: str) -> Snapshot | None:
        """A token's book; None if the venue has none."""
        raw = await self._get(f"{self.hosts.clob}/book", {"token_id": token})
        return None if raw is None else snapshot_of(raw)

    async def tick(self, token: str) -> Decimal | None:
        """Tick size of a token; None for an unknown token."""
        raw = await self._get(f"{self.hosts.clob}/tick-size", {"token_id": token})
        return None if raw is None else _decoded(raw, dict[str, Decimal], "tick-size").get("minimum_tick_size")

    async def resolution(self, condition_id: str) -> Resolution | None:
        """A market's official resolution; None until there is one."""
        raw = await self._must(f"{self.hosts.data}/v2/resolutions", {"condition_id": condition_id})
        for one in _decoded(raw, _ResolutionPage, "resolutions").data:
            # The venue ignores query parameters that it does not know, so a row counts only if it is of the market
            # asked for. Payouts of a proposed or disputed outcome are not final.
            if one.condition_id == condition_id and one.payouts and one.status.lower() in ("", "resolved"):
                return _resolution(one, self._clock.now())
        return None

    async def history(
        self, token: str, since: datetime, until: datetime, bucket: int = 60
    ) -> AsyncIterator[Sequence[PricePoint]]:
        """A token's prices in [since, until], page by page, oldest page first as the venue has them; `bucket` in
        seconds, at least 60. The venue answers at most 15 days a request: the caller splits longer spans."""
        cursor: str | None = ""
        while cursor is not None:
            asked = {
                "token_id": token,
                "start": str(int(since.timestamp())),
                "end": str(int(until.timestamp())),
                "bucket_seconds": str(bucket),
            } | ({"cursor": cursor} if cursor else {})
            page = _decoded(await self._must(f"{self.hosts.data}/v2/prices-history", asked), _Points, "prices-history")
            yield [PricePoint(from_ms(p.timestamp * 1000), p.price) for p in page.data]
            cursor = page.pagination.next_cursor if page.pagination.has_more else None

    async def _must(self, url: str, asked: Mapping[str, str] | None = None) -> bytes:
        raw = await self._get(url, asked)
        if raw is None:
            raise VenueUnavailable(f"{url} is not there (404).", next_step="Check venue.* in the configuration.")
        return raw

    async def _get(self, url: str, asked: Mapping[str, str] | None = None) -> bytes | None:
        """Body of an answer; None for 404. Raises VenueUnavailable."""
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(_Retryable),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.1, max=2.0),
            reraise=True,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    return await self._once(url, asked)
        except _Retryable as error:
            raise VenueUnavailable(f"{url} does not answer: {error}.") from None
        raise VenueUnavailable(f"{url} does not answer.")

    async def _once(self, url: str, asked: Mapping[str, str] | None) -> bytes | None:
        try:
            # No redirects: one could lead to a host that is not on the allow-list.
            async with self._session.get(url, params=asked, headers=_AGENT, allow_redirects=False) as answer:
                if answer.status == 404:
                    return None
                # 425 is the venue's answer while its matching engine restarts, 429 its rate limit; both pass by
                # themselves.
                if answer.status in (425, 429) or answer.status >= 500:
                    raise _Retryable(f"it said {answer.status}")
                if answer.status != 200:
                    raise VenueUnavailable(f"{url} refused the question with {answer.status}.")
                return await _body(answer, url)
        except EdgeclawError:
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _Retryable(str(error) or type(error).__name__) from None


@asynccontextmanager
async def reader(hosts: Hosts, clock: Clock) -> AsyncIterator[VenueReader]:
    """A REST client with connections of its own."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        yield VenueReader(hosts, session, clock)


async def _body(answer: aiohttp.ClientResponse, url: str) -> bytes:
    """Read the whole body. Raises DataInvalid if it exceeds the largest possible answer of the venue."""
    parts, size = [], 0
    async for part in answer.content.iter_chunked(1 << 16):
        size += len(part)
        if size > _MOST_BYTES:
            raise VenueUnavailable(f"the answer of {url} has more than {_MOST_BYTES} bytes.")
        parts.append(part)
    raw = b"".join(parts)
    if raw.lstrip()[:1] == b"<":
        raise VenueUnavailable(f"{url} answers with a page for people, as while it is being worked on.")
    return raw


def _decoded(raw: bytes, kind: Any, what: str) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as error:
        raise VenueUnavailable(f"the venue's answer on {what} cannot be read: {error}.") from None


def _resolution(one: _ResolutionRow, now: datetime) -> Resolution:
    """Raises DataInvalid for payouts that cannot be: not one for each outcome, negative, or nothing at all."""
    # Payouts are numerators: a void market pays both sides one half.
    payouts = one.payouts or []
    if len(payouts) != 2 or not all(p.is_finite() and p >= 0 for p in payouts) or not sum(payouts):
        said = " and ".join(map(str, payouts))
        raise DataInvalid(f"the venue's payouts of {one.condition_id} are {said}.")
    return Resolution(one.condition_id, payouts[0] / sum(payouts), PayoutSource.OFFICIAL, now)
