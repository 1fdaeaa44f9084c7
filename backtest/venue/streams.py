"""The loopback venue's WebSocket channels: market data, an account's own orders and trades, and the settlement price.

Each connection has a queue of its own; one that does not read is closed rather than kept up to date.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from backtest.venue import payloads
from backtest.venue.auth import Door
from backtest.venue.exchange import (
    LevelsChanged,
    MarketListed,
    OrderChanged,
    TradeChanged,
    VenueEvent,
    VenueMarketResolved,
    VenueTradeStatus,
)
from backtest.venue.faults import Fault
from backtest.venue.scenarios import average
from backtest.venue.state import VenueState
from market.clock import to_ms
from market.tasks import end
from market.types import Market, Outcome

_MOST_WAITING = 8192
_MOST_ASSETS = 500
_HISTORY = timedelta(seconds=120)
_WINDOW = 60
_PRICE, _MEAN = "price.crypto", "price.crypto.twap"
_CHANNELS = (_PRICE, _MEAN)
"""The price itself, and the average that windows settle on."""


@dataclass(slots=True, eq=False)
class _Line:
    """One connection: what it wants to hear, and what it has not been told yet."""

    socket: web.WebSocketResponse
    queue: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(_MOST_WAITING))
    assets: set[str] = field(default_factory=set)
    every_kind: bool = False
    owner: str = ""
    conditions: set[str] = field(default_factory=set)
    priced: set[tuple[str, str]] = field(default_factory=set)
    authenticated: bool = False
    held_back: str = ""

    def wants(self, market: Market) -> bool:
        return market.yes_token in self.assets or market.no_token in self.assets

    def put(self, text: str) -> None:
        try:
            self.queue.put_nowait(text)
        except asyncio.QueueFull:
            self.hang_up()

    def hang_up(self) -> None:
        """End the connection without a good-bye."""
        if (transport := self.socket.get_extra_info("transport", None)) is not None:
            transport.abort()


_ENCODER = json.JSONEncoder(separators=(",", ":"))


def _text(payload: Any) -> str:
    return _ENCODER.encode(payload)


class Streams:
    """Handlers of the channels, and the listener of the exchange."""

    def __init__(self, state: VenueState, door: Door) -> None:
        self._state, self._door = state, door
        self._market: list[_Line] = []
        self._user: list[_Line] = []
        self._price: list[_Line] = []
        self._best: dict[str, tuple[Decimal | None, Decimal | None]] = {}
        self._priced: dict[tuple[str, str], datetime] = {}
        self._sequence = 0
        state.listeners.append(self.hear)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/ws/market", self.market),
            web.get("/ws/user", self.user),
            web.get("/ws", self.price),
        ]

    # -- connections

    async def market(self, request: web.Request) -> web.WebSocketResponse:
        line = await self._open(request)
        await self._serve(line, self._market, self._on_market)
        return line.socket

    async def user(self, request: web.Request) -> web.WebSocketResponse:
        line = await self._open(request)
        await self._serve(line, self._user, self._on_user)
        return line.socket

    async def price(self, request: web.Request) -> web.WebSocketResponse:
        line = await self._open(request)
        await self._serve(line, self._price, self._on_price)
        return line.socket

    @staticmethod
    async def _open(request: web.Request) -> _Line:
        socket = web.WebSocketResponse(max_msg_size=65536)
        await socket.prepare(request)
        return _Line(socket)

    async def _serve(self, line: _Line, lines: list[_Line], on_text: Any) -> None:
        lines.append(line)
        writer = asyncio.create_task(self._write(line))
        try:
            async for message in line.socket:
                if message.type is not WSMsgType.TEXT:
                    continue
                if message.data == "PING":
                    line.put("PONG")
                elif not await self._told(line, message.data, on_text):
                    break
        finally:
            lines.remove(line)
            await end(writer)

    async def _told(self, line: _Line, text: str, on_text: Any) -> bool:
        """What a client said. False where it cannot be understood, and the connection is to end."""
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        if not isinstance(said, dict) or not on_text(line, said):
            await line.socket.close(code=WSCloseCode.POLICY_VIOLATION)
            return False
        return True

    async def _write(self, line: _Line) -> None:
        with suppress(ConnectionError):
            while True:
                await line.socket.send_str(await line.queue.get())

    def _send(self, line: _Line, payload: Any) -> None:
        """Send a frame, unless it is one that is to go missing, come twice, or change places with the next."""
        faults, text = self._state.faults, _text(payload)
        if faults.happens(Fault.DISCONNECT):
            line.hang_up()
        elif faults.happens(Fault.MISSED_FRAME):
            return
        elif not line.held_back and faults.happens(Fault.SWAPPED_FRAMES):
            line.held_back = text
            return
        line.put(text)
        if faults.happens(Fault.REPEATED_FRAME):
            line.put(text)
        if line.held_back:
            line.put(line.held_back)
            line.held_back = ""

    # -- what clients say

    def _on_market(self, line: _Line, said: dict[str, Any]) -> bool:
        assets = said.get("assets_ids")
        if not isinstance(assets, list) or len(assets) > _MOST_ASSETS:
            return False
        named = {str(a) for a in assets}
        if said.get("operation") == "unsubscribe":
            line.assets -= named
            return True
        line.every_kind |= bool(said.get("custom_feature_enabled"))
        fresh = [a for a in map(str, assets) if a not in line.assets and a in self._state.tokens]
        line.assets |= named
        if said.get("initial_dump", True):
            books = [self._book(a) for a in fresh]
            if found := [b for b in books if b is not None]:
                self._send(line, found)
        return True

    def _book(self, token: str) -> payloads.Payload | None:
        now = self._state.now()
        market, outcome = self._state.tokens[token]
        book = self._state.hall(market).standing()
        return None if book is None else {"event_type": "book"} | payloads.book(market, book.of(outcome), now)

    def _on_user(self, line: _Line, said: dict[str, Any]) -> bool:
        auth = said.get("auth")
        if isinstance(auth, dict):
            owner = self._door.key_of(auth)
            if owner is None:
                return False
            line.owner = owner
        line.conditions |= {str(c) for c in said.get("markets") or ()}
        return bool(line.owner)

    def _on_price(self, line: _Line, said: dict[str, Any]) -> bool:
        rid = said.get("rid")
        match said.get("op"):
            case "auth":
                line.authenticated = self._door.key_of(said.get("auth") or {}) is not None
                if line.authenticated:
                    line.put(_text({"op": "authed", "rid": rid}))
                return line.authenticated
            case "ping":
                line.put(_text({"op": "pong", "rid": rid}))
                return True
            case "subscribe" | "unsubscribe" as op if line.authenticated:
                for one in said.get("subscriptions") or ():
                    self._subscribe(line, op, rid, str(one.get("channel")), one.get("filter") or {})
                return True
        return False

    def _subscribe(self, line: _Line, op: str, rid: Any, channel: str, wanted: dict[str, Any]) -> None:
        """Answer one subscription; a price that is begun starts with its last two minutes."""
        symbol = str(wanted.get("symbol", "")).lower()
        if channel not in _CHANNELS or symbol.removesuffix("usd") not in self._state.assets:
            line.put(_text({"op": "error", "rid": rid, "channel": channel, "code": "invalid_filter"}))
            return
        line.put(_text({"op": f"{op}d", "rid": rid, "channel": channel}))
        if op == "unsubscribe":
            line.priced.discard((channel, symbol))
            return
        now = self._state.now()
        line.priced.add((channel, symbol))
        points = list(self._points(channel, symbol, now - _HISTORY, now))
        about = {"source": "pyth"} if channel == _PRICE else {"source": "chainlink", "window_seconds": _WINDOW}
        whole: payloads.Payload = {"symbol": symbol, "data": points, **about}
        self._send(line, self._enveloped(channel, whole, now) | {"snapshot": True})

    # -- what happens

    def hear(self, event: VenueEvent) -> None:
        match event:
            case LevelsChanged():
                self._say_levels(event)
            case TradeChanged():
                self._say_trade(event)
            case OrderChanged():
                payload = payloads.order_event(event.placed, event.kind, event.at)
                if self._state.faults.lasts(Fault.QUIRKS, event.at) and event.kind == "CANCELLATION":
                    payload |= {"size_matched": "" if not event.placed.matched else payload["size_matched"]}
                self._say_owner(event.placed.submission.owner, event.placed.market, payload)
            case VenueMarketResolved():
                number = self._state.windows[event.market.id].number
                for line in self._lines(event.market, every_kind=True):
                    self._send(line, payloads.resolved(event.market, number, event.winner, event.at))
            case MarketListed():
                pass

    def _lines(self, market: Market, *, every_kind: bool = False) -> Iterable[_Line]:
        return [n for n in self._market if n.wants(market) and (n.every_kind or not every_kind)]

    def _say_levels(self, event: LevelsChanged) -> None:
        market, book = event.market, event.book
        lines = self._lines(market)
        if not lines:
            return
        change = payloads.price_change(market, event.levels, book, event.at)
        best = book.best_bid, book.best_ask
        moved, self._best[market.id] = self._best.get(market.id) != best, best
        for line in lines:
            self._send(line, change)
            for outcome in Outcome if moved and line.every_kind else ():
                if market.token(outcome) in line.assets:
                    self._send(line, payloads.best_bid_ask(market, book.of(outcome), event.at))

    def _say_trade(self, event: TradeChanged) -> None:
        trade = event.trade
        if trade.status is VenueTradeStatus.MATCHED:
            for line in self._lines(trade.market):
                self._send(line, payloads.last_trade(trade, event.at))
        for placed in (trade.taker, trade.maker):
            if placed is not None:
                payload = payloads.trade_event(trade, placed, event.at)
                self._say_owner(placed.submission.owner, trade.market, payload)

    def _say_owner(self, owner: str, market: Market, payload: payloads.Payload) -> None:
        for line in self._user:
            if line.owner == owner and (not line.conditions or market.id in line.conditions):
                self._send(line, payload)

    def say_tick(self, market: Market, old: Decimal, new: Decimal, at: datetime) -> None:
        """A market's prices have become finer."""
        for line in self._lines(market):
            for outcome in Outcome:
                if market.token(outcome) in line.assets:
                    self._send(line, payloads.tick_size_change(market, old, new, outcome, at))

    # -- the settlement price

    def say_prices(self) -> None:
        """Tell the prices and averages that have become known since the last time."""
        now = self._state.now()
        for key in sorted({p for line in self._price for p in line.priced}):
            channel, symbol = key
            since = self._priced.get(key, now - timedelta(seconds=1))
            self._priced[key] = now
            for payload in self._points(channel, symbol, since, now):
                for line in self._price:
                    if key in line.priced:
                        self._send(line, self._enveloped(channel, payload, now))

    def _points(self, channel: str, symbol: str, after: datetime, until: datetime) -> Iterable[payloads.Payload]:
        if channel == _MEAN:
            return self._averages(symbol, after, until)
        ticks = self._state.ticks(symbol.removesuffix("usd"), after, until)
        return (payloads.price_tick(symbol, tick.price, tick.at) for tick in ticks if tick.received_at > after)

    def _averages(self, symbol: str, after: datetime, until: datetime) -> Iterable[payloads.Payload]:
        asset = symbol.removesuffix("usd")
        ticks = list(self._state.ticks(asset, after - timedelta(seconds=2 * _WINDOW), until))
        for n, tick in enumerate(ticks, 1):
            if tick.received_at > after and tick.at - ticks[0].at >= timedelta(seconds=_WINDOW):
                mean = average(ticks[max(0, n - 2 * _WINDOW) : n], tick.at, _WINDOW)
                yield payloads.average_tick(symbol, mean, tick.at, _WINDOW)

    def _enveloped(self, channel: str, payload: payloads.Payload, now: datetime) -> payloads.Payload:
        self._sequence += 1
        ts = to_ms(now)
        return {"v": 1, "channel": channel, "seq": self._sequence, "ts": ts, "payload": payload}
