"""WebSocket channels of the loopback venue: market data, an account's own orders and trades, and the settlement price.

Each connection has a bounded queue; a client that does not read is disconnected.
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
from backtest.venue.auth import Authenticator
from backtest.venue.exchange import (
    LevelsChanged,
    MarketListed,
    OrderChanged,
    TradeChanged,
    TransactionMined,
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
_HOUR_MS = 3_600_000
_MOST_ASSETS = 500
_HISTORY = timedelta(seconds=120)
_WINDOW = 60
_PRICE, _AVERAGE = "price.crypto", "price.crypto.twap"
_CHANNELS = (_PRICE, _AVERAGE)
"""The price itself, and the average that windows settle on."""


@dataclass(slots=True, eq=False)
class _Connection:
    """One connection: its subscriptions, and its queue of frames to send."""

    socket: web.WebSocketResponse
    transport: asyncio.Transport | None
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
        """Abort the connection without a close frame."""
        if self.transport is not None:
            self.transport.abort()


_ENCODER = json.JSONEncoder(separators=(",", ":"))


def _text(payload: Any) -> str:
    return _ENCODER.encode(payload)


class Streams:
    """Handlers of the channels, and the listener of the exchange."""

    def __init__(self, state: VenueState, door: Authenticator) -> None:
        self._state, self._door = state, door
        self._market: list[_Connection] = []
        self._user: list[_Connection] = []
        self._price: list[_Connection] = []
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
        connection = await self._open(request)
        await self._serve(connection, self._market, self._on_market)
        return connection.socket

    async def user(self, request: web.Request) -> web.WebSocketResponse:
        connection = await self._open(request)
        await self._serve(connection, self._user, self._on_user)
        return connection.socket

    async def price(self, request: web.Request) -> web.WebSocketResponse:
        connection = await self._open(request)
        await self._serve(connection, self._price, self._on_price)
        return connection.socket

    @staticmethod
    async def _open(request: web.Request) -> _Connection:
        socket = web.WebSocketResponse(max_msg_size=65536)
        await socket.prepare(request)
        return _Connection(socket, request.transport)

    async def _serve(self, connection: _Connection, connections: list[_Connection], on_text: Any) -> None:
        connections.append(connection)
        writer = asyncio.create_task(self._write(connection))
        try:
            async for message in connection.socket:
                if message.type is not WSMsgType.TEXT:
                    continue
                if message.data == "PING":
                    connection.put("PONG")
                elif not await self._handle_frame(connection, message.data, on_text):
                    break
        finally:
            connections.remove(connection)
            await end(writer)

    async def _handle_frame(self, connection: _Connection, text: str, on_text: Any) -> bool:
        """Handle a client's frame. False if it is invalid, and the connection is to end."""
        try:
            said = json.loads(text)
            sound = isinstance(said, dict) and on_text(connection, said)
        except (ValueError, TypeError, AttributeError, RecursionError):
            sound = False  # no JSON, or not of the shape that the channel reads
        if not sound:
            await connection.socket.close(code=WSCloseCode.POLICY_VIOLATION)
            return False
        return True

    async def _write(self, connection: _Connection) -> None:
        with suppress(ConnectionError):
            while True:
                await connection.socket.send_str(await connection.queue.get())

    def _send(self, connection: _Connection, payload: Any) -> None:
        """Send a frame, unless a fault drops, repeats or reorders it."""
        faults, text = self._state.faults, _text(self._spoilt(payload))
        if faults.happens(Fault.DISCONNECT):
            connection.hang_up()
        elif faults.happens(Fault.MISSED_FRAME):
            return
        elif not connection.held_back and faults.happens(Fault.SWAPPED_FRAMES):
            connection.held_back = text
            return
        connection.put(text)
        if faults.happens(Fault.REPEATED_FRAME):
            connection.put(text)
        if connection.held_back:
            connection.put(connection.held_back)
            connection.held_back = ""

    def _spoilt(self, payload: Any) -> Any:
        """The frame with an unreadable timestamp, or one an hour ahead, where a fault demands it."""
        if not isinstance(payload, dict) or not str(payload.get("timestamp", "")).isdigit():
            return payload
        if self._state.faults.happens(Fault.BAD_FRAME):
            return payload | {"timestamp": "soon"}
        if self._state.faults.happens(Fault.AHEAD_FRAME):
            return payload | {"timestamp": str(int(payload["timestamp"]) + _HOUR_MS)}
        return payload

    # -- client frames

    def _on_market(self, connection: _Connection, said: dict[str, Any]) -> bool:
        assets = said.get("assets_ids")
        # The venue takes 500 assets a connection.
        if not isinstance(assets, list) or len(assets) > _MOST_ASSETS:
            return False
        named = {str(a) for a in assets}
        if said.get("operation") == "unsubscribe":
            connection.assets -= named
            return True
        connection.every_kind |= bool(said.get("custom_feature_enabled"))
        fresh = [a for a in map(str, assets) if a not in connection.assets and a in self._state.tokens]
        connection.assets |= named
        if said.get("initial_dump", True):
            books = [self._book(a) for a in fresh]
            if found := [b for b in books if b is not None]:
                self._send(connection, found)
        return True

    def _book(self, token: str) -> payloads.Payload | None:
        now = self._state.now()
        market, outcome = self._state.tokens[token]
        book = self._state.hall(market).standing()
        return None if book is None else {"event_type": "book"} | payloads.book(market, book.of(outcome), now)

    def _on_user(self, connection: _Connection, said: dict[str, Any]) -> bool:
        auth = said.get("auth")
        if isinstance(auth, dict):
            owner = self._door.key_of(auth)
            if owner is None:
                return False
            connection.owner = owner
        connection.conditions |= {str(c) for c in said.get("markets") or ()}
        return bool(connection.owner)

    def _on_price(self, connection: _Connection, said: dict[str, Any]) -> bool:
        rid = said.get("rid")
        match said.get("op"):
            case "auth":
                connection.authenticated = self._door.key_of(said.get("auth") or {}) is not None
                if connection.authenticated:
                    connection.put(_text({"op": "authed", "rid": rid}))
                return connection.authenticated
            case "ping":
                connection.put(_text({"op": "pong", "rid": rid}))
                return True
            case "subscribe" | "unsubscribe" as op if connection.authenticated:
                for one in said.get("subscriptions") or ():
                    self._subscribe(connection, op, rid, str(one.get("channel")), one.get("filter") or {})
                return True
        return False

    def _subscribe(self, connection: _Connection, op: str, rid: Any, channel: str, wanted: dict[str, Any]) -> None:
        """Answer one subscription; a new price subscription starts with its last two minutes."""
        symbol = str(wanted.get("symbol", "")).lower()
        if channel not in _CHANNELS or symbol.removesuffix("usd") not in self._state.assets:
            connection.put(_text({"op": "error", "rid": rid, "channel": channel, "code": "invalid_filter"}))
            return
        connection.put(_text({"op": f"{op}d", "rid": rid, "channel": channel}))
        if op == "unsubscribe":
            connection.priced.discard((channel, symbol))
            return
        now = self._state.now()
        connection.priced.add((channel, symbol))
        points = list(self._points(channel, symbol, now - _HISTORY, now))
        about = {"source": "pyth"} if channel == _PRICE else {"source": "chainlink", "window_seconds": _WINDOW}
        whole: payloads.Payload = {"symbol": symbol, "data": points, **about}
        self._send(connection, self._enveloped(channel, whole, now) | {"snapshot": True})

    # -- exchange events

    def hear(self, event: VenueEvent) -> None:
        match event:
            case LevelsChanged():
                self._publish_levels(event)
            case TradeChanged():
                self._publish_trade(event)
            case OrderChanged():
                payload = payloads.order_event(event.placed, event.kind, event.at)
                if self._state.faults.lasts(Fault.QUIRKS, event.at) and event.kind == "CANCELLATION":
                    payload |= {"size_matched": "" if not event.placed.matched else payload["size_matched"]}
                self._publish_to_owner(event.placed.submission.owner, event.placed.market, payload)
            case VenueMarketResolved():
                number = self._state.windows[event.market.id].number
                for connection in self._connections(event.market, every_kind=True):
                    self._send(connection, payloads.resolved(event.market, number, event.winner, event.at))
            case MarketListed() | TransactionMined():
                pass

    def _connections(self, market: Market, *, every_kind: bool = False) -> Iterable[_Connection]:
        return [n for n in self._market if n.wants(market) and (n.every_kind or not every_kind)]

    def _publish_levels(self, event: LevelsChanged) -> None:
        market, book = event.market, event.book
        connections = self._connections(market)
        if not connections:
            return
        change = payloads.price_change(market, event.levels, book, event.at)
        best = book.best_bid, book.best_ask
        moved, self._best[market.id] = self._best.get(market.id) != best, best
        for connection in connections:
            self._send(connection, change)
            for outcome in Outcome if moved and connection.every_kind else ():
                if market.token(outcome) in connection.assets:
                    self._send(connection, payloads.best_bid_ask(market, book.of(outcome), event.at))

    def _publish_trade(self, event: TradeChanged) -> None:
        trade = event.trade
        if trade.status is VenueTradeStatus.MATCHED:
            for connection in self._connections(trade.market):
                self._send(connection, payloads.last_trade(trade, event.at))
        for owner, placed in trade.views.items():
            self._publish_to_owner(owner, trade.market, payloads.trade_event(trade, placed, event.at))

    def _publish_to_owner(self, owner: str, market: Market, payload: payloads.Payload) -> None:
        for connection in self._user:
            if connection.owner == owner and (not connection.conditions or market.id in connection.conditions):
                self._send(connection, payload)

    def say_tick(self, market: Market, old: Decimal, new: Decimal, at: datetime) -> None:
        """Publish a tick size change of a market."""
        for connection in self._connections(market):
            for outcome in Outcome:
                if market.token(outcome) in connection.assets:
                    self._send(connection, payloads.tick_size_change(market, old, new, outcome, at))

    # -- the settlement price

    def say_prices(self) -> None:
        """Publish the prices and averages that have become known since the last call."""
        now = self._state.now()
        for key in sorted({p for connection in self._price for p in connection.priced}):
            channel, symbol = key
            since = self._priced.get(key, now - timedelta(seconds=1))
            self._priced[key] = now
            for payload in self._points(channel, symbol, since, now):
                for connection in self._price:
                    if key in connection.priced:
                        self._send(connection, self._enveloped(channel, payload, now))

    def _points(self, channel: str, symbol: str, after: datetime, until: datetime) -> Iterable[payloads.Payload]:
        if channel == _AVERAGE:
            return self._averages(symbol, after, until)
        ticks = self._state.ticks(symbol.removesuffix("usd"), after, until)
        return (payloads.price_tick(symbol, tick.price, tick.at) for tick in ticks if tick.received_at > after)

    def _averages(self, symbol: str, after: datetime, until: datetime) -> Iterable[payloads.Payload]:
        asset = symbol.removesuffix("usd")
        ticks = list(self._state.ticks(asset, after - timedelta(seconds=2 * _WINDOW), until))
        for n, tick in enumerate(ticks, 1):
            # No average before a whole window of prices is known.
            if tick.received_at > after and tick.at - ticks[0].at >= timedelta(seconds=_WINDOW):
                mean = average(ticks[max(0, n - 2 * _WINDOW) : n], tick.at, _WINDOW)
                yield payloads.average_tick(symbol, mean, tick.at, _WINDOW)

    def _enveloped(self, channel: str, payload: payloads.Payload, now: datetime) -> payloads.Payload:
        self._sequence += 1
        ts = to_ms(now)
        return {"v": 1, "channel": channel, "seq": self._sequence, "ts": ts, "payload": payload}
