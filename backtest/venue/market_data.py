"""Public endpoints of the loopback venue: terms of tokens, discovery, history. Handlers only; see `payloads`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from backtest.venue import payloads
from backtest.venue.answers import enveloped, instant, query, refused, said, whole
from backtest.venue.faults import Fault
from backtest.venue.quotes import asked_token
from backtest.venue.state import VenueState, Window
from market.clock import EPOCH
from market.types import Market, Outcome

_STALE = timedelta(seconds=300)
"""Age of discovery's answers under the stale fault: the venue's cache is that old at most."""
_PAGE = 100
_MOST_MINUTES, _MOST_BUCKET = 525_600, 86_400
"""Longest steps of the two price histories: minutes, seconds."""


class MarketData:
    """Handlers over the state of a venue."""

    def __init__(self, state: VenueState) -> None:
        self._state = state

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/ok", self.ok),
            web.get("/time", self.time),
            web.get("/version", self.version),
            web.get("/tick-size", self.tick_size),
            web.get("/neg-risk", self.neg_risk),
            web.get("/fee-rate", self.fee_rate),
            web.get("/markets-by-token/{token}", self.by_token),
            web.get("/clob-markets/{condition}", self.clob_market),
            web.get("/prices-history", self.prices_history),
            web.get("/markets/keyset", self.markets_page),
            web.get("/events/keyset", self.events_page),
            web.get("/markets/slug/{slug}", self.market_by_slug),
            web.get("/events/slug/{slug}", self.event_by_slug),
            web.get("/markets/{number:[0-9]+}", self.market_by_number),
            web.get("/events/{number:[0-9]+}", self.event_by_number),
            web.get("/v2/prices-history", self.data_history),
            web.get("/market-clarifications", self.clarifications),
            web.get("/api/geoblock", self.geoblock),
        ]

    # -- the exchange

    async def ok(self, request: web.Request) -> web.Response:
        return said("OK")

    async def time(self, request: web.Request) -> web.Response:
        return said(payloads.seconds(self._state.now()))

    async def version(self, request: web.Request) -> web.Response:
        return said({"version": 2})

    async def tick_size(self, request: web.Request) -> web.Response:
        return said({"minimum_tick_size": float(asked_token(self._state, request)[0].tick)})

    async def neg_risk(self, request: web.Request) -> web.Response:
        return said({"neg_risk": asked_token(self._state, request)[0].neg_risk})

    async def fee_rate(self, request: web.Request) -> web.Response:
        asked_token(self._state, request)
        # A legacy cap in basis points, which the venue still answers; fees follow the market's own schedule.
        return said({"base_fee": 1000})

    async def by_token(self, request: web.Request) -> web.Response:
        found = self._state.tokens.get(request.match_info["token"])
        if found is None:
            raise refused("market not found", 404)
        market = found[0]
        return said(
            {
                "condition_id": market.id,
                "primary_token_id": market.yes_token,
                "secondary_token_id": market.no_token,
            }
        )

    async def clob_market(self, request: web.Request) -> web.Response:
        window = self._state.windows.get(request.match_info["condition"])
        if window is None:
            raise refused("market not found", 404)
        now = self._state.now()
        return said(payloads.clob_market(window.market, now < window.market.closes_at))

    async def prices_history(self, request: web.Request) -> web.Response:
        market, outcome = asked_token(self._state, request, "market")
        since, until = _span(request, "startTs", "endTs", self._state.now())
        step = timedelta(minutes=max(1, whole(request, "fidelity", 1, most=_MOST_MINUTES)))
        rows = self._history(market, outcome, since, until, step)
        return said({"history": [{"t": payloads.seconds(at), "p": p} for at, p in rows]})

    # -- discovery

    async def markets_page(self, request: web.Request) -> web.Response:
        return said(self._page(request, "markets", [self._gamma(w) for w in self._seen(request)]))

    async def events_page(self, request: web.Request) -> web.Response:
        events = {self._state.event_of(w)[0].number: self._state.event_of(w) for w in self._seen(request)}
        return said(self._page(request, "events", [self._gamma_event(windows) for windows in events.values()]))

    async def market_by_slug(self, request: web.Request) -> web.Response:
        return said(self._gamma(self._listed(self._state.slugs.get(request.match_info["slug"]))))

    async def event_by_slug(self, request: web.Request) -> web.Response:
        windows = self._state.event(request.match_info["slug"])
        self._listed(windows[0] if windows else None)
        return said(self._gamma_event(windows))

    async def market_by_number(self, request: web.Request) -> web.Response:
        return said(self._gamma(self._listed(self._by_number(request))))

    async def event_by_number(self, request: web.Request) -> web.Response:
        first = self._listed(self._by_number(request))
        windows = self._state.event_of(first)
        # An event has the number of its first market.
        if windows[0].number != first.number:
            raise refused("not found", 404)
        return said(self._gamma_event(windows))

    def _by_number(self, request: web.Request) -> Window | None:
        # Compared as text: a path has room for more digits than a number may have.
        number = request.match_info["number"]
        return next((w for w in self._state.windows.values() if str(w.number) == number), None)

    def _listed(self, window: Window | None) -> Window:
        if window is None or window.tape.begins > self._gamma_time():
            raise refused("not found", 404)
        return window

    def _gamma_time(self) -> datetime:
        """Time as of which discovery answers: it may be stale."""
        now = self._state.now()
        return now - _STALE if self._state.faults.lasts(Fault.STALE_GAMMA, now) else now

    def _seen(self, request: web.Request) -> list[Window]:
        """Windows that match the filters of a request, in order of listing; closed ones only on request."""
        # The keyset endpoints of the venue refuse offsets.
        if "offset" in request.query:
            raise refused("offset is not supported", 422)
        now = self._gamma_time()
        closed = query(request, "closed") == "true"
        slugs, tokens, conditions = (
            {v for name in names for v in request.query.getall(name, [])}
            for names in (("slug",), ("clob_token_ids",), ("condition_ids",))
        )
        return [
            w
            for w in self._state.windows.values()
            if w.tape.begins <= now
            # `closed` is false by default (since 2026-04-09): a resolved market vanishes from the list.
            and self._state.hall(w.market).resolved is closed
            and (not slugs or w.market.slug in slugs)
            and (not conditions or w.market.id in conditions)
            and (not tokens or {w.market.yes_token, w.market.no_token} & tokens)
        ]

    def _page(self, request: web.Request, name: str, rows: Sequence[Any]) -> payloads.Payload:
        limit = min(whole(request, "limit", _PAGE, least=1), _PAGE)
        start = whole(request, "after_cursor", 0)
        following = start + limit
        page: payloads.Payload = {name: list(rows[start:following])}
        if following < len(rows):
            page["next_cursor"] = str(following)
        return page

    def _gamma(self, window: Window) -> payloads.Payload:
        now, first = self._gamma_time(), self._state.event_of(window)[0]
        head = payloads.gamma_event_head(first.tape, first.number, now)
        return self._gamma_alone(window) | {"events": [head]}

    def _gamma_alone(self, window: Window) -> payloads.Payload:
        hall, mid = self._state.hall(window.market), self._state.mid(window.market)
        return payloads.gamma_market(window.tape, window.number, self._gamma_time(), mid, hall.resolved)

    def _gamma_event(self, windows: Sequence[Window]) -> payloads.Payload:
        first, ended = windows[0], all(self._state.hall(w.market).resolved for w in windows)
        head = payloads.gamma_event_head(first.tape, first.number, self._gamma_time())
        return head | {"active": True, "closed": ended, "markets": [self._gamma_alone(w) for w in windows]}

    # -- the data service

    async def data_history(self, request: web.Request) -> web.Response:
        market, outcome = asked_token(self._state, request)
        since, until = _span(request, "start", "end", self._state.now())
        step = timedelta(seconds=max(60, whole(request, "bucket_seconds", 60, most=_MOST_BUCKET)))
        rows = self._history(market, outcome, since, until, step)
        points = [{"timestamp": payloads.seconds(at), "price": p, "resolution_seconds": 60} for at, p in rows]
        return enveloped(points)

    async def clarifications(self, request: web.Request) -> web.Response:
        """Additional context of markets: nothing here is ever clarified."""
        whole(request, "limit", _PAGE, least=1)
        whole(request, "offset", 0)
        return said([])

    async def geoblock(self, request: web.Request) -> web.Response:
        return said({"blocked": False, "ip": "127.0.0.1", "country": "", "region": ""})

    # -- shared

    def _history(
        self, market: Market, outcome: Outcome, since: datetime, until: datetime, step: timedelta
    ) -> list[tuple[datetime, float]]:
        """Mids of a token at whole steps, up to the last displayed book."""
        tape = self._state.windows[market.id].tape
        rows: dict[datetime, float] = {}
        for book in tape.books:
            if since <= book.received_at <= min(until, self._state.exchange.now) and book.mid is not None:
                at = EPOCH + (book.received_at - EPOCH) // step * step
                rows[at] = float(book.of(outcome).mid or 0)
        return sorted(rows.items())


def _span(request: web.Request, first: str, last: str, now: datetime) -> tuple[datetime, datetime]:
    """Time span of a request; the whole past by default. Raises Refusal."""
    return instant(request, first) or EPOCH, instant(request, last) or now
